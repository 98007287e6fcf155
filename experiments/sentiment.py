"""Is a review good or bad, what does the model think after each word of it, and does it beat naive Bayes?

Trains recurrent classifiers on snippets of movie reviews, with and without a term of words and pairs of words that
begins at naive Bayes' log-odds (Wang & Manning 2012), and scores them on the test split, once, beside naive Bayes.

    python launch.py sentiment
    python launch.py sentiment --cell=gru,lstm --ngrams=none --reads=both
    python launch.py sentiment --file=mine.tsv       # lines of RATING TAB TEXT
    python launch.py predict runs/sentiment-* --text="Not only the fan was expensive, but it was broken."

The label is the sign of the mean rating, exact zeros are dropped, and the split is by a hash of the id.
Some 20 s of training a model and seed on two idle cores, after a minute or two of compilation. Expect on validation
(the test split is for the end) 78.3 % from naive Bayes, 76 to 78 % from the LSTM alone, about 80 % with its n-grams.
"""

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments import _sentiment_figure, _sentiment_table, _training
from experiments._lecture import REVIEW
from experiments._sentiment_data import Inputs, Rated, Vocabularies, columns_of, opened, spelled, vocabularies_of
from experiments._sentiment_programs import JOINS, NGRAMS, Variant, classifier, probabilities, reader, recipe, variants
from rnnlab import cli
from rnnlab.cells import CELLS, own
from rnnlab.data.words import split_words
from rnnlab.errors import InputError
from rnnlab.models import naive_bayes
from rnnlab.models.classifier import POOLS
from rnnlab.predictions import Answer, Predictor

RESUMES = True
ALPHAS = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0)  # of naive Bayes; the best on validation is taken


@dataclasses.dataclass(frozen=True)
class Config(_training.Config):
    cell: tuple[str, ...] = cli.flag(("lstm",), f"cells: {', '.join(CELLS)}, or your own, FILE.py:FACTORY")
    ngrams: tuple[str, ...] = cli.flag(
        ("none", "naive_bayes"), "what words and pairs of words add, and what it begins as; each with each cell",
        choices=NGRAMS,
    )  # fmt: skip
    ngrams_scale: float = cli.flag(0.3, "share of naive Bayes' log-odds that it begins as", low=0.0)
    layers: int = cli.flag(1, "cells stacked, L", low=1)
    hidden: int = cli.flag(64, "hidden units of each layer and direction, H", low=1)
    embedding: int = cli.flag(64, "features of an embedded word, E", low=1)
    embedding_scale: float = cli.flag(0.05, "standard deviation of the first embeddings", low=0.0)
    reads: str = cli.flag("forward", "forward only, or both ways", choices=("forward", "both"))
    pool: str = cli.flag("mean", "what is made of a text's steps", choices=tuple(POOLS))
    join: str = cli.flag(
        "plain", "what a layer hands on: its outputs, or those plus what it read", choices=tuple(JOINS)
    )
    dropout: float = cli.flag(0.6, "rate at which features are dropped in training", low=0.0, high=0.95)
    word_dropout: float = cli.flag(0.3, "rate at which words are made unknown in training", low=0.0, high=0.95)
    at_least: int = cli.flag(1, "times that a training word must come to be known", low=1)
    file: str = cli.flag("", "your own texts: a UTF-8 file of lines RATING TAB TEXT; by default movie snippets")
    shown: int = cli.flag(5, "test texts whose running score is shown, the first ones of the split", low=0, high=20)
    batch: int = cli.flag(64, "texts in a training step, B", low=1)
    steps: int = cli.flag(700, "training steps", low=1)
    learning_rate: float = cli.flag(2e-3, "Adam's highest step size", low=0.0)


def inputs(config: Config) -> Inputs:
    """The texts, split, and checked against the configuration."""
    _training.check(config)
    own.check(config.cell)
    width = config.hidden * (2 if config.reads == "both" else 1)
    if config.join == "residual" and config.embedding != width:
        raise InputError(
            f"embedding: expected {width}, what a layer hands on, for join=residual, got {config.embedding}"
        )
    return opened(config.file, own.sources(config.cell))


def run(config: Config, given: Inputs, run) -> None:
    """Rows: data, baselines; of each model and seed `train`, `validation`, `chosen`, `test`, and `running` of each text
    that is shown. Arrays: `test` (label, rating, naive Bayes' log-odds), PART_test (log-odds), in one order."""
    vocabularies = vocabularies_of(given.splits["train"], config.at_least)
    bayes = naive_bayes.chosen(*(_pair(given.splits[split]) for split in ("train", "validation")), ALPHAS)
    if not run.has("data"):
        with run.part("data"):
            for name, vocabulary in vocabularies._asdict().items():
                _training.keep_vocabulary(run, name, vocabulary)
            _baselines(given, vocabularies, bayes, run)
    test = columns_of(given.splits["test"], vocabularies)

    def finish(recipe: _training.Recipe, seed: int, params: Any) -> None:
        variant = next(one for one in variants(config) if one.name == recipe.name)
        model = classifier(config, variant.cell, vocabularies.words.size)
        said = probabilities(model, test)(params)
        labels = test.fixed["label"]
        nats = np.logaddexp(0, np.where(labels == 1, -said, said)).mean()
        right = int(((said > 0) == (labels == 1)).sum())
        run.metrics(kind="test", **recipe.facts, seed=seed, right=right, count=len(said), nats=float(nats))
        run.arrays(f"{recipe.part(seed)}_test", log_odds=said)
        read = reader(config, model, vocabularies)
        for number, (one, seen) in enumerate(_shown(config, given)):
            running = read(params, one.words)._asdict()
            facts = recipe.facts | dict(seed=seed, number=number, rating=one.rating, seen=seen)
            run.metrics(kind="running", **facts, words=one.words, **running)

    recipes = [recipe(config, one, bayes, vocabularies, given) for one in variants(config)]
    _training.every(config, recipes, given.hashes, run, finish)


def _pair(rated: list[Rated]) -> tuple[list[list[str]], np.ndarray]:
    return [one.words for one in rated], np.array([one.label for one in rated])


def _baselines(given: Inputs, vocabularies: Vocabularies, bayes: naive_bayes.NaiveBayes, run) -> None:
    counts = {split: len(some) for split, some in given.splits.items()}
    said = {field: getattr(given, field) for field in ("name", "origin", "zeros", "removed", "shared", "repeated")}
    run.metrics(kind="data", **said, **counts, **{n: v.size for n, v in vocabularies._asdict().items()})
    (_, train), validation, test = (_pair(given.splits[split]) for split in given.splits)
    most = int(2 * train.sum() > len(train))
    for name, alpha, seen in (
        ("majority", None, lambda texts, labels: float(np.mean(labels == most))),
        ("naive_bayes", bayes.alpha, bayes.accuracy),
    ):
        run.metrics(kind="baseline", name=name, alpha=alpha, validation=seen(*validation), test=seen(*test))
    ratings = np.array([one.rating for one in given.splits["test"]])
    run.arrays("test", label=test[1], rating=ratings, naive_bayes=bayes.log_odds(test[0]))


def _shown(config: Config, given: Inputs) -> list[tuple[Rated, bool]]:
    """The first texts of the test split and the lecture's sentence, nobody's rating on it; whether training had it."""
    known = {tuple(one.words) for one in given.splits["train"]}
    texts = [*given.splits["test"][: config.shown], Rated("lecture", REVIEW[0], float("nan"))]
    return [(one, tuple(one.words) in known) for one in texts]


@dataclasses.dataclass(frozen=True)
class Predicting:
    cell: str = cli.flag("", "of a run of several cells, whom to ask; by default the best on validation")
    ngrams: str = cli.flag("", "the same of the term of n-grams")


def predictor(run, how: Predicting) -> Predictor:
    """Text -> positive or negative, P(positive) of the whole text and after each word."""
    config = Config(**run.config)
    vocabularies = Vocabularies(*(_training.kept_vocabulary(run, name) for name in Vocabularies._fields))
    variant = _asked(config, how, run)
    asked = recipe(config, variant, None, vocabularies, None)
    params = _training.best(run, asked.init, asked.part(_training.best_of(run, **variant.facts)["seed"]))
    read = reader(config, classifier(config, variant.cell, vocabularies.words.size), vocabularies)

    def predict(text: str) -> Iterator[Answer]:
        words = split_words(spelled(text))
        if not words:
            yield Answer("(no words)\n", dict(text=text, label=None, positive=None, words=[], running=[], after=[],
                                              unknown=0))  # fmt: skip
            return
        running = read(params, words)
        positive = running.positive[-1]
        unknown = int((vocabularies.words.encode(words) == 0).sum())
        row = dict(text=text, label="positive" if positive > 0.5 else "negative", positive=positive, words=words,
                   running=running.positive, after=running.after, unknown=unknown)  # fmt: skip
        yield Answer(_words(row), row)

    return predict


def _asked(config: Config, how: Predicting, run) -> Variant:
    """The variant that was asked for, of several the one that is most often right on validation."""
    rows = [row for row in run.rows() if row["kind"] == "chosen"]
    best = {}
    for row in rows:
        best.setdefault((row["cell"], row["ngrams"]), []).append(row["loss"])
    found = [
        one for one in variants(config)
        if how.cell in ("", one.cell, own.label(one.cell)) and how.ngrams in ("", one.ngrams)
    ]  # fmt: skip
    if not found:
        names = ", ".join(f"{one.facts['cell']} with {one.ngrams}" for one in variants(config))
        raise InputError(f"predict: expected one of {names}, got cell={how.cell!r} and ngrams={how.ngrams!r}")
    return min(found, key=lambda one: min(best[own.label(one.cell), one.ngrams]))


def _words(row: dict[str, Any], most: int = 60) -> str:
    """For people: the verdict, then P(positive) beside each word it was reached with."""
    sure = row["positive"] if row["label"] == "positive" else 1 - row["positive"]
    unknown = f"; {row['unknown']} of {len(row['words'])} words unknown" if row["unknown"] else ""
    lines = [f"{row['label']} ({sure:.1%}){unknown}"]
    pairs = list(zip(row["after"], row["running"], strict=True))
    for after, positive in pairs[:most]:
        bar = "#" * round(20 * positive)
        lines.append(f"  {positive:6.1%} |{bar:<20}| {row['words'][after - 1]}")
    if len(pairs) > most:
        lines.append(f"  ... and {len(pairs) - most} more, all of them with --json")
    return "\n".join(lines) + "\n"


def table(run) -> str:
    """One line a model, over seeds, and the baselines; then what the numbers are."""
    return _sentiment_table.table(Config(**run.config), run)


def figure(run):
    """Learning curves, accuracy by how clear a text is, gradient norms over time, running scores."""
    return _sentiment_figure.figure(Config(**run.config), run)


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
