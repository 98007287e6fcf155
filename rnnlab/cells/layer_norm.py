"""LSTM and GRU with layer normalisation inside the step."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.hidden import Hidden, mixed, output, zeros
from rnnlab.cells.lstm import LSTMCarry, empty
from rnnlab.cells.products import product
from rnnlab.types import Cell

EPSILON = 1e-5  # added to the variance, as in flax and torch


class NormedLSTMParams(NamedTuple):
    """Gates in the order i, f, g, o. W: input. U: recurrent. b: bias. gain_x, gain_h: of the normalised products;
    gain_c, shift_c: of the normalised memory."""

    W: Float[Array, "D G"]
    U: Float[Array, "H G"]
    b: Float[Array, " G"]
    gain_x: Float[Array, " G"]
    gain_h: Float[Array, " G"]
    gain_c: Float[Array, " H"]
    shift_c: Float[Array, " H"]


class NormedGRUParams(NamedTuple):
    """Gates in the order r, z, n. W: input. U: recurrent. b: bias. bn: shift inside the reset. gain_x, gain_h: of the
    normalised products."""

    W: Float[Array, "D G"]
    U: Float[Array, "H G"]
    b: Float[Array, " G"]
    bn: Float[Array, " H"]
    gain_x: Float[Array, " G"]
    gain_h: Float[Array, " G"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def lstm_layer_norm(
    hidden: int,
    *,
    forget_bias: float | inits.Initializer = 1.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
    gain: inits.Initializer = inits.constant(1.0),
) -> Cell:
    """LSTM with layer normalisation (Ba, Kiros & Hinton 2016, equations 20 to 22):

        i, f, g, o = split(N(x_t W) gain_x + N(h_{t-1} U) gain_h + b)
        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)
        h_t = sigmoid(o) tanh(N(c_t) gain_c + shift_c),   y_t = h_t

    N(a) = (a - mean a) / sqrt(var a + 1e-5) over all gates at once; their two shifts of the products are one, b.
    x [*B D] -> y [*B H]. Defaults: orthogonal U gate by gate, normal W, gains 1, biases 0 but the forget gate's, which
    is `bias` + `forget_bias`. With U = W = 0, dc_T/dc_t = sigmoid(forget_bias)^(T-t). At h_{t-1} = 0, the first step,
    N stretches by 1 / sqrt(1e-5) = 316, and the gradient with respect to h_0 is large accordingly.
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> NormedLSTMParams:
        W, U, b = inits.gated(4, key, dim, hidden, (kernel, recurrent, bias), dtype)
        b = inits.lean(b, key, hidden, forget_bias, to=1, against=0)
        x, h, c, shift = jax.random.split(jax.random.fold_in(key, 3), 4)
        gain_x, gain_h = (inits.gates([gain] * 4, k, (hidden,), dtype) for k in (x, h))
        return NormedLSTMParams(W, U, b, gain_x, gain_h, gain(c, (hidden,), dtype), bias(shift, (hidden,), dtype))

    def drive(weights: NormedLSTMParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
        return normed(product(xs, weights.W)) * weights.gain_x

    def step(weights: NormedLSTMParams, carry: LSTMCarry, z: Float[Array, "*B G"]) -> LSTMCarry:
        a = z + normed(carry.h @ weights.U) * weights.gain_h + weights.b
        i, f, g, o = jnp.split(a, 4, axis=-1)
        c = jax.nn.sigmoid(f) * carry.c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return LSTMCarry(jax.nn.sigmoid(o) * jnp.tanh(normed(c) * weights.gain_c + weights.shift_c), c)

    return Cell(init, empty(hidden), drive, step, output)


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def gru_layer_norm(
    hidden: int,
    *,
    update_bias: float | inits.Initializer = 0.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
    gain: inits.Initializer = inits.constant(1.0),
) -> Cell:
    """GRU with layer normalisation (Ba, Kiros & Hinton 2016, equations 27 to 29):

        r, z = sigmoid(split(N(x_t W_rz) gain_x + N(h_{t-1} U_rz) gain_h + b_rz))
        n = tanh(N(x_t W_n) gain_x + b_n + r * (N(h_{t-1} U_n) gain_h + bn))
        h_t = (1 - z) * n + z * h_{t-1},   y_t = h_t

    N as in `lstm_layer_norm`, over r and z at once and over n by itself; h_t as in `gru`, with their z for our 1 - z.
    x [*B D] -> y [*B H]. Defaults: orthogonal U gate by gate, normal W, gains 1, biases 0 but the update gate's, which
    is `bias` + `update_bias`. With U = W = 0, dh_T/dh_t = sigmoid(update_bias)^(T-t).
    """
    two = 2 * hidden

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> NormedGRUParams:
        W, U, b = inits.gated(3, key, dim, hidden, (kernel, recurrent, bias), dtype)
        bn, x, h = jax.random.split(jax.random.fold_in(key, 3), 3)
        gain_x, gain_h = (inits.gates([gain] * 3, k, (hidden,), dtype) for k in (x, h))
        b = inits.lean(b, key, hidden, update_bias, to=1)
        return NormedGRUParams(W, U, b, bias(bn, (hidden,), dtype), gain_x, gain_h)

    def drive(weights: NormedGRUParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
        return apart(product(xs, weights.W)) * weights.gain_x

    def step(weights: NormedGRUParams, carry: Hidden, z: Float[Array, "*B G"]) -> Hidden:
        u, z = apart(carry.h @ weights.U) * weights.gain_h, z + weights.b
        reset, update = jnp.split(jax.nn.sigmoid(z[..., :two] + u[..., :two]), 2, axis=-1)
        n = jnp.tanh(z[..., two:] + reset * (u[..., two:] + weights.bn))
        return mixed(carry, update, n)

    def apart(a: Float[Array, "*B G"]) -> Float[Array, "*B G"]:
        return jnp.concatenate([normed(a[..., :two]), normed(a[..., two:])], axis=-1)

    return Cell(init, zeros(hidden), drive, step, output)


def normed(a: Float[Array, "... G"]) -> Float[Array, "... G"]:
    """(a - mean a) / sqrt(var a + EPSILON) over the last axis, in float32 at least."""
    wide = a.astype(np.promote_types(a.dtype, np.float32))
    centred = wide - wide.mean(-1, keepdims=True)
    return (centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + EPSILON)).astype(a.dtype)
