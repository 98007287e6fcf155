"""The table of `closed_forms`, from its stored rows."""

import math
import textwrap
from typing import Any, NamedTuple

from rnnlab import report
from rnnlab.probes.specs import SPECS

WIDTH = 118


class Line(NamedTuple):
    """A checked number. worst: its stored row, of all seeds the one that is furthest off. seeds: how many hold."""

    worst: dict[str, Any]
    count: int
    holding: int

    @property
    def holds(self) -> bool:
        return self.holding == self.count


def excess(row: dict[str, Any]) -> float:
    """The error in tolerances: at most 1 where it holds. With no tolerance 0 or infinite; of NaN infinite."""
    if not row["error"] <= row["tolerance"]:
        return row["error"] / row["tolerance"] if row["tolerance"] and row["error"] < math.inf else math.inf
    return row["error"] / row["tolerance"] if row["tolerance"] else 0.0


def rows_of(run) -> list[dict[str, Any]]:
    """In the order of the specification, whatever the order of their measurement."""
    order = list(SPECS)
    return sorted(run.rows(), key=lambda row: order.index(row["row"]))


def lines_of(rows: list[dict[str, Any]]) -> list[Line]:
    groups: dict[tuple, list] = {}
    for row in rows:
        groups.setdefault((row["row"], row["what"], row["setting"]), []).append(row)
    return [Line(max(group, key=excess), len(group), sum(row["holds"] for row in group)) for group in groups.values()]


def table(run) -> str:
    rows = rows_of(run)
    lines, header = lines_of(rows), ["row", "what", "setting", "expected", "measured", "error", "tolerance", "holds"]
    cells, before = [], None
    for line in lines:
        cells.append(_cells(line, line.worst["row"] != before))
        before = line.worst["row"]
    # Words are set left, in columns of their own width.
    for column in (1, 2):
        width = max(len(one[column]) for one in [header, *cells])
        for one in (header, *cells):
            one[column] = one[column].ljust(width)
    return "\n\n".join([report.table(header, cells), summary(rows, lines), notes(run)])


def _cells(line: Line, first: bool) -> list[str]:
    row = line.worst
    relation = "" if row["relation"] == "=" else f"{row['relation']} "
    return [
        row["row"] if first else "",
        row["what"],
        row["setting"],
        relation + number(row["expected"]),
        number(row["measured"]),
        f"{row['error']:.1e}" if row["error"] else "0",
        f"{row['tolerance']:.2g}",
        ("yes" if line.holds else "NO") + (f" {line.holding}/{line.count}" if line.count > 1 else ""),
    ]


def number(value: float) -> str:
    """Six digits; what is only distance is 0 or a power of ten."""
    return f"{value:.6g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


def summary(rows: list[dict[str, Any]], lines: list[Line]) -> str:
    wrong = [line for line in lines if not line.holds]
    names = ", ".join(dict.fromkeys(line.worst["row"] for line in wrong))
    said = f"{sum(row['holds'] for row in rows)} of {len(rows)} checked numbers hold."
    return said + (f" NOT all of {names}." if wrong else "")


def notes(run) -> str:
    """What the numbers are; then the corrections of the specification."""
    took = {row["row"]: row["seconds"] for row in run.rows("timings")}
    slowest = sorted(took, key=took.get, reverse=True)[:3]
    said = [
        "holds: in how many of the seeds that are checked alone; the line shows the worst of them, and of many numbers "
        "(lags, entries, layers) the one that is furthest off. error: absolute or relative, as the tolerance is; 0 "
        "where a bound (<=, >=) is kept. expected 0: a distance between two ways.",
        f"data: generated, from the seeds of the specification (rnnlab/probes/specs.py). {sum(took.values()):.0f} s, "
        + ", ".join(f"{name} {took[name]:.0f}" for name in slowest) + ".",
        f"machine: {report.machine(run.provenance)}; float64, but for R13, R18, the LRU and what says float32.",
        *(f"{name}: {spec.note}" for name, spec in SPECS.items() if name in run.config["row"] and spec.note),
    ]  # fmt: skip
    return "\n".join(textwrap.fill(one, WIDTH, subsequent_indent="  ") for one in said)
