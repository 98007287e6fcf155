"""A stack of cells with a readout of every step: what a task is learned by."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Key, Num

from rnnlab.layers import init_layers, layers, zero_taps
from rnnlab.losses import Losses
from rnnlab.tasks.task import Answer, Example
from rnnlab.types import Cell, Directions, PyTree
from rnnlab.unroll import Unrolled


class Params(NamedTuple):
    """stack: the cells' parameters, one a layer. readout: H -> C (linen Dense)."""

    stack: tuple[PyTree, ...]
    readout: PyTree


class SequenceModel(NamedTuple):
    """cells: first layer first. inputs: D, the features of an input, or how many ids there are, each then one-hot.
    outputs: C. answer: how what is said at a step is scored."""

    cells: Sequence[Cell | Directions]
    inputs: int
    outputs: int
    answer: Answer

    def init(self, key: Key[Array, ""], dtype=jnp.float32) -> Params:
        """The cells as they say; the readout normal with variance 1/H, its bias 0."""
        stack, readout = jax.random.split(key)
        stack = init_layers(self.cells, stack, self.inputs, dtype)
        top = jax.eval_shape(lambda s: layers(self.cells, s, jnp.zeros((1, self.inputs), dtype)).ys, stack).shape
        return Params(stack, self._readout(dtype).init(readout, jnp.zeros(top, dtype)))

    def outputs_of(
        self, params: Params, inputs: Num[Array, "T B ..."], lengths: Int[Array, " B"] | None = None, **how: PyTree
    ) -> tuple[Float[Array, "T B C"], Unrolled]:
        """What is said at every step, scores of classes or a number, and the stack's own outputs and carries."""
        out = layers(self.cells, params.stack, self.features(params, inputs), lengths=lengths, **how)
        return self.read(params, out.ys), out

    def features(self, params: Params, inputs: Num[Array, "T B ..."]) -> Float[Array, "T B D"]:
        """What the first layer reads: ids one-hot, numbers as they are."""
        dtype = jax.tree.leaves(params.readout)[0].dtype
        whole = jnp.issubdtype(inputs.dtype, jnp.integer)
        return jax.nn.one_hot(inputs, self.inputs, dtype=dtype) if whole else inputs.astype(dtype)

    def read(self, params: Params, ys: Float[Array, "T B H"]) -> Float[Array, "T B C"]:
        """What is said, of the last layer's outputs."""
        dtype = jax.tree.leaves(params.readout)[0].dtype
        return self._readout(dtype).apply(params.readout, ys).astype(jnp.promote_types(dtype, jnp.float32))

    def loss(
        self,
        params: Params,
        taps: PyTree,
        batch: Example,
        keys: Key[Array, " B"] | None,
        carry: tuple = (),
        **how: PyTree,
    ) -> Losses:
        """Each row's own loss, summed over its scored steps, its mean one over them, for `rnnlab.train.step`.

        aux: `right` and `asked`, numbers of answers. keys: a cell's noise is drawn from the first; None is evaluation.
        """
        key = None if keys is None else keys[0]
        said, out = self.outputs_of(params, batch.inputs, batch.lengths, taps=taps, key=key, **how)
        each = jnp.where(batch.scored, self.answer.loss(said, batch.targets), 0).sum(0)
        right = self.answer.right(said, batch.targets) & batch.asked
        counts = {"right": right, "asked": batch.asked, "scored": batch.scored}
        counts = {name: flags.sum(0).astype(each.dtype) for name, flags in counts.items()}
        keep: Bool[Array, "T B"] = jnp.arange(len(said))[:, None] < batch.lengths
        return Losses(each, counts.pop("scored"), carry, out.carries, keep, counts)

    def taps(self, params: Params, batch: Example) -> tuple[PyTree, ...]:
        """Zeros like every carry of the stack, for `loss`."""
        return zero_taps(self.cells, params.stack, *batch.inputs.shape[:1], batch.lengths.shape)

    def _readout(self, dtype) -> nn.Dense:
        return nn.Dense(self.outputs, dtype=dtype, param_dtype=dtype)
