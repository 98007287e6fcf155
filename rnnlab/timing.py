"""How long functions take, side by side: in turns, so that what slows the machine down slows them all."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np


def in_turns(
    functions: Mapping[Any, Callable[[], Any]],
    *,
    seconds: float | int,
    least: int = 5,
    after: Callable[[int], None] = lambda rounds: None,
) -> dict[Any, list[float]]:
    """Seconds of every call, round by round, each function once a round; the first round, a warm-up, is not counted.

    Goes on until `seconds` have passed, and for `least` rounds at the least; `after` is told their number. What a
    function returns is waited for (`jax.block_until_ready`; what is no JAX array is ready).
    """
    taken: dict[Any, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        jax.block_until_ready(function())
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < least or time.perf_counter() < end:
        for name, function in functions.items():
            begin = time.perf_counter()
            jax.block_until_ready(function())
            taken[name].append(time.perf_counter() - begin)
        rounds += 1
        after(rounds)
    return taken


class Ratio(NamedTuple):
    """The median of a ratio and its 95 % bootstrap interval."""

    median: float
    low: float
    high: float


def ratio(ours: Sequence | np.ndarray, theirs: Sequence | np.ndarray, *, seed: int = 0, draws: int = 1000) -> Ratio:
    """theirs / ours, the speed-up of ours: the ratio of the medians; rounds are drawn anew for the interval.

    Both are drawn by the same rounds, so that a slow moment counts for both. Raises ValueError if the numbers of rounds
    differ or are 0.
    """
    one, other = np.asarray(ours, float), np.asarray(theirs, float)
    if one.shape != other.shape or one.ndim != 1 or not one.size:
        raise ValueError(f"ratio: expected two equally long lists of times, got shapes {one.shape} and {other.shape}")
    rounds = np.random.default_rng(seed).integers(0, len(one), (draws, len(one)))
    drawn = np.median(other[rounds], axis=1) / np.median(one[rounds], axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Ratio(float(np.median(other) / np.median(one)), float(low), float(high))
