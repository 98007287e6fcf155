"""Norms of products of Jacobians, J_T ... J_{T-k+1} = dcarry_T/dcarry_{T-k}, by their lag k, in natural logarithms.

Every way keeps unit vectors (or a matrix of norm 1) and the logarithm of what it divided by, so that nothing underflows
or overflows, in float32 at any lag; a norm of -inf is a product that is 0. None forms a Jacobian. Common arguments:

cells, params: one cell or a stack, as in `rnnlab.probes.flow`; xs [T, *B, D].
lags:  k of each product, 1..T, the number of steps counted back from the last one of the array; (T,) by default, all
       steps. K of them. A row that is shorter (`lengths`) is held at its end: its product at lag k has k - (T - length)
       factors.
how:   start, keep, lengths, join, as `layers` takes them.

They run under `jax.jit`; key draws one set of vectors, the same for every row, so that no row depends on the batch.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from rnnlab.probes.flow import Flow, Stack, flow, unit
from rnnlab.types import PyTree

DENSE = 256  # up to this size of the carry a dense product is exact and no slower than ten iterations


class DenseProduct(NamedTuple):
    """Of the dense product, exact to rounding. spectral, frobenius: ln of the norms. singular_values: ln, largest
    first, NaN below S eps of the largest, where the product holds rounding alone. condition: ln(sigma_1/sigma_S).
    """

    spectral: Float[Array, "K ..."]
    frobenius: Float[Array, "K ..."]
    singular_values: Float[Array, "K ... S"]
    condition: Float[Array, "K ..."]
    method = "dense"


class EstimatedProduct(NamedTuple):
    """spectral: ln of the norm by power iteration, never above the true one. change: by how much the last iteration
    raised it. frobenius: ln of the norm by Hutchinson's estimator. error: its standard error, as seen in the probes.
    """

    spectral: Float[Array, "K ..."]
    frobenius: Float[Array, "K ..."]
    change: Float[Array, "K ..."]
    error: Float[Array, "K ..."]
    method = "power iteration and Hutchinson"


class Estimate(NamedTuple):
    """value: ln of a norm. error: of the estimate, as its function says."""

    value: Float[Array, "K ..."]
    error: Float[Array, "K ..."]


def product_norms(
    cells: Stack,
    params: PyTree,
    xs: Float[Array, "T ..."],
    key: Key[Array, ""],
    *,
    lags: Sequence[int] | np.ndarray | None = None,
    dense_up_to: int = DENSE,
    **how: PyTree,
) -> DenseProduct | EstimatedProduct:
    """Norms of the products by the way that the size of the carry asks for; `.method` of the result says which.

    S <= dense_up_to: `dense_product`, which draws nothing. Above, `power_iteration` with 10 iterations and `hutchinson`
    with 64 probes. Time and memory are theirs; ask for one of the three where a figure must not change its method
    with the size of the network.
    """
    map = flow("product_norms", cells, params, xs, **how)
    chosen = _checked_lags("product_norms", map, lags)
    if map.size <= dense_up_to:
        return _dense(map, chosen)
    iterated, probed = jax.random.split(key)
    spectral, frobenius = _power(map, iterated, chosen, 10), _hutchinson(map, probed, chosen, 64)
    return EstimatedProduct(spectral.value, frobenius.value, spectral.error, frobenius.error)


def dense_product(
    cells: Stack,
    params: PyTree,
    xs: Float[Array, "T ..."],
    *,
    lags: Sequence[int] | np.ndarray | None = None,
    **how: PyTree,
) -> DenseProduct:
    """All singular values, and with them every norm, of the products: [K, *B] and [K, *B, S].

    The rows of the identity are pulled back through the steps (vjp), rescaled together. Time: S pulls a step for all
    lags at once, T S^3 for a dense cell, and K decompositions of 10 S^3 or so. Memory: T S + K S^2 a row. Exact, and
    the only way to the smaller singular values; prefer `power_iteration` above S = 256, `lyapunov_spectrum` for the
    lesser directions of a long product, which here round off (NaN).
    """
    map = flow("dense_product", cells, params, xs, **how)
    return _dense(map, _checked_lags("dense_product", map, lags))


def power_iteration(
    cells: Stack,
    params: PyTree,
    xs: Float[Array, "T ..."],
    key: Key[Array, ""],
    *,
    lags: Sequence[int] | np.ndarray | None = None,
    iterations: int = 10,
    **how: PyTree,
) -> Estimate:
    """ln of the spectral norms [K, *B]: one jvp forward and one vjp back through all steps an iteration, for all lags.

    The iterates v, P^T P v, ... are kept and made orthonormal, and the estimate is the largest singular value of P on
    their span (Rayleigh-Ritz; Golub & Kahan 1965), which at the same price is far better than the last iterate alone:
    where sigma_1/sigma_2 = 1.2 ten iterations err by 1e-8 and not 1e-3. It is never above the true norm. error: what
    the last iteration added; take more iterations where it is not small, as at short lags, whose leading singular
    values lie close.

    Time: 2 iterations K products with a step's Jacobian a step, T iterations K S H. Memory: T S + iterations K S a row.
    Prefer `dense_product` up to S = 256 or for many lags.
    """
    map = flow("power_iteration", cells, params, xs, **how)
    if iterations < 1:
        raise ValueError(f"power_iteration: expected iterations >= 1, got {iterations}")
    return _power(map, key, _checked_lags("power_iteration", map, lags), iterations)


def hutchinson(
    cells: Stack,
    params: PyTree,
    xs: Float[Array, "T ..."],
    key: Key[Array, ""],
    *,
    lags: Sequence[int] | np.ndarray | None = None,
    probes: int = 64,
    **how: PyTree,
) -> Estimate:
    """ln of the Frobenius norms [K, *B]: ||P||_F^2 = E ||P^T v||^2, v of random signs (Hutchinson 1990).

    One backward pass with `probes` cotangents serves all lags. error: the standard error of ln ||P||_F, from the
    spread of the probes; at most sqrt(2 / probes) / 2 in expectation, .088 for 64, which a product of rank one comes
    close to.

    Time: `probes` pulls a step, T probes S H. Memory: T S + probes (S + T) a row. Prefer `dense_product` where S is
    not above `probes`: it is exact for that price, but for its decompositions.
    """
    map = flow("hutchinson", cells, params, xs, **how)
    if probes < 2:
        raise ValueError(f"hutchinson: expected at least 2 probes, for there is an error to tell, got {probes}")
    return _hutchinson(map, key, _checked_lags("hutchinson", map, lags), probes)


# Inside.


def _checked_lags(name: str, map: Flow, lags: Sequence[int] | np.ndarray | None) -> tuple[int, ...]:
    lags = (map.length,) if lags is None else tuple(int(lag) for lag in lags)
    if not lags or min(lags) < 1 or max(lags) > map.length:
        raise ValueError(f"{name}: expected lags within 1..T = {map.length}, got {lags}")
    if jnp.finfo(map.start.dtype).bits < 32:
        raise ValueError(f"{name}: expected parameters of float32 or float64, got {map.start.dtype}; cast them")
    return lags


def _pull(map: Flow, given: PyTree, carry: Array, rows: Float[Array, "N S"]) -> Float[Array, "N S"]:
    """rows J of one step."""
    _, pull = jax.vjp(lambda carry: map.step(given, carry), carry)
    return jax.vmap(lambda row: pull(row)[0])(rows)


def _push(map: Flow, given: PyTree, carry: Array, rows: Float[Array, "N S"]) -> Float[Array, "N S"]:
    """rows J^T of one step: J of every row."""
    move = lambda row: jax.jvp(lambda carry: map.step(given, carry), (carry,), (row,))[1]  # noqa: E731
    return jax.vmap(move)(rows)


def _dense(map: Flow, lags: tuple[int, ...]) -> DenseProduct:
    size, kind = map.size, map.start.dtype
    # Which lag's place a step's product goes to; one that nobody asked for is out of bounds, and dropped.
    unique = sorted(set(lags))
    places = jnp.full(map.length, len(unique)).at[map.length - jnp.asarray(unique)].set(jnp.arange(len(unique)))

    def one(start: Array, inputs: PyTree) -> tuple[Array, Array]:
        def step(state: tuple, given: tuple) -> tuple[tuple, None]:
            (product, log_scale, products, logs), (place, carry, given) = state, given
            product, grown = unit(_pull(map, given, carry, product), (-2, -1))
            log_scale = log_scale + grown
            products = products.at[place].set(product, mode="drop")
            return (product, log_scale, products, logs.at[place].set(log_scale, mode="drop")), None

        kept = jnp.zeros((len(unique), size, size), kind), jnp.zeros(len(unique), kind)
        given = places, map.states(start, inputs), inputs
        (_, _, products, logs), _ = lax.scan(
            step, (jnp.eye(size, dtype=kind), jnp.zeros((), kind), *kept), given, reverse=True
        )
        order = jnp.asarray([unique.index(lag) for lag in lags])
        return jnp.linalg.svd(products, compute_uv=False)[order], logs[order]

    values, log_scale = map.per_example(one, axes=1)
    resolved = values > size * jnp.finfo(kind).eps * values[..., :1]
    logs = log_scale[..., None] + jnp.where(resolved, jnp.log(values), jnp.nan)
    spectral = log_scale + jnp.log(values[..., 0])
    return DenseProduct(spectral, log_scale, logs, spectral - logs[..., -1])


def _power(map: Flow, key: Array, lags: tuple[int, ...], iterations: int) -> Estimate:
    kind, count = map.start.dtype, min(iterations, map.size)
    inside = jnp.arange(map.length)[:, None] >= map.length - jnp.asarray(lags)  # [T, K]: the product's own steps
    first, _ = unit(jax.random.normal(key, (len(lags), map.size), kind))

    def one(start: Array, inputs: PyTree) -> tuple[Array, Array]:
        states = map.states(start, inputs)

        def through(derivative: Callable, vectors: Array, reverse: bool) -> tuple[Array, Array]:
            """Every lag's vector through its own steps, as unit vectors and what they grew by [K]."""

            def step(state: tuple, given: tuple) -> tuple[tuple, None]:
                (vectors, logs), (own, carry, given) = state, given
                moved, grown = unit(derivative(map, given, carry, vectors))
                return (jnp.where(own[:, None], moved, vectors), jnp.where(own, logs + grown, logs)), None

            begin = vectors, jnp.zeros(len(lags), kind)
            return lax.scan(step, begin, (inside, states, inputs), reverse=reverse)[0]

        def iterate(basis: Array, n: Array) -> tuple[Array, tuple[Array, Array]]:
            image, log = through(_push, basis[n], False)
            back, _ = through(_pull, image, True)
            for _ in range(2):  # once leaves what rounding took
                inner = jnp.einsum("nks,ks->nk", basis, back, precision=lax.Precision.HIGHEST)
                back = back - jnp.einsum("nks,nk->ks", basis, inner, precision=lax.Precision.HIGHEST)
            back, log_left = unit(back)
            # What is left of a unit vector by rounding has no direction: the span holds all that there is to find.
            back = jnp.where(log_left[:, None] > math.log(map.size * jnp.finfo(kind).eps), back, 0)
            return basis.at[n + 1].set(back, mode="drop"), (image, log)

        basis = jnp.zeros((count, len(lags), map.size), kind).at[0].set(first)
        _, (images, logs) = lax.scan(iterate, basis, jnp.arange(count))
        top = jnp.max(logs, axis=0)
        top = jnp.where(jnp.isfinite(top), top, 0)
        scaled = jnp.moveaxis(images * jnp.exp(logs - top)[..., None], 0, 1)  # [K, iterations, S]
        both = jnp.stack([scaled, scaled.at[:, -1].set(0)])  # with and without the last
        value, before = top + jnp.log(jnp.linalg.norm(both, 2, axis=(-2, -1)))
        return value, jnp.where(jnp.isfinite(value), value - before, 0)

    return Estimate(*map.per_example(one, axes=1))


def adjoint_norms(map: Flow, rows: Float[Array, "N S"]) -> Float[Array, "T *B N"]:
    """ln ||v^T J_T ... J_t|| of every row v at every t: the adjoint of a last-step loss, in the log domain."""

    def one(start: Array, inputs: PyTree) -> Array:
        def step(state: tuple, given: tuple) -> tuple[tuple, Array]:
            (rows, logs), (carry, given) = state, given
            rows, grown = unit(_pull(map, given, carry, rows))
            return (rows, logs + grown), logs + grown

        return lax.scan(step, unit(rows), (map.states(start, inputs), inputs), reverse=True)[1]

    return map.per_example(one, axes=1)


def _hutchinson(map: Flow, key: Array, lags: tuple[int, ...], probes: int) -> Estimate:
    logs = adjoint_norms(map, jax.random.rademacher(key, (probes, map.size), map.start.dtype))
    squares = 2 * logs[map.length - jnp.asarray(lags)]
    top = jnp.max(squares, axis=-1, keepdims=True)
    top = jnp.where(jnp.isfinite(top), top, 0)
    scaled = jnp.exp(squares - top)
    mean, spread = scaled.mean(-1), scaled.std(-1, ddof=1)
    error = spread / probes**0.5 / 2 / jnp.where(mean > 0, mean, 1)
    return Estimate((top[..., 0] + jnp.log(mean)) / 2, error)
