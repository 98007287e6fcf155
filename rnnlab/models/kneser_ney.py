"""Kneser-Ney n-grams: the strongest baseline of counting that a language model has to beat."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer

# Discounts of counts 1, 2 and 3 or more, where the counts of counts leave them undefined: as those of few characters
# do, of which none occurs once.
UNDEFINED = (0.5, 1.0, 1.5)


class _Order(NamedTuple):
    """The k-grams of one order, of training and test text together, by number.

    grams: [N] of the k-gram that ends at each place. contexts: [N] of the (k-1)-gram before the place's id.
    """

    grams: Int[np.ndarray, "N"]
    contexts: Int[np.ndarray, "N"]


def kneser_ney(
    train: Integer[np.ndarray, "N"], test: Integer[np.ndarray, "M"], size: int, order: int = 5
) -> Float[np.ndarray, "M-1"]:
    """ln P of every test id but the first, given up to `order` - 1 ids before it in the test text.

    Interpolated, with modified discounts (Chen & Goodman 1999, equations 24 to 26): at the highest order

        P(w|h) = (c(hw) - D(c(hw))) / c(h.) + (D1 N1(h.) + D2 N2(h.) + D3 N3+(h.)) / c(h.) P(w|h')

    with h' the context h without its first id, and P(w|h') alone where h was never seen; below it with the number of
    different ids before an n-gram in the place of its count (Kneser & Ney 1995), ending in 1 / V. Text begins after
    something that is no id and is never predicted. Sums to 1 over the V = `size` ids, however rare.
    Raises ValueError for an order below 1, ids outside the vocabulary, and texts of fewer than 2 ids.
    """
    if order < 1 or min(len(train), len(test)) < 2:
        raise ValueError(
            f"kneser_ney: expected an order of at least 1 and 2 ids, got {order}, {len(train)} and {len(test)} ids"
        )
    for name, ids in (("train", train), ("test", test)):
        if ids.min() < 0 or ids.max() >= size:
            raise ValueError(f"kneser_ney: expected {name} ids below {size}, got {ids.min()} to {ids.max()}")
    begin = np.full(order - 1, size, np.int64)
    ids = np.concatenate([begin, train, begin, test])
    here = np.zeros(len(ids), bool)
    here[order - 1 : order - 1 + len(train)] = True  # places whose n-grams are counted
    asked = np.arange(len(ids) - len(test) + 1, len(ids))
    grams = _grams(ids, order)
    said = np.full(len(asked), 1 / size)
    for k, one in enumerate(grams, 1):
        places = np.flatnonzero(here)
        counts = np.bincount(one.grams[places], minlength=one.grams.max() + 1)
        if k < order:  # how many (k+1)-grams end in it, and not how often
            different = places[np.unique(grams[k].grams[places], return_index=True)[1]]
            counts = np.bincount(one.grams[different], minlength=len(counts))
        said = _interpolated(one, counts, places, asked, said)
    return np.log(said)


def _grams(ids: Int[np.ndarray, "N"], order: int) -> list[_Order]:
    """Of every order up to `order`: a k-gram is a (k-1)-gram and an id, so that no number grows beyond N V."""
    found, before = [], np.zeros(len(ids), np.int64)
    for _ in range(order):
        _, grams = np.unique(before * (ids.max() + 1) + ids, return_inverse=True)
        found.append(_Order(grams, before))
        before = np.append(-1, grams[:-1]) + 1  # 0 for the place before the first
    return found


def _interpolated(
    one: _Order, counts: Int[np.ndarray, "G"], places: np.ndarray, asked: np.ndarray, lower: Float[np.ndarray, "M"]
) -> Float[np.ndarray, "M"]:
    """P of this order at the places asked, from that of the one below."""
    first = places[np.unique(one.grams[places], return_index=True)[1]]  # a place of every k-gram that is counted
    amounts, contexts = counts[one.grams[first]], one.contexts[first]
    discounts = np.array([0.0, *_discounts(amounts)])
    size = one.contexts.max() + 1
    totals = np.bincount(contexts, weights=amounts, minlength=size)
    mass = np.bincount(contexts, weights=discounts[np.minimum(amounts, 3)], minlength=size)
    found, context = counts[one.grams[asked]], one.contexts[asked]
    total = totals[context]
    share = found - discounts[np.minimum(found, 3)] + mass[context] * lower
    return np.where(total > 0, share / np.where(total > 0, total, 1), lower)


def _discounts(amounts: Int[np.ndarray, "G"]) -> tuple[float, ...]:
    """D1, D2 and D3+ from the counts of counts (Chen & Goodman 1999, equation 26), each between 0 and what it is of."""
    n1, n2, n3, n4 = (np.count_nonzero(amounts == n) for n in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return UNDEFINED
    y = n1 / (n1 + 2 * n2)
    each = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return tuple(min(max(d, 0.0), float(n)) for n, d in enumerate(each, 1))
