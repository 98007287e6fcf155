"""The texts of `sentiment`: read, split by a hash of their ids, and freed of what stands in two splits."""

import hashlib
import itertools
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnnlab.data import batches, published
from rnnlab.data.columns import Columns, decode
from rnnlab.data.plans import bounds_for, in_order
from rnnlab.data.sources.lines import fields, lines, split_of
from rnnlab.data.vocabularies import UNKNOWN, Vocabulary, tokens
from rnnlab.data.words import split_words
from rnnlab.errors import InputError
from rnnlab.models.classifier import Texts
from rnnlab.models.naive_bayes import grams

SPLITS = ("train", "validation", "test")
BUCKETS = 2  # of lengths: another program each, which takes longer to compile than padding does to compute


class Rated(NamedTuple):
    """One text. rating: the mean of what people said; its sign is the label."""

    id: str
    text: str
    rating: float

    @property
    def label(self) -> int:
        """1 for positive, 0 for negative."""
        return int(self.rating > 0)

    @property
    def words(self) -> list[str]:
        return split_words(spelled(self.text))


class Inputs(NamedTuple):
    """splits: by name, in the order of the source. zeros: texts left out for a rating of exactly 0. removed: training
    texts left out because validation or test has them. shared: texts that test has and validation too. repeated: texts
    that the whole source has more than once. own: the files of a reader's cells and their SHA-256."""

    name: str
    origin: str
    sha256: str
    splits: dict[str, list[Rated]]
    zeros: int
    removed: int
    shared: int
    repeated: int
    own: dict[str, str]

    @property
    def hashes(self) -> dict[str, str]:
        return {self.name: self.sha256, **self.own}


def spelled(text: str) -> str:
    """As the vocabulary counts it: capital letters say little of a verdict, and 8,000 texts spell few words twice."""
    return unicodedata.normalize("NFC", text.lower())


def opened(file: str, own: dict[str, str]) -> Inputs:
    """Movie snippets, or the reader's own file of lines RATING TAB TEXT, whose ids are the numbers of the lines.

    Raises InputError for a line that is none, and where a split has not both labels.
    """
    if file:
        name, origin, sha256, rated = _read(Path(file))
    else:
        found = published.open("movie_snippets", "+".join(SPLITS))
        name, origin, sha256 = f"movie_snippets {found.version}", found.origin, found.sha256
        rated = [Rated(str(int(e["id"])), e["text"], float(e["rating"])) for e in found.examples]
    kept = [one for one in rated if one.rating != 0]
    splits = {split: [one for one in kept if split_of(one.id) == split] for split in SPLITS}
    same = {split: {tuple(one.words) for one in some} for split, some in splits.items()}
    train = [one for one in splits["train"] if tuple(one.words) not in same["validation"] | same["test"]]
    removed, splits["train"] = len(splits["train"]) - len(train), train
    for split, some in splits.items():
        if {one.label for one in some} != {0, 1}:
            raise InputError(
                f"{name}: expected texts with ratings above and below 0 in the split {split}, got {len(some)} texts"
            )
    repeated = len(rated) - len({tuple(one.words) for one in rated})
    shared = sum(tuple(one.words) in same["validation"] for one in splits["test"])
    return Inputs(name, origin, sha256, splits, len(rated) - len(kept), removed, shared, repeated, own)


def _read(path: Path) -> tuple[str, str, str, list[Rated]]:
    try:
        raw = path.expanduser().read_bytes()
    except OSError as problem:
        raise InputError(f"file: expected a readable UTF-8 file, got {path}: {problem.strerror}") from None
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InputError(f"file: expected UTF-8, got byte 0x{raw[problem.start]:02x} at {problem.start}") from None
    found = []
    for number, line in lines(content):
        given, text = fields(line.removesuffix("\r"), 2, path.name, number)
        try:
            rating = float(given)
        except ValueError:
            rating = float("nan")
        if not np.isfinite(rating) or not split_words(spelled(text)):
            raise InputError(f"{path.name}, line {number}: expected RATING TAB TEXT with a word, got {line[:60]!r}")
        found.append(Rated(str(number), text, rating))
    return path.name, "the reader's own", hashlib.sha256(raw).hexdigest(), found


class Vocabularies(NamedTuple):
    """words, grams: of the training texts; id 0 is UNKNOWN, what they lack."""

    words: Vocabulary
    grams: Vocabulary


def vocabularies_of(train: Sequence[Rated], at_least: int) -> Vocabularies:
    """The words that come so often in the training texts, and all their words and pairs of words."""
    return Vocabularies(
        tokens((one.words for one in train), specials=(UNKNOWN,), at_least=at_least),
        tokens((grams(one.words) for one in train), specials=(UNKNOWN,)),
    )


def encoded(vocabularies: Vocabularies, found: Sequence[str]) -> dict[str, np.ndarray]:
    """ids [T] of words, and grams [T, 2]: the word and the pair of words that end at each step; none ends at the
    first, and UNKNOWN's id says so."""
    pairs = [f"{first} {second}" for first, second in itertools.pairwise(found)]
    ends = np.append(np.zeros(min(len(found), 1), np.int32), vocabularies.grams.encode(pairs))
    both = np.stack([vocabularies.grams.encode(found), ends], axis=-1)
    return {"ids": vocabularies.words.encode(found), "grams": both.astype(np.int32)}


def columns_of(rated: Sequence[Rated], vocabularies: Vocabularies) -> Columns:
    """`ids`, `grams` and `label` of every text."""
    examples = [encoded(vocabularies, one.words) | {"label": one.label} for one in rated]
    sequences = {name: np.asarray for name in ("ids", "grams")}
    return decode(examples, sequences=sequences, fixed={"label": np.int32}, label="encoding")


def training(columns: Columns, size: int) -> Callable[[Any], Iterator[tuple[Any, Texts]]]:
    """Batches for a recipe: texts of about one length, in another order every epoch."""
    source = batches.bucketed(columns, bounds_for(columns.lengths, BUCKETS, size), size)

    def batches_of(position: Any) -> Iterator[tuple[Any, Texts]]:
        for after, batch in batches.stream(source, position):
            yield after, texts_of(batch)

    return batches_of


def evaluation(columns: Columns, size: int) -> list[tuple[np.ndarray, Texts]]:
    """Every text once, and the number of each row, -1 for an empty one."""
    epoch = batches.bucketed(columns, bounds_for(columns.lengths, BUCKETS, size), size, order=in_order)(0, 0)
    found = [epoch.batch(index) for index in range(epoch.count)]
    return [(batch.numbers, texts_of(batch)) for batch in found]


def texts_of(batch: batches.Batch) -> Texts:
    taken = batch.sequences
    return Texts(taken["ids"], batch.lengths["ids"], batch.fixed["label"], taken["grams"])
