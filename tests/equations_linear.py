"""Linear and diagonal cells, from their published equations."""

from equation import Equation

EQUATIONS: dict[str, Equation] = {}
