"""The tables of `throughput`, from its stored rows."""

import textwrap
from collections.abc import Sequence

import numpy as np

from experiments._throughput_rows import (
    LABELS,
    MODES,
    Compared,
    compared,
    keep_faster,
    limit,
    mean_ratio,
    merged,
    name_of,
    of_kind,
    stacked,
    steps_of,
)
from experiments._work import geometric_mean
from rnnlab.report import table as aligned
from rnnlab.timing import Ratio, ratio

NONE = "-"


def table(run) -> str:
    """A table a mode and depth, the means, a table a section; then what the numbers are."""
    parts = [*speed(run), *ragged(run), *compilation(run), *memory(run), *taps(run), *seeds(run), notes(run)]
    return "\n\n".join(parts)


def speed(run) -> list[str]:
    found, most = compared(run), limit(run)
    groups = dict.fromkeys((one.mode, one.layers) for one in found)
    tables = [_speed([one for one in found if (one.mode, one.layers) == group], most) for group in groups]
    return tables + ([_means(found)] if found else [])


def _speed(group: list[Compared], most: float | None) -> str:
    header = [
        f"{MODES[group[0].mode]}, {stacked(group[0].layers)} (BxTxDxH)", "rnnlab ms", "fastest on JAX", "ms", "ratio",
        "95 %", "torch ms", "ratio", "95 %", "limit",
    ]  # fmt: skip
    lines = []
    for cell in dict.fromkeys(one.cell for one in group):
        own = [one for one in group if one.cell == cell]
        lines += [_line(one, most) for one in own]
        if len(own) > 1:
            best = [one.ratio(one.fastest).median for one in own if one.fastest]
            means = (geometric_mean(best) if best else None, mean_ratio(own, "torch"))
            best, torch = (NONE if mean is None else f"{mean:.2f}" for mean in means)
            lines.append([f"{LABELS[cell]} geometric mean", "", "", "", best, "", "", torch, "", ""])
    return aligned(header, lines)


def _line(one: Compared, most: float | None) -> list[str]:
    share = NONE if most is None else f"{one.share(most):.2f}"
    best = [one.fastest or NONE, *_beside(one, one.fastest)]
    return [f"{LABELS[one.cell]} {one.shape}", ms(one.seconds["rnnlab"]), *best, *_beside(one, "torch"), share]


def _beside(one: Compared, peer: str | None) -> list[str]:
    if peer not in one.seconds:
        return [NONE, NONE, ""]
    return [ms(one.seconds[peer]), *shown(one.ratio(peer))]


def _means(found: list[Compared]) -> str:
    peers = [peer for peer in dict.fromkeys(p for one in found for p in one.seconds) if peer != "rnnlab"]
    lines = []
    for cell, layers, mode in dict.fromkeys((one.cell, one.layers, one.mode) for one in found):
        group = [one for one in found if (one.cell, one.layers, one.mode) == (cell, layers, mode)]
        means = (mean_ratio(group, peer) for peer in peers)
        words = [NONE if mean is None else f"{mean:.2f}" for mean in means]
        lines.append([f"{LABELS[cell]}, {MODES[mode]}, {stacked(layers)}", *words])
    return aligned(["time over rnnlab's, geometric mean of shapes", *map(name_of, peers)], lines)


def ragged(run) -> list[str]:
    rows = of_kind(run.rows("timings"), "ragged")
    if not rows:
        return []
    [drawn] = of_kind(run.rows(), "lengths")
    lines = []
    for cell in dict.fromkeys(row["cell"] for row in rows):
        taken: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            if row["cell"] == cell:
                keep_faster(taken, (merged(row["peer"]), row["way"]), row["seconds"])
        for (peer, way), seconds in taken.items():
            full = "" if way == "full" else f"{ratio(taken[peer, 'full'], seconds).median:.2f}"
            beside = shown(ratio(taken["rnnlab", "lengths"], seconds))
            lines.append([f"{LABELS[cell]} {name_of(peer)}, {way}", ms(seconds), full, *beside])
    header = [f"training, lengths {drawn['low']} to {drawn['high']}, {drawn['shape']}", "ms", "over full"]
    return [aligned([*header, "over rnnlab's lengths", "95 %"], lines)]


def compilation(run) -> list[str]:
    rows = of_kind(run.rows("timings"), "compile")
    if not rows:
        return []
    base, lines = run.config["base"].split("x"), []
    for label, chosen in compilations(run).items():
        first = chosen[0][1]
        lines += [[f"{label.format(at)}", f"{np.median(s):.2f}", f"{ratio(first, s).median:.2f}"] for at, s in chosen]
    return [aligned([f"compiling, LSTM {base[0]}xTx{base[2]}x{base[3]}", "s", "over the first"], lines)]


def compilations(run) -> dict[str, list[tuple[int, list[float]]]]:
    """How a line is called -> (T or layers, seconds), smallest first."""
    rows, config = of_kind(run.rows("timings"), "compile"), run.config
    found = {(steps_of(row), row["layers"]): row["seconds"] for row in rows}
    base = int(config["base"].split("x")[1])
    lengths = [(steps, found[steps, 1]) for steps in sorted(config["compile_lengths"])]
    depths = [(depth, found[base, depth]) for depth in sorted(config["depths"])]
    return {"1 layer, T={}": lengths, f"T={base}, layers: {{}}": depths}


def memory(run) -> list[str]:
    rows = of_kind(run.rows(), "memory")
    if not rows:
        return []
    taken = {(row["shape"], row["way"]): row["seconds"] for row in of_kind(run.rows("timings"), "memory")}
    resident = {(row["shape"], row["way"]): row["resident"] for row in of_kind(run.rows("timings"), "resident")}
    first = {row["shape"]: row for row in rows if row["way"] == "scan"}
    lines = []
    for row in rows:
        key, plain = (row["shape"], row["way"]), (row["shape"], "scan")
        beside = f"{ratio(taken[key], taken[plain]).median:.2f}" if {key, plain} <= taken.keys() else NONE
        lines.append(
            [
                f"LSTM {row['shape']}, {row['way']}" + (f" of {row['chunk']}" if row["chunk"] else ""),
                mebibytes(row["temporaries"]),
                f"{row['temporaries'] / first[row['shape']]['temporaries']:.0%}",
                ms(taken[key]) if key in taken else "not run",
                beside,
                mebibytes(resident[key]) if key in resident else "",
            ]
        )
    return [aligned(["memory, training", "XLA MiB", "of scan's", "ms", "scan's time over it", "resident MiB"], lines)]


def taps(run) -> list[str]:
    rows = of_kind(run.rows("timings"), "taps")
    lines = []
    for cell in dict.fromkeys(row["cell"] for row in rows):
        taken = {row["name"]: row["seconds"] for row in rows if row["cell"] == cell}
        found = ratio(taken["plain"], taken["taps"])
        lines.append([f"{LABELS[cell]} {rows[0]['shape']}", ms(taken["plain"]), ms(taken["taps"]), *shown(found)])
    header = ["training, norms at every step, ", "plain ms", "with taps ms", "ratio", "95 %"]
    return [aligned([header[0] + stacked(rows[0]["layers"]), *header[1:]], lines)] if rows else []


def seeds(run) -> list[str]:
    rows = of_kind(run.rows("timings"), "seeds")
    lines = []
    for row in rows:
        [turns] = [r["seconds"] for r in rows if r["engine"] == row["engine"] and r["way"] == "in turn"]
        found = ["", ""] if row["way"] == "in turn" else shown(ratio(turns, row["seconds"]))
        lines.append([f"LSTM {row['shape']}, {row['engine']}, {row['way']}", ms(row["seconds"]), *found])
    return [aligned([f"training, {rows[0]['seeds']} seeds", "ms", "over in turn", "95 %"], lines)] if rows else []


def notes(run) -> str:
    """What was measured on what, and what was not measured and why."""
    cpu, device, most = run.provenance["cpu"], run.provenance["device"], limit(run)
    [machine] = of_kind(run.rows(), "machine")
    products = NONE if most is None else f"{most / 1e9:.0f} GFLOP/s, the best matrix product of this run"
    pages = "" if "hugetlb" not in str(run.provenance["environment"]) else ", huge pages"
    versions = {r["peer"]: r["version"] for r in of_kind(run.rows("timings"), "speed") if r["version"]}
    peers = "".join(f", {name_of(peer)} {version}" for peer, version in versions.items() if peer == merged(peer))
    said = [
        "ratio: a peer's median time over rnnlab's, above 1 where rnnlab is faster; 95 %: bootstrap over rounds, "
        f"which go through all in turns. torch: on {machine['threads']} threads or on 1, whichever is faster. limit: "
        f"operations a second of the matrix products alone (training: 3 times inference's), as a share of {products}.",
        *not_measured(run),
        f"machine: {cpu['model']}, {cpu['cores']} cores, {machine['threads']} threads; {device}; float32, products in "
        f"JAX's {machine['precision']} precision{pages}.",
        f"versions: jax {run.provenance['versions']['jax']}{peers}.",
        f"data: generated, N(0, 1), seed {run.config['seed']}. haiku's Elman cell has a ReLU, its GRU resets before "
        "the product.",
    ]
    return "\n".join(textwrap.fill(one, 118) for one in said)


def not_measured(run) -> list[str]:
    """One line of (peer: why) where there is any; a cell is named if it is not all."""
    why: dict[tuple[str, str], list[str]] = {}
    cells = run.config["cell"]
    for row in (row for row in run.rows() if row["kind"] in ("peer", "ragged") and row["peer"] == merged(row["peer"])):
        if row["state"] != "measured" and row["cell"] not in why.setdefault((row["peer"], row["state"]), []):
            why[row["peer"], row["state"]].append(row["cell"])
    said = [
        name_of(peer) + ("" if len(found) == len(cells) else f" ({', '.join(LABELS[c] for c in found)})") + f": {state}"
        for (peer, state), found in why.items()
    ]
    return [f"not measured: {'; '.join(said)}."] if said else []


def ms(seconds: Sequence[float]) -> str:
    value = 1e3 * float(np.median(seconds))
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def mebibytes(count: int) -> str:
    value = count / 2**20
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def shown(found: Ratio) -> list[str]:
    return [f"{found.median:.2f}", f"{found.low:.2f}-{found.high:.2f}"]
