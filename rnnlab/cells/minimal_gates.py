"""GRU and LSTM without a recurrent matrix: gates that see the input alone."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.affine import real
from rnnlab.cells.hidden import Hidden, output, zeros
from rnnlab.cells.products import product
from rnnlab.types import Cell


class MinGRUParams(NamedTuple):
    """The gate, then the candidate. W: input. b: bias."""

    W: Float[Array, "D G"]
    b: Float[Array, " G"]


class MinLSTMParams(NamedTuple):
    """In the order f, i, candidate. W: input. b: bias."""

    W: Float[Array, "D G"]
    b: Float[Array, " G"]


Params = MinGRUParams | MinLSTMParams
Coefficients = tuple[Hidden, Hidden]


def linear(a: Array) -> Array:
    """The candidate of the plain forms."""
    return a


def positive(a: Array) -> Array:
    """The candidate of the forms in log space (appendix B): a + 1/2, and sigmoid(a) below 0."""
    return jnp.where(a >= 0, a + 0.5, jax.nn.sigmoid(a))


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def min_gru(
    hidden: int,
    *,
    activation: Callable[[Array], Array] = linear,
    update_bias: float | inits.Initializer = 0.0,
    kernel: inits.Initializer = inits.normal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """minGRU (Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, section 3.1):

        z = sigmoid(x_t W_z + b_z),   n = activation(x_t W_n + b_n)
        h_t = (1 - z) * h_{t-1} + z * n,   y_t = h_t

    x [*B D] -> y [*B H]. `positive` for `activation` gives their form in log space, without logarithms. In their
    notation z near 1 overwrites; `update_bias` > 0 is taken from z's bias, so that here as everywhere it remembers.
    Defaults: normal W, biases 0. With W = 0, dh_T/dh_t = sigmoid(update_bias)^(T-t).
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> MinGRUParams:
        W, b = _drawn(2, key, dim, hidden, kernel, bias, dtype)
        return MinGRUParams(W, inits.lean(b, key, hidden, update_bias, against=0))

    def coefficients(weights: MinGRUParams, z: Float[Array, "*B G"]) -> Coefficients:
        gate, n = jnp.split(z + weights.b, 2, axis=-1)
        return Hidden(jax.nn.sigmoid(-gate)), Hidden(jax.nn.sigmoid(gate) * activation(n))

    return _cell(init, hidden, coefficients)


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def min_lstm(
    hidden: int,
    *,
    activation: Callable[[Array], Array] = linear,
    forget_bias: float | inits.Initializer = 1.0,
    kernel: inits.Initializer = inits.normal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """minLSTM (Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, section 3.2), its gates scaled to a sum of 1:

        f, i = sigmoid(x_t W_f + b_f), sigmoid(x_t W_i + b_i),   n = activation(x_t W_n + b_n)
        h_t = f / (f + i) * h_{t-1} + i / (f + i) * n,   y_t = h_t

    x [*B D] -> y [*B H]. f / (f + i) is computed as sigmoid(log f - log i), which cannot be 0/0. `positive` for
    `activation` gives their form in log space. Defaults: normal W, biases 0 but the forget gate's, which is `bias` +
    `forget_bias`. With W = 0, dh_T/dh_t = (f / (f + 1/2))^(T-t), f = sigmoid(forget_bias).
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> MinLSTMParams:
        W, b = _drawn(3, key, dim, hidden, kernel, bias, dtype)
        return MinLSTMParams(W, inits.lean(b, key, hidden, forget_bias, to=0, against=1))

    def coefficients(weights: MinLSTMParams, z: Float[Array, "*B G"]) -> Coefficients:
        f, i, n = jnp.split(z + weights.b, 3, axis=-1)
        odds = jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i)
        return Hidden(jax.nn.sigmoid(odds)), Hidden(jax.nn.sigmoid(-odds) * activation(n))

    return _cell(init, hidden, coefficients)


def _drawn(count: int, key: Array, dim: int, hidden: int, kernel: Callable, bias: Callable, dtype) -> tuple:
    W, b = jax.random.split(key)
    return inits.gates([kernel] * count, W, (dim, hidden), dtype), inits.gates([bias] * count, b, (hidden,), dtype)


def _cell(init: Callable[..., Params], hidden: int, coefficients: Callable[..., Coefficients]) -> Cell:
    def drive(weights: Params, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
        return product(xs, weights.W)

    def step(weights: Params, carry: Hidden, z: Float[Array, "*B G"]) -> Hidden:
        a, b = coefficients(weights, z)
        return Hidden(a.h * carry.h + b.h)

    return Cell(init, zeros(hidden, like="W"), drive, step, output, affine=real(coefficients), diagonal=True)
