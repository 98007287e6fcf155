"""Selective copying: tokens strewn over a long silence, to be said in their order, without the silence."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from rnnlab.tasks.task import A_CLASS, Example, Task, below
from rnnlab.types import PyTree


def selective_copy(tokens: int = 10, kinds: int = 8) -> Task:
    """Tokens of some kinds at random steps, blanks between them, and then as many signals, at which the tokens are to
    be said in their order (Gu & Dao 2023, section 4.1; the denoising of Jing et al. 2019). length: T, the steps over
    which the tokens are strewn, at least as many as they are; T + tokens steps in all.

        read  _ b _ _ a _ ... b _    ! ! ... !       ids: tokens 0 to kinds - 1, blank, signal
        say   _ _ _ _ _ _ ... _ _    b a ... b

    Every set of steps is as likely as any other, so that what is to be kept cannot be told from the time, as it can in
    copying; a token is said T steps after it was read at the most. The signals' steps are scored and asked: who guesses
    needs ln(kinds) nats and is right once in `kinds`. By default 10 of 8 kinds, as in copying; Gu & Dao's scale is
    tokens=16, kinds=14 (16 ids with the blank and the signal) at T = 4096.

    >>> import jax
    >>> example = jax.jit(selective_copy(tokens=3, kinds=4).draw, static_argnums=2)(jax.random.key(0), 9, 9, ())
    >>> read, blank, signal = example.inputs.tolist(), 4, 5
    >>> read[:9].count(blank), read[9:] == [signal] * 3
    (6, True)
    >>> [token for token in read[:9] if token != blank] == example.targets[9:].tolist()
    True

    Raises ValueError for less than 1 token or less than 2 kinds.
    """
    if tokens < 1 or kinds < 2:
        raise ValueError(f"selective_copy: expected tokens >= 1 and kinds >= 2, got {tokens} and {kinds}")
    blank, signal = kinds, kinds + 1

    def draw(key: Key[Array, ""], length: Int[Array, ""] | int, bound: int, item: PyTree) -> Example:
        last = length - tokens + jnp.arange(tokens, dtype=jnp.int32)
        symbols, drawn = below(key, (2, tokens), jnp.stack([jnp.full_like(last, kinds), last + 1]))
        at = jnp.arange(bound + tokens, dtype=jnp.int32)
        asked = (at >= length) & (at < length + tokens)
        read = jnp.full(bound + tokens, blank, jnp.int32).at[_places(drawn, last)].set(symbols)
        return Example(
            inputs=jnp.where(at < length, read, jnp.where(asked, signal, 0)),
            targets=jnp.where(asked, symbols[jnp.clip(at - length, 0, tokens - 1)], 0),
            scored=asked,
            asked=asked,
            lengths=jnp.asarray(length + tokens, jnp.int32),
        )

    return Task(
        inputs=kinds + 2, outputs=kinds, draw=draw, steps=lambda length: length + tokens, lag=lambda length: length,
        chance=lambda length: math.log(kinds), guess=lambda length: 1 / kinds, answer=A_CLASS, shortest=tokens,
    )  # fmt: skip


def _places(drawn: Int[Array, " tokens"], last: Int[Array, " tokens"]) -> Int[Array, " tokens"]:
    """Different steps in order, every set equally likely, from draws of which the n-th is at most last[n]; that goes up
    by one to the last step there is (Floyd's method: Bentley & Floyd 1987).

    As many draws as tokens, however long: the same under any bound, and nothing is sorted but the tokens.
    """

    def choose(n: Int[Array, ""], chosen: Int[Array, " tokens"]) -> Int[Array, " tokens"]:
        return chosen.at[n].set(jnp.where((chosen == drawn[n]).any(), last[n], drawn[n]))

    return jnp.sort(jax.lax.fori_loop(0, len(drawn), choose, jnp.full_like(drawn, -1)))
