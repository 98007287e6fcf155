"""How the text systems are trained: models with seeds, each to the checkpoint that its validation finds best.

A recipe says what is trained; `every` trains each with every seed, part by part, so that a run goes on where it was
stopped, and hands the best parameters to whoever scores them on the test split, once.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rnnlab import cli
from rnnlab.data.vocabularies import Vocabulary
from rnnlab.data.vocabularies import load as load_vocabulary
from rnnlab.errors import InputError
from rnnlab.losses import Losses
from rnnlab.progress import Progress
from rnnlab.train import devices
from rnnlab.train.checkpoints import Checkpoints, restore_params
from rnnlab.train.events import Events
from rnnlab.train.fit import Final, Step, Validation, fit, loss_of
from rnnlab.train.optimisers import OPTIMISERS, SCHEDULES, optimiser, schedule
from rnnlab.train.state import init_state
from rnnlab.train.step import train_step
from rnnlab.train.telemetry import describe
from rnnlab.types import PyTree


@dataclasses.dataclass(frozen=True)
class Config:
    """The flags of every text system. An experiment gives its own defaults by defining a field again."""

    batch: int = cli.flag(32, "sequences in a training step, B", low=1)
    steps: int = cli.flag(1000, "training steps", low=1)
    optimiser: str = cli.flag("adam", "which optimiser", choices=tuple(OPTIMISERS))
    learning_rate: float = cli.flag(3e-3, "its highest step size", low=0.0)
    schedule: str = cli.flag("cosine", "the step size over training, after a warm-up", choices=tuple(SCHEDULES))
    warm_up: float = cli.flag(0.05, "share of the steps in which the step size rises to its highest", low=0.0, high=1.0)
    clip: float = cli.flag(1.0, "largest global norm of the gradient of the mean loss", low=0.0)
    measurements: int = cli.flag(10, "validations, evenly over training; the best one is kept", low=1)
    devices: int = cli.flag(1, "devices that the batch is split over; on a CPU, one a core or so", low=1)
    seeds: int = cli.flag(3, "runs of every model, each with its own seed", low=1, high=1000)
    seed: int = cli.flag(0, "the first seed", low=0, high=2_000_000_000)

    @property
    def points(self) -> list[int]:
        """The steps after which a validation is made."""
        return np.linspace(0, self.steps, self.measurements + 1).round().astype(int).tolist()


def check(config: Config) -> None:
    """Raises InputError for what no recipe could train with."""
    if config.clip == 0:
        raise InputError("clip: expected a norm above 0, got 0")
    devices.check(config.devices)
    devices.check_rows(config.batch, config.devices, 1)


class Recipe(NamedTuple):
    """One model, whatever its seed.

    name:     of its rows, series and checkpoints. facts: what tells its rows from another's
    init:     key -> params. carry: params -> the first carry of truncated BPTT
    loss, taps, axes: as `rnnlab.train.step` takes them; taps None measures no gradient norms
    batches:  position (a seed, then integers) -> (position after, batch), without an end
    evaluate: params (on the host) -> numbers by name on the validation split
    score:    of those numbers, the lowest is the best: the `loss`, if nothing else is said
    """

    name: str
    facts: Mapping[str, Any]
    init: Callable[[jax.Array], PyTree]
    loss: Callable[..., Losses]
    taps: Callable[[PyTree, PyTree], PyTree] | None
    axes: PyTree
    batches: Callable[[Any], Iterator[tuple[Any, PyTree]]]
    evaluate: Callable[[PyTree], Mapping[str, Any]]
    carry: Callable[[PyTree], PyTree] = lambda params: ()
    score: Callable[[Mapping[str, Any]], float] = loss_of

    def part(self, seed: int) -> str:
        return f"{self.name}_seed{seed}"


# What is done with the best parameters of a recipe and a seed: rows of the test, arrays of a figure.
Finish = Callable[[Recipe, int, PyTree], None]


def every(config: Config, recipes: Sequence[Recipe], hashes: Mapping[str, str], run: Any, finish: Finish) -> None:
    """Rows of each recipe and seed: `train` a step, `validation` a measurement, `chosen` the best of them; then those
    of `finish`. Series: NAME_seedN_norms_T, the mean log-norms [L, T] of each step's batch of T steps."""
    seeds = range(config.seed, config.seed + config.seeds)
    with Progress(len(recipes) * config.seeds * config.steps, run.experiment) as progress:
        for recipe in recipes:
            left = [seed for seed in seeds if not run.has(recipe.part(seed))]
            progress.skip((config.seeds - len(left)) * config.steps)
            step = _compiled(config, recipe) if left else None
            for seed in left:
                progress.note(**recipe.facts, seed=seed)
                with run.part(recipe.part(seed)):
                    finish(recipe, seed, _trained(config, recipe, step, seed, hashes, run, progress))


def best(run: Any, init: Callable[[jax.Array], PyTree], part: str) -> PyTree:
    """The parameters that a run kept of a part, a `Recipe.part`."""
    return restore_params(run.path / "checkpoints" / part, jax.eval_shape(init, jax.random.key(0)))


def best_of(run: Any, score: Callable[[Mapping[str, Any]], float] = loss_of, **facts: Any) -> dict[str, Any]:
    """The `chosen` row with the lowest score on validation, of those with these facts: whom `predict` asks."""
    rows = [r for r in run.rows() if r["kind"] == "chosen" and all(r.get(name) == v for name, v in facts.items())]
    return min(rows, key=score)


def keep_vocabulary(run: Any, name: str, vocabulary: Vocabulary) -> None:
    """vocabularies/NAME.json, so that a model can be asked without its data."""
    with run.refusing():
        (run.path / "vocabularies").mkdir(exist_ok=True)
    vocabulary.save(run.path / "vocabularies" / f"{name}.json")


def kept_vocabulary(run: Any, name: str) -> Vocabulary:
    return load_vocabulary(run.path / "vocabularies" / f"{name}.json")


def _compiled(config: Config, recipe: Recipe) -> Callable:
    mesh = devices.mesh(config.devices) if config.devices > 1 else None
    how = dict(axes=recipe.axes, taps=recipe.taps, clip=config.clip, mesh=mesh)
    return train_step(recipe.loss, _optimiser(config), **how)


def _optimiser(config: Config) -> Any:
    warm = min(config.steps, math.ceil(config.warm_up * config.steps))
    rate = schedule(config.schedule, peak=config.learning_rate, steps=config.steps, warm_up=warm)
    return optimiser(config.optimiser, rate)


def _trained(
    config: Config, recipe: Recipe, step: Callable, seed: int, hashes: Mapping[str, str], run: Any, progress: Progress
) -> PyTree:
    """The parameters of the best validation."""
    part, said = recipe.part(seed), {**recipe.facts, "seed": seed}
    key = jax.random.key(seed)
    params = jax.jit(recipe.init)(key)
    state = init_state(params, _optimiser(config), key, recipe.carry(params))
    if config.devices > 1:
        state = devices.place(state, devices.mesh(config.devices))
    asked = dataclasses.asdict(config) | said | {"data": dict(hashes)}
    with (
        Checkpoints(run.path / "checkpoints" / part, asked, keep=1) as checkpoints,
        Events(run, part) as events,
    ):
        for seen in fit(
            step, state, recipe.batches, position=[seed, 0, 0], steps=config.steps,
            evaluate=lambda state: recipe.evaluate(jax.device_get(state.params)), evaluate_at=config.points,
            score=recipe.score, checkpoints=checkpoints, journal=events, describe=describe, stop=run.stop,
            progress=progress,
        ):  # fmt: skip
            match seen:
                case Step(number, metrics):
                    events.row("train", number, **said, **_numbers(metrics))
                    if metrics.norms is not None:
                        run.record(f"{part}_norms_{metrics.norms.joint.shape[-1]}", metrics.norms.joint)
                case Validation(number, result):
                    events.row("validation", number, **said, **result)
                case Final():
                    run.timing(**said, steps=config.steps, seconds=seen.seconds, waiting=seen.waiting)
        checkpoints.wait()
        chosen = checkpoints.best
    rows = [r for r in run.rows() if r["kind"] == "validation" and all(r.get(k) == v for k, v in said.items())]
    [found] = [row for row in rows if row["step"] == chosen]
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    run.metrics(**(found | {"kind": "chosen", "parameters": parameters}))
    return best(run, recipe.init, part)


def _numbers(metrics: Any) -> dict[str, Any]:
    ratios = {f"update_ratio_{name}": ratio for name, ratio in metrics.ratios.items()}
    return dict(
        loss=metrics.loss, gradient_norm=metrics.norm, clipped=bool(metrics.clipped), rate=metrics.rate,
        **metrics.aux, **ratios,
    )  # fmt: skip
