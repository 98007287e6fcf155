"""What a task is: examples drawn from a key, how an answer is scored, and what guessing reaches."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key, Num, Shaped

from rnnlab.types import PyTree


class Example(NamedTuple):
    """One example, or a batch of them: axes *B after time, or none.

    inputs:  [T, *B, D] floats, or [T, *B] ids below the task's `inputs`
    targets: [T, *B] ids below the task's `outputs`, or floats where the answer is a number; 0 where nothing is scored
    scored:  [T, *B] whether the step's loss counts
    asked:   [T, *B] whether its answer counts in the accuracy; a step that is asked is scored
    lengths: [*B] int32, the steps that a row has; the rest is padding, of zeros and nothing scored
    """

    inputs: Num[Array, "T ..."]
    targets: Num[Array, "T ..."]
    scored: Bool[Array, "T ..."]
    asked: Bool[Array, "T ..."]
    lengths: Int[Array, "..."]


AXES = Example(inputs=1, targets=1, scored=1, asked=1, lengths=0)  # of rows, for `rnnlab.train.step`


class Answer(NamedTuple):
    """How what a model says at a step is scored.

    loss:  (outputs [..., C], targets [...]) -> [...], in `unit`
    right: the same arguments -> [...] bool
    """

    unit: str
    loss: Callable[[Array, Array], Array]
    right: Callable[[Array, Array], Array]


def _is_class(outputs: Float[Array, "... C"], targets: Int[Array, "..."]) -> Bool[Array, "..."]:
    return outputs.argmax(-1).astype(targets.dtype) == targets


def _squared(outputs: Float[Array, "... 1"], targets: Float[Array, "..."]) -> Float[Array, "..."]:
    return (outputs[..., 0] - targets) ** 2


def _is_near(outputs: Float[Array, "... 1"], targets: Float[Array, "..."]) -> Bool[Array, "..."]:
    return jnp.abs(outputs[..., 0] - targets) < 0.04


# One of C classes: cross-entropy, and whether the likeliest is the right one.
A_CLASS = Answer("nats", optax.softmax_cross_entropy_with_integer_labels, _is_class)
# A number: squared error, and whether it is within 0.04 (Hochreiter & Schmidhuber 1997, section 5.4).
A_NUMBER = Answer("squared error", _squared, _is_near)


class Task(NamedTuple):
    """Examples of one kind, of any length.

    inputs:   D, features of an input, or the number of ids; outputs: C, classes, or 1 for a number
    draw:     (key, length [], bound, item) -> Example of steps(bound) steps, of which steps(length) are not padding.
              The length may be traced and is at most the bound, which says nothing of what is drawn: under another,
              the same example with another padding. item: of the pool's leaves, one entry; () without
    steps:    length -> T. What a length is, the task's own docstring says
    lag:      length -> steps over which something has to be kept, at the most
    chance:   length -> mean loss over scored steps of the best answer that is blind to the inputs (exact)
    guess:    length -> the share of right answers that such a predictor gives; None where the answer is a number
    answer:   how it is scored
    shortest: the least length
    origin:   where the data come from, in words: "generated", or "real: ..."
    pool:     by split (train, validation, test), what examples are made of, leaves [N, ...]; {} for a generated task,
              whose examples are made of nothing but a key
    hashes:   SHA-256 of what the pool was made from, by name
    """

    inputs: int
    outputs: int
    draw: Callable[[Array, Any, int, PyTree], Example]
    steps: Callable[[Any], Any]
    lag: Callable[[int], int]
    chance: Callable[[int], float]
    guess: Callable[[int], float] | None
    answer: Answer
    shortest: int = 1
    origin: str = "generated"
    pool: dict[str, PyTree] = {}  # noqa: RUF012 (a constant, as every value of a tuple)
    hashes: dict[str, str] = {}  # noqa: RUF012


# The streams of keys of one seed: no example of one split is drawn for another. Training folds its steps into the
# same seed's key, for dropout, and never comes to such numbers.
SPLITS = {"train": 2**31, "validation": 2**31 + 1, "test": 2**31 + 2}


def key_of(seed: int | Array, split: str) -> Key[Array, ""]:
    """Where all examples of a split come from, with one seed."""
    return jax.random.fold_in(jax.random.key(seed), SPLITS[split])


def draw_batch(
    task: Task,
    key: Key[Array, ""],
    step: Int[Array, ""] | int,
    rows: int,
    bound: int,
    *,
    shortest: Int[Array, ""] | int | None = None,
    longest: Int[Array, ""] | int | None = None,
    items: PyTree = (),
) -> Example:
    """Examples [T, B, ...] of a step, each from (key, step, its number) alone: the same in a batch of any size.

    bound: the length that they are padded to, static. shortest, longest: each one's length is drawn between them, the
    bound where they are not given; they may be traced, and are then the caller's to check.
    items: of the pool's leaves, one entry a row [B, ...]; () for a generated task.
    Raises ValueError for lengths that the task has not.
    """
    high = bound if longest is None else longest
    low = high if shortest is None else shortest
    if all(isinstance(length, int) for length in (low, high)) and not task.shortest <= low <= high <= bound:
        raise ValueError(
            f"draw_batch: expected {task.shortest} <= shortest <= longest <= bound, got {low}, {high} and {bound}"
        )
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, step)))(jnp.arange(rows, dtype=jnp.uint32))

    def one(key: Key[Array, ""], item: PyTree) -> Example:
        of_length, own = jax.random.split(key)
        same = isinstance(low, int) and isinstance(high, int) and low == high
        length = low if same else low + below(of_length, (), high + 1 - low)
        return task.draw(own, length, bound, item)

    return jax.vmap(one, out_axes=AXES)(keys, items)


def below(key: Key[Array, ""], shape: tuple[int, ...], high: Int[Array, "..."] | int) -> Int[Array, "..."]:
    """int32 from 0 to high - 1, as likely as each other to within high / 2^32.

    One draw of 32 bits for each. `jax.random.randint` is closer still, by two draws from two keys of their own, and
    takes more than twice as long to compile, which is most of the time of a small run.

    >>> [sorted(set(below(jax.random.key(0), (100,), high).tolist())) for high in (1, 3)]
    [[0], [0, 1, 2]]
    """
    bits = jax.random.bits(key, shape, jnp.uint32)
    return (bits % jnp.asarray(high, jnp.uint32)).astype(jnp.int32)


def each_step(draw: Callable[[Key[Array, ""]], Array], key: Key[Array, ""], bound: int) -> Shaped[Array, "T ..."]:
    """[bound, ...]: a draw for each step, from (key, its number) alone: the same however many steps follow.

    >>> key = jax.random.key(0)
    >>> (each_step(jax.random.uniform, key, 3) == each_step(jax.random.uniform, key, 5)[:3]).all().item()
    True
    """
    steps = jnp.arange(bound, dtype=jnp.uint32)
    return jax.vmap(lambda step: draw(jax.random.fold_in(key, step)))(steps)


def asked_last(inputs: Num[Array, "T ..."], answer: Num[Array, ""], steps: Int[Array, ""] | int) -> Example:
    """An example of `steps` steps, of which the last alone is scored and asked; inputs after it are made 0.

    >>> example = asked_last(jnp.array([5, 6, 7, 8]), jnp.array(1), 3)
    >>> example.inputs.tolist(), example.targets.tolist(), example.asked.tolist(), example.lengths.item()
    ([5, 6, 7, 0], [0, 0, 1, 0], [False, False, True, False], 3)
    """
    at = jnp.arange(len(inputs), dtype=jnp.int32)
    keep, last = at < steps, at == steps - 1
    return Example(
        inputs=jnp.where(keep.reshape(-1, *(1,) * (inputs.ndim - 1)), inputs, 0),
        targets=jnp.where(last, answer, 0),
        scored=last,
        asked=last,
        lengths=jnp.asarray(steps, jnp.int32),
    )
