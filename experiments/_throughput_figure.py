"""The figure of `throughput`, from its stored rows: bars of ratios, share of the limit, memory and compilation."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from experiments._peers import PEERS
from experiments._throughput_rows import (
    LABELS,
    MODES,
    Compared,
    compared,
    limit,
    name_of,
    of_kind,
    stacked,
    steps_of,
)
from experiments._throughput_table import compilations
from rnnlab import figures

# A colour a peer, the same in every figure; what is ours is grey.
SHADES = dict(zip(("linen", "torch", "haiku", "equinox", "keras", "nnx"), figures.COLOURS, strict=False)) | {
    "scan": "0.45", "devices": "0.75"
}  # fmt: skip
TICKS, DECADES = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50), (0.01, 0.1, 1, 10, 100, 1000, 10000)


def figure(run) -> Figure:
    """What was measured gets a panel; a run of no section gets an empty figure that says so."""
    found = compared(run)
    bands = list(dict.fromkeys((one.cell, one.layers) for one in found))
    below = [draw for draw, there in ((draw_shares, found and limit(run)), (draw_memory, of_kind(run.rows(), "memory")),
             (draw_compilation, of_kind(run.rows("timings"), "compile"))) if there]  # fmt: skip
    heights = [0.7 + 1.75 * len(bands)] * bool(bands) + [2.9] * bool(below)
    with figures.style():
        drawn = figures.figure(10.5, sum(heights) + 0.5)
        places = drawn.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0] if heights else []
        if bands:
            draw_ratios(places[0], run, found, bands)
        if below:
            widths = [2.6 if draw is draw_shares else 1 for draw in below]
            parts = places[-1].subfigures(1, len(below), width_ratios=widths, squeeze=False)[0]
            for draw, place, letter in zip(below, parts, "bcd" if bands else "abc", strict=False):
                draw(place, run, letter)
        words = "" if heights else "\nnothing here is drawn: see table.txt"
        drawn.suptitle(_title(run) + words, fontsize=9.5)
    return drawn


def _title(run) -> str:
    cpu = run.provenance["cpu"]
    where = (
        f"{cpu['cores']} cores of {cpu['model']}" if "(cpu)" in run.provenance["device"] else run.provenance["device"]
    )
    return f"Recurrent nets in float32 on {figures.plain(where)}: medians of rounds in turns"


def draw_ratios(place, run, found: list[Compared], bands: list[tuple[str, int]]) -> None:
    """Time of each peer over rnnlab's; bars begin at 1, and bars below it are faster than we are."""
    modes = list(dict.fromkeys(one.mode for one in found))
    shapes = list(dict.fromkeys(one.shape for one in found))
    peers = [peer for peer in PEERS if peer != "rnnlab" and any(peer in one.seconds for one in found)]
    axes = place.subplots(len(bands), len(modes), squeeze=False, sharex=True, sharey="row")
    for axis, (cell, layers), mode in (
        (axes[r, c], band, mode) for r, band in enumerate(bands) for c, mode in enumerate(modes)
    ):
        own = {one.shape: one for one in found if (one.cell, one.layers, one.mode) == (cell, layers, mode)}
        _bars(axis, [own.get(shape) for shape in shapes], peers)
        axis.set_title(f"{LABELS[cell]}, {stacked(layers)}, {MODES[mode]}")
        _missing(axis, run, cell, peers)
    for row in axes:  # only now: once a limit is set, the panels beside it do not move it any more
        low, high = row[0].get_ylim()
        row[0].set_ylim(min(low / 1.05, 0.8), max(high, 2.2))
        row[0].yaxis.set_major_locator(FixedLocator(TICKS if max(high, 1 / low) < 50 else DECADES))
    for axis in axes[-1]:
        axis.set_xticks(range(len(shapes)), [_two_lines(shape) for shape in shapes], fontsize=7)
        axis.set(xlim=(-0.55, len(shapes) - 0.45), xlabel="B x T over D x H (thin lines: 95 % intervals)")
    place.supylabel("time over rnnlab's", fontsize=8)
    handles = {
        text: handle for axis in axes.flat for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    if handles:
        place.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles))
    figures.heading(place, "a  Time of each peer over rnnlab's: above 1 rnnlab is faster")


def _bars(axis, own: Sequence[Compared | None], peers: list[str]) -> None:
    width = 0.86 / max(1, len(peers))
    for n, peer in enumerate(peers):
        at = [k for k, one in enumerate(own) if one and peer in one.seconds]
        if not at:
            continue
        median, low, high = np.array([own[k].ratio(peer) for k in at]).T
        spread = np.maximum(0, [median - low, high - median])
        axis.bar(
            np.array(at) + (n - (len(peers) - 1) / 2) * width, median - 1, width, bottom=1, color=SHADES[peer],
            label=name_of(peer), yerr=spread, error_kw=dict(elinewidth=0.6, ecolor="0.2"),
        )  # fmt: skip
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set_yscale("log")
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.grid(axis="y", color="0.9", linewidth=0.5)
    axis.set_axisbelow(True)


def _missing(axis, run, cell: str, peers: list[str]) -> None:
    """Peers that have a place in the figure but not in this panel, and why."""
    rows = [row for row in of_kind(run.rows(), "peer") if row["cell"] == cell and row["state"] != "measured"]
    said = dict.fromkeys(f"{name_of(row['peer'])}: {row['state']}" for row in rows if row["peer"] in peers)
    axis.text(1, 1.02, "; ".join(said), transform=axis.transAxes, ha="right", va="bottom", fontsize=6.5, color="0.35")


def draw_shares(place, run, letter: str) -> None:
    """Ours and torch's share of the matrix-product limit."""
    most, found = limit(run), compared(run)
    depth = min(one.layers for one in found)
    found = [one for one in found if one.layers == depth]
    modes, shapes = (list(dict.fromkeys(getattr(one, field) for one in found)) for field in ("mode", "shape"))
    axes = np.atleast_1d(place.subplots(1, len(modes), sharey=True))
    for axis, mode in zip(axes, modes, strict=True):
        for n, cell in enumerate(dict.fromkeys(one.cell for one in found)):
            own = [one for one in found if (one.mode, one.cell) == (mode, cell)]
            for peer, style in (("rnnlab", dict(marker="o", label=LABELS[cell])), ("torch", dict(marker="x"))):
                points = [
                    (shapes.index(one.shape) + 0.2 * (n - 1), one.share(most, peer))
                    for one in own
                    if peer in one.seconds
                ]
                if points:
                    axis.plot(
                        *zip(*points, strict=True), linestyle="", markersize=4.5, color=figures.COLOURS[n], **style
                    )
        axis.set_title(f"{MODES[mode]}, {stacked(depth)}")
        axis.set_xticks(range(len(shapes)), [_two_lines(shape) for shape in shapes], fontsize=6)
        axis.set_xlim(-0.5, len(shapes) - 0.5)
        axis.grid(axis="y", color="0.9", linewidth=0.5)
    axes[0].set_ylim(0, 1.05 * axes[0].get_ylim()[1])
    if any("torch" in one.seconds for one in found):
        axes[0].plot([], [], "kx", markersize=4.5, label="torch")
    place.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figures.heading(place, f"{letter}  Share of the matrix-product limit, {most / 1e9:,.0f} GFLOP/s")


def draw_memory(place, run, letter: str) -> None:
    """XLA's temporaries of an LSTM's training step, and the whole process's peak."""
    axis = place.subplots()
    for n, way in enumerate(dict.fromkeys(row["way"] for row in of_kind(run.rows(), "memory"))):
        for rows, field, style in (
            (of_kind(run.rows(), "memory"), "temporaries", dict(label=way, linestyle="-", marker="o")),
            (of_kind(run.rows("timings"), "resident"), "resident", dict(linestyle=":", marker="s")),
        ):
            points = sorted((steps_of(row), row[field] / 2**20) for row in rows if row["way"] == way)
            if points:
                axis.loglog(*zip(*points, strict=True), color=figures.COLOURS[n], markersize=3.5, **style)
    if of_kind(run.rows("timings"), "resident"):
        axis.plot([], [], ":s", color="0.4", markersize=3.5, label="peak resident")
    axis.set(xlabel="T", ylabel="MiB")
    axis.grid(color="0.9", linewidth=0.5)
    place.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=6.5)
    figures.heading(place, f"{letter}  Memory, LSTM training")


def draw_compilation(place, run, letter: str) -> None:
    """Seconds against T and against depth."""
    axes = place.subplots(1, 2, sharey=True)
    for axis, points, label in zip(axes, compilations(run).values(), ("T, 1 layer", "layers"), strict=True):
        at, seconds = zip(*((str(at), np.median(seconds)) for at, seconds in points), strict=True)
        axis.bar(at, seconds, width=0.6, color=figures.COLOURS[0])
        axis.set_xlabel(label)
        axis.tick_params(axis="x", labelsize=7)
        axis.yaxis.set_major_locator(MaxNLocator(5))
    axes[0].set_ylabel("s")
    figures.heading(place, f"{letter}  Compiling, LSTM training")


def _two_lines(shape: str) -> str:
    batch, steps, dim, hidden = shape.split("x")
    return f"{batch}x{steps}\n{dim}x{hidden}"
