"""Examples decoded once into flat arrays with offsets, so that a batch is a gather and no decoding.

Decoding an example costs some 50 us (TFDS, array_record), a row of a batch taken from a flat array 1 us. The whole
data set is then in memory: of text and labels a few bytes a step, of recordings as many as their samples have.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Integer, Shaped

from rnnlab.errors import InputError
from rnnlab.progress import track

Encode = Callable[[Any], Any]


@runtime_checkable
class RandomAccess(Protocol):
    """Examples by number, as TFDS and array_record give them."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> Mapping[str, Any]: ...


class Column(NamedTuple):
    """N sequences end to end: `flat` [sum of lengths, ...], of which flat[offsets[n]:offsets[n + 1]] is the n-th."""

    flat: Shaped[np.ndarray, "S ..."]
    offsets: Int[np.ndarray, "N+1"]

    @property
    def lengths(self) -> Int[np.ndarray, "N"]:
        """Steps of each sequence."""
        return np.diff(self.offsets).astype(np.int32)


class Columns(NamedTuple):
    """sequences: by name, those of variable length. fixed: by name, arrays [N, ...]. At least one of either."""

    sequences: dict[str, Column]
    fixed: dict[str, Shaped[np.ndarray, "N ..."]]

    @property
    def lengths(self) -> dict[str, Int[np.ndarray, "N"]]:
        """Steps of each example in each sequence column."""
        return {name: column.lengths for name, column in self.sequences.items()}

    @property
    def count(self) -> int:
        """N, the examples."""
        counts = [len(column.offsets) - 1 for column in self.sequences.values()]
        return next(iter(counts + [len(values) for values in self.fixed.values()]))


def decode(
    examples: RandomAccess | Iterable[Mapping[str, Any]],
    *,
    sequences: Mapping[str, Encode],
    fixed: Mapping[str, Encode],
    label: str = "decoding",
) -> Columns:
    """The named columns of every example, each passed through its function: `vocabulary.encode`, `np.asarray`, ...

    examples:  read once, in order; a TFDS data source, a list, a generator. Text that comes as bytes, as TFDS gives
               it, is handed on as str.
    sequences: their functions give [T, ...], with T the example's own.
    fixed:     their functions give the same shape for every example, [] for a label.
    label:     of the progress, which is shown where the number of examples is known.

    An empty list has no type of its own and takes that of the others. Raises InputError for no examples, a column
    that an example lacks, bytes that are not UTF-8, values that are no numbers, and for types or shapes that differ.
    """
    functions = {**sequences, **fixed}
    if not functions:
        raise ValueError("decode: expected the name of at least one column, got none")
    if len(functions) < len(sequences) + len(fixed):
        raise ValueError(f"decode: expected a column once, got {sorted(set(sequences) & set(fixed))} as both kinds")
    values: dict[str, list[np.ndarray | None]] = {name: [] for name in functions}
    for number, example in enumerate(_each(examples, label)):
        for name, function in functions.items():
            values[name].append(_value(example, name, number, function))
    if not next(iter(values.values())):
        raise InputError("data: expected examples, got none")
    return Columns(
        {name: _joined(name, values[name]) for name in sequences},
        {name: _stacked(name, values[name]) for name in fixed},
    )


def windows(ids: Shaped[np.ndarray, "S ..."], steps: int) -> Column:
    """A text cut into sequences of `steps` + 1 ids, each beginning with the last one of the sequence before: what is
    read is all but the last, what is predicted all but the first. What is left at the end is dropped."""
    count = (len(ids) - 1) // steps
    at = np.arange(count)[:, None] * steps + np.arange(steps + 1)
    return Column(ids[at].reshape(-1, *ids.shape[1:]), _offsets(np.full(count, steps + 1)))


def padded(
    column: Column, rows: Integer[np.ndarray, "B"], bound: int
) -> tuple[Shaped[np.ndarray, "T B ..."], Int[np.ndarray, "B"]]:
    """Rows of a column [T, B, ...], T = bound, zero where padded, and their lengths [B] int32.

    rows: numbers of examples; -1 is an empty row, of length 0. Raises ValueError for a row longer than `bound`.
    """
    starts = np.where(rows >= 0, column.offsets[rows], 0)
    lengths = column.offsets[rows + 1] - starts  # offsets[0], so 0, of row -1
    if lengths.max(initial=0) > bound:
        raise ValueError(f"padded: expected rows of at most {bound} steps, got one of {lengths.max()}")
    return gather(column.flat, starts, lengths, bound), lengths.astype(np.int32)


def gather(
    flat: Shaped[np.ndarray, "S ..."], starts: Integer[np.ndarray, "B"], lengths: Integer[np.ndarray, "B"], bound: int
) -> Shaped[np.ndarray, "T B ..."]:
    """flat[start:start + length] of every row, side by side [T, B, ...], T = bound, zero beyond each length."""
    steps = np.arange(bound)[:, None]
    inside = steps < lengths
    if not inside.any():
        return np.zeros((*inside.shape, *flat.shape[1:]), flat.dtype)
    # Taking something for padding too and then writing zeros: up to three times faster than to take only what counts.
    taken = flat.take(np.where(inside, starts + steps, 0), axis=0)
    taken[~inside] = 0
    return taken


def truncated(columns: Columns, bounds: Mapping[str, int]) -> Columns:
    """The same examples, those columns of them that have a bound cut off after so many steps."""
    unknown = sorted(set(bounds) - set(columns.sequences))
    if unknown or min(bounds.values(), default=1) < 1:
        raise ValueError(f"truncated: expected positive bounds of {sorted(columns.sequences)}, got {dict(bounds)}")
    return columns._replace(
        sequences={name: _cut(c, bounds[name]) if name in bounds else c for name, c in columns.sequences.items()}
    )


def _cut(column: Column, bound: int) -> Column:
    lengths = np.diff(column.offsets)
    step = np.arange(len(column.flat)) - np.repeat(column.offsets[:-1], lengths)
    return Column(column.flat[step < bound], _offsets(np.minimum(lengths, bound)))


def _each(examples: RandomAccess | Iterable[Mapping[str, Any]], label: str) -> Iterator[Mapping[str, Any]]:
    if not isinstance(examples, RandomAccess):
        return iter(examples)
    # Some random-access sources never end a plain `for`, for want of an IndexError.
    return iter(track((examples[n] for n in range(len(examples))), len(examples), label))


def _value(example: Mapping[str, Any], name: str, number: int, function: Encode) -> np.ndarray | None:
    """An example's column as an array; None for an empty list."""
    if name not in example:
        raise InputError(f"data, example {number}: expected a column {name!r}, got {', '.join(sorted(example))}")
    given = example[name]
    try:
        given = given.decode() if isinstance(given, bytes) else given
        result = function(given)
        value = np.asarray(result)
    except ValueError as problem:  # bytes that are not UTF-8, lists of several lengths, what the function refuses
        raise InputError(f"column {name!r}, example {number}: {' '.join(str(problem).split())}") from problem
    if value.dtype.kind not in "biufc" and value.dtype.name != "bfloat16":
        raise InputError(
            f"column {name!r}, example {number}: expected numbers, got {type(result).__name__} {result!r:.40}"
        )
    hollow = any(isinstance(one, list | tuple) and not one for one in (given, result))
    return None if hollow and not value.size else value


def _alike(name: str, values: list[np.ndarray | None], expected: str, trailing: int) -> np.ndarray:
    """The first value that has a type, once every other one agrees with it in type and in the axes after `trailing`."""
    model = next((value for value in values if value is not None), None)
    if model is None:
        raise InputError(f"column {name!r}: expected a value that is no empty list, got {len(values)} of those")
    for number, value in enumerate(values):
        if value is None:
            continue
        if value.ndim < trailing:
            raise InputError(f"column {name!r}, example {number}: expected {expected}, got shape {list(value.shape)}")
        if (value.dtype, value.shape[trailing:], value.ndim) != (model.dtype, model.shape[trailing:], model.ndim):
            wanted = f"{model.dtype} {list(model.shape)} as before"
            raise InputError(
                f"column {name!r}, example {number}: expected {wanted}, got {value.dtype} {list(value.shape)}"
            )
    return model


def _joined(name: str, values: list[np.ndarray | None]) -> Column:
    model = _alike(name, values, "a sequence", 1)
    lengths = [0 if value is None else len(value) for value in values]
    flat = np.concatenate([model[:0], *(value for value in values if value is not None)])
    return Column(flat, _offsets(lengths))


def _stacked(name: str, values: list[np.ndarray | None]) -> np.ndarray:
    model = _alike(name, values, "a value", 0)
    empty = next((number for number, value in enumerate(values) if value is None), None)
    if empty is not None:
        raise InputError(f"column {name!r}, example {empty}: expected shape {list(model.shape)}, got an empty list")
    return np.stack(values)


def _offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
