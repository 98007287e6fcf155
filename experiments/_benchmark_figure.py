"""The figure of a benchmark of memory, from its stored rows: learning, lengths never trained, gradients."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from experiments._benchmark_table import is_number, rows_of, variants_of
from rnnlab import figures

DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


def figure(question: str, config: Any, run):
    """A row of panels for every initialisation; a colour for every cell and gate bias."""
    rows = run.rows()
    [task] = [row for row in rows if row["kind"] == "task"]
    variants = {variant: rows_of(rows, variant, kind="test")[0] for variant in variants_of(rows)}
    ways = list(dict.fromkeys(facts["initialisation"] for facts in variants.values()))
    names = list(dict.fromkeys(map(label, variants.values())))
    looks = {
        name: dict(color=figures.COLOURS[n % len(figures.COLOURS)], linestyle=DASHES[n // len(figures.COLOURS)])
        for n, name in enumerate(names)
    }
    with figures.style():
        page = figures.figure(10.5, 0.75 + 2.65 * len(ways))
        for place, way in zip(np.atleast_1d(page.subfigures(len(ways), 1)), ways, strict=True):
            axes = place.subplots(1, 3)
            figures.heading(place, f"{question} ({words(way)})")
            for variant, facts in variants.items():
                if facts["initialisation"] == way:
                    look = looks[label(facts)] | {"label": figures.plain(label(facts))}
                    learning(axes[0], config, rows_of(rows, variant, kind="validation"), look)
                    lengths(axes[1], task, rows_of(rows, variant, kind="test"), look)
                    decay(axes[2], run.series(f"{variant}_decay"), look)
            dress(axes, config, task)
            handles, said = axes[0].get_legend_handles_labels()
            place.legend(handles, said, loc="outside right center")
    return page


def words(way: str) -> str:
    known = {"own": "each cell's own initialisation", "orthogonal": "orthogonal recurrence"}
    return known.get(way, f"{way} initialisation")


def label(facts: dict[str, Any]) -> str:
    return facts["cell"] if facts["bias"] is None else f"{facts['cell']}, bias {facts['bias']:g}"


def learning(axis: Axes, config: Any, found: list[dict], look: dict) -> None:
    """The mean over seeds, and each of them thin."""
    steps = sorted({row["step"] for row in found})
    values = np.array([[row["loss"] for row in found if row["step"] == step] for step in steps])
    axis.plot(steps, values, **look | dict(linewidth=0.6, alpha=0.35, label=None))
    axis.plot(steps, values.mean(1), **look)


def lengths(axis: Axes, task: dict, found: list[dict], look: dict) -> None:
    shown, lags = "loss" if is_number(task) else "accuracy", sorted({row["lag"] for row in found})
    values = np.array([[row[shown] for row in found if row["lag"] == lag] for lag in lags])
    axis.plot(lags, values, **look | dict(linewidth=0.6, alpha=0.35))
    axis.plot(lags, values.mean(1), marker="o", markersize=3.5, markeredgecolor="white", **look)


def decay(axis: Axes, series: np.ndarray, look: dict) -> None:
    """series: ln ||dL/dcarry_t|| [N, S, L, T], of which the first was before training."""
    norms = np.array(series[0, :, -1])
    shown = (norms - norms[:, -1:]).mean(0)[::-1] / figures.LN10
    axis.plot(np.arange(len(shown)), shown, **look)


def dress(axes: np.ndarray, config: Any, task: dict) -> None:
    """Chance, the length trained, names of the axes."""
    number, grey = is_number(task), dict(color="0.4", linewidth=0.8, linestyle=":")
    axes[0].axhline(task["chance"], **grey)
    place = dict(transform=axes[0].get_yaxis_transform(), ha="right", va="bottom", color="0.4")
    axes[0].text(1, task["chance"], f"chance {task['chance']:.3g}", **place)
    axes[0].set(title="validation loss", xlabel="training step", ylabel=task["unit"])
    axes[0].set_ylim(0, min(axes[0].get_ylim()[1], 1.6 * task["chance"]))  # the first losses say nothing
    axes[1].plot(task["lags"], task["chances" if number else "guesses"], **grey)
    axes[1].axvline(task["lag"], color="0.8", linewidth=4, zorder=0)
    axes[1].set(title="test, grey: the lag trained", xlabel="lag, steps", ylabel=task["unit"] if number else "accuracy")
    axes[1].set_xscale("log", base=2)
    axes[1].set_xticks(task["lags"], [str(lag) for lag in task["lags"]])
    axes[1].minorticks_off()
    if number:
        axes[1].set_yscale("log")
        low, high = axes[1].get_ylim()
        axes[1].set_ylim(min(low, task["chance"] / 20), max(high, 2 * task["chance"]))
    else:
        axes[1].set_ylim(0, 1.03)
    axes[2].set(
        title="gradient at initialisation", xlabel="lag, steps", ylabel=r"$\|\mathrm{d}L/\mathrm{d}h_t\|$, lag 0 = 1"
    )
    figures.power_of_ten(axes[2])
    axes[2].xaxis.set_major_locator(MaxNLocator(5, integer=True))
