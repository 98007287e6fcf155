"""The figure of `parallel_in_time`, from its stored rows: iterations, time, chaos, and where convergence ends."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from experiments._parallel_table import OWN, boundaries, lines_of
from rnnlab import figures
from rnnlab.cells import own

ENGINES = {"full": "-", "quasi": "--", "associative": ":"}
WORDS = {"full": "full Newton", "quasi": "quasi-Newton", "associative": "associative scan"}
SHADES = {"full": figures.COLOURS[0], "quasi": figures.COLOURS[1]}


def figure(run) -> Figure:
    config, cpu = run.config, run.provenance["cpu"]
    where = (
        f"{cpu['cores']} cores of {cpu['model']}" if "(cpu)" in run.provenance["device"] else run.provenance["device"]
    )
    with figures.style():
        drawn = figures.figure(10.5, 6.4)
        (iterations, times), (chaos, edge) = drawn.subplots(2, 2)
        lines = lines_of(run)
        shades = dict(zip(config["cell"], figures.COLOURS, strict=False))
        draw_over_length(iterations, lines, shades, lambda line: np.mean([row["iterations"] for row in line.rows]))
        iterations.set(ylabel="iterations (mean over seeds)", title="a  Iterations over T")
        draw_over_length(times, lines, shades, lambda line: line.time.median)
        times.axhline(1, color="black", linewidth=0.8)
        times.set(ylabel="training step, time over default engine's", title="b  Time over T")
        draw_chaos(chaos, run)
        draw_edge(edge, run)
        handles = [Line2D([], [], color=shade, label=own.label(name)) for name, shade in shades.items()]
        handles += [Line2D([], [], color="0.3", linestyle=ENGINES[e], label=WORDS[e]) for e in ENGINES
                    if any(line.engine == e for line in lines)]  # fmt: skip
        drawn.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        seeds = f"{config['seeds']} seed{'s' * (config['seeds'] > 1)}"
        drawn.suptitle(
            f"Recurrences evaluated in parallel over time, at initialisation (a, b: H={config['hidden']}, "
            f"B={config['batch']}; c, d: Elman, H={config['gain_hidden']}),\ngenerated inputs, {seeds}, float32 on "
            f"{figures.plain(where)}",
            fontsize=9.5,
        )
    return drawn


def draw_over_length(axis, lines, shades, value) -> None:
    for cell, engine in dict.fromkeys((line.cell, line.engine) for line in lines):
        own_lines = [line for line in lines if (line.cell, line.engine) == (cell, engine)]
        values = [value(line) for line in own_lines]
        if engine == OWN or not any(values):
            continue
        style = dict(color=shades.get(cell, "0.5"), linestyle=ENGINES[engine], marker="o", markersize=3)
        axis.plot([line.length for line in own_lines], values, **style)
    _log_axes(axis, sorted({line.length for line in lines}))
    axis.set_xlabel("T, steps")


def draw_chaos(axis, run) -> None:
    """Iterations of every network at the longest T, by its exponent; what did not converge is open."""
    config = run.config
    longest = max(config["gain_lengths"])
    for engine, shade in SHADES.items():
        rows = [r for r in run.rows() if r["kind"] == "gain" and r["engine"] == engine and r["T"] == longest]
        for converged in (True, False):
            some = [row for row in rows if (row["converged"] == 1) == converged]
            axis.plot(
                [row["exponent"] for row in some], [row["iterations"] for row in some], "o", color=shade,
                markersize=6 if engine == "full" else 3.5, markerfacecolor=shade if converged else "none",
                label=f"{WORDS[engine]}{'' if converged else ', not converged'}",
            )  # fmt: skip
    axis.axvline(0, color="black", linewidth=0.8)
    _log_values(axis)
    axis.set(xlabel="largest Lyapunov exponent, nats a step", ylabel=f"iterations (at most {config['max_iterations']})")
    axis.set_title(f"c  Iterations by exponent, T={longest}")
    axis.legend(loc="upper left")


def draw_edge(axis, run) -> None:
    """Up to which exponent all networks converge, and the first that does not, at every T."""
    found = boundaries(run)
    for engine, shade in SHADES.items():
        some = [one for one in found if one.engine == engine and None not in (one.last, one.first)]
        T = [one.length for one in some]
        last, first = [one.last for one in some], [one.first for one in some]
        axis.plot(T, last, color=shade, marker="o", markersize=3.5, label=f"{WORDS[engine]}: all converge up to here")
        axis.plot(T, first, color=shade, marker="o", markersize=3.5, markerfacecolor="none", linestyle="")
        axis.fill_between(T, last, first, color=shade, alpha=0.15, linewidth=0)
    axis.plot([], [], "o", markersize=3.5, color="0.3", markerfacecolor="none", label="the first that does not")
    axis.axhline(0, color="black", linewidth=0.8)
    _log_axes(axis, sorted(run.config["gain_lengths"]), y=False)
    axis.set(xlabel="T, steps", ylabel="largest Lyapunov exponent, nats a step", title="d  Where convergence ends")
    axis.legend(loc="center right")


def _log_axes(axis, ticks, y: bool = True) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    if y:
        _log_values(axis)
    axis.grid(color="0.92", linewidth=0.5)
    axis.set_axisbelow(True)


def _log_values(axis) -> None:
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
