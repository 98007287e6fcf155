"""Can a cell recognise a pattern, and keep it while it is fed noise?

One of ten patterns, then T steps of noise, and at the last step its class is asked (after the noise-padded CIFAR-10 of
Chang et al. 2019). The patterns are generated; real images padded in this way are `sequential_images --filler=noise`.
Who guesses needs ln 10 nats.

    python launch.py noise_padded
    python launch.py noise_padded --cell=co_rnn,lem,antisymmetric_rnn --length=200
    python launch.py noise_padded --preset=published     # 1000 steps, 128 units
"""

import dataclasses
import sys

from experiments import _benchmark
from rnnlab import cli
from rnnlab.tasks import noise_padded


@dataclasses.dataclass(frozen=True)
class Config(_benchmark.Config):
    length: int = cli.flag(50, "steps of noise, T", low=1)


PRESETS = {"published": dict(length=990, test_length=(500, 990), hidden=128, batch=100, steps=50_000)}

benchmark = _benchmark.Benchmark("Recognising a pattern before noise", Config, lambda config: noise_padded())
inputs, run, table, figure = benchmark.inputs, benchmark.run, benchmark.table, benchmark.figure
RESUMES = True


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
