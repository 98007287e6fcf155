"""Whether what a specification expects of a benchmark came out, from its stored rows."""

from collections.abc import Callable, Mapping
from typing import Any


def met(config: Any, setting: Mapping[str, Any]) -> bool:
    """Whether a run is of a specification's settings."""
    return all(getattr(config, name) == value for name, value in setting.items())


def claim(
    name: str,
    config: Any,
    rows: list[dict],
    variant: tuple[str, float | None],
    what: str,
    expected: str,
    holds: Callable[[float], bool],
) -> list[str]:
    """A line on a variant with uniform initialisation: whether `what` ("loss", "accuracy") of the test examples of the
    trained length is as expected in every seed. None where the run has no such variant."""
    cell, bias = variant
    wanted = dict(kind="test", length=config.length, initialisation="uniform", cell=cell, bias=bias)
    found = [row[what] for row in rows if all(row.get(key) == value for key, value in wanted.items())]
    if not found:
        return []
    which = f"{cell}, uniform" + ("" if bias is None else f", bias {bias:g}")
    yes = "yes" if all(map(holds, found)) else "no"
    seen = f"{min(found):.4f} to {max(found):.4f} in {len(found)}"
    return [f"{name}: {which}: {what} {expected} in every seed: {yes}, {seen}."]
