"""What the language models compute: the recipe of a cell, the score of a text, and what is written."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _training
from rnnlab import decode
from rnnlab.cells import own
from rnnlab.data import batches
from rnnlab.data.vocabularies import UNKNOWN, Vocabulary
from rnnlab.errors import InputError
from rnnlab.models.language_model import AXES, READOUTS, Chunk, LanguageModel, Params
from rnnlab.noise import drop_weights, quiet
from rnnlab.types import Cell, PyTree

PIECE = 256  # steps that are read at a time, so that no text is too long for the memory and none is compiled anew
ROWS = 32  # of a held-out text, read side by side


def made(config: Any, cell: str, vocabulary: int) -> LanguageModel:
    """The model of a cell, its recurrent matrix dropped in training where that was asked for."""
    one = own.factory(cell)(config.hidden)
    one = drop_weights(one, config.weight_dropout, "U") if config.weight_dropout else one
    width = config.embedding or config.hidden
    return LanguageModel([one] * config.layers, vocabulary, width, config.dropout, READOUTS[config.readout])


def check(config: Any) -> None:
    """Raises InputError where a cell has no matrix to drop, or no readout of the width that ties it."""
    for name in config.cell:
        cell: Cell = quiet(own.factory(name)(config.hidden))
        weights = jax.eval_shape(lambda key, cell=cell: cell.prepare(cell.init(key, 2, jnp.float32)), jax.random.key(0))
        if config.weight_dropout and "U" not in getattr(weights, "_fields", ()):
            raise InputError(f"weight_dropout: expected a cell with a recurrent matrix U, got {own.label(name)}")
        try:
            jax.eval_shape(made(config, name, 2).init, jax.random.key(0))
        except ValueError as problem:
            raise InputError(f"{own.label(name)}, readout={config.readout}: {problem}") from None


def recipe(config: Any, given: Any, cell: str) -> _training.Recipe:
    model = made(config, cell, given.vocabulary.size)
    score = scorer(model)
    return _training.Recipe(
        name=own.label(cell),
        facts={"cell": own.label(cell)},
        init=model.init,
        loss=model.loss,
        taps=model.taps,
        axes=AXES,
        batches=partial(chunks, batches.contiguous(given.train, config.batch, config.length)),
        evaluate=lambda params: {"loss": score(params, given.validation)},
        carry=lambda params: model.start(params, config.batch),
    )


def chunks(source: batches.Source, position: Any) -> Iterator[tuple[batches.State, Chunk]]:
    """Batches of one text cut into rows, each going on where the one before ended."""
    for after, batch in batches.stream(source, position):
        lengths = np.maximum(batch.lengths["ids"] - 1, 0)
        yield after, Chunk(batch.sequences["ids"], lengths, batch.fixed["resets"])


def scorer(model: LanguageModel) -> Callable[[Params, np.ndarray], float]:
    """(params, ids [N]) -> nats an id: the text in up to ROWS rows, each from a zero state, all but their first id."""
    add = jax.jit(partial(_added, model))

    def score(params: Params, ids: np.ndarray) -> float:
        rows = min(ROWS, max(1, (len(ids) - 1) // 100))
        size = -(-(len(ids) - 1) // rows)
        starts, total, count = np.arange(rows) * size, 0.0, 0
        carry = model.start(params, rows)
        for at in range(0, size, PIECE):
            ends = np.minimum(np.minimum(starts + size, len(ids) - 1), starts + at + PIECE)
            lengths = np.maximum(ends - starts - at, 0).astype(np.int32)
            piece = ids[np.minimum(starts + at + np.arange(PIECE + 1)[:, None], len(ids) - 1)]
            each, carry = add(params, Chunk(piece, lengths, np.zeros(rows, bool)), carry)
            total, count = total + float(each), count + int(lengths.sum())
        return total / count

    return score


def _added(model: LanguageModel, params: Params, chunk: Chunk, carry: PyTree) -> tuple[jax.Array, PyTree]:
    found = model.loss(params, None, jax.tree.map(jnp.asarray, chunk), None, carry)
    return found.each.sum(), found.carry


class Prompt(NamedTuple):
    """A text that was read. ids: its own. logits: [1, V] of what comes next. carry: after it. nats: an id of the text
    itself, its first one left out; NaN where there is no other."""

    text: str
    ids: np.ndarray
    logits: jax.Array
    carry: PyTree
    nats: float


class Reader(NamedTuple):
    """What reads a prompt and goes on. vocabulary: of its ids. begin: the id that stands before an empty prompt."""

    next: Callable
    piece: Callable
    start: Callable[[], PyTree]
    vocabulary: Vocabulary
    begin: int

    def read(self, text: str) -> Prompt:
        """Of any length; an empty one is read as the end of a line or sentence."""
        given = self.vocabulary.encode(text)
        ids = given if len(given) else np.array([self.begin], np.int32)
        carry, total = self.start(), 0.0
        for at in range(0, len(ids), PIECE):
            piece = ids[at : at + PIECE + 1]
            padded = np.zeros((PIECE + 1, 1), np.int32)
            padded[: len(piece), 0] = piece
            read, predicted = min(PIECE, len(ids) - at), min(PIECE, len(ids) - at - 1)
            logits, nats, carry = self.piece(padded, np.array([read], np.int32), predicted, carry)
            total += float(nats)
        return Prompt(text, given, logits, carry, total / (len(ids) - 1) if len(ids) > 1 else math.nan)

    def write(self, prompt: Prompt, choose: decode.Choose, seed: int) -> Iterator[tuple[str, float]]:
        """Pieces of text that go on from a prompt, without an end, and ln P of each by the model itself."""
        last, spell = prompt.ids[-1:].tolist(), self.vocabulary.decode
        spaced = self.vocabulary.kind == "words" and prompt.text[-1:].isspace()
        for one in decode.stream(self.next, prompt.logits, prompt.carry, jax.random.key(seed), choose):
            # A word's piece is what it adds to the one before: a space perhaps, and none before a comma.
            piece = spell([*last, one.id])[len(spell(last)) :]
            yield piece.lstrip(" ") if spaced else piece, one.log_probability
            last, spaced = [one.id], False


def reader(model: LanguageModel, params: Params, vocabulary: Vocabulary) -> Reader:
    unknown = vocabulary.special(UNKNOWN)

    def known(logits: jax.Array) -> jax.Array:
        """It reads what it does not know, and never writes it."""
        return logits.at[:, unknown].set(-jnp.inf)

    def next_of(ids: jax.Array, carry: PyTree) -> tuple[jax.Array, PyTree]:
        logits, carry = model.next(params, ids, carry)
        return known(logits), carry

    @jax.jit
    def piece(
        ids: jax.Array, lengths: jax.Array, predicted: jax.Array, carry: PyTree
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        """Reads `lengths` ids of the piece, and sums the losses of those of its ids that follow one."""
        losses = model.losses(params, ids, start=carry, lengths=lengths)
        inside = jnp.arange(len(losses))[:, None] < predicted
        logits, carry = model.next(params, ids[:-1], carry, lengths)
        return known(logits), jnp.where(inside, losses, 0).sum(), carry

    return Reader(next_of, piece, lambda: model.start(params, 1), vocabulary, begin(vocabulary))


def begin(vocabulary: Vocabulary) -> int:
    """What stands before an empty prompt: the end of a line or a sentence, where the vocabulary has one."""
    ends = [token for token in ("\n", ".") if token in vocabulary.learned]
    return vocabulary.tokens.index(ends[0]) if ends else len(vocabulary.specials)
