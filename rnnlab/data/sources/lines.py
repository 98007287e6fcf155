"""Text files read line by line: UTF-8, split at line feeds only, fields separated by tabs."""

import hashlib
from collections.abc import Iterator

from rnnlab.errors import InputError


def decoded(raw: bytes, name: str) -> str:
    """`raw` as UTF-8. InputError names the file, the byte and where it stands."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{raw[error.start]:02x} at offset {error.start}"
        raise InputError(f"{name}: expected UTF-8, given {found}") from None


def lines(content: str) -> Iterator[tuple[int, str]]:
    """Numbered lines from 1. Not `splitlines`, which also breaks at characters that stand inside sentences."""
    yield from enumerate(content.removesuffix("\n").split("\n"), 1)


def fields(line: str, count: int, name: str, number: int) -> list[str]:
    """The line's fields between tabs; the last may hold more tabs. InputError for fewer than `count`."""
    found = line.split("\t", count - 1)
    if len(found) < count:
        raise InputError(f"{name}, line {number}: expected {count} fields between tabs, given {line[:60]!r}")
    return found


def tenth(text: str) -> int:
    """Which of ten parts a text belongs to, by its SHA-256: the same for ever, and for equal texts."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 10


def split_of(text: str) -> str:
    """train, validation or test (8 : 1 : 1), where no split is official."""
    return {0: "test", 1: "validation"}.get(tenth(text), "train")
