"""What `name_tags` reads: sentences with tags, from WNUT-17, a reader's files or the lecture; words as numbers."""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments._lecture import NAMES, UNTAGGED
from rnnlab import crf
from rnnlab.data import columns, published
from rnnlab.data.sources.lines import decoded, fields, lines
from rnnlab.data.sources.wnut17 import conll
from rnnlab.data.vocabularies import PAD, UNKNOWN, Vocabulary, characters, tokens
from rnnlab.data.words import split_words
from rnnlab.errors import InputError

SPLITS = ("train", "validation", "test")
# Where one of the lecture's names ends and the next begins it does not say: its 1 is the tag I-name, its 0 is O.
LECTURE_TAGS = ("O", "I-name")
SHAPES = ("lower", "Title", "UPPER", "X", "mIxed", "123", "a1", "?!", "@name", "#word", "address", "other")
ADDRESS = re.compile(r"(https?://|www\.)\S+", re.IGNORECASE)
MARKED = re.compile(r"[@#]\w+")


class Sentence(NamedTuple):
    """words: as they stand in the text. tags: their ids, [N]."""

    words: list[str]
    tags: np.ndarray


class Corpus(NamedTuple):
    """The splits, the names of the tags by id (O is the first), what the data are called and where they are from, and
    a hash by name of everything that was read. held_out: whether validation and test are other sentences."""

    train: list[Sentence]
    validation: list[Sentence]
    test: list[Sentence]
    tags: tuple[str, ...]
    name: str
    origin: str
    hashes: dict[str, str]
    held_out: bool = True


def wnut17() -> Corpus:
    """The official splits."""
    found = [published.open("wnut17", split) for split in SPLITS]
    splits = ([Sentence(one["tokens"], one["tags"]) for one in data.examples] for data in found)
    hashes = {f"{data.name} {data.version} ({data.split})": data.sha256 for data in found}
    return Corpus(*splits, found[0].classes["tags"], f"wnut17 {found[0].version}", found[0].origin, hashes)


def lecture() -> Corpus:
    """Three sentences, learned and asked."""
    known = [Sentence(text.split(), np.array(ones)) for text, ones in NAMES]
    hashes = {"the lecture's sentences": hashlib.sha256(json.dumps(NAMES).encode()).hexdigest()}
    made = "three sentences made up for a lecture"
    return Corpus(known, known, known, LECTURE_TAGS, "the lecture's training set", made, hashes, held_out=False)


def files(paths: Sequence[str]) -> Corpus:
    """A reader's own, for training, validation and test: a line `token TAB tag` a word, an empty line between
    sentences. InputError for a file that cannot be read or has none, a tag that the training file has not, and for
    I-TYPE that follows neither B-TYPE nor I-TYPE."""
    raw = {}
    for path in paths:
        try:
            raw[path] = Path(path).read_bytes()
        except OSError as problem:
            raise InputError(f"{path}: expected a readable file, got: {problem.strerror}") from None
    found = lines(decoded(raw[paths[0]], paths[0]))
    tags = {fields(line, 2, paths[0], number)[1] for number, line in found if line.strip()} - {"O"}
    for tag in sorted(tags):
        if not re.fullmatch(r"[BI]-.+", tag):
            raise InputError(f"{paths[0]}: expected tags O, B-TYPE and I-TYPE, got {tag!r}")
    tags = ("O", *sorted(tags, key=lambda tag: (tag[2:], tag)))
    splits = [[Sentence(*one.values()) for one in conll(Path(path), tags)] for path in paths]
    for path, sentences in zip(paths, splits, strict=True):
        _check(path, sentences, tags)
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in raw.items()}
    return Corpus(*splits, tags, " / ".join(Path(path).name for path in paths), "the reader's own", hashes)


def _check(path: str, sentences: list[Sentence], tags: tuple[str, ...]) -> None:
    if not sentences:
        raise InputError(f"{path}: expected a sentence, got none")
    may = crf.bio(tags)
    for number, (_, ids) in enumerate(sentences, 1):
        legal = np.append(may.start[ids[0]], may.transitions[ids[:-1], ids[1:]])
        if not legal.all():
            wrong = int(np.argmin(legal))
            raise InputError(
                f"{path}, sentence {number}, word {wrong + 1}: expected {tags[ids[wrong]]} only after B- or I- of its "
                f"type, got it after {tags[ids[wrong - 1]] if wrong else 'nothing'}"
            )


# Words as numbers.


def normal(word: str) -> str:
    """What the embedding of a word is looked up by: without case, every digit a 0, all names and addresses alike."""
    if ADDRESS.fullmatch(word):
        return "http://"
    if MARKED.fullmatch(word) and word[0] == "@":
        return "@name"
    return unicodedata.normalize("NFC", re.sub(r"\d", "0", word.lower()))


def shape(word: str) -> int:
    """Its place in SHAPES, by upper and lower case, digits and marks."""
    letters = [c for c in word if unicodedata.category(c)[0] == "L"]
    cased = [c for c in letters if c.isupper() or c.islower()]
    digits = any(c.isdigit() for c in word)
    if ADDRESS.fullmatch(word):
        found = "address"
    elif MARKED.fullmatch(word):
        found = "@name" if word[0] == "@" else "#word"
    elif digits:
        found = "a1" if letters else "123"
    elif not cased:
        found = "other" if letters or any(unicodedata.category(c)[0] == "S" for c in word) else "?!"
    elif all(c.islower() for c in cased):
        found = "lower"
    elif all(c.isupper() for c in cased):
        found = "UPPER" if len(cased) > 1 else "X"
    else:
        found = "Title" if cased[0].isupper() and all(c.islower() for c in cased[1:]) else "mIxed"
    return SHAPES.index(found)


class Encoder(NamedTuple):
    """words: of what `normal` gives. spelling: of characters. longest: characters of a word that are looked at, W; of a
    longer one the first and the last half of them."""

    words: Vocabulary
    spelling: Vocabulary
    longest: int

    @property
    def unknown_character(self) -> int:
        return self.spelling.special(UNKNOWN)

    def encode(self, words: Sequence[str]) -> dict[str, np.ndarray]:
        """words, shapes [N] and characters [N, W] of N words, int32."""
        spelled = np.zeros((len(words), self.longest), np.int32)
        for row, word in enumerate(words):
            ids = self.spelling.encode(word)
            half = self.longest // 2
            ids = ids if len(ids) <= self.longest else np.concatenate([ids[:half], ids[half - self.longest :]])
            spelled[row, : len(ids)] = ids
        shapes = np.array([shape(word) for word in words], np.int32)
        return {"words": self.words.encode([normal(word) for word in words]), "characters": spelled, "shapes": shapes}


def encoder(train: list[Sentence], longest: int) -> tuple[Encoder, np.ndarray]:
    """From the training split alone, and how often it has each word [V]; 0 times the unknown one."""
    known = [[normal(word) for word in one.words] for one in train]
    spelling = characters((word for one in train for word in one.words), specials=(PAD, UNKNOWN), at_least=2)
    words, counts = tokens(known), Counter(word for words in known for word in words)
    return Encoder(words, spelling, longest), np.array([counts[word] for word in words.tokens], np.int32)


def column_store(sentences: list[Sentence], encoder: Encoder) -> columns.Columns:
    """Sentences as columns: words, characters, shapes and tags."""
    rows = [encoder.encode(one.words) | {"tags": one.tags.astype(np.int32)} for one in sentences]
    return columns.decode(rows, sequences=dict.fromkeys(rows[0], np.asarray), fixed={})


# Text as words.


class Word(NamedTuple):
    """text[begin:end] is the word."""

    word: str
    begin: int
    end: int


def words_in(text: str) -> list[Word]:
    """Addresses, @names and #words whole; else words and single marks of punctuation (`split_words`)."""
    found = []
    for piece in re.finditer(r"\S+", text):
        at = piece.start()
        for word in _split(piece.group()):
            at = text.index(word, at)
            found.append(Word(word, at, at + len(word)))
            at += len(word)
    return found


def _split(piece: str) -> list[str]:
    whole = ADDRESS.match(piece) or MARKED.match(piece)
    if not whole:
        return split_words(piece)
    return [whole.group(), *split_words(piece[whole.end() :])]


def print_of(words: Sequence[str]) -> int:
    """A number that stands for a sentence without its case, to be looked up among those of training."""
    key = "\x00".join(word.lower() for word in words).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big")


# Sentences that are shown.


class Shown(NamedTuple):
    """text: as the lecture has it. answer: its 0 and 1, or None where it has none. seen: whether training has it."""

    text: str
    sentence: Sentence
    answer: list[int] | None
    seen: bool


def shown(corpus: Corpus) -> list[Shown]:
    """The lecture's sentences; whether each is one of training is found out by looking."""
    trained = {print_of(one.words) for one in corpus.train}
    found = []
    for text, ones in [*NAMES, (UNTAGGED, None)]:
        words = [one.word for one in words_in(text)]
        answer = None if ones is None else list(ones)
        tags = answer if answer is not None and corpus.tags == LECTURE_TAGS else [0] * len(words)
        found.append(Shown(text, Sentence(words, np.array(tags, np.int32)), answer, print_of(words) in trained))
    return found


def described(one: Shown, said: Any, encoder: Encoder, tags: Sequence[str]) -> dict[str, Any]:
    """The row of a shown sentence; said: as `_name_tags_programs.Said`. terms: where its own tags are known."""
    known = encoder.words.encode([normal(word) for word in one.sentence.words]) != 0
    answered = {"answer": one.answer} if one.answer is not None else {}
    if one.answer is not None and tuple(tags) == LECTURE_TAGS:
        answered |= {"terms": said.terms.tolist(), "total": float(said.terms.sum())}
    return {
        "text": one.text, "words": one.sentence.words, "seen": one.seen, "known": int(known.sum()),
        "tags": [tags[n] for n in said.tags], "ones": (said.tags != 0).astype(int).tolist(),
        "chance": said.chances[np.arange(len(known)), said.tags].tolist(),
        "chance_of_1": (1 - said.chances[:, 0]).tolist(), **answered,
    }  # fmt: skip
