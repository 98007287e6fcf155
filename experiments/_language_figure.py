"""The figure of `language_model`, from its stored rows and series."""

from typing import Any

import numpy as np

from experiments._language_table import baselines, seeds_of
from rnnlab import figures
from rnnlab.cells import own


def figure(config: Any, run):
    """Learning beside the baselines; how the gradient fades over the steps it goes back, early and late in training."""
    rows = run.rows()
    [data] = [row for row in rows if row["kind"] == "data"]
    with figures.style():
        page = figures.figure(10.5, 3.8)
        left, right = page.subplots(1, 2, width_ratios=[1.25, 1])
        learning(left, config, data, rows)
        gradients(right, config, run)
        page.suptitle(
            f"Language models of {figures.plain(data['name'])} ({data['origin']} text, {data['train']:,} "
            f"{config.level} to train on), {config.layers} x {config.hidden} units, {seeds_of(config)}",
            fontsize=9.5,
        )
    return page


def learning(axis, config: Any, data: dict, rows: list[dict]) -> None:
    """Training thin and smoothed, validation with marks, the test of the chosen step as a diamond."""
    for place, cell in enumerate(map(own.label, config.cell)):
        colour, name = figures.COLOURS[place % len(figures.COLOURS)], figures.plain(cell)
        for seed in range(config.seed, config.seed + config.seeds):
            of = lambda kind, cell=cell, seed=seed: [  # noqa: E731
                r for r in rows if r["kind"] == kind and r["cell"] == cell and r["seed"] == seed
            ]
            first = seed == config.seed
            train, validation = of("train"), of("validation")
            steps, losses = smoothed([r["step"] for r in train], [r["loss"] for r in train])
            axis.plot(steps, losses, color=colour, alpha=0.35, linewidth=0.8, label=f"{name}, training" * first)
            axis.plot(
                [r["step"] for r in validation], [r["loss"] for r in validation], color=colour, marker="o",
                markersize=3, label=f"{name}, ninth tenth" * first,
            )  # fmt: skip
            for chosen, test in zip(of("chosen"), of("test"), strict=True):
                axis.plot(
                    chosen["step"], test["loss"], "D", color="black", markersize=5, zorder=3,
                    label="last tenth, of the best step" * (first and place == 0),
                )  # fmt: skip
    for name, key in baselines(config):
        axis.axhline(data[key], color="0.4", linewidth=0.8, linestyle=":")
        axis.text(
            1, data[key], f"{name}, last tenth: {data[key]:.2f}", transform=axis.get_yaxis_transform(), ha="right",
            va="bottom", color="0.35",
        )  # fmt: skip
    lowest = min(r["loss"] for r in rows if r["kind"] in ("test", "validation"))
    ends = [r["loss"] for r in rows if r["kind"] == "validation" and r["step"] == config.steps]
    low, high = min(lowest, data["kneser_ney"]), max(data["unigram"], data["bigram"], *ends)
    axis.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    axis.set(xlabel="training step", ylabel=f"nats a {config.level.removesuffix('s')}", title="learning")
    axis.legend(loc="upper right", bbox_to_anchor=(1, 0.93))


def smoothed(steps: list[int], values: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Means of a hundredth of the steps, at their middle."""
    pieces = min(100, len(steps))
    cut = lambda one: np.array([part.mean() for part in np.array_split(np.asarray(one, float), pieces)])  # noqa: E731
    return cut(steps), cut(values)


def gradients(axis, config: Any, run) -> None:
    """Mean log-norms of every layer, over seeds, in the first and the last twentieth of training."""
    some = max(1, config.steps // 20)
    for place, cell in enumerate(map(own.label, config.cell)):
        found = [
            run.series(f"{cell}_seed{config.seed + n}_norms_{config.length}") for n in range(config.seeds)
        ]  # each [steps, L, T]
        for part, dashes, cut in (("first", "--", np.s_[:some]), ("last", "-", np.s_[-some:])):
            mean = np.exp(np.mean([np.asarray(one[cut]).mean(0) for one in found], axis=0))
            for layer in range(config.layers):
                axis.plot(
                    np.arange(1, config.length + 1), mean[layer], dashes, alpha=1 - 0.6 * layer / config.layers,
                    color=figures.COLOURS[place % len(figures.COLOURS)],
                    label=f"{figures.plain(cell)}{f', layer {layer + 1}' * (config.layers > 1)}, {part} {some:,} steps",
                )  # fmt: skip
    axis.set_yscale("log")
    axis.set(
        xlabel=f"step t of {config.length}", title="gradient of a row's summed loss",
        ylabel=r"$\|\,\partial L / \partial\,\mathrm{carry}_t\|$, geometric mean over rows",
    )  # fmt: skip
    axis.legend()
