"""The fast engine: hand-written local derivatives, and every matrix's gradient as one product at the end."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from rnnlab.engines.pieces import in_pieces
from rnnlab.engines.scan import WIDE, known, scan
from rnnlab.types import Cell, PyTree, batch_shape

# Where no gradient is taken the input product is made of so many rows (steps times batch) at once: enough for its full
# speed, and few enough to stay in the cache. Measured on a CPU from 256 rows to all of them, B from 1 to 64.
ROWS = 1024


def fused(cell: Cell, weights: PyTree, carry: PyTree, inputs: PyTree) -> tuple[PyTree, tuple]:
    """Every carry [T, *B, *event], for a cell with a `local`; equal to `scan` up to rounding.

    With a gradient: the forward pass leaves the local Jacobian's factors in the buffer of the drives; the backward pass
    is a few multiplications and one product a step; the gradients of all matrices are one product after it.
    Without one: no factors, and the drives are made a piece at a time.

    A custom gradient has no forward mode: under `jax.jvp` (jacfwd, linearize's pushforward) this raises TypeError; use
    `scan` there. Under jit the message is JAX's own, about a custom_vjp function. A Hessian-vector product works as
    the gradient of a gradient, and as jvp of grad.

    Raises TypeError for a cell that has no `local`.
    """
    if cell.local is None:
        raise TypeError("fused: expected a cell with local derivatives, got one whose `local` is None; use engine=scan")
    try:
        return _recurrence(cell)(weights, carry, inputs), ()
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        raise TypeError("fused: a custom gradient has no forward mode (jvp, jacfwd); use engine=scan") from error


def _recurrence(cell: Cell) -> Callable[..., PyTree]:
    forward = cell.local.forward

    @jax.custom_vjp
    def recurrence(weights: PyTree, carry: PyTree, inputs: PyTree) -> PyTree:
        bare = cell._replace(step=lambda weights, carry, z: forward(weights, carry, z)[0])

        def piece(carry: PyTree, inputs: PyTree) -> tuple[PyTree, PyTree, tuple]:
            return *_fetched(partial(bare.step, weights), carry, cell.drive(weights, inputs)), ()

        rows, length = math.prod(batch_shape(cell, weights, carry)), _length(inputs)
        if not known(rows, length):
            return piece(carry, inputs)[1]
        if rows >= WIDE:
            return scan(bare, weights, carry, inputs)[0]
        return in_pieces(piece, _size(length, ROWS // max(1, rows)), carry, inputs)[1]

    def step(weights: PyTree, carry: PyTree, z: PyTree) -> tuple[PyTree, PyTree]:
        carry, factors = forward(weights, carry, z)
        return carry, (carry, factors)

    @jax.custom_jvp
    def steps(weights: PyTree, carry: PyTree, zs: PyTree) -> PyTree:
        if not cell.local.in_place:
            return lax.scan(partial(step, weights), carry, zs)[1]
        return _in_place(partial(step, weights), carry, zs)

    @steps.defjvp
    def _(primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree]:
        # Differentiated once more, writing in place would copy the buffers in every step.
        return jax.jvp(lambda weights, carry, zs: lax.scan(partial(step, weights), carry, zs)[1], primals, tangents)

    def remember(weights: PyTree, start: PyTree, inputs: PyTree) -> tuple[PyTree, tuple]:
        carries, factors = steps(weights, start, cell.drive(weights, inputs))
        return carries, (weights, start, inputs, carries, factors)

    def pull(saved: tuple, dcarries: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        weights, start, inputs, carries, factors = saved
        transposed = cell.local.transposed(weights)

        def back(dcarry: PyTree, inputs: tuple) -> tuple[PyTree, PyTree]:
            factors, direct = inputs
            return cell.local.backward(transposed, factors, jax.tree.map(jnp.add, dcarry, direct))

        none = jax.tree.map(jnp.zeros_like, start)
        dstart, kept = lax.scan(back, none, (factors, dcarries), reverse=True)
        before = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), start, carries)
        dweights, dinputs = cell.local.deferred(weights, inputs, before, factors, kept)
        return dweights, dstart, dinputs

    recurrence.defvjp(remember, pull)
    return recurrence


def _size(length: int, wanted: int) -> int:
    """A size near the one wanted that leaves no rest, if there is one: a rest costs a copy of everything."""
    return next((size for size in range(wanted, wanted // 2, -1) if length % size == 0), wanted)


def _length(tree: PyTree) -> int:
    """T; `len` would refuse a symbolic one."""
    return jax.tree.leaves(tree)[0].shape[0]


def _at(tree: PyTree, t: Array) -> PyTree:
    return jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, t, keepdims=False), tree)


def _fetched(step: Callable, carry: PyTree, zs: PyTree) -> tuple[PyTree, PyTree]:
    """The last carry and all of them; a z of several gates is fetched a step ahead.

    Read in its own step, XLA on CPU merges the reading with the gates into loops with strides: up to twice the time.
    """
    length = _length(zs)
    if sum(z.size for z in jax.tree.leaves(zs)) <= length * sum(c.size for c in jax.tree.leaves(carry)):
        return lax.scan(lambda carry, z: (step(carry, z),) * 2, carry, zs)

    def fetch(state: tuple, following: Array) -> tuple[tuple, PyTree]:
        carry, z = state
        carry = step(carry, z)
        return (carry, _at(zs, following)), carry

    following = jnp.minimum(jnp.arange(1, length + 1), length - 1)
    (carry, _), carries = lax.scan(fetch, (carry, _at(zs, jnp.zeros((), following.dtype))), following)
    return carry, carries


def _in_place(step: Callable, carry: PyTree, zs: PyTree) -> PyTree:
    """`lax.scan(step, carry, zs)[1]`, with one output written over the drive, and equal ones written once.

    A step reads z_t before it writes there, so XLA copies nothing (a test counts), and T B G floats fewer are held.
    Only the first of zs is written over, and by the last output of its shape, a factor: with a tap's buffer written
    over too, XLA copies both in every step.
    """
    given, tree = jax.tree.flatten(zs)
    distinct = _Distinct()

    def stepped(carry: PyTree, z: list) -> tuple[PyTree, list]:
        carry, out = step(carry, jax.tree.unflatten(tree, z))
        return carry, distinct.leaves(out)

    outputs = jax.eval_shape(stepped, carry, [jax.ShapeDtypeStruct(z.shape[1:], z.dtype) for z in given])[1]
    buffers = [jnp.zeros((_length(given), *one.shape), one.dtype) for one in outputs]
    drive, *rest = given
    place = max((n for n, b in enumerate(buffers) if (b.shape, b.dtype) == (drive.shape, drive.dtype)), default=None)
    if place is not None:
        buffers[place] = drive

    def body(t: Array, state: tuple) -> tuple:
        carry, buffers = state
        carry, out = stepped(carry, _at([drive if place is None else buffers[place], *rest], t))
        return carry, [lax.dynamic_update_index_in_dim(b, o, t, 0) for b, o in zip(buffers, out, strict=True)]

    return distinct.tree(lax.fori_loop(0, _length(drive), body, (carry, buffers))[1])


class _Distinct:
    """A tree's leaves without repetitions of one and the same tracer, and back."""

    def leaves(self, tree: PyTree) -> list:
        found, self._structure = jax.tree.flatten(tree)
        unique = list({id(leaf): leaf for leaf in found}.values())
        self._which = [next(n for n, one in enumerate(unique) if one is leaf) for leaf in found]
        return unique

    def tree(self, leaves: list) -> PyTree:
        return jax.tree.unflatten(self._structure, [leaves[n] for n in self._which])
