"""Diagonal recurrences as maps that compose: the two forms of `rnnlab.types.Affine` that the cells here need.

c_t = a_t * c_{t-1} + b_t elementwise; after a map (a, b) comes (a', b'), so that both are (a' a, a' b + b').
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rnnlab.cells.complex import Complex, times
from rnnlab.types import Affine, PyTree


def real(coefficients: Callable[..., tuple[PyTree, PyTree]]) -> Affine:
    """Of a carry of real numbers: a and b are both like the carry."""

    def compose(earlier: tuple, later: tuple) -> tuple:
        (a, b), (a_, b_) = earlier, later
        return jax.tree.map(jnp.multiply, a, a_), jax.tree.map(lambda b, a_, b_: a_ * b + b_, b, a_, b_)

    return Affine(coefficients, compose, one=lambda a: jax.tree.map(jnp.ones_like, a))


def complex_(coefficients: Callable[..., tuple[Complex, Complex]]) -> Affine:
    """Of a carry that is `Complex`: so are a and b."""

    def compose(earlier: tuple[Complex, Complex], later: tuple[Complex, Complex]) -> tuple[Complex, Complex]:
        (a, b), (a_, b_) = earlier, later
        return times(a, a_), jax.tree.map(jnp.add, times(a_, b), b_)

    return Affine(coefficients, compose, one=lambda a: Complex(jnp.ones_like(a.re), jnp.zeros_like(a.im)))
