"""Does the verb agree with the first word of a sentence, many words before: "Today ... need", "Last year ... had"?

The lecture's sentences, "Today, due to my current job situation and family conditions, I need to take a loan" and "Last
year, ..., I had to take a loan", generated with D distractors of 20 words; the verb is asked, which only the first word
tells. Who guesses needs ln 2 nats. The lecture's own sentences are shown to every trained network.

    python launch.py agreement
    python launch.py agreement --length=200 --gate_bias=1,5
    python launch.py agreement --subject=near      # "..., I need": the lecture's own order

The default took 31 minutes beside other work on two cores with --devices=3, 26 of processor time: 14 variants, 42 runs.
--initialisation=uniform --gate_bias=0,1 --cell=lstm is a seventh of it. Expect, with uniform initialisation, the LSTM
with forget bias 1 and the GRU with update bias 2 above 0.99 in every seed, and both with bias 0 at chance: the bias
decides, not the gates.
"""

import dataclasses
import sys

from experiments import _benchmark
from experiments._benchmark_claims import claim, met
from rnnlab import cli
from rnnlab.probes.specs import R22
from rnnlab.tasks import agreement
from rnnlab.tasks.agreement import LECTURE, encode


@dataclasses.dataclass(frozen=True)
class Config(_benchmark.Config):
    initialisation: tuple[str, ...] = _benchmark.initialised("orthogonal", "uniform")
    length: int = cli.flag(50, "distractors, D", low=1)
    gate_bias: tuple[float, ...] = cli.flag(
        (0.0, 1.0, 2.0), "biases of the forget or update gate, each a variant of a cell that has one"
    )
    subject: str = cli.flag(
        "far", "where the subject stands: next to the first word, or to the verb", choices=tuple(LECTURE)
    )


PRESETS = {
    "long": dict(length=200, test_length=(50, 200, 400), hidden=128, gate_bias=(1.0, 3.0, 5.0), steps=10_000),
}


def shown(config: Config):
    """The lecture's sentences, up to the verb."""
    return {words: encode(words) for words in LECTURE[config.subject]}


def said(config: Config, rows: list[dict]) -> list[str]:
    lines = [f"shown, the lecture's: {words!r}: {answers(rows, words)}." for words in LECTURE[config.subject]]
    return [*lines, *(claims(config, rows) if met(config, R22.setting) else [])]


def answers(rows: list[dict], words: str) -> str:
    """How likely every variant holds the right verb: its least sure seed and its surest."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["kind"] == "shown" and row["words"] == words:
            found.setdefault(row["variant"], []).append(row["right"])
    return "probability of the verb by " + ", ".join(
        f"{variant} {min(values):.2f} to {max(values):.2f}" for variant, values in found.items()
    )


def claims(config: Config, rows: list[dict]) -> list[str]:
    """R22, variant by variant."""
    high, chance, near = R22.expected["accuracy"], R22.expected["chance"], R22.tolerance["chance"]
    lines = []
    for one in R22.expected["learned"]:
        lines += claim("R22", config, rows, one, "accuracy", f"above {high}", lambda found: found > high)
    for one in R22.expected["at_chance"]:
        lines += claim("R22", config, rows, one, "loss", f"near ln 2, by {near}", lambda x: abs(x - chance) < near)
    return lines


benchmark = _benchmark.Benchmark(
    "The verb agrees with a word long before",
    Config,
    lambda config: agreement(config.subject),
    shown=shown,
    said=said,
)
inputs, run, table, figure = benchmark.inputs, benchmark.run, benchmark.table, benchmark.figure
RESUMES = True


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
