"""The replies made by rule: three parts with nothing in common but everyday words, each a pure function of a seed."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest

from rnnlab.data.replies import PARTS, SHARED, filled, replies

PAIRS = list(itertools.combinations(PARTS, 2))
SEEDS = (0, 8, 1_732_292_715)


def wording(template: str) -> list[set[str]]:
    """What may stand at each word, in lower case; a slot is its name."""
    alternatives = re.sub(r"\[([^]]*)\]", lambda found: found[1].replace(" ", "_").replace("|", "/"), template)
    return [set(word.lower().strip(".,!?").split("/")) for word in alternatives.split()]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_no_template_and_no_name_is_in_two_parts(one, other):
    words = [{tuple(map(frozenset, wording(t))) for t in PARTS[part].templates} for part in (one, other)]
    assert not words[0] & words[1]
    for slot in ("name", "company", "product"):
        values = [
            {word.lower() for value in PARTS[part].slots[slot] for word in value.split()} for part in (one, other)
        ]
        common = values[0] & values[1] - {"foods", "travel"}  # of two firms' names, everyday words
        assert not common


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_large_enough_and_says_nothing_twice(part):
    templates, slots = PARTS[part]
    assert len(templates) >= {"train": 60, "validation": 15, "test": 20}[part] and len(set(templates)) == len(templates)
    assert set(slots) == {"name", "company", "product"} and not set(slots) & set(SHARED)
    assert all(len(set(values)) == len(values) for values in (SHARED | slots).values())


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_replies_are_a_pure_function_of_part_count_and_seed(part, seed):
    found = replies(part, 50, seed)
    assert found == replies(part, 50, seed) and len(found) == 50
    assert found != replies(part, 50, seed + 1)
    assert replies(part, 20, seed) == found[:20]  # more are more of the same


@pytest.mark.parametrize("part", PARTS)
def test_every_template_comes_as_often_as_any_other_and_is_filled_whole(part):
    """Each reply matches its template as a pattern, and uses this part's values only."""
    templates, slots = PARTS[part]
    values = SHARED | slots
    patterns = []
    for template in templates:
        pattern = re.sub(r"\[([^]]+)\]", r"(?:\1)", template.replace("?", r"\?").replace(".", r"\."))
        patterns.append(re.compile(re.sub(r"\{(\w+)\}", lambda slot: f"(?:{'|'.join(values[slot[1]])})", pattern)))
    found = replies(part, 3 * len(templates) + 2, SEEDS[0])
    counts = Counter()
    for reply in found:
        assert not set("{}[]|") & set(reply)
        [number] = [n for n, pattern in enumerate(patterns) if pattern.fullmatch(reply)]
        counts[number] += 1
    assert sorted(counts.values()) == [3] * (len(templates) - 2) + [4] * 2


def test_values_are_drawn_evenly():
    generator = np.random.default_rng(SEEDS[0])
    slots = {"thing": ["one", "two", "three", "four"]}
    seen = Counter(filled("[a {thing}|b {thing}]", slots, generator) for _ in range(4000))
    assert len(seen) == 8 and all(abs(count - 500) < 6 * 500**0.5 for count in seen.values())


def test_no_held_out_reply_is_among_those_for_training():
    train = set(replies("train", 5000, SEEDS[0]))
    assert not any(reply in train for part in ("validation", "test") for reply in replies(part, 500, SEEDS[1]))


def test_nothing_is_made_of_nothing_and_an_unknown_part_or_slot_is_an_error():
    assert replies("test", 0, 0) == []
    with pytest.raises(KeyError):
        replies("testing", 1, 0)
    with pytest.raises(KeyError, match="colour"):
        filled("a {colour} day", {}, np.random.default_rng(0))
