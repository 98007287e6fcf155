"""The figure of `cells`, from its stored rows: a line a cell, what it remembers, costs and holds."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rnnlab import figures

MEASURED, PROMISED, BARS = figures.COLOURS[0], figures.COLOURS[1], "0.6"
TICKS = [tick * 10**power for power in range(-3, 7) for tick in (1, 2, 5)]


def figure(run, lines: Sequence, reference: str) -> Figure:
    """Three panels that share the cells, the longest memory on top."""
    config, cpu = run.config, run.provenance["cpu"]
    where = (
        f"{cpu['cores']} cores of {cpu['model']}" if "(cpu)" in run.provenance["device"] else run.provenance["device"]
    )
    with figures.style():
        drawn = figures.figure(10.5, 1.6 + 0.24 * len(lines))
        memory, costs, holds = drawn.subplots(1, 3, sharey=True, width_ratios=[2.1, 1, 1])
        draw_memory(memory, lines)
        times, spans = [line.time.median for line in lines], [(line.time.low, line.time.high) for line in lines]
        draw_bars(costs, times, "{:.1f}", spans)
        costs.axvline(1, color="black", linewidth=0.8)
        costs.set(xlabel=f"training step, time over {reference}'s (95 %)", title="b  Costs")
        draw_bars(holds, [line.parameters for line in lines], "{:.0f}")
        holds.set(xlabel="parameters a hidden unit", title="c  Holds")
        drawn.legend(*memory.get_legend_handles_labels(), loc="outside lower left", ncols=2)
        seeds = f"{config['seeds']} seed{'s' * (config['seeds'] > 1)}"
        drawn.suptitle(
            f"Recurrent cells at initialisation: {config['hidden']} units, {config['dim']} generated inputs, "
            f"{config['batch']} x {config['length']} steps, {seeds}\nfloat32 on {figures.plain(where)}",
            fontsize=9.5,
        )
    return drawn


def draw_memory(axis, lines: Sequence) -> None:
    """Half-lives: measured with their spread over seeds, promised open; what never fades stands at the right edge."""
    fading = [line for line in lines if math.inf not in line.half_lives]
    found = [*(v for line in fading for v in line.half_lives), *(line.closed for line in lines)]
    known = [v for v in found if v is not None and 0 < v < math.inf]
    low, high = min(known, default=1.0) / 1.6, max(known, default=1.0) * 1.6
    edge = high * (high / low) ** 0.1
    places = np.arange(len(lines))[::-1]
    for at, line in zip(places, lines, strict=True):
        if line.closed is not None:
            style = dict(marker="D", markersize=6.5, markerfacecolor="none", markeredgecolor=PROMISED, linestyle="")
            axis.plot(min(line.closed, edge), at, **style)
        mean = np.mean(line.half_lives)
        spread = np.std(line.half_lives, ddof=1) if math.isfinite(mean) and len(line.half_lives) > 1 else 0.0
        if math.isfinite(mean) and mean > 0:
            whiskers = [[min(spread, mean - low)], [spread]] if mean > low else None
            axis.errorbar(mean, at, xerr=whiskers, fmt="o", markersize=4, color=MEASURED, elinewidth=1, capsize=2)
        elif mean == math.inf:
            axis.plot(edge, at, ">", markersize=4.5, color=MEASURED)
    never = any(math.inf in (*line.half_lives, line.closed) for line in lines)
    if never:
        axis.axvspan(high, edge * edge / high, color="0.94", linewidth=0, zorder=-2)
    axis.plot([], [], "o", markersize=4, color=MEASURED, label="measured (± standard deviation over seeds)")
    axis.plot([], [], "D", markersize=6.5, markerfacecolor="none", markeredgecolor=PROMISED,
              label="closed form, all matrices 0")  # fmt: skip
    axis.set_xscale("log")
    axis.set(xlim=(low, edge * edge / high if never else high), ylim=(-0.7, len(lines) - 0.3))
    axis.set_xlabel("half-life of the gradient, steps" + (" (grey: never fades)" if never else ""))
    axis.set_yticks(places, [line.cell for line in lines])
    axis.xaxis.set_major_locator(FixedLocator([t for t in TICKS if low <= t <= high]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(color="0.92", linewidth=0.5)
    axis.set_axisbelow(True)
    axis.set_title("a  Remembers")


def draw_bars(axis, values: Sequence[float], words: str, spans: Sequence[tuple[float, float]] = ()) -> None:
    """A bar a cell with its number, and its interval where there is one."""
    places = np.arange(len(values))[::-1]
    ends = [high for _, high in spans] or values
    errors = [[v - low, high - v] for v, (low, high) in zip(values, spans, strict=True)] if spans else None
    errors = None if errors is None else np.maximum(0, errors).T
    axis.barh(places, values, 0.66, color=BARS, xerr=errors, error_kw=dict(elinewidth=0.8, ecolor="0.2"))
    for at, end, value in zip(places, ends, values, strict=True):
        style = dict(textcoords="offset points", va="center", fontsize=7, color="0.25")
        axis.annotate(words.format(value), (end, at), (3, 0), **style)
    axis.set_xlim(0, 1.14 * max(ends))
    axis.tick_params(axis="y", length=0)
