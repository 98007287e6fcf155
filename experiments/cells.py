"""What does each cell carry, cost and remember?

Measures, for every cell of rnnlab: the numbers in its parameters and its carry; whether its step is linear in the
carry, and whether it keeps the units apart; the time of a training step; how fast its gradient decays with lag at
initialisation; and the decay that its formula promises with all matrices 0, beside the same by autodiff.

    python launch.py cells
    python launch.py cells --cell=lstm,gru --hidden=128 --length=400

Takes 2 to 5 minutes on two cores, most of it compilation. Expect LRU, S5, minGRU, minLSTM, RG-LRU and QRNN to be linear
and, with SRU, IndRNN, ParaGRU and ParaLSTM, diagonal, and the others sequential; half-lives of about 1.5 steps for the
Elman network and the GRU, 3.6 for the LSTM, 13.5 for the SCRN, 200 and more for the IRNN, and none for the LSTM of 1997
and the orthogonal and unitary cells; and closed forms that agree with autodiff in all digits shown.
"""

import dataclasses
import math
import sys
import textwrap
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import _cells_figure
from experiments._cells_measure import (
    CLOSED,
    SMALL,
    decay,
    half_life,
    made,
    own_decay,
    sizes,
    structure,
    training_step,
    words,
)
from rnnlab import cli, report
from rnnlab.cells import CELLS, IMAGE_CELLS, own
from rnnlab.errors import InputError
from rnnlab.progress import Progress
from rnnlab.timing import Ratio, in_turns, ratio

NAMES = (*CELLS, *IMAGE_CELLS)
REFERENCE = "elman"  # whose time is 1


@dataclasses.dataclass(frozen=True)
class Config:
    cell: tuple[str, ...] = cli.flag(NAMES, f"cells to measure: {', '.join(NAMES)}, or FILE.py:FACTORY")
    hidden: int = cli.flag(64, "hidden units, H; those of a cell of images are spread over its pixels", low=1)
    dim: int = cli.flag(16, "inputs, D; spread over the pixels likewise", low=1)
    rows: int = cli.flag(4, "pixels of an image in a column, and ...", low=1)
    columns: int = cli.flag(4, "... in a row, for cells of images", low=1)
    batch: int = cli.flag(16, "sequences, B", low=1)
    length: int = cli.flag(200, "steps, T", low=4)
    first_lag: int = cli.flag(5, "first lag of the decay fit", low=0)
    last_lag: int = cli.flag(60, "last lag of the decay fit", low=2)
    seconds: float = cli.flag(5.0, "seconds of timing, and ...", low=0.0)
    rounds: int = cli.flag(10, "... rounds of it at the least, each cell once a round", low=1)
    seeds: int = cli.flag(3, "networks whose decay is measured, each with its own seed", low=1, high=1_000_000)
    seed: int = cli.flag(0, "the first seed", low=0, high=2_000_000_000)

    @property
    def image(self) -> tuple[int, int]:
        return self.rows, self.columns


class Inputs(NamedTuple):
    """Inputs are generated from the seed, which is part of the configuration; read are a reader's own cells alone."""

    hashes: dict[str, str]


def inputs(config: Config) -> Inputs:
    """Checks what the flags cannot."""
    if not config.first_lag + 2 <= config.last_lag < config.length:
        raise InputError(
            f"last_lag: expected at least 3 lags, first_lag = {config.first_lag} < last_lag < "
            f"length = {config.length}, got {config.last_lag}"
        )
    own.check(name for name in config.cell if name not in IMAGE_CELLS)
    if len(set(config.cell)) < len(config.cell):
        raise InputError(f"cell: expected every cell once, got {','.join(config.cell)}")
    return Inputs(own.sources(config.cell))


def run(config: Config, given: Inputs, run) -> None:
    """Rows: for every cell its size and structure, then one a seed with its decay; timings all in turns at the end."""
    timed = list(dict.fromkeys((REFERENCE, *config.cell)))
    with Progress(len(config.cell) + len(timed), "cells") as progress:
        for name in config.cell:
            progress.note(cell=name)
            one_cell(config, name, run)
            progress.step()
        steps = {}
        for name in timed:
            progress.note(cell=name)
            one = made(name, config.hidden, config.dim, *config.image)
            steps[name] = training_step(one, (config.length, config.batch), config.seed)
            jax.block_until_ready(steps[name]())  # compiled here, where it counts as progress
            progress.step()
        for name, seconds in in_turns(steps, seconds=config.seconds, least=config.rounds).items():
            run.timing(kind="step", cell=name, seconds=seconds)


def one_cell(config: Config, name: str, run) -> None:
    small, one = (made(name, units, config.dim, *config.image) for units in (SMALL, config.hidden))
    found = structure(small.cell, small.event, config.seed)
    run.metrics(
        kind="cell", cell=name, **sizes(one), **found, structure=words(found), closed=CLOSED.get(name),
        autodiff=own_decay(small.cell, small.event, config.seed),
    )  # fmt: skip
    fitted = decay(one, (config.length, config.batch), (config.first_lag, config.last_lag))
    for seed in range(config.seed, config.seed + config.seeds):
        fit = fitted(seed)
        run.metrics(kind="decay", cell=name, seed=seed, half_life=half_life(fit["gamma"]), **fit)


# What is shown: from stored rows alone.


class Line(NamedTuple):
    """What is known of a cell. facts: its stored row. decays: rows, one a seed. time: over the reference's."""

    cell: str
    facts: dict[str, Any]
    decays: list[dict[str, Any]]
    time: Ratio
    seconds: float

    @property
    def parameters(self) -> float:
        """A hidden unit."""
        return self.facts["parameters"] / self.facts["units"]

    @property
    def half_lives(self) -> list[float]:
        return [row["half_life"] for row in self.decays]

    @property
    def closed(self) -> float | None:
        """Half-life of the closed form, where there is one."""
        return None if self.facts["closed"] is None else half_life(self.facts["closed"])


def lines_of(run) -> list[Line]:
    """A line a cell, what remembers longest first; what has no half-life last."""
    rows, lines = run.rows(), []
    seconds = {row["cell"]: row["seconds"] for row in run.rows("timings")}
    for name in run.config["cell"]:
        [facts] = [row for row in rows if row["kind"] == "cell" and row["cell"] == name]
        decays = [row for row in rows if row["kind"] == "decay" and row["cell"] == name]
        over = ratio(seconds[REFERENCE], seconds[name])
        lines.append(Line(own.label(name), facts, decays, over, float(np.median(seconds[name]))))
    return sorted(lines, key=_rank, reverse=True)


def _rank(line: Line) -> tuple[float, float]:
    """By half-life, and among those that never fade by gamma."""
    found, gamma = (float(np.mean(values)) for values in (line.half_lives, [row["gamma"] for row in line.decays]))
    return (-math.inf, 0.0) if math.isnan(found) else (found, gamma)


def table(run) -> str:
    """One line a cell; then what the numbers are."""
    header = [
        "cell", "kind", "parameters", "carry", "us/step", "time", "95 %", "gamma", "half-life", "R^2",
        "closed form", "autodiff", "half-life",
    ]  # fmt: skip
    return report.table(header, [_cells(line, run.config["length"]) for line in lines_of(run)]) + "\n\n" + notes(run)


def _cells(line: Line, length: int) -> list[str]:
    facts, closed = line.facts, line.facts["closed"]
    return [
        line.cell,
        facts["structure"],
        f"{line.parameters:.1f}",
        f"{facts['carry'] / facts['units']:.2f}",
        f"{1e6 * line.seconds / length:.1f}",
        f"{line.time.median:.2f}",
        f"{line.time.low:.2f}-{line.time.high:.2f}",
        report.spread([row["gamma"] for row in line.decays], 3),
        shown(line.half_lives),
        f"{min(row['r2'] for row in line.decays):.3f}",
        "-" if closed is None else f"{closed:.5f}",
        f"{facts['autodiff']:.5f}",
        "-" if closed is None else shown([line.closed]),
    ]


def shown(half_lives: list[float]) -> str:
    """Mean and standard deviation; one seed that never fades makes the mean infinite."""
    if any(map(math.isnan, half_lives)):
        return "-"
    return "never fades" if math.inf in half_lives else report.spread(half_lives, 1)


def notes(run) -> str:
    config = Config(**run.config)
    last = config.seed + config.seeds - 1
    seeds = f"seed {config.seed}" if config.seeds == 1 else f"seeds {config.seed} to {last}"
    images = [name for name in config.cell if name in IMAGE_CELLS]
    said = [
        "parameters, carry: numbers a hidden unit (carry: of one row).",
        f"kind: measured on {SMALL} units (of images: whole channels) at random parameters; linear: the step is affine "
        "in the carry; diagonal: it couples no two units; sequential: neither.",
        "us/step: of a training step (mean output, gradients of the parameters) over T, the median of rounds in turns; "
        f"time: over {REFERENCE}'s, with its bootstrap interval.",
        f"gamma, half-life (steps): fit of ln ||dL/dcarry_t|| at initialisation, L a random projection of the last "
        f"output, at lags {config.first_lag} to {config.last_lag}; longer half-lives are extrapolated, and at gamma "
        f">= 1 it never fades. ±: standard deviation over {seeds}; R^2: the worst of them.",
        "closed form: the carry's own decay a step with all matrices 0 (-: it keeps nothing of its own, or none is "
        "known); autodiff: the same from products of step Jacobians.",
        *([f"{', '.join(images)}: images of {config.rows}x{config.columns} pixels, the units and inputs spread over "
           "them, channels rounded up."] if images else []),
        f"H={config.hidden}, D={config.dim}, T={config.length}, B={config.batch}. data: generated, N(0, 1), {seeds}.",
        f"machine: {report.machine(run.provenance)}; float32.",
    ]  # fmt: skip
    return "\n".join(textwrap.fill(one, 118) for one in said)


def figure(run):
    return _cells_figure.figure(run, lines_of(run), REFERENCE)


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
