"""Simplified state space layer: HiPPO's normal part, in its eigenbasis."""

import math
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.complex import Complex, times
from rnnlab.cells.state_space import StateSpaceWeights, state_space
from rnnlab.types import Cell


class S5Params(NamedTuple):
    """decay: logarithm of the eigenvalues' -Re. frequency: their Im. step: logarithm of the time steps.
    W, V: input and output matrices, real and imaginary. P: skip matrix."""

    decay: Float[Array, " N"]
    frequency: Float[Array, " N"]
    step: Float[Array, " N"]
    W: Float[Array, "2 D N"]
    V: Float[Array, "2 N H"]
    P: Float[Array, "D H"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def s5(
    hidden: int,
    *,
    state: int | None = None,
    blocks: int = 1,
    steps: tuple[float, float] = (0.001, 0.1),
    kernel: inits.Initializer = inits.normal(),
    readout: inits.Initializer = inits.normal(),
    skip: inits.Initializer = inits.normal(),
) -> Cell:
    """S5 (Smith, Warrington & Linderman 2023, section 3), a linear system in continuous time, its input held a step:

        lambda = -exp(decay) + i frequency,   a = exp(lambda exp(step))
        s_t = a * s_{t-1} + (a - 1) / lambda * (x_t W),   y_t = 2 Re(s_t V) + x_t P

    x [*B D] -> y [*B H]. s has N = `state` complex numbers, by default H/2 rounded up: those of a real system of 2N
    numbers, without their conjugates. Defaults: the eigenvalues Lambda and vectors Q of `blocks` HiPPO-N matrices of
    2N / blocks numbers each, whose memory of the past they share; W = Q^-1 B and V = C Q of real normal B and C; step
    log-uniform between `steps`, one a number. The paper trains Re lambda itself, where it may become positive; and has
    D = H and a vector for P.
    ds_T/ds_t = a^(T-t), whatever the inputs. Raises ValueError unless `blocks` >= 1 divides `state` >= 1.
    """
    size = (hidden + 1) // 2 if state is None else state
    if size < 1 or blocks < 1 or size % blocks:
        raise ValueError(f"s5: expected blocks >= 1 that divide state >= 1, got {blocks} and {size}")

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> S5Params:
        B, C, P, step = jax.random.split(key, 4)
        wide = np.promote_types(dtype, np.float32)
        frequency, Q = hippo_normal(size // blocks)
        Q = np.kron(np.eye(blocks), Q)  # [2N, N]; the other N columns are the conjugates of these
        in_basis = lambda drawn, Q: jnp.stack([drawn @ Q.real, drawn @ Q.imag]).astype(dtype)  # noqa: E731
        low, high = map(math.log, steps)
        with jax.default_matmul_precision("highest"):
            W = in_basis(kernel(B, (dim, 2 * size), wide), Q.conj().astype(np.result_type(wide, np.complex64)))
            V = readout(C, (2 * size, hidden), wide)
            V = in_basis(V.T, Q.astype(np.result_type(wide, np.complex64)))
        return S5Params(
            jnp.full(size, math.log(0.5), dtype), jnp.asarray(np.tile(frequency, blocks), dtype),
            jax.random.uniform(step, (size,), wide, low, high).astype(dtype),
            W, V.swapaxes(1, 2), skip(P, (dim, hidden), dtype),
        )  # fmt: skip

    def prepare(params: S5Params) -> StateSpaceWeights:
        dtype = params.decay.dtype
        wide = np.promote_types(dtype, np.float32)
        decay, frequency, step = (one.astype(wide) for one in params[:3])
        rate, step = jnp.exp(decay), jnp.exp(step)
        grown, turned = jnp.expm1(-rate * step), frequency * step
        # a - 1 without a difference of numbers that are nearly 1.
        less = Complex(grown - 2 * (grown + 1) * jnp.sin(turned / 2) ** 2, (grown + 1) * jnp.sin(turned))
        square = rate**2 + frequency**2
        held = times(less, Complex(-rate / square, -frequency / square))
        W = times(held, Complex(*params.W.astype(wide)))
        narrow = lambda tree: jax.tree.map(lambda one: one.astype(dtype), tree)  # noqa: E731
        return StateSpaceWeights(*narrow((less._replace(re=less.re + 1), W)), 2 * params.V, params.P)

    return state_space(size, init, prepare)


def hippo_normal(pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Im of the `pairs` eigenvalues of HiPPO-N with Im > 0, and their vectors [2 pairs, pairs]; Re is -1/2 (section 4).

    HiPPO-N is -1/2 and a skew-symmetric matrix, sqrt((2i + 1) (2j + 1)) / 2 above the diagonal: HiPPO-LegS less its
    part of rank 1. In float64, as an eigenvalue problem of a Hermitian matrix.
    """
    root = np.sqrt(2 * np.arange(2 * pairs) + 1)
    above = np.triu(np.outer(root, root) / 2, 1)
    frequency, vectors = np.linalg.eigh(-1j * (above - above.T))
    return frequency[pairs:], vectors[:, pairs:]
