"""Cells with one gate: MGU, UGRNN, minimalRNN, FastGRNN."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.hidden import Hidden, mixed, output, zeros
from rnnlab.cells.products import product
from rnnlab.types import Cell


class OneGateParams(NamedTuple):
    """The gate, then the candidate. W: input. U: recurrent. b: bias."""

    W: Float[Array, "D G"]
    U: Float[Array, "H G"]
    b: Float[Array, " G"]


class MinimalRNNParams(NamedTuple):
    """W, c: matrix and bias of the encoder. U, V, b: of the gate, from h, from the encoded input, and bias."""

    W: Float[Array, "D H"]
    c: Float[Array, " H"]
    U: Float[Array, "H H"]
    V: Float[Array, "H H"]
    b: Float[Array, " H"]


class FastGRNNParams(NamedTuple):
    """W: input. U: recurrent. b: biases of gate and candidate. zeta, nu: before the sigmoid."""

    W: Float[Array, "D H"]
    U: Float[Array, "H H"]
    b: Float[Array, " G"]
    zeta: Float[Array, ""]
    nu: Float[Array, ""]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def mgu(
    hidden: int,
    *,
    forget_bias: float | inits.Initializer = 0.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """Minimal gated unit (Zhou, Wu, Zhang & Zhou 2016, equations 7 and 8):

        f = sigmoid(x_t W_f + h_{t-1} U_f + b_f),   n = tanh(x_t W_n + (f * h_{t-1}) U_n + b_n)
        h_t = (1 - f) * h_{t-1} + f * n,   y_t = h_t

    x [*B D] -> y [*B H]. In their notation f near 1 overwrites; `forget_bias` > 0 is taken from f's bias, so that here
    as everywhere it remembers. Defaults: orthogonal U gate by gate, normal W, biases 0.
    With U = W = 0, dh_T/dh_t = sigmoid(forget_bias)^(T-t).
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> OneGateParams:
        W, U, b = inits.gated(2, key, dim, hidden, (kernel, recurrent, bias), dtype)
        return OneGateParams(W, U, inits.lean(b, key, hidden, forget_bias, against=0))

    def step(weights: OneGateParams, carry: Hidden, z: Float[Array, "*B G"]) -> Hidden:
        (Uf, Un), (zf, zn) = jnp.split(weights.U, 2, axis=-1), jnp.split(z + weights.b, 2, axis=-1)
        f = jax.nn.sigmoid(zf + carry.h @ Uf)
        return Hidden((1 - f) * carry.h + f * jnp.tanh(zn + (f * carry.h) @ Un))

    return Cell(init, zeros(hidden), _drive, step, output)


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def ugrnn(
    hidden: int,
    *,
    update_bias: float | inits.Initializer = 1.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """Update-gate RNN (Collins, Sohl-Dickstein & Sussillo 2017, section 2.1):

        g = sigmoid(x_t W_g + h_{t-1} U_g + b_g),   n = tanh(x_t W_n + h_{t-1} U_n + b_n)
        h_t = g * h_{t-1} + (1 - g) * n,   y_t = h_t

    x [*B D] -> y [*B H]. Defaults: orthogonal U gate by gate, normal W, biases 0 but the gate's, which is `bias` +
    `update_bias`. With U = W = 0, dh_T/dh_t = sigmoid(update_bias)^(T-t).
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> OneGateParams:
        W, U, b = inits.gated(2, key, dim, hidden, (kernel, recurrent, bias), dtype)
        return OneGateParams(W, U, inits.lean(b, key, hidden, update_bias, to=0))

    def step(weights: OneGateParams, carry: Hidden, z: Float[Array, "*B G"]) -> Hidden:
        gate, n = jnp.split(z + carry.h @ weights.U + weights.b, 2, axis=-1)
        return mixed(carry, jax.nn.sigmoid(gate), jnp.tanh(n))

    return Cell(init, zeros(hidden), _drive, step, output)


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def minimal_rnn(
    hidden: int,
    *,
    update_bias: float | inits.Initializer = 0.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """MinimalRNN (Chen 2017, equations 1 to 3): the state is a weighted mean of encoded inputs.

        n = tanh(x_t W + c),   u = sigmoid(h_{t-1} U + n V + b)
        h_t = u * h_{t-1} + (1 - u) * n,   y_t = h_t

    x [*B D] -> y [*B H]; n and n V need no carry. Defaults: orthogonal U and V, normal W, biases 0 but the gate's,
    which is `bias` + `update_bias`. With U = W = V = 0, dh_T/dh_t = sigmoid(update_bias)^(T-t).
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> MinimalRNNParams:
        W, c, U, V, b = jax.random.split(key, 5)
        return MinimalRNNParams(
            W=kernel(W, (dim, hidden), dtype), c=bias(c, (hidden,), dtype),
            U=recurrent(U, (hidden, hidden), dtype), V=recurrent(V, (hidden, hidden), dtype),
            b=inits.lean(bias(b, (hidden,), dtype), b, hidden, update_bias, to=0),
        )  # fmt: skip

    def drive(weights: MinimalRNNParams, xs: Float[Array, "*B D"]) -> tuple[Array, Array]:
        n = jnp.tanh(product(xs, weights.W) + weights.c)
        return n, product(n, weights.V)

    def step(weights: MinimalRNNParams, carry: Hidden, z: tuple[Array, Array]) -> Hidden:
        n, gate = z
        return mixed(carry, jax.nn.sigmoid(gate + carry.h @ weights.U + weights.b), n)

    return Cell(init, zeros(hidden), drive, step, output)


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def fast_grnn(
    hidden: int,
    *,
    zeta: float = 1.0,
    nu: float = -4.0,
    update_bias: float | inits.Initializer = 1.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """FastGRNN: gate and candidate share their matrices (Kusupati et al. 2018, section 3.2):

        a = x_t W + h_{t-1} U,   u = sigmoid(a + b_u),   n = tanh(a + b_n)
        h_t = (sigmoid(zeta) (1 - u) + sigmoid(nu)) * n + u * h_{t-1},   y_t = h_t

    x [*B D] -> y [*B H]. zeta and nu are trained numbers, given here before their sigmoid. The low rank, sparsity and
    quantisation of the paper are ways to compress W and U, and are not part of the cell. Defaults: orthogonal U,
    normal W, biases 0 but the gate's, which is `bias` + `update_bias`.
    With U = W = 0, dh_T/dh_t = sigmoid(update_bias)^(T-t).
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> FastGRNNParams:
        W, U, b = jax.random.split(key, 3)
        return FastGRNNParams(
            W=kernel(W, (dim, hidden), dtype), U=recurrent(U, (hidden, hidden), dtype),
            b=inits.lean(inits.gates([bias] * 2, b, (hidden,), dtype), b, hidden, update_bias, to=0),
            zeta=jnp.asarray(zeta, dtype), nu=jnp.asarray(nu, dtype),
        )  # fmt: skip

    def step(weights: FastGRNNParams, carry: Hidden, z: Float[Array, "*B H"]) -> Hidden:
        a, (gate, candidate) = z + carry.h @ weights.U, jnp.split(weights.b, 2)
        u, n = jax.nn.sigmoid(a + gate), jnp.tanh(a + candidate)
        return Hidden((jax.nn.sigmoid(weights.zeta) * (1 - u) + jax.nn.sigmoid(weights.nu)) * n + u * carry.h)

    return Cell(init, zeros(hidden), _drive, step, output)


def _drive(weights: OneGateParams | FastGRNNParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
    return product(xs, weights.W)
