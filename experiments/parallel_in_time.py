"""When can a recurrence be evaluated for all steps at once, and when does that pay?

Newton's method on the whole trajectory (`full`: whole Jacobians; `quasi`: what each unit has to do with itself) and the
associative scan of linear cells, beside the plain scan and, where a cell has it, `fused`. First over T: iterations,
distance from the scan, time and memory of a training step. Then over the largest Lyapunov exponent of an Elman network
whose recurrent weights grow: iterations, time, and at several T where the iteration stops converging.

    python launch.py parallel_in_time
    python launch.py parallel_in_time --cell=lstm,leaky.py:leaky --lengths=1000,10000 --hidden=16
    python launch.py parallel_in_time --lengths=1000,10000,100000 --batch=16 --seconds=5       # on a GPU

Takes 10 minutes on two cores, most of it compilation. Expect full Newton to take 4 to 7 iterations whatever T,
quasi-Newton 10 to 40, and as few as full where a cell's units see themselves alone (para_gru, para_lstm); no
convergence once the exponent is near 0 and T long, the exact scan's result then; and on a CPU, up to 8 times the scan's
time.
"""

import dataclasses
import itertools
import sys
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from experiments import _parallel_figure, _parallel_table
from experiments._parallel_measure import (
    ENGINES,
    FULL,
    QUASI,
    SCAN,
    Drawn,
    Sizes,
    cell_of,
    drawn,
    engines_of,
    exponent,
    found,
    gained,
    training_step,
)
from rnnlab import cli
from rnnlab.cells import CELLS, own
from rnnlab.errors import InputError
from rnnlab.progress import Progress
from rnnlab.timing import in_turns


@dataclasses.dataclass(frozen=True)
class Config:
    cell: tuple[str, ...] = cli.flag(
        ("gru", "lstm", "para_gru", "lru"), f"cells over T: {', '.join(CELLS)}, or FILE.py:FACTORY"
    )
    engine: tuple[str, ...] = cli.flag(ENGINES, "engines over T, each where it takes the cell", choices=ENGINES)
    hidden: int = cli.flag(8, "hidden units, H", low=1)
    dim: int = cli.flag(4, "inputs, D", low=1)
    batch: int = cli.flag(1, "sequences, B", low=1)
    lengths: tuple[int, ...] = cli.flag((250, 1_000, 4_000), "steps, T", low=2)
    tol: float = cli.flag(0.0, "tolerance of the largest correction; 0 is the engine's own", low=0.0)
    max_iterations: int = cli.flag(100, "iterations, at most", low=1)
    seconds: float = cli.flag(1.0, "seconds of timing for each cell and T, and each gain, and ...", low=0.0)
    rounds: int = cli.flag(5, "... rounds of it at the least, each engine once a round", low=1)
    gains: tuple[float, ...] = cli.flag(
        (0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0), "gains of the Elman network", low=0.0
    )
    gain_lengths: tuple[int, ...] = cli.flag((125, 250, 500, 1_000), "its steps, T", low=2)
    gain_hidden: int = cli.flag(16, "its hidden units", low=1)
    gain_inputs: float = cli.flag(0.1, "standard deviation of its inputs: strong ones tame chaos", low=0.0)
    seeds: int = cli.flag(3, "networks, each with its own seed", low=1, high=1_000_000)
    seed: int = cli.flag(0, "the first seed", low=0, high=2_000_000_000)

    @property
    def all_seeds(self) -> range:
        return range(self.seed, self.seed + self.seeds)


class Inputs(NamedTuple):
    """Inputs are generated from the seed, which is part of the configuration; read are a reader's own cells alone."""

    hashes: dict[str, str]


def inputs(config: Config) -> Inputs:
    """Checks what the flags cannot."""
    own.check(config.cell)
    for name in ("cell", "lengths", "gains", "gain_lengths"):
        values = getattr(config, name)
        if len(set(values)) < len(values):
            raise InputError(f"{name}: expected every item once, got {','.join(map(str, values))}")
    if SCAN not in config.engine:
        raise InputError(
            f"engine: expected {SCAN} among them, which the others are timed against, got {','.join(config.engine)}"
        )
    return Inputs(own.sources(config.cell))


def run(config: Config, given: Inputs, run) -> None:
    """Rows: one a cell, T, engine and seed; one a gain, T, engine and seed; timings of the first seed of either."""
    over_lengths = list(itertools.product(config.cell, config.lengths))
    over_gains = list(itertools.product((FULL, QUASI), config.gain_lengths))
    with Progress(len(over_lengths) + len(over_gains) + len(config.gains), "parallel_in_time") as progress:
        for name, length in over_lengths:
            progress.note(cell=name, T=length)
            one_length(config, name, length, run)
            progress.step()
        for engine, length in over_gains:
            progress.note(engine=engine, T=length)
            one_boundary(config, engine, length, run)
            progress.step()
        for _ in over_exponents(config, run):
            progress.step()


def one_length(config: Config, name: str, length: int, run) -> None:
    cell, sizes = cell_of(name, config.hidden), Sizes(config.batch, length, config.dim, config.hidden)
    engines = engines_of(cell, config.tol, config.max_iterations)
    steps = {}
    for one in (one for one in config.engine if one in engines):
        of = found(cell, engines[one])
        for seed in config.all_seeds:
            run.metrics(kind="length", cell=name, T=length, engine=one, seed=seed, **of(drawn(cell, sizes, seed)))
        steps[one] = training_step(cell, engines[one], drawn(cell, sizes, config.seed))
    timed(config, steps, drawn(cell, sizes, config.seed), run, kind="length", cell=name, T=length)


def timed(config: Config, steps: dict, given: Drawn, run, **row) -> None:
    """A training step of every engine, in turns."""
    calls = {one: partial(step.run, *given) for one, step in steps.items()}
    for one, seconds in in_turns(calls, seconds=config.seconds, least=config.rounds).items():
        run.timing(**row, engine=one, temporary=steps[one].temporary, seconds=seconds)


def network(config: Config, gain: float, length: int, seed: int) -> Drawn:
    sizes = Sizes(1, length, config.dim, config.gain_hidden)
    return drawn(gained(config.gain_hidden, gain), sizes, seed, config.gain_inputs)


def one_boundary(config: Config, engine: str, length: int, run) -> None:
    """All gains at one T: only the parameters differ, so that one program serves them all."""
    plain = gained(config.gain_hidden, 1.0)
    of, growth = found(plain, engines_of(plain, config.tol, config.max_iterations)[engine]), exponent(plain)
    for gain, seed in itertools.product(config.gains, config.all_seeds):
        one = network(config, gain, length, seed)
        row = dict(gain=gain, T=length, engine=engine, seed=seed, exponent=growth(one, seed))
        run.metrics(kind="gain", **row, **of(one))


def over_exponents(config: Config, run) -> Iterator[None]:
    """Timings at the longest T, gain by gain; yields after each."""
    longest, plain = max(config.gain_lengths), gained(config.gain_hidden, 1.0)
    engines = engines_of(plain, config.tol, config.max_iterations)
    first = network(config, config.gains[0], longest, config.seed)
    steps = {one: training_step(plain, engines[one], first) for one in (SCAN, FULL, QUASI)}
    for gain in config.gains:
        timed(config, steps, network(config, gain, longest, config.seed), run, kind="gain", gain=gain, T=longest)
        yield


table = _parallel_table.table
figure = _parallel_figure.figure

if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
