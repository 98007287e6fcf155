"""Which of two or three early symbols came first: how far back can a cell tell?

Temporal order (Hochreiter & Schmidhuber 1997, experiments 6a and 6b): two symbols X or Y, or three with --classes=8,
among distractors of a long sequence, and at its last step the class is their order. Who guesses needs ln 4 or ln 8.

    python launch.py temporal_order
    python launch.py temporal_order --classes=8 --cell=lstm,gru --length=100
    python launch.py temporal_order --preset=published     # T=200, of Pascanu, Mikolov & Bengio 2013

Takes 4 minutes on two cores with --devices=3. Expect the LSTM and the GRU at an accuracy of 1, the tanh network between
chance and 1, seed by seed.
"""

import dataclasses
import sys

from experiments import _benchmark
from rnnlab import cli
from rnnlab.tasks import temporal_order


@dataclasses.dataclass(frozen=True)
class Config(_benchmark.Config):
    length: int = cli.flag(50, "steps of a sequence, T", low=10)
    classes: int = cli.flag(4, "4: two symbols; 8: three", choices=(4, 8))
    steps: int = cli.flag(1500, "training steps", low=1)


PRESETS = {"published": dict(length=200, hidden=50, batch=20, steps=50_000)}

benchmark = _benchmark.Benchmark(
    "Temporal order of early symbols", Config, lambda config: temporal_order(classes=config.classes)
)
inputs, run, table, figure = benchmark.inputs, benchmark.run, benchmark.table, benchmark.figure
RESUMES = True


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
