"""The simple recurrent network."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.hidden import Hidden, output, zeros
from rnnlab.cells.products import outers, product
from rnnlab.noise import Masks, dropout
from rnnlab.types import Cell, Local


class ElmanParams(NamedTuple):
    """W: input matrix. U: recurrent matrix. b: bias."""

    W: Float[Array, "D H"]
    U: Float[Array, "H H"]
    b: Float[Array, " H"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def elman(
    hidden: int,
    *,
    activation: Callable[[Array], Array] = jnp.tanh,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
    hidden_dropout: float | int = 0.0,
) -> Cell:
    """The generic recurrent cell (Elman 1990):

        h_t = activation(x_t W + h_{t-1} U + b),   y_t = h_t

    x [*B D] -> y [*B H]. tanh and relu are the two of torch.nn.RNN; any elementwise function will do
    (the identity gives the linear network of the closed forms).
    Defaults: orthogonal U (singular values 1), normal W, b = 0. In training (`unroll(..., key=)`), `hidden_dropout`
    leaves units of h_{t-1} out of its product, the same at every step (`rnnlab.noise.dropout`).
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> ElmanParams:
        W, U, b = jax.random.split(key, 3)
        return ElmanParams(
            W=kernel(W, (dim, hidden), dtype), U=recurrent(U, (hidden, hidden), dtype), b=bias(b, (hidden,), dtype)
        )

    def drive(weights: ElmanParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
        return product(xs, weights.W)

    def step(weights: ElmanParams, carry: Hidden, z: Float[Array, "*B H"], masks: Masks = Masks()) -> Hidden:
        return Hidden(h=activation(z + (carry.h * masks.hidden) @ weights.U + weights.b))

    def forward(weights: ElmanParams, carry: Hidden, z: Float[Array, "*B H"]) -> tuple[Hidden, Array]:
        carry = step(weights, carry, z)
        return carry, carry.h

    def backward(transposed: ElmanParams, h: Array, dcarry: Hidden) -> tuple[Hidden, Array]:
        da = dcarry.h * SLOPES[activation](h)
        return Hidden(da @ transposed.U), da

    local = Local(forward, backward, _deferred, _transposed, in_place=activation is jnp.tanh)
    local = local if activation in SLOPES else None
    cell = Cell(init, zeros(hidden), drive, step, output, local=local)
    return dropout(cell, step, hidden=hidden_dropout, candidate=0.0)


# The derivative of an activation, from its value. Another function may not even be elementwise: it has no `local`.
SLOPES = {jnp.tanh: lambda h: 1 - h * h, jax.nn.relu: lambda h: (h > 0).astype(h.dtype)}


def _deferred(weights: ElmanParams, xs: Array, carries: Hidden, hs: Array, da: Array):
    return ElmanParams(*outers(da, xs, carries.h)), product(da, weights.W.T)


def _transposed(weights: ElmanParams) -> ElmanParams:
    return weights._replace(U=weights.U.T)
