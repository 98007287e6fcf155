"""The table of `sentiment`, from its stored rows and arrays."""

import math
import textwrap
from typing import Any

import numpy as np

from experiments._gradient_table import seeds_of
from rnnlab import report

NGRAMS = {
    "none": "",
    "zeros": " + n-grams from 0",
    "naive_bayes": " + n-grams from naive Bayes",
}
BASELINES = {"majority": "majority class", "naive_bayes": "naive Bayes, words and pairs"}
JOINED = {"plain": "outputs", "residual": "outputs plus inputs"}
HEADER = ("model", "parameters", "validation", "test accuracy", "95 % of the texts", "nats a text", "over naive Bayes")


def table(config: Any, run) -> str:
    """The baselines and one line a model, over seeds; then what the numbers are."""
    rows = run.rows()
    [data] = [row for row in rows if row["kind"] == "data"]
    baselines = {row["name"]: row for row in rows if row["kind"] == "baseline"}
    lines = []
    for name, words in BASELINES.items():
        row = baselines[name]
        reached = f"{row['test']:.1%}"
        lines.append([words, "", f"{row['validation']:.1%}", reached, within(row["test"], data["test"]), "", ""])
    lines += [line(config, run, rows, *one) for one in models_of(rows)]
    return report.table(HEADER, lines) + "\n\n" + notes(config, run, rows, data, baselines)


def models_of(rows: list[dict]) -> list[tuple[str, str]]:
    """Cells and what their n-grams begin as, in the order of their rows."""
    return list(dict.fromkeys((row["cell"], row["ngrams"]) for row in rows if row["kind"] == "test"))


def label_of(cell: str, ngrams: str) -> str:
    return f"{cell}{NGRAMS[ngrams]}"


def rows_of(rows: list[dict], kind: str, cell: str, ngrams: str) -> list[dict]:
    wanted = dict(kind=kind, cell=cell, ngrams=ngrams)
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]


def line(config: Any, run, rows: list[dict], cell: str, ngrams: str) -> list[str]:
    tests, chosen = (rows_of(rows, kind, cell, ngrams) for kind in ("test", "chosen"))
    reached = [100 * row["right"] / row["count"] for row in tests]
    seeds = [row["seed"] for row in tests]
    return [
        label_of(cell, ngrams),
        f"{chosen[0]['parameters']:,}",
        f"{np.mean([row['accuracy'] for row in chosen]):.1%}",
        report.interval(reached, 1, low=0, high=100) + " %",
        within(float(np.mean(reached)) / 100, tests[0]["count"]),
        report.interval([row["nats"] for row in tests], 3, low=0),
        gain(run, cell, ngrams, seeds),
    ]


def within(share: float, count: int) -> str:
    """The 95 % interval of a share of so many texts, in per cent."""
    low, high = wilson(share, count)
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of so many (Wilson 1927), which never leaves [0, 1]."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count**2)) / (1 + z * z / count)
    return middle - half, middle + half


def gain(run, cell: str, ngrams: str, seeds: list[int]) -> str:
    """Points of accuracy over naive Bayes on the same texts, and the 95 % interval over texts of this difference."""
    test = run.load("test")
    label = test["label"] == 1
    own = np.mean([(log_odds(run, cell, ngrams, seed) > 0) == label for seed in seeds], axis=0)
    each = own - ((test["naive_bayes"] > 0) == label)
    mean, half = each.mean(), 1.959964 * each.std(ddof=1) / math.sqrt(len(each)) if len(each) > 1 else math.nan
    return f"{100 * mean:+.1f} [{100 * (mean - half):+.1f}, {100 * (mean + half):+.1f}]"


def log_odds(run, cell: str, ngrams: str, seed: int) -> np.ndarray:
    """Of positive, of every test text."""
    return run.load(f"{cell}_{ngrams}_seed{seed}_test")["log_odds"]


def sentences(rows: list[dict]) -> list[str]:
    """The lecture's sentence: what each model makes of it, and whether it was seen in training."""
    shown = [row for row in rows if row["kind"] == "running" and math.isnan(row["rating"])]
    said = []
    for cell, ngrams in models_of(rows):
        of = [row for row in shown if (row["cell"], row["ngrams"]) == (cell, ngrams)]
        last = ", ".join(f"{row['positive'][-1]:.1%}" for row in of)
        seen = "seen in training" if of[0]["seen"] else "unseen"
        said.append(
            f"shown, the lecture's: {' '.join(of[0]['words'])!r} ({seen}): P(positive) by {label_of(cell, ngrams)}: "
            f"{last}, a seed each."
        )
    return said


def notes(config: Any, run, rows: list[dict], data: dict[str, Any], baselines: dict[str, dict]) -> str:
    reads = "forward" if config.reads == "forward" else "both ways"
    said = [
        f"data: {data['origin']} texts, {data['name']}; label: the sign of the mean rating, {data['zeros']} exact "
        f"zeros dropped; split by the SHA-256 of the id: train {data['train']:,}, validation {data['validation']:,}, "
        f"test {data['test']:,}. Of {data['repeated']} repetitions of a text, validation or test had {data['removed']} "
        f"of the training texts, which were taken out of training; {data['shared']} test texts are in validation too. "
        f"{data['words']:,} words and {data['grams']:,} words and pairs known, of the training texts alone.",
        "test: looked at once, by the parameters that were most often right on validation; mean over "
        f"{seeds_of(config)} and its 95 % interval (Student's t over seeds). 95 % of the texts: Wilson's interval of "
        "that accuracy, as if other texts had been drawn. over naive Bayes: points on the same texts, with the 95 % "
        "interval of the paired difference over texts.",
        f"naive Bayes: multinomial on counts, alpha {baselines['naive_bayes']['alpha']:g} of those tried was best on "
        "validation. n-grams: a linear term of words and pairs of words is added to the network's logits and trained "
        + (f"with it; it begins at {config.ngrams_scale:g} of naive Bayes' log-odds (Wang & Manning 2012)."
           if "naive_bayes" in config.ngrams else "with it, where the model says so."),
        f"networks: no pre-trained vectors; {config.layers} layer(s) of {config.hidden} units, reading {reads}, "
        f"handing on {JOINED[config.join]}, {config.pool} over steps, embeddings of {config.embedding}, dropout "
        f"{config.dropout:g}, of words {config.word_dropout:g}; {config.steps:,} steps of {config.batch} texts, "
        f"{config.optimiser} at {config.learning_rate:g}, clipped at {config.clip:g}.",
        *sentences(rows),
        f"machine: {report.machine(run.provenance)}; float32.",
    ]  # fmt: skip
    return "\n".join(textwrap.fill(one, 118) for one in said)
