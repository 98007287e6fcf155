"""A cell by the name that a flag gives: one of `CELLS`, or a factory in a reader's own file."""

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from rnnlab.cells import CELLS
from rnnlab.errors import InputError
from rnnlab.types import Cell


@cache  # a file is run once
def factory(name: str) -> Callable[[int], Cell]:
    """(hidden) -> Cell, for a name in CELLS or FILE.py:FACTORY.

    Raises InputError where there is no such cell, file or factory, or where the file cannot be run.
    """
    if name in CELLS:
        return CELLS[name]
    if ":" not in name:
        raise InputError(f"cell: expected one of {', '.join(CELLS)}, or FILE.py:FACTORY, got {name!r}")
    path, attribute = _parts(name)
    if not path.is_file() or path.suffix != ".py":
        raise InputError(f"cell: expected a Python file before the colon of {name!r}, got {str(path)!r}")
    module = _attempt(f"{path} cannot be run", path, lambda: _run(path))
    found = getattr(module, attribute, None)
    if not callable(found):
        raise InputError(f"cell: expected a function {attribute!r} in {path}, (hidden) -> Cell, got {found!r}")
    made = _attempt(f"{name} cannot make a cell", path, lambda: found(2))
    if not isinstance(made, Cell):
        raise InputError(f"cell: expected {name} to return a rnnlab.types.Cell, got {type(made).__name__}")
    if made.input_rank != 1:
        raise InputError(f"cell: expected a cell that reads vectors, {name} reads inputs of {made.input_rank} axes")
    return found


def _run(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"rnnlab_own_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up while it is being run
    spec.loader.exec_module(module)
    return module


def _attempt(failure: str, path: Path, action: Callable[[], Any]) -> Any:
    """What `action` gives; whatever a reader's code raises is one line that says where in the file."""
    try:
        return action()
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        at = "" if line is None else f" (line {line})"
        raise InputError(f"cell: {failure}{at}: {type(error).__name__}: {error}") from error


def label(name: str) -> str:
    """What a cell is called in tables and files: its name in CELLS, or its factory's."""
    return _parts(name)[1] if ":" in name else name


def sources(names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of every file that a cell comes from, by path, so that a changed file is another run."""
    paths = sorted({_parts(name)[0] for name in names if ":" in name})
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def check(names: Iterable[str]) -> None:
    """Raises InputError unless every name is a cell and no two have the same label."""
    names = list(names)
    for name in names:
        factory(name)
    labels = [label(name) for name in names]
    if len(set(labels)) < len(labels):
        raise InputError(f"cell: expected every cell once, each by another name, got {','.join(names)}")


def _parts(name: str) -> tuple[Path, str]:
    path, _, attribute = name.rpartition(":")
    return Path(path), attribute
