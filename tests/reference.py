"""Every cell once more, from its published equations, in NumPy, one row and one step at a time.

Nothing here is shared with the library but the names of the parameters, so that the two can disagree.
A new cell adds one `Equation` to the `EQUATIONS` of its family; the conformance suite does the rest.
"""

from typing import NamedTuple

import equations_classic
import equations_gradient
import equations_linear
import equations_xlstm
import numpy as np
from equation import Equation

FAMILIES = equations_classic, equations_gradient, equations_linear, equations_xlstm
EQUATIONS = {name: equation for family in FAMILIES for name, equation in family.EQUATIONS.items()}


class Looped(NamedTuple):
    """As `rnnlab.unroll.Unrolled`, in NumPy."""

    ys: np.ndarray
    carries: tuple
    last: tuple


def loop(equation: Equation, params, xs, start, *, taps, lengths, reverse: bool = False) -> Looped:
    """Rows one by one, each over its valid steps only. xs [T, B, *D], carries leaf by leaf [T, B, *H].

    At padding y is 0 and the carry is the one before it in the order of the steps.
    """
    T, B = xs.shape[:2]
    carries = type(start)(*(np.zeros((T, *leaf.shape), leaf.dtype) for leaf in start))
    ys = None
    for b in range(B):
        carry = type(start)(*(leaf[b] for leaf in start))
        for t in reversed(range(T)) if reverse else range(T):
            if t < lengths[b]:
                new = equation.step(params, carry, xs[t, b])
                carry = type(start)(*(leaf + tap[t, b] for leaf, tap in zip(new, taps, strict=True)))
                y = equation.read(params, carry, xs[t, b])
                ys = np.zeros((T, B, *y.shape), y.dtype) if ys is None else ys
                ys[t, b] = y
            for leaf, new in zip(carries, carry, strict=True):
                leaf[t, b] = new
    end = 0 if reverse else T - 1
    return Looped(ys, carries, type(start)(*(leaf[end] for leaf in carries)))
