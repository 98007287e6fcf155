"""GRU and LSTM whose units see themselves alone: diagonal recurrent matrices."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.hidden import Hidden, output, zeros
from rnnlab.cells.lstm import LSTMCarry, empty
from rnnlab.cells.products import product
from rnnlab.types import Cell


class ParaGRUParams(NamedTuple):
    """Gates in the order r, z, n. W: input. U: recurrent, a number a unit. b: bias."""

    W: Float[Array, "D G"]
    U: Float[Array, " G"]
    b: Float[Array, " G"]


class ParaLSTMParams(NamedTuple):
    """Gates in the order f, g, o. W: input. U: recurrent, a number a unit. b: bias. p: peepholes of f and o."""

    W: Float[Array, "D G"]
    U: Float[Array, " G"]
    b: Float[Array, " G"]
    p: Float[Array, " 2H"]


Params = ParaGRUParams | ParaLSTMParams


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def para_gru(
    hidden: int,
    *,
    update_bias: float | inits.Initializer = 0.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.normal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """ParaGRU (Danieli, Rodriguez, Sarabia, Suau & Zappella 2025; equations as in their code, ml-pararnn):

        r, z = sigmoid(x_t W_r + u_r h_{t-1} + b_r), sigmoid(x_t W_z + u_z h_{t-1} + b_z)
        n = tanh(x_t W_n + u_n r h_{t-1} + b_n),   h_t = (1 - z) h_{t-1} + z n,   y_t = h_t

    x [*B D] -> y [*B H]; u are vectors, in `U`, where a GRU has matrices. Their W is block-diagonal, one block a head;
    here it is whole. z near 1 overwrites; `update_bias` > 0 is taken from its bias, so that here as everywhere it
    remembers. Defaults: normal W, u N(0, 1/H), as small as theirs, biases 0.
    With U = W = 0, dh_T/dh_t = sigmoid(update_bias)^(T-t).
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> ParaGRUParams:
        W, U, b = _drawn(key, dim, hidden, (kernel, recurrent, bias), dtype)
        return ParaGRUParams(W, U, inits.lean(b, key, hidden, update_bias, against=1))

    def step(weights: ParaGRUParams, carry: Hidden, z: Float[Array, "*B G"]) -> Hidden:
        (ur, uz, un), (zr, zz, zn) = jnp.split(weights.U, 3), jnp.split(z + weights.b, 3, axis=-1)
        r, update = jax.nn.sigmoid(zr + ur * carry.h), jax.nn.sigmoid(zz + uz * carry.h)
        return Hidden((1 - update) * carry.h + update * jnp.tanh(zn + un * r * carry.h))

    return Cell(init, zeros(hidden), _drive, step, output, diagonal=True)


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def para_lstm(
    hidden: int,
    *,
    forget_bias: float | inits.Initializer = 1.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.normal(),
    peephole: inits.Initializer = inits.normal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """ParaLSTM, coupled gates and peepholes (Danieli et al. 2025; equations as in their code, ml-pararnn):

        f = sigmoid(x_t W_f + u_f h_{t-1} + p_f c_{t-1} + b_f),   g = tanh(x_t W_g + u_g h_{t-1} + b_g)
        c_t = f c_{t-1} + (1 - f) g
        o = sigmoid(x_t W_o + u_o h_{t-1} + p_o c_t + b_o),   h_t = o tanh(c_t),   y_t = h_t

    x [*B D] -> y [*B H]; u are vectors, in `U`, where an LSTM has matrices. Their W is block-diagonal, one block a
    head; here it is whole. Defaults: normal W, u and p N(0, 1/H), as small as theirs, biases 0 but the forget gate's,
    which is `bias` + `forget_bias`. With U = W = p = 0, dc_T/dc_t = sigmoid(forget_bias)^(T-t).
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> ParaLSTMParams:
        W, U, b = _drawn(key, dim, hidden, (kernel, recurrent, bias), dtype)
        p = inits.gates([peephole] * 2, jax.random.fold_in(key, 3), (hidden,), dtype)
        return ParaLSTMParams(W, U, inits.lean(b, key, hidden, forget_bias, to=0), p)

    def step(weights: ParaLSTMParams, carry: LSTMCarry, z: Float[Array, "*B G"]) -> LSTMCarry:
        a = z + weights.U * jnp.concatenate([carry.h] * 3, axis=-1) + weights.b
        (f, g, o), (pf, po) = jnp.split(a, 3, axis=-1), jnp.split(weights.p, 2)
        keep = jax.nn.sigmoid(f + pf * carry.c)
        c = keep * carry.c + (1 - keep) * jnp.tanh(g)
        return LSTMCarry(h=jax.nn.sigmoid(o + po * c) * jnp.tanh(c), c=c)

    return Cell(init, empty(hidden), _drive, step, output, diagonal=True)


def _drawn(key: Array, dim: int, hidden: int, draw: tuple[inits.Initializer, ...], dtype) -> tuple[Array, ...]:
    """W [D, G], U [G] and b [G] of three gates, each drawn by itself."""
    drawn = zip(draw, jax.random.split(key, 3), ((dim, hidden), (hidden,), (hidden,)), strict=True)
    return tuple(inits.gates([one] * 3, k, shape, dtype) for one, k, shape in drawn)


def _drive(weights: Params, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
    return product(xs, weights.W)
