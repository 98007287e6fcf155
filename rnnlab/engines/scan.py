"""The reference engine: one `jax.lax.scan` over time."""

from jax import lax

from rnnlab.types import Cell, PyTree


def scan(cell: Cell, weights: PyTree, carry: PyTree, zs: PyTree) -> tuple[PyTree, tuple]:
    """Every carry [T, *B, *event], step after step; exact, for any cell, in forward and reverse mode.

    T steps one after another. Its reverse pass keeps what autodiff asks for at every step.
    """

    def step(carry: PyTree, z: PyTree) -> tuple[PyTree, PyTree]:
        carry = cell.step(weights, carry, z)
        return carry, carry

    return lax.scan(step, carry, zs)[1], ()
