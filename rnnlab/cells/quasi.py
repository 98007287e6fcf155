"""Quasi-recurrent network: a convolution over time, and gates that pool it."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.affine import real
from rnnlab.cells.products import product
from rnnlab.types import Cell


class QRNNParams(NamedTuple):
    """In the order candidate, f, o. W: of the last K inputs, the present one first. b: bias."""

    W: Float[Array, "KD G"]
    b: Float[Array, " G"]


class QRNNCarry(NamedTuple):
    """c: memory."""

    c: Float[Array, "*B H"]


class QRNNWindowCarry(NamedTuple):
    """c: memory. x: the last K inputs, the present one first."""

    c: Float[Array, "*B H"]
    x: Float[Array, "*B KD"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def qrnn(
    hidden: int,
    *,
    window: int = 1,
    forget_bias: float | inits.Initializer = 1.0,
    kernel: inits.Initializer = inits.normal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """Quasi-recurrent network with fo-pooling (Bradbury, Merity, Xiong & Socher 2017, equations 1 and 4):

        n, f, o = split([x_t, x_{t-1}, ... x_{t-K+1}] W + b)
        c_t = sigmoid(f) c_{t-1} + (1 - sigmoid(f)) tanh(n),   y_t = sigmoid(o) c_t

    x [*B D] -> y [*B H], K = `window`, inputs before the first are 0. With K = 1 the step is affine; with more the
    carry holds the last K inputs, and their products are made step by step. The paper writes no biases. Defaults:
    normal W, biases 0 but the forget gate's, which is `bias` + `forget_bias`.
    With W = 0, dc_T/dc_t = sigmoid(forget_bias)^(T-t). Raises ValueError for a window < 1.
    """
    if window < 1:
        raise ValueError(f"qrnn: expected window >= 1, got {window}")

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> QRNNParams:
        W, b = jax.random.split(key)
        biases = inits.lean(inits.gates([bias] * 3, b, (hidden,), dtype), key, hidden, forget_bias, to=1)
        return QRNNParams(inits.gates([kernel] * 3, W, (window * dim, hidden), dtype), biases)

    return _present(hidden, init) if window == 1 else _windowed(hidden, init)


def _present(hidden: int, init: Callable[..., QRNNParams]) -> Cell:
    """Of the present input alone: nothing but c is carried, and o is made in `read`."""

    def start(weights: QRNNParams, batch_shape: tuple[int, ...]) -> QRNNCarry:
        return QRNNCarry(jnp.zeros((*batch_shape, hidden), weights.W.dtype))

    def drive(weights: QRNNParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
        return product(xs, weights.W[:, : 2 * hidden])

    def coefficients(weights: QRNNParams, z: Float[Array, "*B G"]) -> tuple[QRNNCarry, QRNNCarry]:
        f, new = _pooled(weights, z)
        return QRNNCarry(f), QRNNCarry(new)

    def step(weights: QRNNParams, carry: QRNNCarry, z: Float[Array, "*B G"]) -> QRNNCarry:
        f, new = _pooled(weights, z)
        return QRNNCarry(f * carry.c + new)

    def read(weights: QRNNParams, carry: QRNNCarry, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
        return _gated(weights, carry.c, xs)

    return Cell(init, start, drive, step, read, affine=real(coefficients), diagonal=True)


def _windowed(hidden: int, init: Callable[..., QRNNParams]) -> Cell:
    """Of the last K inputs, which are carried: `read` needs all of them for o."""

    def start(weights: QRNNParams, batch_shape: tuple[int, ...]) -> QRNNWindowCarry:
        zeros = lambda size: jnp.zeros((*batch_shape, size), weights.W.dtype)  # noqa: E731
        return QRNNWindowCarry(zeros(hidden), zeros(len(weights.W)))

    def step(weights: QRNNParams, carry: QRNNWindowCarry, z: Float[Array, "*B D"]) -> QRNNWindowCarry:
        x = jnp.concatenate([z, carry.x[..., : -z.shape[-1]]], axis=-1)
        f, new = _pooled(weights, x @ weights.W[:, : 2 * hidden])
        return QRNNWindowCarry(f * carry.c + new, x)

    def read(weights: QRNNParams, carry: QRNNWindowCarry, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
        return _gated(weights, carry.c, carry.x)

    return Cell(init, start, lambda weights, xs: xs, step, read)


def _pooled(weights: QRNNParams, a: Float[Array, "*B G"]) -> tuple[Array, Array]:
    """sigmoid(f), and what is written."""
    n, f = jnp.split(a + weights.b[: a.shape[-1]], 2, axis=-1)
    return jax.nn.sigmoid(f), jax.nn.sigmoid(-f) * jnp.tanh(n)


def _gated(weights: QRNNParams, c: Float[Array, "*B H"], xs: Float[Array, "*B KD"]) -> Float[Array, "*B H"]:
    first = 2 * c.shape[-1]
    return jax.nn.sigmoid(product(xs, weights.W[:, first:]) + weights.b[first:]) * c
