"""Character n-grams: the baselines that a language model has to beat."""

from typing import NamedTuple

import numpy as np


class Baselines(NamedTuple):
    """Cross-entropies in bits a character on held-out text, of models counted on training text alone."""

    unigram: float
    bigram: float


def baselines(train: np.ndarray, test: np.ndarray, size: int) -> Baselines:
    """Unigram and bigram cross-entropy of ids `test` [N], each character but the first.

    Unigram: add-one, P(b) = (n(b) + 1) / (N + V). Bigram: the unigram as a Dirichlet prior of one count,
    P(b|a) = (n(ab) + P(b)) / (n(a) + 1) (MacKay & Peto 1995, equation 8, alpha = 1).
    """
    single = np.bincount(train, minlength=size) + 1.0
    single /= single.sum()
    pairs = np.bincount(train[:-1] * np.int64(size) + train[1:], minlength=size * size).reshape(size, size)
    before, after = test[:-1], test[1:]
    conditional = (pairs[before, after] + single[after]) / (pairs.sum(1)[before] + 1.0)
    return Baselines(float(-np.log2(single[after]).mean()), float(-np.log2(conditional).mean()))
