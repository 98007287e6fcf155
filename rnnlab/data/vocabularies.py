"""Text to ids and back: by characters, words, given tokens or subwords.

A vocabulary is made from the training split only: from the others it would know words that a model never trained on,
and an unknown one would be rare in the test where it is not in the world. All of them

    normalise first, to NFC unless asked otherwise: in Devanagari as elsewhere one string can be spelled in several
        ways (U+0958, or U+0915 with U+093C), and equal strings get equal ids;
    give the special tokens the first ids, in the order in which they are asked for. No text ever gives one of those,
        whatever it spells, but for UNKNOWN, which stands for what the vocabulary lacks. Where UNKNOWN was not asked
        for, that is refused by name.

Characters are code points and not grapheme clusters. Tatoeba's Hindi is spelled with 87 code points, or with 540
clusters of which a third occur less than five times, and code points spell those too that training never saw.
"""

import contextlib
import hashlib
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Integer

from rnnlab.data.words import join_words, split_words
from rnnlab.errors import InputError

PAD, BEGIN, END, UNKNOWN = "<pad>", "<begin>", "<end>", "<unknown>"
FORMS = ("NFC", "NFD", "NFKC", "NFKD")
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Vocabulary(NamedTuple):
    """kind: a key of KINDS. form: of normalisation. specials: first ids. learned: the other tokens, by id after those.
    merges: pairs of subwords in the order in which they join, () for other kinds.

    encode: text -> ids [N] int32, for `tokens` from a sequence of str. Raises InputError where there is no UNKNOWN.
    decode: ids [N] -> text. UNKNOWN is written as U+FFFD, and no other special token is written.
    """

    kind: str
    form: str
    specials: tuple[str, ...]
    learned: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    encode: Callable[[str | Sequence[str]], Int[np.ndarray, "N"]]
    decode: Callable[[Integer[np.ndarray, "N"] | Sequence[int]], str]

    @property
    def tokens(self) -> tuple[str, ...]:
        """Of every id."""
        return self.specials + self.learned

    @property
    def size(self) -> int:
        """V, the number of ids."""
        return len(self.tokens)

    def special(self, token: str) -> int:
        """The id of PAD, BEGIN, END, UNKNOWN or another special token. ValueError if it was not asked for."""
        if token not in self.specials:
            raise ValueError(f"vocabulary: expected one of the specials {self.specials}, got {token!r}")
        return self.specials.index(token)

    @property
    def json(self) -> str:
        """All that defines it; the same text for the same vocabulary."""
        fields = {name: getattr(self, name) for name in ("kind", "form", "specials", "learned", "merges")}
        return json.dumps(fields, indent=0)

    @property
    def sha256(self) -> str:
        """Of `json`."""
        return hashlib.sha256(self.json.encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """As JSON; the file is whole or not there. InputError where it cannot be written."""
        temporary = Path(path).with_name(f".{Path(path).name}.tmp")
        try:
            temporary.write_text(self.json, encoding="utf-8")
            os.replace(temporary, path)
        except OSError as problem:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise InputError(f"vocabulary: expected to write {path}, got: {problem.strerror}") from None


def characters(
    texts: str | Iterable[str], *, specials: Sequence[str] = (UNKNOWN,), form: str = "NFC", at_least: int = 1
) -> Vocabulary:
    """Every code point that occurs `at_least` so often, in their order. InputError where there is none."""
    counts = Counter()
    for text in _each(texts):
        counts.update(_normalise(text, form))
    return _made("characters", form, specials, sorted(_frequent(counts, at_least, None)))


def words(
    texts: str | Iterable[str],
    *,
    specials: Sequence[str] = (UNKNOWN,),
    form: str = "NFC",
    at_least: int = 1,
    at_most: int | None = None,
) -> Vocabulary:
    """Words and punctuation marks, as `split_words` finds them: the most frequent first, equals by code point.

    at_least: how often a word must occur. at_most: V, with the specials; the rarest are left out.
    """
    counts = Counter()
    for text in _each(texts):
        counts.update(split_words(_normalise(text, form)))
    return _made("words", form, specials, _frequent(counts, at_least, at_most, specials))


def tokens(
    sequences: Iterable[Sequence[str]],
    *,
    specials: Sequence[str] = (UNKNOWN,),
    form: str = "NFC",
    at_least: int = 1,
    at_most: int | None = None,
) -> Vocabulary:
    """What was split before, as tagged words or their tags: as `words`, and `encode` takes a sequence of str.

    For tags, specials=() refuses one that training never had.
    """
    counts = Counter()
    for sequence in sequences:
        if isinstance(sequence, str):
            raise TypeError(f"tokens: expected sequences of str, got {sequence!r:.40}")
        counts.update(_normalise(token, form) for token in sequence)
    return _made("tokens", form, specials, _frequent(counts, at_least, at_most, specials))


def subwords(texts: str | Iterable[str], size: int, *, specials: Sequence[str] = (), form: str = "NFC") -> Vocabulary:
    """Byte-pair encoding by the library `tokenizers`, V at most `size`: frequent pieces of words.

    Within a word only, with the space before it; marks belong to words, so that no Devanagari vowel sign stands apart
    (the usual pattern, GPT-2's, cuts there). A character that training never had is spelled in UTF-8 bytes, 256 of the
    ids: nothing is unknown, and `decode` gives back any normalised text. Deterministic.

    Sennrich, Haddow and Birch 2016 (arXiv:1508.07909). Raises InputError where `size` has no room for every character.
    """
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _pieces()
    room = size - len(specials) - len(BYTES)
    trainer = trainers.BpeTrainer(vocab_size=max(0, room), show_progress=False)
    tokenizer.train_from_iterator((_normalise(text, form) for text in _each(texts)), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    learned = sorted(model["vocab"], key=model["vocab"].__getitem__)
    if len(learned) > room:
        least = size - room + sum(len(token) == 1 for token in learned)
        raise InputError(f"subwords: expected a size of at least {least}, bytes and characters alone, got {size}")
    _check_some(learned)
    return _made("subwords", form, specials, [*BYTES, *learned], model["merges"])


def load(path: str | Path) -> Vocabulary:
    """What `save` wrote. InputError for a file that is missing or something else."""
    try:
        return _made(**json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as problem:
        raise InputError(f"vocabulary: expected a readable file, got {path}: {problem.strerror}") from None
    except Exception as problem:  # tokenizers raises bare ones
        what = f"{type(problem).__name__}: {problem}"
        raise InputError(f"vocabulary: expected a file that was saved as one, got {path} ({what:.60})") from None


def _pieces() -> Any:
    from tokenizers import Regex, pre_tokenizers

    word = r"\p{L}\p{M}\p{N}_\x{200c}\x{200d}"
    return pre_tokenizers.Split(Regex(rf" ?[{word}]+| ?[^\s{word}]+|\s+(?!\S)|\s+"), "isolated")


def _each(texts: str | Iterable[str]) -> Iterable[str]:
    return [texts] if isinstance(texts, str) else texts


def _normalise(text: str, form: str) -> str:
    if form not in FORMS:
        raise ValueError(f"vocabulary: expected a form of {FORMS}, got {form!r}")
    return unicodedata.normalize(form, text)


def _frequent(counts: Counter, at_least: int, at_most: int | None, specials: Sequence[str] = ()) -> list[str]:
    if at_least < 1 or (at_most is not None and at_most <= len(specials)):
        given = f"{at_least} and {at_most}"
        raise ValueError(f"vocabulary: expected at_least > 0 and at_most > {len(specials)} specials, got {given}")
    kept = sorted((token for token in counts if counts[token] >= at_least), key=lambda token: (-counts[token], token))
    _check_some(kept)
    return kept if at_most is None else kept[: at_most - len(specials)]


def _check_some(found: Iterable[str]) -> None:
    if not any(not token.isspace() for token in found):
        raise InputError("vocabulary: expected some text, got none")


def _made(kind: str, form: str, specials: Iterable[str], learned: Iterable[str], merges: Iterable = ()) -> Vocabulary:
    specials, learned, merges = tuple(specials), tuple(learned), tuple(map(tuple, merges))
    _normalise("", form)
    for names in (specials, learned):
        if len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"vocabulary: expected different tokens, got {names[:9]}")
    find, join = KINDS[kind](learned, merges)
    first = len(specials)
    unknown = specials.index(UNKNOWN) if UNKNOWN in specials else None
    silent = set(range(first)) - {unknown}

    def encode(text: str | Sequence[str]) -> np.ndarray:
        if isinstance(text, str) == (kind == "tokens"):
            raise TypeError(f"encode: expected {'a list of str' if kind == 'tokens' else 'a str'}, got {text!r:.40}")
        units, places = find(_normalise(text, form) if isinstance(text, str) else [_normalise(t, form) for t in text])
        missing = np.flatnonzero(places < 0)
        if len(missing) and unknown is None:
            at = int(missing[0])
            raise InputError(
                f"vocabulary: expected one of {len(learned)} {kind}, got {units[at]!r}, number {at} of all"
            )
        return np.where(places < 0, unknown or 0, places + first).astype(np.int32)

    def decode(ids: Any) -> str:
        ids = np.asarray(ids, None if len(ids) else np.int32)
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ValueError(f"decode: expected integers [N], got {ids.dtype} {list(ids.shape)}")
        if len(ids) and not 0 <= ids.min() <= ids.max() < first + len(learned):
            raise ValueError(f"decode: expected ids below {first + len(learned)}, got {ids.min()} to {ids.max()}")
        return join([n - first for n in ids.tolist() if n not in silent])

    return Vocabulary(kind, form, specials, learned, merges, encode, decode)


# By kind, (learned, merges) -> (find, join). find: text -> its units, and the place of each in `learned`, [N], -1 for
# none. join: places -> text, where a place below 0 is that of an unknown unit.


def _characters(learned: tuple[str, ...], merges: tuple) -> tuple[Callable, Callable]:
    known = _points("".join(learned))
    place = np.full(known.max(initial=0) + 2, -1, np.int32)
    place[known] = np.arange(len(learned))  # one by one: refuses what is no single character

    def find(text: str) -> tuple[str, np.ndarray]:
        return text, place[np.minimum(_points(text), len(place) - 1)]

    return find, lambda places: "".join(_spelled(learned, places))


def _points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _words(learned: tuple[str, ...], merges: tuple) -> tuple[Callable, Callable]:
    find, _ = _tokens(learned, merges)
    return lambda text: find(split_words(text)), lambda places: join_words(_spelled(learned, places))


def _tokens(learned: tuple[str, ...], merges: tuple) -> tuple[Callable, Callable]:
    place = {token: n for n, token in enumerate(learned)}

    def find(units: Sequence[str]) -> tuple[Sequence[str], np.ndarray]:
        return units, np.fromiter((place.get(unit, -1) for unit in units), np.int64, len(units))

    return find, lambda places: " ".join(_spelled(learned, places))


def _subwords(learned: tuple[str, ...], merges: tuple) -> tuple[Callable, Callable]:
    from tokenizers import Tokenizer, models

    vocabulary = {token: n for n, token in enumerate(learned)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges), byte_fallback=True))
    tokenizer.pre_tokenizer = _pieces()

    def find(text: str) -> tuple[str, np.ndarray]:
        try:
            return text, np.asarray(tokenizer.encode(text).ids, np.int64)
        except TypeError:
            raise InputError(f"text: expected what UTF-8 can spell, got a lone surrogate in {text!r:.40}") from None

    def join(places: list[int]) -> str:
        pieces = [bytes([n]) if 0 <= n < len(BYTES) else _spelled(learned, [n])[0].encode() for n in places]
        return b"".join(pieces).decode(errors="replace")

    return find, join


def _spelled(learned: tuple[str, ...], places: list[int]) -> list[str]:
    return [learned[n] if n >= 0 else REPLACEMENT for n in places]


KINDS = {"characters": _characters, "words": _words, "tokens": _tokens, "subwords": _subwords}
