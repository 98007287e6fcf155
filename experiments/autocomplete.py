"""Which words come next in an office reply?

A word-level language model of real sentences and of office replies made by rule, asked as the lecture draws it: after
"not interested at" the words "this time", after "will let you know if it changes" the words "in the future", each with
its probability. It is scored on held-out replies made from other templates and other names, and on held-out real
sentences, beside a unigram, a bigram and a trigram of the same words: the share of next words that are the likeliest or
among the five likeliest, perplexity, and the keystrokes that a keyboard saves which offers one word, or three.

    python launch.py autocomplete
    python launch.py autocomplete --data=tatoeba --replies=0           # what do the made replies give?
    python launch.py autocomplete --text=letters.txt --cell=lstm,gru   # your own sentences too, one a line
    python launch.py predict RUN --text="We are not interested at"

Takes about 4 minutes a seed on two free cores, by an estimate from processor time: 0.4 s of it a step. Expect fewer
nats a word on the validation replies than the trigram needs, whose perplexity there is 43, after half of the steps; and
"this time" and "in the future" as the likeliest phrases after the lecture's prompts, both seen in training.
"""

import dataclasses
import sys
from typing import Any, NamedTuple

import numpy as np

from experiments import _autocomplete_figure, _autocomplete_table, _training
from experiments._autocomplete_counts import Baseline, baselines
from experiments._autocomplete_keyboard import score
from experiments._autocomplete_predict import Predicting, Prompt, prompted, read_prompt
from experiments._autocomplete_predict import predictor as _predictor
from experiments._autocomplete_programs import asking, columns_of, distribution, model_of, recipe_of
from experiments._autocomplete_text import (
    Origin,
    Words,
    encoded,
    generated,
    occurrences,
    own_file,
    real,
    shared_runs,
    templates,
    vocabulary_of,
)  # fmt: skip
from experiments._lecture import REPLIES
from rnnlab import cli
from rnnlab.cells import CELLS, own
from rnnlab.data.vocabularies import UNKNOWN, Vocabulary
from rnnlab.errors import InputError
from rnnlab.models.language_model import READOUTS

RESUMES = True
VOCABULARY = "words"
# The lecture's two, and two of ours that say the same in other words.
LECTURE = tuple(Prompt(*one) for one in REPLIES)
VARIANTS = (
    Prompt("we do not want to buy anything at", "this time"),
    Prompt("i will tell you if our plans change", "in the future"),
)


@dataclasses.dataclass(frozen=True)
class Config(_training.Config):
    cell: tuple[str, ...] = cli.flag(("lstm",), f"cells to compare: {', '.join(CELLS)}, or your own, FILE.py:FACTORY")
    layers: int = cli.flag(1, "cells stacked, L", low=1)
    hidden: int = cli.flag(192, "hidden units of each layer, H", low=1)
    embedding: int = cli.flag(128, "features of an embedded word, E; 0 means as many as hidden units", low=0)
    readout: str = cli.flag(
        "dense", "dense, or tied: by the embeddings again, which are then as wide", choices=tuple(READOUTS)
    )
    dropout: float = cli.flag(0.3, "rate at which features between layers are dropped in training", low=0.0, high=0.9)
    data: tuple[str, ...] = cli.flag(
        ("tatoeba", "movie_snippets"), "published data sets of real sentences, a column english or text; none for none"
    )
    text: str = cli.flag("", "a UTF-8 file of your own sentences, one a line; its last tenth is held out")
    replies: int = cli.flag(4000, "office replies made for training", low=0, high=1_000_000)
    held_out: int = cli.flag(
        480, "the same for validation and for the test, each; those that come twice are left out", low=2
    )
    replies_seed: int = cli.flag(0, "seed of the replies", low=0, high=2_000_000_000)
    length: int = cli.flag(64, "words of a sentence; longer ones are cut into several", low=2)
    vocabulary: int = cli.flag(5000, "words at the most, V; the rarest are unknown", low=4)
    at_least: int = cli.flag(2, "how often a word must occur in training to be known", low=1)
    batch: int = cli.flag(32, "sentences in a training step, B", low=1)
    steps: int = cli.flag(1000, "training steps; 460 read the default text once", low=1)


class Inputs(NamedTuple):
    """origins: with sentences to train on. replies: with those held out. cells: the files of a reader's cells."""

    origins: tuple[Origin, ...]
    replies: Origin
    validation: list[Words]
    vocabulary: Vocabulary
    cells: dict[str, str]

    @property
    def hashes(self) -> dict[str, str]:
        found = [origin.hashes for origin in (*self.origins, self.replies)]
        return {name: sha256 for hashes in (*found, self.cells) for name, sha256 in hashes.items()}

    @property
    def tests(self) -> dict[str, list[Words]]:
        """By origin; the replies first."""
        return {origin.name: origin.test for origin in (self.replies, *self.origins)}

    def encode(self, sentence: Words) -> np.ndarray:
        return encoded(self.vocabulary, sentence)


def inputs(config: Config) -> Inputs:
    """All text, checked against the configuration."""
    _training.check(config)
    own.check(config.cell)
    names = () if config.data == ("none",) else config.data
    if len(set(names)) < len(names):
        raise InputError(f"data: expected every data set once, got {','.join(names)}")
    replies, validation = generated(config.replies, config.held_out, config.replies_seed)
    origins = [real(name, config.length) for name in names]
    origins += [own_file(config.text, config.length)] if config.text else []
    origins += [replies] if config.replies else []
    if not origins:
        raise InputError("replies: expected something to train on, got no data, no text and replies=0")
    vocabulary = vocabulary_of(origins, config.at_least, config.vocabulary)
    for cell in config.cell:
        model_of(config, cell, vocabulary.size)
    return Inputs(tuple(origins), replies, validation, vocabulary, own.sources(config.cell))


def run(config: Config, given: Inputs, run) -> None:
    """Rows: of the text, of the baselines and their test; then of every cell and seed `_training.every`'s, its test on
    each set, and what it says after each prompt."""
    train = [sentence for origin in given.origins for sentence in origin.train]
    if not run.has("data"):
        with run.part("data"):
            _describe(config, given, run)
            ids = [list(map(given.encode, sentences)) for sentences in (train, given.validation)]
            for one in baselines(ids[0], given.vocabulary.size, ids[1]):
                _baseline(given, one, run)
    columns = columns_of(given.encode, train), columns_of(given.encode, given.validation)
    recipes = [recipe_of(config, cell, given.vocabulary.size, *columns) for cell in config.cell]
    _training.every(config, recipes, given.hashes, run, _Finish(config, given, run))


class _Finish:
    """Scores the best parameters of a recipe and a seed, on every test set, once; programs are compiled once a cell."""

    def __init__(self, config: Config, given: Inputs, run: Any):
        self.config, self.given, self.run, self.programs = config, given, run, {}

    def __call__(self, recipe: _training.Recipe, seed: int, params: Any) -> None:
        cell, given = recipe.facts["cell"], self.given
        if cell not in self.programs:
            model = model_of(self.config, cell, given.vocabulary.size)
            self.programs = {cell: (distribution(model), asking(model, given.vocabulary))}
        of, asked = self.programs[cell]
        said = {"cell": cell, "seed": seed}
        for name, sentences in given.tests.items():
            found = score(given.vocabulary, given.encode, sentences, of(params))
            self.run.metrics(kind="test", set=name, model=cell, **said, **found._asdict())
        for prompt in (*LECTURE, *VARIANTS):
            self.run.metrics(kind="prompt", **said, **prompted(asked, given.vocabulary, params, prompt))


def _baseline(given: Inputs, one: Baseline, run: Any) -> None:
    run.metrics(kind="baseline", model=one.name, strength=one.strength, perplexity=one.perplexity)
    for name, sentences in given.tests.items():
        found = score(given.vocabulary, given.encode, sentences, one.model)
        run.metrics(kind="test", set=name, model=one.name, **found._asdict())


def _describe(config: Config, given: Inputs, run: Any) -> None:
    """Sizes and origins, and where the prompts stand in what is trained on."""
    _training.keep_vocabulary(run, VOCABULARY, given.vocabulary)
    unknown, steps = given.vocabulary.special(UNKNOWN), 0
    absent = 0
    for origin in given.origins:
        words = sum(map(len, origin.train))
        run.metrics(
            kind="origin", name=origin.name, origin=origin.kind, sentences=len(origin.train), words=words,
            distinct=len(set(map(tuple, origin.train))), cut=origin.cut,
        )  # fmt: skip
        steps += words
        absent += sum(int((given.encode(sentence) == unknown).sum()) for sentence in origin.train)
    run.metrics(
        kind="text", vocabulary=given.vocabulary.size, words=steps, unknown=absent / steps,
        **{f"{name}_templates": count for name, count in templates().items()},
        validation_replies=len(given.validation), test_replies=len(given.replies.test),
        shared_runs=shared_runs(given.origins, given.replies.test, 4),
    )  # fmt: skip
    for prompt in (*LECTURE, *VARIANTS):
        before, whole = read_prompt(prompt)
        run.metrics(
            kind="sentence", prompt=prompt.text, expected=prompt.expected, lecture=prompt in LECTURE,
            prompt_seen=occurrences(given.origins, before), seen=occurrences(given.origins, whole),
        )  # fmt: skip


def predictor(run, how: Predicting):
    """The next words and phrases after each text, by the best seed of a cell."""
    return _predictor(run, how, Config(**run.config), VOCABULARY)


def table(run) -> str:
    """A line a model and test set; the prompts; what the numbers are."""
    return _autocomplete_table.table(Config(**run.config), run)


def figure(run):
    """Learning curves, the prompts' next words and phrases, and the scores beside the baselines'."""
    return _autocomplete_figure.figure(Config(**run.config), run)


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
