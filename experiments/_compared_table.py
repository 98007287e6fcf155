"""The table of `cells_compared`, and the numbers that its figure shares, from its stored rows."""

import math
import textwrap
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from rnnlab import report

FLOOR = -38.0  # log10 of the smallest float32: a ratio of 0 is ranked there


class Compared(NamedTuple):
    """Of one task, cell by cell: means over seeds. ratio: log10 of the gradient's norm at the first step over that at
    the last, before training. learned: the share of the chance loss that is gone, 1 - loss / chance; 0 at chance."""

    cells: list[str]
    ratio: np.ndarray
    learned: np.ndarray


class Rank(NamedTuple):
    """Spearman's rank correlation over cells, and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def compared(rows: list[dict[str, Any]], task: str) -> Compared:
    mine = [row for row in rows if row["kind"] == "compared" and row["task"] == task]
    cells = list(dict.fromkeys(row["cell"] for row in mine))
    ratio = [np.mean([log10_ratio(row) for row in mine if row["cell"] == cell]) for cell in cells]
    learned = [np.mean([learned_by(row) for row in mine if row["cell"] == cell]) for cell in cells]
    return Compared(cells, np.array(ratio), np.array(learned))


def log10_ratio(row: dict[str, Any]) -> float:
    found = row["log_ratio"] / math.log(10)
    return found if math.isfinite(found) else FLOOR


def learned_by(row: dict[str, Any]) -> float:
    return 1 - row["loss"] / row["chance"]


def rank(found: Compared, resamples: int) -> Rank:
    """The interval is over cells, drawn anew with replacement, always by the same draws."""
    random = np.random.default_rng(0)
    value = stats.spearmanr(found.ratio, found.learned).statistic
    drawn = random.integers(0, len(found.cells), (resamples, len(found.cells)))
    ratio, learned = (stats.rankdata(one[drawn], axis=1) for one in (found.ratio, found.learned))
    ratio, learned = (one - one.mean(1, keepdims=True) for one in (ratio, learned))
    with np.errstate(invalid="ignore"):  # a sample of one cell alone has no ranks
        values = (ratio * learned).sum(1) / np.sqrt((ratio**2).sum(1) * (learned**2).sum(1))
    return Rank(float(value), *(float(q) for q in np.nanquantile(values, (0.025, 0.975))))


def table(config: Any, run) -> str:
    """One line a cell, in the order of what was learned over all tasks; then the rank correlations."""
    rows = run.rows()
    tasks = list(config.task)
    of_task = {task: compared(rows, task) for task in tasks}
    mean = np.mean([found.learned for found in of_task.values()], axis=0)
    header = ["cell", "parameters"]
    for task in tasks:
        header += [f"{task}: log10 ratio", "gamma", "learned"]
    lines = [line(rows, tasks, cell) for cell in np.array(of_task[tasks[0]].cells)[np.argsort(-mean)]]
    return report.table(header, lines) + "\n\n" + notes(config, run, rows, of_task)


def line(rows: list[dict], tasks: list[str], cell: str) -> list[str]:
    cells = [str(cell), ""]
    for task in tasks:
        mine = [r for r in rows if r["kind"] == "compared" and r["task"] == task and r["cell"] == cell]
        cells[1] = f"{mine[0]['parameters']:,}"
        cells += [
            report.spread([log10_ratio(row) for row in mine], 1),
            report.spread([row["gamma"] for row in mine], 3),
            report.spread([learned_by(row) for row in mine], 2),
        ]
    return cells


def notes(config: Any, run, rows: list[dict], of_task: dict[str, Compared]) -> str:
    last = config.seed + config.seeds - 1
    seeds = f"seed {config.seed}" if config.seeds == 1 else f"seeds {config.seed} to {last}"
    chance = {row["task"]: row["chance"] for row in rows if row["kind"] == "compared"}
    steps = {row["task"]: row["steps"] for row in rows if row["kind"] == "compared"}
    said = []
    for task, found in of_task.items():
        over = rank(found, config.resamples)
        said.append(
            f"{task}: Spearman's rank correlation of ratio and learned over {len(found.cells)} cells {over.value:.2f}, "
            f"95 % of {config.resamples:,} bootstrap samples of the cells {over.low:.2f} to {over.high:.2f} "
            f"(length {config.lengths[task]}, {steps[task]} steps, chance {chance[task]:.4f})."
        )
    said += [
        "ratio: of ||dL/dcarry_t|| at the first step to that at the last, before training, L the loss of the last "
        "step asked, mean of logarithms over 32 validation examples; gamma: of its fit, a step. learned: 1 - loss / "
        f"chance on 1,000 test examples, 0 at chance; can be negative. ±: standard deviation over {seeds}.",
        f"training: {config.steps:,} steps of {config.batch} examples, Adam at {config.learning_rate:g}, clipped at "
        f"{config.clip:g}, {config.hidden} units, every cell as its factory makes it: one setting for all cells, tuned "
        "for none, so that a cell that learns nothing here may learn elsewhere.",
        f"data: generated. machine: {report.machine(run.provenance)}; float32.",
    ]
    return "\n".join(textwrap.fill(one, 118) for one in said)
