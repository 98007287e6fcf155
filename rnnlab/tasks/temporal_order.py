"""The temporal order problem: which symbols came, in which order, among many that do not matter."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from rnnlab.tasks.task import A_CLASS, Example, Task, asked_last, below, each_step
from rnnlab.types import PyTree

X, Y, DISTRACTORS = 0, 1, 4
# Where the symbols that matter may stand, in hundredths of the length, by the number of classes: both ends included.
WINDOWS = {4: ((10, 20), (50, 60)), 8: ((10, 20), (33, 43), (66, 76))}


def temporal_order(classes: int = 4) -> Task:
    """X or Y at 2 places (4 classes) or 3 (8 classes) among distractors; at the last step the class is asked, which is
    their order (Hochreiter & Schmidhuber 1997, section 5.6, experiments 6a and 6b). length: T, at least 10.

        read  b d X a c ... a Y c ... d b a c        ids: X 0, Y 1, a b c d 2 to 5
        say   _ _ _ _ _ ... _ _ _ ... _ _ _ 1        XX 0, XY 1, YX 2, YY 3; XXX 0, XXY 1, ..., YYY 7

    Each place is uniform in its window: of a length of 100, the experiments' 10 to 20 and 50 to 60 (6a), or 10 to 20,
    33 to 43 and 66 to 76 (6b); of any other, in proportion. As in the code of Pascanu, Mikolov & Bengio 2013, and
    unlike 1997, no symbol of its own starts or ends the sequence. Who guesses needs ln 4 or ln 8 nats and is right once
    in 4 or 8.

    >>> import jax
    >>> example = jax.jit(temporal_order().draw, static_argnums=2)(jax.random.key(0), 12, 12, ())
    >>> places = [t for t, symbol in enumerate(example.inputs.tolist()) if symbol < 2]
    >>> len(places), 1 <= places[0] <= 2, 6 <= places[1] <= 7
    (2, True, True)
    >>> first, second = example.inputs[jnp.array(places)].tolist()
    >>> example.targets[-1].item() == 2 * first + second, example.asked.tolist() == [False] * 11 + [True]
    (True, True)

    Raises ValueError for a number of classes other than 4 and 8.
    """
    if classes not in WINDOWS:
        raise ValueError(f"temporal_order: expected classes 4 or 8, got {classes}")
    windows = WINDOWS[classes]

    def draw(key: Key[Array, ""], length: Int[Array, ""] | int, bound: int, item: PyTree) -> Example:
        others, own = jax.random.split(key)
        read = each_step(lambda key: Y + 1 + below(key, (), DISTRACTORS), others, bound)
        ends = jnp.array(windows, jnp.int32) * length // 100
        widths = ends[:, 1] + 1 - ends[:, 0]
        symbols, places = below(own, (2, len(windows)), jnp.stack([jnp.full_like(widths, Y + 1), widths]))
        order = jnp.zeros((), jnp.int32)
        for n in range(len(windows)):
            order = 2 * order + symbols[n]
        return asked_last(read.at[ends[:, 0] + places].set(symbols), order, length)

    return Task(
        inputs=Y + 1 + DISTRACTORS, outputs=classes, draw=draw, steps=lambda length: length,
        lag=lambda length: length - 1 - length * windows[0][0] // 100, chance=lambda length: math.log(classes),
        guess=lambda length: 1 / classes, answer=A_CLASS, shortest=10,
    )  # fmt: skip
