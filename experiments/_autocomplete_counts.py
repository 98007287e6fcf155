"""The baselines of `autocomplete`: words, pairs and triples of words, counted on the text that the network reads.

A word's share is add-one smoothed, P(w) = (n(w) + 1) / (N + V). A pair's is its count with the word's share as a
Dirichlet prior of a counts, P(w|v) = (n(vw) + a P(w)) / (n(v) + a), and a triple's that with the pair's,
P(w|uv) = (n(uvw) + b P(w|v)) / (n(uv) + b) (MacKay & Peto 1995, equation 8). a and b are chosen on the validation part.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from experiments._autocomplete_keyboard import Distribution

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
NAMES = ("unigram", "bigram", "trigram")


class Baseline(NamedTuple):
    """strength: of the prior, chosen; 0 for none. perplexity: on the validation part."""

    name: str
    model: Distribution
    strength: float
    perplexity: float


def baselines(
    train: Sequence[Int[np.ndarray, "S"]], size: int, validation: Sequence[Int[np.ndarray, "S"]]
) -> list[Baseline]:
    """Each upon the one before. Both sets: encoded sentences, BEGIN ids END. size: V."""
    single = np.bincount(np.concatenate([ids[1:] for ids in train]), minlength=size) + 1.0
    single /= single.sum()
    model = lambda sentences: np.broadcast_to(np.log(single), (_steps(sentences), size))  # noqa: E731
    shares = single[np.concatenate([ids[1:] for ids in validation])]
    found = [Baseline("unigram", model, 0.0, _perplexity(shares))]
    for order, name in enumerate(NAMES[1:], 1):
        counted = _counted(train, size, order)
        tried = {strength: _shares(counted, shares, strength, size, order, validation) for strength in STRENGTHS}
        strength = min(tried, key=lambda one: _perplexity(tried[one]))
        shares, model = tried[strength], _interpolated(counted, model, strength, size, order)
        found.append(Baseline(name, model, strength, _perplexity(shares)))
    return found


def _perplexity(shares: Float[np.ndarray, "N"]) -> float:
    return float(np.exp(-np.log(shares).mean()))


class _Counted(NamedTuple):
    """contexts: the words before, as one number each, in order [C]. counts: of the words after each [C + 1, V], the
    last row empty. totals: [C + 1]."""

    contexts: Int[np.ndarray, "C"]
    counts: sparse.csr_array
    totals: Float[np.ndarray, "C+1"]


def _counted(sentences: Sequence[np.ndarray], size: int, order: int) -> _Counted:
    keys = _contexts(sentences, size, order)
    after = np.concatenate([ids[1:] for ids in sentences])
    contexts, rows = np.unique(keys, return_inverse=True)
    shape = (len(contexts) + 1, size)
    counts = sparse.coo_array((np.ones(len(after)), (rows, after)), shape).tocsr()
    return _Counted(contexts, counts, np.asarray(counts.sum(1)).ravel())


def _interpolated(counted: _Counted, lower: Distribution, strength: float, size: int, order: int) -> Distribution:
    """The whole distribution at every step."""

    def model(sentences: Sequence[np.ndarray]) -> Float[np.ndarray, "N V"]:
        rows = _rows(counted, sentences, size, order)
        prior = strength * np.exp(lower(sentences))
        return np.log((counted.counts[rows].toarray() + prior) / (counted.totals[rows][:, None] + strength))

    return model


def _shares(
    counted: _Counted, lower: np.ndarray, strength: float, size: int, order: int, sentences: Sequence[np.ndarray]
) -> Float[np.ndarray, "N"]:
    """What `_interpolated` gives the words that are there, of what the model before gave them: V times cheaper."""
    rows = _rows(counted, sentences, size, order)
    seen = np.asarray(counted.counts[rows, np.concatenate([ids[1:] for ids in sentences])]).ravel()
    return (seen + strength * lower) / (counted.totals[rows] + strength)


def _rows(counted: _Counted, sentences: Sequence[np.ndarray], size: int, order: int) -> Int[np.ndarray, "N"]:
    """The row of each step's context in `counts`."""
    keys = _contexts(sentences, size, order)
    near = np.minimum(np.searchsorted(counted.contexts, keys), len(counted.contexts) - 1)
    return np.where(counted.contexts[near] == keys, near, len(counted.contexts))


def _contexts(sentences: Sequence[np.ndarray], size: int, order: int) -> Int[np.ndarray, "N"]:
    """The `order` ids before each step after BEGIN as one number; before a sentence BEGIN stands as often as needed."""
    keys = []
    for ids in sentences:
        padded = np.concatenate([np.full(order - 1, ids[0], np.int64), ids])
        keys.append(sum(padded[k : len(padded) - order + k].astype(np.int64) * size**k for k in range(order)))
    return np.concatenate(keys)


def _steps(sentences: Sequence[np.ndarray]) -> int:
    return sum(len(ids) - 1 for ids in sentences)
