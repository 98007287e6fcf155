"""Plain text: read, checked, split in time order, and turned into character ids."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnlab.errors import InputError


class Text(NamedTuple):
    """content: the characters. name: where they are from, for people. sha256: of the UTF-8 bytes."""

    content: str
    name: str
    sha256: str


class Vocabulary(NamedTuple):
    """Characters by id; the last id stands for every character that was not seen when it was built."""

    characters: str

    @property
    def size(self) -> int:
        """V: the characters and the unknown one."""
        return len(self.characters) + 1

    def encode(self, content: str) -> np.ndarray:
        """Ids [N], int32."""
        points = np.frombuffer(content.encode("utf-32-le", "surrogatepass"), np.uint32)
        known = np.frombuffer(self.characters.encode("utf-32-le", "surrogatepass"), np.uint32)
        ids = np.searchsorted(known, points)
        found = known[np.minimum(ids, len(known) - 1)] == points
        return np.where(found, ids, len(known)).astype(np.int32)


def read(path: str | Path) -> Text:
    """A UTF-8 file. InputError if it is missing, a folder, unreadable, empty or not UTF-8."""
    try:
        raw = Path(path).read_bytes()
    except OSError as problem:
        raise InputError(f"text: expected a readable UTF-8 file, got {path}: {problem.strerror}") from None
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InputError(
            f"text: expected UTF-8, got byte 0x{raw[problem.start]:02x} at offset {problem.start} of {path}"
        ) from None
    if not content.strip():
        raise InputError(f"text: expected some text, got an empty file {path}")
    return Text(content, Path(path).name, hashlib.sha256(raw).hexdigest())


def python_reference() -> Text:
    """Real English prose that every Python carries: the language reference, as `help()` shows it.

    Its words change a little between Python versions, and so does its hash.
    """
    from pydoc_data.topics import topics

    content = "\n".join(topics[name] for name in sorted(topics))
    return Text(content, "pydoc_data.topics (the Python reference)", hashlib.sha256(content.encode()).hexdigest())


def vocabulary(content: str) -> Vocabulary:
    """Every character of `content`, in code point order."""
    return Vocabulary("".join(sorted(set(content))))


def split(content: str, held_out: float) -> tuple[str, str]:
    """The first part for training, the last `held_out` share for the test; nothing is shuffled across."""
    cut = len(content) - round(len(content) * held_out)
    return content[:cut], content[cut:]
