"""The code of docs/training.md runs as it stands; run again it trains nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_code_runs_and_finds_its_checkpoint(tmp_path):
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "training.md").read_text(), flags=re.DOTALL)
    said = []
    for _ in range(2):
        found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr
        said.append(found.stdout.splitlines())
    assert [line.split()[0] for line in said[0]] == ["20", "40", "60", "trained"]
    assert said[1] == ["trained 60"]
