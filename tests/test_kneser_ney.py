"""Kneser-Ney against Chen & Goodman's formulas written out over dictionaries, and as a distribution."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from rnnlab.models.kneser_ney import UNDEFINED, kneser_ney
from rnnlab.models.ngrams import baselines

BEGIN = "begin"


def written_out(train, test, size, order):
    """ln P of each test id but the first, by recursion."""
    text = [BEGIN] * (order - 1) + list(train)
    places = range(order - 1, len(text))
    counts = {order: Counter(tuple(text[i - order + 1 : i + 1]) for i in places)}
    for k in range(order - 1, 0, -1):
        longer = {tuple(text[i - k : i + 1]) for i in places}
        counts[k] = Counter(gram[1:] for gram in longer)

    def discounts(k):
        n = [sum(value == c for value in counts[k].values()) for c in range(5)]
        if 0 in n[1:]:
            return UNDEFINED
        y = n[1] / (n[1] + 2 * n[2])
        raw = [c - (c + 1) * y * n[c + 1] / n[c] for c in (1, 2, 3)]
        return [min(max(d, 0), c) for c, d in enumerate(raw, 1)]

    after = {k: defaultdict(dict) for k in counts}
    for k, table in counts.items():
        for gram, value in table.items():
            after[k][gram[:-1]][gram[-1]] = value
    every = {k: discounts(k) for k in counts}

    def probability(k, context, w):
        if k == 0:
            return 1 / size
        lower = probability(k - 1, context[1:], w)
        seen = after[k].get(context)
        if not seen:
            return lower
        total = sum(seen.values())
        count = seen.get(w, 0)
        kept = count - every[k][min(count, 3) - 1] if count else 0
        return (kept + sum(every[k][min(c, 3) - 1] for c in seen.values()) * lower) / total

    padded = [BEGIN] * (order - 1) + list(test)
    return [
        math.log(probability(order, tuple(padded[i - order + 1 : i]), padded[i])) for i in range(order, len(padded))
    ]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize(("size", "length"), [(3, 40), (6, 400), (40, 300)])
def test_it_is_the_written_out_formula(order, size, length):
    rng = np.random.default_rng(order + size)
    shares = rng.dirichlet(np.full(size, 0.5))
    train, test = (rng.choice(size, n, p=shares) for n in (length, 60))
    expected = written_out(train.tolist(), test.tolist(), size, order)
    np.testing.assert_allclose(kneser_ney(train, test, size, order), expected, rtol=1e-12)


@pytest.mark.parametrize("order", [2, 5])
def test_it_sums_to_one_after_seen_and_unseen_contexts(order):
    rng = np.random.default_rng(1)
    train = rng.choice(5, 200, p=[0.6, 0.2, 0.1, 0.1, 0])  # the last id was never seen
    for context in ([0, 0, 0, 0], [4, 4, 4, 4], [3, 1, 4, 0], [2]):
        total = sum(np.exp(kneser_ney(train, np.array([*context, w]), 5, order)[-1]) for w in range(5))
        assert total == pytest.approx(1, abs=1e-12)


def test_it_beats_the_bigram_on_a_chain_of_third_order():
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.full(4, 0.1), (4, 4, 4))
    ids = [0, 1, 2]
    for _ in range(20_000):
        ids.append(rng.choice(4, p=table[tuple(ids[-3:])]))
    train, test = np.array(ids[:16_000]), np.array(ids[16_000:])
    entropy = -np.log(table[test[:-3], test[1:-2], test[2:-1], test[3:]]).mean()
    found = -kneser_ney(train, test, 4)[2:].mean()
    assert entropy < found < 1.05 * entropy  # it has to learn the table, and which context counts
    assert found < 0.7 * baselines(train, test, 4).bigram * math.log(2)


@pytest.mark.parametrize(
    ("train", "test", "order", "message"),
    [([0, 1], [0, 1], 0, "got 0"), ([0], [0, 1], 2, "1 and 2 ids"), ([0, 3], [0, 1], 2, "train ids below 3")],
)
def test_what_it_refuses(train, test, order, message):
    with pytest.raises(ValueError, match=message):
        kneser_ney(np.array(train), np.array(test), 3, order)
