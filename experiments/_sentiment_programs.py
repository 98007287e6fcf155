"""What `sentiment` trains: its models as recipes, how they are scored, and the running score of a text."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _training
from experiments._sentiment_data import Inputs, Vocabularies, columns_of, encoded, evaluation, training
from rnnlab.cells import own
from rnnlab.data.columns import Columns
from rnnlab.layers import plain, residual
from rnnlab.models.classifier import AXES, POOLS, Classifier, Texts
from rnnlab.models.naive_bayes import NaiveBayes
from rnnlab.types import Directions, PyTree

EVALUATED = 256  # texts in memory at a time
PREFIXES = 256  # of a bidirectional model at the most: each is a text of its own
SHORTEST = 16  # steps that a text which is asked for is padded to at least; then to powers of two
NGRAMS = ("none", "zeros", "naive_bayes")


JOINS = {"plain": plain, "residual": residual}


class Variant(NamedTuple):
    """cell: as the flag names it. ngrams: what the term of n-grams begins as, one of NGRAMS."""

    cell: str
    ngrams: str

    @property
    def facts(self) -> dict[str, Any]:
        return dict(cell=own.label(self.cell), ngrams=self.ngrams)

    @property
    def name(self) -> str:
        return f"{own.label(self.cell)}_{self.ngrams}"


def variants(config: Any) -> list[Variant]:
    return [Variant(cell, ngrams) for cell in config.cell for ngrams in config.ngrams]


def classifier(config: Any, cell: str, size: int) -> Classifier:
    """The model of a vocabulary of so many words."""
    make = own.factory(cell)
    one = {"forward": make, "both": lambda hidden: Directions(make(hidden), make(hidden))}[config.reads]
    return Classifier(
        [one(config.hidden) for _ in range(config.layers)], size, config.embedding, classes=2,
        pool=POOLS[config.pool], scale=config.embedding_scale, dropout=config.dropout, word_dropout=config.word_dropout,
        join=JOINS[config.join],
    )  # fmt: skip


def first_grams(config: Any, variant: Variant, bayes: NaiveBayes | None, vocabularies: Vocabularies) -> Any:
    """[G, 2]: what each n-gram adds to either logit at first. Naive Bayes' log-odds, a share of them, half to the one
    and half from the other; without `bayes`, zeros of that shape."""
    if variant.ngrams == "none":
        return None
    ratios = np.zeros(vocabularies.grams.size)
    if variant.ngrams == "naive_bayes" and bayes is not None:
        ratios = config.ngrams_scale * bayes.ratios(vocabularies.grams.tokens)
    return np.stack([-ratios / 2, ratios / 2], axis=1).astype(np.float32)


def recipe(
    config: Any, variant: Variant, bayes: NaiveBayes | None, vocabularies: Vocabularies, given: Inputs | None
) -> _training.Recipe:
    """Of one variant; without `given`, only to be restored and asked."""
    model = classifier(config, variant.cell, vocabularies.words.size)
    grams = first_grams(config, variant, bayes, vocabularies)

    def nothing(*_: Any) -> Any:
        raise ValueError("recipe: expected data, got none; this one is only to be asked")

    batches, evaluate = nothing, nothing
    if given is not None:
        columns = {split: columns_of(given.splits[split], vocabularies) for split in ("train", "validation")}
        batches, evaluate = training(columns["train"], config.batch), scored(model, columns["validation"])
    return _training.Recipe(
        variant.name, variant.facts, init=lambda key: model.init(key, grams=grams), loss=model.loss, taps=model.taps,
        axes=AXES, batches=batches, evaluate=evaluate,
    )  # fmt: skip


def scored(model: Classifier, columns: Columns) -> Callable[[PyTree], Mapping[str, Any]]:
    """params -> `loss`, by which the best are chosen, the share of wrong answers; `accuracy`; and `nats`, the mean of
    -ln P(label), which begins to rise while more and more answers are right: errors that are left become surer."""
    positive, labels = probabilities(model, columns), columns.fixed["label"]

    def evaluate(params: PyTree) -> Mapping[str, Any]:
        logits = positive(params)
        losses = np.logaddexp(0, np.where(labels == 1, -logits, logits))
        right = float(np.mean((logits > 0) == (labels == 1)))
        return dict(loss=1 - right, accuracy=right, nats=float(losses.mean()))

    return evaluate


def probabilities(model: Classifier, columns: Columns) -> Callable[[PyTree], np.ndarray]:
    """params -> log-odds [N] of positive of every text, in its order."""
    given = evaluation(columns, min(EVALUATED, columns.count))
    logits = jax.jit(lambda params, batch: model.logits(params, batch)[0])

    def positive(params: PyTree) -> np.ndarray:
        found = np.zeros(columns.count)
        for numbers, batch in given:
            said = np.asarray(logits(params, batch), np.float64)
            found[numbers[numbers >= 0]] = (said[:, 1] - said[:, 0])[numbers >= 0]
        return found

    return positive


class Running(NamedTuple):
    """positive: P(positive | the first n words). after: n of each, all of them but of a long text by a bidirectional
    model."""

    positive: list[float]
    after: list[int]


Reader = Callable[[PyTree, Sequence[str]], Running]


def reader(config: Any, model: Classifier, vocabularies: Vocabularies) -> Reader:
    """(params, words) -> the running score; a text of no words has none."""
    both = config.reads == "both"
    programs = jax.jit(model.running), jax.jit(lambda params, batch: model.logits(params, batch)[0])
    read = partial(_prefixes, programs[1]) if both else partial(_forward, programs[0])

    def running(params: PyTree, words: Sequence[str]) -> Running:
        if not words:
            return Running([], [])
        found = encoded(vocabularies, words)
        length = max(SHORTEST, 1 << (len(words) - 1).bit_length())
        padded = {n: np.pad(a, [(0, length - len(a)), *[(0, 0)] * (a.ndim - 1)])[:, None] for n, a in found.items()}
        return read(params, padded["ids"], padded["grams"], len(words))

    return running


def _forward(program: Callable, params: PyTree, ids: np.ndarray, grams: np.ndarray, count: int) -> Running:
    one = np.array([count], np.int32)
    said = program(params, Texts(ids, one, np.zeros_like(one), grams))
    return Running(_positive(said[:count, 0]), list(range(1, count + 1)))


def _prefixes(program: Callable, params: PyTree, ids: np.ndarray, grams: np.ndarray, count: int) -> Running:
    """Each prefix as a text of its own, a few at a time."""
    after = np.unique(np.linspace(1, count, min(count, PREFIXES)).round().astype(np.int32))
    rows, said = min(SHORTEST, PREFIXES), []
    for first in range(0, len(after), rows):
        some = after[first : first + rows]
        lengths = np.append(some, np.zeros(rows - len(some), np.int32)).astype(np.int32)
        wide = [np.repeat(a, rows, axis=1) for a in (ids, grams)]
        said += _positive(program(params, Texts(wide[0], lengths, np.zeros_like(lengths), wide[1]))[: len(some)])
    return Running(said, after.tolist())


def _positive(logits: Any) -> list[float]:
    return np.asarray(jax.nn.softmax(jnp.asarray(logits), axis=-1)[..., 1], np.float64).tolist()
