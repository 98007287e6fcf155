"""sLSTM and mLSTM, from their published equations."""

from equation import Equation

EQUATIONS: dict[str, Equation] = {}
