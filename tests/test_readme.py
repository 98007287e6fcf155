"""The README's code runs as it stands, in one session, as a reader would paste it."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_the_code_runs():
    found = subprocess.run([sys.executable, "-c", "\n".join(blocks())], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "(1, 200, 32)" in found.stdout and "DecayFit" in found.stdout


def test_a_users_own_cell_and_loss_take_fewer_than_fifteen_lines():
    assert len(blocks()[0].splitlines()) < 15
