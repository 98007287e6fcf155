"""One network in three forms, what each step's loss sends back through time, and its recipes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int, Key

from experiments import _training
from experiments._forms_data import (
    AXES,
    Said,
    Steps,
    Task,
    columns_of,
    encoded,
    evaluation,
    outputs_of,
    training,
)
from rnnlab import probes
from rnnlab.cells import own
from rnnlab.data.columns import Columns
from rnnlab.data.vocabularies import Vocabulary
from rnnlab.layers import init_layers, layers, zero_taps
from rnnlab.losses import Losses
from rnnlab.noise import quiet
from rnnlab.types import Cell, PyTree
from rnnlab.unroll import Unrolled

EVALUATED = 256  # examples in memory at a time


class Params(NamedTuple):
    """embed: V -> E. stack: one a layer, of the same shapes in every form. readout: H -> C."""

    embed: PyTree
    stack: tuple[PyTree, ...]
    readout: PyTree


class Network(NamedTuple):
    """Embedding, a stack of cells, a readout of every step; the form is where an answer is scored, nothing else."""

    cells: Sequence[Cell]
    vocabulary: int
    embedding: int
    outputs: int

    def init(self, key: Key[Array, ""], dtype=jnp.float32) -> Params:
        """Embeddings N(0, 1); the cells as they say; the readout normal with variance 1/H, its bias 0."""
        embed, stack, readout = jax.random.split(key, 3)
        stack = init_layers(self.cells, stack, self.embedding, dtype)
        top = jax.eval_shape(lambda s: layers(self.cells, s, jnp.zeros((1, self.embedding), dtype)).ys, stack).shape
        first = self._embed(dtype).init(embed, jnp.zeros((1,), jnp.int32))
        return Params(first, stack, self._readout(dtype).init(readout, jnp.zeros(top, dtype)))

    def logits(self, params: Params, ids: Int[Array, "T B"], **how: PyTree) -> tuple[Float[Array, "T B C"], Unrolled]:
        """What is said at every step, whether it is asked or not."""
        dtype = jax.tree.leaves(params.readout)[0].dtype
        out = layers(self.cells, params.stack, self._embed(dtype).apply(params.embed, ids), **how)
        return self._readout(dtype).apply(params.readout, out.ys), out

    def terms(self, params: Params, taps: PyTree, batch: Steps, **how: PyTree) -> tuple[Float[Array, "T B"], Any]:
        """loss 1, loss 2, ...: of every step, in nats, 0 where nothing is scored; and (logits, the stack's own)."""
        logits, out = self.logits(params, batch.ids, lengths=batch.lengths, taps=taps, **how)
        each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(batch.answers, 0))
        return jnp.where(batch.scored, each, 0), (logits, out)

    def loss(self, params: Params, taps: PyTree, batch: Steps, keys: Array | None, carry: tuple = ()) -> Losses:
        """Each example's total, loss 1 + loss 2 + ..., its mean one over examples. aux: `right` and `asked`."""
        batch = jax.tree.map(jnp.asarray, batch)
        key = None if keys is None else keys[0]
        terms, (logits, out) = self.terms(params, taps, batch, key=key)
        right = (logits.argmax(-1) == batch.answers) & batch.scored
        counts = {"right": right, "asked": batch.scored}
        counts = {name: flags.sum(0).astype(terms.dtype) for name, flags in counts.items()}
        keep = jnp.arange(len(terms))[:, None] < batch.lengths
        there = (batch.lengths > 0).astype(terms.dtype)
        return Losses(terms.sum(0), there, carry, out.carries, keep, counts)

    def taps(self, params: Params, batch: Steps) -> tuple[PyTree, ...]:
        """Zeros like every carry of the stack, for `loss`."""
        return zero_taps(self.cells, params.stack, batch.ids.shape[0], batch.ids.shape[1:])

    def greedy(self, params: Params, first: Int[Array, "1 1"], steps: int, never: int) -> Int[Array, " S"]:
        """The likeliest id after `first`, read in its turn, and so on; `never` is not said."""

        def step(state: tuple, _: None) -> tuple[tuple, Array]:
            ids, carry = state
            logits, out = self.logits(params, ids, start=carry)
            said = logits[0].at[:, never].set(-jnp.inf).argmax(-1).astype(jnp.int32)
            return (said[None], out.last), said[0]

        # The cells' own first carry, as a carry that is handed on has to be there from the start.
        start = tuple(
            cell.start(cell.prepare(own), (1,)) for cell, own in zip(map(quiet, self.cells), params.stack, strict=True)
        )
        return lax.scan(step, (first, start), None, steps)[1]

    def _embed(self, dtype) -> nn.Embed:
        normal = nn.initializers.normal(1.0)
        return nn.Embed(self.vocabulary, self.embedding, embedding_init=normal, dtype=dtype, param_dtype=dtype)

    def _readout(self, dtype) -> nn.Dense:
        return nn.Dense(self.outputs, dtype=dtype, param_dtype=dtype)


def network(config: Any, form: str, vocabulary: Vocabulary) -> Network:
    cells = [own.factory(config.cell)(config.hidden) for _ in range(config.layers)]
    return Network(cells, vocabulary.size, config.embedding, outputs_of(form, vocabulary))


class Terms(NamedTuple):
    """Of one example of S = T steps.

    losses: [T], loss 1, loss 2, ..., 0 where nothing is scored. total: computed by itself.
    norms:  [L, T, T], ln ||dloss_s/dcarry_t|| at [:, s, t]; -inf where it is exactly 0
    of_total: [L, T], ln ||dtotal/dcarry_t||
    gap:    the largest || sum_s dloss_s/dcarry_t - dtotal/dcarry_t || over layers and steps, as a share of the largest
            ||dtotal/dcarry_t||
    """

    losses: Float[Array, " T"]
    total: Float[Array, ""]
    norms: Float[Array, "L T T"]
    of_total: Float[Array, "L T"]
    gap: Float[Array, ""]


def terms_of(net: Network) -> Callable[[Params, Steps], Terms]:
    """(params, one example) -> its terms: as many backward passes as there are steps, side by side, and one for the
    total; all of them by taps."""

    @jax.jit
    def measured(params: Params, batch: Steps) -> Terms:
        zeros = net.taps(params, batch)

        def of_steps(taps: PyTree) -> Array:
            return net.terms(params, taps, batch)[0][:, 0]

        losses, pull = jax.vjp(of_steps, zeros)
        each = jax.vmap(lambda push: pull(push)[0])(jnp.eye(len(losses), dtype=losses.dtype))
        total, whole = jax.value_and_grad(lambda taps: net.loss(params, taps, batch, None).each.sum())(zeros)
        norms = jax.vmap(lambda one: probes.log_norms(one, 1).joint[..., 0])(each)
        apart = jax.tree.map(lambda parts, all_of: parts.sum(0) - all_of, each, whole)
        found = probes.log_norms(whole, 1).joint[..., 0]
        largest = found.max()
        gap = jnp.where(largest > -jnp.inf, jnp.exp(probes.log_norms(apart, 1).joint.max() - largest), 0)
        return Terms(losses, total, jnp.moveaxis(norms, 1, 0), found, gap)

    return measured


def alone(said: Said, vocabulary: Vocabulary) -> Steps:
    """One example as a batch of one."""
    found = encoded(said, vocabulary)
    return Steps(found["ids"][:, None], np.array([len(found["ids"])], np.int32), found["answers"][:, None])


def recipe(config: Any, task: Task | None, form: str, vocabulary: Vocabulary) -> _training.Recipe:
    """Of one form; without its task, only to be restored and asked."""
    net = network(config, form, vocabulary)

    def nothing(*_: Any) -> Iterator:
        raise ValueError("recipe: expected data, got none; this one is only to be asked")

    batches, evaluate = nothing, nothing
    if task is not None:
        batches = training(columns_of(task.splits["train"], vocabulary), config.batch)
        evaluate = scored(net, columns_of(task.splits["validation"], vocabulary))
    return _training.Recipe(form, dict(form=form), net.init, net.loss, net.taps, AXES, batches, evaluate)


def scored(net: Network, columns: Columns) -> Callable[[PyTree], Mapping[str, Any]]:
    """params -> `loss`, the mean total in nats; `step_loss`, the mean of a term; `accuracy` of the answers."""
    given = evaluation(columns, min(EVALUATED, columns.count))
    program = jax.jit(lambda params, batch: net.loss(params, None, batch, None)._replace(carries=None))

    def evaluate(params: PyTree) -> Mapping[str, Any]:
        found = jax.device_get([program(params, batch) for batch in given])
        total, count = (sum(float(getattr(one, name).sum()) for one in found) for name in ("each", "count"))
        right, asked = (sum(float(one.aux[name].sum()) for one in found) for name in ("right", "asked"))
        return dict(loss=total / count, step_loss=total / asked, accuracy=right / asked, asked=int(asked))

    return evaluate
