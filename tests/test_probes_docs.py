"""docs/probes.md: its code runs as it stands and draws the figures that it shows, and no probe is left out."""

import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

from rnnlab import probes

DOCS = Path(__file__).parents[1] / "docs"
TEXT = (DOCS / "probes.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
SHOWN = re.findall(r"```\n\n!\[[^\]]+\]\(probes/(\w+\.png)\)", TEXT)  # right under a block

# Each block as a program of its own, in one process: JAX starts once.
RUN = """
import sys
from pathlib import Path
blocks = Path("blocks").read_text().split("\\0")
for code in blocks:
    before = set(Path(".").glob("*.png"))
    exec(compile(code, "docs/probes.md", "exec"), {"__name__": "__main__"})
    print(*(path.name for path in set(Path(".").glob("*.png")) - before))
"""


def test_every_block_is_followed_by_its_figure():
    saved = [re.findall(r'savefig\("(\w+\.png)", dpi=110\)', code) for code in BLOCKS]
    assert saved == [[name] for name in SHOWN]
    assert re.findall(r"\]\(probes/([^)]*)\)", TEXT) == SHOWN  # and no other image stands anywhere
    kept = {path.name: path.stat().st_size for path in (DOCS / "probes").iterdir()}
    assert sorted(kept) == sorted(set(SHOWN)) and len(kept) == len(SHOWN)
    assert max(kept.values()) < 60_000


def test_every_probe_is_in_the_page():
    functions = [name for name in probes.__all__ if isinstance(getattr(probes, name), FunctionType)]
    assert len(functions) > 40
    assert [name for name in functions if not re.search(rf"\b{name}\b", TEXT)] == []


def test_lines_are_short_and_links_lead_somewhere():
    assert [line for code in BLOCKS for line in code.splitlines() if len(line) > 120] == []
    words = re.findall(r"^## (.*)$", TEXT, flags=re.MULTILINE)
    anchors = [re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in words]
    assert re.findall(r"\]\(#([^)]*)\)", TEXT) == anchors  # the table's rows, in the order of the page


@pytest.mark.slow
def test_every_block_runs_and_draws_its_figure(tmp_path):
    (tmp_path / "blocks").write_text("\0".join(BLOCKS))
    found = subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split("\n")[:-1] == SHOWN
