"""The figure of `parallel_in_time`, from its stored rows: iterations, time and memory over T; chaos, and its edge."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from experiments._parallel_table import SCAN, Line, boundaries, costs, lines_of
from rnnlab import figures
from rnnlab.cells import own

STYLES = {SCAN: (0, (1, 4)), "fused": "-.", "full": "-", "quasi": "--", "associative": ":"}
WORDS = {SCAN: "scan", "fused": "fused", "full": "full Newton", "quasi": "quasi-Newton", "associative": "associative"}
SHADES = {"full": figures.COLOURS[0], "quasi": figures.COLOURS[1]}
SIZES = {"full": 6, "quasi": 3.5}  # of markers: what lies upon each other is seen
EXPONENT = "largest Lyapunov exponent, nats a step"


def figure(run) -> Figure:
    config, cpu = run.config, run.provenance["cpu"]
    where = (
        f"{cpu['cores']} cores of {cpu['model']}" if "(cpu)" in run.provenance["device"] else run.provenance["device"]
    )
    with figures.style():
        drawn = figures.figure(12.0, 6.6)
        (iterations, times, memory), (chaos, price, edge) = drawn.subplots(2, 3)
        lines = lines_of(run)
        shades = dict(zip(config["cell"], figures.COLOURS, strict=False))
        draw_over_length(iterations, lines, shades, lambda line: np.mean([row["iterations"] for row in line.rows]))
        iterations.set(ylabel="iterations (mean over seeds)", title="a  Iterations over T")
        draw_over_length(times, [line for line in lines if line.engine != SCAN], shades, lambda line: line.time.median)
        times.axhline(1, color="black", linewidth=0.8)
        times.set(ylabel="training step, time over scan's", title="b  Time over T")
        draw_over_length(memory, lines, shades, lambda line: line.temporary / 2**20)
        memory.set(ylabel="training step, temporaries, MiB", title="c  Memory over T")
        draw_chaos(chaos, run)
        draw_price(price, run)
        draw_edge(edge, run)
        handles = [Line2D([], [], color=shade, label=own.label(name)) for name, shade in shades.items()]
        there = {line.engine for line in lines}
        handles += [Line2D([], [], color="0.3", linestyle=STYLES[e], label=WORDS[e]) for e in STYLES if e in there]
        drawn.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        seeds = f"{config['seeds']} seed{'s' * (config['seeds'] > 1)}"
        drawn.suptitle(
            f"Recurrences evaluated in parallel over time, at initialisation (a to c: H={config['hidden']}, "
            f"B={config['batch']}; d to f: Elman, H={config['gain_hidden']}),\ngenerated inputs, {seeds} "
            f"(times: the first), float32 on {figures.plain(where)}",
            fontsize=9.5,
        )
    return drawn


def draw_over_length(axis: Axes, lines: Sequence[Line], shades: dict, value: Callable[[Line], float]) -> None:
    for cell, engine in dict.fromkeys((line.cell, line.engine) for line in lines):
        some = [line for line in lines if (line.cell, line.engine) == (cell, engine)]
        values = [value(line) for line in some]
        if any(values):
            style = dict(color=shades.get(cell, "0.5"), linestyle=STYLES[engine], marker="o", markersize=3)
            axis.plot([line.length for line in some], values, **style)
    _lengths(axis, [line.length for line in lines])
    _log_values(axis)


def draw_chaos(axis: Axes, run) -> None:
    """Iterations of every network at the longest T, by its exponent; what did not converge is open."""
    longest = max(run.config["gain_lengths"])
    for engine, shade in SHADES.items():
        rows = [r for r in run.rows() if r["kind"] == "gain" and r["engine"] == engine and r["T"] == longest]
        for converged in (True, False):
            some = [row for row in rows if (row["converged"] == 1) == converged]
            axis.plot(
                [row["exponent"] for row in some], [row["iterations"] for row in some], "o", color=shade,
                markersize=SIZES[engine], markerfacecolor=shade if converged else "none",
                label=f"{WORDS[engine]}{'' if converged else ': no convergence'}",
            )  # fmt: skip
    axis.axvline(0, color="black", linewidth=0.8)
    _log_values(axis)
    axis.set(xlabel=EXPONENT, ylabel=f"iterations (at most {run.config['max_iterations']})")
    axis.set_title(f"d  Iterations by exponent, T={longest}")
    axis.legend(loc="upper left", bbox_to_anchor=(0, 0.93), handletextpad=0.1)


def draw_price(axis: Axes, run) -> None:
    """Time at the longest T, by exponent, the first seed's networks; the scan that stands in is in it."""
    for engine, shade in SHADES.items():
        some = sorted((one for one in costs(run) if one.engine == engine), key=lambda one: one.exponent)
        medians = np.array([one.time.median for one in some])
        spans = np.array([(one.time.low, one.time.high) for one in some]).reshape(-1, 2).T
        errors = np.maximum(0, [medians - spans[0], spans[1] - medians])
        axis.errorbar(
            [one.exponent for one in some], medians, yerr=errors, color=shade, fmt="o", markersize=SIZES[engine],
            elinewidth=1, label=WORDS[engine],
        )  # fmt: skip
    axis.axvline(0, color="black", linewidth=0.8)
    _log_values(axis)
    axis.set(xlabel=EXPONENT, ylabel="training step, time over scan's (95 %)")
    axis.set_title(f"e  Time by exponent, T={max(run.config['gain_lengths'])}")
    axis.legend(loc="upper left")


def draw_edge(axis: Axes, run) -> None:
    """Up to which exponent all networks converge, and the first that does not, at every T."""
    found = boundaries(run)
    for engine, shade in SHADES.items():
        some = [one for one in found if one.engine == engine and None not in (one.last, one.first)]
        T = [one.length for one in some]
        last, first = [one.last for one in some], [one.first for one in some]
        axis.plot(T, last, color=shade, marker="o", markersize=3.5, label=f"{WORDS[engine]}: all converge")
        axis.plot(T, first, color=shade, marker="o", markersize=3.5, markerfacecolor="none", linestyle="")
        axis.fill_between(T, last, first, color=shade, alpha=0.15, linewidth=0)
    axis.plot([], [], "o", markersize=3.5, color="0.3", markerfacecolor="none", label="the first that does not")
    axis.axhline(0, color="black", linewidth=0.8)
    _lengths(axis, run.config["gain_lengths"])
    axis.set(ylabel=EXPONENT, title="f  Where convergence ends")
    axis.legend(loc="lower left", bbox_to_anchor=(0, 0.22))


def _lengths(axis: Axes, lengths: Sequence[int]) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(sorted(set(lengths))))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(color="0.92", linewidth=0.5)
    axis.set_axisbelow(True)
    axis.set_xlabel("T, steps")


def _log_values(axis: Axes) -> None:
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
