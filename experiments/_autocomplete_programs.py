"""The compiled programs of `autocomplete`: training batches, held-out distributions, next words and phrases."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from experiments._autocomplete_keyboard import SENTENCES, Distribution
from experiments._training import Recipe
from rnnlab.cells import own
from rnnlab.data.batches import Batch, bucketed, stream
from rnnlab.data.columns import Columns, decode
from rnnlab.data.plans import bounds_for, in_order
from rnnlab.data.vocabularies import BEGIN, END, UNKNOWN, Vocabulary
from rnnlab.decode import Beams, beam_search
from rnnlab.errors import InputError
from rnnlab.models.language_model import AXES, READOUTS, Chunk, LanguageModel, Params

BUCKETS = 5  # lengths of training batches: each is a program to compile
ROUND = 16  # held-out batches are as long as a multiple of this, for the same reason


def model_of(config: Any, cell: str, size: int) -> LanguageModel:
    """InputError for embeddings that the readout cannot share."""
    cells = [own.factory(cell)(config.hidden) for _ in range(config.layers)]
    readout = READOUTS[config.readout]
    model = LanguageModel(cells, size, config.embedding or config.hidden, config.dropout, readout)
    try:
        jax.eval_shape(model.init, jax.random.key(0))
    except ValueError as problem:
        raise InputError(f"embedding: {problem}") from None
    return model


def columns_of(encode: Callable, sentences: Sequence[Sequence[str]]) -> Columns:
    return decode(
        [{"ids": sentence} for sentence in sentences], sequences={"ids": encode}, fixed={}, label="words to ids"
    )


def recipe_of(config: Any, cell: str, size: int, train: Columns, validation: Columns) -> Recipe:
    """A language model of sentences, each from its own beginning to its END."""
    model = model_of(config, cell, size)
    source = bucketed(train, bounds_for(train.lengths, BUCKETS, config.batch), config.batch)
    held_out = list(_in_order(validation, config.batch))

    @jax.jit
    def nats(params: Params, chunk: Chunk) -> tuple[Array, Array]:
        found = model.loss(params, None, chunk, None, ())
        return found.each.sum(), found.count.sum()

    def batches(position: Any) -> Iterator[tuple[Any, Chunk]]:
        for after, batch in stream(source, position):
            yield after, chunk_of(batch)

    def evaluate(params: Params) -> Mapping[str, float]:
        sums = np.sum([jax.device_get(nats(params, chunk)) for chunk in held_out], axis=0)
        loss = float(sums[0] / sums[1])
        return {"loss": loss, "perplexity": math.exp(loss)}

    shares = np.bincount(np.concatenate(list(_targets(train))), minlength=size) + 1.0
    prior = np.log(shares / shares.sum())

    def init(key: Key[Array, ""]) -> Params:
        """The readout's bias is ln P of each word: Adam would take a thousand steps only to count words."""
        params = model.init(key)
        bias = params.readout["params"]["bias"]
        readout = {"params": params.readout["params"] | {"bias": jnp.asarray(prior, bias.dtype)}}
        return params._replace(readout=readout)

    return Recipe(
        name=own.label(cell), facts={"cell": cell}, init=init, loss=model.loss, taps=model.taps, axes=AXES,
        batches=batches, evaluate=evaluate,
    )  # fmt: skip


def _targets(columns: Columns) -> Iterator[np.ndarray]:
    """All ids but the first of each sentence."""
    [column] = columns.sequences.values()
    return (column.flat[first + 1 : last] for first, last in itertools.pairwise(column.offsets))


def chunk_of(batch: Batch) -> Chunk:
    """What is read is all but the last id of a sentence."""
    return Chunk(batch.sequences["ids"], np.maximum(batch.lengths["ids"] - 1, 0))


def _in_order(columns: Columns, size: int) -> Iterator[Chunk]:
    source = bucketed(columns, bounds_for(columns.lengths, 2, size), size, order=in_order)
    for _, batch in stream(source, (0, 0, 0), epochs=1):
        yield chunk_of(batch)


def distribution(model: LanguageModel) -> Callable[[Params], Distribution]:
    """params -> the model as one is scored, compiled once for all of them."""

    @jax.jit
    def logs(params: Params, ids: Int[Array, "T B"], lengths: Int[Array, " B"]) -> Float[Array, "B T V"]:
        return jax.nn.log_softmax(model.logits(params, ids, lengths=lengths)).swapaxes(0, 1)

    def of_sentences(params: Params, sentences: Sequence[np.ndarray]) -> Float[np.ndarray, "N V"]:
        rows = max(len(sentences), SENTENCES)  # as many for the last ones, or they would be another program
        lengths = np.array([len(ids) - 1 for ids in sentences] + [0] * (rows - len(sentences)), np.int32)
        ids = np.zeros((-(-max(lengths) // ROUND) * ROUND, rows), np.int32)
        for row, one in enumerate(sentences):
            ids[: len(one) - 1, row] = one[:-1]
        found = jax.device_get(logs(params, ids, lengths))
        return np.concatenate([found[row, :length] for row, length in enumerate(lengths) if length])

    return lambda params: partial(of_sentences, params)


class Said(NamedTuple):
    """After a text. logs: ln P of every id [V], given that it is neither <begin> nor <unknown>, and one of those that
    were allowed. unknown: P(<unknown>), before that was ruled out. beams: the likeliest phrases, as `logs` has it."""

    logs: Float[np.ndarray, "V"]
    unknown: float
    beams: Beams


class Asked(NamedTuple):
    """read: (params, ids [N], BEGIN first) -> (logits [1, V], carry), compiled once for each power of two.
    phrases: (params, logits, carry, width, steps) -> Beams, for each width and steps.
    follow: (params, ids [N]) -> ln P [N - 1] of each id after those before it, as `Said.logs` has it."""

    read: Callable[[Params, np.ndarray], tuple[Array, tuple]]
    phrases: Callable[[Params, Array, tuple, int, int], Beams]
    follow: Callable[[Params, np.ndarray], Array]


def asking(model: LanguageModel, vocabulary: Vocabulary) -> Asked:
    """The programs that a model is asked by, for any of its parameters."""
    end, never = vocabulary.special(END), jnp.array([vocabulary.special(BEGIN), vocabulary.special(UNKNOWN)])
    sayable = lambda logits: logits.at[..., never].set(-jnp.inf)  # noqa: E731

    @jax.jit
    def after(params: Params, ids: Int[Array, "T 1"], length: Int[Array, " 1"]) -> tuple[Array, tuple]:
        return model.next(params, ids, model.start(params, 1), length)

    def read(params: Params, ids: np.ndarray) -> tuple[Array, tuple]:
        padded = np.zeros((1 << (len(ids) - 1).bit_length(), 1), np.int32)
        padded[: len(ids), 0] = ids
        return after(params, padded, np.array([len(ids)], np.int32))

    @partial(jax.jit, static_argnums=(3, 4))
    def phrases(params: Params, logits: Float[Array, "1 V"], carry: tuple, width: int, steps: int) -> Beams:
        def following(ids: Array, carry: tuple) -> tuple[Array, tuple]:
            logits, carry = model.next(params, ids, carry)
            return sayable(logits), carry

        return beam_search(following, width=width, steps=steps, end=end)(logits, carry)

    @jax.jit
    def follow(params: Params, ids: Int[Array, " N"]) -> Float[Array, " N-1"]:
        logs = jax.nn.log_softmax(sayable(model.logits(params, ids[:-1, None])[:, 0]))
        return logs[jnp.arange(len(ids) - 1), ids[1:]]

    return Asked(read, phrases, follow)


def said(
    asked: Asked, vocabulary: Vocabulary, params: Params, ids: np.ndarray, *,
    words: int, width: int, allowed: np.ndarray | None = None,
) -> Said:  # fmt: skip
    """What follows a text, in phrases of so many words. allowed: [V], what the next id may be; None for anything."""
    logits, carry = asked.read(params, ids)
    unknown = float(jax.nn.softmax(logits[0])[vocabulary.special(UNKNOWN)])
    able = np.ones(vocabulary.size, bool) if allowed is None else allowed.copy()
    able[[vocabulary.special(BEGIN), vocabulary.special(UNKNOWN)]] = False
    logits = jnp.where(able, logits, -jnp.inf)
    logs = np.asarray(jax.nn.log_softmax(logits[0]))
    return Said(logs, unknown, jax.device_get(asked.phrases(params, logits, carry, width, words)))


def log_probability(asked: Asked, params: Params, before: np.ndarray, after: np.ndarray) -> float:
    """ln P of some ids after others; -inf where one of them is unknown."""
    return float(asked.follow(params, np.concatenate([before, after]))[-len(after) :].sum())
