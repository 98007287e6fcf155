"""Lyapunov exponents: how fast two trajectories that begin close by part, or meet."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from rnnlab.engines.jacobians import Vectors
from rnnlab.noise import quiet
from rnnlab.types import Cell, PyTree


def largest_exponent(
    cell: Cell, params: PyTree, xs: Float[Array, "T ..."], key: Key[Array, ""], start: PyTree = None
) -> Float[Array, ""]:
    """The largest Lyapunov exponent along xs [T, *D], nats a step; negative where the state forgets where it began.

    The mean of ln |J_t v| for a direction v that is drawn with `key` and normed anew at every step (Benettin et al.
    1980); -inf where a step forgets everything at once. For a batch, `jax.vmap`.
    """
    cell = quiet(cell)
    weights = cell.prepare(params)
    start = cell.start(weights, ()) if start is None else start
    vectors = Vectors(jax.eval_shape(lambda weights: cell.start(weights, ()), weights))

    def moved(z: PyTree, flat: Array) -> Array:
        return vectors.ravel(cell.step(weights, vectors.unravel(flat), z))

    def step(state: tuple, z: PyTree) -> tuple:
        flat, v = state
        flat, v = jax.jvp(partial(moved, z), (flat,), (v,))
        size = jnp.linalg.norm(v)
        return (flat, v / jnp.where(size > 0, size, 1)), jnp.log(size)

    flat = vectors.ravel(start)
    v = jax.random.normal(key, flat.shape, flat.dtype)
    return lax.scan(step, (flat, v / jnp.linalg.norm(v)), cell.drive(weights, xs))[1].mean()
