"""Parity: whether the number of ones is odd."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from rnnlab.tasks.task import A_CLASS, Example, Task, asked_last, below, each_step
from rnnlab.types import PyTree


def parity() -> Task:
    """T bits; at the last step it is asked whether the number of ones is odd (one of the regular languages of Delétang
    et al. 2023). length: T.

        read  0 1 1 0 1      say  _ _ _ _ 1

    Who guesses needs ln 2 nats and is right every other time, and so does who misses any one of the bits.

    >>> import jax
    >>> example = jax.jit(parity().draw, static_argnums=2)(jax.random.key(0), 12, 12, ())
    >>> set(example.inputs.tolist()) == {0, 1}, example.targets[-1].item() == example.inputs.sum().item() % 2
    (True, True)
    """
    return Task(
        inputs=2, outputs=2, draw=_draw, steps=lambda length: length, lag=lambda length: length - 1,
        chance=lambda length: math.log(2), guess=lambda length: 1 / 2, answer=A_CLASS,
    )  # fmt: skip


def _draw(key: Key[Array, ""], length: Int[Array, ""] | int, bound: int, item: PyTree) -> Example:
    bits = each_step(lambda key: below(key, (), 2), key, bound)
    ones = jnp.where(jnp.arange(bound, dtype=jnp.int32) < length, bits, 0).sum(dtype=jnp.int32)
    return asked_last(bits, ones % 2, length)
