"""What `name_tags` computes: the models, the batches that they are trained on, and what they say of sentences."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import _name_tags_data as data
from experiments._name_tags_scores import scores
from experiments._training import Recipe
from rnnlab import crf
from rnnlab.cells import own
from rnnlab.data import batches, plans
from rnnlab.data.columns import Columns
from rnnlab.models.tagger import AXES, Decoder, Tagger, Vocabularies, Widths, Words, chain, softmax
from rnnlab.train.fit import loss_of
from rnnlab.types import Directions, PyTree

# By name, a decoder for tags of these names.
HEADS: dict[str, Callable[[Sequence[str]], Decoder]] = {
    "softmax": lambda tags: softmax(),
    "crf": lambda tags: chain(crf.bio(tags)),
}
SHORTEST = 16  # words that a row of an evaluation is padded to at least; longer ones to powers of two


class Said(NamedTuple):
    """Of one sentence of N words. tags: [N], ids. chances: [N, C], P(tag). terms: [N], what each word adds to the loss
    of the sentence's own tags, in nats."""

    tags: np.ndarray
    chances: np.ndarray
    terms: np.ndarray


Ask = Callable[[PyTree, Columns], list[Said]]


def tagger(config: Any, head: str, cell: str, encoder: data.Encoder, tags: Sequence[str], counts: Any = None) -> Tagger:
    """The model that a configuration asks for; counts: of words, for training."""
    made = own.factory(cell)(config.hidden)
    sizes = Vocabularies(encoder.words.size, encoder.spelling.size, len(data.SHAPES), len(tags))
    widths = Widths(word=config.embedding, filters=config.filters)
    how = dict(dropout=config.dropout, counts=counts, forgotten=config.forgotten)
    return Tagger((Directions(made, made),) * config.layers, sizes, HEADS[head](tags), widths, **how)


def asking(model: Tagger, rows: int = 32) -> Ask:
    """Of every sentence of some columns, in their order, so many rows at a time; compiled once for each power of two of
    words."""

    @jax.jit
    def program(params: PyTree, batch: Words) -> tuple:
        found, _ = model.scores(params, batch)
        given = (params.decoder, found)
        return (
            model.decoder.decode(*given, batch.lengths),
            model.decoder.marginals(*given, batch.lengths),
            model.decoder.terms(*given, batch.tags, batch.lengths),
        )

    def ask(params: PyTree, columns: Columns) -> list[Said]:
        longest = max(SHORTEST, int(columns.lengths["words"].max()))
        bounds = [2**n for n in range(SHORTEST.bit_length() - 1, (longest - 1).bit_length() + 1)]
        source = batches.bucketed(columns, dict.fromkeys(columns.sequences, bounds), rows, order=plans.in_order)
        epoch, said = source(0, 0), [None] * columns.count
        for batch in map(epoch.batch, range(epoch.count)):
            given = words_of(batch)
            tags, chances, terms = jax.device_get(program(params, given))
            for row, number in enumerate(batch.numbers.tolist()):
                if number >= 0:
                    inside = slice(given.lengths[row])
                    said[number] = Said(tags[inside, row], chances[inside, row], terms[inside, row])
        return said

    return ask


def words_of(batch: batches.Batch) -> Words:
    return Words(**batch.sequences, lengths=batch.lengths["words"])


def bounds_of(sentences: Sequence[data.Sentence], config: Any) -> tuple[int, ...]:
    """The lengths that sentences are padded to in training."""
    lengths = {"words": np.array([len(one.words) for one in sentences])}
    return plans.bounds_for(lengths, config.buckets, config.batch)["words"]


def training(given: Any, config: Any) -> Callable[[Any], Iterator[tuple[batches.State, Words]]]:
    """Batches of sentences of about one length from a position on, shuffled anew every epoch."""
    columns = data.column_store(given.corpus.train, given.encoder)
    bounds = dict.fromkeys(columns.sequences, bounds_of(given.corpus.train, config))
    return partial(_batches, batches.bucketed(columns, bounds, config.batch))


def _batches(source: batches.Source, position: Any) -> Iterator[tuple[batches.State, Words]]:
    for after, batch in batches.stream(source, position):
        yield after, words_of(batch)


def negative_f1(found: Mapping[str, Any]) -> float:
    """What is lowest where the entity F1 is highest. Before training, tags at random hit some entities, and after a few
    steps none is found: an F1 counts where 0 and 1 are right more often than a coin."""
    return -found["f1"] if found["accuracy"] > 0.5 else 1 - found["accuracy"]


# What of the validation chooses the stopping point: the lowest is the best.
SCORES: dict[str, Callable[[Mapping[str, Any]], float]] = {"f1": negative_f1, "loss": loss_of}


class Program(NamedTuple):
    """A recipe, its model, and how it is asked."""

    recipe: Recipe
    model: Tagger
    ask: Ask


def programs(config: Any, given: Any) -> list[Program]:
    """Of every head with every cell."""
    corpus, encoder = given.corpus, given.encoder
    batches_of = training(given, config)
    validation = data.column_store(corpus.validation, encoder)
    made = []
    for head in config.head:
        for cell in config.cell:
            model = tagger(config, head, cell, encoder, corpus.tags, given.counts)
            ask, label = asking(model), own.label(cell)
            recipe = Recipe(
                name=f"{head}_{label}", facts={"head": head, "cell": label}, init=model.init, loss=model.loss,
                taps=model.taps, axes=AXES, batches=batches_of, score=SCORES[config.chosen_by],
                evaluate=partial(_validated, corpus, ask, validation),
            )  # fmt: skip
            made.append(Program(recipe, model, ask))
    return made


def _validated(corpus: data.Corpus, ask: Ask, columns: Columns, params: PyTree) -> dict[str, Any]:
    """Numbers by name; where nothing is held out, the loss of every word, too."""
    said = ask(params, columns)
    terms = np.concatenate([one.terms for one in said])
    found = scores(corpus.validation, [one.tags for one in said], corpus.tags)
    kept = {name: found[name] for name in ("f1", "precision", "recall", "accuracy")}
    return {"loss": float(terms.mean()), **kept, **({} if corpus.held_out else {"terms": terms.tolist()})}
