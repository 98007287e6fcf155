"""A cell by the name that a flag gives: one of `CELLS`, or a factory in a reader's own file."""

import hashlib
import importlib.util
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

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
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None:
        raise InputError(f"cell: expected a Python file before the colon of {name!r}, got {str(path)!r}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a reader's file does
        raise InputError(f"cell: {path} cannot be run: {type(error).__name__}: {error}") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise InputError(f"cell: expected a function {attribute!r} in {path}, (hidden) -> Cell, got {found!r}")
    try:
        made = found(2)
    except Exception as error:
        raise InputError(f"cell: {name} cannot make a cell: {type(error).__name__}: {error}") from error
    if not isinstance(made, Cell):
        raise InputError(f"cell: expected {name} to return a rnnlab.types.Cell, got {type(made).__name__}")
    return found


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
