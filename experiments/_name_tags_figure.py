"""The figure of `name_tags`, from its stored rows and series."""

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.ticker
import numpy as np

from experiments._name_tags_table import models, name_of, of
from rnnlab import figures

BASELINE = "0.6"
NORM = r"$\|\,\partial L / \partial\,\mathrm{carry}_t\|$"
CHARACTER = 0.0062  # width of a monospaced character, as a share of the figure's
LINE = 0.2  # inches


def figure(config: Any, run: Any):
    """Learning curves; entity types, or the loss word by word where three sentences are learned; gradient norms over
    the sentence; the lecture's sentences."""
    rows = run.rows()
    [data] = of(rows, "data")
    shown = sentences_of(rows)
    middle = 2.6 if data["held_out"] else 2.1 * len(models(rows))
    heights = [2.6, middle, 2.5, 0.4 + LINE * (len(models(rows)) + 1.6) * len(shown)]
    with figures.style():
        drawn = figures.figure(10.5, sum(heights))
        top, second, third, bottom = drawn.subfigures(4, 1, height_ratios=heights)
        left, right = top.subfigures(1, 2)
        draw_f1(left, config, rows, data)
        draw_loss(right, config, rows, data)
        (draw_types if data["held_out"] else draw_terms)(second, config, rows)
        draw_norms(third, config, run, rows, data)
        draw_sentences(bottom, rows, shown)
        seeds = f"{config.seeds} seeds" if config.seeds > 1 else f"seed {config.seed}"
        title = (
            f"Tagging names: {config.layers} x {config.hidden} units each way, {seeds}, on "
            f"{figures.plain(data['name'])} ({data['origin']}; {data['train']:,} sentences to learn from)"
        )
        drawn.suptitle(textwrap.fill(title, 120), fontsize=9.5)
    return drawn


def seeds_of(config: Any) -> range:
    return range(config.seed, config.seed + config.seeds)


def curves_of(config: Any, rows: Sequence[dict], what: str, scale: float = 1.0) -> dict[str, figures.Curve]:
    """Of validation, by the name of a model."""
    found = {}
    for head, cell in models(rows):
        each = [of(rows, "validation", head=head, cell=cell, seed=seed) for seed in seeds_of(config)]
        values = [[scale * row[what] for row in one] for one in each]
        found[name_of(rows, head, cell)] = figures.Curve([row["step"] for row in each[0]], values)
    return found


def losses_of(config: Any, rows: Sequence[dict]) -> dict[str, figures.Curve]:
    """Of training, each the mean over the batches since the validation before."""
    found, points = {}, sorted({*config.points})
    for head, cell in models(rows):
        each = [of(rows, "train", head=head, cell=cell, seed=seed) for seed in seeds_of(config)]
        losses = np.array([[row["loss"] for row in one] for one in each])
        means = [losses[:, low:high].mean(1) for low, high in itertools.pairwise(points)]
        found[name_of(rows, head, cell)] = figures.Curve(points[1:], np.stack(means, axis=1))
    return found


def draw_f1(place, config: Any, rows: Sequence[dict], data: dict) -> None:
    """Entity F1 on validation; what no network reaches."""
    axis = place.subplots()
    chance = {"most frequent tag": 100 * of(rows, "baseline")[0]["validation_f1"]}
    figures.curves(axis, {}, curves_of(config, rows, "f1", 100), quantity="entity F1, %", chance=chance)
    axis.set_ylim(0, 1.08 * axis.get_ylim()[1])
    _legend(axis, loc="lower right")
    where = "on validation" if data["held_out"] else "on the sentences of training"
    thin = "; thin: every seed" if config.seeds > 1 else ""
    figures.heading(place, f"a  Entities found, {where}{thin}")


def draw_loss(place, config: Any, rows: Sequence[dict], data: dict) -> None:
    """Of validation, and of training batches (dropout and forgotten words included) where those are other sentences."""
    axis = place.subplots()
    training = losses_of(config, rows) if data["held_out"] else {}
    figures.curves(axis, training, curves_of(config, rows, "loss"), quantity=r"$-\ln$ P(tags), nats a word", chance={})
    axis.set_yscale("log")
    if data["held_out"]:
        axis.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.1g}")
        axis.legend(loc="upper right", ncols=len(models(rows)))
    else:
        _legend(axis, loc="upper right")
    figures.heading(place, "b  Loss, of all tags of a sentence together")


def _legend(axis, **where: Any) -> None:
    """Of models alone, where no other curves stand beside those of validation."""
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(handles, [label.removesuffix(", validation") for label in labels], **where)


def draw_types(place, config: Any, rows: Sequence[dict]) -> None:
    """Entity F1 on test, type by type: means over seeds, and every seed."""
    axis = place.subplots()
    types = [row["type"] for row in of(rows, "type", head="baseline")]
    labels = [f"{row['type']}\n({row['asked']} in test)" for row in of(rows, "type", head="baseline")]
    width = 0.8 / (len(models(rows)) + 1)
    for n, (head, cell) in enumerate(models(rows)):
        each = [[100 * row["f1"] for row in of(rows, "type", head=head, cell=cell, type=one)] for one in types]
        middle = np.arange(len(types)) - 0.4 + (n + 0.5) * width
        colour = figures.COLOURS[n % len(figures.COLOURS)]
        axis.bar(middle, np.mean(each, axis=1), width * 0.94, color=colour, label=name_of(rows, head, cell))
        for x, values in zip(middle, each, strict=True):
            axis.plot([x] * len(values), values, "o", color="black", markersize=2.2, alpha=0.7)
    values = [100 * row["f1"] for row in of(rows, "type", head="baseline")]
    last = np.arange(len(types)) + 0.4 - width / 2
    axis.bar(last, values, width * 0.94, color=BASELINE, label="most frequent tag")
    axis.set_xticks(range(len(types)), labels)
    axis.set_ylabel("entity F1 on test, %")
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figures.heading(place, "c  By type, on test; dots: every seed")


def draw_terms(place, config: Any, rows: Sequence[dict]) -> None:
    """What each word adds to its sentence's loss while three sentences are learned: a row of panels a model."""
    shown = [row for row in sentences_of(rows) if "terms" in row]
    axes = place.subplots(len(models(rows)), len(shown), sharex=True, sharey=True, squeeze=False)
    for line, (head, cell) in zip(axes, models(rows), strict=True):
        each = [of(rows, "validation", head=head, cell=cell, seed=seed) for seed in seeds_of(config)]
        terms = np.mean([[row["terms"] for row in one] for one in each], axis=0)
        first = 0
        for axis, sentence in zip(line, shown, strict=True):
            for n, word in enumerate(sentence["words"]):
                colour = figures.COLOURS[n % len(figures.COLOURS)]
                label = f"{n + 1} {figures.plain(word)}"
                values = np.maximum(terms[:, first + n], 1e-7)
                axis.plot([row["step"] for row in each[0]], values, color=colour, linewidth=1.2, label=label)
            first += len(sentence["words"])
            axis.set_yscale("log")
            if axis in axes[0]:
                axis.legend(loc="upper right", ncols=2, fontsize=6.5, handlelength=1.2)
        line[0].set_ylabel(f"{name_of(rows, head, cell)}:\nnats")
    place.supxlabel("training step", fontsize=8)
    figures.heading(place, "c  loss 1 + loss 2 + ...: what every word adds to its sentence's loss, mean over seeds")


def draw_norms(place, config: Any, run: Any, rows: Sequence[dict], data: dict) -> None:
    """The gradient of a sentence's loss at every word, each layer and direction, early and late in training."""
    figures.heading(place, "d  Gradient of a sentence's loss with respect to the carry at each word, mean over seeds")
    parts = {(h, c): [f"{h}_{c}_seed{seed}" for seed in seeds_of(config)] for h, c in models(rows)}
    every = [part for of_model in parts.values() for part in of_model]
    met = [n for n in data["bounds"] if all((run.path / f"series/{part}_norms_{n}.bin").exists() for part in every)]
    if not met:
        place.text(0.5, 0.5, "no length of batches was met by every model and seed: too few steps", ha="center")
        return
    length = met[len(met) // 2]
    names = [f"layer {n + 1}, {way}" for n in range(config.layers) for way in ("forward", "backward")]
    axes = place.subplots(1, len(names), sharex=True, sharey=True, squeeze=False)[0]
    for n, (head, cell) in enumerate(models(rows)):
        series = (run.series(f"{part}_norms_{length}") for part in parts[head, cell])
        logs = [np.where(np.isfinite(one), one, np.nan) / figures.LN10 for one in series]
        tenth = max(1, min(map(len, logs)) // 10)
        for when, look, steps in (("first", ":", slice(0, tenth)), ("last", "-", slice(-tenth, None))):
            mean = _mean(np.stack([_mean(one[steps]) for one in logs]))
            for axis, profile in zip(axes, mean, strict=True):
                label = f"{name_of(rows, head, cell)}, {when} tenth"
                colour = figures.COLOURS[n % len(figures.COLOURS)]
                axis.plot(range(1, length + 1), profile, look, color=colour, linewidth=1.3, label=label)
    for axis, name in zip(axes, names, strict=True):
        axis.set_title(name, pad=2)
        figures.power_of_ten(axis)
        axis.set_xlim(1, length)
    axes[0].set_ylabel(NORM)
    place.supxlabel(f"word of the sentence (batches padded to {length})", fontsize=8)
    place.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", title="of training")


def _mean(values: np.ndarray) -> np.ndarray:
    """Over records, of what is finite; NaN where nothing is."""
    count = np.isfinite(values).sum(0)
    return np.where(count, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan)


def sentences_of(rows: Sequence[dict]) -> list[dict]:
    """The shown sentences, by the first model and seed."""
    first = of(rows, "sentence")[0]
    return of(rows, "sentence", head=first["head"], cell=first["cell"], seed=first["seed"])


def draw_sentences(place, rows: Sequence[dict], shown: Sequence[dict]) -> None:
    """Words side by side; below each, for every model, its 0 or 1 and the probability of 1, darker where higher."""
    axis = place.subplots()
    axis.set_axis_off()
    lines = len(models(rows)) + 1.6
    axis.set(xlim=(0, 1), ylim=(lines * len(shown), 0))
    mono = dict(family="DejaVu Sans Mono", fontsize=7.5, va="center")
    seed = shown[0]["seed"]
    for n, sentence in enumerate(shown):
        y = n * lines + 0.6
        widths = [max(len(word), 6) + 2 for word in sentence["words"]]
        places = 0.09 + CHARACTER * np.append(0, np.cumsum(widths))
        axis.text(0.0, y, "seen in training" if sentence["seen"] else "unseen", color="0.4", fontsize=7.5, va="center")
        for x, word in zip(places, sentence["words"], strict=False):
            axis.text(x, y, figures.plain(word), **mono, fontweight="bold")
        for m, (head, cell) in enumerate(models(rows)):
            axis.text(0.0, y + m + 1, name_of(rows, head, cell), fontsize=7.5, va="center")
            [row] = of(rows, "sentence", head=head, cell=cell, seed=seed, text=sentence["text"])
            for x, one, chance in zip(places, row["ones"], row["chance_of_1"], strict=False):
                box = dict(facecolor=figures.COLOURS[1], alpha=0.75 * chance, linewidth=0, pad=1.5)
                axis.text(x, y + m + 1, f"{one} {chance:.2f}", **mono, bbox=box)
    learned = "" if any(row["seen"] for row in shown) else ", none learned"
    figures.heading(place, f"e  The lecture's sentences{learned}: 0 or 1, and P(1), by seed {seed}")
