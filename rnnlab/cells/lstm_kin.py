"""Kin of the LSTM: without a forget gate, with peepholes, with coupled gates."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.hidden import output
from rnnlab.cells.lstm import LSTMCarry, empty
from rnnlab.cells.products import product
from rnnlab.types import Cell


class LSTM1997Params(NamedTuple):
    """Gates in the order i, g, o. W: input. U: recurrent. b: bias."""

    W: Float[Array, "D G"]
    U: Float[Array, "H G"]
    b: Float[Array, " G"]


class CIFGParams(NamedTuple):
    """Gates in the order i, g, o. W: input. U: recurrent. b: bias."""

    W: Float[Array, "D G"]
    U: Float[Array, "H G"]
    b: Float[Array, " G"]


class PeepholeParams(NamedTuple):
    """Gates in the order i, f, g, o. W: input. U: recurrent. b: bias. p: peepholes of i, f, o, a number a unit."""

    W: Float[Array, "D G"]
    U: Float[Array, "H G"]
    b: Float[Array, " G"]
    p: Float[Array, " I"]


Params = LSTM1997Params | CIFGParams | PeepholeParams


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def lstm_1997(
    hidden: int,
    *,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """LSTM as first published, without a forget gate (Hochreiter & Schmidhuber 1997, equations 7 to 9):

        i, g, o = split(x_t W + h_{t-1} U + b)
        c_t = c_{t-1} + sigmoid(i) tanh(g),   h_t = sigmoid(o) tanh(c_t),   y_t = h_t

    x [*B D] -> y [*B H]. Their squashing functions were logistic, of ranges [-2, 2] and [-1, 1]; tanh is today's.
    The gradient is not truncated. Defaults: orthogonal U gate by gate, normal W, biases 0.
    With U = W = 0, dc_T/dc_t = 1: the constant error carousel.
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> LSTM1997Params:
        return LSTM1997Params(*inits.gated(3, key, dim, hidden, (kernel, recurrent, bias), dtype))

    def step(weights: LSTM1997Params, carry: LSTMCarry, z: Float[Array, "*B G"]) -> LSTMCarry:
        i, g, o = jnp.split(z + carry.h @ weights.U + weights.b, 3, axis=-1)
        c = carry.c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return LSTMCarry(jax.nn.sigmoid(o) * jnp.tanh(c), c)

    return Cell(init, empty(hidden), _drive, step, output)


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def cifg(
    hidden: int,
    *,
    forget_bias: float | inits.Initializer = 1.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """LSTM with coupled input and forget gates, CIFG (Greff et al. 2017, section 3, variant 7):

        i, g, o = split(x_t W + h_{t-1} U + b)
        c_t = (1 - sigmoid(i)) c_{t-1} + sigmoid(i) tanh(g),   h_t = sigmoid(o) tanh(c_t),   y_t = h_t

    x [*B D] -> y [*B H]. Defaults: orthogonal U gate by gate, normal W, biases 0 but the input gate's, which is
    `bias` - `forget_bias`. With U = W = 0, dc_T/dc_t = sigmoid(forget_bias)^(T-t).
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> CIFGParams:
        W, U, b = inits.gated(3, key, dim, hidden, (kernel, recurrent, bias), dtype)
        return CIFGParams(W, U, inits.lean(b, key, hidden, forget_bias, against=0))

    def step(weights: CIFGParams, carry: LSTMCarry, z: Float[Array, "*B G"]) -> LSTMCarry:
        i, g, o = jnp.split(z + carry.h @ weights.U + weights.b, 3, axis=-1)
        write = jax.nn.sigmoid(i)
        c = (1 - write) * carry.c + write * jnp.tanh(g)
        return LSTMCarry(jax.nn.sigmoid(o) * jnp.tanh(c), c)

    return Cell(init, empty(hidden), _drive, step, output)


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def lstm_peephole(
    hidden: int,
    *,
    forget_bias: float | inits.Initializer = 1.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    peephole: inits.Initializer = inits.normal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """LSTM whose gates see the memory, unit by unit (Gers, Schraudolph & Schmidhuber 2002, section 2.3):

        i, f, g, o = split(x_t W + h_{t-1} U + b)
        c_t = sigmoid(f + p_f c_{t-1}) c_{t-1} + sigmoid(i + p_i c_{t-1}) tanh(g)
        h_t = sigmoid(o + p_o c_t) tanh(c_t),   y_t = h_t

    x [*B D] -> y [*B H]. Defaults: orthogonal U gate by gate, normal W, peepholes N(0, 1/H), biases 0 but the
    forget gate's, which is `bias` + `forget_bias`. With U = W = p = 0, dc_T/dc_t = sigmoid(forget_bias)^(T-t).
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> PeepholeParams:
        W, U, b = inits.gated(4, key, dim, hidden, (kernel, recurrent, bias), dtype)
        p = inits.gates([peephole] * 3, jax.random.fold_in(key, 3), (hidden,), dtype)
        return PeepholeParams(W, U, inits.lean(b, key, hidden, forget_bias, to=1, against=0), p)

    def step(weights: PeepholeParams, carry: LSTMCarry, z: Float[Array, "*B G"]) -> LSTMCarry:
        i, f, g, o = jnp.split(z + carry.h @ weights.U + weights.b, 4, axis=-1)
        pi, pf, po = jnp.split(weights.p, 3)
        c = jax.nn.sigmoid(f + pf * carry.c) * carry.c + jax.nn.sigmoid(i + pi * carry.c) * jnp.tanh(g)
        return LSTMCarry(jax.nn.sigmoid(o + po * c) * jnp.tanh(c), c)

    return Cell(init, empty(hidden), _drive, step, output)


def _drive(weights: Params, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
    return product(xs, weights.W)
