"""Linear recurrent unit: a complex diagonal recurrence that cannot explode."""

import math
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.complex import Complex
from rnnlab.cells.state_space import StateSpaceWeights, state_space
from rnnlab.types import Cell


class LRUParams(NamedTuple):
    """nu, theta, gamma: logarithms of decay, phase and scale. W, V: input and output matrices, real and imaginary.
    P: skip matrix."""

    nu: Float[Array, " N"]
    theta: Float[Array, " N"]
    gamma: Float[Array, " N"]
    W: Float[Array, "2 D N"]
    V: Float[Array, "2 N H"]
    P: Float[Array, "D H"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def lru(
    hidden: int,
    *,
    state: int | None = None,
    r_min: float = 0.0,
    r_max: float = 1.0,
    max_phase: float = 2 * math.pi,
    kernel: inits.Initializer = inits.normal(),
    readout: inits.Initializer = inits.normal(),
    skip: inits.Initializer = inits.normal(),
) -> Cell:
    """Linear recurrent unit (Orvieto et al. 2023, section 3 and appendix A):

        lambda = exp(-exp(nu) + i exp(theta))
        s_t = lambda * s_{t-1} + exp(gamma) * (x_t W),   y_t = Re(s_t V) + x_t P

    x [*B D] -> y [*B H], s of N = `state` complex numbers, by default H; |lambda| < 1 whatever nu is. The paper has
    D = H and a vector for P. Defaults: lambda uniform over the ring between the radii, of phases up to `max_phase`, and
    exp(gamma) = sqrt(1 - |lambda|^2), with which E |s|^2 = 1 for white inputs; W complex normal of variance 1/D, V of
    2/N (1/N each part), so that y has variance 1 as well, P normal.
    ds_T/ds_t = lambda^(T-t), whatever the inputs. Raises ValueError unless 0 <= r_min < r_max <= 1 and state >= 1.
    """
    size = hidden if state is None else state
    if not 0 <= r_min < r_max <= 1:
        raise ValueError(f"lru: expected 0 <= r_min < r_max <= 1, got {r_min} and {r_max}")
    if size < 1:
        raise ValueError(f"lru: expected state >= 1, got {size}")

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> LRUParams:
        W, V, P, radius, phase = jax.random.split(key, 5)
        least = float(jnp.finfo(jnp.float32).tiny)  # a uniform number may be 0, whose logarithm has no gradient
        draw = lambda key: jax.random.uniform(key, (size,), np.promote_types(dtype, np.float32), least)  # noqa: E731
        nu = jnp.log(-jnp.log(draw(radius) * (r_max**2 - r_min**2) + r_min**2) / 2).astype(dtype)
        decay = jnp.exp(nu.astype(np.promote_types(dtype, np.float32)))  # of the nu that is stored
        parts = lambda one, key, shape: jnp.stack([one(k, shape, dtype) for k in jax.random.split(key)])  # noqa: E731
        return LRUParams(
            nu, jnp.log(max_phase * draw(phase)).astype(dtype),
            (jnp.log(-jnp.expm1(-2 * decay)) / 2).astype(dtype),
            W=parts(kernel, W, (dim, size)) / math.sqrt(2), V=parts(readout, V, (size, hidden)),
            P=skip(P, (dim, hidden), dtype),
        )  # fmt: skip

    def prepare(params: LRUParams) -> StateSpaceWeights:
        dtype = params.nu.dtype
        nu, theta, gamma = (one.astype(np.promote_types(dtype, np.float32)) for one in params[:3])
        radius, phase = jnp.exp(-jnp.exp(nu)), jnp.exp(theta)
        a = Complex((radius * jnp.cos(phase)).astype(dtype), (radius * jnp.sin(phase)).astype(dtype))
        return StateSpaceWeights(a, Complex(*(params.W * jnp.exp(gamma).astype(dtype))), params.V, params.P)

    return state_space(size, init, prepare)
