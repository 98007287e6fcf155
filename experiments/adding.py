"""How far back can a cell find two numbers that it has to add?

The adding problem (Hochreiter & Schmidhuber 1997): of a long sequence of numbers two are marked, one in each half, and
their sum is asked at the last step. Who always says 1 has a mean squared error of 1/6.

    python launch.py adding
    python launch.py adding --cell=lru,ind_rnn --length=200
    python launch.py adding --preset=published     # T=750, 128 units

Takes 10 minutes on two cores with --devices=3. Settings of the default: T=50, 64 units, forget bias 1, Adam at 3e-3.
Expect the LSTM and the GRU below 0.001 in every seed, and a tanh network with uniform initialisation at 0.08 to 0.18:
near chance, but for a seed that begins to learn.
"""

import dataclasses
import sys

from experiments import _benchmark
from experiments._benchmark_claims import claim, met
from rnnlab import cli
from rnnlab.probes.specs import R23
from rnnlab.tasks import adding


@dataclasses.dataclass(frozen=True)
class Config(_benchmark.Config):
    initialisation: tuple[str, ...] = _benchmark.initialised("orthogonal", "uniform")
    steps: int = cli.flag(3000, "training steps", low=1)
    learning_rate: float = cli.flag(3e-3, "its step size", low=0.0)


PRESETS = {
    "published": dict(
        length=750, hidden=128, batch=50, steps=20_000, learning_rate=1e-3, initialisation=("orthogonal",)
    ),
}


def said(config: Config, rows: list[dict]) -> list[str]:
    """R23, variant by variant."""
    if not met(config, R23.setting["adding"]):
        return []
    floor, ceiling = R23.expected["floor"], R23.expected["ceiling"]
    lines = claim("R23", config, rows, R23.expected["fails"], "loss", f"above {floor}", lambda found: found > floor)
    for one in R23.expected["learned"]:
        lines += claim("R23", config, rows, one, "loss", f"below {ceiling}", lambda found: found < ceiling)
    return lines


benchmark = _benchmark.Benchmark("Adding two marked numbers", Config, lambda config: adding(), said=said)
inputs, run, table, figure = benchmark.inputs, benchmark.run, benchmark.table, benchmark.figure
RESUMES = True


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
