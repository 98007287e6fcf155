"""What a trained model says of a reader's texts: lines in, words for people or JSON for programs out."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rnnlab.errors import InputError
from rnnlab.flags import flag


@dataclasses.dataclass(frozen=True)
class Asked:
    """The flags of every prediction."""

    text: str | None = flag(None, "one text; without it and --file, standard input, a text a line")
    file: str = flag("", "a UTF-8 file, a text a line")
    json: bool = flag(False, "one JSON object a text, for programs; its keys are named in the experiment's docs")


class Answer(NamedTuple):
    """shown: for people, written as soon as it is there. row: of a text as JSON takes it, None for a piece on the way
    to it; a text has exactly one row, in its last answer."""

    shown: str
    row: Mapping[str, Any] | None


Predictor = Callable[[str], Iterator[Answer]]


def texts(asked: Asked, standard: Iterable[bytes] | None = None) -> Iterator[str]:
    """The texts that were asked for, one after another as they come; a line's end belongs to none.

    InputError for both a text and a file, for a file that cannot be read, and for what is not UTF-8.
    """
    if asked.text is not None and asked.file:
        raise InputError("text: expected --text or --file, got both")
    if asked.text is not None:
        yield _whole(asked.text.encode("utf-8", "surrogateescape"), "--text")
    elif asked.file:
        try:
            with open(Path(asked.file).expanduser(), "rb") as file:
                yield from _lines(file, asked.file)
        except OSError as problem:
            raise InputError(f"file: expected a readable file, got {asked.file}: {problem.strerror}") from None
    else:
        yield from _lines(standard or sys.stdin.buffer, "standard input")


def answer(predictor: Predictor, given: Iterable[str], as_json: bool) -> int:
    """Writes what is said of every text, each as it comes; the exit status. Whoever stops reading ends it quietly."""
    out = sys.stdout
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="backslashreplace")  # a terminal without Devanagari is no reason to fail
    try:
        for text in given:
            for shown, row in predictor(text):
                written = shown if not as_json else "" if row is None else json.dumps(row, allow_nan=False) + "\n"
                out.write(written)
                out.flush()
    except BrokenPipeError:
        # Python would try once more at its exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
    return 0


def _lines(file: Iterable[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        yield _whole(line.removesuffix(b"\n").removesuffix(b"\r"), f"{name}, line {number}")


def _whole(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InputError(f"{where}: expected UTF-8, got byte 0x{raw[problem.start]:02x} at {problem.start}") from None
