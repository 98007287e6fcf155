"""What linear state spaces with a complex diagonal share: everything but how their weights come about."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rnnlab.cells.affine import complex_
from rnnlab.cells.complex import Complex, times
from rnnlab.cells.products import product
from rnnlab.types import Cell, PyTree


class StateSpaceWeights(NamedTuple):
    """a: what a step multiplies the state by. W, V: input and output matrices. P: skip matrix."""

    a: Complex
    W: Complex
    V: Float[Array, "2 N H"]
    P: Float[Array, "D H"]


def state_space(size: int, init: Callable[..., PyTree], prepare: Callable[..., StateSpaceWeights]) -> Cell:
    """s_t = a * s_{t-1} + x_t W,   y_t = Re(s_t V) + x_t P, of `size` complex numbers."""

    def start(weights: StateSpaceWeights, batch_shape: tuple[int, ...]) -> Complex:
        zeros = jnp.zeros((*batch_shape, size), weights.V.dtype)
        return Complex(zeros, zeros)

    def drive(weights: StateSpaceWeights, xs: Float[Array, "*B D"]) -> Complex:
        return Complex(product(xs, weights.W.re), product(xs, weights.W.im))

    def step(weights: StateSpaceWeights, carry: Complex, z: Complex) -> Complex:
        return jax.tree.map(jnp.add, times(weights.a, carry), z)

    def read(weights: StateSpaceWeights, carry: Complex, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
        return product(carry.re, weights.V[0]) - product(carry.im, weights.V[1]) + product(xs, weights.P)

    def coefficients(weights: StateSpaceWeights, z: Complex) -> tuple[Complex, Complex]:
        return jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), weights.a, z), z

    return Cell(init, start, drive, step, read, prepare, affine=complex_(coefficients), diagonal=True)
