"""The copying problem: symbols, a long silence, and the same symbols again."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from rnnlab.tasks.task import A_CLASS, Example, Task, below
from rnnlab.types import PyTree

SYMBOLS, COPIED = 8, 10
BLANK, GO = SYMBOLS, SYMBOLS + 1


def copy_memory() -> Task:
    """10 symbols of 8, a silence, a signal, and the 10 symbols to be said (Hochreiter & Schmidhuber 1997; Arjovsky,
    Shah & Bengio 2016, section 5.1). length: T, the steps between the last symbol and the first that is asked, of
    which the last is the signal; T + 20 steps in all.

        read  s_1 ... s_10   _ ... _ !   _ ... _         ids 0 to 7, blank 8, signal 9
        say   _   ... _      _ ... _ _   s_1 ... s_10

    Every step is scored, the last 10 are asked. Who knows when to speak and guesses what needs 10 ln 8 / (T + 20) nats
    a step; the share of right answers is then 1/8.

    >>> import jax
    >>> example = jax.jit(copy_memory().draw, static_argnums=2)(jax.random.key(0), 3, 3, ())
    >>> example.inputs.shape, example.inputs[10:].tolist()
    ((23,), [8, 8, 9, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8])
    >>> example.targets[:13].tolist() == [8] * 13, (example.targets[13:] == example.inputs[:10]).all().item()
    (True, True)
    """
    return Task(
        inputs=SYMBOLS + 2, outputs=SYMBOLS + 1, draw=_draw, steps=lambda length: length + 2 * COPIED,
        lag=lambda length: length + COPIED, chance=lambda length: COPIED * math.log(SYMBOLS) / (length + 2 * COPIED),
        guess=lambda length: 1 / SYMBOLS, answer=A_CLASS,
    )  # fmt: skip


def _draw(key: Key[Array, ""], length: Int[Array, ""] | int, bound: int, item: PyTree) -> Example:
    symbols = below(key, (COPIED,), SYMBOLS)
    at, answer = jnp.arange(bound + 2 * COPIED, dtype=jnp.int32), COPIED + length
    keep, asked = at < answer + COPIED, (at >= answer) & (at < answer + COPIED)
    read = jnp.where(at == answer - 1, GO, BLANK)
    read = jnp.where(at < COPIED, symbols[jnp.minimum(at, COPIED - 1)], read)
    said = jnp.where(asked, symbols[jnp.clip(at - answer, 0, COPIED - 1)], BLANK)
    return Example(
        inputs=jnp.where(keep, read, 0),
        targets=jnp.where(keep, said, 0),
        scored=keep,
        asked=asked,
        lengths=jnp.asarray(length + 2 * COPIED, jnp.int32),
    )
