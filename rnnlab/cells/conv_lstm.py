"""LSTM whose products are convolutions: a state is an image."""

import math
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.hidden import output
from rnnlab.cells.products import Matrix
from rnnlab.types import Cell


class ConvLSTMParams(NamedTuple):
    """Gates in the order i, f, g, o. W, U: kernels of input and state. b: bias. p: peepholes of i, f, o, or None."""

    W: Float[Array, "window window D G"]
    U: Float[Array, "window window H G"]
    b: Float[Array, " G"]
    p: Float[Array, "rows columns I"] | None


class ConvLSTMCarry(NamedTuple):
    """h: output. c: memory."""

    h: Float[Array, "*B rows columns H"]
    c: Float[Array, "*B rows columns H"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def conv_lstm(
    hidden: int,
    *,
    rows: int,
    columns: int,
    window: int = 3,
    forget_bias: float | inits.Initializer = 1.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.normal(),
    peephole: inits.Initializer | None = None,
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """Convolutional LSTM of H = `hidden` channels (Shi et al. 2015, equation 3; * is a convolution of the same size):

        i, f, g, o = split(x_t * W + h_{t-1} * U + b)
        c_t = sigmoid(f + p_f c_{t-1}) c_{t-1} + sigmoid(i + p_i c_{t-1}) tanh(g)
        h_t = sigmoid(o + p_o c_t) tanh(c_t),   y_t = h_t

    x [*B rows columns D] -> y [*B rows columns H]. The peepholes, numbers a pixel and channel, are left out
    (as flax and keras do) unless `peephole` draws them. W and U are drawn as matrices of window^2 D rows. Defaults:
    normal W and U, biases 0 but the forget gate's, which is `bias` + `forget_bias`.
    With U = W = p = 0, dc_T/dc_t = sigmoid(forget_bias)^(T-t).
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> ConvLSTMParams:
        W, U, b, p = jax.random.split(key, 4)
        W = inits.gates([kernel] * 4, W, (window * window * dim, hidden), dtype)
        U = inits.gates([recurrent] * 4, U, (window * window * hidden, hidden), dtype)
        biases = inits.gates([bias] * 4, b, (hidden,), dtype)
        return ConvLSTMParams(
            W=W.reshape(window, window, dim, 4 * hidden), U=U.reshape(window, window, hidden, 4 * hidden),
            b=inits.lean(biases, b, hidden, forget_bias, to=1, against=0),
            p=peephole and inits.gates([peephole] * 3, p, (rows, columns, hidden), dtype),
        )  # fmt: skip

    def start(weights: ConvLSTMParams, batch_shape: tuple[int, ...]) -> ConvLSTMCarry:
        zeros = jnp.zeros((*batch_shape, rows, columns, hidden), weights.U.dtype)
        return ConvLSTMCarry(h=zeros, c=zeros)

    def drive(weights: ConvLSTMParams, xs: Float[Array, "*B rows columns D"]) -> Float[Array, "*B rows columns G"]:
        return _convolved(xs, weights.W)

    def step(weights: ConvLSTMParams, carry: ConvLSTMCarry, z: Float[Array, "*B rows columns G"]) -> ConvLSTMCarry:
        i, f, g, o = jnp.split(z + _convolved(carry.h, weights.U) + weights.b, 4, axis=-1)
        if weights.p is None:
            c = jax.nn.sigmoid(f) * carry.c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return ConvLSTMCarry(jax.nn.sigmoid(o) * jnp.tanh(c), c)
        pi, pf, po = jnp.split(weights.p, 3, axis=-1)
        c = jax.nn.sigmoid(f + pf * carry.c) * carry.c + jax.nn.sigmoid(i + pi * carry.c) * jnp.tanh(g)
        return ConvLSTMCarry(jax.nn.sigmoid(o + po * c) * jnp.tanh(c), c)

    return Cell(init, start, drive, step, output, input_rank=3)


def _convolved(images: Float[Matrix, "*B rows columns D"], kernel: Matrix) -> Float[Array, "*B rows columns G"]:
    """Over any leading axes; the convolution itself wants exactly one."""
    lead = images.shape[:-3]
    flat = images.reshape(math.prod(lead), *images.shape[-3:])
    out = jax.lax.conv_general_dilated(flat, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return out.reshape(*lead, *out.shape[1:])
