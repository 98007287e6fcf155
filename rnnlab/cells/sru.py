"""Simple recurrent unit."""

import math
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.products import product
from rnnlab.types import Cell


class SRUParams(NamedTuple):
    """In the order value, f, r, and the highway's where D is not H. W: input. v, b: of f and r, from c, and bias."""

    W: Float[Array, "D G"]
    v: Float[Array, " 2H"]
    b: Float[Array, " 2H"]


class SRUCarry(NamedTuple):
    """c: memory. r: how much of it the output shows."""

    c: Float[Array, "*B H"]
    r: Float[Array, "*B H"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def sru(
    hidden: int,
    *,
    forget_bias: float | inits.Initializer = 0.0,
    highway_bias: float | int = 0.0,
    kernel: inits.Initializer = inits.normal(),
    peephole: inits.Initializer = inits.constant(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """Simple recurrent unit (Lei, Zhang, Wang, Dai & Artzi 2018, section 2, with the scale of their initialisation):

        f = sigmoid(x_t W_f + v_f c_{t-1} + b_f),   r = sigmoid(x_t W_r + v_r c_{t-1} + b_r)
        c_t = f c_{t-1} + (1 - f) (x_t W),   y_t = r c_t + (1 - r) scale x_t,   scale = sqrt(1 + 2 exp(highway_bias))

    x [*B D] -> y [*B H]. Where D is not H, x_t W_x takes the place of x_t in y_t, and W has a fourth block. `scale` is
    a constant, with which outputs vary about as much as inputs, at first. Defaults: normal W, v = 0, biases 0 but the
    gates' of r and f, to which `highway_bias` and `forget_bias` are added. With W = v = 0,
    dc_T/dc_t = sigmoid(forget_bias)^(T-t).
    """
    scale = math.sqrt(1 + 2 * math.exp(highway_bias))

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> SRUParams:
        W, v, b = jax.random.split(key, 3)
        biases = inits.lean(inits.gates([bias] * 2, b, (hidden,), dtype), key, hidden, forget_bias, to=0)
        return SRUParams(
            W=inits.gates([kernel] * (3 if dim == hidden else 4), W, (dim, hidden), dtype),
            v=inits.gates([peephole] * 2, v, (hidden,), dtype),
            b=inits.lean(biases, key, hidden, highway_bias, to=1),
        )

    def start(weights: SRUParams, batch_shape: tuple[int, ...]) -> SRUCarry:
        zeros = jnp.zeros((*batch_shape, hidden), weights.W.dtype)
        return SRUCarry(zeros, zeros)

    def drive(weights: SRUParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
        return product(xs, weights.W[:, : 3 * hidden])

    def step(weights: SRUParams, carry: SRUCarry, z: Float[Array, "*B G"]) -> SRUCarry:
        (value, zf, zr), (vf, vr), (bf, br) = (jnp.split(a, n, -1) for a, n in ((z, 3), (weights.v, 2), (weights.b, 2)))
        f = jax.nn.sigmoid(zf + vf * carry.c + bf)
        return SRUCarry(f * carry.c + (1 - f) * value, jax.nn.sigmoid(zr + vr * carry.c + br))

    def read(weights: SRUParams, carry: SRUCarry, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
        through = product(xs, weights.W[:, 3 * hidden :]) if weights.W.shape[-1] > 3 * hidden else xs
        return carry.r * carry.c + (1 - carry.r) * scale * through

    return Cell(init, start, drive, step, read, diagonal=True)
