"""A recurrent language model: embedding, a stack of cells, a readout of every step."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Key

from rnnlab.layers import init_layers, layers, zero_taps
from rnnlab.losses import Losses
from rnnlab.noise import kept, quiet
from rnnlab.types import Cell, PyTree
from rnnlab.unroll import Unrolled
from rnnlab.wrappers import hold


class Params(NamedTuple):
    """embed: V -> E (linen Embed). stack: the cells' parameters, one a layer. readout: H -> V (linen Dense)."""

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


class LanguageModel(NamedTuple):
    """cells: first layer first. vocabulary: V. embedding: E, the features of an embedded character.

    dropout: in training, the rate at which features of what each layer and the readout read are dropped, the same ones
    at every step of a row (Gal & Ghahramani 2016, section 4.2).
    """

    cells: Sequence[Cell]
    vocabulary: int
    embedding: int
    dropout: float = 0.0

    def init(self, key: Key[Array, ""], dtype=jnp.float32) -> Params:
        """Embeddings N(0, 1), so that the first layer sees inputs of unit variance; the rest as the cells say."""
        embed, stack, readout = jax.random.split(key, 3)
        ids = jnp.zeros((1,), jnp.int32)
        stack = init_layers(self.cells, stack, self.embedding, dtype)
        top = jax.eval_shape(lambda s: layers(self.cells, s, jnp.zeros((1, self.embedding), dtype)).ys, stack).shape
        return Params(
            embed=self._embed(dtype).init(embed, ids),
            stack=stack,
            readout=self._readout(dtype).init(readout, jnp.zeros(top, dtype)),
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

    def _unrolled(
        self, params: Params, ids: Array, keys: Array | None, **how: PyTree
    ) -> tuple[Float[Array, "T B"], Unrolled]:
        dtype = jax.tree.leaves(params.readout)[0].dtype
        xs = self._embed(dtype).apply(params.embed, ids[:-1])
        if keys is not None:
            how = {"key": jax.random.fold_in(keys[0], len(self.cells) + 1)} | how  # the joins take those before
        if keys is not None and self.dropout:
            first, *joins = (self._dropped(keys, depth) for depth in range(len(self.cells) + 1))
            xs, how = first(xs, xs), {"join": joins} | how
        out = layers(self.cells, params.stack, xs, **how)
        logits = self._readout(dtype).apply(params.readout, out.ys)
        logits = logits.astype(jnp.promote_types(dtype, jnp.float32))  # a sum over steps of bfloat16 loses its digits
        return optax.softmax_cross_entropy_with_integer_labels(logits, ids[1:]), out

    def _dropped(self, keys: Key[Array, " B"], depth: int):
        """A join that drops features by each row's own key: no other row and no device changes what is drawn."""

        def join(xs: Float[Array, "T B D"], ys: Float[Array, "T B H"]) -> Float[Array, "T B H"]:
            draw = lambda key: kept(jax.random.fold_in(key, depth), self.dropout, ys.shape[2:], ys.dtype)  # noqa: E731
            return ys * jax.vmap(draw)(keys)

        return join

    def _embed(self, dtype) -> nn.Embed:
        normal = nn.initializers.normal(1.0)
        return nn.Embed(self.vocabulary, self.embedding, embedding_init=normal, dtype=dtype, param_dtype=dtype)

    def _readout(self, dtype) -> nn.Dense:
        return nn.Dense(self.vocabulary, dtype=dtype, param_dtype=dtype)
