"""How our plots look. Draws from stored numbers only, never from a model."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

LN10 = 2.302585092994046

# Okabe & Ito 2008: told apart by colour-blind readers and in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B2A500")
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.6,
    "pdf.fonttype": 42,  # text stays text when the PDF is edited
    "figure.facecolor": "white",
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Our settings of matplotlib, within the block only; no window is ever opened."""
    with matplotlib.rc_context(STYLE):
        yield


def figure(width: float, height: float) -> Figure:
    """An empty figure, in inches; not tied to pyplot, so nothing has to be closed."""
    return Figure(figsize=(width, height), layout="constrained")


def plain(words: str) -> str:
    """Words that are not ours, a file's name for one: a dollar in them begins no formula."""
    return words.replace("$", r"\$")


def heading(place: SubFigure, words: str) -> None:
    """A title over all panels of a part of the figure, set left."""
    place.suptitle(words, x=0.01, ha="left", fontsize=9, fontweight="bold")


def power_of_ten(axis: Axes, which: str = "y") -> None:
    """Ticks of an axis that holds base-10 logarithms, written as powers of ten."""
    chosen = getattr(axis, f"{which}axis")
    chosen.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
    chosen.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: rf"$10^{{{value:.0f}}}$"))


# A batch's loss jumps about: it stays behind the held-out one.
TRAINING = {"linestyle": "--", "linewidth": 0.8, "alpha": 0.5}
VALIDATION = {"linestyle": "-", "marker": "o", "markersize": 3.5, "markeredgecolor": "white", "zorder": 3}


class Curve(NamedTuple):
    """One quantity while training: values [S, N] of S seeds (or [N] of one) after steps [N]."""

    steps: Sequence[float] | np.ndarray
    values: Sequence | np.ndarray


def curves(
    axis: Axes,
    training: Mapping[str, Curve],
    validation: Mapping[str, Curve],
    *,
    quantity: str,
    chance: Mapping[str, float],
) -> None:
    """Learning curves, a colour a name: training dashed, validation drawn through; every seed thin, beside their mean.

    chance: what guessing reaches, by the words beside its horizontal line. Raises ValueError for values that are not
    one a step.
    """
    names = list(dict.fromkeys([*validation, *training]))
    for place, name in enumerate(names):
        colour = COLOURS[place % len(COLOURS)]
        for kind, group, look in (("training", training, TRAINING), ("validation", validation, VALIDATION)):
            if name in group:
                steps, values = np.asarray(group[name].steps), np.atleast_2d(np.asarray(group[name].values, float))
                if values.ndim != 2 or values.shape[1:] != steps.shape:
                    raise ValueError(f"curves: {name}, {kind}: expected values [S, {len(steps)}], given {values.shape}")
                if len(values) > 1:
                    axis.plot(steps, values.T, look["linestyle"], color=colour, linewidth=0.5, alpha=0.3)
                axis.plot(steps, values.mean(0), color=colour, label=f"{plain(name)}, {kind}", **look)
    for words, level in chance.items():
        axis.axhline(level, color="0.4", linewidth=0.8, linestyle=":")
        # Its place: the right edge whatever the steps are, the level whatever the scale is.
        axis.text(1, level, plain(words), transform=axis.get_yaxis_transform(), ha="right", va="bottom", color="0.4")
    axis.set_xlabel("training step")
    axis.set_ylabel(quantity)
    axis.legend()


def spread_labels(values: Sequence[float], gap: float) -> list[float]:
    """Positions near `values`, in the same order of size, at least `gap` apart: for labels beside lines."""
    order = sorted(range(len(values)), key=values.__getitem__)
    placed = [0.0] * len(values)
    for rank, index in enumerate(order):
        floor = placed[order[rank - 1]] + gap if rank else values[index]
        placed[index] = max(values[index], floor)
    shift = sum(p - v for p, v in zip(placed, values, strict=True)) / len(values)
    return [p - shift for p in placed]
