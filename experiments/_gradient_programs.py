"""What `gradient_flow` computes: the compiled functions of one cell, and the batches that it is trained on."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab import probes
from rnnlab.cells import own
from rnnlab.data import batches, columns, plans
from rnnlab.layers import zero_taps
from rnnlab.losses import per_row
from rnnlab.models.language_model import AXES, Chunk, LanguageModel, Params
from rnnlab.train import devices
from rnnlab.train.optimisers import optimiser, schedule
from rnnlab.train.state import TrainState, init_state
from rnnlab.train.step import Step, train_step


class Profile(NamedTuple):
    """Log-norms [L, T] of dL/dcarry_t, over examples: of the whole carry, and of each of its leaves."""

    mean: jax.Array
    low: jax.Array
    high: jax.Array
    parts: dict[str, jax.Array]


class Programs(NamedTuple):
    """The compiled functions of one cell, shared by its seeds."""

    init: Callable[[int], TrainState]  # seed -> state
    step: Step  # (state, batch) -> state, metrics; of the sum of a sequence's per-step losses
    measure: Callable[[Params], dict[str, Profile]]  # of the last step's loss and of their sum, on held-out sequences
    score: Callable[[Params], jax.Array]  # params -> bits per held-out character


def programs(config: Any, given: Any, cell: str) -> Programs:
    """From the experiment's configuration and inputs."""
    model = LanguageModel([own.factory(cell)(config.hidden)] * config.layers, given.vocabulary.size, config.hidden)
    rate = schedule("cosine", peak=config.learning_rate, steps=config.steps, warm_up=max(1, config.steps // 10))
    adam = optimiser("adam", rate)
    mesh = devices.mesh(config.devices) if config.devices > 1 else None
    step = train_step(per_row(model.loss), adam, axes=AXES, taps=model.taps, clip=config.clip, mesh=mesh)
    total = probes.value_and_grad(lambda params, taps, ids: model.losses(params, ids, taps=taps).sum(0))
    last = probes.value_and_grad(lambda params, taps, ids: model.losses(params, ids, taps=taps)[-1])
    probe_ids = jnp.asarray(evenly_spread(given.test, config.length, config.examples))
    scored_rows = jnp.asarray(side_by_side(given.test[: config.scored + 1]))

    def init(seed: int) -> TrainState:
        key = jax.random.key(seed)
        state = init_state(jax.jit(model.init)(key), adam, key)
        return state if mesh is None else devices.place(state, mesh)

    def measure(params: Params) -> dict[str, Profile]:
        zeros = zero_taps(model.cells, params.stack, config.length, (probe_ids.shape[1],))
        return {name: profile(of(params, zeros, probe_ids).norms) for name, of in (("last", last), ("sum", total))}

    def score(params: Params) -> jax.Array:
        return model.losses(params, scored_rows).mean() / math.log(2)

    return Programs(init, step, jax.jit(measure), jax.jit(score))


def profile(norms: probes.GradientNorms) -> Profile:
    """Over examples, layer by layer; the leaves by name where the carry is a NamedTuple."""
    joint = probes.summarise(norms.joint)
    names = getattr(norms.parts[0], "_fields", ())
    parts = {n: jnp.stack([probes.summarise(getattr(one, n)).mean for one in norms.parts]) for n in names}
    return Profile(joint.mean, joint.low, joint.high, parts)


def windows(ids: np.ndarray, length: int, size: int) -> Callable[[Any], Iterator[tuple[batches.State, Chunk]]]:
    """Batches of `size` sequences from a position on: the text cut into them, and shuffled anew every epoch."""
    text = columns.Columns({"ids": columns.windows(ids, length)}, {})
    source = batches.bucketed(text, {"ids": (length + 1,)}, size, leftover=plans.drop)
    return partial(_chunks, source)


def _chunks(source: batches.Source, position: Any) -> Iterator[tuple[batches.State, Chunk]]:
    # A gather of some kilobytes: read ahead by a thread it was waited for longer, 1.4 % of the time and not 0.4.
    for after, batch in batches.stream(source, position):
        yield after, Chunk(batch.sequences["ids"])


def evenly_spread(ids: np.ndarray, length: int, count: int) -> np.ndarray:
    """`count` sequences [length+1, count] evenly spread over the text; they overlap where it is short."""
    starts = np.linspace(0, len(ids) - length - 1, count).astype(int)
    return ids[starts + np.arange(length + 1)[:, None]]


def side_by_side(ids: np.ndarray, most: int = 64) -> np.ndarray:
    """The text as rows [S+1, R] read side by side, each beginning with the last character of the one before."""
    rows = min(most, max(1, (len(ids) - 1) // 100))
    size = (len(ids) - 1) // rows
    return ids[np.arange(rows) * size + np.arange(size + 1)[:, None]]
