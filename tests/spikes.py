"""Cells as a user would write them, one for each way in which the interface could be too narrow.

Not part of the library. Written with `rnnlab.types.Cell` alone; docs/interface.md says what they taught.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.types import Cell

# A step that knows nothing of its input, and a cell without parameters.


class CounterCarry(NamedTuple):
    """s: steps seen, one integer a row."""

    s: jax.Array


def counter() -> Cell:
    """(x, s) -> (x + 1, s + 1): s_t = t + 1 whatever the input (haiku's toy cell)."""

    def start(weights, batch_shape):
        return CounterCarry(jnp.zeros(batch_shape, jnp.int32))

    def step(weights, carry, z):
        return CounterCarry(carry.s + 1)

    return Cell(
        init=lambda key, dim, dtype=jnp.float32: (),
        start=start,
        drive=lambda weights, xs: (),
        step=step,
        read=lambda weights, carry, xs: xs + 1,
    )


# An image for a state.


class ConvParams(NamedTuple):
    """Gates in the order i, f, g, o. W: [rows, columns, D, 4C]. U: [rows, columns, C, 4C]. b: [4C]."""

    W: jax.Array
    U: jax.Array
    b: jax.Array


class ConvCarry(NamedTuple):
    """h: output. c: memory. Both [*B, rows, columns, C]."""

    h: jax.Array
    c: jax.Array


def conv_lstm(rows: int, columns: int, channels: int, *, window: int = 3) -> Cell:
    """Convolutional LSTM (Shi et al. 2015, equation 3, without peepholes): x [*B, rows, columns, D]."""

    def convolve(images, kernel):
        """Over any leading axes; the convolution itself wants exactly one."""
        lead, one = images.shape[:-3], images.shape[-3:]
        flat = images.reshape(math.prod(lead), *one)
        out = jax.lax.conv_general_dilated(flat, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return out.reshape(*lead, *out.shape[1:])

    def init(key, dim, dtype=jnp.float32):
        W, U = jax.random.split(key)
        draw = lambda key, fan: jax.random.normal(key, (window, window, fan, 4 * channels), dtype) / window  # noqa: E731
        return ConvParams(draw(W, dim), draw(U, channels), jnp.zeros(4 * channels, dtype))

    def start(weights, batch_shape):
        zeros = jnp.zeros((*batch_shape, rows, columns, channels), weights.U.dtype)
        return ConvCarry(zeros, zeros)

    def step(weights, carry, z):
        i, f, g, o = jnp.split(z + convolve(carry.h, weights.U), 4, axis=-1)
        c = jax.nn.sigmoid(f) * carry.c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return ConvCarry(jax.nn.sigmoid(o) * jnp.tanh(c), c)

    return Cell(
        init=init,
        start=start,
        drive=lambda weights, xs: convolve(xs, weights.W) + weights.b,
        step=step,
        read=lambda weights, carry, xs: carry.h,
        input_rank=3,
    )


# A complex state.


class RotationParams(NamedTuple):
    """angle: [H]. b: [H]. Real and imaginary: W, input [2, D, H]; V, output [2, H, H]; h, first state [2, H]."""

    angle: jax.Array
    W: jax.Array
    b: jax.Array
    V: jax.Array
    h: jax.Array


class RotationWeights(NamedTuple):
    """cos, sin: of the angles [H]; the rest as in the parameters."""

    cos: jax.Array
    sin: jax.Array
    params: RotationParams


class ComplexCarry(NamedTuple):
    """A complex state of H units as two real leaves."""

    re: jax.Array
    im: jax.Array


def rotation(hidden: int, *, tiny: float = 1e-5) -> Cell:
    """h_t = modReLU(e^{i angle} h_{t-1} + x_t W, b), y_t = Re(h_t V): the rotation of Arjovsky, Shah & Bengio 2016.

    modReLU(z, b) = relu(|z| + b) z / |z| (their equation 8) has no gradient at z = 0, which is where a row
    waits while it is padded and its first state is 0: |z| is sqrt(re^2 + im^2 + tiny) here.
    """

    def init(key, dim, dtype=jnp.float32):
        angle, W, b, V, h = jax.random.split(key, 5)
        return RotationParams(
            jax.random.uniform(angle, (hidden,), dtype, -math.pi, math.pi),
            jax.random.normal(W, (2, dim, hidden), dtype),
            jax.random.uniform(b, (hidden,), dtype, -0.1, 0.1),
            jax.random.normal(V, (2, hidden, hidden), dtype) / math.sqrt(hidden),
            jax.random.normal(h, (2, hidden), dtype),
        )

    def prepare(params):
        return RotationWeights(jnp.cos(params.angle), jnp.sin(params.angle), params)

    def start(weights, batch_shape):
        first = jnp.broadcast_to(
            weights.params.h.reshape(2, *(1,) * len(batch_shape), hidden), (2, *batch_shape, hidden)
        )
        return ComplexCarry(first[0], first[1])

    def drive(weights, xs):
        return ComplexCarry(xs @ weights.params.W[0], xs @ weights.params.W[1])

    def step(weights, carry, z):
        re = weights.cos * carry.re - weights.sin * carry.im + z.re
        im = weights.sin * carry.re + weights.cos * carry.im + z.im
        size = jnp.sqrt(re**2 + im**2 + tiny)
        scale = jax.nn.relu(size + weights.params.b) / size
        return ComplexCarry(scale * re, scale * im)

    def read(weights, carry, xs):
        return carry.re @ weights.params.V[0] - carry.im @ weights.params.V[1]

    return Cell(init, start, drive, step, read, prepare)


# A decomposition once a sequence.


class ExpParams(NamedTuple):
    """A: [H, H], of which the part above the diagonal counts. W: [D, H]. b: [H]."""

    A: jax.Array
    W: jax.Array
    b: jax.Array


class ExpWeights(NamedTuple):
    """Q: exp of a skew-symmetric matrix, so orthogonal [H, H]. W, b: as in the parameters."""

    Q: jax.Array
    W: jax.Array
    b: jax.Array


class ExpCarry(NamedTuple):
    """h: hidden state [*B, H]."""

    h: jax.Array


def exp_rnn(hidden: int) -> Cell:
    """h_t = tanh(x_t W + h_{t-1} Q + b), Q = exp(A - A^T) (Lezcano-Casado & Martinez-Rubio 2019, section 3)."""

    def init(key, dim, dtype=jnp.float32):
        A, W, b = jax.random.split(key, 3)
        return ExpParams(
            jax.random.normal(A, (hidden, hidden), dtype),
            jax.random.normal(W, (dim, hidden), dtype),
            jax.random.normal(b, (hidden,), dtype),
        )

    def prepare(params):
        A = jnp.triu(params.A.astype(np.promote_types(params.A.dtype, np.float32)), 1)
        return ExpWeights(jax.scipy.linalg.expm(A - A.T).astype(params.A.dtype), params.W, params.b)

    def start(weights, batch_shape):
        return ExpCarry(jnp.zeros((*batch_shape, hidden), weights.Q.dtype))

    def step(weights, carry, z):
        return ExpCarry(jnp.tanh(z + carry.h @ weights.Q))

    return Cell(
        init=init,
        start=start,
        drive=lambda weights, xs: xs @ weights.W + weights.b,
        step=step,
        read=lambda weights, carry, xs: carry.h,
        prepare=prepare,
    )
