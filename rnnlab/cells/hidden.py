"""The carry of a cell that carries its hidden state alone."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from rnnlab.types import PyTree


class Hidden(NamedTuple):
    """h: hidden state."""

    h: Float[Array, "*B H"]


def zeros(hidden: int, *, like: str = "U") -> Callable[..., Hidden]:
    """The `start` of such a cell, of the type of one of its weights."""

    def start(weights: PyTree, batch_shape: tuple[int, ...]) -> Hidden:
        return Hidden(h=jnp.zeros((*batch_shape, hidden), getattr(weights, like).dtype))

    return start


def output(weights: PyTree, carry: PyTree, xs: PyTree) -> Float[Array, "*B H"]:
    """The `read` of any cell whose output is its h."""
    return carry.h


def mixed(carry: Hidden, keep: Float[Array, "*B H"], candidate: Float[Array, "*B H"]) -> Hidden:
    """What a gate leaves of the old state, and the candidate for the rest."""
    return Hidden((1 - keep) * candidate + keep * carry.h)
