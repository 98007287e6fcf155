"""What the benchmarks of memory share: their flags, how a variant of a cell is trained, and the rows that are kept."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _benchmark_figure, _benchmark_table
from experiments._benchmark_programs import (
    CURRICULA,
    INITIALISATIONS,
    Programs,
    Variant,
    batches,
    held_out,
    programs,
    variants,
)
from rnnlab import cli, probes
from rnnlab.cells import CELLS, own
from rnnlab.errors import InputError
from rnnlab.progress import Progress
from rnnlab.tasks import AXES, Example, Task
from rnnlab.train import devices
from rnnlab.train.checkpoints import Checkpoints
from rnnlab.train.fit import Final, Step, Validation, fit
from rnnlab.train.optimisers import OPTIMISERS


def initialised(*default: str) -> Any:
    """The flag --initialisation, with this default."""
    return cli.flag(
        default,
        "own: as the factory makes a cell; orthogonal: the recurrent matrix; uniform: all matrices U(-1/sqrt H, "
        "1/sqrt H), biases 0 but the gate's; a cell whose factory takes none is run once, with its own",
        choices=tuple(INITIALISATIONS),
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """The flags of every benchmark; each experiment has its own defaults."""

    cell: tuple[str, ...] = cli.flag(
        ("elman", "lstm", "gru"), f"cells to compare: {', '.join(CELLS)}, or your own, FILE.py:FACTORY"
    )
    initialisation: tuple[str, ...] = initialised("own")
    gate_bias: tuple[float, ...] = cli.flag(
        (), "biases of the forget or update gate, each a variant of a cell that has one; none for the cell's own"
    )
    layers: int = cli.flag(1, "cells stacked, L", low=1)
    bidirectional: bool = cli.flag(False, "every layer reads both ways")
    hidden: int = cli.flag(64, "hidden units of each layer and direction, H", low=1)
    length: int = cli.flag(50, "length of the training examples, as the task counts it", low=0)
    curriculum: str = cli.flag(
        "none",
        "none: every example has the whole length; growing: stages from the first length on, doubled; mixed: every "
        "example has a length of its own between them",
        choices=tuple(CURRICULA),
    )
    first_length: int = cli.flag(10, "the shortest length of a curriculum", low=0)
    test_length: tuple[int, ...] = cli.flag((), "lengths tested; none for 1/2, 1, 2 and 4 times the length", low=0)
    batch: int = cli.flag(64, "examples in a training step, B", low=1)
    steps: int = cli.flag(1250, "training steps", low=1)
    optimiser: str = cli.flag("adam", "which optimiser", choices=tuple(OPTIMISERS))
    learning_rate: float = cli.flag(1e-3, "its step size", low=0.0)
    clip: float = cli.flag(1.0, "largest global norm of the gradient of the mean loss", low=0.0)
    measurements: int = cli.flag(10, "validations, evenly over training", low=1)
    examples: int = cli.flag(500, "held-out examples in a validation", low=1)
    tested: int = cli.flag(1000, "test examples of each length", low=1)
    first_lag: int = cli.flag(0, "first lag of the decay fit at initialisation", low=0)
    last_lag: int = cli.flag(0, "last lag of the decay fit; 0 means six tenths of the steps", low=0)
    over_seeds: str = cli.flag(
        "map", "how seeds share a process: one after another, or in one product", choices=("map", "vmap")
    )
    devices: int = cli.flag(
        1, "devices that the seeds are spread over, of which it must be a divisor; on a CPU, one a core or so", low=1
    )
    seeds: int = cli.flag(3, "runs of every variant, each with its own seed, its own examples", low=1, high=1000)
    seed: int = cli.flag(0, "the first seed", low=0, high=2_000_000_000)

    @property
    def lengths_tested(self) -> tuple[int, ...]:
        """In order; by default beyond those trained."""
        return tuple(sorted(set(self.test_length or (self.length // 2, self.length, 2 * self.length, 4 * self.length))))

    @property
    def points(self) -> list[int]:
        """The steps after which a validation is made."""
        return np.linspace(0, self.steps, self.measurements + 1).round().astype(int).tolist()


class Inputs(NamedTuple):
    """task: what is learned. own: the files of a reader's cells and their SHA-256."""

    task: Task
    own: dict[str, str]

    @property
    def hashes(self) -> dict[str, str]:
        return self.own | self.task.hashes


class Benchmark(NamedTuple):
    """One benchmark, of which an experiment's inputs, run, table and figure are the methods.

    title: over the figure. config: its Config class. task: config -> Task.
    shown: config -> examples by their words, without batch axes, whose answers are kept after training.
    said: (config, rows) -> lines under the table: what was expected and whether it came out, others' results.
    """

    title: str
    config: type
    task: Callable[[Any], Task]
    shown: Callable[[Any], dict[str, Example]] = lambda config: {}
    said: Callable[[Any, list[dict]], Sequence[str]] = lambda config, rows: ()

    def inputs(self, config: Any) -> Inputs:
        """The task, checked against the configuration."""
        own.check(config.cell)
        if config.clip == 0:
            raise InputError("clip: expected a norm above 0, got 0")
        devices.check(config.devices)
        if config.seeds % config.devices:
            raise InputError(f"devices: expected a divisor of seeds = {config.seeds}, got {config.devices}")
        task = self.task(config)
        check_lengths(config, task)
        return Inputs(task, own.sources(config.cell))

    def run(self, config: Any, given: Inputs, run) -> None:
        """Rows: the task, then of every variant its validations, its decay at initialisation, and its tests."""
        if not run.has("task"):
            with run.part("task"):
                run.metrics(kind="task", **facts(config, given.task))
        every, examples = variants(config), Examples.of(config, given.task, self.shown(config))
        with Progress(len(every) * config.steps, run.experiment) as progress:
            for variant in every:
                if run.has(variant.part):
                    progress.skip(config.steps)
                    continue
                progress.note(variant=variant.part)
                with run.part(variant.part):
                    one_variant(config, given, examples, variant, run, progress)

    def table(self, run) -> str:
        config = self.config(**run.config)
        return _benchmark_table.table(config, run, self.said(config, run.rows()))

    def figure(self, run):
        return _benchmark_figure.figure(self.title, self.config(**run.config), run)


def check_lengths(config: Any, task: Task) -> None:
    shortest = min(config.lengths_tested)
    if config.length < task.shortest or shortest < task.shortest:
        raise InputError(
            f"length: expected at least {task.shortest}, got {config.length} to train and {shortest} to test"
        )
    if config.curriculum != "none" and not task.shortest <= config.first_length <= config.length:
        raise InputError(
            f"first_length: expected {task.shortest} to length = {config.length} for curriculum={config.curriculum}, "
            f"got {config.first_length}"
        )
    if config.curriculum == "growing" and config.first_length == 0:
        raise InputError("first_length: expected at least 1 for curriculum=growing, which doubles it, got 0")
    first, last = lags(config, task)
    if not first + 2 <= last < task.steps(config.length):
        raise InputError(
            f"last_lag: expected at least 3 lags, first_lag = {first} < last_lag < {task.steps(config.length)} steps, "
            f"got {last}"
        )


def lags(config: Any, task: Task) -> tuple[int, int]:
    """First and last lag of the decay fit."""
    return config.first_lag, config.last_lag or round(0.6 * (task.steps(config.length) - 1))


def facts(config: Any, task: Task) -> dict[str, Any]:
    """What the figure and the table say of the task."""
    tested = config.lengths_tested
    first, last = lags(config, task)
    return dict(
        origin=task.origin, unit=task.answer.unit, steps=task.steps(config.length), lag=task.lag(config.length),
        chance=task.chance(config.length), guess=None if task.guess is None else task.guess(config.length),
        lengths=list(tested), lags=[task.lag(length) for length in tested],
        chances=[task.chance(length) for length in tested], fit=[first, last],
        guesses=None if task.guess is None else [task.guess(length) for length in tested],
    )  # fmt: skip


class Examples(NamedTuple):
    """What all variants are trained and measured on, so that what draws it is compiled once. probe: 32 examples of the
    length trained, whose gradients are measured. shown: examples in words, each a batch of one."""

    batches: Callable
    held_out: Callable
    probe: Example
    shown: dict[str, Example]

    @classmethod
    def of(cls, config: Any, task: Task, shown: dict[str, Example]) -> "Examples":
        examples = held_out(config, task)
        [probe] = examples("validation", config.length, 32)
        steps = task.steps(config.length)
        whole = jax.tree.map(lambda leaf, axis: leaf[:steps] if axis else leaf, probe, AXES)
        batch = jax.tree.map(
            lambda leaf, axis: jnp.expand_dims(leaf, axis), tuple(shown.values()), (AXES,) * len(shown)
        )
        return cls(batches(config, task), examples, whole, dict(zip(shown, batch, strict=True)))


def one_variant(config: Any, given: Inputs, examples: Examples, variant: Variant, run, progress: Progress) -> None:
    """All seeds of one variant, side by side."""
    compiled, part = programs(config, given.task, variant), variant.part
    state = compiled.init()
    asked = dataclasses.asdict(config) | variant._asdict() | {"data": given.hashes}

    def evaluate(state) -> dict[str, Any]:
        found = compiled.score(state.params, examples.held_out("validation", config.length, config.examples))
        decay = jax.device_get(compiled.decay(state.params, examples.probe))
        return {"each": found, "loss": float(np.mean(found["loss"])), "decay": decay}

    with Checkpoints(run.path / "checkpoints" / part, asked, keep=1) as checkpoints:
        for seen in fit(
            compiled.step, state, examples.batches, position=[0, 0, 0], steps=config.steps, evaluate=evaluate,
            evaluate_at=config.points, checkpoints=checkpoints, journal=run, stop=run.stop, progress=progress,
        ):  # fmt: skip
            match seen:
                case Step(step, metrics):
                    run.record(f"{part}_loss", metrics.loss)
                    run.record(f"{part}_norms_{metrics.norms.shape[-1]}", metrics.norms)
                    for place in np.flatnonzero(metrics.skipped):
                        run.metrics(kind="skipped", **variant.facts, seed=config.seed + int(place), step=step)
                case Validation(step, found):
                    run.record(f"{part}_decay", found["decay"])
                    keep_validation(config, given.task, variant, step, found, run)
                case Final():
                    run.timing(**variant.facts, steps=config.steps, seconds=seen.seconds, waiting=seen.waiting)
                    keep_tests(config, given.task, variant, seen.state, compiled, examples, run)


def keep_validation(config: Any, task: Task, variant: Variant, step: int, found: dict[str, Any], run) -> None:
    fit = probes.fit_decay(jnp.asarray(found["decay"][:, -1]), *lags(config, task))
    for place in range(config.seeds):
        norms = found["decay"][place, -1]
        run.metrics(
            kind="validation", step=step, **variant.facts, seed=config.seed + place, loss=found["each"]["loss"][place],
            accuracy=found["each"]["accuracy"][place], log_ratio=norms[0] - norms[-1], gamma=fit.gamma[place],
            half_life=fit.half_life[place], r2=fit.r2[place],
        )  # fmt: skip


def keep_tests(
    config: Any, task: Task, variant: Variant, state: Any, compiled: Programs, examples: Examples, run
) -> None:
    """The last parameters on the test split, at every length tested: looked at once."""
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params)) // config.seeds
    for length in config.lengths_tested:
        found = compiled.score(state.params, examples.held_out("test", length, config.tested))
        for place in range(config.seeds):
            run.metrics(
                kind="test", **variant.facts, seed=config.seed + place, length=length, lag=task.lag(length),
                loss=found["loss"][place], accuracy=found["accuracy"][place], examples=found["examples"],
                parameters=parameters,
            )  # fmt: skip
    for words, example in examples.shown.items():
        found = compiled.answer(state.params, example)
        for place in range(config.seeds):
            run.metrics(
                kind="shown", **variant.facts, seed=config.seed + place, words=words,
                right=found["right"][place], answer=found["answer"][place],
            )  # fmt: skip
