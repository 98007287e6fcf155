"""Gradient flossing: a network's first Lyapunov exponents, pulled to 0 by gradient descent."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab.probes.flow import Stack
from rnnlab.probes.lyapunov import lyapunov_spectrum
from rnnlab.types import PyTree


def flossing_loss(
    cells: Stack,
    params: PyTree,
    xs: Float[Array, "T ..."],
    key: Key[Array, ""],
    *,
    count: int,
    burn_in: int = 0,
    **how: PyTree,
) -> Float[Array, "..."]:
    """The sum of squares of the first `count` exponents along xs [T, *B, D], each example's own [*B].

    Exponents at 0 are directions in which gradients neither fade nor explode (Engelken 2023): descend on
    this alone before training, or between its steps, or add it to a task's loss. The gradient goes through the states
    and through the QR decomposition of every step. Arguments as of `lyapunov_spectrum`; `key` draws the first
    directions: the same key for every step makes it the loss of one function.

    Time: two to three of `lyapunov_spectrum`. Memory: T k S a row, for the backward pass; in chaos that pass explodes
    like any gradient through T steps, so take T short or the gradient clipped. To penalise norms along
    the loss's own gradient rather than along all leading directions, prefer `omega`.
    """
    found = lyapunov_spectrum(cells, params, xs, key, count=count, burn_in=burn_in, **how)
    return jnp.sum(found.exponents**2, axis=-1)
