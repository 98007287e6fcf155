"""A recurrent language model: embedding, a stack of cells, a readout of every step."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key

from rnnlab.layers import init_layers, layers
from rnnlab.types import Cell, PyTree


class Params(NamedTuple):
    """embed: V -> E (linen Embed). stack: the cells' parameters, one a layer. readout: H -> V (linen Dense)."""

    embed: PyTree
    stack: tuple[PyTree, ...]
    readout: PyTree


class LanguageModel(NamedTuple):
    """cells: first layer first. vocabulary: V. embedding: E, the features of an embedded character."""

    cells: Sequence[Cell]
    vocabulary: int
    embedding: int

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
        dtype = jax.tree.leaves(params.readout)[0].dtype
        xs = self._embed(dtype).apply(params.embed, ids[:-1])
        ys = layers(self.cells, params.stack, xs, taps=taps, **how).ys
        logits = self._readout(dtype).apply(params.readout, ys)
        return optax.softmax_cross_entropy_with_integer_labels(logits, ids[1:])

    def _embed(self, dtype) -> nn.Embed:
        normal = nn.initializers.normal(1.0)
        return nn.Embed(self.vocabulary, self.embedding, embedding_init=normal, dtype=dtype, param_dtype=dtype)

    def _readout(self, dtype) -> nn.Dense:
        return nn.Dense(self.vocabulary, dtype=dtype, param_dtype=dtype)
