"""How the steps of a recurrence are evaluated; choosing an engine is an argument of `unroll`."""

from rnnlab.engines.associative import associative
from rnnlab.engines.fused import fused
from rnnlab.engines.jacobians import diagonal, full
from rnnlab.engines.newton import NewtonInfo, newton
from rnnlab.engines.scan import scan
from rnnlab.types import Cell, Engine

ENGINES = {
    "scan": scan,
    "fused": fused,
    "associative": associative,
    "newton": newton(),
    "quasi_newton": newton(jacobian=diagonal),
}


def default(cell: Cell) -> Engine:
    """`fused` for a cell with local derivatives, `scan` for any other."""
    return scan if cell.local is None else fused


__all__ = ["ENGINES", "NewtonInfo", "associative", "default", "diagonal", "full", "fused", "newton", "scan"]
