"""The figure of `gradient_flow`, from its stored rows and series."""

from typing import Any, NamedTuple

import matplotlib
import numpy as np

from experiments._gradient_table import fits_of, label_of, seeds_of
from rnnlab import figures
from rnnlab.cells import own


class Curves(NamedTuple):
    """One cell's stored norms as base-10 logarithms, mean over seeds; lag 0 comes first.

    mean, low, high: of the last step's loss [points, L, T], with quantiles over sequences. fit: of the top
    layer at initialisation. per_layer: factor from a layer to the one below at lag 0, where no other path leads.
    every_step: of the summed loss, first layer, at every training step [steps, T].
    """

    label: str
    colour: str
    points: list[int]
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    fit: dict[str, float]
    per_layer: float
    every_step: np.ndarray


def curves_of(run, config: Any, cell: str) -> Curves:
    def stored(what: str) -> np.ndarray:
        """Mean over seeds, as base-10 logarithms, lag 0 first."""
        names = (f"{own.label(cell)}_seed{config.seed + n}_{what}" for n in range(config.seeds))
        return np.mean([run.series(name) for name in names], axis=0)[..., ::-1] / figures.LN10

    mean, low, high = (stored(f"last_{field}") for field in ("mean", "low", "high"))
    fits = fits_of(run.rows(), cell, config.layers, step=0)
    fit = {field: float(np.mean([r[field] for r in fits])) for field in ("gamma", "intercept", "half_life")}
    colour = figures.COLOURS[config.cell.index(cell) % len(figures.COLOURS)]
    per_layer = 10 ** ((mean[0, 0, 0] - mean[0, -1, 0]) / max(1, config.layers - 1))
    every_step = stored("train_sum")[:, 0]
    return Curves(label_of(cell), colour, config.points, mean, low, high, fit, per_layer, every_step)


def figure(config: Any, run):
    """Decay over lag with fits; time x depth on one colour scale; the profile as training goes, both losses."""
    rows = run.rows()
    [data] = [r for r in rows if r["kind"] == "data"]
    curves = [curves_of(run, config, cell) for cell in config.cell]
    columns = min(4, len(curves))
    bands = -(-len(curves) // columns)
    heights = [max(3.7, 0.95 * len(curves)), 0.35 + 1.75 * bands, 0.35 + 1.75 * bands, 2.6]
    with figures.style():
        drawn = figures.figure(10.5, sum(heights))
        top, middle, third, bottom = drawn.subfigures(4, 1, height_ratios=heights)
        left, right = top.subfigures(1, 2, width_ratios=[1, 1.1])
        draw_decay(left, config, curves)
        draw_heat(right, config, curves)
        draw_training(middle, config, curves, bands, columns)
        draw_every_step(third, config, curves, bands, columns)
        draw_learning(bottom, config, rows, data)
        drawn.suptitle(
            f"Exact gradient norms of character language models, {config.layers} x {config.hidden} units, "
            f"{seeds_of(config)}, on {figures.plain(data['name'])}\n"
            "L: one sequence's loss at its last step (a, b, c), summed over its steps (d)",
            fontsize=9.5,
        )
    return drawn


NORM = r"$\|\,\partial L / \partial\,\mathrm{carry}_t\|$"


def draw_decay(place, config: Any, curves: list[Curves]) -> None:
    """Top layer at initialisation: the norms, the fits, and each cell's half-life beside its line."""
    axis = place.subplots()
    lags, ends = np.arange(config.length), []
    for one in curves:
        norm, low, high = (values[0, -1] for values in (one.mean, one.low, one.high))
        axis.plot(lags, norm, color=one.colour)
        axis.fill_between(lags, low, high, color=one.colour, alpha=0.15, linewidth=0)
        line = (one.fit["intercept"] + lags * np.log(one.fit["gamma"])) / figures.LN10
        axis.plot(lags, line, "--", color="black", linewidth=0.7)
        words = f"{one.label}\n$\\gamma$ = {one.fit['gamma']:.2f}, half-life {one.fit['half_life']:.1f}"
        ends.append((float(norm[np.isfinite(norm)][-1]), words, one.colour))
    axis.axvspan(*config.lags, color="0.94", zorder=-2, linewidth=0)
    bottom, top = axis.get_ylim()
    places = figures.spread_labels([end for end, _, _ in ends], 0.095 * (top - bottom))
    for height, (_, words, colour) in zip(places, ends, strict=True):
        beside = dict(xycoords=axis.get_yaxis_transform(), va="center", fontsize=7.5)
        axis.annotate(words, (1.01, height), color=colour, **beside)
    axis.text(sum(config.lags) / 2, top, "lags fitted (dashed)", ha="center", va="top", fontsize=7, color="0.4")
    axis.text(0.02, 0.02, "band: 10 to 90 % of sequences", transform=axis.transAxes, fontsize=7, color="0.4")
    axis.set(xlim=(0, config.length - 1), xlabel="lag (timesteps before the last)", ylabel=NORM)
    figures.power_of_ten(axis)
    figures.heading(place, "a  Who forgets, how fast: top layer, at initialisation")


def draw_heat(place, config: Any, curves: list[Curves]) -> None:
    """Every layer and timestep at initialisation, one colour scale for all cells."""
    axes = np.atleast_1d(place.subplots(len(curves), 1, sharex=True))
    values = [np.where(np.isfinite(one.mean[0]), one.mean[0], np.nan)[:, ::-1] for one in curves]
    scale = dict(vmin=np.nanmin(values), vmax=np.nanmax(values), cmap="magma")
    extent = (config.length - 0.5, -0.5, 0.5, config.layers + 0.5)
    for axis, one, value in zip(axes, curves, values, strict=True):
        image = axis.imshow(value, aspect="auto", origin="lower", interpolation="nearest", extent=extent, **scale)
        factors = f"   $\\times${one.fit['gamma']:.2f} a step"
        factors += f",  $\\times${one.per_layer:.2f} a layer" if config.layers > 1 else ""
        axis.set_title(one.label + factors, color=one.colour, pad=2)
        axis.set_yticks(range(1, config.layers + 1))
    axes[-1].set_xlabel("lag (timesteps before the last); time runs to the right")
    place.supylabel("layer", fontsize=8)
    figures.power_of_ten(place.colorbar(image, ax=list(axes), fraction=0.04, pad=0.01).ax)
    figures.heading(place, "b  Time x depth: factors multiply, paths add up (one scale)")


def draw_training(place, config: Any, curves: list[Curves], bands: int, columns: int) -> None:
    """The first layer's profile after more and more training, a panel a cell."""
    axes = _panels(place, curves, bands, columns)
    shades = matplotlib.colormaps["viridis_r"]
    for axis, one in zip(axes, curves, strict=False):
        for n, point in enumerate(one.points):
            shade = shades(0.1 + 0.9 * n / max(1, len(one.points) - 1))
            axis.plot(one.mean[n, 0], color=shade, linewidth=1.2, label=f"{point}")
        axis.set_xlim(0, config.length - 1)
        figures.power_of_ten(axis)
    axes[0].set_ylabel(NORM)
    place.supxlabel("lag (timesteps before the last)", fontsize=8)
    place.legend(*axes[0].get_legend_handles_labels(), title="training step", loc="outside right center")
    figures.heading(place, "c  As training goes: first layer, loss of the last step")


def draw_every_step(place, config: Any, curves: list[Curves], bands: int, columns: int) -> None:
    """The summed loss, as the training step itself saw it: every step and timestep, one scale."""
    axes = _panels(place, curves, bands, columns)
    values = [np.where(np.isfinite(one.every_step), one.every_step, np.nan)[:, ::-1] for one in curves]
    scale = dict(vmin=np.nanmin(values), vmax=np.nanmax(values), cmap="magma")
    extent = (config.length - 0.5, -0.5, 0.5, config.steps + 0.5)
    for axis, value in zip(axes, values, strict=False):
        image = axis.imshow(value, aspect="auto", origin="lower", interpolation="nearest", extent=extent, **scale)
    axes[0].set_ylabel("training step")
    place.supxlabel("lag (timesteps before the last); time runs to the right", fontsize=8)
    bar = place.colorbar(image, ax=list(axes), fraction=0.04, pad=0.01, label=NORM)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{10**value:.2g}")
    figures.heading(place, "d  In every training step: first layer, sum of the per-step losses (one colour scale)")


def draw_learning(place, config: Any, rows: list[dict], data: dict) -> None:
    """Bits per character of training batches and of held-out text, beside what counting letters and pairs reaches."""

    def curve(kind: str, cell: str) -> figures.Curve:
        of = [[r for r in rows if (r["kind"], r.get("cell"), r.get("seed")) == (kind, cell, s)] for s in seeds]
        return figures.Curve([r["step"] for r in of[0]], [[r["bits"] for r in one] for one in of])

    seeds = range(config.seed, config.seed + config.seeds)
    found = [{label_of(cell): curve(kind, cell) for cell in config.cell} for kind in ("train", "validation")]
    axis = place.subplots()
    chance = {name: data[name] for name in ("unigram", "bigram")}
    figures.curves(axis, *found, quantity="bits per character", chance=chance)
    axis.set_xlim(0, config.steps)
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    figures.heading(place, "e  What is learnt: training batches and held-out text")


def _panels(place, curves: list[Curves], bands: int, columns: int) -> np.ndarray:
    axes = place.subplots(bands, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, one in zip(axes, curves, strict=False):
        axis.set_title(one.label, color=one.colour, pad=2)
    for axis in axes[len(curves) :]:
        axis.set_axis_off()
    return axes
