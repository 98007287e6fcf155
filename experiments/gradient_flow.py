"""Which cell forgets, how fast, and how do depth and time multiply the gradient?

Trains character language models (a stack of cells, total loss = the sum of the per-step losses) on real
English text and measures, at initialisation and all through training, the exact gradient norm at every
timestep and layer, for the loss of the last step and for the summed loss.

    python launch.py gradient_flow
    python launch.py gradient_flow --cell=gru,lstm --layers=5 --text=book.txt
    python launch.py gradient_flow --data=tiny_shakespeare --devices=2     # the batch over two host devices

Takes 5 to 7 minutes on two cores. Expect, at initialisation in the top layer, half-lives of about 2.5 steps for the
Elman network, the GRU and the LSTM with forget bias 0, and 10 for the LSTM with forget bias 1; and after training
fewer held-out bits per character than the bigram model (3.35) needs, for every cell.
"""

import dataclasses
import math
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _gradient_figure, _gradient_table
from experiments._gradient_programs import Programs, programs, windows
from rnnlab import cli, probes
from rnnlab.cells import CELLS, own
from rnnlab.data import text
from rnnlab.data.batches import State
from rnnlab.data.vocabularies import Vocabulary, characters
from rnnlab.errors import InputError
from rnnlab.models.ngrams import baselines
from rnnlab.progress import Progress
from rnnlab.train import devices
from rnnlab.train.checkpoints import Checkpoints
from rnnlab.train.events import Events
from rnnlab.train.fit import Final, Step, Validation, fit
from rnnlab.train.telemetry import describe

RESUMES = True
HELD_OUT = 0.1  # the last tenth of the text is never trained on


@dataclasses.dataclass(frozen=True)
class Config:
    cell: tuple[str, ...] = cli.flag(
        ("elman", "lstm_forget0", "lstm", "gru"), f"cells to compare: {', '.join(CELLS)}, or your own, FILE.py:FACTORY"
    )
    layers: int = cli.flag(3, "cells stacked, L", low=1)
    hidden: int = cli.flag(128, "hidden units of each layer, H; also the features of an embedded character", low=1)
    length: int = cli.flag(100, "characters in a training sequence, T", low=4)
    batch: int = cli.flag(16, "sequences in a training step, B", low=1)
    steps: int = cli.flag(250, "training steps", low=1)
    learning_rate: float = cli.flag(5e-3, "Adam's peak step size; warmed up over a tenth, then cosine to 0", low=0.0)
    clip: float = cli.flag(100.0, "largest global norm of the summed loss's gradient", low=0.0)
    measurements: int = cli.flag(7, "points in training, even in log steps, at which all norms are kept", low=1)
    examples: int = cli.flag(32, "held-out sequences over which log-norms are averaged", low=1)
    first_lag: int = cli.flag(0, "first lag of the decay fit; 0 means a twentieth of the length", low=0)
    last_lag: int = cli.flag(0, "last lag of the decay fit; 0 means six tenths of the length", low=0)
    scored: int = cli.flag(50_000, "held-out characters that are scored at the most", low=100)
    text: str = cli.flag("", "a UTF-8 file to train on; by default Python's own reference manual")
    data: str = cli.flag("", "a published data set to train on, its column text: tiny_shakespeare, tfds:NAME, ...")
    seeds: int = cli.flag(3, "runs of every cell, each with its own seed", low=1, high=1_000_000)
    seed: int = cli.flag(0, "the first seed", low=0, high=2_000_000_000)
    devices: int = cli.flag(1, "devices that the batch is split over; on a CPU, one a core or so", low=1)

    @property
    def lags(self) -> tuple[int, int]:
        """First and last lag of the decay fit."""
        return self.first_lag or self.length // 20, self.last_lag or round(0.6 * self.length)

    @property
    def points(self) -> list[int]:
        """The steps after which all norms are kept."""
        spread = np.geomspace(1, self.steps, self.measurements).round().astype(int)
        return sorted({0, self.steps, *spread.tolist()})


class Inputs(NamedTuple):
    """train, test: character ids [N]; the test part is the text's last tenth. own: the files of a reader's cells
    and their SHA-256."""

    source: text.Text
    vocabulary: Vocabulary
    train: np.ndarray
    test: np.ndarray
    own: dict[str, str]

    @property
    def hashes(self) -> dict[str, str]:
        return {self.source.name: self.source.sha256, **self.own}


def inputs(config: Config) -> Inputs:
    """The text, checked against the configuration."""
    first, last = config.lags
    if not first + 2 <= last < config.length:
        raise InputError(
            f"last_lag: expected at least 3 lags, first_lag = {first} < last_lag < length = {config.length}, got {last}"
        )
    if config.clip == 0:
        raise InputError("clip: expected a norm above 0, got 0")
    devices.check(config.devices)
    devices.check_rows(config.batch, config.devices, 1)
    own.check(config.cell)
    source = source_of(config)
    before, after = text.split(source.content, HELD_OUT)
    vocabulary = characters(before)
    train, test = vocabulary.encode(before), vocabulary.encode(after)
    needed = max((config.length + 2) / HELD_OUT, (config.batch * config.length + 2) / (1 - HELD_OUT))
    # In normal form a text may have fewer characters than it had.
    if len(train) + len(test) < needed or len(test) < config.length + 2:
        raise InputError(
            f"text: expected at least {math.ceil(needed)} characters for length={config.length} and "
            f"batch={config.batch} with a tenth held out, got {len(train) + len(test)} in {source.name}"
        )
    return Inputs(source, vocabulary, train, test, own.sources(config.cell))


def source_of(config: Config) -> text.Text:
    if config.text and config.data:
        raise InputError(f"text: expected a file or a data set, got both, {config.text} and data={config.data}")
    if config.data:
        return text.published(config.data)
    return text.read(config.text) if config.text else text.python_reference()


def run(config: Config, given: Inputs, run) -> None:
    """Rows: baselines, then for every cell and seed one a training step, one a validation and fit, one a score."""
    if not run.has("data"):
        with run.part("data"):
            run.metrics(kind="data", **_baselines(config, given))
    jobs = [
        (cell, config.seed + n, part_of(cell, config.seed + n)) for cell in config.cell for n in range(config.seeds)
    ]
    with Progress(len(jobs) * config.steps, "gradient_flow") as progress:
        for cell in config.cell:
            left = [(seed, part) for one, seed, part in jobs if one == cell and not run.has(part)]
            progress.skip((config.seeds - len(left)) * config.steps)
            compiled = programs(config, given, cell) if left else None
            for seed, part in left:
                progress.note(cell=cell, seed=seed)
                with run.part(part):
                    one_run(config, given, compiled, cell, seed, run, progress)


def part_of(cell: str, seed: int) -> str:
    """What a cell's run with one seed is called: its checkpoints, series and events."""
    return f"{own.label(cell)}_seed{seed}"


def _baselines(config: Config, given: Inputs) -> dict[str, Any]:
    grams = baselines(given.train, given.test[: config.scored + 1], given.vocabulary.size)
    return dict(
        name=given.source.name, data=given.source.origin, characters=len(given.train) + len(given.test),
        vocabulary=given.vocabulary.size, held_out=len(given.test), scored=min(config.scored, len(given.test) - 1),
        unigram=grams.unigram, bigram=grams.bigram,
    )  # fmt: skip


def one_run(config: Config, given: Inputs, compiled: Programs, cell: str, seed: int, run, progress: Progress) -> None:
    """Trains one cell with one seed; keeps every step's profile of the summed loss, and both losses' at the points."""
    part, state = part_of(cell, seed), compiled.init(seed)
    asked = dataclasses.asdict(config) | {"cell": cell, "seed": seed, "data": given.hashes}
    of_state = sizes(state.params)

    def evaluate(state) -> dict[str, Any]:
        params = jax.device_get(state.params)  # whole on every device: once is enough
        return jax.device_get({"loss": compiled.score(params), "profiles": compiled.measure(params)})

    with (
        Checkpoints(run.path / "checkpoints" / part, asked, keep=2) as checkpoints,
        Events(run, part) as events,
    ):
        for seen in fit(
            compiled.step, state, windows(given.train, config.length, config.batch), position=State(seed, 0, 0),
            steps=config.steps, evaluate=evaluate, evaluate_at=config.points, checkpoints=checkpoints, journal=events,
            describe=describe, stop=run.stop, progress=progress,
        ):  # fmt: skip
            match seen:
                case Step(step, metrics):
                    events.row("train", step, cell=cell, seed=seed, **said_of(metrics, config.length))
                    run.record(f"{part}_train_sum", metrics.norms.joint)
                case Validation(step, found):
                    bits = float(found["loss"])
                    events.row("validation", step, cell=cell, seed=seed, bits=bits)
                    keep_profiles(part, found["profiles"], run)
                    for row in decays(config, found["profiles"]["last"].mean):
                        run.metrics(kind="decay", cell=cell, seed=seed, step=step, **row)
                case Final():
                    run.timing(cell=cell, seed=seed, steps=config.steps, seconds=seen.seconds, waiting=seen.waiting)
        run.metrics(kind="score", cell=cell, seed=seed, bits=bits, **of_state)


def sizes(params: Any) -> dict[str, int]:
    """Numbers of parameters, of the whole model and of the stack."""
    count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    return dict(parameters=count(params), stack_parameters=count(params.stack))


def said_of(metrics: Any, length: int) -> dict[str, Any]:
    """A training step's row."""
    ratios = {f"update_ratio_{name}": ratio for name, ratio in metrics.ratios.items()}
    return dict(
        bits=metrics.loss / (length * math.log(2)), gradient_norm=metrics.norm, clipped_norm=metrics.clipped_norm,
        clipped=bool(metrics.clipped), rate=metrics.rate, **ratios,
    )  # fmt: skip


def keep_profiles(part: str, profiles: dict[str, Any], run) -> None:
    for loss, one in profiles.items():
        for field in ("mean", "low", "high"):
            run.record(f"{part}_{loss}_{field}", getattr(one, field))
        for leaf, mean in one.parts.items():
            run.record(f"{part}_{loss}_d{leaf}", mean)


def decays(config: Config, mean: np.ndarray) -> list[dict[str, Any]]:
    """The decay fit of every layer; mean: log-norms [L, T] of the last step's loss."""
    fit = jax.device_get(probes.fit_decay(jnp.asarray(mean), *config.lags))._asdict()
    fit["lags"] = fit.pop("count")
    return [
        {"layer": layer + 1} | {name: field[layer] for name, field in fit.items()} for layer in range(config.layers)
    ]


def table(run) -> str:
    """One line a cell and layer, over seeds; then what the numbers are."""
    return _gradient_table.table(Config(**run.config), run)


def figure(run):
    """Decay over lag with fits; time x depth; the profile as training goes; learning curves."""
    return _gradient_figure.figure(Config(**run.config), run)


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
