"""How fast a gradient decays: an exponential or a power law fitted to log-norms over the lag, and how sure that is."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key


class DecayFit(NamedTuple):
    """ln ||delta|| = intercept + lag ln(gamma), by least squares over `count` lags.

    gamma: factor a step; below 1 gradients fade, above 1 they explode. half_life: steps in which the norm
    halves (doubles, if gamma > 1), ln 2 / |ln gamma|. r2: share of the variance that the line explains.
    """

    gamma: Float[Array, "..."]
    half_life: Float[Array, "..."]
    r2: Float[Array, "..."]
    intercept: Float[Array, "..."]
    count: Array

    @property
    def correlation_length(self) -> Float[Array, "..."]:
        """Steps in which the norm changes by a factor e, 1 / |ln gamma|."""
        return self.half_life / math.log(2)


class PowerFit(NamedTuple):
    """ln ||delta|| = intercept - exponent ln(lag), by least squares over `count` lags; r2 as in `DecayFit`."""

    exponent: Float[Array, "..."]
    r2: Float[Array, "..."]
    intercept: Float[Array, "..."]
    count: Array


class Laws(NamedTuple):
    """Two laws on the same lags. evidence: BIC(power) - BIC(exponential) = count ln(RSS_power / RSS_exponential):
    above 0 the exponential wins, below 0 the power law, 0 is a tie. Both have two parameters and a variance, so AIC
    differs by the same. Above 10 in size is commonly called decisive (Kass & Raftery 1995), of independent residuals:
    those of neighbouring lags are not, and the number says more than there is. NaN with fewer than 3 lags."""

    exponential: DecayFit
    power: PowerFit
    evidence: Float[Array, "..."]


class Interval(NamedTuple):
    """Lower and upper end."""

    low: Float[Array, "..."]
    high: Float[Array, "..."]


class Bootstrap(NamedTuple):
    """Of a batch. gamma: geometric mean of the examples' own gammas, with its interval; half_life: as in `DecayFit`.

    Where the interval of gamma holds 1 that of the half-life has no upper end (inf). examples: how many had a fit.
    """

    gamma: Float[Array, "..."]
    half_life: Float[Array, "..."]
    gamma_interval: Interval
    half_life_interval: Interval
    examples: Array


def fit_decay(log_norms: Float[Array, "... T"], first: int, last: int) -> DecayFit:
    """Fits log-norms [..., T] in order of time at lags first..last, lag k = T-1-t steps before the last.

    Lags at which the norm is 0 in the float format (-inf) are left out and not counted; with fewer than 3
    left every field but `count` is NaN. Raises ValueError if the lags are not within the T steps.
    Cost: a few passes over the numbers. Prefer `compare_laws` where a power law may be the truth (long memories, LRU).
    """
    line = _fitted("fit_decay", log_norms, first, last, 0, lambda lags: lags)
    return DecayFit(
        jnp.exp(line.slope), math.log(2) / jnp.abs(line.slope), line.r2, line.mean_y - line.slope * line.mean_x,
        line.count,
    )  # fmt: skip


def fit_power(log_norms: Float[Array, "... T"], first: int, last: int) -> PowerFit:
    """Fits ||delta|| = exp(intercept) lag^-exponent; arguments, what is left out and cost as in `fit_decay`.

    Raises ValueError if the lags are not within the T steps, or first < 1: a power law has no value at lag 0.
    """
    line = _fitted("fit_power", log_norms, first, last, 1, jnp.log)
    return PowerFit(-line.slope, line.r2, line.mean_y - line.slope * line.mean_x, line.count)


def compare_laws(log_norms: Float[Array, "... T"], first: int, last: int) -> Laws:
    """An exponential and a power law on the same lags, and which one the residuals prefer; arguments as in `fit_power`.

    A residual below the rounding of the log-norms counts as that rounding: nothing finer was measured.
    Cost: two fits. Give it a wide range of lags: over a factor of two in the lag the laws look alike.
    """
    exponential, power = fit_decay(log_norms, first, last), fit_power(log_norms, first, last)
    by_lag = _fitted("compare_laws", log_norms, first, last, 1, lambda lags: lags)
    by_log = _fitted("compare_laws", log_norms, first, last, 1, jnp.log)
    floor = (float(jnp.finfo(log_norms.dtype).eps) * by_lag.largest) ** 2
    ratio = jnp.log(jnp.maximum(by_log.residual, floor) / jnp.maximum(by_lag.residual, floor))
    return Laws(exponential, power, by_lag.count.astype(ratio.dtype) * ratio)


def bootstrap_decay(
    log_norms: Float[Array, "... B T"],
    first: int,
    last: int,
    key: Key[Array, ""],
    *,
    resamples: int = 1000,
    level: float = 0.95,
) -> Bootstrap:
    """`fit_decay` of every example, and the percentile interval of their mean slope over resampled batches.

    log_norms: [..., B, T]; lags as in `fit_decay`. Rows of different lengths go through `align` first. An example with
    fewer than 3 lags is left out. Examples are drawn with replacement (Efron 1979); the interval lies between the
    quantiles (1 - level)/2 and (1 + level)/2 of the resamples. Where every norm is finite, the mean slope is the slope
    of the mean log-norm. It covers the spread between examples of one network, not between networks: give the seeds'
    log-norms as the batch for that. Percentile intervals of few examples are too narrow, at B = 10 by about a tenth.
    Cost: B fits and resamples x B numbers. Raises ValueError for B < 2 (no spread to resample), no resample, or a level
    outside (0, 1).
    """
    if log_norms.ndim < 2 or log_norms.shape[-2] < 2:
        raise ValueError(f"bootstrap_decay: expected log_norms [..., B, T] of B >= 2, got shape {log_norms.shape}")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"bootstrap_decay: expected resamples >= 1 and 0 < level < 1, got {resamples} and {level}")
    slopes = jnp.log(fit_decay(log_norms, first, last).gamma)
    found = jnp.isfinite(slopes)
    examples, B = found.sum(-1), slopes.shape[-1]
    drawn = jax.random.randint(key, (resamples, B), 0, B)
    means = jnp.nanmean(jnp.where(found, slopes, jnp.nan)[..., drawn], axis=-1)
    ends = jnp.asarray([(1 - level) / 2, (1 + level) / 2], slopes.dtype)
    low, high = jnp.nanquantile(means, ends, axis=-1)
    slope = jnp.nanmean(jnp.where(found, slopes, jnp.nan), axis=-1)
    enough = jnp.where(examples >= 2, 1.0, jnp.nan).astype(slopes.dtype)
    low, high, nearest = low * enough, high * enough, jnp.minimum(jnp.abs(low), jnp.abs(high))
    steps = lambda rate: math.log(2) / rate  # noqa: E731
    return Bootstrap(
        gamma=jnp.exp(slope),
        half_life=steps(jnp.abs(slope)),
        gamma_interval=Interval(jnp.exp(low), jnp.exp(high)),
        half_life_interval=Interval(
            steps(jnp.maximum(jnp.abs(low), jnp.abs(high))),
            jnp.where(low * high <= 0, jnp.inf, steps(nearest * enough)),
        ),
        examples=examples,
    )


def align(log_norms: Float[Array, "T *B"], lengths: Integer[Array | np.ndarray, "*B"]) -> Float[Array, "*B T"]:
    """Log-norms as a probe gives them, moved so that every row's own last step is the last: its lag 0.

    For rows of different lengths under a loss at each row's last step; -inf before a row begins. Cost: one gather.
    """
    length = log_norms.shape[0]
    rows = jnp.moveaxis(log_norms, 0, -1)
    source = jnp.arange(length) - (length - jnp.asarray(lengths).astype(int))[..., None]
    moved = jnp.take_along_axis(rows, jnp.maximum(source, 0), axis=-1)
    return jnp.where(source >= 0, moved, -jnp.inf)


class _Line(NamedTuple):
    """A least-squares line. residual: mean square. largest: the largest |y|."""

    slope: Array
    mean_x: Array
    mean_y: Array
    residual: Array
    r2: Array
    count: Array
    largest: Array


def _fitted(name: str, log_norms: Array, first: int, last: int, lowest: int, of) -> _Line:
    """The line through (of(lag), log-norm) at the lags where the log-norm is finite."""
    length = log_norms.shape[-1]
    if not lowest <= first < last < length:
        raise ValueError(f"{name}: expected {lowest} <= first < last < T = {length}, got first={first}, last={last}")
    ys = jnp.flip(log_norms, axis=-1)[..., first : last + 1]
    xs = of(jnp.arange(first, last + 1, dtype=ys.dtype))
    valid = jnp.isfinite(ys)
    count = valid.sum(-1)
    ys = jnp.where(valid, ys, 0)
    enough = jnp.where(count >= 3, 1.0, jnp.nan).astype(ys.dtype)
    weight = valid.astype(ys.dtype) / jnp.maximum(count, 1).astype(ys.dtype)[..., None]
    mean_x, mean_y = (weight * xs).sum(-1), (weight * ys).sum(-1)
    dx, dy = xs - mean_x[..., None], ys - mean_y[..., None]
    spread, total = (weight * dx**2).sum(-1), (weight * dy**2).sum(-1)
    slope = (weight * dx * dy).sum(-1) / spread * enough
    residual = (weight * (dy - slope[..., None] * dx) ** 2).sum(-1)
    r2 = jnp.where(total > 0, 1 - residual / jnp.where(total > 0, total, 1), 1.0) * enough
    return _Line(slope, mean_x, mean_y, residual, r2, count, jnp.abs(ys).max(-1))
