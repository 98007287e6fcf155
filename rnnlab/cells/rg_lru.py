"""Real-gated linear recurrent unit."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.affine import real
from rnnlab.cells.hidden import Hidden, output, zeros
from rnnlab.cells.products import product
from rnnlab.types import Cell


class RGLRUParams(NamedTuple):
    """In the order r, i, value. W: input. b: biases of the two gates. decay: a before its sigmoid."""

    W: Float[Array, "D G"]
    b: Float[Array, " 2H"]
    decay: Float[Array, " H"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def rg_lru(
    hidden: int,
    *,
    c: float = 8.0,
    radii: tuple[float, float] = (0.9, 0.999),
    kernel: inits.Initializer = inits.normal(),
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """Real-gated linear recurrent unit of Griffin (De et al. 2024, equations 1 to 4):

        r, i = sigmoid(x_t W_r + b_r), sigmoid(x_t W_i + b_i),   a_t = sigmoid(decay)^(c r)
        h_t = a_t * h_{t-1} + sqrt(1 - a_t^2) * i * (x_t W_v),   y_t = h_t

    x [*B D] -> y [*B H]. In the paper D = H and W_v = I: the matrix is the linear map of the block before it. Defaults:
    decay such that sigmoid(decay)^c is uniform between `radii` (section 2.4), normal W, biases 0.
    With W = 0, dh_T/dh_t = sigmoid(decay)^(c sigmoid(b_r) (T-t)). Raises ValueError unless 0 < radii < 1 and c > 0.
    """
    low, high = radii
    if not (0 < low < high < 1 and c > 0):
        raise ValueError(f"rg_lru: expected 0 < radii < 1, the lower one first, and c > 0, got {radii} and {c}")

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> RGLRUParams:
        W, b, decay = jax.random.split(key, 3)
        log_a = jnp.log(jax.random.uniform(decay, (hidden,), np.promote_types(dtype, np.float32), low, high)) / c
        return RGLRUParams(
            W=inits.gates([kernel] * 3, W, (dim, hidden), dtype), b=inits.gates([bias] * 2, b, (hidden,), dtype),
            decay=(log_a - jnp.log(-jnp.expm1(log_a))).astype(dtype),
        )  # fmt: skip

    def drive(weights: RGLRUParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
        return product(xs, weights.W)

    def coefficients(weights: RGLRUParams, z: Float[Array, "*B G"]) -> tuple[Hidden, Hidden]:
        gates, value = z[..., : 2 * hidden], z[..., 2 * hidden :]
        r, i = jnp.split(jax.nn.sigmoid(gates + weights.b), 2, axis=-1)
        log_a = c * r * jax.nn.log_sigmoid(weights.decay)
        # The floor, of which the root is a rounding error, keeps the root's slope finite where a_t rounds to 1.
        left = jnp.maximum(-jnp.expm1(2 * log_a), jnp.finfo(z.dtype).eps ** 2)
        return Hidden(jnp.exp(log_a)), Hidden(jnp.sqrt(left) * i * value)

    def step(weights: RGLRUParams, carry: Hidden, z: Float[Array, "*B G"]) -> Hidden:
        a, b = coefficients(weights, z)
        return Hidden(a.h * carry.h + b.h)

    return Cell(init, zeros(hidden, like="W"), drive, step, output, affine=real(coefficients), diagonal=True)
