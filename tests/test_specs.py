"""The rows of rnnlab/probes/specs.py: whole, and readable where there is no JAX."""

import subprocess
import sys
from pathlib import Path

import pytest

from rnnlab.probes import specs

FILE = Path(specs.__file__)
PRINTED = f"""
import runpy, sys
sys.modules["jax"] = None  # an import raises ImportError
for name, row in runpy.run_path({str(FILE)!r})["SPECS"].items():
    print(name, row)
"""


def test_rows_print_without_jax():
    out = subprocess.run([sys.executable, "-c", PRINTED], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in out.splitlines()] == list(specs.SPECS)


@pytest.mark.parametrize("name", specs.SPECS)
def test_a_row_is_whole(name):
    row = specs.SPECS[name]
    assert row.name == name and row is getattr(specs, name)
    assert row.setting and row.source and row.estimator and row.expected is not None and row.tolerance is not None
    assert row.seeds and all(isinstance(seed, int) for seed in row.seeds)
    assert list(specs.SPECS) == sorted(specs.SPECS, key=lambda name: int(name[1:].partition("_")[0]))
