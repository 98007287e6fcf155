"""What `autocomplete` reads: real sentences and generated replies as words, and what was held out of each."""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from rnnlab.data import published, text
from rnnlab.data.replies import PARTS, replies
from rnnlab.data.vocabularies import BEGIN, END, UNKNOWN, Vocabulary, tokens
from rnnlab.data.words import split_words
from rnnlab.errors import InputError

Words = list[str]
REPLIES = "replies"
COLUMNS = ("english", "text")  # of a published data set, the first that it has
HELD_OUT = 0.1  # of the lines of a reader's own file


class Origin(NamedTuple):
    """Sentences of one source, as words. kind: "real", "generated", "TFDS" or "the reader's own". cut: pieces that
    longer sentences of `train` were cut into."""

    name: str
    kind: str
    train: list[Words]
    test: list[Words]
    hashes: Mapping[str, str]
    cut: int = 0


def words_of(content: str) -> Words:
    """Words and marks in lower case, with a straight apostrophe: what a keyboard types before it corrects anything."""
    return split_words(unicodedata.normalize("NFC", content.lower().replace("\u2019", "'")))


def generated(count: int, held_out: int, seed: int) -> tuple[Origin, list[Words]]:
    """The replies, and those of the validation part; of those held out, none comes twice."""
    train = replies("train", count, seed)
    others = {part: list(dict.fromkeys(replies(part, held_out, seed))) for part in ("validation", "test")}
    hashes = {f"replies ({part})": _sha256(found) for part, found in {"train": train, **others}.items()}
    origin = Origin(REPLIES, "generated", _split(train), _split(others["test"]), hashes)
    return origin, _split(others["validation"])


def real(name: str, length: int) -> Origin:
    """The training and the test split of a published data set, a sentence a line of its column `english` or `text`.

    InputError as `published.open`, for a set without such a column, and for one whose split has no sentence.
    """
    found = {}
    hashes = {}
    for split in ("train", "test"):
        data = published.open(name, split)
        first = data.examples[0] if data.count else {}
        column = next((one for one in COLUMNS if isinstance(first.get(one), str)), None)
        if column is None:
            given = ", ".join(sorted(first)) or "no example"
            raise InputError(f"data: expected a data set with a column {' or '.join(COLUMNS)}, got {name} with {given}")
        found[split] = _lines(example[column] for example in data.examples)
        hashes[f"{name} {data.version} ({split})"] = data.sha256
    return _origin(name, data.origin, found["train"], found["test"], length, hashes)


def own_file(path: str, length: int) -> Origin:
    """A reader's file, a sentence a line, of which the last tenth is held out. InputError as `text.read`."""
    read = text.read(path)
    lines = _lines([read.content])
    count = round(len(lines) * HELD_OUT)
    if not count:
        raise InputError(f"text: expected at least 5 lines, a sentence each, got {len(lines)} in {path}")
    return _origin(read.name, read.origin, lines[:-count], lines[-count:], length, {read.name: read.sha256})


def vocabulary_of(origins: Sequence[Origin], at_least: int, at_most: int) -> Vocabulary:
    """The most frequent words of the training parts."""
    sentences = (sentence for origin in origins for sentence in origin.train)
    return tokens(sentences, specials=(BEGIN, END, UNKNOWN), at_least=at_least, at_most=at_most)


def encoded(vocabulary: Vocabulary, sentence: Sequence[str]) -> Int[np.ndarray, "S"]:
    """BEGIN, the words, END."""
    begin, end = vocabulary.special(BEGIN), vocabulary.special(END)
    return np.concatenate([[begin], vocabulary.encode(list(sentence)), [end]]).astype(np.int32)


def occurrences(origins: Iterable[Origin], phrase: Sequence[str]) -> int:
    """Training sentences in which these words stand one after another."""
    wanted = f" {' '.join(phrase)} "
    return sum(wanted in f" {' '.join(sentence)} " for origin in origins for sentence in origin.train)


def shared_runs(origins: Iterable[Origin], sentences: Iterable[Words], count: int) -> float:
    """The share of the runs of `count` words in `sentences` that stand in some training sentence too."""
    known = {run for origin in origins for sentence in origin.train for run in _runs(sentence, count)}
    flags = [run in known for sentence in sentences for run in _runs(sentence, count)]
    return sum(flags) / len(flags) if flags else float("nan")


def templates() -> dict[str, int]:
    """How many there are of each part."""
    return {name: len(part.templates) for name, part in PARTS.items()}


def _runs(sentence: Words, count: int) -> Iterable[tuple[str, ...]]:
    return zip(*(sentence[first:] for first in range(count)), strict=False)


def _origin(name: str, kind: str, train: list[str], test: list[str], length: int, hashes: Mapping[str, str]) -> Origin:
    cut = [[words[n : n + length] for n in range(0, len(words), length)] for words in _split(train)]
    pieces = [piece for whole in cut for piece in whole]
    held_out = _split(test)
    if not pieces or not held_out:
        raise InputError(f"data: expected words in the training and the test part of {name}, got none")
    return Origin(name, kind, pieces, held_out, hashes, sum(len(whole) for whole in cut if len(whole) > 1))


def _lines(contents: Iterable[str]) -> list[str]:
    """No line twice: a sentence with several translations comes several times."""
    return list(dict.fromkeys(line for content in contents for line in content.splitlines() if line.strip()))


def _split(contents: Iterable[str]) -> list[Words]:
    return [found for found in map(words_of, contents) if found]


def _sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
