"""Float arrays of one shape and type, one record after another in a file that only grows: the norms of every step.

A line of JSON says shape and type; the numbers follow it as they are in memory, so that a long series can be read
where it lies. A half-written last record, of a process that was killed, is not there for a reader.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnlab.errors import InputError

FLOATS = ("<f4", "<f8")


class Head(NamedTuple):
    """kind: the type, as NumPy spells it. shape: of a record. size: bytes before the first one."""

    kind: str
    shape: tuple[int, ...]
    size: int


def append(file: Path, value: np.ndarray, known: Head | None) -> Head:
    """Writes one record more and returns the file's head; `known` is what this returned before, if it did.

    Raises ValueError for another shape or type than the first record's, TypeError where that is no float.
    """
    if value.dtype.str not in FLOATS:
        raise TypeError(f"series {file.stem}: expected one of {', '.join(FLOATS)}, given {value.dtype}")
    line = _line(value.dtype.str, value.shape)
    given = Head(value.dtype.str, value.shape, len(line))
    found = head(file) if known is None and file.exists() and file.stat().st_size else known
    if found not in (None, given):
        raise ValueError(f"series {file.stem}: expected records of {found[:2]}, given {given[:2]}")
    with open(file, "ab") as out:
        out.write((line if found is None else b"") + value.tobytes())
    return given


def read(file: Path) -> np.ndarray:
    """All whole records [N, ...], read from the file as they are looked at."""
    kind, shape, size = head(file)
    count = (file.stat().st_size - size) // (math.prod(shape) * np.dtype(kind).itemsize)
    # An empty file cannot be mapped.
    return np.memmap(file, kind, "r", size, (count, *shape)) if count else np.zeros((0, *shape), kind)


def head(file: Path) -> Head:
    """What the first line says. InputError where it is none of `append`'s."""
    with open(file, "rb") as opened:
        line = opened.readline(4096)
    try:
        said = json.loads(line)
        kind, shape = said["dtype"], tuple(said["shape"])
        if kind not in FLOATS or not all(type(size) is int and size > 0 for size in shape):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file}: expected a series of records, given {line[:60]!r}") from None
    return Head(kind, shape, len(line))


def _line(kind: str, shape: tuple[int, ...]) -> bytes:
    """Filled up so that the numbers after it are aligned."""
    line = json.dumps({"dtype": kind, "shape": shape}).encode()
    return line.ljust(-(-(len(line) + 1) // 64) * 64 - 1) + b"\n"
