"""Jacobians of the recurrence, J_t = dcarry_t/dcarry_{t-1}, and of its products over time."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from rnnlab.engines import scan
from rnnlab.noise import quiet
from rnnlab.types import Cell, PyTree
from rnnlab.unroll import unroll


def step_jacobians(
    cell: Cell, params: PyTree, xs: Float[Array, "T ..."], start: PyTree = None
) -> Float[Array, "T S S"]:
    """J_t of one sequence xs [T, *D], at every step: [T, S, S], S the size of the carry, its leaves ravelled.

    Memory T S^2; time T forward passes of a step in S directions. For a batch, `jax.vmap`.
    """
    cell = quiet(cell)
    weights = cell.prepare(params)
    start = cell.start(weights, ()) if start is None else start
    carries = unroll(cell, params, xs, start=start, engine=scan).carries  # forward mode may be taken of this
    before = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), start, carries)
    _, unravel = ravel_pytree(start)

    def jacobian(carry: PyTree, z: PyTree) -> Array:
        flat = lambda s: ravel_pytree(cell.step(weights, unravel(s), z))[0]  # noqa: E731
        return jax.jacfwd(flat)(ravel_pytree(carry)[0])

    return jax.vmap(jacobian)(before, cell.drive(weights, xs))


def product_singular_values(jacobians: Float[Array, "T S S"]) -> Float[Array, "T S"]:
    """ln of the singular values of J_T ... J_t for every t, largest first: what dcarry_T/dcarry_{t-1} stretches.

    The product is rescaled at every step and its logarithm kept apart, so that it neither underflows nor
    overflows; singular values far below the largest (a ratio of 1e-16 in float64) are lost all the same.
    """

    def step(state: tuple, J: Array) -> tuple:
        product, log_scale = state
        product = product @ J
        size = jnp.linalg.norm(product)
        size = jnp.where(size > 0, size, 1)
        product, log_scale = product / size, log_scale + jnp.log(size)
        return (product, log_scale), log_scale + jnp.log(jnp.linalg.svd(product, compute_uv=False))

    eye = jnp.eye(jacobians.shape[-1], dtype=jacobians.dtype)
    return lax.scan(step, (eye, jnp.zeros((), jacobians.dtype)), jacobians, reverse=True)[1]
