"""The figure of `sentiment`, from its stored rows, series and arrays."""

import itertools
import math
import re
from typing import Any

import numpy as np

from experiments._gradient_table import seeds_of
from experiments._sentiment_table import label_of, log_odds, models_of, rows_of, wilson
from rnnlab import figures

BINS = (0.0, 0.5, 1.0, 1.5, 2.0, math.inf)  # of |rating|
MOST = 44  # words of a text that are drawn


def figure(config: Any, run):
    """Learning curves; accuracy by how clear a text is; gradient norms over time; running scores."""
    rows = run.rows()
    [data] = [row for row in rows if row["kind"] == "data"]
    models = models_of(rows)
    texts = sorted({row["number"] for row in rows if row["kind"] == "running"})
    heights = [3.1, 0.4 + 1.45 * len(texts)]
    with figures.style():
        drawn = figures.figure(10.5, sum(heights) + 0.6)
        top, bottom = drawn.subfigures(2, 1, height_ratios=heights)
        left, middle, right = top.subfigures(1, 3, width_ratios=[1.15, 1, 1])
        draw_learning(left, config, rows, models)
        draw_clarity(middle, config, run, models)
        draw_norms(right, config, run, models)
        draw_running(bottom, config, rows, models, texts)
        drawn.suptitle(
            f"Sentiment of {data['test']:,} held-out texts of {figures.plain(data['name'])} ({data['origin']}), "
            f"{config.layers} x {config.hidden} units, {seeds_of(config)}",
            fontsize=9.5,
        )
    return drawn


def colour_of(models: list, one: tuple[str, str]) -> str:
    return figures.COLOURS[models.index(one) % len(figures.COLOURS)]


def draw_learning(place, config: Any, rows: list[dict], models: list) -> None:
    """Accuracy on training batches and on validation, beside the baselines' on validation."""
    axis = place.subplots()
    groups = {"train": {}, "validation": {}}
    for one in models:
        for kind, group in groups.items():
            found = rows_of(rows, kind, *one)
            steps = sorted({row["step"] for row in found})
            field = "right" if kind == "train" else "accuracy"
            seeds = sorted({row["seed"] for row in found})
            values = [[row[field] for row in found if row["seed"] == seed] for seed in seeds]
            values = [smoothed(v) for v in values] if kind == "train" else values
            group[label_of(*one)] = figures.Curve(steps, [[100 * v for v in seed] for seed in values])
    of = {row["name"]: 100 * row["validation"] for row in rows if row["kind"] == "baseline"}
    chance = {"majority class": of["majority"]}
    figures.curves(axis, groups["train"], groups["validation"], quantity="accuracy, %", chance=chance)
    axis.axhline(of["naive_bayes"], color="0.4", linewidth=0.8, linestyle=":")
    # Below its line, and at the left, where no model has come yet.
    axis.annotate(
        "naive Bayes, validation", (0, of["naive_bayes"]), (4, -3), textcoords="offset points", va="top", color="0.4"
    )
    axis.set_xlim(0, config.steps)
    axis.set_ylim(45, 101)
    axis.legend(loc="lower right", fontsize=6.5, bbox_to_anchor=(1, 0.16))
    figures.heading(place, "a  What is learnt (batches: mean of 20)")


def smoothed(values: list[float], over: int = 20) -> list[float]:
    """The mean of the last `over` steps, or of all there are."""
    total = np.cumsum([0.0, *values])
    first = np.maximum(np.arange(1, len(values) + 1) - over, 0)
    return ((total[1:] - total[first]) / (np.arange(1, len(values) + 1) - first)).tolist()


def draw_clarity(place, config: Any, run, models: list) -> None:
    """Test accuracy by |rating|: what people are not sure of is hard for every model."""
    axis, test = place.subplots(), run.load("test")
    which = np.digitize(np.abs(test["rating"]), BINS[1:-1])
    said = {"naive Bayes": ([test["naive_bayes"]], "0.4")}
    seeds = range(config.seed, config.seed + config.seeds)
    said |= {label_of(*one): ([log_odds(run, *one, seed) for seed in seeds], colour_of(models, one)) for one in models}
    width = 0.8 / len(said)
    for place_of, (label, (found, colour)) in enumerate(said.items()):
        right = np.mean([(odds > 0) == (test["label"] == 1) for odds in found], axis=0)
        for number in range(len(BINS) - 1):
            of = right[which == number]
            if len(of):
                low, high = wilson(of.mean(), len(of))
                height, error = 100 * of.mean(), [[100 * (of.mean() - low)], [100 * (high - of.mean())]]
                at = number + (place_of - (len(said) - 1) / 2) * width
                first = number == which.min()
                axis.bar(at, height, 0.9 * width, yerr=error, color=colour, label=label if first else None,
                         error_kw=dict(linewidth=0.7, ecolor="0.2"))  # fmt: skip
    counts = np.bincount(which, minlength=len(BINS) - 1)
    names = [f"{low:g} to {high:g}" if high < math.inf else f"above {low:g}" for low, high in itertools.pairwise(BINS)]
    axis.set_xticks(range(len(names)), [f"{name}\nn={count}" for name, count in zip(names, counts, strict=True)])
    axis.tick_params(axis="x", labelsize=6.5)
    axis.axhline(50, color="0.4", linewidth=0.8, linestyle=":")
    axis.set(ylim=(40, 118), xlabel="|mean rating| of a test text", ylabel="accuracy, % (bars: 95 % of the texts)")
    axis.set_yticks(range(40, 101, 10))
    axis.legend(loc="upper left", fontsize=6.5)
    figures.heading(place, "b  Clear texts and unclear ones")


def draw_norms(place, config: Any, run, models: list) -> None:
    """How much each word's carry has from the loss: in the first and the last tenth of training, the bucket of the
    longest texts that most steps had."""
    axis, silent = place.subplots(), []
    for one in models:
        norms = norms_of(config, run, *one)
        tenth = max(1, len(norms[0]) // 10)
        for part, look, words in ((slice(0, tenth), "--", "first tenth"), (slice(-tenth, None), "-", "last tenth")):
            value = np.mean([mean_of_finite(seed[part]) for seed in norms], axis=0)
            steps = np.arange(1, len(value) + 1)
            axis.plot(steps, value, look, color=colour_of(models, one), label=f"{label_of(*one)}, {words}")
            if not np.isfinite(value).any():
                silent.append(f"{label_of(*one)}, {words}")
    if silent:  # of a few units dropout leaves a text none, its gradient is 0 and the mean of logarithms -inf
        words = "0 for some text of every step\n(all its units dropped):\n" + "\n".join(silent)
        axis.text(0.5, 0.4, words, transform=axis.transAxes, ha="center", va="center", fontsize=6.5, color="0.4")
    figures.power_of_ten(axis)
    axis.set_xlabel("timestep (word) of a training text")
    axis.set_ylabel(r"$\|\partial L/\partial\,\mathrm{carry}_t\|$, L: a text's loss")
    low, high = axis.get_ylim()
    axis.set_ylim(low - 0.4 * (high - low), high)
    axis.legend(loc="lower left", fontsize=6.5)
    figures.heading(place, "c  What each step has from the loss")


def norms_of(config: Any, run, cell: str, ngrams: str) -> list[np.ndarray]:
    """Base-10 logarithms [N, T] of the top layer, one array a seed, of the bucket that most numbers are of."""
    seeds = range(config.seed, config.seed + config.seeds)
    name = re.compile(rf"{re.escape(cell)}_{ngrams}_seed{seeds[0]}_norms_(\d+)")
    found = {
        int(match[1]): file for file in (run.path / "series").glob("*.bin") if (match := name.fullmatch(file.stem))
    }
    length = max(found, key=lambda steps: found[steps].stat().st_size)
    return [run.series(f"{cell}_{ngrams}_seed{seed}_norms_{length}")[:, -1] / figures.LN10 for seed in seeds]


def mean_of_finite(logs: np.ndarray) -> np.ndarray:
    """Over steps [N, T]; NaN where no text was so long."""
    there = np.isfinite(logs)
    total = np.where(there, logs, 0).sum(0)
    return np.where(there.any(0), total / np.maximum(there.sum(0), 1), np.nan)


def draw_running(place, config: Any, rows: list[dict], models: list, texts: list[int]) -> None:
    """P(positive) after each word, a panel a text: every seed thin, their mean thick."""
    axes = np.atleast_1d(place.subplots(len(texts), 1))
    longest = max(len(row["words"]) for row in rows if row["kind"] == "running")
    for axis, number in zip(axes, texts, strict=True):
        every = [row for row in rows if row["kind"] == "running" and row["number"] == number]
        words = every[0]["words"][:MOST]
        for one in models:
            of = [row for row in every if (row["cell"], row["ngrams"]) == one]
            after = [n for n in of[0]["after"] if n <= MOST]
            values = np.array([row["positive"][: len(after)] for row in of])
            axis.plot(after, values.T, color=colour_of(models, one), linewidth=0.5, alpha=0.35)
            axis.plot(after, values.mean(0), "o-", markersize=2.5, color=colour_of(models, one), label=label_of(*one))
        axis.axhline(0.5, color="0.4", linewidth=0.8, linestyle=":")
        axis.set(xlim=(0.5, min(longest, MOST) + 0.5), ylim=(-0.05, 1.05), yticks=[0, 0.5, 1])
        shown = [figures.plain(word if len(word) <= 14 else word[:13] + "…") for word in words]
        axis.set_xticks(range(1, len(words) + 1), shown, rotation=38, ha="right", rotation_mode="anchor", fontsize=6.5)
        axis.set_title(verdict(every, models), fontsize=7.5, fontweight="normal", pad=3)
    axes[-1].legend(*axes[0].get_legend_handles_labels(), loc="upper right", fontsize=7)
    place.supylabel("P(positive | the first words)", fontsize=8)
    how = "each prefix read as a text of its own" if config.reads == "both" else "one reading, forward"
    figures.heading(place, f"d  The running score after each word ({how}; thin: seeds, thick: their mean)")


def verdict(every: list[dict], models: list) -> str:
    """What people said, whether training had it, and how many seeds of each model are right."""
    row = every[0]
    seen = "seen in training" if row["seen"] else "unseen"
    if math.isnan(row["rating"]):
        return f"the lecture's sentence, {seen}, rated by nobody"
    label, parts = row["rating"] > 0, []
    for one in models:
        of = [r for r in every if (r["cell"], r["ngrams"]) == one]
        right = sum((r["positive"][-1] > 0.5) == label for r in of)
        parts.append(f"{label_of(*one)} right in {right} of {len(of)}")
    return f"test text {row['number'] + 1}, {seen}, rated {row['rating']:+.2f}; " + ", ".join(parts)
