"""How fast are our cells beside torch, flax, haiku, equinox and keras, and how far from the machine's limit?

Times a training step (the mean of all outputs, its gradients with respect to parameters and inputs) and inference of
the same sizes in every library, in turns in one process; then ragged batches, compilation, memory, taps and seeds.

    python launch.py throughput
    python launch.py throughput --section=limit,speed --cell=lstm --shape=32x100x128x128,64x50x300x300 --seconds=10
    python launch.py throughput --layers=1,2,4 --seconds=8 --rounds=5 --lengths=1000,10000,100000       # everything

A peer that is not installed is named as such; `pip install '.[bench]'` installs them all. Where JAX has several devices
(XLA_FLAGS=--xla_force_host_platform_device_count=2 makes two of a CPU) our cells also run with the batch split.
Takes 12 minutes on two idle cores; --section, --shape, --cell and --peer choose less. Expect, training one layer, as
geometric means over the shapes, 1.2 to 1.4 times the speed of the fastest JAX peer, and of torch's 2.1 to 2.3 times for
GRU and Elman and 0.9 for the LSTM; and 5 % of the plain scan's memory with chunks, at T=10,000.
"""

import dataclasses
import sys
from typing import NamedTuple

import jax

from experiments import _throughput_figure, _throughput_table
from experiments._peers import PEERS
from experiments._sections import SECTIONS
from experiments._work import PRODUCTS, cores, shape_of
from rnnlab import cli
from rnnlab.errors import InputError
from rnnlab.progress import Progress

SHAPES = (
    "32x100x128x128", "32x1000x128x128", "128x256x256x256", "8x512x512x512", "1x2000x128x128", "256x784x1x100"
)  # fmt: skip
OTHERS = tuple(peer for peer in PEERS if peer != "rnnlab")


@dataclasses.dataclass(frozen=True)
class Config:
    section: tuple[str, ...] = cli.flag(tuple(SECTIONS), "what to measure", choices=tuple(SECTIONS))
    cell: tuple[str, ...] = cli.flag(tuple(PRODUCTS), "cells", choices=tuple(PRODUCTS))
    layers: tuple[int, ...] = cli.flag((1,), "cells stacked, in the section speed", low=1)
    mode: tuple[str, ...] = cli.flag(("train", "infer"), "training step or outputs alone", choices=("train", "infer"))
    shape: tuple[str, ...] = cli.flag(SHAPES, "sizes BxTxDxH in the section speed")
    peer: tuple[str, ...] = cli.flag(
        OTHERS, "what rnnlab is compared with; scan is its plain engine, devices itself on all devices", choices=OTHERS
    )
    base: str = cli.flag("32x200x128x128", "sizes BxTxDxH in the other sections, which vary one of them")
    lengths: tuple[int, ...] = cli.flag((1_000, 10_000), "T in the section memory", low=1)
    chunk: int = cli.flag(100, "steps of a chunk in the section memory", low=1)
    compile_lengths: tuple[int, ...] = cli.flag((50, 200, 2_000), "T in the section compile", low=1)
    depths: tuple[int, ...] = cli.flag((1, 2, 4, 8), "layers in the section compile", low=1)
    seeds: int = cli.flag(8, "seeds in the section seeds", low=2)
    seconds: float = cli.flag(1.5, "seconds of every comparison, and ...", low=0.0)
    rounds: int = cli.flag(3, "... rounds of every comparison, at the least", low=1)
    seed: int = cli.flag(0, "seed of the inputs", low=0, high=2_000_000_000)


class Inputs(NamedTuple):
    """Nothing is read: inputs are generated from the seed, which is part of the configuration."""

    hashes: dict[str, str]


def inputs(config: Config) -> Inputs:
    """Checks what the flags cannot."""
    for words in (*config.shape, config.base):
        shape_of(words)
    for name in ("shape", "layers", "lengths", "compile_lengths", "depths"):
        values = getattr(config, name)
        if len(set(values)) < len(values):
            raise InputError(f"{name}: expected every item once, got {','.join(map(str, values))}")
    return Inputs({})


def run(config: Config, given: Inputs, run) -> None:
    """Rows of every section, in order. Nothing compiled is taken from JAX's store: compiling is measured too."""
    run.metrics(
        kind="machine", backend=jax.default_backend(), devices=jax.device_count(), threads=cores(),
        precision=jax.config.jax_default_matmul_precision or "default",
    )  # fmt: skip
    jobs = [job for section in config.section for job in SECTIONS[section](config, run)]
    stored = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        with Progress(len(jobs), "throughput") as progress:
            for words, job in jobs:
                progress.note(at=words)
                job()
                progress.step()
    finally:
        jax.config.update("jax_enable_compilation_cache", stored)


table = _throughput_table.table
figure = _throughput_figure.figure

if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
