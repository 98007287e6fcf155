"""Gated recurrent units, in both published forms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.types import Cell


class GRUParams(NamedTuple):
    """Gates in the order r, z, n. W: input. U: recurrent. b: bias. bn: bias inside the reset, or None."""

    W: Float[Array, "D G"]
    U: Float[Array, "H G"]
    b: Float[Array, " G"]
    bn: Float[Array, " H"] | None


class GRUCarry(NamedTuple):
    """h: hidden state."""

    h: Float[Array, "*B H"]


def gru(
    hidden: int,
    *,
    update_bias: float = 0.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """GRU with the reset after the product, as cuDNN and torch.nn.GRU have it (Cho et al. 2014, v3):

        r = sigmoid(x_t W_r + h_{t-1} U_r + b_r),   z = sigmoid(x_t W_z + h_{t-1} U_z + b_z)
        n = tanh(x_t W_n + b_n + r * (h_{t-1} U_n + bn))
        h_t = (1 - z) * n + z * h_{t-1},   y_t = h_t

    x [*B D] -> y [*B H]. Defaults: orthogonal U gate by gate, normal W, biases 0 but the update gate's,
    which is `bias` + `update_bias`. With U = W = 0, dh_T/dh_t = sigmoid(update_bias)^(T-t).
    """

    def step(weights: GRUParams, carry: GRUCarry, z: Float[Array, "*B G"]) -> GRUCarry:
        zr, zz, zn = jnp.split(z, 3, axis=-1)
        ur, uz, un = jnp.split(carry.h @ weights.U, 3, axis=-1)
        reset, update = jax.nn.sigmoid(zr + ur), jax.nn.sigmoid(zz + uz)
        return _mixed(carry, update, jnp.tanh(zn + reset * (un + weights.bn)))

    init = _init(hidden, update_bias, kernel, recurrent, bias, inner_bias=bias)
    return Cell(init, _start(hidden), _drive, step, _read)


def gru_before(
    hidden: int,
    *,
    update_bias: float = 0.0,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer = inits.orthogonal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """GRU with the reset before the product, as first published (Cho et al. 2014, equations 5 to 8):

        n = tanh(x_t W_n + (r * h_{t-1}) U_n + b_n),   the rest as in `gru`

    Two products a step, one after the other, where `gru` needs one. bn is None: it would add to b_n.
    """

    def step(weights: GRUParams, carry: GRUCarry, z: Float[Array, "*B G"]) -> GRUCarry:
        Ug, Un = weights.U[:, : 2 * hidden], weights.U[:, 2 * hidden :]
        zg, zn = z[..., : 2 * hidden], z[..., 2 * hidden :]
        reset, update = jnp.split(jax.nn.sigmoid(zg + carry.h @ Ug), 2, axis=-1)
        return _mixed(carry, update, jnp.tanh(zn + (reset * carry.h) @ Un))

    init = _init(hidden, update_bias, kernel, recurrent, bias, inner_bias=None)
    return Cell(init, _start(hidden), _drive, step, _read)


def _init(hidden, update_bias, kernel, recurrent, bias, inner_bias):
    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> GRUParams:
        W, U, b, bn = jax.random.split(key, 4)
        biases = inits.gates([bias] * 3, b, (hidden,), dtype)
        return GRUParams(
            W=inits.gates([kernel] * 3, W, (dim, hidden), dtype),
            U=inits.gates([recurrent] * 3, U, (hidden, hidden), dtype),
            b=biases.at[hidden : 2 * hidden].add(jnp.asarray(update_bias, dtype)),
            bn=None if inner_bias is None else inner_bias(bn, (hidden,), dtype),
        )

    return init


def _start(hidden):
    def start(weights: GRUParams, batch_shape: tuple[int, ...]) -> GRUCarry:
        return GRUCarry(h=jnp.zeros((*batch_shape, hidden), weights.U.dtype))

    return start


def _drive(weights: GRUParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
    return xs @ weights.W + weights.b


def _read(weights: GRUParams, carry: GRUCarry, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
    return carry.h


def _mixed(carry: GRUCarry, update: Float[Array, "*B H"], candidate: Float[Array, "*B H"]) -> GRUCarry:
    return GRUCarry(h=(1 - update) * candidate + update * carry.h)
