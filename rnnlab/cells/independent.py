"""The independently recurrent network: units that see their own past alone."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab import initializers as inits
from rnnlab.cells.hidden import Hidden, output, zeros
from rnnlab.cells.products import product
from rnnlab.types import Cell


class IndRNNParams(NamedTuple):
    """W: input matrix. u: recurrent weight of each unit. b: bias."""

    W: Float[Array, "D H"]
    u: Float[Array, " H"]
    b: Float[Array, " H"]


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def ind_rnn(
    hidden: int,
    *,
    longest: int | None = None,
    activation: Callable[[Array], Array] = jax.nn.relu,
    kernel: inits.Initializer = inits.normal(),
    recurrent: inits.Initializer | None = None,
    bias: inits.Initializer = inits.constant(),
) -> Cell:
    """Independently recurrent network (Li, Li, Cook, Zhu & Gao 2018, equation 2):

        h_t = activation(x_t W + u * h_{t-1} + b),   y_t = h_t

    x [*B D] -> y [*B H]. longest: T of the paper, the steps over which a gradient may at most double (section 3.1): u
    is then held to |u| <= 2^(1/T) wherever it is used; its gradient is 0 beyond. None: no limit.
    Defaults: u of U(0, 2^(1/longest)), of U(0, 1) without a limit (section 3.2; `recurrent` draws another u); normal
    W, b = 0. With relu, dh_T/dh_t = u^(T-t) in a unit that stays above 0.
    Raises ValueError where longest < 1.
    """
    if longest is not None and longest < 1:
        raise ValueError(f"ind_rnn: expected longest >= 1 steps, got {longest}")
    bound = None if longest is None else 2 ** (1 / longest)
    recurrent = recurrent or jax.nn.initializers.uniform(bound or 1.0)

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> IndRNNParams:
        W, u, b = jax.random.split(key, 3)
        return IndRNNParams(
            W=kernel(W, (dim, hidden), dtype), u=recurrent(u, (hidden,), dtype), b=bias(b, (hidden,), dtype)
        )

    def prepare(params: IndRNNParams) -> IndRNNParams:
        return params if bound is None else params._replace(u=jnp.clip(params.u, -bound, bound))

    def drive(weights: IndRNNParams, xs: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
        return product(xs, weights.W)

    def step(weights: IndRNNParams, carry: Hidden, z: Float[Array, "*B H"]) -> Hidden:
        return Hidden(activation(z + weights.u * carry.h + weights.b))

    return Cell(init, zeros(hidden, like="u"), drive, step, output, prepare, diagonal=True)
