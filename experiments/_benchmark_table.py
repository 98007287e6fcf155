"""The table of a benchmark of memory, from its stored rows."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from rnnlab import report

HEADER = ("cell", "initialisation", "gate bias", "parameters", "gamma", "half-life", "log10 ratio")


def table(config: Any, run, said: Sequence[str]) -> str:
    """One line a variant, over seeds; then what the numbers are, and `said`."""
    rows = run.rows()
    [task] = [row for row in rows if row["kind"] == "task"]
    beyond = [length for length in config.lengths_tested if length > config.length][:2]
    header = [*HEADER, task["unit"], *([] if is_number(task) else ["accuracy"]), *(f"at {length}" for length in beyond)]
    lines = [line(config, task, rows, variant, beyond) for variant in variants_of(rows)]
    return report.table(header, lines) + "\n\n" + notes(config, run, rows, task, said)


def line(config: Any, task: dict[str, Any], rows: list[dict], variant: str, beyond: list[int]) -> list[str]:
    first = rows_of(rows, variant, kind="validation", step=0)
    tests = {length: rows_of(rows, variant, kind="test", length=length) for length in config.lengths_tested}
    here = tests.get(config.length) or tests[config.lengths_tested[0]]
    shown, most = ("loss", math.inf) if is_number(task) else ("accuracy", 1)
    told = lambda rows, what, high: report.interval([row[what] for row in rows], 3, low=0, high=high)  # noqa: E731
    return [
        here[0]["cell"],
        here[0]["initialisation"],
        "own" if here[0]["bias"] is None else f"{here[0]['bias']:g}",
        f"{here[0]['parameters']:,}",
        report.spread([row["gamma"] for row in first], 3),
        report.spread([row["half_life"] for row in first], 1),
        report.spread([row["log_ratio"] / math.log(10) for row in first], 1),
        told(here, "loss", math.inf),
        *([] if is_number(task) else [told(here, "accuracy", 1)]),
        *(told(tests[length], shown, most) for length in beyond),
    ]


def notes(config: Any, run, rows: list[dict], task: dict[str, Any], said: Sequence[str]) -> str:
    skipped = sum(row["kind"] == "skipped" for row in rows)
    first, last = task["fit"]
    tested = max(row["examples"] for row in rows if row["kind"] == "test")
    guess = "" if is_number(task) else f", accuracy {task['guess']:.3f}"
    how = "" if config.curriculum == "none" else f" Curriculum: {config.curriculum}, from length {config.first_length}."
    said_of = [
        f"chance: {task['chance']:.4f} {task['unit']}{guess} at length {config.length}; computed, of the best answer "
        "that is blind to the input.",
        f"test: {tested:,} examples a length that were never trained on, by the last parameters, each looked at once; "
        f"mean over {seeds_of(config)} and its 95 % interval (Student's t over the seeds). at N: the same at length N, "
        f"trained at {config.length}.",
        "gamma, half-life (steps): fit of ln ||dL/dcarry_t|| at initialisation, top layer, L the loss of the last step "
        f"asked, at lags {first} to {last}, mean over 32 validation examples; ratio: of the first step's norm to the "
        "last's, by the log-domain adjoint. ±: standard deviation over the seeds. series/ has the norms of every "
        "training step, from taps.",
        f"training: {config.steps:,} steps of {config.batch} examples of {task['steps']} steps, {config.optimiser} at "
        f"{config.learning_rate:g}, clipped at {config.clip:g}; {config.layers} layer(s)"
        f"{', bidirectional' if config.bidirectional else ''} of {config.hidden} units.{how}"
        + (f" {skipped} steps were not finite and changed nothing." if skipped else ""),
        f"data: {task['origin']}. machine: {report.machine(run.provenance)}; float32.",
        *said,
    ]
    return "\n".join(textwrap.fill(one, 118) for one in said_of)


def variants_of(rows: list[dict]) -> list[str]:
    """In the order of their runs."""
    return list(dict.fromkeys(row["variant"] for row in rows if row["kind"] == "test"))


def rows_of(rows: list[dict], variant: str, **wanted: Any) -> list[dict]:
    wanted |= {"variant": variant}
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]


def is_number(task: dict[str, Any]) -> bool:
    """Whether the answer is a number, so that there is no accuracy."""
    return task["guess"] is None


def seeds_of(config: Any) -> str:
    last = config.seed + config.seeds - 1
    return f"seed {config.seed}" if config.seeds == 1 else f"seeds {config.seed} to {last}"
