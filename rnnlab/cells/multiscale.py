"""Long expressive memory: two states, each with a time step of its own in every unit."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.products import product
from rnnlab.types import Cell


class LEMParams(NamedTuple):
    """The time steps of z and of y, the candidates of z and of y, G = 4H. W: input. b: bias.

    U: from y, to all but the last. V: from z, to the last.
    """

    W: Float[Array, "D G"]
    U: Float[Array, "H F"]
    V: Float[Array, "H H"]
    b: Float[Array, " G"]


class LEMCarry(NamedTuple):
    """y: output. z: the other state."""

    y: Float[Array, "*B H"]
    z: Float[Array, "*B H"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def lem(
    hidden: int,
    *,
    dt: float = 1.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """Long expressive memory (Rusch, Mishra, Erichson & Mahoney 2022, equation 3):

        p = dt sigmoid(x_t W_p + y_{t-1} U_p + b_p),   q = dt sigmoid(x_t W_q + y_{t-1} U_q + b_q)
        z_t = (1 - p) * z_{t-1} + p * tanh(x_t W_z + y_{t-1} U_z + b_z)
        y_t = (1 - q) * y_{t-1} + q * tanh(x_t W_y + z_t V + b_y)

    x [*B D] -> y [*B H]. dt: the longest time step. Defaults: dt = 1, the paper's; orthogonal U block by block and V,
    normal W, b = 0. With U = V = W = 0, dy_T/dy_t = (1 - dt/2)^(T-t), and z's likewise.
    Every |y_t|, |z_t| <= 1 - (1 - dt)^t from a start of 0. Raises ValueError unless 0 < dt <= 1.
    """
    if not 0 < dt <= 1:
        raise ValueError(f"lem: expected 0 < dt <= 1, got {dt}")

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> LEMParams:
        W, U, V, b = jax.random.split(key, 4)
        return LEMParams(
            W=inits.gates([kernel] * 4, W, (dim, hidden), dtype),
            U=inits.gates([recurrent] * 3, U, (hidden, hidden), dtype),
            V=recurrent(V, (hidden, hidden), dtype), b=inits.gates([bias] * 4, b, (hidden,), dtype),
        )  # fmt: skip

    def start(weights: LEMParams, batch_shape: tuple[int, ...]) -> LEMCarry:
        zeros = jnp.zeros((*batch_shape, hidden), weights.U.dtype)
        return LEMCarry(y=zeros, z=zeros)

    def drive(weights: LEMParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
        return product(xs, weights.W)

    def step(weights: LEMParams, carry: LEMCarry, z: Float[Array, "*B G"]) -> LEMCarry:
        of_y, last = jnp.split(z + weights.b, [3 * hidden], axis=-1)
        p, q, new = jnp.split(of_y + carry.y @ weights.U, 3, axis=-1)
        p, q = dt * jax.nn.sigmoid(p), dt * jax.nn.sigmoid(q)
        slow = (1 - p) * carry.z + p * jnp.tanh(new)
        return LEMCarry(y=(1 - q) * carry.y + q * jnp.tanh(last + slow @ weights.V), z=slow)

    def read(weights: LEMParams, carry: LEMCarry, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
        return carry.y

    return Cell(init, start, drive, step, read)
