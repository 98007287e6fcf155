"""Do the probes give what theory says?

Measures every row of rnnlab/probes/specs.py that is about probes and cells (R1 to R21), at its own settings and seeds:
closed forms, published values, and one way of differentiating or running against another. One line a checked number:
what was expected, what was measured, how far it may be off, and whether it holds.

    python launch.py closed_forms
    python launch.py closed_forms --row=R8,R20

Took 21 minutes on two cores that other work kept busy too: 6 for R2 (every cell), 5 for R16, 2 each for R17, R18 and
R20 (1.6), and about half a minute or less for any other row. Interrupted, it goes on behind the last whole row. Expect
every number to hold. In float64, but for R13, R18, the LRU of R15 and what says float32.
"""

import dataclasses
import sys
import time
from typing import NamedTuple

import jax

from experiments import _closed_forms_adjoint as adjoint
from experiments import _closed_forms_exact as exact
from experiments import _closed_forms_figure, _closed_forms_table
from experiments import _closed_forms_networks as networks
from experiments import _closed_forms_products as products
from experiments._closed_forms_check import Check
from rnnlab import cli
from rnnlab.probes.specs import SPECS
from rnnlab.progress import Progress

RESUMES = True
MEASURES = {
    "R1": exact.r1,
    "R2": adjoint.r2,
    "R3": exact.r3,
    "R4": exact.r4,
    "R5": exact.r5,
    "R6": exact.r6,
    "R7": products.r7,
    "R8": networks.r8,
    "R8_GATED": networks.r8_gated,
    "R9": products.r9,
    "R10": products.r10,
    "R11": products.r11,
    "R12": products.r12,
    "R13": adjoint.r13,
    "R14": networks.r14,
    "R15": networks.r15,
    "R16": adjoint.r16,
    "R17": adjoint.r17,
    "R18": adjoint.r18,
    "R19": products.r19,
    "R20": networks.r20,
    "R21": exact.r21,
}
# The benchmarks of memory measure these: `agreement`, `adding`, `copy_memory`.
ELSEWHERE = ("R22", "R23", "R24")


@dataclasses.dataclass(frozen=True)
class Config:
    row: tuple[str, ...] = cli.flag(tuple(MEASURES), "rows to measure", choices=tuple(MEASURES))


class Inputs(NamedTuple):
    """Every input is generated, from the seeds of the specification."""

    hashes: dict[str, str]


def inputs(config: Config) -> Inputs:
    return Inputs({})


def run(config: Config, given: Inputs, run) -> None:
    """Rows: one a checked number, a part a row of the specification, so that an interrupted run goes on behind it."""
    with Progress(len(config.row), "rows") as progress:
        for name in config.row:
            progress.note(row=name)
            if run.has(name):
                progress.skip(1)
                continue
            with run.part(name):
                began = time.perf_counter()
                for check in measured(name):
                    run.metrics(row=name, **check._asdict(), holds=check.holds)
                run.timing(row=name, seconds=time.perf_counter() - began)
            progress.step()


def measured(name: str) -> list[Check]:
    """The checked numbers of a row, in float64 whatever the process is set to."""
    with jax.enable_x64(True):
        return MEASURES[name](SPECS[name])


def table(run) -> str:
    """One line a checked number, the worst of its seeds; then what was corrected, and where the numbers are from."""
    return _closed_forms_table.table(run)


def figure(run):
    """Errors over tolerances of all rows; chi of wide networks; decays at initialisation."""
    return _closed_forms_figure.figure(run)


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
