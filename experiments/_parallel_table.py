"""The table of `parallel_in_time`, from its stored rows."""

import statistics
import textwrap
from typing import Any, NamedTuple

from rnnlab import report
from rnnlab.timing import Ratio, ratio

SCAN = "scan"


class Line(NamedTuple):
    """A cell, T and engine. rows: stored, one a seed. time: of a training step, over the scan's."""

    cell: str
    length: int
    engine: str
    rows: list[dict[str, Any]]
    seconds: float
    time: Ratio
    temporary: int


def lines_of(run) -> list[Line]:
    """In the order of the flags: cell, T, engine."""
    lines, rows = [], [row for row in run.rows() if row["kind"] == "length"]
    timings = [row for row in run.rows("timings") if row["kind"] == "length"]
    timed = {(row["cell"], row["T"], row["engine"]): row for row in timings}
    for (cell, length, engine), row in timed.items():
        alike = [r for r in rows if (r["cell"], r["T"], r["engine"]) == (cell, length, engine)]
        over = ratio(timed[cell, length, SCAN]["seconds"], row["seconds"])
        lines.append(Line(cell, length, engine, alike, statistics.median(row["seconds"]), over, row["temporary"]))
    return lines


class Cost(NamedTuple):
    """Of an engine and one network, by its exponent: a training step's time over the scan's."""

    engine: str
    exponent: float
    time: Ratio


def costs(run) -> list[Cost]:
    rows = [row for row in run.rows("timings") if row["kind"] == "gain"]
    gains = [row for row in run.rows() if row["kind"] == "gain" and row["seed"] == run.config["seed"]]
    exponents = {(row["gain"], row["T"]): row["exponent"] for row in gains}
    scans = {row["gain"]: row["seconds"] for row in rows if row["engine"] == SCAN}
    return [
        Cost(row["engine"], exponents[row["gain"], row["T"]], ratio(scans[row["gain"]], row["seconds"]))
        for row in rows
        if row["engine"] != SCAN
    ]


class Boundary(NamedTuple):
    """Of an engine at one T. last: the largest exponent below which every network converged; first: the smallest one at
    which one did not; None where there was none."""

    engine: str
    length: int
    last: float | None
    first: float | None


def boundaries(run) -> list[Boundary]:
    rows = [row for row in run.rows() if row["kind"] == "gain"]
    found = []
    for engine, length in dict.fromkeys((row["engine"], row["T"]) for row in rows):
        alike = [row for row in rows if (row["engine"], row["T"]) == (engine, length)]
        first = min((row["exponent"] for row in alike if row["converged"] < 1), default=None)
        below = [row["exponent"] for row in alike if first is None or row["exponent"] < first]
        found.append(Boundary(engine, length, max(below, default=None), first))
    return found


def table(run) -> str:
    header = ["cell", "T", "engine", "iterations", "converged", "largest error", "us/step", "time", "95 %", "MiB"]
    rows = [_cells(line) for line in lines_of(run)]
    edges = [
        [one.engine, str(one.length), *("-" if e is None else f"{e:+.3f}" for e in (one.last, one.first))]
        for one in boundaries(run)
    ]
    second = report.table(["engine", "T", "all converge up to", "first that does not"], edges)
    return "\n\n".join([report.table(header, rows), second, notes(run)])


def _cells(line: Line) -> list[str]:
    newton = line.rows[0]["iterations"] > 0
    return [
        line.cell,
        str(line.length),
        line.engine,
        report.spread([float(row["iterations"]) for row in line.rows], 1) if newton else "-",
        f"{100 * sum(row['converged'] for row in line.rows) / len(line.rows):.0f} %" if newton else "-",
        f"{max(row['error'] for row in line.rows):.1e}",
        f"{1e6 * line.seconds / line.length:.2f}",
        f"{line.time.median:.2f}",
        f"{line.time.low:.2f}-{line.time.high:.2f}",
        f"{line.temporary / 2**20:.1f}",
    ]


def notes(run) -> str:
    config = run.config
    last = config["seed"] + config["seeds"] - 1
    seeds = f"seed {config['seed']}" if config["seeds"] == 1 else f"seeds {config['seed']} to {last}"
    said = [
        "engine: scan is step after step, fused the same with hand-written derivatives; full and quasi are Newton's "
        "method with whole Jacobians and with their diagonals; associative is for cells affine in their carry.",
        f"iterations: mean ± standard deviation over {seeds}, at most {config['max_iterations']}; where it has not "
        "converged the carries are the exact scan's. largest error: of any carry, against the scan.",
        f"us/step: of a training step (mean output, gradients of the parameters) over T, seed {config['seed']}, the "
        "median of rounds in turns; time: over the scan's, with its bootstrap interval; MiB: the step's temporaries.",
        f"H={config['hidden']}, D={config['dim']}, B={config['batch']}, at initialisation. Below: Elman networks of "
        f"{config['gain_hidden']} units, U of N(0, gain^2/H), by their largest Lyapunov exponent (nats a step), "
        f"{len(config['gains'])} gains, {seeds}. data: generated, N(0, 1), below N(0, {config['gain_inputs']:g}^2).",
        f"machine: {report.machine(run.provenance)}; float32.",
    ]  # fmt: skip
    return "\n".join(textwrap.fill(one, 118) for one in said)
