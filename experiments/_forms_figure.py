"""The figure of `forms`, from its stored rows and arrays."""

from typing import Any

import numpy as np
from matplotlib.patches import FancyBboxPatch

from experiments._forms_data import FORMS
from experiments._forms_table import NAMES, terms
from experiments._gradient_table import seeds_of
from rnnlab import figures
from rnnlab.cells import own

WHEN = {"before": "0.65", "after": figures.COLOURS[0]}


def figure(config: Any, run):
    """A column a form: what is read, carried and said; the loss terms; what each sends to each step."""
    rows = run.rows()
    data = {row["form"]: row for row in rows if row["kind"] == "data"}
    norms = {(form, when): norms_of(config, run, form, when) for form in FORMS for when in WHEN}
    finite = np.concatenate([one[np.isfinite(one)] for one in norms.values()])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (-1.0, 0.0)
    with figures.style():
        drawn = figures.figure(12.0, 10.4)
        grid = drawn.subplots(4, len(FORMS), height_ratios=[1.15, 1, 1.5, 1.5], squeeze=False)
        for column, form in enumerate(FORMS):
            diagram(grid[0, column], data[form])
            draw_terms(grid[1, column], rows, data[form])
            for place, when in ((2, "before"), (3, "after")):
                image = draw_norms(grid[place, column], norms[form, when], data[form], when, (low, high))
        bar = drawn.colorbar(image, ax=list(grid[2:].ravel()), fraction=0.03, pad=0.01)
        bar.set_label(r"$\|\,\partial\,\mathrm{loss}_s / \partial\,\mathrm{carry}_t\|$; white: exactly 0, or no term")
        figures.power_of_ten(bar.ax)
        grid[1, 0].legend(loc="upper right")
        drawn.suptitle(
            f"One network in three forms: {own.label(config.cell)}, {config.layers} x {config.hidden} units, the same "
            f"shapes in each; mean over {seeds_of(config)}, {config.steps:,} training steps",
            fontsize=9.5,
        )
    return drawn


def norms_of(config: Any, run, form: str, when: str) -> np.ndarray:
    """Base-10 logarithms [S, T] of the top layer, mean over seeds."""
    seeds = range(config.seed, config.seed + config.seeds)
    return np.mean([run.load(f"{form}_seed{seed}_{when}")["norms"][-1] for seed in seeds], axis=0) / figures.LN10


def scored(data: dict[str, Any]) -> list[int]:
    """The steps with a term."""
    return [step for step, answer in enumerate(data["answers"]) if answer != "-1"]


def diagram(axis, data: dict[str, Any]) -> None:
    """What is read below, the carry from step to step, and above, what is to be said where a loss is."""
    words, count = data["words"], len(data["words"])
    generates = data["form"] == "one_to_many"
    slant = dict(rotation=90 if count > 5 else 0, ha="center", fontsize=6.5 if count > 10 else 7.5)
    for step, word in enumerate(words):
        axis.add_patch(FancyBboxPatch((step - 0.28, -0.2), 0.56, 0.4, boxstyle="round,pad=0.03", fc="0.93", ec="0.4"))
        grey = "0.55" if generates and step else "black"
        axis.annotate("", (step, -0.25), (step, -0.62), arrowprops=dict(arrowstyle="->", color=grey, lw=0.8))
        axis.text(step, -0.68, shorter(word), va="top", color=grey, **slant)
        if step + 1 < count:
            axis.annotate("", (step + 0.7, 0), (step + 0.3, 0), arrowprops=dict(arrowstyle="->", lw=0.8))
    for step in scored(data):
        axis.annotate("", (step, 0.62), (step, 0.25), arrowprops=dict(arrowstyle="->", color=WHEN["after"], lw=0.8))
        said = {"<end>": "end"}.get(data["answers"][step], data["answers"][step])
        if data["form"] == "many_to_one":
            said = ("negative", "positive")[int(said)]
        axis.text(step, 0.68, shorter(said), va="bottom", color=WHEN["after"], **slant)
    axis.set(xlim=(-0.6, count - 0.4), ylim=(-2.1, 2.1))
    axis.set_axis_off()
    seen = "seen in training" if data["seen"] else "unseen"
    axis.set_title(f"{NAMES[data['form']]}\n{data['origin']} data; this example {seen}", fontsize=8.5)


def shorter(word: str, most: int = 10) -> str:
    return figures.plain(word if len(word) <= most else word[: most - 1] + "…")


def draw_terms(axis, rows: list[dict], data: dict[str, Any]) -> None:
    """loss 1, loss 2, ..., mean over seeds, and every seed as a dot."""
    steps = np.array(scored(data))
    totals = []
    for shift, (when, colour) in zip((-0.2, 0.2), WHEN.items(), strict=True):
        of = terms(rows, data["form"], when)
        values = np.array([row["losses"] for row in of])[:, steps]
        axis.bar(steps + 1 + shift, values.mean(0), 0.38, color=colour, label=f"{when} training")
        for seed in values:
            axis.plot(steps + 1 + shift, seed, ".", color="black", markersize=2.5)
        totals.append(f"{when} {np.mean([row['total'] for row in of]):.2f}")
    names = "loss " + " + ".join(map(str, steps[:2] + 1)) + (" + ..." if len(steps) > 2 else "")
    axis.set_title(f"{names} = total: {', '.join(totals)} nats", fontsize=7.5, fontweight="normal")
    axis.set(xlim=(0.4, len(data["words"]) + 0.6), ylabel="loss of the step, nats", xlabel="step s")
    axis.locator_params(axis="x", integer=True)
    axis.set_ylim(0, 1.3 * axis.get_ylim()[1])  # room for the legend


def draw_norms(axis, norms: np.ndarray, data: dict[str, Any], when: str, span: tuple[float, float]):
    """[s, t]; the steps without a term, and later carries than the term's own, are white."""
    count = len(norms)
    value = np.where(np.isfinite(norms), norms, np.nan)
    extent = (0.5, count + 0.5, 0.5, count + 0.5)
    shown = dict(vmin=span[0], vmax=span[1], cmap="viridis", aspect="auto", origin="lower", interpolation="nearest")
    image = axis.imshow(value, extent=extent, **shown)
    axis.set(xlabel="timestep t of the carry", ylabel="loss term s")
    axis.locator_params(integer=True)
    axis.set_title(f"{when} training", fontsize=7.5, fontweight="normal")
    return image
