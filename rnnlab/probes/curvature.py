"""Second order: Hessian-vector products through an unroll, its largest eigenvalue, and what memory does to it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, Shaped

from rnnlab.engines import scan
from rnnlab.layers import layers
from rnnlab.types import Cell, PyTree

Objective = Callable[[PyTree], Array]


class Sharpness(NamedTuple):
    """largest, smallest: the ends of the Hessian's spectrum, by their signs: a saddle has a negative smallest.
    error: how far an eigenvalue is from each of the two at most, largest first. direction: unit vector of the largest,
    as the parameters."""

    largest: Float[Array, ""]
    smallest: Float[Array, ""]
    error: Float[Array, " 2"]
    direction: PyTree


def hessian_product(objective: Objective, params: PyTree, vector: PyTree) -> PyTree:
    """H v, H the Hessian of a scalar `objective` of the parameters, v and H v as the parameters.

    Forward over reverse (Pearlmutter 1994). The objective holds the unroll: any model, depth, lengths or engine. On
    `fused` it works too, for what is differentiated forward is its hand-written backward pass, ordinary code; it is
    jvp of the unroll itself that `fused` refuses. Chunked unrolls keep their memory bound.
    Cost: 2 to 3 gradients, and their memory twice. For the whole matrix of a small network `jax.hessian`.
    """
    return jax.jvp(jax.grad(objective), (params,), (vector,))[1]


def sharpness(objective: Objective, params: PyTree, key: Key[Array, ""], *, iterations: int = 30) -> Sharpness:
    """The largest and the smallest eigenvalue of the Hessian, by Lanczos from a random direction.

    Every new vector is made orthogonal to all before, twice, so that no eigenvalue comes up again. The errors are
    bounds of a symmetric matrix, ||H u - theta u||, beside rounding. They do not say that nothing lies beyond: a start
    that happens to be orthogonal to the first eigenvector would miss it.
    Cost: `iterations` Hessian products and iterations x P floats. The ends converge first; more iterations than
    parameters change nothing. Prefer a power iteration only where memory forbids: it finds the largest in size, of
    either sign, and slowly. Raises ValueError for iterations < 1.
    """
    if iterations < 1:
        raise ValueError(f"sharpness: expected iterations >= 1, got {iterations}")
    flat, unravel = ravel_pytree(params)
    product = lambda v: ravel_pytree(hessian_product(objective, params, unravel(v)))[0]  # noqa: E731
    start = jax.random.normal(key, flat.shape, flat.dtype)
    basis = jnp.zeros((iterations + 1, *flat.shape), flat.dtype).at[0].set(start / jnp.linalg.norm(start))

    def step(state: tuple, n: Array) -> tuple:
        basis, scale, exhausted, first = state
        w = product(basis[n])
        scale = jnp.maximum(scale, jnp.linalg.norm(w))
        along = basis[n] @ w
        for _ in range(2):
            w = w - basis.T @ (basis @ w)
        size = jnp.linalg.norm(w)
        # Exhausted: the space that the start spans is whole. A value from within the spectrum keeps its place.
        along = jnp.where(exhausted, first, along)
        ended = exhausted | (size <= 10 * float(jnp.finfo(flat.dtype).eps) * scale)
        basis = basis.at[n + 1].set(jnp.where(ended, 0, w / jnp.where(ended, 1, size)))
        state = basis, scale, ended, jnp.where(n == 0, along, first)
        return state, (along, jnp.where(ended, 0, size))

    zero = jnp.zeros((), flat.dtype)
    (basis, *_), (diagonal, beside) = lax.scan(step, (basis, zero, jnp.asarray(False), zero), jnp.arange(iterations))
    tridiagonal = jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1)
    values, vectors = jnp.linalg.eigh(tridiagonal)
    error = jnp.abs(beside[-1] * vectors[-1, jnp.asarray([-1, 0])])
    direction = basis[:-1].T @ vectors[:, -1]
    return Sharpness(values[-1], values[0], error, unravel(direction / jnp.linalg.norm(direction)))


def output_sensitivity(
    cells: Cell | Sequence[Cell], params: PyTree, xs: Shaped[Array, "T ..."], direction: PyTree, **how: PyTree
) -> Float[Array, "T ..."]:
    """||dy_t/dtheta v||^2 of every step and example [T, *B], v = `direction`, as the parameters.

    Its mean is v^T H v of half the squared error, per step, where the targets are met (the Gauss-Newton part), and so
    what memory does to sharpness (Zucchet & Orvieto 2024, section 3): h_t = lambda h_{t-1} + x_t with white x of
    variance 1 has dh_t/dlambda = sum_n n lambda^(n-1) x_{t-n}, of variance (1 + lambda^2) / (1 - lambda^2)^3.
    how: as `layers` takes it; the engine is `scan` unless given, for `fused` has no forward mode.
    Cost: about two forward passes. Raises ValueError where v is not like the parameters.
    """
    if jax.tree.structure(direction) != jax.tree.structure(params):
        raise ValueError(
            f"output_sensitivity: expected a direction like the parameters, {jax.tree.structure(params)}, got "
            f"{jax.tree.structure(direction)}"
        )
    how = {"engine": scan, **how}
    stack, one = ((cells,), True) if isinstance(cells, Cell) else (cells, False)
    outputs = lambda params: layers(stack, (params,) if one else params, xs, **how).ys  # noqa: E731
    moved = jax.jvp(outputs, (params,), (direction,))[1]
    lead = 1 + xs.ndim - 1 - stack[0].input_rank
    return (moved.reshape(*moved.shape[:lead], -1) ** 2).sum(-1)
