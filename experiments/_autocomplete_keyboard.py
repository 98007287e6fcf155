"""A keyboard that offers words while one types, and what it saves.

Before every letter of a word, and before its first one too, the keyboard offers the k likeliest words that begin with
the letters typed so far. Whoever types takes the word as soon as it is offered, if that takes fewer keystrokes; taking
it costs one, its space included. So a word of n letters, with s = 1 where a space follows it and 0 where none does,
costs

    min(j + 1, n + s)

where j < n is the least number of letters after which it is among the k; n + s where it never is, as of a word that
the vocabulary lacks. A mark of punctuation costs itself and its space, and is never offered. Shift is not counted: all
is in lower case. Summed over a text of C characters (letters, marks and spaces),

    saved = 1 - keystrokes / C

(keystroke savings: Trnka & McCoy 2008, "Evaluating word prediction: framing keystroke savings", section 2).
"""

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from rnnlab.data.vocabularies import UNKNOWN, Vocabulary
from rnnlab.data.words import join_words

# Encoded sentences -> ln P of every id at every one of their steps after BEGIN, one sentence after another [N, V].
Distribution = Callable[[Sequence[np.ndarray]], Float[np.ndarray, "N V"]]
SENTENCES = 64  # scored at a time; their distributions are in memory together
NEVER = np.iinfo(np.int32).max
OFFERED = (1, 3)


class Keyboard(NamedTuple):
    """words: what it can offer, in the order of their code points. ids: of each in the vocabulary [K].
    span: letters -> (first, after the last) of the words that begin with them."""

    words: list[str]
    ids: Int[np.ndarray, "K"]
    span: Callable[[str], tuple[int, int]]


def keyboard(vocabulary: Vocabulary) -> Keyboard:
    """Of the words of a vocabulary: what has a letter or a digit, and no special token."""
    first = len(vocabulary.specials)
    known = sorted((word, first + place) for place, word in enumerate(vocabulary.learned) if is_word(word))
    words = [word for word, _ in known]

    @cache
    def span(letters: str) -> tuple[int, int]:
        after = bisect.bisect_left(words, letters + chr(0x10FFFF)) if letters else len(words)
        return bisect.bisect_left(words, letters), after

    return Keyboard(words, np.array([number for _, number in known], np.int64), span)


def is_word(token: str) -> bool:
    return any(map(str.isalnum, token))


def ranks(board: Keyboard, logs: Float[np.ndarray, "N V"], words: Sequence[str]) -> Int[np.ndarray, "N J"]:
    """The place of each word among those that begin with its first j letters, 1 for the likeliest, [N, J].

    Of words equally likely, the first in order stands before. NEVER from a word's own length on, and for a word that
    the keyboard cannot offer. J: letters of the longest word.
    """
    offered = logs[:, board.ids]
    places = np.array([_place(board, word) for word in words])
    own = offered[np.arange(len(words)), places][:, None]
    before = (offered > own) | ((offered == own) & (np.arange(len(board.ids)) < places[:, None]))
    total = np.concatenate([np.zeros((len(words), 1), np.int32), before.cumsum(1, dtype=np.int32)], axis=1)
    found = np.full((len(words), max(map(len, words), default=0)), NEVER, np.int32)
    for row, word in enumerate(words):
        if places[row] >= 0:
            low, high = np.array([board.span(word[:j]) for j in range(len(word))]).T
            found[row, : len(word)] = total[row, high] - total[row, low] + 1
    return found


def _place(board: Keyboard, word: str) -> int:
    low, high = board.span(word)
    return low if low < high and board.words[low] == word else -1


class Typed(NamedTuple):
    """words: of some texts, after one another, with the step of each in its own text, and whether a space follows."""

    words: list[str]
    steps: Int[np.ndarray, "N"]
    spaces: Int[np.ndarray, "N"]


def typed(sentences: Iterable[Sequence[str]]) -> Typed:
    """All words and marks, with the spaces that `join_words` writes."""
    words, steps, spaces = [], [], []
    for sentence in sentences:
        words += sentence
        steps += range(len(sentence))
        pairs = itertools.pairwise(sentence)
        spaces += [len(join_words([one, two])) - len(one) - len(two) for one, two in pairs] + [0] * bool(sentence)
    return Typed(words, np.array(steps, int), np.array(spaces, int))


def keystrokes(words: Sequence[str], spaces: np.ndarray, places: Int[np.ndarray, "N J"], offered: int) -> np.ndarray:
    """What each word costs [N] by the formula above; places: from `ranks`."""
    plain = np.array([len(word) for word in words], int) + spaces
    there = np.pad(places, ((0, 0), (0, 1)), constant_values=NEVER) <= offered  # a column at least
    return np.where(there.any(1), np.minimum(there.argmax(1) + 1, plain), plain)


class Scores(NamedTuple):
    """On held-out sentences. top1, top5: share of the words after the first, `words` of them, that were the likeliest,
    or among the five likeliest words. unknown: share of those words that the vocabulary lacks: missed by all models.
    perplexity: exp of the mean -ln P of every word, mark and END, `steps` of them, an unknown word being <unknown>.
    saved1, saved3: share of keystrokes saved, of `characters`, with one word offered and with three."""

    top1: float
    top5: float
    perplexity: float
    saved1: float
    saved3: float
    unknown: float
    words: int
    steps: int
    characters: int


def score(vocabulary: Vocabulary, encode: Callable, sentences: Sequence[Sequence[str]], model: Distribution) -> Scores:
    """Everything of one model on one set, one pass. encode: words -> BEGIN, ids, END."""
    board, unknown = keyboard(vocabulary), vocabulary.special(UNKNOWN)
    nats, steps, characters, places, missing = 0.0, 0, 0, [], []
    pressed = dict.fromkeys(OFFERED, 0)
    for some, ids, logs in _chunks(encode, sentences, model):
        targets = np.concatenate([one[1:] for one in ids])
        nats -= float(logs[np.arange(len(targets)), targets].sum(dtype=np.float64))
        steps += len(targets)
        text = typed(some)
        inner = np.concatenate([np.arange(len(one) - 1) < len(one) - 2 for one in ids])  # all but END
        able = np.array(list(map(is_word, text.words)))
        words = [word for word, flag in zip(text.words, able, strict=True) if flag]
        marks = sum(map(len, text.words)) - sum(map(len, words)) + int(text.spaces[~able].sum())
        found = ranks(board, logs[inner][able], words)
        for k in OFFERED:
            pressed[k] += marks + int(keystrokes(words, text.spaces[able], found, k).sum())
        characters += sum(map(len, text.words)) + int(text.spaces.sum())
        later = text.steps[able] > 0
        places.append(found[later, :1].ravel())
        missing.append((targets[inner][able] == unknown)[later])
    first, absent = np.concatenate(places), np.concatenate(missing)
    share = lambda flags: float(flags.mean()) if len(flags) else math.nan  # noqa: E731
    return Scores(
        share(first <= 1), share(first <= 5), math.exp(nats / steps), *(1 - pressed[k] / characters for k in OFFERED),
        share(absent), len(first), steps, characters,
    )  # fmt: skip


def _chunks(encode: Callable, sentences: Sequence, model: Distribution) -> Iterator[tuple]:
    for first in range(0, len(sentences), SENTENCES):
        some = sentences[first : first + SENTENCES]
        ids = [encode(sentence) for sentence in some]
        yield some, ids, model(ids)
