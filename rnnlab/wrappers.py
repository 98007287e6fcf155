"""Wrappers turn a cell into a cell, once, for all cells and engines; each takes an input of its own at every step.

A tap sits inside the hold: outside it, reversed and masked input gets wrong gradients. A restart sits outside, so that
it also counts at padding, where a reversed sequence may end. What has no gradient (a mask, a key) gets None from
`deferred`: zeros of its shape would need a size, which an exported program of any size has not.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rnnlab.types import Cell, PyTree, batch_shape


def tapped(cell: Cell) -> Cell:
    """A tap is added to every new carry; at zero taps, the gradient with respect to tap_t is dL/dcarry_t."""

    def step(weights: PyTree, carry: PyTree, z: tuple) -> PyTree:
        z, tap = z
        return jax.tree.map(jnp.add, cell.step(weights, carry, z), tap)

    def forward(weights: PyTree, carry: PyTree, z: tuple) -> tuple[PyTree, PyTree]:
        z, tap = z
        carry, factors = cell.local.forward(weights, carry, z)
        return jax.tree.map(jnp.add, carry, tap), factors

    def backward(weights: PyTree, factors: PyTree, dcarry: PyTree) -> tuple[PyTree, tuple]:
        before, kept = cell.local.backward(weights, factors, dcarry)
        return before, (kept, dcarry)

    def deferred(weights: PyTree, inputs: tuple, carries: PyTree, factors: PyTree, kept: tuple) -> tuple[PyTree, tuple]:
        kept, dtaps = kept
        dweights, dinputs = cell.local.deferred(weights, inputs[0], carries, factors, kept)
        return dweights, (dinputs, dtaps)

    def coefficients(weights: PyTree, z: tuple) -> tuple[PyTree, PyTree]:
        z, tap = z
        a, b = cell.affine.coefficients(weights, z)
        return a, jax.tree.map(jnp.add, b, tap)

    local = cell.local and cell.local._replace(forward=forward, backward=backward, deferred=deferred)
    affine = cell.affine and cell.affine._replace(coefficients=coefficients)
    return cell._replace(drive=beside(cell), step=step, local=local, affine=affine)


def held(cell: Cell) -> Cell:
    """Where keep_t [*B] is False the carry stays what it was."""

    def step(weights: PyTree, carry: PyTree, z: tuple) -> PyTree:
        z, keep = z
        return hold(keep, cell.step(weights, carry, z), carry)

    def forward(weights: PyTree, carry: PyTree, z: tuple) -> tuple[PyTree, PyTree]:
        z, keep = z
        new, factors = cell.local.forward(weights, carry, z)
        return hold(keep, new, carry), (factors, keep)

    def backward(weights: PyTree, factors: tuple, dcarry: PyTree) -> tuple[PyTree, PyTree]:
        factors, keep = factors
        none = jax.tree.map(jnp.zeros_like, dcarry)
        through, kept = cell.local.backward(weights, factors, hold(keep, dcarry, none))
        return jax.tree.map(jnp.add, through, hold(keep, none, dcarry)), kept

    def deferred(weights: PyTree, inputs: tuple, carries: PyTree, factors: tuple, kept: PyTree) -> tuple[PyTree, tuple]:
        dweights, dinputs = cell.local.deferred(weights, inputs[0], carries, factors[0], kept)
        return dweights, (dinputs, None)

    def coefficients(weights: PyTree, z: tuple) -> tuple[PyTree, PyTree]:
        z, keep = z
        a, b = cell.affine.coefficients(weights, z)
        return hold(keep, (a, b), (cell.affine.one(a), jax.tree.map(jnp.zeros_like, b)))

    local = cell.local and cell.local._replace(forward=forward, backward=backward, deferred=deferred)
    affine = cell.affine and cell.affine._replace(coefficients=coefficients)
    return cell._replace(drive=beside(cell), step=step, local=local, affine=affine)


def restarted(cell: Cell) -> Cell:
    """Where restart_t [*B] is True the step begins at the cell's own first carry, and nothing flows back past it."""

    def first(weights: PyTree, carry: PyTree) -> PyTree:
        return cell.start(weights, batch_shape(cell, weights, carry))

    def step(weights: PyTree, carry: PyTree, z: tuple) -> PyTree:
        z, restart = z
        return cell.step(weights, hold(restart, first(weights, carry), carry), z)

    def forward(weights: PyTree, carry: PyTree, z: tuple) -> tuple[PyTree, PyTree]:
        z, restart = z
        new, factors = cell.local.forward(weights, hold(restart, first(weights, carry), carry), z)
        return new, (factors, restart)

    def backward(weights: PyTree, factors: tuple, dcarry: PyTree) -> tuple[PyTree, tuple]:
        factors, restart = factors
        before, kept = cell.local.backward(weights, factors, dcarry)
        none = jax.tree.map(jnp.zeros_like, before)
        return hold(restart, none, before), (kept, hold(restart, before, none))

    def deferred(weights: PyTree, inputs: tuple, carries: PyTree, factors: tuple, kept: tuple) -> tuple[PyTree, tuple]:
        (inputs, restart), (kept, dfirst) = inputs, kept
        start, pull = jax.vjp(lambda weights: first(weights, jax.tree.map(lambda c: c[0], carries)), weights)
        carries = jax.tree.map(lambda s, c: select(restart, jnp.broadcast_to(s, c.shape), c), start, carries)
        dweights, dinputs = cell.local.deferred(weights, inputs, carries, factors[0], kept)
        [learned] = pull(jax.tree.map(lambda d: d.sum(0), dfirst))
        return jax.tree.map(jnp.add, dweights, learned), (dinputs, None)

    def coefficients(weights: PyTree, z: tuple) -> tuple[PyTree, PyTree]:
        z, restart = z
        a, b = cell.affine.coefficients(weights, z)
        start = jax.tree.map(lambda s, b: jnp.broadcast_to(s, b.shape), first(weights, b), b)
        constant = cell.affine.compose(cell.affine.constant(a, start), (a, b))
        return hold(restart, constant, (a, b))

    local = cell.local and cell.local._replace(forward=forward, backward=backward, deferred=deferred)
    affine = cell.affine and cell.affine._replace(coefficients=coefficients)
    return cell._replace(drive=beside(cell), step=step, local=local, affine=affine)


def hold(keep: Array, new: PyTree, old: PyTree) -> PyTree:
    """Each leaf [*B, *event]: new where keep [*B], else old."""
    return jax.tree.map(lambda new, old: select(keep, new, old), new, old)


def beside(cell: Cell) -> Callable:
    """The drive of a wrapped cell: what the wrapper wants at each step goes past the cell's own drive."""
    return lambda weights, inputs: (cell.drive(weights, inputs[0]), inputs[1])


def select(keep: Array, new: Array, old: Array) -> Array:
    """new where keep, else old; keep is broadcast over the trailing (event) axes."""
    return jnp.where(keep.reshape(keep.shape + (1,) * (new.ndim - keep.ndim)), new, old)
