"""How tags are scored: entities as the shared task counts them, words by 0 and 1; and what needs no network."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support

from experiments._name_tags_data import Sentence, normal


class Counted(NamedTuple):
    """right: of what was found. found: by the tagger. asked: what there is."""

    right: int
    found: int
    asked: int

    @property
    def precision(self) -> float:
        """0 where nothing was found."""
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """0 where there is nothing."""
        return self.right / self.asked if self.asked else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.right / (self.found + self.asked) if self.found + self.asked else 0.0


class Entity(NamedTuple):
    """Words begin to end - 1 of a sentence."""

    type: str
    begin: int
    end: int


def entities(tags: Sequence[str]) -> list[Entity]:
    """Of one sentence, as seqeval and conlleval find them: I-TYPE after something else begins one, too."""
    return [Entity(kind, begin, end + 1) for kind, begin, end in get_entities(list(tags))]


def scores(sentences: Sequence[Sentence], found: Sequence[np.ndarray], tags: Sequence[str]) -> dict[str, Any]:
    """Numbers by name of the tags found, [N] of each sentence; `by_type` counts entities type by type.

    Entities: seqeval's default, the type and both ends right. Surface forms: the organisers' script wnuteval.py counts
    each pair of words and type once, right where one of its occurrences was found. Words: 1 is any tag but O.
    """
    every = [_of_sentence(number, *one, tags) for number, one in enumerate(zip(sentences, found, strict=True))]
    gold, guess = (set().union(*(one[side] for one in every)) for side in (0, 1))
    types = sorted({tag[2:] for tag in tags if tag != "O"})
    surface = [{(kind, words) for kind, words, *_ in one} for one in (gold & guess, guess, gold)]
    ones, asked = (np.concatenate(of) != 0 for of in (list(found), [one.tags for one in sentences]))
    named = [[[tags[n] for n in ids] for ids in of] for of in ([one.tags for one in sentences], found)]
    overall = precision_recall_fscore_support(*named, average="micro", zero_division=0)
    return {
        **dict(zip(("precision", "recall", "f1"), map(float, overall[:3]), strict=True)),
        **_numbers("surface_", Counted(*map(len, surface))),
        **_numbers("one_", Counted(int((ones & asked).sum()), int(ones.sum()), int(asked.sum()))),
        "accuracy": float((ones == asked).mean()),
        "by_type": {t: _counted(*({e for e in side if e[0] == t} for side in (gold, guess))) for t in types},
    }


def _of_sentence(number: int, sentence: Sentence, found: np.ndarray, tags: Sequence[str]) -> tuple[set, set]:
    """Entities that there are and that were found: (type, words, sentence, begin)."""

    def of(ids: np.ndarray) -> set[tuple]:
        every = entities([tags[n] for n in ids])
        return {(e.type, tuple(sentence.words[e.begin : e.end]), number, e.begin) for e in every}

    return of(sentence.tags), of(found)


def _counted(gold: set, guess: set) -> Counted:
    return Counted(len(gold & guess), len(guess), len(gold))


def _numbers(name: str, counted: Counted) -> dict[str, float]:
    return {f"{name}{what}": getattr(counted, what) for what in ("precision", "recall", "f1")}


def most_frequent(train: Sequence[Sentence]) -> Callable[[Sequence[str]], np.ndarray]:
    """words -> tags: each word's most frequent one in training, the lowest id of equals; O of a word that is new. Case
    does not matter."""
    counts: dict[str, Counter] = {}
    for one in train:
        for word, tag in zip(one.words, one.tags.tolist(), strict=True):
            counts.setdefault(normal(word), Counter())[tag] += 1
    best = {word: min(of, key=lambda tag, of=of: (-of[tag], tag)) for word, of in counts.items()}
    return lambda words: np.array([best.get(normal(word), 0) for word in words], np.int32)
