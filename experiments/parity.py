"""Can a cell count modulo two, and go on counting beyond the lengths it was trained on?

Parity: bits, and at the last step whether the ones among them are odd. Nothing but the whole sequence tells, so that
gradients of long examples say nothing at first: by default lengths grow from 4 on. Who guesses needs ln 2 nats.

    python launch.py parity
    python launch.py parity --curriculum=mixed
    python launch.py parity --curriculum=none      # at chance
    python launch.py parity --preset=published     # lengths 1 to 40, tested to 500 (Deletang et al. 2023)
"""

import dataclasses
import sys

from experiments import _benchmark
from rnnlab import cli
from rnnlab.tasks import parity


@dataclasses.dataclass(frozen=True)
class Config(_benchmark.Config):
    length: int = cli.flag(32, "bits, T", low=1)
    curriculum: str = cli.flag(
        "growing",
        "growing: stages from the first length on, doubled; mixed: every example has a length of its own between them; "
        "none: every example has the whole length",
        choices=("none", "growing", "mixed"),
    )
    first_length: int = cli.flag(2, "the shortest length of a curriculum", low=1)
    steps: int = cli.flag(3000, "training steps", low=1)


PRESETS = {
    "published": dict(
        length=40,
        curriculum="mixed",
        first_length=1,
        test_length=(40, 100, 250, 500),
        hidden=256,
        batch=128,
        steps=1_000_000,
    )
}

benchmark = _benchmark.Benchmark("Parity of bits", Config, lambda config: parity())
inputs, run, table, figure = benchmark.inputs, benchmark.run, benchmark.table, benchmark.figure
RESUMES = True


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
