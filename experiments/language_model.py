"""How well does a recurrent network know the next character, or word, and how far back does it look?

Trains language models, by characters or words, on the first eight tenths of a text by truncated back-propagation
through time, stops where the ninth tenth says, and reports the last tenth, looked at once: nats, bits, perplexity,
beside exact unigram and bigram models and a modified Kneser-Ney 5-gram of the same training text. Then it writes.

    python launch.py language_model                            # characters of tiny Shakespeare: 5 minutes on two cores
    python launch.py language_model --preset=two_cores         # one seed in 20 minutes on two slow cores
    python launch.py language_model --preset=words             # words: tied embeddings, dropped weights
    python launch.py language_model --text=book.txt --cell=gru,lstm
    python launch.py predict RUN --text="To be, or" --temperature=0.8

Expect, of --preset=two_cores, 1.68 nats a character on the last tenth (1.44 on the ninth; seed 0), where the 5-gram has
1.73: the last tenth is of other plays, whose people do not speak in training.
"""

import dataclasses
import math
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from experiments import _language_figure, _language_table, _training
from experiments._language_programs import check, made, reader, recipe, scorer
from rnnlab import cli, decode
from rnnlab.cells import CELLS, own
from rnnlab.data import text
from rnnlab.data.vocabularies import UNKNOWN, Vocabulary, characters, words
from rnnlab.errors import InputError
from rnnlab.models.kneser_ney import kneser_ney
from rnnlab.models.language_model import READOUTS
from rnnlab.models.ngrams import baselines
from rnnlab.predictions import Answer, Predictor

RESUMES = True
TEMPERATURE = 0.8  # of what is written after training
LEVELS = {"characters": characters, "words": words}


@dataclasses.dataclass(frozen=True)
class Config(_training.Config):
    level: str = cli.flag("characters", "what is predicted", choices=tuple(LEVELS))
    text: str = cli.flag("", "a UTF-8 file to train on; by default the data set")
    data: str = cli.flag("tiny_shakespeare", "a published data set with a column text: tfds:NAME, ...")
    cell: tuple[str, ...] = cli.flag(("lstm",), f"cells to compare: {', '.join(CELLS)}, or your own, FILE.py:FACTORY")
    layers: int = cli.flag(1, "cells stacked, L", low=1)
    hidden: int = cli.flag(256, "hidden units of each layer, H", low=1)
    embedding: int = cli.flag(64, "features of an embedded character or word, E; 0 for those of a layer", low=0)
    readout: str = cli.flag("dense", "a matrix of its own, or the embeddings again", choices=tuple(READOUTS))
    dropout: float = cli.flag(0.1, "features dropped of what layers and readout read, for a whole row", low=0, high=0.9)
    weight_dropout: float = cli.flag(0.0, "entries dropped of the recurrent matrices", low=0.0, high=0.9)
    at_least: int = cli.flag(1, "how often a character or word must occur in training to be known", low=1)
    length: int = cli.flag(100, "steps that the gradient goes back, T", low=1)
    order: int = cli.flag(5, "n of the Kneser-Ney n-gram", low=1, high=12)
    written: int = cli.flag(300, "characters or words that are written after training", low=0)
    batch: int = cli.flag(32, "rows of text side by side, B", low=1)
    steps: int = cli.flag(600, "training steps", low=1)
    learning_rate: float = cli.flag(4e-3, "its highest step size", low=0.0)


PRESETS = {
    "two_cores": dict(layers=2, steps=3000, dropout=0.2, devices=2, seeds=1),
    "longer": dict(hidden=512, steps=14000, measurements=28, dropout=0.4, devices=2, seeds=1),
    "words": dict(
        level="words", readout="tied", embedding=0, hidden=200, dropout=0.5, weight_dropout=0.3, at_least=3, length=35,
        steps=1800, learning_rate=3e-3, written=60,
    ),
}  # fmt: skip


class Inputs(NamedTuple):
    """train, validation, test: ids [N] of eight, one and one tenth of the text. own: the files of a reader's cells and
    their SHA-256."""

    source: text.Text
    vocabulary: Vocabulary
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    own: dict[str, str]

    @property
    def hashes(self) -> dict[str, str]:
        return {self.source.name: self.source.sha256, **self.own}


def inputs(config: Config) -> Inputs:
    """The text, cut and checked against the configuration."""
    own.check(config.cell)
    _training.check(config)
    check(config)
    source = text.read(config.text) if config.text else text.whole(config.data)
    before, validation, test = text.tenths(source.content)
    vocabulary = LEVELS[config.level](before, at_least=config.at_least)
    train, *held_out = (vocabulary.encode(part) for part in (before, validation, test))
    least = min(map(len, held_out))
    if least < 2 or len(train) < config.batch * (config.length + 1):
        raise InputError(
            f"text: expected at least {config.batch * (config.length + 1)} {config.level} to train on and 2 in each "
            f"held-out tenth, got {len(train)} and {least} in {source.name}"
        )
    return Inputs(source, vocabulary, train, *held_out, own.sources(config.cell))


def run(config: Config, given: Inputs, run) -> None:
    """Rows: data with the baselines; of every cell and seed its training, its validations, the test, what it writes."""
    _training.keep_vocabulary(run, "text", given.vocabulary)
    if not run.has("data"):
        with run.part("data"):
            run.metrics(kind="data", **_data(config, given))
    scores = {own.label(cell): scorer(made(config, cell, given.vocabulary.size)) for cell in config.cell}

    def finish(one: _training.Recipe, seed: int, params: Any) -> None:
        loss = scores[one.facts["cell"]](params, given.test)
        run.metrics(kind="test", **one.facts, seed=seed, loss=loss)
        model = made(config, _cell(config, one.facts["cell"]), given.vocabulary.size)
        of = reader(model, params, given.vocabulary)
        pieces = of.write(of.read(""), decode.sampled(temperature=TEMPERATURE), seed)
        written = "".join(piece for piece, _ in islice(pieces, config.written))
        run.metrics(kind="written", **one.facts, seed=seed, temperature=TEMPERATURE, text=written)

    _training.every(config, [recipe(config, given, cell) for cell in config.cell], given.hashes, run, finish)


def _data(config: Config, given: Inputs) -> dict[str, Any]:
    grams = baselines(given.train, given.test, given.vocabulary.size)
    unknown = given.vocabulary.special(UNKNOWN)
    return dict(
        name=given.source.name, origin=given.source.origin, vocabulary=given.vocabulary.size,
        train=len(given.train), validation=len(given.validation), test=len(given.test),
        unknown=float((given.test == unknown).mean()), unigram=grams.unigram * math.log(2),
        bigram=grams.bigram * math.log(2),
        kneser_ney=-float(kneser_ney(given.train, given.test, given.vocabulary.size, config.order).mean()),
    )  # fmt: skip


def _cell(config: Config, label: str) -> str:
    return next(cell for cell in config.cell if own.label(cell) == label)


def table(run) -> str:
    """One line a model and baseline; then what was written, and what the numbers are."""
    return _language_table.table(Config(**run.config), run)


def figure(run):
    """Learning curves beside the baselines; the gradient over the steps it goes back, early and late."""
    return _language_figure.figure(Config(**run.config), run)


# What a finished run says of a text.


@dataclasses.dataclass(frozen=True)
class Predicting:
    length: int = cli.flag(200, "characters or words to write; 0 only reads", low=0)
    temperature: float = cli.flag(0.8, "of the softmax: 0 takes the likeliest, 1 the model's own", low=0.0, high=100.0)
    top_k: int = cli.flag(0, "the likeliest to draw from; 0 for all", low=0)
    top_p: float = cli.flag(1.0, "the fewest likeliest that hold this much probability", low=1e-6, high=1.0)
    sample: int = cli.flag(0, "seed of what is drawn", low=0, high=2**31 - 1)
    cell: str = cli.flag("", "whose model, where a run has several cells; by default the best by validation")


def predictor(run, how: Predicting) -> Predictor:
    """A text goes on, as it is written. Row: text, continuation, log_probability (ln P of the continuation, by the
    model itself), nats (an id of the text, its first left out; null for none), ids and unknown (of the text), cell,
    seed."""
    config = Config(**run.config)
    labels = [own.label(cell) for cell in config.cell]
    if how.cell and how.cell not in labels:
        raise InputError(f"cell: expected one of {', '.join(labels)}, got {how.cell!r}")
    chosen = _training.best_of(run, **({"cell": how.cell} if how.cell else {}))
    of_model = {name: chosen[name] for name in ("cell", "seed")}
    vocabulary = _training.kept_vocabulary(run, "text")
    cell = _cell(config, chosen["cell"])
    model = made(config, cell, vocabulary.size)
    params = _training.best(run, model.init, f"{chosen['cell']}_seed{chosen['seed']}")
    of = reader(model, params, vocabulary)
    choose = decode.sampled(temperature=how.temperature, top_k=how.top_k, top_p=how.top_p)

    def said(given: str) -> Iterator[Answer]:
        prompt = of.read(given)
        yield Answer(given, None)
        told, total = "", 0.0
        for piece, nats in islice(of.write(prompt, choose, how.sample), how.length):
            told, total = told + piece, total + nats
            yield Answer(piece, None)
        count, unknown = len(prompt.ids), int((prompt.ids == vocabulary.special(UNKNOWN)).sum())
        note = f"\n({unknown} of {count} {config.level} are unknown to the model)" if unknown else ""
        row = dict(
            text=given, continuation=told, log_probability=total,
            nats=None if math.isnan(prompt.nats) else prompt.nats, ids=count, unknown=unknown, **of_model,
        )  # fmt: skip
        yield Answer(f"{note}\n", row)

    return said


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
