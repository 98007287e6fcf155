"""Jacobians dcarry_t/dcarry_{t-1} of all steps at once, each example's, in the two forms that `newton` solves with."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from rnnlab.types import Cell, PyTree

Push = Callable[[Array], Array]  # the derivative of all steps in a direction: [T, *B, S] -> [T, *B, S], linear
HIGHEST = lax.Precision.HIGHEST  # TF32, the default of a GPU, has three digits: too few for an exact derivative


class Vectors(NamedTuple):
    """A carry as one vector an example, and back; the axes before the event's stay. event: a single row's shapes."""

    event: PyTree

    @property
    def begins(self) -> list[int]:
        """Where each leaf begins."""
        sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(self.event)]
        return [sum(sizes[:n]) for n in range(len(sizes))]

    def ravel(self, carry: PyTree) -> Float[Array, "... S"]:
        pairs = zip(jax.tree.leaves(carry), jax.tree.leaves(self.event), strict=True)
        flat = [leaf.reshape(*leaf.shape[: leaf.ndim - one.ndim], math.prod(one.shape)) for leaf, one in pairs]
        return jnp.concatenate(flat, axis=-1)

    def unravel(self, vector: Float[Array, "... S"]) -> PyTree:
        leaves, tree = jax.tree.flatten(self.event)
        parts = zip(jnp.split(vector, self.begins[1:], axis=-1), leaves, strict=True)
        return tree.unflatten([part.reshape(*part.shape[:-1], *one.shape) for part, one in parts])


class Form(NamedTuple):
    """A way of holding Jacobians J [T, *B, ...].

    of:        (push, like [T, *B, S]) -> J
    times:     (J, v [T, *B, S]) -> J v
    compose:   (earlier, later) -> J            one after the other
    transpose: J -> J^T
    exact:                                      whether J is all of the Jacobian
    """

    of: Callable[[Push, Array], PyTree]
    times: Callable[[PyTree, Array], Array]
    compose: Callable[[PyTree, PyTree], PyTree]
    transpose: Callable[[PyTree], PyTree]
    exact: bool


def full(cell: Cell, vectors: Vectors) -> Form:
    """All of it, [T, *B, S, S]: S products with the step's derivative, T B S^2 numbers, T B S^3 work to compose."""

    def of(push: Push, like: Float[Array, "T ... S"]) -> Float[Array, "T ... S S"]:
        basis = jnp.eye(like.shape[-1], dtype=like.dtype)
        return jax.vmap(lambda e: push(jnp.broadcast_to(e, like.shape)), out_axes=-1)(basis)

    return Form(
        of,
        times=lambda J, v: jnp.matmul(J, v[..., None], precision=HIGHEST)[..., 0],
        compose=lambda earlier, later: jnp.matmul(later, earlier, precision=HIGHEST),
        transpose=lambda J: jnp.swapaxes(J, -1, -2),
        exact=True,
    )


def diagonal(cell: Cell, vectors: Vectors) -> Form:
    """What every unit has to do with itself: T B S numbers for a carry of one leaf, k S for k leaves of one shape.

    A unit is an index in a leaf; leaves of one shape share their units, so that h and c of an LSTM are blocks of 2 x 2.
    For a cell that is `diagonal` that is all of the Jacobian, at k products with the step's derivative. For any other
    it is a part (quasi-Newton: Gonzalez et al. 2024, section 4), at S products, one after another: no S^2 is held.
    """
    # A group: where its leaves of one shape begin, and their units.
    groups: dict[tuple[int, ...], list[int]] = {}
    for leaf, begin in zip(jax.tree.leaves(vectors.event), vectors.begins, strict=True):
        groups.setdefault(leaf.shape, []).append(begin)
    spans = [(begins, math.prod(shape)) for shape, begins in groups.items()]

    def cut(v: Array) -> list[Array]:
        """Group by group, [..., k, units]."""
        return [jnp.stack([v[..., b : b + units] for b in begins], axis=-2) for begins, units in spans]

    def joined(parts: list[Array]) -> Array:
        found = {
            b: part[..., n, :] for part, (begins, _) in zip(parts, spans, strict=True) for n, b in enumerate(begins)
        }
        return jnp.concatenate([found[b] for b in sorted(found)], axis=-1)

    def columns(push: Push, like: Array, begin: int, begins: list[int], units: int) -> Array:
        """d(leaves of the group)/d(the leaf at `begin`), unit by unit: [..., k, units]."""
        if cell.diagonal:  # nothing else comes in: all units at once
            moved = push(jnp.zeros_like(like).at[..., begin : begin + units].set(1))
            return jnp.stack([moved[..., b : b + units] for b in begins], axis=-2)

        def one(unit: Array) -> Array:
            moved = push(jnp.broadcast_to(jax.nn.one_hot(begin + unit, like.shape[-1], dtype=like.dtype), like.shape))
            return jnp.stack([lax.dynamic_index_in_dim(moved, b + unit, -1, keepdims=False) for b in begins], axis=-1)

        return jnp.moveaxis(lax.map(one, jnp.arange(units)), 0, -1)

    def of(push: Push, like: Float[Array, "T ... S"]) -> list[Array]:
        """Group by group, [T, *B, k to, k from, units]."""
        return [jnp.stack([columns(push, like, b, begins, u) for b in begins], axis=-2) for begins, u in spans]

    def multiply(J: Array, other: Array) -> Array:
        return jnp.einsum("...iju,...jku->...iku", J, other, precision=HIGHEST) if J.shape[-2] > 1 else J * other

    return Form(
        of,
        times=lambda J, v: joined([multiply(j, p[..., None, :])[..., 0, :] for j, p in zip(J, cut(v), strict=True)]),
        compose=lambda earlier, later: [multiply(b, a) for a, b in zip(earlier, later, strict=True)],
        transpose=lambda J: [jnp.swapaxes(j, -2, -3) for j in J],
        exact=cell.diagonal,
    )
