"""Stored rows of `throughput`, put together for its table and its figure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from experiments._peers import JAX_PEERS
from experiments._work import geometric_mean
from rnnlab.timing import Ratio, ratio

LABELS = {"lstm": "LSTM", "gru": "GRU", "elman": "Elman"}
NAMES = {
    "rnnlab": "rnnlab", "devices": "rnnlab, all devices", "scan": "rnnlab, plain scan", "linen": "flax linen",
    "nnx": "flax nnx",
}  # fmt: skip
MODES = {"train": "training", "infer": "inference"}


class Compared(NamedTuple):
    """One cell, depth, shape and mode: seconds of every peer that was measured, round by round.

    torch is itself on all threads or on one, whichever is faster.
    """

    cell: str
    layers: int
    shape: str
    mode: str
    flops: int
    seconds: dict[str, list[float]]

    def median(self, peer: str) -> float:
        return float(np.median(self.seconds[peer]))

    def ratio(self, peer: str) -> Ratio:
        """Its time over ours."""
        return ratio(self.seconds["rnnlab"], self.seconds[peer])

    @property
    def fastest(self) -> str | None:
        """The JAX peer of the least median."""
        return min((peer for peer in JAX_PEERS if peer in self.seconds), key=self.median, default=None)

    def share(self, limit: float, peer: str = "rnnlab") -> float:
        """Of `limit` operations a second."""
        return self.flops / self.median(peer) / limit


KEY = ("cell", "layers", "shape", "mode")


def merged(peer: str) -> str:
    return "torch" if peer == "torch_single" else peer


def keep_faster(seconds: dict, name: object, taken: list[float]) -> None:
    if name not in seconds or np.median(taken) < np.median(seconds[name]):
        seconds[name] = taken


def compared(run) -> list[Compared]:
    found = {}
    for row in of_kind(run.rows(), "work"):
        key = tuple(row[name] for name in KEY)
        found[key] = Compared(*key, row["flops"], {})
    for row in of_kind(run.rows("timings"), "speed"):
        keep_faster(found[tuple(row[name] for name in KEY)].seconds, merged(row["peer"]), row["seconds"])
    return list(found.values())


def limit(run) -> float | None:
    """Operations a second of the fastest matrix product; None where that was not measured."""
    rows = of_kind(run.rows("timings"), "limit")
    return max((row["flops"] / min(row["seconds"]) for row in rows), default=None)


def of_kind(rows: Iterable[dict], kind: str) -> list[dict]:
    return [row for row in rows if row["kind"] == kind]


def mean_ratio(group: Sequence[Compared], peer: str) -> float | None:
    """Geometric mean over those where it was measured; None where it was not."""
    ratios = [one.ratio(peer).median for one in group if peer in one.seconds]
    return geometric_mean(ratios) if ratios else None


def name_of(peer: str) -> str:
    return NAMES.get(peer, peer)


def stacked(layers: int) -> str:
    return f"{layers} layer{'s' * (layers > 1)}"


def steps_of(row: dict) -> int:
    """T of a row's shape."""
    return int(row["shape"].split("x")[1])
