"""The simple recurrent network."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.types import Cell


class ElmanParams(NamedTuple):
    """W: input matrix. U: recurrent matrix. b: bias."""

    W: Float[Array, "D H"]
    U: Float[Array, "H H"]
    b: Float[Array, " H"]


class ElmanCarry(NamedTuple):
    """h: hidden state."""

    h: Float[Array, "*B H"]


def elman(
    hidden: int,
    *,
    activation: Callable[[Array], Array] = jnp.tanh,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """The generic recurrent cell (Elman 1990):

        h_t = activation(x_t W + h_{t-1} U + b),   y_t = h_t

    x [*B D] -> y [*B H]. tanh and relu are the two of torch.nn.RNN; any elementwise function will do
    (the identity gives the linear network of the closed forms).
    Defaults: orthogonal U (singular values 1), normal W, b = 0.
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> ElmanParams:
        W, U, b = jax.random.split(key, 3)
        return ElmanParams(
            W=kernel(W, (dim, hidden), dtype), U=recurrent(U, (hidden, hidden), dtype), b=bias(b, (hidden,), dtype)
        )

    def start(weights: ElmanParams, batch_shape: tuple[int, ...]) -> ElmanCarry:
        return ElmanCarry(h=jnp.zeros((*batch_shape, hidden), weights.U.dtype))

    def drive(weights: ElmanParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
        return xs @ weights.W + weights.b

    def step(weights: ElmanParams, carry: ElmanCarry, z: Float[Array, "*B H"]) -> ElmanCarry:
        return ElmanCarry(h=activation(z + carry.h @ weights.U))

    def read(weights: ElmanParams, carry: ElmanCarry, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
        return carry.h

    return Cell(init, start, drive, step, read)
