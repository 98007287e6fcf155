"""Which cell forgets, how fast, and how do depth and time multiply the gradient?

Trains character language models (a stack of cells, total loss = the sum of the per-step losses) on real
English text and measures, at initialisation and all through training, the exact gradient norm at every
timestep and layer, for the loss of the last step and for the summed loss.

    python launch.py gradient_flow
    python launch.py gradient_flow --cell=gru,lstm --layers=5 --text=book.txt

Takes 3 to 4 minutes on two cores. Expect, at initialisation in the top layer, half-lives of about 2.5 steps for the
Elman network, the GRU and the LSTM with forget bias 0, and 10 for the LSTM with forget bias 1; and after training
fewer held-out bits per character than the bigram model (3.35) needs, for every cell.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

from rnnlab import cli, figures, probes, report
from rnnlab.cells import CELLS, own
from rnnlab.data import text
from rnnlab.errors import InputError
from rnnlab.layers import zero_taps
from rnnlab.models.language_model import LanguageModel, Params
from rnnlab.models.ngrams import baselines
from rnnlab.progress import Progress

HELD_OUT = 0.1  # the last tenth of the text is never trained on


@dataclasses.dataclass(frozen=True)
class Config:
    cell: tuple[str, ...] = cli.flag(
        ("elman", "lstm_forget0", "lstm", "gru"), f"cells to compare: {', '.join(CELLS)}, or your own, FILE.py:FACTORY"
    )
    layers: int = cli.flag(3, "cells stacked, L", low=1)
    hidden: int = cli.flag(128, "hidden units of each layer, H; also the features of an embedded character", low=1)
    length: int = cli.flag(100, "characters in a training sequence, T", low=4)
    batch: int = cli.flag(16, "sequences in a training step, B", low=1)
    steps: int = cli.flag(250, "training steps", low=1)
    learning_rate: float = cli.flag(5e-3, "Adam's peak step size; warmed up over a tenth, then cosine to 0", low=0.0)
    clip: float = cli.flag(100.0, "largest global norm of the summed loss's gradient", low=0.0)
    measurements: int = cli.flag(7, "points in training, even in log steps, at which all norms are kept", low=1)
    examples: int = cli.flag(32, "held-out sequences over which log-norms are averaged", low=1)
    first_lag: int = cli.flag(0, "first lag of the decay fit; 0 means a twentieth of the length", low=0)
    last_lag: int = cli.flag(0, "last lag of the decay fit; 0 means six tenths of the length", low=0)
    scored: int = cli.flag(50_000, "held-out characters that are scored at the most", low=100)
    text: str = cli.flag("", "a UTF-8 file to train on; by default Python's own reference manual")
    seeds: int = cli.flag(3, "runs of every cell, each with its own seed", low=1, high=1_000_000)
    seed: int = cli.flag(0, "the first seed", low=0, high=2_000_000_000)

    @property
    def lags(self) -> tuple[int, int]:
        """First and last lag of the decay fit."""
        return self.first_lag or self.length // 20, self.last_lag or round(0.6 * self.length)


class Inputs(NamedTuple):
    """train, test: character ids [N]; the test part is the text's last tenth. own: the files of a reader's cells
    and their SHA-256."""

    source: text.Text
    vocabulary: text.Vocabulary
    train: np.ndarray
    test: np.ndarray
    own: dict[str, str]

    @property
    def hashes(self) -> dict[str, str]:
        return {self.source.name: self.source.sha256, **self.own}


def inputs(config: Config) -> Inputs:
    """The text, checked against the configuration."""
    first, last = config.lags
    if not first + 2 <= last < config.length:
        raise InputError(
            f"last_lag: expected at least 3 lags, first_lag = {first} < last_lag < length = {config.length}, got {last}"
        )
    own.check(config.cell)
    source = text.read(config.text) if config.text else text.python_reference()
    train, test = text.split(source.content, HELD_OUT)
    needed = math.ceil((config.length + 2) / HELD_OUT)
    if len(source.content) < needed:
        raise InputError(
            f"text: expected at least {needed} characters for length={config.length} with a tenth held out, "
            f"got {len(source.content)} in {source.name}"
        )
    vocabulary = text.vocabulary(train)
    return Inputs(source, vocabulary, vocabulary.encode(train), vocabulary.encode(test), own.sources(config.cell))


# What is computed.


class State(NamedTuple):
    params: Params
    optimiser: optax.OptState
    step: jax.Array


class Profile(NamedTuple):
    """Log-norms [L, T] of dL/dcarry_t, over examples: of the whole carry, and of each of its leaves."""

    mean: jax.Array
    low: jax.Array
    high: jax.Array
    parts: dict[str, jax.Array]


class Programs(NamedTuple):
    """The compiled functions of one cell, shared by its seeds."""

    init: Callable[..., State]  # seed -> state
    train: Callable[..., Any]  # (state, seed) -> state, (bits, gradient norm, mean log-norms [L, T])
    measure: Callable[..., Any]  # params -> {"last": Profile, "sum": Profile}
    score: Callable[..., Any]  # params -> bits per held-out character


def programs(config: Config, given: Inputs, cell: str) -> Programs:
    model = LanguageModel([own.factory(cell)(config.hidden)] * config.layers, given.vocabulary.size, config.hidden)
    warm, peak = max(1, config.steps // 10), config.learning_rate
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, warm, max(config.steps, warm + 1))
    optimiser = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(schedule))
    total = probes.value_and_grad(lambda params, taps, ids: model.losses(params, ids, taps=taps).sum(0))
    last = probes.value_and_grad(lambda params, taps, ids: model.losses(params, ids, taps=taps)[-1])
    train_ids, probe_ids = jnp.asarray(given.train), jnp.asarray(_windows(given.test, config.length, config.examples))
    scored_rows = jnp.asarray(_rows(given.test[: config.scored + 1]))

    def taps(params: Params, batch: int):
        return zero_taps(model.cells, params.stack, config.length, (batch,))

    def init(seed: jax.Array) -> State:
        params = model.init(jax.random.key(seed))
        return State(params, optimiser.init(params), jnp.zeros((), jnp.int32))

    def train(state: State, seed: jax.Array):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        starts = jax.random.randint(key, (config.batch,), 0, len(train_ids) - config.length)
        ids = train_ids[starts + jnp.arange(config.length + 1)[:, None]]
        found = total(state.params, taps(state.params, config.batch), ids)
        updates, moments = optimiser.update(found.grads, state.optimiser, state.params)
        state = State(optax.apply_updates(state.params, updates), moments, state.step + 1)
        bits = found.losses.mean() / (config.length * math.log(2))
        return state, (bits, optax.tree.norm(found.grads), probes.summarise(found.norms.joint).mean)

    def measure(params: Params) -> dict[str, Profile]:
        zeros = taps(params, probe_ids.shape[1])
        return {name: profile(of(params, zeros, probe_ids).norms) for name, of in (("last", last), ("sum", total))}

    def score(params: Params) -> jax.Array:
        return model.losses(params, scored_rows).mean() / math.log(2)

    return Programs(jax.jit(init), jax.jit(train, donate_argnums=0), jax.jit(measure), jax.jit(score))


def profile(norms: probes.GradientNorms) -> Profile:
    """Over examples, layer by layer; the leaves by name where the carry is a NamedTuple."""
    joint = probes.summarise(norms.joint)
    names = getattr(norms.parts[0], "_fields", ())
    parts = {n: jnp.stack([probes.summarise(getattr(one, n)).mean for one in norms.parts]) for n in names}
    return Profile(joint.mean, joint.low, joint.high, parts)


def _windows(ids: np.ndarray, length: int, count: int) -> np.ndarray:
    """`count` sequences [length+1, count] evenly spread over the text; they overlap where it is short."""
    starts = np.linspace(0, len(ids) - length - 1, count).astype(int)
    return ids[starts + np.arange(length + 1)[:, None]]


def _rows(ids: np.ndarray, most: int = 64) -> np.ndarray:
    """The text as rows [S+1, R] read side by side, each beginning with the last character of the one before."""
    rows = min(most, max(1, (len(ids) - 1) // 100))
    size = (len(ids) - 1) // rows
    return ids[np.arange(rows) * size + np.arange(size + 1)[:, None]]


# The experiment.


def run(config: Config, given: Inputs, run) -> None:
    """Rows: baselines, then for every cell and seed one a training step, one a measured fit, one a score."""
    grams = baselines(given.train, given.test[: config.scored + 1], given.vocabulary.size)
    run.metrics(
        kind="data", name=given.source.name, data="real", characters=len(given.source.content),
        vocabulary=given.vocabulary.size, held_out=len(given.test), scored=min(config.scored, len(given.test) - 1),
        unigram=grams.unigram, bigram=grams.bigram,
    )  # fmt: skip
    points = sorted({0, config.steps, *np.geomspace(1, config.steps, config.measurements).round().astype(int).tolist()})
    jobs = [(cell, config.seed + n) for cell in config.cell for n in range(config.seeds)]
    with Progress(len(jobs) * config.steps, "gradient_flow") as progress:
        for cell in config.cell:
            compiled = programs(config, given, cell)
            for seed in (s for c, s in jobs if c == cell):
                one_run(config, compiled, cell, seed, points, run, progress)


def one_run(config: Config, compiled: Programs, cell: str, seed: int, points: list[int], run, progress) -> None:
    """Trains one cell with one seed; keeps every step's profile of the summed loss, and both losses' at `points`."""
    began = time.perf_counter()
    state = compiled.init(seed)
    measured, steps = [jax.device_get(compiled.measure(state.params))], []
    for step in range(1, config.steps + 1):
        state, seen = compiled.train(state, seed)
        steps.append(jax.device_get(seen))
        bits, norm, _ = steps[-1]
        if not (np.isfinite(bits) and np.isfinite(norm)):
            raise InputError(
                f"learning_rate: expected one at which training stays finite, got {config.learning_rate}: "
                f"{cell} with seed {seed} has loss {bits} and gradient norm {norm} at step {step}"
            )
        run.metrics(kind="train", cell=cell, seed=seed, step=step, bits=bits, gradient_norm=norm)
        if step in points:
            measured.append(jax.device_get(compiled.measure(state.params)))
        progress.step(cell=cell, seed=seed, bits=float(bits))
    run.timing(cell=cell, seed=seed, steps=config.steps, seconds=time.perf_counter() - began)
    _keep(config, cell, seed, points, measured, steps, run)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    stack = sum(leaf.size for leaf in jax.tree.leaves(state.params.stack))
    bits = float(compiled.score(state.params))
    run.metrics(kind="score", cell=cell, seed=seed, bits=bits, parameters=count, stack_parameters=stack)


def _keep(config: Config, cell: str, seed: int, points: list[int], measured: list, steps: list, run) -> None:
    arrays = {"points": np.asarray(points), "train_sum": np.stack([mean for _, _, mean in steps])}
    for loss in ("last", "sum"):
        profiles = [one[loss] for one in measured]
        for field in ("mean", "low", "high"):
            arrays[f"{loss}_{field}"] = np.stack([getattr(one, field) for one in profiles])
        for part in profiles[0].parts:
            arrays[f"{loss}_d{part}"] = np.stack([one.parts[part] for one in profiles])
    run.arrays(f"{own.label(cell)}_seed{seed}", **arrays)
    for point, mean in zip(points, arrays["last_mean"], strict=True):
        fit = jax.device_get(probes.fit_decay(jnp.asarray(mean), *config.lags))
        for layer in range(config.layers):
            gamma, half_life, r2, intercept, count = (float(field[layer]) for field in fit)
            run.metrics(
                kind="decay", cell=cell, seed=seed, step=point, layer=layer + 1, gamma=gamma, half_life=half_life,
                r2=r2, intercept=intercept, lags=int(count),
            )  # fmt: skip


# What is shown: from stored rows and arrays alone.


def table(run) -> str:
    """One line a cell and layer, over seeds; then what the numbers are."""
    config, rows = Config(**run.config), run.rows()
    [data] = [r for r in rows if r["kind"] == "data"]
    header = ["cell", "layer", "gamma", "half-life", "R^2", "trained: gamma", "half-life", "bits/char", "parameters"]
    lines = []
    for cell in config.cell:
        scores = [r for r in rows if r["kind"] == "score" and r["cell"] == cell]
        for layer in range(config.layers, 0, -1):
            before, after = (fits_of(rows, cell, layer, step) for step in (0, config.steps))
            top = layer == config.layers
            lines.append(
                [
                    LABELS.get(cell, own.label(cell)) if top else "",
                    str(layer),
                    *(_over_seeds(before, *column) for column in (("gamma", 3), ("half_life", 1), ("r2", 3))),
                    *(_over_seeds(after, *column) for column in (("gamma", 3), ("half_life", 1))),
                    _over_seeds(scores, "bits", 2) if top else "",
                    f"{scores[0]['parameters']:,}" if top else "",
                ]
            )
    first, last = config.lags
    return "\n".join(
        [
            report.table(header, lines),
            "",
            f"bits/char on held-out text: unigram {data['unigram']:.2f}, bigram {data['bigram']:.2f}, "
            f"counted on the training part ({data['scored']:,} of {data['held_out']:,} held-out characters; the models "
            "read them as up to 64 rows, each from a zero state, and leave out fewer than 64).",
            f"data: {data['data']} text, {data['name']}, {data['characters']:,} characters, V={data['vocabulary']}; "
            "the last tenth held out.",
            f"gamma, half-life (steps), R^2: fit of ln ||dL/dcarry_t||, L the loss of the last step, at lags {first} "
            f"to {last}, mean over {config.examples} held-out sequences; before and after {config.steps} steps.",
            f"±: standard deviation over {seeds_of(config)}. H={config.hidden}, T={config.length}, B={config.batch}. "
            "Norms are from taps, in float32.",
        ]
    )


def fits_of(rows: list[dict], cell: str, layer: int, step: int) -> list[dict]:
    """The decay fits of a layer (1 is the first) after `step` training steps, one a seed."""
    wanted = dict(kind="decay", cell=cell, layer=layer, step=step)
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]


def seeds_of(config: Config) -> str:
    last = config.seed + config.seeds - 1
    return f"seed {config.seed}" if config.seeds == 1 else f"seeds {config.seed} to {last}"


def _over_seeds(rows: list[dict], field: str, digits: int) -> str:
    return report.spread([row[field] for row in rows], digits)


LABELS = {
    "elman": "Elman (tanh)",
    "elman_relu": "Elman (relu)",
    "lstm": "LSTM, forget bias 1",
    "lstm_forget0": "LSTM, forget bias 0",
    "gru": "GRU",
    "gru_before": "GRU, reset before",
}


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


def curves_of(run, config: Config, cell: str) -> Curves:
    stored = [run.load(f"{own.label(cell)}_seed{config.seed + n}") for n in range(config.seeds)]
    mean, low, high, every_step = (
        np.mean([one[f] for one in stored], axis=0)[..., ::-1] / figures.LN10
        for f in ("last_mean", "last_low", "last_high", "train_sum")
    )
    fits = fits_of(run.rows(), cell, config.layers, step=0)
    fit = {field: float(np.mean([r[field] for r in fits])) for field in ("gamma", "intercept", "half_life")}
    colour = figures.COLOURS[config.cell.index(cell) % len(figures.COLOURS)]
    per_layer = 10 ** ((mean[0, 0, 0] - mean[0, -1, 0]) / max(1, config.layers - 1))
    points = stored[0]["points"].tolist()
    return Curves(LABELS.get(cell, own.label(cell)), colour, points, mean, low, high, fit, per_layer, every_step[:, 0])


def figure(run):
    """Decay over lag with fits; time x depth on one colour scale; the profile as training goes, both losses."""
    config = Config(**run.config)
    [data] = [r for r in run.rows() if r["kind"] == "data"]
    curves = [curves_of(run, config, cell) for cell in config.cell]
    columns = min(4, len(curves))
    bands = -(-len(curves) // columns)
    heights = [max(3.7, 0.95 * len(curves)), 0.35 + 1.75 * bands, 0.35 + 1.75 * bands]
    with figures.style():
        drawn = figures.figure(10.5, sum(heights))
        top, middle, bottom = drawn.subfigures(3, 1, height_ratios=heights)
        left, right = top.subfigures(1, 2, width_ratios=[1, 1.1])
        draw_decay(left, config, curves)
        draw_heat(right, config, curves)
        draw_training(middle, config, curves, bands, columns)
        draw_every_step(bottom, config, curves, bands, columns)
        drawn.suptitle(
            f"Exact gradient norms of character language models, {config.layers} x {config.hidden} units, "
            f"{seeds_of(config)}, on {figures.plain(data['name'])}\n"
            "L: one sequence's loss at its last step (a, b, c), summed over its steps (d)",
            fontsize=9.5,
        )
    return drawn


NORM = r"$\|\,\partial L / \partial\,\mathrm{carry}_t\|$"


def draw_decay(place, config: Config, curves: list[Curves]) -> None:
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


def draw_heat(place, config: Config, curves: list[Curves]) -> None:
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


def draw_training(place, config: Config, curves: list[Curves], bands: int, columns: int) -> None:
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


def draw_every_step(place, config: Config, curves: list[Curves], bands: int, columns: int) -> None:
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


def _panels(place, curves: list[Curves], bands: int, columns: int) -> np.ndarray:
    axes = place.subplots(bands, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, one in zip(axes, curves, strict=False):
        axis.set_title(one.label, color=one.colour, pad=2)
    for axis in axes[len(curves) :]:
        axis.set_axis_off()
    return axes


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
