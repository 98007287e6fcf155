"""A tagger: words by what they are, how they are spelled and what shape they have; a stack over the sentence, both
ways; and a decoder that makes tags of its scores."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key

from rnnlab import crf
from rnnlab.layers import init_layers, layers, zero_taps
from rnnlab.losses import Losses
from rnnlab.noise import kept_by_row
from rnnlab.types import Cell, Directions, PyTree
from rnnlab.unroll import Unrolled

PADDING = 0  # of characters
UNKNOWN = 0  # of words
# Most words are seen once or twice, and so stay about where they began: drawn wider, they are noise beside what all
# words share, their spelling and shape.
SMALL = 0.1


class Params(NamedTuple):
    """words, characters, shapes: linen Embed. spelling: the convolution (linen Dense). stack: the cells' parameters,
    one a layer. readout: H -> C (linen Dense). decoder: its own."""

    words: PyTree
    characters: PyTree
    spelling: PyTree
    shapes: PyTree
    stack: tuple[PyTree, ...]
    readout: PyTree
    decoder: PyTree


class Words(NamedTuple):
    """B sentences, their padding of any ids. words, shapes: [T, B]. characters: [T, B, W], 0 where a word is shorter.
    lengths: [B], words. tags: [T, B], classes; None where they are asked for."""

    words: Int[Array, "T B"]
    characters: Int[Array, "T B W"]
    shapes: Int[Array, "T B"]
    lengths: Int[Array, " B"]
    tags: Int[Array, "T B"] | None = None


AXES = Words(words=1, characters=1, shapes=1, lengths=0, tags=1)  # of rows, for `rnnlab.train.step`


class Decoder(NamedTuple):
    """What makes tags of the scores [T, B, C] of rows of some lengths [B].

    init:      (key, C, dtype) -> params
    loss:      (params, scores, tags [T, B], lengths) -> -ln P(tags) of each row [B]
    terms:     the same as a sum of one term a word [T, B], 0 at padding
    decode:    (params, scores, lengths) -> the likeliest tags [T, B], 0 at padding
    marginals: (params, scores, lengths) -> P(tag) of each word [T, B, C], 0 at padding
    """

    init: Callable[..., PyTree]
    loss: Callable[..., Float[Array, " B"]]
    terms: Callable[..., Float[Array, "T B"]]
    decode: Callable[..., Int[Array, "T B"]]
    marginals: Callable[..., Float[Array, "T B C"]]


def _inside(scores: Array, lengths: Array) -> Array:
    return jnp.arange(len(scores))[:, None] < lengths.astype(jnp.int32)


def _softmax_terms(params: tuple, scores: Array, tags: Array, lengths: Array) -> Array:
    inside = _inside(scores, lengths)
    nats = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.where(inside, tags, 0))
    return jnp.where(inside, nats, 0)


def softmax() -> Decoder:
    """Every word's tag by itself, given the sentence; no parameters."""
    return Decoder(
        init=lambda key, classes, dtype: (),
        loss=lambda *given: _softmax_terms(*given).sum(0),
        terms=_softmax_terms,
        decode=lambda params, scores, lengths: jnp.where(_inside(scores, lengths), scores.argmax(-1), 0),
        marginals=lambda params, scores, lengths: jnp.where(
            _inside(scores, lengths)[..., None], jax.nn.softmax(scores), 0
        ),
    )


def chain(allowed: crf.Allowed) -> Decoder:
    """A whole path of tags by a linear-chain CRF (`rnnlab.crf`), of those that are allowed. Its terms are
    -ln P(tag | the tags before)."""
    of = lambda params: crf.constrained(params, allowed)  # noqa: E731
    return Decoder(
        init=crf.init,
        loss=lambda params, *given: crf.negative_log_likelihood(of(params), *given),
        terms=lambda params, *given: crf.conditionals(of(params), *given),
        decode=lambda params, *given: crf.viterbi(of(params), *given).tags,
        marginals=lambda params, *given: crf.marginals(of(params), *given),
    )


class Vocabularies(NamedTuple):
    """How many there are of each: words V (the first is UNKNOWN), characters (the first is PADDING), shapes, tags C."""

    words: int
    characters: int
    shapes: int
    tags: int


class Widths(NamedTuple):
    """Features of an embedded word, character and shape; filters: those of a word's spelling; window: characters that
    a filter sees, an odd number."""

    word: int = 64
    character: int = 16
    shape: int = 8
    filters: int = 32
    window: int = 3

    @property
    def inputs(self) -> int:
        """D, what the stack reads of a word."""
        return self.word + self.filters + self.shape


class Tagger(NamedTuple):
    """cells: first layer first, `Directions` for both ways.

    The spelling of a word is the largest answer of each filter anywhere in it (a convolution over its characters and a
    maximum: Ma & Hovy 2016, section 2.1).

    dropout:   in training, the rate at which features of what each layer and the readout read are dropped, the same
               ones at every word of a row (Gal & Ghahramani 2016, section 4.2)
    counts:    how often each word was seen, [V]; in training a word is UNKNOWN with probability forgotten / (forgotten
               + its count), so that there is something to learn of what is unknown, and of the spelling and the
               neighbours of what is rare (Kiperwasser & Goldberg 2016). None: never
    """

    cells: Sequence[Cell | Directions]
    sizes: Vocabularies
    decoder: Decoder
    widths: Widths = Widths()
    dropout: float = 0.0
    counts: Int[np.ndarray, " V"] | None = None
    forgotten: float | int = 0.25

    def init(self, key: Key[Array, ""], dtype=jnp.float32) -> Params:
        """Embeddings of characters and shapes N(0, 1), of words N(0, SMALL^2); the rest as cells, linen and decoder
        say."""
        words, characters, spelling, shapes, stack, readout, decoder = jax.random.split(key, 7)
        ids, widths = jnp.zeros((1,), jnp.int32), self.widths
        stack = init_layers(self.cells, stack, widths.inputs, dtype)
        top = jax.eval_shape(lambda s: layers(self.cells, s, jnp.zeros((1, widths.inputs), dtype)).ys, stack).shape
        window = jnp.zeros((1, widths.window * widths.character), dtype)
        return Params(
            words=_embed(self.sizes.words, widths.word, dtype, SMALL).init(words, ids),
            characters=_embed(self.sizes.characters, widths.character, dtype).init(characters, ids),
            spelling=_dense(widths.filters, dtype).init(spelling, window),
            shapes=_embed(self.sizes.shapes, widths.shape, dtype).init(shapes, ids),
            stack=stack,
            readout=_dense(self.sizes.tags, dtype).init(readout, jnp.zeros(top, dtype)),
            decoder=self.decoder.init(decoder, self.sizes.tags, dtype),
        )

    def scores(
        self, params: Params, batch: Words, keys: Key[Array, " B"] | None = None, **how: PyTree
    ) -> tuple[Float[Array, "T B C"], Unrolled]:
        """What the decoder reads, and the stack's own outputs and carries. keys: one a row, for dropout and forgotten
        words; a cell's own noise is drawn from the first. None is evaluation."""
        xs = self.features(params, batch, keys)
        if keys is not None:
            how = {"key": jax.random.fold_in(keys[0], len(self.cells) + 2)} | how
        if keys is not None and self.dropout:
            first, *joins = (self._dropped(keys, depth) for depth in range(len(self.cells) + 1))
            xs, how = first(xs, xs), {"join": joins} | how
        out = layers(self.cells, params.stack, xs, lengths=batch.lengths, **how)
        scores = _dense(self.sizes.tags, xs.dtype).apply(params.readout, out.ys)
        # A sum over steps of bfloat16 loses its digits.
        return scores.astype(jnp.promote_types(xs.dtype, jnp.float32)), out

    def features(self, params: Params, batch: Words, keys: Key[Array, " B"] | None = None) -> Float[Array, "T B D"]:
        """What the first layer reads of every word: its embedding, its spelling, and its shape's embedding."""
        dtype, widths, words = jax.tree.leaves(params.readout)[0].dtype, self.widths, jnp.asarray(batch.words)
        if keys is not None and self.counts is not None and self.forgotten:
            rates = jnp.asarray(self.forgotten / (self.forgotten + self.counts), jnp.float32)[words]
            draw = lambda key: jax.random.uniform(jax.random.fold_in(key, len(self.cells) + 1), (len(words),))  # noqa: E731
            words = jnp.where(jax.vmap(draw, out_axes=1)(keys) < rates, UNKNOWN, words)
        of_words = _embed(self.sizes.words, widths.word, dtype).apply(params.words, words)
        of_shapes = _embed(self.sizes.shapes, widths.shape, dtype).apply(params.shapes, jnp.asarray(batch.shapes))
        spelled = self.spelling(params, jnp.asarray(batch.characters))
        return jnp.concatenate([of_words, spelled, of_shapes], axis=-1)

    def spelling(self, params: Params, characters: Int[Array, "*B W"]) -> Float[Array, "*B F"]:
        """Of every word, the largest answer of each filter to a window around one of its characters; 0 of none."""
        dtype, widths = jax.tree.leaves(params.readout)[0].dtype, self.widths
        inside = (characters != PADDING)[..., None]
        xs = _embed(self.sizes.characters, widths.character, dtype).apply(params.characters, characters)
        xs = jnp.where(inside, xs, 0)
        around = widths.window // 2
        wide = jnp.pad(xs, [(0, 0)] * (xs.ndim - 2) + [(around, around), (0, 0)])
        # One large product of windows laid side by side; XLA's convolution and its gradient are slower on a CPU.
        windows = [wide[..., n : n + xs.shape[-2], :] for n in range(widths.window)]
        ys = jax.nn.relu(_dense(widths.filters, dtype).apply(params.spelling, jnp.concatenate(windows, axis=-1)))
        return jnp.where(inside, ys, 0).max(-2)

    def loss(
        self,
        params: Params,
        taps: PyTree,
        batch: Words,
        keys: Key[Array, " B"] | None,
        carry: tuple = (),
        **how: PyTree,
    ) -> Losses:
        """Each row's own loss in nats, summed over its words, its mean one over words, for `rnnlab.train.step`."""
        scores, out = self.scores(params, batch, keys, taps=taps, **how)
        each = self.decoder.loss(params.decoder, scores, jnp.asarray(batch.tags), batch.lengths)
        return Losses(each, batch.lengths.astype(each.dtype), carry, out.carries, _inside(scores, batch.lengths))

    def terms(self, params: Params, batch: Words) -> Float[Array, "T B"]:
        """loss 1 + loss 2 + ...: what every word adds to its row's loss."""
        scores, _ = self.scores(params, batch)
        return self.decoder.terms(params.decoder, scores, jnp.asarray(batch.tags), batch.lengths)

    def decode(self, params: Params, batch: Words) -> Int[Array, "T B"]:
        """The likeliest tags, 0 at padding."""
        return self.decoder.decode(params.decoder, self.scores(params, batch)[0], batch.lengths)

    def marginals(self, params: Params, batch: Words) -> Float[Array, "T B C"]:
        """P(tag) of every word, 0 at padding."""
        return self.decoder.marginals(params.decoder, self.scores(params, batch)[0], batch.lengths)

    def taps(self, params: Params, batch: Words) -> tuple[PyTree, ...]:
        """Zeros like every carry of the stack, for `loss`."""
        return zero_taps(self.cells, params.stack, *batch.words.shape[:1], batch.lengths.shape)

    def _dropped(self, keys: Key[Array, " B"], depth: int):
        return lambda xs, ys: ys * kept_by_row(keys, depth, self.dropout, ys)


def _dense(size: int, dtype) -> nn.Dense:
    return nn.Dense(size, dtype=dtype, param_dtype=dtype)


def _embed(count: int, width: int, dtype, spread: float = 1.0) -> nn.Embed:
    normal = nn.initializers.normal(spread)
    return nn.Embed(count, width, embedding_init=normal, dtype=dtype, param_dtype=dtype)
