"""Can a cell keep what matters of a long sequence, and only that?

Selective copying (Gu & Dao 2023; the denoising task of Jing et al. 2019): a few symbols strewn over T blank steps, and
then asked in their order. Who guesses needs the logarithm of the number of symbols.

    python launch.py selective_copy
    python launch.py selective_copy --cell=min_gru,rg_lru,lru --initialisation=own
    python launch.py selective_copy --preset=published     # T=4096

Takes 4 minutes on two cores with --devices=3. Expect accuracies of 0.30 for the tanh network and 0.55 for the others.
"""

import dataclasses
import sys

from experiments import _benchmark
from rnnlab import cli
from rnnlab.tasks import selective_copy


@dataclasses.dataclass(frozen=True)
class Config(_benchmark.Config):
    length: int = cli.flag(40, "steps over which the symbols are strewn, T", low=10)
    steps: int = cli.flag(2000, "training steps", low=1)


PRESETS = {"published": dict(length=4096, test_length=(2048, 4096), hidden=128, layers=2, steps=400_000)}

benchmark = _benchmark.Benchmark("Copying what is strewn over blanks", Config, lambda config: selective_copy())
inputs, run, table, figure = benchmark.inputs, benchmark.run, benchmark.table, benchmark.figure
RESUMES = True


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
