"""Structurally constrained recurrent network: some units change slowly, by construction."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.products import product
from rnnlab.types import Cell


class SCRNParams(NamedTuple):
    """W: input to the hidden units. V: input to the context. P: context to hidden. U: recurrent. b: bias."""

    W: Float[Array, "D H"]
    V: Float[Array, "D C"]
    P: Float[Array, "C H"]
    U: Float[Array, "H H"]
    b: Float[Array, " H"]


class SCRNCarry(NamedTuple):
    """h: hidden state. s: context, the slow units."""

    h: Float[Array, "*B H"]
    s: Float[Array, "*B C"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def scrn(
    hidden: int,
    *,
    context: int | None = None,
    decay: float = 0.95,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """Structurally constrained recurrent network (Mikolov, Joulin, Chopra, Mathieu & Ranzato 2015, equations 4 to 6):

        s_t = (1 - decay) x_t V + decay s_{t-1}
        h_t = sigmoid(s_t P + x_t W + h_{t-1} U + b),   y_t = [h_t, s_t]

    x [*B D] -> y [*B H+C], C = `context`, by default two for five hidden units as in their 40 for 100; the paper's
    output layer reads both and has no bias b. Defaults: orthogonal U, normal W, V and P, b = 0.
    ds_T/ds_t = decay^(T-t), whatever the weights.
    """
    slow = max(1, 2 * hidden // 5) if context is None else context

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> SCRNParams:
        W, V, P, U, b = jax.random.split(key, 5)
        return SCRNParams(
            W=kernel(W, (dim, hidden), dtype), V=kernel(V, (dim, slow), dtype), P=kernel(P, (slow, hidden), dtype),
            U=recurrent(U, (hidden, hidden), dtype), b=bias(b, (hidden,), dtype),
        )  # fmt: skip

    def start(weights: SCRNParams, batch_shape: tuple[int, ...]) -> SCRNCarry:
        dtype = weights.U.dtype
        return SCRNCarry(h=jnp.zeros((*batch_shape, hidden), dtype), s=jnp.zeros((*batch_shape, slow), dtype))

    def drive(weights: SCRNParams, xs: Float[Array, "*B D"]) -> tuple[Array, Array]:
        return product(xs, weights.W), (1 - decay) * product(xs, weights.V)

    def step(weights: SCRNParams, carry: SCRNCarry, z: tuple[Array, Array]) -> SCRNCarry:
        fast, new = z
        s = new + decay * carry.s
        return SCRNCarry(h=jax.nn.sigmoid(s @ weights.P + fast + carry.h @ weights.U + weights.b), s=s)

    def read(weights: SCRNParams, carry: SCRNCarry, xs: Float[Array, "*B D"]) -> Float[Array, "*B Y"]:
        return jnp.concatenate([carry.h, carry.s], axis=-1)

    return Cell(init, start, drive, step, read)
