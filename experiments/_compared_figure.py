"""The figure of `cells_compared`, from its stored rows."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments._compared_table import FLOOR, Compared, compared, rank
from rnnlab import figures


def figure(config: Any, run):
    """A panel a task: what was learned over how far the gradient had faded, a number a cell; the names beside."""
    rows = run.rows()
    with figures.style():
        page = figures.figure(10.5, 4.6)
        axes = np.atleast_1d(page.subplots(1, len(config.task)))
        for axis, task in zip(axes, config.task, strict=True):
            found = compared(rows, task)
            panel(
                axis, found, rank(found, config.resamples), f"{task.replace('_', ' ')}, length {config.lengths[task]}"
            )
        axes[0].set_ylabel("learned: 1 - test loss / chance")
        names = [f"{number} {figures.plain(cell)}" for number, cell in enumerate(found.cells, 1)]
        page.legend(
            [axes[0].plot([], [], alpha=0)[0]] * len(names), names, loc="outside right center", fontsize=6,
            handlelength=0, handletextpad=0, labelspacing=0.25,
        )  # fmt: skip
    return page


def panel(axis: Axes, found: Compared, over_cells: Any, title: str) -> None:
    shown = np.maximum(found.ratio, FLOOR)
    axis.axhline(0, color="0.4", linewidth=0.8, linestyle=":")
    axis.scatter(shown, found.learned, s=60, color=figures.COLOURS[5], alpha=0.45, linewidths=0)
    for number, (x, y) in enumerate(zip(shown, found.learned, strict=True), 1):
        axis.annotate(str(number), (x, y), ha="center", va="center", fontsize=5.5)
    axis.set(
        title=f"{title}\nrank correlation {over_cells.value:.2f} ({over_cells.low:.2f} to {over_cells.high:.2f})",
        xlabel="gradient at the first step over the last, at initialisation",
    )
    figures.power_of_ten(axis, "x")
