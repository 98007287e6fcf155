"""The coupled oscillatory RNN: damped, driven oscillators."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.products import product
from rnnlab.types import Cell


class CoRNNParams(NamedTuple):
    """W: input. U: from positions and velocities, G = 2H. b: bias."""

    W: Float[Array, "D H"]
    U: Float[Array, "G H"]
    b: Float[Array, " H"]


class CoRNNCarry(NamedTuple):
    """y: positions. z: velocities."""

    y: Float[Array, "*B H"]
    z: Float[Array, "*B H"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def co_rnn(
    hidden: int,
    *,
    dt: float = 0.05,
    gamma: float = 1.0,
    epsilon: float = 1.0,
    kernel: inits.Initializer = inits.uniform(),
    recurrent: inits.Initializer = inits.uniform(),
    bias: inits.Initializer = inits.uniform(),
) -> Cell:
    """Coupled oscillatory RNN (Rusch & Mishra 2021, equation 3, its damping implicit):

        z_t = z_{t-1} + dt (tanh(x_t W + [y_{t-1}, z_{t-1}] U + b) - gamma y_{t-1} - epsilon z_t)
        y_t = y_{t-1} + dt z_t

    x [*B D] -> y [*B H], which is y_t. dt: time step; gamma: frequency squared; epsilon: damping. The paper has the
    damping of z_t and of z_{t-1}; that of z_t is stable whatever epsilon, and what its bounds are for.
    Defaults: all of U(-1/sqrt(H), 1/sqrt(H)), as in their program.
    gamma |y_t|^2 + |z_t|^2 <= t H dt from a start of 0 where epsilon >= (1 + gamma dt) / 2. With U = 0 a step's
    Jacobian has determinant (1 + epsilon dt)^-1 in every unit.
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> CoRNNParams:
        W, U, b = jax.random.split(key, 3)
        return CoRNNParams(
            W=kernel(W, (dim, hidden), dtype), U=recurrent(U, (2 * hidden, hidden), dtype), b=bias(b, (hidden,), dtype)
        )

    def start(weights: CoRNNParams, batch_shape: tuple[int, ...]) -> CoRNNCarry:
        zeros = jnp.zeros((*batch_shape, hidden), weights.U.dtype)
        return CoRNNCarry(y=zeros, z=zeros)

    def drive(weights: CoRNNParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
        return product(xs, weights.W)

    def step(weights: CoRNNParams, carry: CoRNNCarry, z: Float[Array, "*B H"]) -> CoRNNCarry:
        force = jnp.tanh(z + jnp.concatenate(carry, axis=-1) @ weights.U + weights.b) - gamma * carry.y
        velocity = (carry.z + dt * force) / (1 + dt * epsilon)
        return CoRNNCarry(y=carry.y + dt * velocity, z=velocity)

    def read(weights: CoRNNParams, carry: CoRNNCarry, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
        return carry.y

    return Cell(init, start, drive, step, read)
