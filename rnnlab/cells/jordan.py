"""The Jordan network: what comes back is the output, not the hidden layer."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.products import product
from rnnlab.types import Cell


class JordanParams(NamedTuple):
    """W: input. U: from the last output. b: bias. V, c: output matrix and bias."""

    W: Float[Array, "D H"]
    U: Float[Array, "P H"]
    b: Float[Array, " H"]
    V: Float[Array, "H P"]
    c: Float[Array, " P"]


class JordanCarry(NamedTuple):
    """y: the last output, the context of the next step."""

    y: Float[Array, "*B P"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def jordan(
    hidden: int,
    *,
    outputs: int | None = None,
    activation: Callable = jnp.tanh,
    output_activation: Callable = jnp.tanh,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    projector: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
    output_bias: inits.Initializer = inits.constant(),
) -> Cell:
    """Jordan network (Jordan 1986), with context units that keep nothing of their own (his mu = 0):

        y_t = output_activation(activation(x_t W + y_{t-1} U + b) V + c)

    x [*B D] -> y [*B P], P = `outputs` or H. Defaults: orthogonal U and V, normal W, biases 0.
    """
    width = hidden if outputs is None else outputs

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> JordanParams:
        W, U, b, V, c = jax.random.split(key, 5)
        return JordanParams(
            W=kernel(W, (dim, hidden), dtype), U=recurrent(U, (width, hidden), dtype), b=bias(b, (hidden,), dtype),
            V=projector(V, (hidden, width), dtype), c=output_bias(c, (width,), dtype),
        )  # fmt: skip

    def start(weights: JordanParams, batch_shape: tuple[int, ...]) -> JordanCarry:
        return JordanCarry(y=jnp.zeros((*batch_shape, width), weights.U.dtype))

    def drive(weights: JordanParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
        return product(xs, weights.W)

    def step(weights: JordanParams, carry: JordanCarry, z: Float[Array, "*B H"]) -> JordanCarry:
        h = activation(z + carry.y @ weights.U + weights.b)
        return JordanCarry(y=output_activation(h @ weights.V + weights.c))

    def read(weights: JordanParams, carry: JordanCarry, xs: Float[Array, "*B D"]) -> Float[Array, "*B P"]:
        return carry.y

    return Cell(init, start, drive, step, read)
