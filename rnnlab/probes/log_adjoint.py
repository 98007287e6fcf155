"""The exact adjoint at any length: dL/dcarry_t with an exponent of its own for every example, step and layer.

A tap is a float: in float32 a gradient that halves at every step is gone after 126 steps, and one that doubles is inf
after 128. Here the reverse pass carries (vector, exponent), `rnnlab.probes.scaled`, and so does everything that is
handed down: what a step of an upper layer gives to the layer below has an exponent a step, and where two gradients of
different size meet the smaller one is shifted to the larger.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Integer, Shaped

from rnnlab.layers import Join, layers, plain
from rnnlab.noise import quiet
from rnnlab.probes.clipping import ClippedStep
from rnnlab.probes.gradients import GradientNorms, log_norms
from rnnlab.probes.scaled import Scaled, log_scaled, scaled, total, unscaled, where
from rnnlab.types import Cell, Directions, Engine, PyTree
from rnnlab.unroll import mask
from rnnlab.wrappers import held, restarted, select


class LogAdjoint(NamedTuple):
    """norms: ln ||dL/dcarry_t||, as `gradient_norms` gives them; -inf only where the gradient is 0 (at padding, say).
    units: the directions, dL/dcarry_t divided by its joint norm: one carry a layer (`Directions` of two), leaves
           [T, *B, *event], as taps are; 0 where the gradient is.
    """

    norms: GradientNorms
    units: tuple[PyTree, ...]


def log_gradient_norms(
    cells: Cell | Directions | Sequence[Cell | Directions],
    params: PyTree,
    xs: Shaped[Array | np.ndarray, "T ..."],
    loss: Callable[[Array], Array],
    **how: PyTree,
) -> GradientNorms:
    """What `gradient_norms` measures, for any cell, stack, length and loss, where floats do not reach.

    loss: outputs [T, *B, H] -> each example's own loss [*B]. dL/dy_t itself is a float.
    how:  start, keep, lengths, resets, join, reverse, engine, as `rnnlab.unroll.layers` takes them. A join acts on
          each step of each example by itself. Noise is its expectation.

    delta_t = J_{t+1}^T delta_{t+1} + (dy_t/dcarry_t)^T dL/dy_t, from the last step to the first, top layer first
    (Werbos 1990), each term (vector, exponent). A single step's factor is a float: a derivative of 1e-40 is 0 here too;
    so is an entry, or one leaf of a carry, 1e-38 times smaller than the largest of its example's gradient.

    Cost: the forward pass and, in place of an engine's own backward pass, one scan a layer that makes each step again:
    1.2 (LRU), 1.5 (GRU), 1.6 (LSTM) and 1.8 times (tanh) the time of `gradient_norms`, 0.9 to 1.3 of its memory (two
    layers of H=128, B=32, T=200; float32, a busy CPU). Every carry is kept; there is no `chunk`.
    Taps cost 3 % of a training step and are as exact as floats reach: prefer `gradient_norms` and `value_and_grad`
    where norms stay within 1e-38 to 1e38 (float32; some 80 nats either way), this beyond, and where what vanished must
    be told from what is 0.

    Raises ValueError for a loss of another shape, or a cell whose adjoint is `clipped`, which is not linear.
    """
    stack, stack_params = as_stack(cells, params)
    found = record(stack, stack_params, xs, **how)
    return log_scaled(adjoint(found, output_gradient(loss, found)))


def log_adjoint(
    cells: Cell | Directions | Sequence[Cell | Directions],
    params: PyTree,
    xs: Shaped[Array | np.ndarray, "T ..."],
    loss: Callable[[Array], Array],
    **how: PyTree,
) -> LogAdjoint:
    """`log_gradient_norms`, and the direction of every gradient: arguments, cost and errors are its own, and the memory
    of one more set of carries."""
    stack, stack_params = as_stack(cells, params)
    found = record(stack, stack_params, xs, **how)
    deltas = adjoint(found, output_gradient(loss, found))
    units = iter([_unit(one) for one in deltas])
    units = tuple(Directions(next(units), next(units)) if isinstance(c, Directions) else next(units) for c in stack)
    return LogAdjoint(log_scaled(deltas), units)


# A forward pass, and its adjoint: what this probe and the others are made of.


class Pass(NamedTuple):
    """One direction of one layer, in the order of time; `back` where its steps are taken from the last to the first.

    step:    (weights, carry, z) -> carry, z = (the drive's, flags of a hold or a restart)
    before:  the carry that a step begins at, carries: those that it gives [T, *B, *event]
    flags:   (keep, restart) [T, *B], either None
    own_start: whether the first carry is the cell's own
    """

    cell: Cell
    params: PyTree
    weights: PyTree
    before: PyTree
    carries: PyTree
    flags: tuple
    back: bool
    own_start: bool

    def step(self, weights: PyTree, carry: PyTree, z: tuple) -> PyTree:
        """The step as `unroll` takes it: a restart outside the hold."""
        (z, (keep, restart)), cell = z, self.cell
        if keep is not None:
            cell, z = held(cell), (z, keep)
        if restart is not None:
            cell, z = restarted(cell), (z, restart)
        return cell.step(weights, carry, z)


class Layer(NamedTuple):
    """What a layer read [T, *B, *D] (padding as zeros), its passes, one or two, and how it hands on."""

    xs: Array
    passes: tuple[Pass, ...]
    join: Join


class Recorded(NamedTuple):
    """A forward pass. ys: what the last layer hands on [T, *B, H]; lead: axes of T and *B; keep [T, *B] or None."""

    ys: Array
    layers: tuple[Layer, ...]
    lead: int
    keep: Array | None


class Pulled(NamedTuple):
    """One direction of one layer, in the order of time, all [T, *B, ...].

    deltas: dL/dcarry_t; at padding, what passes through the hold. outputs: dL/dy_t, y_t the cell's own output. drives:
    dL/dz_t. Both are 0 at padding.
    """

    deltas: Scaled
    outputs: Scaled
    drives: Scaled


def as_stack(cells: Cell | Directions | Sequence, params: PyTree) -> tuple[Sequence, Sequence]:
    """One cell is a stack of one."""
    return ((cells,), (params,)) if isinstance(cells, Cell | Directions) else (cells, params)


def record(
    cells: Sequence[Cell | Directions],
    params: Sequence[PyTree],
    xs: Shaped[Array | np.ndarray, "T ..."],
    *,
    start: Sequence[PyTree] | None = None,
    keep: Bool[Array | np.ndarray, "T ..."] | None = None,
    lengths: Integer[Array | np.ndarray, "..."] | Sequence[int] | None = None,
    resets: Bool[Array | np.ndarray, "T ..."] | None = None,
    join: Join | Sequence[Join] = plain,
    reverse: bool = False,
    engine: Engine | None = None,
) -> Recorded:
    """The forward pass of `layers`, with what its adjoint needs. Every carry and every layer's input is kept."""
    xs = jnp.asarray(xs)
    first = cells[0].forward if isinstance(cells[0], Directions) else cells[0]
    batch_shape = xs.shape[1 : xs.ndim - first.input_rank]
    keep = mask(keep, lengths, xs.shape[0], batch_shape)
    joins = tuple(join) if isinstance(join, Sequence) else (join,) * len(cells)
    starts = (None,) * len(cells) if start is None else start
    found = []
    for cell, own, begin, how in zip(cells, params, starts, joins, strict=True):
        if keep is not None:
            xs = select(keep, xs, jnp.zeros_like(xs))
        out = layers((cell,), (own,), xs, start=(begin,), keep=keep, resets=resets, reverse=reverse, engine=engine)
        both = isinstance(cell, Directions)
        given = zip(*(cell, own, begin or (None, None), out.carries[0]), (False, True), strict=True) if both else None
        given = given or [(cell, own, begin, out.carries[0], reverse)]
        passes = tuple(_pass(*one, keep=keep, resets=resets, batch_shape=batch_shape) for one in given)
        found.append(Layer(xs, passes, how))
        xs = how(xs, out.ys)
    return Recorded(xs, tuple(found), 1 + len(batch_shape), keep)


def output_gradient(loss: Callable[[Array], Array], recorded: Recorded) -> Scaled:
    """dL/dy_t of what the last layer hands on, of each example's own loss [*B]."""
    batch_shape = recorded.ys.shape[1 : recorded.lead]

    def summed(ys: Array) -> Array:
        losses = loss(ys)
        if losses.shape != batch_shape:
            raise ValueError(f"expected each example's own loss, of shape {batch_shape}, got shape {losses.shape}")
        return losses.sum()

    # Of a loss that is linear, a constant: XLA would take seconds to find the largest entry of each step by itself.
    return unscaled(lax.optimization_barrier(jax.grad(summed)(recorded.ys)), recorded.lead)


def adjoint(recorded: Recorded, dys: Scaled) -> tuple[Scaled, ...]:
    """dL/dcarry_t as taps have it, 0 at padding, of every layer and direction."""
    return tuple(where(recorded.keep, one.deltas) for one in pull_back(recorded, dys))


def pull_back(recorded: Recorded, dys: Scaled) -> list[Pulled]:
    """All gradients of a forward pass, from dL/dy of its outputs; one entry a layer and direction, forward first."""
    found: list[Pulled] = []
    for place in reversed(range(len(recorded.layers))):
        layer = recorded.layers[place]
        outs, dys = _layer_back(layer, dys, recorded.keep, lowest=place == 0)
        found = outs + found
    return found


# Inside.


def _pass(cell, params, start, carries, back, *, keep, resets, batch_shape) -> Pass:
    cell = quiet(cell)
    if isinstance(cell.step, ClippedStep):
        raise ValueError(
            "log adjoint: expected a linear adjoint, got a clipped one; use gradient_norms, whose taps see it"
        )
    weights, own_start = cell.prepare(params), start is None
    start = cell.start(weights, batch_shape) if own_start else start
    if resets is not None and back:  # a sequence ends where, in this order, the next one begins
        resets = jnp.roll(jnp.asarray(resets), -1, axis=0).at[-1].set(False)
    ends = (lambda c, s: (c[1:], s[None])) if back else (lambda c, s: (s[None], c[:-1]))
    before = jax.tree.map(lambda c, s: jnp.concatenate(ends(c, s)), carries, start)
    resets = None if resets is None else jnp.asarray(resets)
    return Pass(cell, params, weights, before, carries, (keep, resets), back, own_start)


def _layer_back(layer: Layer, dout: Scaled, keep: Array | None, lowest: bool) -> tuple[list[Pulled], Scaled | None]:
    """Of one layer: its passes' gradients, and dL/dx of its inputs, which nobody asks of the lowest one."""
    reads = [one.cell.read(one.weights, one.carries, layer.xs) for one in layer.passes]
    ys = jnp.concatenate(reads, axis=-1)
    ys = ys if keep is None else select(keep, ys, jnp.zeros_like(ys))
    dys = _pulled(lambda ys: layer.join(layer.xs, ys), ys, dout)
    dys = where(keep, dys)
    into = [] if lowest else [(lambda xs: layer.join(xs, ys), dout)]
    found, begin = [], 0
    for one, read in zip(layer.passes, reads, strict=True):
        width = read.shape[-1]
        mine = scaled(lax.slice_in_dim(dys.vector, begin, begin + width, axis=-1), dys.exponent)
        begin += width
        found.append(_pass_back(one, layer.xs, mine))
        if not lowest:
            into += [
                (lambda xs, one=one: one.cell.drive(one.weights, xs), found[-1].drives),
                (lambda xs, one=one: one.cell.read(one.weights, one.carries, xs), mine),
            ]
    return found, None if lowest else total(*(_pulled(f, layer.xs, d) for f, d in into if _depends(f, layer.xs)))


def _pass_back(one: Pass, xs: Array, dys: Scaled) -> Pulled:
    """The reverse scan over one direction of one layer."""
    _, pull_read = jax.vjp(lambda carries: one.cell.read(one.weights, carries, xs), one.carries)

    def back(through: Scaled, inputs: tuple) -> tuple[Scaled, tuple]:
        before, z, flags, direct, exponent = inputs
        delta = total(through, scaled(direct, exponent))
        _, pull = jax.vjp(lambda carry, z: one.step(one.weights, carry, (z, flags)), before, z)
        dbefore, dz = pull(delta.vector)
        return scaled(dbefore, delta.exponent), (delta, scaled(dz, delta.exponent))

    none = unscaled(jax.tree.map(lambda c: jnp.zeros_like(c[0]), one.carries), dys.exponent.ndim - 1)
    inputs = one.before, one.cell.drive(one.weights, xs), one.flags, *pull_read(dys.vector), dys.exponent
    _, (deltas, drives) = lax.scan(back, none, inputs, reverse=not one.back)
    return Pulled(deltas, dys, drives)


def _pulled(function: Callable, at: PyTree, cotangent: Scaled) -> Scaled:
    """The gradient by what `function`, which acts on each of the leading axes by itself, was given."""
    return scaled(jax.vjp(function, at)[1](cotangent.vector)[0], cotangent.exponent)


def _depends(function: Callable, at: Array) -> bool:
    """Whether anything of it reaches what `function` gives: zeros need not be computed, scaled and added."""
    program = jax.make_jaxpr(function)(at).jaxpr
    reached = {id(var) for var in program.invars}
    for line in program.eqns:
        if any(id(var) in reached for var in line.invars):
            reached |= {id(var) for var in line.outvars}
    return any(id(var) in reached for var in program.outvars)


def _unit(one: Scaled) -> PyTree:
    """Divided by its joint norm; 0 stays 0."""
    size = jnp.exp(log_norms((one.vector,), one.exponent.ndim - 1).joint[0])
    size = jnp.where(size == 0, 1, size)
    spread = lambda leaf: size.reshape(size.shape + (1,) * (leaf.ndim - size.ndim)).astype(leaf.dtype)  # noqa: E731
    return jax.tree.map(lambda leaf: leaf / spread(leaf), one.vector)
