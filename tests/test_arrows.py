"""Imports point down only: the layout of the project, held by reading every import statement."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the top; what shares a line may not import each other. A new module gets a place here, or fails.
ROOMS = """
launch
experiments
rnnlab.cli
rnnlab.launchers
rnnlab.train rnnlab.decode
rnnlab.figures rnnlab.report rnnlab.predictions
rnnlab.models
rnnlab.tasks
rnnlab.data
rnnlab.probes
rnnlab.losses rnnlab.crf
rnnlab.runs rnnlab.progress rnnlab.flags
rnnlab.seeds
rnnlab.provenance rnnlab.process rnnlab.timing rnnlab.series rnnlab.claims
rnnlab.interop
rnnlab.layers
rnnlab.unroll
rnnlab.engines
rnnlab.cells
rnnlab.noise
rnnlab.wrappers
rnnlab.initializers
rnnlab.types
rnnlab.errors
rnnlab
"""
FLOOR = {room: floor for floor, rooms in enumerate(reversed(ROOMS.split("\n"))) for room in rooms.split()}
BANNED = {
    "rnnlab": ("jax._src", "jax.experimental"),
    "rnnlab.figures": ("rnnlab.models", "rnnlab.cells", "rnnlab.layers", "rnnlab.unroll", "rnnlab.engines"),
    "rnnlab.report": ("rnnlab.models", "rnnlab.cells", "rnnlab.layers", "rnnlab.unroll", "rnnlab.engines"),
    "rnnlab.data": ("rnnlab.models",),
    "rnnlab.runs": ("jax",),
    "rnnlab.provenance": ("jax",),
    "rnnlab.flags": ("jax",),
    "rnnlab.progress": ("jax",),
    "rnnlab.errors": ("jax",),
}


def inside(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def room(name: str) -> str:
    """The room that a module is in; '' outside the project, and for a part of it that has been given none."""
    return max((r for r in FLOOR if name == r or (r != "rnnlab" and inside(name, r))), key=len, default="")


def imports(source: str) -> list[str]:
    """Every module that is imported, wherever the statement stands; `from rnnlab import runs` is rnnlab.runs."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            base = "" if isinstance(node, ast.Import) else "." * node.level + (node.module or "")
            names = [f"{base}.{one.name}" if base in ("rnnlab", "jax") else base or one.name for one in node.names]
            found += [n + " as np" * (one.asname == "np") for n, one in zip(names, node.names, strict=True)]
    return found


def wrong(module: str, source: str) -> list[str]:
    """One line for each import that the layout does not allow."""
    here = room(module)
    banned = {bad for package, all_bad in BANNED.items() if inside(module, package) for bad in all_bad}
    complaints = [] if here else [f"{module} has no place in ROOMS"]
    for name in imports(source):
        there = room(name)
        upward = there and there != here and FLOOR[there] >= FLOOR.get(here, -1)
        homeless = inside(name, "rnnlab") and not there and name != "rnnlab.__version__"
        if (
            upward
            or homeless
            or name.startswith(".")
            or name == "jax.numpy as np"
            or any(inside(name, b) for b in banned)
        ):
            complaints.append(f"{module} must not import {name}")
    return complaints


def test_imports_point_down_only():
    files = [ROOT / "launch.py", *ROOT.glob("experiments/**/*.py"), *ROOT.glob("rnnlab/**/*.py")]
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    complaints = [line for m, file in zip(modules, files, strict=True) for line in wrong(m, file.read_text())]
    assert len(files) > 20 and not complaints, "\n".join(complaints)


@pytest.mark.parametrize(
    "module", ["rnnlab.errors", "rnnlab.runs", "rnnlab.provenance", "rnnlab.flags", "rnnlab.progress"]
)
def test_starts_no_jax_by_any_way_round(module):
    code = f"import sys, {module}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rnnlab.cells.lstm", "from rnnlab.unroll import unroll"),
        ("rnnlab.cells.lstm", "def f():\n    from rnnlab import unroll"),
        ("rnnlab.unroll", "import rnnlab.probes.fits as fits"),
        ("rnnlab.probes.fits", "from rnnlab import models"),
        ("rnnlab.probes.fits", "from .. import models"),
        ("rnnlab.figures", "import rnnlab.report"),
        ("rnnlab.figures", "from rnnlab.cells import CELLS"),
        ("rnnlab.figures", "from rnnlab import engines"),
        ("rnnlab.data.text", "from rnnlab.models.language_model import LanguageModel"),
        ("rnnlab.runs", "import jax.numpy as jnp"),
        ("rnnlab.runs", "from jax import tree"),
        ("rnnlab.cells.gru", "from jax._src import core"),
        ("rnnlab.cells.gru", "from jax import experimental"),
        ("rnnlab.cells.gru", "import jax.numpy as np"),
        ("rnnlab.cells.gru", "from jax import numpy as np"),
        ("rnnlab.cells.gru", "import rnnlab.utils"),
        ("rnnlab.utils", "import math"),
        ("experiments.one", "import launch"),
    ],
)
def test_an_import_that_is_not_allowed_is_found(module, source):
    assert len(wrong(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rnnlab.cells.lstm", "import jax.numpy as jnp, numpy as np\nfrom rnnlab.types import Cell"),
        ("rnnlab.cells", "from rnnlab.cells.lstm import lstm"),
        ("rnnlab.runs", "import jaxtyping\nfrom rnnlab import __version__, errors\nimport rnnlab"),
        ("experiments.one", "from rnnlab import cli, figures\nfrom experiments import two"),
    ],
)
def test_an_import_that_is_allowed_is_not(module, source):
    assert not wrong(module, source)
