"""How long can a cell keep ten symbols that it has to say again?

The copying problem (Hochreiter & Schmidhuber 1997; Arjovsky, Shah & Bengio 2016): ten symbols of eight, a silence of T
steps, and the same symbols again. Who knows when to speak and guesses what needs 10 ln 8 / (T + 20) nats a step.

    python launch.py copy_memory
    python launch.py copy_memory --cell=unitary_rnn,exp_rnn,lru --initialisation=own
    python launch.py copy_memory --curriculum=growing --first_length=1
    python launch.py copy_memory --preset=published     # T=1000, 128 units

Takes 5 minutes on two cores with --devices=3. Expect the tanh network on the plateau, 0.52 nats, and the LSTM and the
GRU just leaving it.
"""

import dataclasses
import sys

from experiments import _benchmark
from experiments._benchmark_claims import claim, met
from rnnlab import cli
from rnnlab.probes.specs import R23, R24
from rnnlab.tasks import copy_memory


@dataclasses.dataclass(frozen=True)
class Config(_benchmark.Config):
    initialisation: tuple[str, ...] = _benchmark.initialised("orthogonal", "uniform")
    length: int = cli.flag(20, "steps of silence, T", low=1)


PRESETS = {
    "published": dict(
        length=1000, test_length=(500, 1000), hidden=128, batch=20, steps=20_000, initialisation=("orthogonal",)
    )
}


def said(config: Config, rows: list[dict]) -> list[str]:
    """R23: the plateau of a tanh network."""
    if not met(config, R23.setting["copy_memory"]):
        return []
    chance, near = R24.expected["copy_memory"](config.length), R23.tolerance["plateau"]
    return claim(
        "R23", config, rows, R23.expected["plateau"], "loss", f"within {near} of 10 ln 8 / (T + 20)",
        lambda found: abs(found - chance) < near,
    )  # fmt: skip


benchmark = _benchmark.Benchmark("Copying ten symbols", Config, lambda config: copy_memory(), said=said)
inputs, run, table, figure = benchmark.inputs, benchmark.run, benchmark.table, benchmark.figure
RESUMES = True


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
