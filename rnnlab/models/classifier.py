"""A recurrent classifier of texts, many to one: embedding, a stack of cells, steps pooled into a vector, a readout."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from rnnlab.layers import Join, init_layers, layers, plain, zero_taps
from rnnlab.losses import Losses
from rnnlab.noise import kept_by_row
from rnnlab.types import Cell, Directions, PyTree
from rnnlab.unroll import Unrolled

WORDS = 1_000_000  # folded into a row's key for its dropped words, beyond every layer's number


class Params(NamedTuple):
    """embed: V -> E (linen Embed). stack: the cells' parameters, one a layer. readout: H -> C (linen Dense). grams:
    [G, C], what an n-gram adds to the logits; None in a model without that term."""

    embed: PyTree
    stack: tuple[PyTree, ...]
    readout: PyTree
    grams: Float[Array, "G C"] | None = None


class Texts(NamedTuple):
    """B texts. ids: [T, B]. lengths: [B], the steps that a row has, the others padding of any ids; 0 is an empty row,
    which counts for nothing. labels: [B], below C. grams: [T, B, N], the n-grams that end at each step, below G, 0 for
    one that adds nothing; None where the model has no such term."""

    ids: Int[Array, "T B"]
    lengths: Int[Array, " B"]
    labels: Int[Array, " B"]
    grams: Int[Array, "T B N"] | None = None


AXES = Texts(ids=1, lengths=0, labels=0, grams=1)  # of rows, for `rnnlab.train.step`


class Pool(NamedTuple):
    """What is made of a text's steps, of which `keep` says which count. A text without one gives 0.

    whole:   (ys [T, B, H], keep [T, B]) -> [B, H], of the text
    running: (ys [T, B, H]) -> [T, B, H], at step t `whole` of steps 0 to t
    """

    whole: Callable[[Float[Array, "T B H"], Bool[Array, "T B"]], Float[Array, "B H"]]
    running: Callable[[Float[Array, "T B H"]], Float[Array, "T B H"]]


def _last(ys: Float[Array, "T B H"], keep: Bool[Array, "T B"]) -> Float[Array, "B H"]:
    ends = len(ys) - 1 - jnp.argmax(keep[::-1], axis=0)
    return jnp.where(keep.any(0)[:, None], ys[ends, jnp.arange(ys.shape[1])], 0)


def _mean(ys: Float[Array, "T B H"], keep: Bool[Array, "T B"]) -> Float[Array, "B H"]:
    count = jnp.maximum(keep.sum(0), 1).astype(ys.dtype)
    return jnp.where(keep[..., None], ys, 0).sum(0) / count[:, None]


def _running_mean(ys: Float[Array, "T B H"]) -> Float[Array, "T B H"]:
    return jnp.cumsum(ys, axis=0) / jnp.arange(1, len(ys) + 1, dtype=ys.dtype)[:, None, None]


def _largest(ys: Float[Array, "T B H"], keep: Bool[Array, "T B"]) -> Float[Array, "B H"]:
    most = jnp.where(keep[..., None], ys, -jnp.inf).max(0)
    return jnp.where(keep.any(0)[:, None], most, 0)


last = Pool(_last, lambda ys: ys)  # the last step alone
mean = Pool(_mean, _running_mean)  # over steps
largest = Pool(_largest, lambda ys: lax.cummax(ys, axis=0))  # of every feature over steps
POOLS = {"last": last, "mean": mean, "max": largest}


class Classifier(NamedTuple):
    """cells: first layer first, `Directions` for a bidirectional one. vocabulary: V. embedding: E. classes: C.

    pool: what is made of the last layer's steps, of `POOLS`. join: what each layer hands on, `rnnlab.layers.plain` or
    `residual`; with the latter the readout hears the words themselves beside what the cells make of them. scale:
    standard deviation of the first embeddings. dropout: in training, the rate at which features of what each layer and
    the readout read are dropped, the same ones at every step of a row (Gal & Ghahramani 2016, section 4.2).
    word_dropout: the rate at which a word is replaced by the id `unknown`, anew at every step, and its n-grams by none
    (Iyyer et al. 2015 leave words out): so the model comes to know what an unknown word is worth.

    With n-grams (`init(grams=)`) the logits are those of the network plus the sum over steps of what each n-gram adds:
    a linear model beside the network, trained with it.
    """

    cells: Sequence[Cell | Directions]
    vocabulary: int
    embedding: int
    classes: int
    pool: Pool = mean
    scale: float = 1.0
    dropout: float = 0.0
    word_dropout: float = 0.0
    unknown: int = 0
    join: Join = plain

    def init(
        self, key: Key[Array, ""], dtype=jnp.float32, grams: Float[Array | np.ndarray, "G C"] | None = None
    ) -> Params:
        """Embeddings N(0, scale^2); the cells as they say; the readout normal with variance 1/H, its bias 0. grams: the
        first values of that term: zeros, or naive Bayes' log-odds (Wang & Manning 2012, equation 2)."""
        embed, stack, readout = jax.random.split(key, 3)
        stack = init_layers(self.cells, stack, self.embedding, dtype)
        top = jax.eval_shape(
            lambda s: layers(self.cells, s, jnp.zeros((1, self.embedding), dtype), join=self.join).ys, stack
        ).shape
        return Params(
            embed=self._embed(dtype).init(embed, jnp.zeros((1,), jnp.int32)),
            stack=stack,
            readout=self._readout(dtype).init(readout, jnp.zeros(top, dtype)),
            grams=None if grams is None else jnp.asarray(grams, dtype),
        )

    def logits(
        self, params: Params, batch: Texts, keys: Key[Array, " B"] | None = None, **how: PyTree
    ) -> tuple[Float[Array, "B C"], Unrolled]:
        """Of each text, whatever its label; and the stack's own outputs and carries."""
        dropped = self._words(keys, batch.ids)
        out = self._outputs(params, batch, dropped, keys, **how)
        keep = jnp.arange(len(batch.ids))[:, None] < batch.lengths.astype(jnp.int32)
        pooled = self.pool.whole(out.ys, keep)
        if keys is not None and self.dropout:
            pooled = pooled * kept_by_row(keys, len(self.cells), self.dropout, pooled)
        added = self._added(params, batch, dropped)
        return self._read(params, pooled) + jnp.where(keep[..., None], added, 0).sum(0), out

    def running(self, params: Params, batch: Texts) -> Float[Array, "T B C"]:
        """Logits of the first t + 1 words for every t, from one reading: `logits` of them as texts of their own.

        ValueError for a bidirectional stack, where a step has heard what follows it; read every prefix by itself.
        """
        if any(isinstance(cell, Directions) for cell in self.cells):
            raise ValueError("running: expected cells that read forward, got a bidirectional layer")
        dropped = self._words(None, batch.ids)
        ys = self._outputs(params, batch, dropped, None).ys
        return self._read(params, self.pool.running(ys)) + jnp.cumsum(self._added(params, batch, dropped), axis=0)

    def loss(
        self,
        params: Params,
        taps: PyTree,
        batch: Texts,
        keys: Key[Array, " B"] | None,
        carry: tuple = (),
        **how: PyTree,
    ) -> Losses:
        """Each text's own loss -ln P(label) in nats, its mean one over texts, for `rnnlab.train.step`.

        aux: `right`, 1 where the likeliest class is the label. keys: one a row, for dropout; a cell's own noise is
        drawn from the first, for all rows together. None is evaluation.
        """
        batch = jax.tree.map(jnp.asarray, batch)
        logits, out = self.logits(params, batch, keys, taps=taps, **how)
        there = batch.lengths > 0
        each = jnp.where(there, optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels), 0)
        right = ((logits.argmax(-1) == batch.labels) & there).astype(each.dtype)
        keep = jnp.arange(len(batch.ids))[:, None] < batch.lengths.astype(jnp.int32)
        return Losses(each, there.astype(each.dtype), carry, out.carries, keep, {"right": right})

    def taps(self, params: Params, batch: Texts) -> tuple[PyTree, ...]:
        """Zeros like every carry of the stack, for `loss`."""
        steps, rows = batch.ids.shape
        return zero_taps(self.cells, params.stack, steps, (rows,))

    def _outputs(self, params: Params, batch: Texts, dropped: Array, keys: Array | None, **how: PyTree) -> Unrolled:
        dtype = jax.tree.leaves(params.readout)[0].dtype
        xs = self._embed(dtype).apply(params.embed, jnp.where(dropped, self.unknown, batch.ids))
        if keys is not None:
            how = {"key": jax.random.fold_in(keys[0], len(self.cells) + 1)} | how  # the joins take those before
        if keys is not None and self.dropout:
            xs = xs * kept_by_row(keys, 0, self.dropout, xs)
            # What the readout reads is dropped once it is pooled, or a feature that is 0 could be the largest.
            joins = [self._dropped(keys, depth) for depth in range(1, len(self.cells))]
            how = {"join": [*joins, self.join]} | how
        return layers(self.cells, params.stack, xs, **({"lengths": batch.lengths, "join": self.join} | how))

    def _added(self, params: Params, batch: Texts, dropped: Bool[Array, "T B"]) -> Float[Array, "T B C"]:
        """What the n-grams that end at each step add to the logits; gram 0 adds nothing, whatever its row is."""
        dtype = jnp.promote_types(jax.tree.leaves(params.readout)[0].dtype, jnp.float32)
        if params.grams is None:
            return jnp.zeros((*batch.ids.shape, self.classes), dtype)
        counted = (batch.grams > 0) & ~dropped[..., None]
        return jnp.where(counted[..., None], params.grams[batch.grams], 0).sum(2).astype(dtype)

    def _dropped(self, keys: Key[Array, " B"], depth: int):
        return lambda xs, ys: self.join(xs, ys) * kept_by_row(keys, depth, self.dropout, ys)

    def _words(self, keys: Key[Array, " B"] | None, ids: Int[Array, "T B"]) -> Bool[Array, "T B"]:
        """Which words are replaced; by the counters of JAX's generator, padding to another length changes no word's."""
        if keys is None or not self.word_dropout:
            return jnp.zeros(ids.shape, bool)

        draw = lambda key: jax.random.bernoulli(jax.random.fold_in(key, WORDS), self.word_dropout, (len(ids),))  # noqa: E731
        return jax.vmap(draw, out_axes=1)(keys)

    def _read(self, params: Params, pooled: Float[Array, "... H"]) -> Float[Array, "... C"]:
        dtype = jax.tree.leaves(params.readout)[0].dtype
        return self._readout(dtype).apply(params.readout, pooled).astype(jnp.promote_types(dtype, jnp.float32))

    def _embed(self, dtype) -> nn.Embed:
        normal = nn.initializers.normal(self.scale)
        return nn.Embed(self.vocabulary, self.embedding, embedding_init=normal, dtype=dtype, param_dtype=dtype)

    def _readout(self, dtype) -> nn.Dense:
        return nn.Dense(self.classes, dtype=dtype, param_dtype=dtype)
