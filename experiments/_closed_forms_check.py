"""One checked number: what must come out, what did, and how far it may be off."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Check(NamedTuple):
    """Of many numbers, the one that is furthest off. error: absolute or relative, as the tolerance is.

    relation: "=", "<=" or ">=" between what was measured and what was expected. seed: where each is checked alone.
    curve: the numbers, at lag 0, 1, ..., of which `measured` is a fit.
    """

    what: str
    setting: str
    expected: float
    measured: float
    error: float
    tolerance: float
    relation: str = "="
    seed: int | None = None
    curve: tuple[float, ...] | None = None

    @property
    def holds(self) -> bool:
        """Never where the error is NaN."""
        return self.error <= self.tolerance


def absolute(what: str, setting: str, expected: Any, measured: Any, tolerance: float) -> Check:
    """expected, measured: numbers, or arrays that broadcast."""
    expected, measured = _both(expected, measured)
    return _worst(what, setting, expected, measured, np.abs(measured - expected), tolerance)


def relative(what: str, setting: str, expected: Any, measured: Any, tolerance: float) -> Check:
    """As `absolute`, over the expected number."""
    expected, measured = _both(expected, measured)
    return _worst(what, setting, expected, measured, np.abs(measured - expected) / np.abs(expected), tolerance)


def far(what: str, setting: str, error: Any, tolerance: float) -> Check:
    """Where two arrays are compared, error: how far they are apart, expected 0; the largest counts."""
    return absolute(what, setting, 0.0, error, tolerance)


def at_most(what: str, setting: str, limit: float, measured: Any) -> Check:
    """No tolerance; the largest counts."""
    found = float(np.max(measured))
    return Check(what, setting, float(limit), found, _over(found - limit), 0.0, "<=")


def at_least(what: str, setting: str, limit: float, measured: Any) -> Check:
    """No tolerance; the smallest counts."""
    found = float(np.min(measured))
    return Check(what, setting, float(limit), found, _over(limit - found), 0.0, ">=")


def of_seed(seed: int, *checks: Check) -> list[Check]:
    return [check._replace(seed=seed) for check in checks]


def require(checks: Sequence[Check]) -> None:
    """For tests: every check holds, and there is one. Raises AssertionError with those that do not."""
    assert checks
    wrong = [one for one in checks if not one.holds]
    assert not wrong, "\n".join(map(str, wrong))


def _over(excess: float) -> float:
    """Python's max would lose a NaN."""
    return excess if math.isnan(excess) else max(0.0, excess)


def _both(expected: Any, measured: Any) -> list[np.ndarray]:
    return np.broadcast_arrays(np.asarray(expected, np.float64), np.asarray(measured, np.float64))


def _worst(what: str, setting: str, expected: Any, measured: Any, error: np.ndarray, tolerance: float) -> Check:
    place = np.unravel_index(np.argmax(error), error.shape)  # of a NaN, if there is one
    return Check(what, setting, float(expected[place]), float(measured[place]), float(error[place]), float(tolerance))
