"""Clipping: what it did to a training run, and, as a research knob, inside the adjoint, step by step."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rnnlab.probes.gradients import Summary, summarise
from rnnlab.probes.scaled import power_of_two, unscaled
from rnnlab.types import Cell, PyTree, batch_shape


class ClippingSummary(NamedTuple):
    """Of a run's steps. share: of them that were clipped. before, after: ln of the gradient's norm, mean and quantiles.
    lost: mean of ln(before / after) over the clipped steps, 0 where there are none. count: steps that were finite.
    """

    share: Float[Array, "..."]
    before: Summary
    after: Summary
    lost: Float[Array, "..."]
    count: Array


def clipping_summary(
    before: Float[Array, "..."], after: Float[Array, "..."], clipped: Bool[Array, "..."] | None = None
) -> ClippingSummary:
    """How often a global norm was clipped, and from what to what, over the last axis of N training steps.

    before, after: the gradient's norm before and after clipping, as `rnnlab.train` gives them and rows store them
                   (`gradient_norm` and `clipped_norm`). A step at which either is not finite does not count.
    clipped:       whether a step was; by default, whether the two differ.

    With no step left, NaN. A pure function of stored numbers: N log N time, no model. Raises ValueError where the
    shapes differ. (Clipping by the global norm: Pascanu, Mikolov & Bengio 2013, algorithm 1.)
    """
    if before.shape != after.shape or (clipped is not None and clipped.shape != before.shape):
        shapes = [a.shape for a in (before, after, clipped) if a is not None]
        raise ValueError(f"clipping_summary: expected arrays of one shape, got {', '.join(map(str, shapes))}")
    clipped = after < before if clipped is None else clipped
    counted = jnp.isfinite(before) & jnp.isfinite(after)
    count, cut = counted.sum(-1), counted & clipped
    logs = [jnp.log(jnp.where(counted, one, 1)) for one in (before, after)]
    cuts = cut.sum(-1)
    lost = jnp.where(cut, logs[0] - logs[1], 0).sum(-1) / jnp.maximum(cuts, 1).astype(before.dtype)
    share = jnp.where(count > 0, cuts.astype(before.dtype) / jnp.maximum(count, 1).astype(before.dtype), jnp.nan)
    return ClippingSummary(share, *(summarise(one, counted) for one in logs), lost, count)


@cache  # the same arguments give the same cell, so that a stack knows its layers alike
def clipped(cell: Cell, limit: float | int) -> Cell:
    """A cell whose forward pass is its own, and whose adjoint is clipped at every step, each example by itself:

        delta_t <- delta_t min(1, limit / ||delta_t||),   delta_t = dL/dcarry_t over all leaves together

    before it goes on to step t and, through it, to carry_{t-1} (Graves 2013, section 2.1, clips the derivatives at the
    gates so). Where no norm is above the limit, every gradient is what it was, bit by bit. What training then follows
    is no gradient of any loss. L is what is differentiated: of a mean over B examples each one's gradient is 1/B.

    Runs on `scan` and `fused`, in reverse mode, in `unroll`, `layers`, chunks and training steps alike: where the cell
    has `local`, the clip is in its `backward`. `associative` refuses the cell; `newton`, which needs forward mode, and
    `jax.jvp` raise TypeError. Taps stand outside the clip: a tap's gradient is what arrives at it, and min(that, limit)
    is what leaves. The log-domain probes refuse the cell: its adjoint is not linear.

    Cost: a sum of squares over a carry, at every step of the backward pass. Raises ValueError unless limit > 0.
    """
    if not limit > 0:
        raise ValueError(f"clipped: expected limit > 0, got {limit}")

    def transposed(weights: PyTree) -> tuple[PyTree, PyTree]:
        return cell.local.transposed(weights), weights

    def backward(transposed: tuple, factors: PyTree, dcarry: PyTree) -> tuple[PyTree, PyTree]:
        inner, weights = transposed
        return cell.local.backward(inner, factors, shortened(dcarry, limit, len(batch_shape(cell, weights, dcarry))))

    local = cell.local and cell.local._replace(transposed=transposed, backward=backward)
    return cell._replace(step=ClippedStep(cell, limit), local=local, affine=None)


class ClippedStep(NamedTuple):
    """The step of `clipped(cell, limit)`."""

    cell: Cell
    limit: float | int

    def __call__(self, weights: PyTree, carry: PyTree, z: PyTree) -> PyTree:
        return _gate(self.limit, len(batch_shape(self.cell, weights, carry)))(self.cell.step(weights, carry, z))


def shortened(vector: PyTree, limit: float | int, lead: int) -> PyTree:
    """Each vector, over all leaves' axes after the first `lead`, made as long as limit where it is longer.

    The others are left as they are, bit by bit. No square under- or overflows. NaN stays, and inf becomes it.
    """
    one = unscaled(vector, lead)  # a power of two: XLA may multiply by a reciprocal, and that of 2e38 is 0
    squares = [(leaf**2).sum(range(lead, leaf.ndim)) for leaf in jax.tree.leaves(one.vector)]
    size = jnp.sqrt(sum(squares[1:], squares[0]))
    size = jnp.where(size == 0, 1, size)
    short = size <= limit * power_of_two(-one.exponent, size.dtype)
    spread = lambda a, leaf: a.reshape(a.shape + (1,) * (leaf.ndim - lead))  # noqa: E731
    cut = lambda leaf, r: jnp.where(spread(short, leaf), leaf, r * spread(limit / size, leaf))  # noqa: E731
    return jax.tree.map(cut, vector, one.vector)


def _gate(limit: float | int, lead: int) -> Callable[[PyTree], PyTree]:
    """The identity on a carry, whose cotangent is clipped."""
    gate = jax.custom_vjp(lambda carry: carry)
    gate.defvjp(lambda carry: (carry, None), lambda _, dcarry: (shortened(dcarry, limit, lead),))
    return gate
