"""Batches from a pure plan: where a stream is, three integers say, and from them all that follows is computed again.

    source = bucketed(columns, bounds_for(columns.lengths, 8, 64), 64)
    for state, batch in stream(source, State(seed=0, epoch=0, index=0)):  # `state` is where it is after `batch`

A source is a function (seed, epoch) -> Epoch. Nothing else is remembered: `stream(source, state)` gives the batches
that would have followed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from rnnlab.data.columns import Columns, gather, padded
from rnnlab.data.plans import EMPTY, Leftover, Order, buckets, check_shards, keep, plan, shuffled
from rnnlab.errors import InputError


class State(NamedTuple):
    """Where a stream is: the batches of `epoch` before `index` have been given. `State(*json)` reads it back."""

    seed: int
    epoch: int
    index: int


class Batch(NamedTuple):
    """sequences: [T, B, ...] by column, zero where padded, T the bound of the column in this batch's bucket.
    fixed: [B, ...] by column. lengths: [B] int32, by sequence column. numbers: [B] int32, which example each row is;
    -1 for an empty row, whose lengths are 0 and whose fixed values are 0."""

    sequences: dict[str, Shaped[np.ndarray, "T B ..."]]
    fixed: dict[str, Shaped[np.ndarray, "B ..."]]
    lengths: dict[str, Int[np.ndarray, "B"]]
    numbers: Int[np.ndarray, "B"]


class Epoch(NamedTuple):
    """count: batches. batch: index -> Batch, in any order, as often as one likes."""

    count: int
    batch: Callable[[int], Batch]


class Padding(NamedTuple):
    """steps: those that hold data. slots: all of them, T B."""

    steps: int
    slots: int

    @property
    def share(self) -> float:
        """Of all slots, those that hold none; 0 where there are no slots."""
        return 1 - self.steps / self.slots if self.slots else 0.0

    def plus(self, other: "Padding") -> "Padding":
        """Of the batches of both."""
        return Padding(self.steps + other.steps, self.slots + other.slots)


Source = Callable[[int, int], Epoch]


def bucketed(
    columns: Columns,
    bounds: Mapping[str, Sequence[int]],
    size: int,
    *,
    order: Order = shuffled,
    leftover: Leftover = keep,
    shard: int = 0,
    shards: int = 1,
) -> Source:
    """Batches of examples of about one length. Every example comes once an epoch, but for those that `drop` leaves.

    bounds: of each bucket, by sequence column, as `bounds_for` finds them; {} where there are no such columns.
    The rest is as `plan` takes it. Raises InputError for an example that is too long, and where no batch is full.
    """
    bounds = {name: tuple(map(int, some)) for name, some in bounds.items()}
    lengths = columns.lengths
    bucket = buckets(lengths, bounds) if lengths else np.zeros(columns.count, np.int64)
    how = {"order": order, "leftover": leftover, "shard": shard, "shards": shards}
    if not len(plan(bucket, size, seed=0, epoch=0, **how).rows):
        raise InputError(f"batches: expected {size} examples for a full batch, got {columns.count}, of several lengths")

    def epoch_of(seed: int, epoch: int) -> Epoch:
        planned = plan(bucket, size, seed=seed, epoch=epoch, **how)
        return Epoch(len(planned.rows), lambda i: _batch(columns, bounds, planned.rows[i], int(planned.buckets[i])))

    return epoch_of


def contiguous(
    ids: Shaped[np.ndarray, "N ..."],
    rows: int,
    steps: int,
    *,
    order: Order = shuffled,
    shard: int = 0,
    shards: int = 1,
) -> Source:
    """One long text in `rows` parallel rows (B over all shards), a batch the next `steps` of each: truncated BPTT.

    A batch's sequences["ids"] is [steps + 1, B]: what is read is all but the last, what is predicted all but the
    first, so a row's length is its steps + 1, or 0 where its part is at an end. Carries are to be kept from batch to
    batch but where fixed["resets"] [B] is true, at the beginning of an epoch. numbers: the rows'.

    Every step after the first comes once an epoch. By `shuffled` the first is one of the first `steps`, drawn anew
    every epoch, so that the gradient is cut elsewhere; by `in_order` it is the very first.
    Raises InputError for a text that is too short to give every row a step.
    """
    check_shards(rows, shard, shards)
    if steps < 1:
        raise ValueError(f"contiguous: expected a positive number of steps, got {steps}")
    if len(ids) < rows + steps:
        raise InputError(f"text: expected at least {rows + steps} ids for {rows} rows of {steps}, got {len(ids)}")
    here = slice(shard * rows // shards, (shard + 1) * rows // shards)

    def epoch_of(seed: int, epoch: int) -> Epoch:
        first = order(np.random.default_rng(np.random.SeedSequence([seed, epoch])), steps)[0]
        cuts = first + (len(ids) - 1 - first) * np.arange(rows + 1) // rows
        begins, ends = cuts[:-1][here], cuts[1:][here]
        numbers = np.arange(rows, dtype=np.int32)[here]

        def batch(index: int) -> Batch:
            starts = begins + index * steps
            left = np.clip(ends - starts, 0, steps)
            lengths = np.where(left, left + 1, 0).astype(np.int32)
            taken = gather(ids, starts, lengths, steps + 1)
            resets = np.full(len(numbers), index == 0)
            return Batch({"ids": taken}, {"resets": resets}, {"ids": lengths}, np.where(left, numbers, EMPTY))

        return Epoch(int(-(-np.diff(cuts).max() // steps)), batch)

    return epoch_of


def stream(source: Source, state: State | Sequence[int], epochs: int | None = None) -> Iterator[tuple[State, Batch]]:
    """(State after the batch, Batch) from `state` on; the end of an epoch is the beginning of the next.

    epochs: where to end, counted from the very first and not from `state`; None for never.
    Raises ValueError for a state that is none of this source's.
    """
    seed, epoch, index = State(*state)
    if min(seed, epoch, index) < 0:
        raise ValueError(f"stream: expected three integers of at least 0, got {[seed, epoch, index]}")
    return _stream(source, seed, epoch, index, epochs)


def padding(batch: Batch) -> Padding:
    """Of all sequence columns of a batch together; an empty row is padding."""
    steps = sum(int(lengths.sum()) for lengths in batch.lengths.values())
    return Padding(steps, sum(sequence.shape[0] * sequence.shape[1] for sequence in batch.sequences.values()))


def _stream(source: Source, seed: int, epoch: int, index: int, epochs: int | None) -> Iterator[tuple[State, Batch]]:
    while epochs is None or epoch < epochs:
        count, batch = source(seed, epoch)
        if index > count:
            raise ValueError(f"stream: expected at most {count} batches in epoch {epoch}, got a state at {index}")
        for at in range(index, count):
            after = State(seed, epoch, at + 1) if at + 1 < count else State(seed, epoch + 1, 0)
            yield after, batch(at)
        epoch, index = epoch + 1, 0


def _batch(columns: Columns, bounds: Mapping[str, Sequence[int]], rows: np.ndarray, bucket: int) -> Batch:
    taken = {name: padded(column, rows, bounds[name][bucket]) for name, column in columns.sequences.items()}
    real = rows != EMPTY
    fixed = {}
    for name, values in columns.fixed.items():
        fixed[name] = values[rows]
        fixed[name][~real] = 0
    return Batch({n: t for n, (t, _) in taken.items()}, fixed, {n: lengths for n, (_, lengths) in taken.items()}, rows)
