"""Lyapunov exponents: how fast trajectories that begin close by part, or meet, in each direction.

Common arguments: cells, params: one cell or a stack, as in `rnnlab.probes.flow` (the exponents of a stack are those of
its layers, each driven by the one below: its Jacobians are block triangular); xs [T, *B, D]. how: start, keep, lengths,
join, as `layers` takes them; a held step counts for nothing, a row without any other gives NaN. `key` draws the first
directions, the same for every row. They run under `jax.jit`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from rnnlab.probes.flow import Flow, Stack, flow, unit
from rnnlab.types import PyTree


class LyapunovSpectrum(NamedTuple):
    """exponents: nats a step [*B, k], in the order of the directions: largest first, but for what chance does to close
    ones. local: each step's own, ln R_ii [T, *B, k], burn-in included; their mean after it are the exponents.
    dimension: Kaplan and Yorke's [*B]."""

    exponents: Float[Array, "... k"]
    local: Float[Array, "T ... k"]
    dimension: Float[Array, "..."]


def lyapunov_spectrum(
    cells: Stack,
    params: PyTree,
    xs: Float[Array, "T ..."],
    key: Key[Array, ""],
    *,
    count: int | None = None,
    burn_in: int = 0,
    **how: PyTree,
) -> LyapunovSpectrum:
    """The first `count` Lyapunov exponents along xs (all S by default), local exponents and dimension.

    J_t Q_{t-1} = Q_t R_t at every step, R_t of positive diagonal, so that Q_t and its gradient are unique; exponent i
    is the mean of ln R_ii over the steps after `burn_in`, in which the state comes to its attractor and Q to its
    directions (Benettin et al. 1980, part 2). Differentiable in the parameters, with a finite gradient wherever no R_ii
    is 0; there the exponent is -inf and the gradient is not.

    Time: T (k products with J and a decomposition of [S, k], S k^2): for k = S far dearer than `dense_product`, so ask
    for the k that you need. Memory: k S + T k a row, its gradient T k S. With k = 1 `largest_exponent` is the same and
    cheaper. In float32 a ratio below 1e-7 of two directions within one step is rounding.

    Raises ValueError for a count outside 1..S or a burn-in outside 0..T-1.
    """
    map = flow("lyapunov_spectrum", cells, params, xs, **how)
    count = map.size if count is None else count
    _check("lyapunov_spectrum", map, count, burn_in)
    Q, _ = _decomposed(jax.random.normal(key, (map.size, count), map.start.dtype))

    def one(start: Array, inputs: PyTree) -> Array:
        def step(state: tuple, given: PyTree) -> tuple[tuple, Array]:
            carry, Q = state
            push = lambda v: jax.jvp(lambda carry: map.step(given, carry), (carry,), (v,))  # noqa: E731
            carry, moved = jax.vmap(push, in_axes=1, out_axes=(None, 1))(Q)
            Q, logs = _decomposed(moved)
            return (carry, Q), logs

        return lax.scan(step, (start, Q), inputs)[1]

    local = map.per_example(one, axes=1)
    if map.keep is not None:
        local = jnp.where(map.keep[..., None], local, 0)
    exponents = _mean(map, local, burn_in)
    return LyapunovSpectrum(exponents, local, kaplan_yorke_dimension(exponents, map.size))


def largest_exponent(
    cells: Stack,
    params: PyTree,
    xs: Float[Array, "T ..."],
    key: Key[Array, ""],
    start: PyTree = None,
    *,
    burn_in: int = 0,
    **how: PyTree,
) -> Float[Array, "..."]:
    """The largest Lyapunov exponent along xs [T, *B, D], nats a step, [*B]; negative where the state forgets where it
    began.

    The mean, after `burn_in` steps, of ln |J_t v| for a direction v that is drawn with `key` and normed anew at every
    step (Benettin et al. 1980); -inf where a step forgets everything at once.

    Time: one product with J a step. Memory: S + T a row. Prefer `lyapunov_spectrum` for more than the largest, and
    where two exponents are close: then one direction takes long to turn into the first.
    """
    map = flow("largest_exponent", cells, params, xs, start=start, **how)
    _check("largest_exponent", map, 1, burn_in)
    first, _ = unit(jax.random.normal(key, (map.size,), map.start.dtype))

    def one(start: Array, inputs: PyTree) -> Array:
        def step(state: tuple, given: PyTree) -> tuple[tuple, Array]:
            carry, v = state
            carry, v = jax.jvp(lambda carry: map.step(given, carry), (carry,), (v,))
            v, log = unit(v)
            return (carry, v), log

        return lax.scan(step, (start, first), inputs)[1]

    return _mean(map, map.per_example(one, axes=1), burn_in)


def kaplan_yorke_dimension(exponents: Float[Array, "... k"], size: int) -> Float[Array, "..."]:
    """j + (lambda_1 + ... + lambda_j) / |lambda_{j+1}|, j the most exponents whose sum is not negative.

    (Kaplan & Yorke 1979; Frederickson et al. 1983.) exponents: the k largest of `size`, in any order. 0
    where all are negative: a fixed point. Where the sum of all k is not negative: `size` if they are all there are, for
    the attractor then fills the space; else NaN: more exponents are needed to tell. Time k log k; differentiable
    nowhere that matters, for j jumps.
    """
    count = exponents.shape[-1]
    if count > size:
        raise ValueError(f"kaplan_yorke_dimension: expected at most size = {size} exponents, got {count}")
    ordered = -jnp.sort(-exponents, axis=-1)
    sums = jnp.cumsum(ordered, axis=-1)
    whole = jnp.sum(sums >= 0, axis=-1)  # sums rise, then fall: those that are not negative come first
    sums = jnp.concatenate([jnp.zeros_like(sums[..., :1]), sums], axis=-1)
    following = jnp.concatenate([ordered, jnp.full_like(sums[..., :1], -1)], axis=-1)
    over, below = (jnp.take_along_axis(a, whole[..., None], axis=-1)[..., 0] for a in (sums, following))
    dimension = whole.astype(exponents.dtype) + over / jnp.abs(below)
    filled = jnp.where(whole == size, size, jnp.nan).astype(exponents.dtype)
    dimension = jnp.where(whole == count, filled, dimension)
    return jnp.where(jnp.isnan(exponents).any(-1), jnp.nan, dimension)


# Inside.


def _decomposed(matrix: Float[Array, "S k"]) -> tuple[Float[Array, "S k"], Float[Array, " k"]]:
    """Q of its QR decomposition with a positive diagonal of R, and the logarithms of that diagonal."""
    top = lax.stop_gradient(jnp.max(jnp.abs(matrix)))
    scale = jnp.where(top == 0, 1, top)
    Q, R = jnp.linalg.qr(matrix / scale)
    diagonal = jnp.diagonal(R)
    return Q * jnp.where(diagonal < 0, -1, 1).astype(Q.dtype), jnp.log(jnp.abs(diagonal)) + jnp.log(scale)


def _mean(map: Flow, local: Float[Array, "T ..."], burn_in: int) -> Float[Array, "..."]:
    """Over the steps after the burn-in that were not held; local [T, *B] or [T, *B, k]."""
    if map.keep is None:
        return local[burn_in:].mean(0)
    keep = map.keep[burn_in:]
    keep = keep if local.ndim == keep.ndim else keep[..., None]
    counted = jnp.sum(keep, axis=0).astype(local.dtype)
    return jnp.sum(jnp.where(keep, local[burn_in:], 0), axis=0) / counted


def _check(name: str, map: Flow, count: int, burn_in: int) -> None:
    if not 1 <= count <= map.size:
        raise ValueError(f"{name}: expected a count within 1..S = {map.size}, got {count}")
    if not 0 <= burn_in < map.length:
        raise ValueError(f"{name}: expected a burn-in within 0..T-1 = {map.length - 1}, got {burn_in}")
    if jnp.finfo(map.start.dtype).bits < 32:
        raise ValueError(f"{name}: expected parameters of float32 or float64, got {map.start.dtype}; cast them")
