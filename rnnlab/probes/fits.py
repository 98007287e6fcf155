"""How fast a gradient decays: an exponential fitted to log-norms over the lag."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


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


def fit_decay(log_norms: Float[Array, "... T"], first: int, last: int) -> DecayFit:
    """Fits log-norms [..., T] in order of time at lags first..last, lag k = T-1-t steps before the last.

    Lags at which the norm is 0 in the float format (-inf) are left out and not counted; with fewer than 3
    left every field but `count` is NaN. Raises ValueError if the lags are not within the T steps.
    """
    length = log_norms.shape[-1]
    if not 0 <= first < last < length:
        raise ValueError(f"fit_decay: expected 0 <= first < last < T = {length}, got first={first}, last={last}")
    ys = jnp.flip(log_norms, axis=-1)[..., first : last + 1]
    lags = jnp.arange(first, last + 1, dtype=ys.dtype)
    valid = jnp.isfinite(ys)
    count = valid.sum(-1)
    ys = jnp.where(valid, ys, 0)
    enough = jnp.where(count >= 3, 1.0, jnp.nan).astype(ys.dtype)
    weight = valid.astype(ys.dtype) / jnp.maximum(count, 1).astype(ys.dtype)[..., None]
    mean_lag, mean_y = (weight * lags).sum(-1), (weight * ys).sum(-1)
    dk, dy = lags - mean_lag[..., None], ys - mean_y[..., None]
    spread, total = (weight * dk**2).sum(-1), (weight * dy**2).sum(-1)
    slope = (weight * dk * dy).sum(-1) / spread * enough
    residual = (weight * (dy - slope[..., None] * dk) ** 2).sum(-1)
    r2 = jnp.where(total > 0, 1 - residual / jnp.where(total > 0, total, 1), 1.0) * enough
    return DecayFit(jnp.exp(slope), math.log(2) / jnp.abs(slope), r2, mean_y - slope * mean_lag, count)
