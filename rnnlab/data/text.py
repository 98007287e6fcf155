"""Plain text: read, checked, and split in time order."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from rnnlab.errors import InputError


class Text(NamedTuple):
    """content: the characters. name: where they are from, for people. sha256: of the UTF-8 bytes. origin: "real",
    "TFDS" (a stock data set, whatever it holds), or "the reader's own"."""

    content: str
    name: str
    sha256: str
    origin: str


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
    return Text(content, Path(path).name, hashlib.sha256(raw).hexdigest(), "the reader's own")


# Data sets that are one text, cut in time order: all of it, nothing between the pieces.
PIECES = {"tiny_shakespeare": ("train+validation+test", "")}


def published(name: str) -> Text:
    """The training split of a published data set with a column `text`, its examples in their order, a line feed
    between. InputError as `published.open`, and where there is no such column."""
    return _joined(name, "train", "\n")


def whole(name: str) -> Text:
    """As `published`; of a data set that is one text all of it, to be cut anew."""
    return _joined(name, *PIECES.get(name, ("train", "\n")))


def _joined(name: str, split_name: str, between: str) -> Text:
    from rnnlab.data import published as sets

    found = sets.open(name, split_name)
    texts = [example.get("text") for example in found.examples]
    if not texts or not all(isinstance(text, str) for text in texts):
        columns = ", ".join(sorted(found.examples[0])) if texts else "no example"
        raise InputError(f"data: expected a data set with a column 'text' of strings, got {name} with {columns}")
    content = between.join(texts)
    sha256 = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
    return Text(content, f"{name} {found.version} ({split_name})", sha256, found.origin)


def python_reference() -> Text:
    """Real English prose that every Python carries: the language reference, as `help()` shows it.

    Its words change a little between Python versions, and so does its hash.
    """
    from pydoc_data.topics import topics

    content = "\n".join(topics[name] for name in sorted(topics))
    return Text(
        content, "pydoc_data.topics (the Python reference)", hashlib.sha256(content.encode()).hexdigest(), "real"
    )


def split(content: str, held_out: float) -> tuple[str, str]:
    """The first part for training, the last `held_out` share for the test; nothing is shuffled across."""
    cut = len(content) - round(len(content) * held_out)
    return content[:cut], content[cut:]


def tenths(content: str) -> tuple[str, str, str]:
    """Eight tenths for training, the ninth to choose by, the last to report; nothing is shuffled across."""
    first, second = len(content) * 8 // 10, len(content) * 9 // 10
    return content[:first], content[first:second], content[second:]
