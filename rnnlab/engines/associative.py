"""The engine for recurrences that are affine in the carry: all steps by one associative scan."""

import jax
from jax import lax

from rnnlab.types import Cell, PyTree


def associative(cell: Cell, weights: PyTree, carry: PyTree, inputs: PyTree) -> tuple[PyTree, tuple]:
    """Every carry [T, *B, *event], for a cell with `affine`; equal to `scan` up to rounding, in either mode.

    About 2 log2 T rounds of products that each work on all steps at once, in place of T steps one after another
    (Blelloch 1990; Martin & Cundy 2018, section 2.2). Pays on an accelerator whose cores a single step leaves idle: a
    long sequence, and B H small. It does about twice the arithmetic of `scan`, and XLA gives a training step 0.9 to 2.1
    times the memory (RG-LRU, LRU; float32, CPU). On a CPU it is about as fast as the plain scan (0.96 to 1.10 of its
    time for an LRU), and it is never a default.

    Raises TypeError for a cell that is not affine in its carry: nothing cheaper than its whole Jacobian would be right
    there. `newton` is for these.
    """
    if cell.affine is None:
        raise TypeError(
            f"associative: expected a cell that is affine in its carry (whose `affine` is given), got {cell.name}, "
            "which is not; use engine=scan, or newton()"
        )
    compose = cell.affine.compose
    a, b = cell.affine.coefficients(weights, cell.drive(weights, inputs))
    # The first step begins at the carry that is given: from there on its map is a constant.
    first = jax.tree.map(lambda leaf: leaf[0], (a, b))
    _, begun = compose(cell.affine.constant(first[0], carry), first)
    b = jax.tree.map(lambda all_of_them, first: all_of_them.at[0].set(first), b, begun)
    return lax.associative_scan(compose, (a, b))[1], ()
