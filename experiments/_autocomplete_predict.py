"""What a model of `autocomplete` says after a text: the next words, and the likeliest phrases, with probabilities."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import _training
from experiments._autocomplete_keyboard import Keyboard, is_word, keyboard
from experiments._autocomplete_programs import Asked, Said, asking, log_probability, model_of, said
from experiments._autocomplete_text import words_of
from rnnlab import cli
from rnnlab.cells import own
from rnnlab.data.vocabularies import BEGIN, END, UNKNOWN, Vocabulary
from rnnlab.data.words import join_words
from rnnlab.errors import InputError
from rnnlab.predictions import Answer, Predictor

LAST = ("auto", "whole", "begun")
TOP, WIDTH = 5, 32
SHOWN = 60  # characters of a text that are written again for people
UNKNOWN_SHOWN = 100  # unknown words that are named, each once


@dataclasses.dataclass(frozen=True)
class Predicting:
    words: int = cli.flag(2, "words of a phrase, at the most: it may end before", low=1, high=32)
    top: int = cli.flag(TOP, "how many words and how many phrases are said", low=1, high=1000)
    width: int = cli.flag(WIDTH, "phrases followed at a time, and no fewer than --top", low=1, high=1000)
    cell: str = cli.flag("", "whose model is asked; the first of the run's cells if none is named")
    last: str = cli.flag(
        "auto", "whether a last word with no space after it is begun or whole; auto: begun if it is not known",
        choices=LAST,
    )  # fmt: skip


class Prompt(NamedTuple):
    """text: what stands there. expected: how it is to go on."""

    text: str
    expected: str


def read_prompt(prompt: Prompt) -> tuple[list[str], list[str]]:
    """Its words, and those with the expected ones."""
    before = words_of(prompt.text)
    return before, before + words_of(prompt.expected)


def prompted(asked: Asked, vocabulary: Vocabulary, params: Any, prompt: Prompt) -> dict[str, Any]:
    """A row: what is said after a prompt."""
    before, whole = read_prompt(prompt)
    ids = _ids(vocabulary, before)
    found = said(asked, vocabulary, params, ids, words=len(whole) - len(before), width=WIDTH)
    words, phrases = next_words(vocabulary, found, TOP), likely_phrases(vocabulary, found, TOP)
    logs = log_probability(asked, params, ids, vocabulary.encode(whole[len(before) :]))
    return dict(
        prompt=prompt.text, expected=prompt.expected, expected_probability=float(np.exp(logs)),
        words=[word for word, _ in words], word_probabilities=[share for _, share in words],
        phrases=[phrase for phrase, _, _ in phrases], phrase_probabilities=[share for _, share, _ in phrases],
    )  # fmt: skip


def next_words(vocabulary: Vocabulary, found: Said, top: int) -> list[tuple[str, float]]:
    """The likeliest words that a keyboard can offer, and their probabilities; fewer where fewer are possible."""
    able = np.array([is_word(token) for token in vocabulary.learned], bool)
    logs = np.where(able, found.logs[len(vocabulary.specials) :], -np.inf)
    likely = np.argsort(-logs, kind="stable")[:top]
    return [(vocabulary.learned[n], float(np.exp(logs[n]))) for n in likely if logs[n] > -np.inf]


def likely_phrases(vocabulary: Vocabulary, found: Said, top: int) -> list[tuple[str, float, bool]]:
    """The likeliest phrases, their probabilities, and whether the sentence is at an end after them."""
    end = vocabulary.special(END)
    rows = zip(*found.beams, strict=True)
    return [
        (join_words([vocabulary.tokens[n] for n in ids[:length]]), float(np.exp(log)), bool((ids == end).any()))
        for ids, log, length in rows
        if log > -np.inf
    ][:top]


def predictor(run: Any, how: Predicting, config: Any, kept: str) -> Predictor:
    """For the best seed of a cell. kept: the name of the run's vocabulary. InputError for a cell that it has not."""
    cell = how.cell or config.cell[0]
    if cell not in config.cell:
        raise InputError(f"cell: expected one of {', '.join(config.cell)}, got {cell!r}")
    vocabulary = _training.kept_vocabulary(run, kept)
    model = model_of(config, cell, vocabulary.size)
    seed = _training.best_of(run, cell=cell)["seed"]
    params = _training.best(run, model.init, f"{own.label(cell)}_seed{seed}")
    board, asked = keyboard(vocabulary), asking(model, vocabulary)
    width = max(how.width, how.top)

    def answers(text: str) -> Iterator[Answer]:
        words = words_of(text)
        begun = _begun(text, words, board, vocabulary, how.last)
        allowed = _allowed(board, vocabulary, begun) if begun else None
        ids = _ids(vocabulary, words[:-1] if begun else words)
        found = said(asked, vocabulary, params, ids, words=how.words, width=width, allowed=allowed)
        row = _row(text, words, begun, ids, vocabulary, found, how.top) | {"cell": cell, "seed": seed}
        yield Answer(_shown(row), row)

    return answers


def _begun(text: str, words: Sequence[str], board: Keyboard, vocabulary: Vocabulary, last: str) -> str:
    """The letters of a last word that is not whole; "" where it is, and where no known word begins so."""
    if last == "whole" or not words or text[-1:].isspace() or not is_word(words[-1]):
        return ""
    known = vocabulary.encode([words[-1]])[0] != vocabulary.special(UNKNOWN)
    low, high = board.span(words[-1])
    return "" if low == high or (known and last == "auto") else words[-1]


def _allowed(board: Keyboard, vocabulary: Vocabulary, letters: str) -> np.ndarray:
    low, high = board.span(letters)
    allowed = np.zeros(vocabulary.size, bool)
    allowed[board.ids[low:high]] = True
    return allowed


def _ids(vocabulary: Vocabulary, words: Sequence[str]) -> np.ndarray:
    """Without END: the text goes on."""
    return np.append(vocabulary.special(BEGIN), vocabulary.encode(list(words))).astype(np.int32)


def _row(
    text: str, words: Sequence[str], begun: str, ids: np.ndarray, vocabulary: Vocabulary, found: Said, top: int
) -> dict[str, Any]:
    """As docs/autocomplete.md names it."""
    missing = [word for word, number in zip(words, ids[1:], strict=False) if number == vocabulary.special(UNKNOWN)]
    able = np.array([place >= len(vocabulary.specials) and is_word(t) for place, t in enumerate(vocabulary.tokens)])
    shares = np.exp(found.logs)
    end = float(shares[vocabulary.special(END)])
    return {
        "text": text,
        "read": len(ids) - 1,
        "begun": begun,
        "unknown": len(missing),
        "unknown_words": list(dict.fromkeys(missing))[:UNKNOWN_SHOWN],
        "words": [{"word": word, "probability": share} for word, share in next_words(vocabulary, found, top)],
        "phrases": [
            {"text": phrase, "probability": share, "ends": ends}
            for phrase, share, ends in likely_phrases(vocabulary, found, top)
        ],
        "any_word": float(shares[able].sum()),
        "any_mark": float(shares[~able].sum()) - end,
        "end": end,
        "unknown_next": found.unknown,
    }


def _shown(row: Mapping[str, Any]) -> str:
    """Some lines for people; the text by its last words."""
    text = _printable(row["text"])
    text = text if len(text) <= SHOWN else "..." + text[-SHOWN:]
    each = [f"{one['word']} {one['probability']:.1%}" for one in row["words"]]
    said = [f'"{one["text"]}{" (end)" * one["ends"]}" {one["probability"]:.1%}' for one in row["phrases"]]
    lines = [
        f"{text or '(at the beginning)'} ...",
        f"  {'word  ' if not row['begun'] else 'begun '}  {', '.join(each)}",
    ]
    lines += [f"  phrase  {', '.join(said)}"]
    if row["unknown"]:
        names = ", ".join(row["unknown_words"][:5]) + (", ..." if len(row["unknown_words"]) > 5 else "")
        lines.append(
            f"  {row['unknown']} of {row['read']} words and marks are unknown to the model: {_printable(names)}"
        )
    return "\n".join(lines) + "\n"


def _printable(text: str) -> str:
    """Nothing in it can move a terminal's cursor."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text).strip()
