"""Complex numbers as two real arrays: every float type has them so, and gradients, taps and norms are real ones."""

from typing import NamedTuple

from jaxtyping import Array, Float


class Complex(NamedTuple):
    """Complex numbers as two real arrays: a carry, or the a of its recurrence."""

    re: Float[Array, "*B H"]
    im: Float[Array, "*B H"]


def times(a: Complex, b: Complex) -> Complex:
    """a b, elementwise."""
    return Complex(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re)
