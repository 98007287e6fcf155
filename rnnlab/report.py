"""Tables for people: rows of text, columns aligned."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import special


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text under a rule; the first column is set left, the others right."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    aligned = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in cells]
    lines = ["  ".join(line).rstrip() for line in aligned]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and standard deviation over seeds, `0.63 ±0.01`; the deviation is left out for one seed."""
    count = len(values)
    mean = sum(values) / count
    if count == 1:
        return f"{mean:.{digits}f}"
    deviation = (sum((v - mean) ** 2 for v in values) / (count - 1)) ** 0.5
    return f"{mean:.{digits}f} ±{deviation:.{digits}f}"


def interval(
    values: Sequence[float], digits: int = 2, *, low: float | int = -math.inf, high: float | int = math.inf
) -> str:
    """Mean over seeds and its 95 % interval, `0.63 [0.55, 0.71]`, by Student's t of the seeds' values, cut off at what
    a value can be; the mean alone for one seed."""
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1 or not math.isfinite(mean):
        return f"{mean:.{digits}f}"
    deviation = (math.fsum((v - mean) ** 2 for v in values) / (count - 1)) ** 0.5
    half = float(special.stdtrit(count - 1, 0.975)) * deviation / count**0.5
    return f"{mean:.{digits}f} [{max(low, mean - half):.{digits}f}, {min(high, mean + half):.{digits}f}]"


def machine(provenance: Mapping[str, Any]) -> str:
    """Where a run's numbers were made, from its provenance: processor, devices as JAX has them, JAX's version."""
    cpu = provenance["cpu"]
    return f"{cpu['model']}, {cpu['cores']} cores; {provenance['device']}; jax {provenance['versions']['jax']}"
