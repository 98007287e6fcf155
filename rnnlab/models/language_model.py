"""A recurrent language model: embedding, a stack of cells, a readout of every step."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Key

from rnnlab.layers import init_layers, layers, zero_taps
from rnnlab.losses import Losses
from rnnlab.noise import kept_by_row, quiet
from rnnlab.types import Cell, PyTree
from rnnlab.unroll import Unrolled
from rnnlab.wrappers import hold


class Params(NamedTuple):
    """embed: V -> E (linen Embed). stack: the cells' parameters, one a layer. readout: H -> V, by the model's own."""

    embed: PyTree
    stack: tuple[PyTree, ...]
    readout: PyTree


class Chunk(NamedTuple):
    """Some steps of B texts. ids: [T+1, B]; step t reads ids[t] and predicts ids[t+1], so that the next chunk begins
    with the last id of this one. lengths: [B], the steps that a row has, the others padding of any ids; None where all
    have T. resets: [B], whether a row begins a new text here, and not with the carry of the chunk before; None where
    no carry is handed on."""

    ids: Int[Array, "S B"]
    lengths: Int[Array, " B"] | None = None
    resets: Bool[Array, " B"] | None = None


AXES = Chunk(ids=1, lengths=0, resets=0)  # of rows, for `rnnlab.train.step`


class Readout(NamedTuple):
    """What makes logits of the last layer's outputs.

    init:  (key, H, V, E, dtype) -> params
    apply: (params, embeddings [V, E], ys [..., H]) -> logits [..., V]
    """

    init: Callable[..., PyTree]
    apply: Callable[..., Float[Array, "..."]]


def _dense(size: int, dtype) -> nn.Dense:
    return nn.Dense(size, dtype=dtype, param_dtype=dtype)


dense = Readout(  # a matrix of its own, linen's Dense
    init=lambda key, width, size, embedding, dtype: _dense(size, dtype).init(key, jnp.zeros((1, width), dtype)),
    apply=lambda params, embeddings, ys: _dense(len(embeddings), ys.dtype).apply(params, ys),
)


def _no_matrix(key: Key[Array, ""], width: int, size: int, embedding: int, dtype) -> PyTree:
    if width != embedding:
        raise ValueError(f"tied: expected embeddings as wide as the last layer's outputs, {width}, got {embedding}")
    return {"params": {"bias": jnp.zeros(size, dtype)}}


# The embeddings again, of unit variance and so divided by the root of E, and a bias (Press & Wolf 2017, section 2;
# Inan, Khosravi & Socher 2017, section 4): V H parameters fewer.
tied = Readout(
    init=_no_matrix,
    apply=lambda params, embeddings, ys: (
        ys @ embeddings.T / jnp.sqrt(jnp.asarray(ys.shape[-1], ys.dtype)) + params["params"]["bias"]
    ),
)
READOUTS = {"dense": dense, "tied": tied}


class LanguageModel(NamedTuple):
    """cells: first layer first. vocabulary: V. embedding: E, the features of an embedded character or word.

    dropout: in training, the rate at which features of what each layer and the readout read are dropped, the same ones
    at every step of a row (Gal & Ghahramani 2016, section 4.2). readout: `dense` or `tied`.
    """

    cells: Sequence[Cell]
    vocabulary: int
    embedding: int
    dropout: float = 0.0
    readout: Readout = dense

    def init(self, key: Key[Array, ""], dtype=jnp.float32) -> Params:
        """Embeddings N(0, 1), so that the first layer sees inputs of unit variance; the rest as the cells say."""
        embed, stack, readout = jax.random.split(key, 3)
        ids = jnp.zeros((1,), jnp.int32)
        stack = init_layers(self.cells, stack, self.embedding, dtype)
        top = jax.eval_shape(lambda s: layers(self.cells, s, jnp.zeros((1, self.embedding), dtype)).ys, stack).shape
        return Params(
            embed=self._embed(dtype).init(embed, ids),
            stack=stack,
            readout=self.readout.init(readout, top[-1], self.vocabulary, self.embedding, dtype),
        )

    def losses(
        self, params: Params, ids: Int[Array, "S B"], *, taps: PyTree = None, **how: PyTree
    ) -> Float[Array, "S-1 B"]:
        """The loss of every step [T, B], in nats: -ln P(ids[t+1] | ids[0..t]), ids [T+1, B]; their sum is the total."""
        return self._unrolled(params, ids, None, taps=taps, **how)[0]

    def loss(
        self,
        params: Params,
        taps: PyTree,
        batch: Chunk,
        keys: Key[Array, " B"] | None,
        carry: tuple[PyTree, ...],
        **how: PyTree,
    ) -> Losses:
        """Each row's own loss in nats, summed over its steps, its mean one over steps, for `rnnlab.train.step`.

        keys: one a row, for dropout; a cell's own noise is drawn from the first, for all rows together. None is
        evaluation. carry: from `start` or from the chunk before, where `resets` is False; () begins every row anew and
        hands none on.
        """
        resumed = len(carry) > 0
        if resumed:
            carry = hold(batch.resets, self.start(params, batch.ids.shape[1]), carry)
            how = {"start": carry} | how
        losses, out = self._unrolled(params, jnp.asarray(batch.ids), keys, taps=taps, lengths=batch.lengths, **how)
        seen = out.carries if how.get("chunk") is None else None  # kept, they would take the memory that it saves
        carries = {"carry": out.last if resumed else (), "carries": seen}
        if batch.lengths is None:
            return Losses(losses.sum(0), jnp.full_like(losses[0], len(losses)), **carries)
        keep = jnp.arange(len(losses))[:, None] < batch.lengths.astype(jnp.int32)
        each = jnp.where(keep, losses, 0).sum(0)
        return Losses(each, keep.sum(0).astype(each.dtype), keep=keep, **carries)

    def taps(self, params: Params, batch: Chunk) -> tuple[PyTree, ...]:
        """Zeros like every carry of the stack, for `loss`."""
        steps, rows = batch.ids.shape
        return zero_taps(self.cells, params.stack, steps - 1, (rows,))

    def start(self, params: Params, rows: int) -> tuple[PyTree, ...]:
        """The first carry of every layer, leaves [B, ...] for so many rows."""
        stack = zip(map(quiet, self.cells), params.stack, strict=True)
        return tuple(cell.start(cell.prepare(own), (rows,)) for cell, own in stack)

    def next(
        self, params: Params, ids: Int[Array, "T B"], carry: tuple[PyTree, ...], lengths: Int[Array, " B"] | None = None
    ) -> tuple[Float[Array, "B V"], tuple[PyTree, ...]]:
        """Logits of the id that follows the last one of every row, and the carry after it: for decoding, a prompt at
        once or id by id. lengths: at least 1 of each row; None where all have T."""
        out = self._outputs(params, ids, None, start=carry, lengths=lengths)
        ends = jnp.full(ids.shape[1], len(ids)) if lengths is None else lengths
        return self._logits(params, out.ys[ends - 1, jnp.arange(ids.shape[1])]), out.last

    def logits(self, params: Params, ids: Int[Array, "T B"], **how: PyTree) -> Float[Array, "T B V"]:
        """Of the id that follows each, all steps at once: for scores that need every id's probability, not one's."""
        return self._logits(params, self._outputs(params, ids, None, **how).ys)

    def _unrolled(
        self, params: Params, ids: Array, keys: Array | None, **how: PyTree
    ) -> tuple[Float[Array, "T B"], Unrolled]:
        out = self._outputs(params, ids[:-1], keys, **how)
        return optax.softmax_cross_entropy_with_integer_labels(self._logits(params, out.ys), ids[1:]), out

    def _logits(self, params: Params, ys: Float[Array, "... H"]) -> Float[Array, "... V"]:
        logits = self.readout.apply(params.readout, params.embed["params"]["embedding"], ys)
        # A sum over steps of bfloat16 loses its digits.
        return logits.astype(jnp.promote_types(ys.dtype, jnp.float32))

    def _outputs(self, params: Params, ids: Int[Array, "T B"], keys: Array | None, **how: PyTree) -> Unrolled:
        dtype = jax.tree.leaves(params.readout)[0].dtype
        xs = self._embed(dtype).apply(params.embed, ids)
        if keys is not None:
            how = {"key": jax.random.fold_in(keys[0], len(self.cells) + 1)} | how  # the joins take those before
        if keys is not None and self.dropout:
            first, *joins = (self._dropped(keys, depth) for depth in range(len(self.cells) + 1))
            xs, how = first(xs, xs), {"join": joins} | how
        return layers(self.cells, params.stack, xs, **how)

    def _dropped(self, keys: Key[Array, " B"], depth: int):
        return lambda xs, ys: ys * kept_by_row(keys, depth, self.dropout, ys)

    def _embed(self, dtype) -> nn.Embed:
        normal = nn.initializers.normal(1.0)
        return nn.Embed(self.vocabulary, self.embedding, embedding_init=normal, dtype=dtype, param_dtype=dtype)
