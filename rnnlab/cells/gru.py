"""Gated recurrent units, in both published forms."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.hidden import Hidden, mixed, output, zeros
from rnnlab.cells.products import outers, product
from rnnlab.noise import Masks, dropout
from rnnlab.types import Cell, Local


class GRUParams(NamedTuple):
    """Gates in the order r, z, n. W: input. U: recurrent. b: bias. bn: bias inside the reset, or None."""

    W: Float[Array, "D G"]
    U: Float[Array, "H G"]
    b: Float[Array, " G"]
    bn: Float[Array, " H"] | None


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def gru(
    hidden: int,
    *,
    update_bias: float | inits.Initializer = 0.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
    hidden_dropout: float | int = 0.0,
    recurrent_dropout: float | int = 0.0,
) -> Cell:
    """GRU with the reset after the product, as cuDNN and torch.nn.GRU have it (Cho et al. 2014, v3):

        r = sigmoid(x_t W_r + h_{t-1} U_r + b_r),   z = sigmoid(x_t W_z + h_{t-1} U_z + b_z)
        n = tanh(x_t W_n + b_n + r * (h_{t-1} U_n + bn))
        h_t = (1 - z) * n + z * h_{t-1},   y_t = h_t

    x [*B D] -> y [*B H]. Defaults: orthogonal U gate by gate, normal W, biases 0 but the update gate's,
    which is `bias` + `update_bias` (a number, or an initialiser such as `chrono`).
    With U = W = 0, dh_T/dh_t = sigmoid(update_bias)^(T-t).
    In training (`unroll(..., key=)`), `hidden_dropout` leaves units of h_{t-1} out of its product, the same at every
    step, and `recurrent_dropout` entries of n, anew at every step (`rnnlab.noise.dropout`).
    """

    def step(weights: GRUParams, carry: Hidden, z: Float[Array, "*B G"], masks: Masks = Masks()) -> Hidden:
        zr, zz, zn = jnp.split(z + weights.b, 3, axis=-1)
        ur, uz, un = jnp.split((carry.h * masks.hidden) @ weights.U, 3, axis=-1)
        reset, update = jax.nn.sigmoid(zr + ur), jax.nn.sigmoid(zz + uz)
        return mixed(carry, update, jnp.tanh(zn + reset * (un + weights.bn)) * masks.candidate)

    init = _init(hidden, update_bias, kernel, recurrent, bias, inner_bias=bias)
    local = Local(_forward, _backward, _deferred, _transposed)
    cell = Cell(init, zeros(hidden), _drive, step, output, local=local)
    return dropout(cell, step, hidden=hidden_dropout, candidate=recurrent_dropout)


class _Factors(NamedTuple):
    """gates: dh_t/d(r, z, h_{t-1} U_n). candidate: dh_t/d(x_t W_n). update: dh_t/dh_{t-1} but for the gates."""

    gates: Float[Array, "... G"]
    candidate: Float[Array, "... H"]
    update: Float[Array, "... H"]


def _forward(weights: GRUParams, carry: Hidden, z: Float[Array, "*B G"]) -> tuple[Hidden, _Factors]:
    # Both gates at once and then split: XLA makes one fast loop of it, and slow strided ones of the other order.
    u, two = carry.h @ weights.U, 2 * carry.h.shape[-1]
    s = jax.nn.sigmoid(z[..., :two] + u[..., :two] + weights.b[:two])
    (reset, update), (dreset, dupdate) = jnp.split(s, 2, axis=-1), jnp.split(s - s * s, 2, axis=-1)
    inner = u[..., two:] + weights.bn
    n = jnp.tanh(z[..., two:] + weights.b[two:] + reset * inner)
    slope = (1 - update) * (1 - n * n)
    gates = jnp.concatenate([slope * inner * dreset, (carry.h - n) * dupdate, slope * reset], axis=-1)
    return mixed(carry, update, n), _Factors(gates, slope, update)


def _backward(transposed: GRUParams, factors: _Factors, dcarry: Hidden) -> tuple[Hidden, tuple]:
    dh = dcarry.h
    du = jnp.concatenate([dh, dh, dh], axis=-1) * factors.gates
    return Hidden(du @ transposed.U + dh * factors.update), (du, dh * factors.candidate)


def _deferred(weights: GRUParams, xs: Array, carries: Hidden, factors: _Factors, kept: tuple):
    du, dn = kept
    two = 2 * dn.shape[-1]
    dz = jnp.concatenate([du[..., :two], dn], axis=-1)  # the candidate's input is outside the reset
    dW, db = outers(dz, xs)
    dU, db_inner = outers(du, carries.h)
    return GRUParams(dW, dU, db, db_inner[two:]), product(dz, weights.W.T)


def _transposed(weights: GRUParams) -> GRUParams:
    return weights._replace(U=weights.U.T)


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def gru_before(
    hidden: int,
    *,
    update_bias: float | inits.Initializer = 0.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """GRU with the reset before the product, as first published (Cho et al. 2014, equations 5 to 8):

        n = tanh(x_t W_n + (r * h_{t-1}) U_n + b_n),   the rest as in `gru`

    Two products a step, one after the other, where `gru` needs one. bn is None: it would add to b_n.
    """

    def step(weights: GRUParams, carry: Hidden, z: Float[Array, "*B G"]) -> Hidden:
        Ug, Un = weights.U[:, : 2 * hidden], weights.U[:, 2 * hidden :]
        z = z + weights.b
        zg, zn = z[..., : 2 * hidden], z[..., 2 * hidden :]
        reset, update = jnp.split(jax.nn.sigmoid(zg + carry.h @ Ug), 2, axis=-1)
        return mixed(carry, update, jnp.tanh(zn + (reset * carry.h) @ Un))

    init = _init(hidden, update_bias, kernel, recurrent, bias, inner_bias=None)
    return Cell(init, zeros(hidden), _drive, step, output)


def _init(hidden, update_bias, kernel, recurrent, bias, inner_bias):
    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> GRUParams:
        W, U, b, bn = jax.random.split(key, 4)
        biases = inits.gates([bias] * 3, b, (hidden,), dtype)
        return GRUParams(
            W=inits.gates([kernel] * 3, W, (dim, hidden), dtype),
            U=inits.gates([recurrent] * 3, U, (hidden, hidden), dtype),
            b=inits.lean(biases, b, hidden, update_bias, to=1),
            bn=None if inner_bias is None else inner_bias(bn, (hidden,), dtype),
        )

    return init


def _drive(weights: GRUParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
    if xs.shape[-1] == 1:
        # XLA makes a multiplication of a product with one feature, and one slow loop of it and the gates: on a CPU
        # inference then takes up to twice the time of a real product, with a feature of zeros beside.
        xs = jnp.concatenate([xs, jnp.zeros_like(xs)], axis=-1)
        return product(xs, jnp.pad(weights.W, ((0, 1), (0, 0))))
    return product(xs, weights.W)
