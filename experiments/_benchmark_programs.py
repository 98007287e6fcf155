"""What a benchmark of memory computes: its variants of cells, their compiled functions, and the batches."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from rnnlab import initializers as inits
from rnnlab import probes
from rnnlab.cells import own
from rnnlab.models.sequence_model import Params, SequenceModel
from rnnlab.tasks import AXES, Example, Task, draw_batch, key_of
from rnnlab.tasks.epochs import epochs
from rnnlab.train import devices
from rnnlab.train.optimisers import optimiser, schedule
from rnnlab.train.state import TrainState, init_state
from rnnlab.train.step import pure_step
from rnnlab.types import Cell, Directions

# What a cell's factory is told, where it has such arguments; biases are 0 but the gate's.
INITIALISATIONS: dict[str, dict[str, Any]] = {
    "own": {},
    "orthogonal": {"recurrent": inits.orthogonal()},
    "uniform": {"kernel": inits.uniform(), "recurrent": inits.uniform()},
}
GATE_BIASES = ("forget_bias", "update_bias")
EVALUATED = 250  # held-out examples in memory at a time


class Variant(NamedTuple):
    """A cell as it is initialised. bias: of the gate that forgets or updates, None for the cell's own."""

    cell: str
    initialisation: str
    bias: float | None

    @property
    def part(self) -> str:
        """What its rows, series and checkpoints are called."""
        return "_".join(
            [own.label(self.cell), self.initialisation, *([] if self.bias is None else [f"b{self.bias:g}"])]
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What tells its rows from another's."""
        return dict(variant=self.part, cell=own.label(self.cell), initialisation=self.initialisation, bias=self.bias)


def variants(config: Any) -> list[Variant]:
    """Every cell with every initialisation and gate bias that were asked for; a cell whose factory has no such argument
    comes once, with its own."""
    found = []
    for name in config.cell:
        takes = inspect.signature(own.factory(name)).parameters
        ways = config.initialisation if "recurrent" in takes and "kernel" in takes else ("own",)
        biases = config.gate_bias if any(gate in takes for gate in GATE_BIASES) else ()
        found += [Variant(name, way, bias) for way in ways for bias in biases or (None,)]
    return found


def made(variant: Variant, hidden: int) -> Cell:
    factory = own.factory(variant.cell)
    takes = inspect.signature(factory).parameters
    told = dict(INITIALISATIONS[variant.initialisation])
    if variant.bias is not None:
        told |= {gate: variant.bias for gate in GATE_BIASES if gate in takes}
    return factory(hidden, **told)


class Programs(NamedTuple):
    """The compiled functions of one variant, each for all seeds [S] at once."""

    init: Callable[[], TrainState]
    step: Callable[[TrainState, Example], tuple[TrainState, "Seen"]]
    score: Callable[[Params, Iterable[Example]], dict[str, Any]]  # -> loss and accuracy [S], and how many examples
    answer: Callable[[Params, Example], dict[str, jax.Array]]  # one example -> the answer, and how likely the right one
    decay: Callable[[Params, Example], jax.Array]  # -> ln ||dL/dcarry_t|| [S, L, T], L the loss of the last step asked


class Seen(NamedTuple):
    """What is kept of a training step, each [S ...]. A step that is not finite changes nothing, and is only counted."""

    loss: jax.Array
    norm: jax.Array
    clipped: jax.Array
    norms: jax.Array
    skipped: jax.Array
    finite: jax.Array


def programs(config: Any, task: Task, variant: Variant) -> Programs:
    """From the experiment's configuration."""
    cell = made(variant, config.hidden)
    stack = [Directions(cell, cell) if config.bidirectional else cell] * config.layers
    model = SequenceModel(stack, task.inputs, task.outputs, task.answer)
    rate = schedule("constant", peak=config.learning_rate, steps=config.steps, warm_up=0)
    chosen = optimiser(config.optimiser, rate)
    step = pure_step(model.loss, chosen, axes=AXES, taps=model.taps, clip=config.clip)

    def init(seed: jax.Array) -> TrainState:
        key = jax.random.key(seed)
        return init_state(model.init(key), chosen, key)

    def tolerant(state: TrainState, batch: Example) -> tuple[TrainState, Seen]:
        new, seen = step(state, batch)
        joint = seen.norms.joint
        return new, Seen(seen.loss, seen.norm, seen.clipped, joint, ~seen.finite, jnp.ones_like(seen.finite))

    return Programs(
        init=lambda: jax.jit(jax.vmap(init))(jnp.arange(config.seed, config.seed + config.seeds)),
        step=over_seeds(config, tolerant, own=2),
        score=scorer(over_seeds(config, partial(sums, model))),
        answer=over_seeds(config, partial(answer, model)),
        decay=over_seeds(config, partial(decay, model)),
    )


def over_seeds(config: Any, function: Callable, own: int = 1) -> Callable:
    """The compiled function of all seeds: its first `own` arguments have an axis of seeds, the others serve them all.

    On each device its share of the seeds, one after another or in one product; nothing passes between devices.
    """
    way = {
        "map": lambda one, args: lax.map(lambda each: one(*each), args),
        "vmap": lambda one, args: jax.vmap(one)(*args),
    }

    def share(*args: Any) -> Any:
        return way[config.over_seeds](lambda *each: function(*each, *args[own:]), args[:own])

    if config.devices == 1:
        return jax.jit(share)
    mesh, apart = devices.mesh(config.devices), PartitionSpec(devices.ROWS)

    def spread(*args: Any) -> Any:
        specs = (apart,) * own + (PartitionSpec(),) * (len(args) - own)
        return jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=apart, check_vma=False)(*args)

    return jax.jit(spread)


def decay(model: SequenceModel, params: Params, batch: Example) -> jax.Array:
    """ln ||dL/dcarry_t|| [L, T], mean over examples, L the loss of the last step that is asked: by the log-domain
    adjoint, for in a long sequence a tanh network's gradient is no float any more."""
    last = batch.asked & (jnp.cumsum(batch.asked[::-1], axis=0)[::-1] == 1)

    def loss(ys: jax.Array) -> jax.Array:
        return jnp.where(last, model.answer.loss(model.read(params, ys), batch.targets), 0).sum(0)

    xs = model.features(params, batch.inputs)
    return probes.log_gradient_norms(model.cells, params.stack, xs, loss, lengths=batch.lengths).joint.mean(-1)


def answer(model: SequenceModel, params: Params, batch: Example) -> dict[str, jax.Array]:
    """Of a batch of one, at the last step asked: the likeliest class, and the probability of the right one."""
    said, _ = model.outputs_of(params, batch.inputs, batch.lengths)
    at = (jnp.arange(len(said)) * batch.asked[:, 0]).argmax()
    probabilities = jax.nn.softmax(said[at, 0])
    return {"answer": probabilities.argmax(), "right": probabilities[batch.targets[at, 0]]}


def sums(model: SequenceModel, params: Params, batch: Example) -> dict[str, jax.Array]:
    """Of a batch: the loss over all scored steps, how many those are, right answers and those asked."""
    found = model.loss(params, None, batch, None)
    return {"loss": found.each.sum(), "count": found.count.sum()} | {k: v.sum() for k, v in found.aux.items()}


def scorer(some: Callable[[Params, Example], dict[str, jax.Array]]) -> Callable[..., dict[str, Any]]:
    """(params, batches) -> loss and accuracy over all of them; some: the `sums` of one batch."""

    def score(params: Params, batches: Iterable[Example]) -> dict[str, Any]:
        found = [(jax.device_get(some(params, batch)), batch.lengths.size) for batch in batches]
        total = jax.tree.map(lambda *parts: np.sum(parts, axis=0), *(one for one, _ in found))
        return {
            "loss": total["loss"] / total["count"],
            "accuracy": total["right"] / total["asked"],
            "examples": sum(count for _, count in found),
        }

    return score


# Held-out examples: the same ones for every variant.


def held_out(config: Any, task: Task) -> Callable[[str, int, int], Iterator[Example]]:
    """(split, length, how many) -> batches. Of every length they are padded to the longest, so that what is compiled
    for one length serves them all."""
    bound = max(config.length, *config.lengths_tested)

    @partial(jax.jit, static_argnames=("split", "rows"))
    def drawn(number: jax.Array, length: jax.Array, items: Any, split: str, rows: int) -> Example:
        key = key_of(config.seed, split)
        return draw_batch(task, key, number, rows, bound, shortest=length, longest=length, items=items)

    def examples(split: str, length: int, count: int) -> Iterator[Example]:
        pool = task.pool[split] if task.pool else ()
        count = min([count, *(len(leaf) for leaf in jax.tree.leaves(pool))])
        for number, start in enumerate(range(0, count, EVALUATED)):
            rows = min(EVALUATED, count - start)
            items = jax.tree.map(lambda leaf, s=start, n=rows: leaf[s : s + n], pool)
            yield drawn(jnp.int32(number), jnp.int32(length), items, split=split, rows=rows)

    return examples


# Training examples.


Lengths = Callable[[int, int, int, int], tuple[int, int]]


def whole(step: int, steps: int, first: int, length: int) -> tuple[int, int]:
    return length, length


def growing(step: int, steps: int, first: int, length: int) -> tuple[int, int]:
    """Stages of equal share: from the first length, doubled until it is the whole."""
    stages = [first]
    while stages[-1] < length:
        stages.append(min(2 * stages[-1], length))
    now = stages[step * len(stages) // steps]
    return now, now


def mixed(step: int, steps: int, first: int, length: int) -> tuple[int, int]:
    return first, length


# Shortest and longest of the examples of a step (step, steps, first length, length).
CURRICULA: dict[str, Lengths] = {"none": whole, "growing": growing, "mixed": mixed}


def batches(config: Any, task: Task) -> Callable[[Any], Iterator[tuple[list[int], Example]]]:
    """For `rnnlab.train.fit`: position [step, epoch, index] -> batches of all seeds, leaves [S, T, B, ...], drawn on
    the device. Epochs are those of a pool; a generated task has none."""
    numbers = range(config.seed, config.seed + config.seeds)
    keys = jnp.stack([key_of(seed, "train") for seed in numbers])
    lengths = partial(CURRICULA[config.curriculum], steps=config.steps, first=config.first_length, length=config.length)

    @partial(jax.jit, static_argnames=("low", "high"))
    def drawn(step: jax.Array, items: Any, low: int, high: int) -> Example:
        one = lambda key, items: draw_batch(task, key, step, config.batch, high, shortest=low, items=items)  # noqa: E731
        return jax.vmap(one)(keys, items)

    def stream(position: Any) -> Iterator[tuple[list[int], Example]]:
        step, *place = position
        pool = task.pool.get("train", ())
        count = task.pool and len(jax.tree.leaves(pool)[0])
        each = epochs(count, config.batch, numbers, place) if count else repeat((place, 0))
        for place, rows in each:
            low, high = lengths(step)
            items = jax.tree.map(lambda leaf, rows=rows: leaf[rows], pool)
            step += 1
            yield [step, *place], drawn(jnp.int32(step), items, low=low, high=high)

    return stream
