"""The code of docs/benchmarks.md runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


@pytest.mark.slow
def test_the_code_runs():
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) >= 4


def test_every_benchmark_is_in_the_table():
    names = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), flags=re.MULTILINE)
    folder = PAGE.parents[1] / "experiments"
    benchmarks = [file.stem for file in folder.glob("*.py") if "_benchmark.Benchmark(" in file.read_text()]
    assert sorted(names) == sorted(benchmarks) and len(names) == 8
