"""The table of `gradient_flow`, from its stored rows."""

import math
import textwrap
from typing import Any

from rnnlab import report
from rnnlab.cells import own

LABELS = {
    "elman": "Elman (tanh)",
    "elman_relu": "Elman (relu)",
    "lstm": "LSTM, forget bias 1",
    "lstm_forget0": "LSTM, forget bias 0",
    "gru": "GRU",
    "gru_before": "GRU, reset before",
}


def table(config: Any, run) -> str:
    """One line a cell and layer, over seeds; then what the numbers are."""
    rows = run.rows()
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
                    label_of(cell) if top else "",
                    str(layer),
                    *(_over_seeds(before, *column) for column in (("gamma", 3), ("half_life", 1), ("r2", 3))),
                    *(_over_seeds(after, *column) for column in (("gamma", 3), ("half_life", 1))),
                    _over_seeds(scores, "bits", 2) if top else "",
                    f"{scores[0]['parameters']:,}" if top else "",
                ]
            )
    return report.table(header, lines) + "\n\n" + notes(config, run, rows, data)


def notes(config: Any, run, rows: list[dict], data: dict[str, Any]) -> str:
    first, last = config.lags
    # Of a run that was resumed after its last step there is nothing to wait for, and NaN.
    waited = [row["waiting"] for row in run.rows("timings") if math.isfinite(row["waiting"])]
    devices = f"The batch is on {config.devices} devices." if config.devices > 1 else ""
    said = [
        f"bits/char on held-out text: unigram {data['unigram']:.2f}, bigram {data['bigram']:.2f}, counted on the "
        f"training part ({data['scored']:,} of {data['held_out']:,} held-out characters; the models read them as up "
        "to 64 rows, each from a zero state, and leave out fewer than 64).",
        f"data: {data['data']} text, {data['name']}, {data['characters']:,} characters, V={data['vocabulary']}; "
        "the last tenth held out.",
        f"gamma, half-life (steps), R^2: fit of ln ||dL/dcarry_t||, L the loss of the last step, at lags {first} to "
        f"{last}, mean over {config.examples} held-out sequences; before and after {config.steps} steps.",
        f"training: {clipped(rows):.1%} of the steps were clipped, at a norm of {config.clip:g}; "
        f"{max(waited, default=math.nan):.1%} of the time, at most, was spent waiting for input. {devices}",
        f"±: standard deviation over {seeds_of(config)}. H={config.hidden}, T={config.length}, B={config.batch}. Norms "
        "are from taps.",
        f"machine: {report.machine(run.provenance)}; float32.",
    ]
    return "\n".join(textwrap.fill(one, 118) for one in said)


def clipped(rows: list[dict]) -> float:
    """The share of training steps whose gradient was clipped."""
    flags = [row["clipped"] for row in rows if row["kind"] == "train"]
    return sum(flags) / len(flags)


def label_of(cell: str) -> str:
    """What a cell is called for people."""
    return LABELS.get(cell, own.label(cell))


def fits_of(rows: list[dict], cell: str, layer: int, step: int) -> list[dict]:
    """The decay fits of a layer (1 is the first) after `step` training steps, one a seed."""
    wanted = dict(kind="decay", cell=cell, layer=layer, step=step)
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]


def seeds_of(config: Any) -> str:
    last = config.seed + config.seeds - 1
    return f"seed {config.seed}" if config.seeds == 1 else f"seeds {config.seed} to {last}"


def _over_seeds(rows: list[dict], field: str, digits: int) -> str:
    return report.spread([row[field] for row in rows], digits)
