"""The figure of `closed_forms`, from its stored rows: how far off each number is, and two of the theories behind."""

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from experiments._closed_forms_table import excess, rows_of
from rnnlab import figures
from rnnlab.probes.specs import SPECS

HOLDS, FAILS = figures.COLOURS[0], figures.COLOURS[1]
EXACT, BEYOND = 1e-6, 1e2  # where errors that are smaller, and greater, are drawn


def figure(run) -> Figure:
    rows = rows_of(run)
    names = list(dict.fromkeys(row["row"] for row in rows))
    chis = [row for row in rows if row["what"] == "chi, measured"]
    curves = [row for row in rows if row["curve"] is not None]
    with figures.style():
        drawn = figures.figure(10.5, max(1.6 + 0.2 * len(names), 5.6 if chis and curves else 3.4))
        beside = bool(chis or curves)
        left, *right = drawn.subfigures(1, 1 + beside, width_ratios=[1.25, 1][: 1 + beside], squeeze=False)[0]
        draw_errors(left.subplots(), rows, names)
        if beside:
            # Each a figure of its own, so that the words beside the curves take no width from the panel above.
            places = right[0].subfigures(bool(chis) + bool(curves), 1, squeeze=False)[:, 0]
            if chis:
                draw_chi(places[0].subplots(), chis)
            if curves:
                draw_curves(places[-1].subplots(), curves)
        good = sum(row["holds"] for row in rows)
        drawn.suptitle(
            f"Closed forms and published values that the probes must give: {good} of {len(rows)} hold\n"
            "generated data, seeds of the specification",
            fontsize=9.5,
        )
    return drawn


def draw_errors(axis, rows: list[dict[str, Any]], names: list[str]) -> None:
    """A dot a checked number; within a row they are spread a little, in the order of their measurement."""
    for at, name in enumerate(reversed(names)):
        mine = [row for row in rows if row["row"] == name]
        spread = np.linspace(0.26, -0.26, len(mine)) if len(mine) > 1 else [0.0]
        for away, row in zip(spread, mine, strict=True):
            over = excess(row)
            inside = min(max(over, EXACT), BEYOND)
            marker = "<" if over < EXACT else ">" if over > BEYOND else "o"
            colour = HOLDS if row["holds"] else FAILS
            axis.plot(inside, at + away, marker, color=colour, markersize=3, alpha=0.6, markeredgewidth=0)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xscale("log")
    axis.set(xlim=(EXACT / 2, BEYOND * 2), ylim=(-0.7, len(names) - 0.3), xlabel="error / tolerance (holds left of 1)")
    axis.set_title("a  How far off")
    axis.set_yticks(range(len(names)), [label(name) for name in reversed(names)])
    ticks = [10.0**power for power in range(-6, 3)]
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    words = {ticks[0]: r"$\leq10^{-6}$", ticks[-1]: r"$\geq10^{2}$", 1.0: "1"}
    axis.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: words.get(value, rf"$10^{{{round(math.log10(value))}}}$"))
    )
    axis.grid(color="0.92", linewidth=0.5)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)


LABELS = {
    "R1": "linear network",
    "R2": "taps = adjoint",
    "R3": "one tanh unit",
    "R4": "LSTM, gate alone",
    "R5": "GRU, gate alone",
    "R6": "paths in a grid",
    "R7": "Pascanu's bound",
    "R8": "mean field",
    "R8_GATED": "mean field, gates",
    "R9": "largest exponent",
    "R10": "sum of exponents",
    "R11": "adjoint's growth",
    "R12": "norm estimates",
    "R13": "log-domain adjoint",
    "R14": "sensitivity",
    "R15": "first states",
    "R16": "RTRL, Hessian",
    "R17": "associative engine",
    "R18": "Newton engine",
    "R19": "flossing",
    "R20": "decay at start",
    "R21": "the book's figure",
}


def label(name: str) -> str:
    return f"{LABELS.get(name, '')}  {name.partition('_')[0]}"


def draw_chi(axis, rows: list[dict[str, Any]]) -> None:
    """Measured against predicted, on the diagonal; the band is the tolerance."""
    kinds = {"R8": ("o", figures.COLOURS[0], "tanh network, N = {N}"),
             "R8_GATED": ("s", figures.COLOURS[2], "LSTM, GRU, N = {N}")}  # fmt: skip
    ends = [row[side] for row in rows for side in ("expected", "measured")]
    low, high = min(ends) / 1.3, max(ends) * 1.3
    line = np.geomspace(low, high, 50)
    width = max(row["tolerance"] for row in rows)
    axis.fill_between(
        line,
        line * (1 - width),
        line * (1 + width),
        color="0.88",
        linewidth=0,
        zorder=0,
        label=f"±{width:.0%}, the wider tolerance",
    )
    axis.plot(line, line, color="0.4", linewidth=0.8, zorder=1)
    for name, (marker, colour, words) in kinds.items():
        mine = [row for row in rows if row["row"] == name]
        if mine:
            axis.plot(
                [row["expected"] for row in mine], [row["measured"] for row in mine], marker, color=colour,
                markersize=4.5, alpha=0.8, markeredgecolor="white", markeredgewidth=0.4,
                label=words.format(**SPECS[name].setting),
            )  # fmt: skip
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set(xlim=(low, high), ylim=(low, high), xlabel=r"$\chi$ of mean field", ylabel=r"$\chi$ measured")
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(FixedLocator([t for t in (0.1, 0.2, 0.5, 1, 2) if low <= t <= high]))
        side.set_minor_locator(NullLocator())
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_title(r"b  The gradient's squared norm: a factor $\chi$ a step")
    axis.legend(loc="upper left")


def draw_curves(axis, rows: list[dict[str, Any]]) -> None:
    """Decay over lag: measured, mean over seeds, and dashed the slope that was expected, through the fit's middle."""
    ends = []
    for place, row in enumerate(rows):
        first, last = SPECS[row["row"]].setting["lags"]
        curve, colour = np.array(row["curve"]) / figures.LN10, figures.COLOURS[place % len(figures.COLOURS)]
        curve = curve - curve[0]
        lags = np.arange(first, last + 1)
        slope = math.log10(row["expected"])
        middle = curve[first : last + 1].mean() - slope * lags.mean()
        axis.plot(np.arange(len(curve)), curve, color=colour, linewidth=1.2)
        axis.plot(lags, middle + slope * lags, "--", color="black", linewidth=0.8, zorder=3)
        ends.append(curve[-1])
    high, low = axis.get_ylim()[::-1]
    spread = figures.spread_labels(ends, (high - low) * 0.058)
    for place, (row, end, at) in enumerate(zip(rows, ends, spread, strict=True)):
        colour = figures.COLOURS[place % len(figures.COLOURS)]
        axis.annotate(
            f"{row['setting']}: {row['measured']:.3f}", (len(row["curve"]) - 1, end), (len(row["curve"]) + 1, at),
            color=colour, fontsize=7, va="center", annotation_clip=False,
        )  # fmt: skip
    figures.power_of_ten(axis)
    axis.set(xlabel="lag, steps", ylabel=r"$\|\partial L/\partial\,\mathrm{carry}_t\|$, lag 0 = 1")
    axis.set_title("c  Decay at initialisation (dashed: as expected)")
