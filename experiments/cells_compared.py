"""Does the gradient at initialisation foretell which cell learns to remember?

Trains every cell on copying, adding and agreement, each as its factory makes it, and sets beside what was learned how
far the gradient had faded before training: the ratio of its norm at the first step of a sequence to that at the last, L
the loss of the last step that is asked. Then the rank correlation of the two over the cells, task by task.

    python launch.py cells_compared
    python launch.py cells_compared --cell=lstm,lstm_forget0,gru --hidden=64 --steps=1250

Every cell and task is a run of that task's experiment in a folder below RUN/grid/: interrupted and started again, what
is done is not done again; `python launch.py figure RUN/grid/*` draws each. All cells and tasks are 117 runs; 40 to 60
minutes on two cores by an estimate, half of it compilation. --cell and --task take fewer.
"""

import dataclasses
import sys
from typing import Any, NamedTuple

from experiments import _benchmark, _compared_figure, _compared_table, adding, agreement, copy_memory
from experiments._grid import check, child
from rnnlab import cli
from rnnlab.cells import CELLS, own
from rnnlab.errors import InputError
from rnnlab.progress import Progress

TASKS = {"copy_memory": copy_memory, "adding": adding, "agreement": agreement}
RESUMES = True


@dataclasses.dataclass(frozen=True)
class Config:
    cell: tuple[str, ...] = cli.flag(tuple(CELLS), f"cells to compare: {', '.join(CELLS)}, or FILE.py:FACTORY")
    task: tuple[str, ...] = cli.flag(tuple(TASKS), "what they learn", choices=tuple(TASKS))
    copy_length: int = cli.flag(10, "steps of silence in copying", low=1)
    adding_length: int = cli.flag(40, "steps of an addition", low=2)
    agreement_length: int = cli.flag(40, "distractors of a sentence", low=1)
    hidden: int = cli.flag(32, "hidden units, H", low=1)
    batch: int = cli.flag(32, "examples in a training step, B", low=1)
    steps: int = cli.flag(1000, "training steps", low=1)
    learning_rate: float = cli.flag(3e-3, "Adam's step size", low=0.0)
    clip: float = cli.flag(1.0, "largest global norm of the gradient of the mean loss", low=0.0)
    resamples: int = cli.flag(2000, "bootstrap samples of the cells, for the interval of the rank correlation", low=100)
    seeds: int = cli.flag(3, "runs of every cell and task, each with its own seed", low=1, high=1000)
    seed: int = cli.flag(0, "the first seed", low=0, high=2_000_000_000)

    @property
    def lengths(self) -> dict[str, int]:
        return dict(copy_memory=self.copy_length, adding=self.adding_length, agreement=self.agreement_length)


class Inputs(NamedTuple):
    """Read are a reader's own cells alone."""

    hashes: dict[str, str]


def of_task(config: Config, task: str, cell: str) -> _benchmark.Config:
    """The configuration of one cell's run of a task's experiment."""
    length = config.lengths[task]
    return TASKS[task].Config(
        cell=(cell,), initialisation=("own",), gate_bias=(), hidden=config.hidden, length=length, test_length=(length,),
        batch=config.batch, steps=config.steps, optimiser="adam", learning_rate=config.learning_rate, clip=config.clip,
        measurements=2, seeds=config.seeds, seed=config.seed,
    )  # fmt: skip


def inputs(config: Config) -> Inputs:
    """Checks what the flags cannot."""
    own.check(config.cell)
    if len(set(config.cell)) < 3:
        raise InputError(f"cell: expected at least 3 cells to rank, got {','.join(config.cell)}")
    for task in config.task:
        check(TASKS[task], of_task(config, task, config.cell[0]))
    return Inputs(own.sources(config.cell))


def run(config: Config, given: Inputs, run) -> None:
    """Rows: of every task its chance, and of every cell and seed its decay at initialisation and its test."""
    if not run.has("grid"):
        with run.part("grid"):
            run.metrics(kind="grid", cells=[own.label(cell) for cell in config.cell], tasks=list(config.task))
    with Progress(len(config.task) * len(config.cell), "cells_compared") as progress:
        for task in config.task:
            for cell in config.cell:
                label = f"{task}-{own.label(cell)}"
                progress.note(run=label)
                if not run.has(label):
                    found = child(run, TASKS[task], of_task(config, task, cell), label)
                    with run.part(label):
                        keep(run, task, found.rows())
                progress.step()


def keep(run, task: str, rows: list[dict[str, Any]]) -> None:
    """What is compared of one cell's run of a task."""
    [facts] = [row for row in rows if row["kind"] == "task"]
    for test in (row for row in rows if row["kind"] == "test"):
        [first] = [r for r in rows if r["kind"] == "validation" and r["step"] == 0 and r["seed"] == test["seed"]]
        run.metrics(
            kind="compared", task=task, cell=test["cell"], seed=test["seed"], log_ratio=first["log_ratio"],
            gamma=first["gamma"], r2=first["r2"], loss=test["loss"], accuracy=test["accuracy"], chance=facts["chance"],
            parameters=test["parameters"], steps=facts["steps"],
        )  # fmt: skip


def table(run) -> str:
    return _compared_table.table(Config(**run.config), run)


def figure(run):
    return _compared_figure.figure(Config(**run.config), run)


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
