"""What is timed in `throughput`: a cell, its depth and sizes, the floating-point operations that it asks for."""

import math
import os
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from rnnlab.errors import InputError

# Multiplications and additions of the matrix products of one step, one layer and one unit of B H (D + H), forward:
# two for each gate.
PRODUCTS = {"lstm": 8, "gru": 6, "elman": 2}


class Shape(NamedTuple):
    """B x T x D x H."""

    batch: int
    steps: int
    dim: int
    hidden: int

    def __str__(self) -> str:
        return "x".join(map(str, self))


def shape_of(words: str) -> Shape:
    """The shape that "32x100x128x128" names; raises InputError for anything else."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}(x[1-9][0-9]{0,8}){3}", words):
        raise InputError(f"shape: expected BxTxDxH, four positive integers such as 32x100x128x128, got {words!r}")
    return Shape(*map(int, words.split("x")))


class Work(NamedTuple):
    """mode: `train`, the mean of all outputs and its gradients with respect to parameters and inputs; or `infer`,
    all outputs."""

    cell: str
    layers: int
    shape: Shape
    mode: str = "train"

    @property
    def row(self) -> dict:
        """As it stands in a stored row."""
        return self._asdict() | {"shape": str(self.shape)}

    @property
    def flops(self) -> int:
        """Of the matrix products, 2 an element of each; three times that with both gradients."""
        B, T, D, H = self.shape
        forward = PRODUCTS[self.cell] * B * T * H * (D + H + (self.layers - 1) * 2 * H)
        return forward * (3 if self.mode == "train" else 1)


def inputs_of(shape: Shape, seed: int) -> np.ndarray:
    """Generated N(0, 1), float32 [T, B, D]."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((shape.steps, shape.batch, shape.dim), dtype=np.float32)


def lengths_of(shape: Shape, seed: int) -> np.ndarray:
    """Generated, uniform over 1..T, int32 [B]; one row is as long as all of T."""
    lengths = np.random.default_rng(seed).integers(1, shape.steps + 1, shape.batch).astype(np.int32)
    lengths[0] = shape.steps
    return lengths


def geometric_mean(values: Iterable[float]) -> float:
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values))


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_bytes() -> int:
    """Memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
