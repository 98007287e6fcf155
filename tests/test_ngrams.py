import math

import numpy as np
import pytest

from rnnlab.models.ngrams import baselines


def test_bits_by_hand():
    # train "aab", V = 3 (the third is unknown): P(a) = 3/6, P(b) = 2/6; n(a.) = 2, n(aa) = 1, n(ab) = 1, n(b.) = 0.
    found = baselines(np.array([0, 0, 1]), np.array([0, 1, 0]), 3)
    assert found.unigram == pytest.approx(-(math.log2(2 / 6) + math.log2(3 / 6)) / 2)
    assert found.bigram == pytest.approx(-(math.log2((1 + 2 / 6) / 3) + math.log2((0 + 3 / 6) / 1)) / 2)


@pytest.mark.parametrize("seed", range(3))
def test_on_a_first_order_chain_the_bigram_reaches_its_entropy(seed):
    rng = np.random.default_rng(seed)
    size, steps = 5, 200_000
    transition = rng.dirichlet(np.full(size, 0.3), size)
    ids = np.zeros(steps, int)
    for t, u in enumerate(rng.random(steps - 1)):
        ids[t + 1] = min(np.searchsorted(transition[ids[t]].cumsum(), u), size - 1)
    train, test = ids[: steps // 2], ids[steps // 2 :]
    ideal = -np.log2(transition[test[:-1], test[1:]]).mean()
    found = baselines(train, test, size)
    assert found.bigram == pytest.approx(ideal, rel=0.01)
    assert found.unigram > found.bigram


def test_an_unseen_character_costs_bits_but_not_infinity():
    found = baselines(np.array([0, 1, 0, 1]), np.array([0, 2, 2, 1]), 3)
    assert math.isfinite(found.unigram) and math.isfinite(found.bigram)
