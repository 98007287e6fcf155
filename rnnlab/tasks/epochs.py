"""Which examples of a pool each training step reads, for several seeds side by side."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from rnnlab.data.plans import drop, plan
from rnnlab.errors import InputError

Position = Sequence[int]


def epochs(
    count: int, size: int, seeds: Sequence[int], position: Position = (0, 0)
) -> Iterator[tuple[tuple[int, int], Int[np.ndarray, "S B"]]]:
    """(position after the step, numbers of examples [S, B] int32), for ever: of each seed its own epochs, in each of
    which no example comes twice, shuffled by (seed, epoch). What does not fill a batch is left out of its epoch.

    count: examples. size: B. position: (epoch, batches of it that were given), as JSON takes it: from there on follows
    what would have followed.

    Raises InputError for fewer examples than a batch takes, ValueError for a position that there is none of.

    >>> first, second, third = (step for step, _ in zip(epochs(10, 4, [0, 1]), range(3)))
    >>> first[0], second[0], third[1].shape
    ((0, 1), (1, 0), (2, 4))
    >>> len({*first[1][0].tolist(), *second[1][0].tolist()})  # of seed 0, in one epoch
    8
    """
    if not 1 <= size <= count:
        raise InputError(f"epochs: expected batches of 1 to {count} examples, which there are, got {size}")
    epoch, index = position
    if epoch < 0 or not 0 <= index < count // size:
        raise ValueError(f"epochs: expected an epoch and less than its {count // size} batches, got {list(position)}")
    return _epochs(count, size, seeds, epoch, index)


def _epochs(count: int, size: int, seeds: Sequence[int], epoch: int, index: int) -> Iterator:
    bucket = np.zeros(count, np.int64)
    while True:
        plans = [plan(bucket, size, seed=seed, epoch=epoch, leftover=drop).rows for seed in seeds]
        numbers = np.stack(plans, axis=1)
        for at in range(index, len(numbers)):
            yield (epoch, at + 1) if at + 1 < len(numbers) else (epoch + 1, 0), numbers[at]
        epoch, index = epoch + 1, 0
