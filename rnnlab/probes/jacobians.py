"""Jacobians of the recurrence, J_t = dcarry_t/dcarry_{t-1}, one by one; their products are in `products`."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from rnnlab.probes.flow import Stack, flow, unit
from rnnlab.types import PyTree


def step_jacobians(
    cells: Stack, params: PyTree, xs: Float[Array, "T ..."], start: PyTree = None, **how: PyTree
) -> Float[Array, "T ... S S"]:
    """J_t along xs [T, *B, D] at every step: [T, *B, S, S], S the size of the carry, its leaves ravelled.

    cells: one cell, or a stack: then S is the sum over its layers and J_t is one step of the whole stack (block lower
    triangular; `rnnlab.probes.flow` says how a tap differs). how: keep, lengths, join, as `layers` takes them; where a
    row is held J_t is the identity.

    Time: T forward passes of a step in S directions, T S^2 H for a dense cell. Memory: T B S^2; where only norms of
    products are wanted, `product_norms` keeps less.
    """
    map = flow("step_jacobians", cells, params, xs, start=start, **how)

    def one(start: Array, inputs: PyTree) -> Array:
        jacobian = lambda given, carry: jax.jacfwd(lambda carry: map.step(given, carry))(carry)  # noqa: E731
        return jax.vmap(jacobian)(inputs, map.states(start, inputs))

    return map.per_example(one, axes=1)


def product_singular_values(jacobians: Float[Array, "T ... S S"]) -> Float[Array, "T ... S"]:
    """ln of the singular values of J_T ... J_t for every t, largest first: what dcarry_T/dcarry_{t-1} stretches.

    The product is rescaled at every step and its logarithm kept apart, so that it neither underflows nor
    overflows; singular values far below the largest (a ratio of 1e-16 in float64) are lost all the same, and what
    stands there is rounding: `dense_product` says NaN instead.

    Time: T products and T decompositions of [S, S], S^3 each. Memory: T S^2, the Jacobians'. Where a few t will do, or
    the Jacobians are not at hand, `dense_product` is cheaper; above S = 256 `power_iteration` is.
    """

    def step(state: tuple, J: Array) -> tuple:
        product, log_scale = state
        product, size = unit(product @ J, (-2, -1))
        log_scale = log_scale + size
        return (product, log_scale), log_scale[..., None] + jnp.log(jnp.linalg.svd(product, compute_uv=False))

    batch = jacobians.shape[1:-2]
    eye = jnp.broadcast_to(jnp.eye(jacobians.shape[-1], dtype=jacobians.dtype), jacobians.shape[1:])
    return lax.scan(step, (eye, jnp.zeros(batch, jacobians.dtype)), jacobians, reverse=True)[1]
