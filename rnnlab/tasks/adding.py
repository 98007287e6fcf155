"""The adding problem: two marked numbers of a long sequence, and their sum at its end."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from rnnlab.tasks.task import A_NUMBER, Example, Task, asked_last, below, each_step
from rnnlab.types import PyTree


def adding() -> Task:
    """T steps of (a number of U(0, 1), a mark). Two steps are marked, one in each half; at the last step the sum of
    their numbers is asked (Hochreiter & Schmidhuber 1997, section 5.4, in the form of Arjovsky, Shah & Bengio 2016,
    section 5.2). length: T, at least 2.

    Who always says 1 has a mean squared error of 1/6, the variance of the sum of two uniform numbers.

    >>> import jax
    >>> example = jax.jit(adding().draw, static_argnums=2)(jax.random.key(0), 12, 12, ())
    >>> example.inputs.shape, int(example.inputs[:, 1].sum())  # a number and a mark a step; two are marked
    ((12, 2), 2)
    >>> marked = example.inputs[example.inputs[:, 1] == 1, 0]
    >>> bool(abs(marked.sum() - example.targets[-1]) < 1e-6), example.scored.tolist() == [False] * 11 + [True]
    (True, True)
    """
    return Task(
        inputs=2, outputs=1, draw=_draw, steps=lambda length: length, lag=lambda length: length - 1,
        chance=lambda length: 1 / 6, guess=None, answer=A_NUMBER, shortest=2,
    )  # fmt: skip


def _draw(key: Key[Array, ""], length: Int[Array, ""] | int, bound: int, item: PyTree) -> Example:
    numbers, marked = jax.random.split(key)
    length = jnp.asarray(length, jnp.int32)
    half, at = length // 2, jnp.arange(bound, dtype=jnp.int32)
    values = each_step(partial(jax.random.uniform, dtype=jnp.float32), numbers, bound)
    first, second = below(marked, (2,), jnp.stack([half, length - half]))
    marks = (at == first) | (at == half + second)
    total = jnp.where(marks, values, 0).sum()
    return asked_last(jnp.stack([values, marks.astype(jnp.float32)], axis=-1), total, length)
