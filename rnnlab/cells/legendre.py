"""The Legendre memory unit: a window of the past as coefficients of polynomials."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.products import product
from rnnlab.types import Cell


class LMUParams(NamedTuple):
    """To h: W from the input, U from h, V from the memory. x, h, m: to the memory's input, from each."""

    W: Float[Array, "D H"]
    U: Float[Array, "H H"]
    V: Float[Array, "M H"]
    x: Float[Array, " D"]
    h: Float[Array, " H"]
    m: Float[Array, " M"]


class LMUWeights(NamedTuple):
    """A, B: the memory's map of itself and of its input. params: the parameters."""

    A: Float[Array, "M M"]
    B: Float[Array, " M"]
    params: LMUParams


class LMUCarry(NamedTuple):
    """h: hidden state. m: memory."""

    h: Float[Array, "*B H"]
    m: Float[Array, "*B M"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def lmu(
    hidden: int,
    *,
    order: int | None = None,
    theta: float = 100.0,
    kernel: inits.Initializer = jax.nn.initializers.glorot_normal(),
    recurrent: inits.Initializer = jax.nn.initializers.glorot_normal(),
    encoder: inits.Initializer = jax.nn.initializers.lecun_uniform(),
    memory_encoder: inits.Initializer = inits.constant(),
) -> Cell:
    """Legendre memory unit (Voelker, Kajic & Eliasmith 2019, equations 2, 4 and 6 to 8):

        u_t = x_t . e_x + h_{t-1} . e_h + m_{t-1} . e_m,   m_t = m_{t-1} A + u_t B
        h_t = tanh(x_t W + h_{t-1} U + m_t V),   y_t = h_t

    x [*B D] -> y [*B H]. m are the last `theta` steps of u in the first `order` Legendre polynomials (default: as many
    as hidden units): u_{t - r theta} is about sum_i P_i(2r - 1) m_i, 0 <= r <= 1. A and B are fixed, the exact
    (zero-order hold) discretisation of their differential equation, computed in float64.
    Defaults, as in the paper: Xavier normal W, U, V, LeCun uniform e_x and e_h, e_m = 0; it has no bias.
    Raises ValueError unless order >= 1 and theta > 0.
    """
    order = hidden if order is None else order
    if order < 1 or theta <= 0:
        raise ValueError(f"lmu: expected order >= 1 and theta > 0, got {order} and {theta}")
    A, B = discrete(order, theta)

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> LMUParams:
        W, U, V, x, h, m = jax.random.split(key, 6)
        column = lambda draw, key, size: draw(key, (size, 1), dtype)[:, 0]  # noqa: E731
        return LMUParams(
            W=kernel(W, (dim, hidden), dtype), U=recurrent(U, (hidden, hidden), dtype),
            V=recurrent(V, (order, hidden), dtype),
            x=column(encoder, x, dim), h=column(encoder, h, hidden), m=column(memory_encoder, m, order),
        )  # fmt: skip

    def prepare(params: LMUParams) -> LMUWeights:
        return LMUWeights(jnp.asarray(A, params.U.dtype), jnp.asarray(B, params.U.dtype), params)

    def start(weights: LMUWeights, batch_shape: tuple[int, ...]) -> LMUCarry:
        dtype = weights.params.U.dtype
        return LMUCarry(h=jnp.zeros((*batch_shape, hidden), dtype), m=jnp.zeros((*batch_shape, order), dtype))

    return Cell(init, start, _drive, _step, _read, prepare)


def discrete(order: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """A [M, M] (of rows m A) and B [M] of theta dm/dt = a m + b u, u held for one step at a time, in float64."""
    i, j = np.ogrid[:order, :order]
    a = (2 * i + 1) * np.where(i < j, -1.0, (-1.0) ** (i - j + 1))
    b = (2 * i + 1) * (-1.0) ** i
    both = np.block([[a, b], [np.zeros((1, order + 1))]]) / theta
    found = scipy.linalg.expm(both)
    return found[:order, :order].T, found[:order, order]


def _drive(weights: LMUWeights, xs: Float[Array, "*B D"]) -> tuple[Array, Array]:
    return product(xs, weights.params.W), product(xs, weights.params.x[:, None])


def _step(weights: LMUWeights, carry: LMUCarry, z: tuple[Array, Array]) -> LMUCarry:
    p, (x, u) = weights.params, z
    u = u + (carry.h @ p.h + carry.m @ p.m)[..., None]
    m = carry.m @ weights.A + u * weights.B
    return LMUCarry(h=jnp.tanh(x + carry.h @ p.U + m @ p.V), m=m)


def _read(weights: LMUWeights, carry: LMUCarry, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
    return carry.h
