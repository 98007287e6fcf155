"""The figure of `autocomplete`, from its stored rows."""

from typing import Any

import numpy as np

from experiments._autocomplete_counts import NAMES
from experiments._autocomplete_table import (
    best_seed,
    layers_of,
    models_of,
    of,
    phrase_label,
    seeds_of,
    set_label,
    sets_of,
    standing_of,
)  # fmt: skip
from rnnlab import figures
from rnnlab.cells import own

MEASURES = {"top1": "top-1", "top5": "top-5", "saved1": "keys saved,\n1 offered", "saved3": "keys saved,\n3 offered"}
COLUMNS = 2  # prompts side by side
SMOOTHED = 20  # training steps whose mean is one point: batches of long and of short sentences differ much
GREYS = ("0.82", "0.66", "0.48")  # of the baselines


def figure(config: Any, run):
    """What is learnt; what follows each prompt; the scores on every held-out text."""
    rows = run.rows()
    sentences = of(rows, "sentence")
    bands = -(-len(sentences) // COLUMNS)
    heights = [3.0, 0.35 + 2.05 * bands, 2.9]
    with figures.style():
        drawn = figures.figure(10.5, sum(heights))
        top, middle, bottom = drawn.subfigures(3, 1, height_ratios=heights)
        draw_learning(top, config, rows)
        draw_prompts(middle, config, rows, sentences)
        draw_scores(bottom, config, rows)
        names = ", ".join(row["name"] for row in of(rows, "origin"))
        drawn.suptitle(
            f"Autocomplete: word-level language model, {layers_of(config)}, {seeds_of(config)}\n"
            f"trained on {figures.plain(names)}; in lower case",
            fontsize=9.5,
        )
    return drawn


def draw_learning(place, config: Any, rows: list[dict]) -> None:
    """Perplexity of training batches and of the validation replies, beside what counting reaches."""
    seeds = range(config.seed, config.seed + config.seeds)
    training, validation = {}, {}
    for cell in config.cell:
        found = {kind: [of(rows, kind, cell=cell, seed=seed) for seed in seeds] for kind in ("train", "validation")}
        nats = np.array([[row["loss"] for row in one] for one in found["train"]])
        size = min(SMOOTHED, nats.shape[1])
        blocks = nats[:, : nats.shape[1] // size * size].reshape(len(nats), -1, size).mean(-1)
        training[own.label(cell)] = figures.Curve(size * (np.arange(blocks.shape[1]) + 0.5), np.exp(blocks))
        steps = [row["step"] for row in found["validation"][0]]
        validation[own.label(cell)] = figures.Curve(
            steps, np.exp([[row["loss"] for row in one] for one in found["validation"]])
        )
    axis = place.subplots()
    figures.curves(axis, training, validation, quantity="perplexity (log scale)", chance={})
    axis.set_yscale("log")
    axis.set_xlim(0, config.steps)
    _levels(axis, {row["model"]: row["perplexity"] for row in of(rows, "baseline")})
    low, high = axis.get_ylim()
    axis.set_yticks([tick for tick in (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if low < tick < high])
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_formatter(lambda value, _: "")
    axis.legend(loc="upper right", bbox_to_anchor=(1.0, 1.0))
    words = (
        f"training batches of all text, means of {size} steps; validation, dots: replies of other templates and names"
    )
    figures.heading(place, f"a  What is learnt ({words})")


def _levels(axis, levels: dict[str, float]) -> None:
    """A baseline's perplexity on the validation replies as a line, its name beside the right end."""
    low, high = np.log(axis.get_ylim())
    low, high = min(low, *(np.log(level) - 0.1 for level in levels.values())), high
    axis.set_ylim(np.exp(low), np.exp(high))
    places = figures.spread_labels([float(np.log(level)) for level in levels.values()], 0.075 * (high - low))
    for (name, level), at in zip(levels.items(), places, strict=True):
        axis.axhline(level, color="0.4", linewidth=0.8, linestyle=":")
        beside = dict(transform=axis.get_yaxis_transform(), va="center", color="0.4", fontsize=7)
        axis.text(1.005, np.exp(at), f"{name} {level:.0f}", **beside)


def draw_prompts(place, config: Any, rows: list[dict], sentences: list[dict]) -> None:
    """Next words and phrases after each prompt, of the seed that validated best."""
    cell = config.cell[0]
    seed = best_seed(rows, cell)
    bands = -(-len(sentences) // COLUMNS)
    parts = place.subfigures(bands, COLUMNS, squeeze=False).ravel()
    for part, sentence in zip(parts, sentences, strict=False):
        [row] = of(rows, "prompt", prompt=sentence["prompt"], cell=cell, seed=seed)
        left, right = part.subplots(1, 2)
        _bars(left, row["words"], row["word_probabilities"], row["expected"].split()[:1], "next word")
        labels = [phrase_label(phrase) for phrase in row["phrases"]]
        _bars(
            right, labels, row["phrase_probabilities"], [row["expected"]], f"next {len(row['expected'].split())} words"
        )
        ours = "the lecture's" if sentence["lecture"] else "ours"
        words = f"{ours}: {figures.plain(sentence['prompt'])} ...\n... {row['expected']}: {standing_of(sentence)}"
        part.suptitle(words, x=0.03, ha="left", fontsize=8, color="#A03C00" if sentence["seen"] else "#00664A")
    figures.heading(
        place, f"b  What follows: {own.label(cell)}, seed {seed}, the best by validation (blue: as it should go on)"
    )


def _bars(axis, labels: list[str], shares: list[float], expected: list[str], what: str) -> None:
    places = np.arange(len(labels))[::-1]
    colours = [figures.COLOURS[0] if label in expected else "0.72" for label in labels]
    axis.barh(places, shares, color=colours, height=0.7)
    for at, share in zip(places, shares, strict=True):
        axis.text(share + 0.01, at, f"{share:.1%}", va="center", fontsize=7, color="0.3")
    axis.set_yticks(places, [figures.plain(label) for label in labels])
    axis.set(xlim=(0, 1.15), ylim=(-0.6, max(len(labels), 1) - 0.4), xlabel=f"probability of the {what}")
    axis.set_xticks([0, 0.5, 1])
    axis.tick_params(axis="y", length=0)


def draw_scores(place, config: Any, rows: list[dict]) -> None:
    """A panel a held-out text: the four shares, a bar a model; the deviation over seeds as a line."""
    names, models = sets_of(rows), models_of(config)
    colours = [*GREYS, *(figures.COLOURS[n % len(figures.COLOURS)] for n in range(len(config.cell)))]
    axes = place.subplots(1, len(names), sharey=True, squeeze=False)[0]
    width = 0.8 / len(models)
    for axis, name in zip(axes, names, strict=True):
        for at, (model, colour) in enumerate(zip(models, colours, strict=True)):
            found = of(rows, "test", set=name, model=model)
            values = 100 * np.array([[row[measure] for measure in MEASURES] for row in found])
            places = np.arange(len(MEASURES)) + (at - (len(models) - 1) / 2) * width
            spread = values.std(0, ddof=1) if len(values) > 1 else None
            axis.bar(places, values.mean(0), width, yerr=spread, color=colour, label=own.label(model), ecolor="0.2")
            for x, y in zip(places, values.mean(0), strict=True):
                axis.text(x, y + 1.2, f"{y:.0f}", ha="center", va="bottom", fontsize=5.5, color="0.3")
        [facts] = of(rows, "test", set=name, model=NAMES[0])
        axis.set_title(
            f"{figures.plain(set_label(rows, name))}\n{facts['words']:,} words, {facts['unknown']:.0%} unknown"
        )
        axis.set_xticks(range(len(MEASURES)), MEASURES.values(), fontsize=7)
    axes[0].set_ylim(0, 1.08 * axes[0].get_ylim()[1])
    axes[0].set_ylabel("% of words, % of keystrokes")
    place.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    figures.heading(place, "c  Held-out text, looked at once; an unknown word is a miss (lines: deviation over seeds)")
