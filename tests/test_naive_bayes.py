"""Naive Bayes against its own definition, counted by hand."""

import itertools
import os
from collections import Counter

import numpy as np
import pytest

from rnnlab.models import naive_bayes

SEED = int.from_bytes(os.urandom(4), "big")


def drawn(count: int, seed: int) -> tuple[list[list[str]], np.ndarray]:
    rng = np.random.default_rng([SEED, seed])
    texts = [[f"w{n}" for n in rng.integers(0, 9, rng.integers(0, 7))] for _ in range(count)]
    return texts, np.append(rng.integers(0, 2, count - 2), [0, 1])


@pytest.mark.parametrize("alpha", [0.3, 2.0])
def test_log_odds_are_those_of_the_definition(alpha):
    texts, labels = drawn(40, 0)
    asked, _ = drawn(15, 1)
    asked.append(["never", "seen"])
    counts = [Counter(), Counter()]
    for text, label in zip(texts, labels, strict=True):
        counts[label].update(text)
        counts[label].update(f"{a} {b}" for a, b in itertools.pairwise(text))
    known = {*counts[0], *counts[1]}

    def score(text: list[str], label: int) -> float:
        total = sum(counts[label].values()) + alpha * len(known)
        found = [g for g in [*text, *(f"{a} {b}" for a, b in itertools.pairwise(text))] if g in known]
        return np.log(np.mean(labels == label)) + sum(np.log((counts[label][g] + alpha) / total) for g in found)

    expected = [score(text, 1) - score(text, 0) for text in asked]
    np.testing.assert_allclose(naive_bayes.fitted(texts, labels, alpha).log_odds(asked), expected, rtol=1e-9)


def test_the_alpha_is_chosen_on_the_validation_texts():
    train, validation = drawn(60, 2), drawn(60, 3)
    alphas = (1e-3, 0.1, 1.0, 30.0, 1000.0)
    scores = {alpha: naive_bayes.fitted(*train, alpha).accuracy(*validation) for alpha in alphas}
    assert naive_bayes.chosen(train, validation, alphas).alpha == max(alphas, key=scores.__getitem__)


def test_one_class_alone_is_refused():
    with pytest.raises(ValueError, match="labels 0 and 1"):
        naive_bayes.fitted([["a"], ["b"]], np.array([1, 1]), 1.0)
