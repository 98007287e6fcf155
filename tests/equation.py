"""A cell's published equation, in NumPy, one row and one step at a time."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Equation(NamedTuple):
    """step: (params, carry, x [D]) -> carry, all of one row. count: (D, H) -> numbers in the parameters.
    read: (params, carry, x [D]) -> y."""

    step: Callable
    count: Callable[[int, int], int]
    read: Callable = lambda params, carry, x: carry.h


def sigmoid(x):
    return 1 / (1 + np.exp(-x))
