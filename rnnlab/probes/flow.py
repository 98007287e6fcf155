"""The recurrence as a map of one vector, whose derivatives the Jacobian and Lyapunov probes take.

The vector is the carry of all layers, ravelled: its S numbers are the layers' in order, each layer's leaves in order.
The map is one step of the whole stack, as in decoding: layer l reads what layer l - 1 hands on at this same step. The
Jacobian of a stack is then block lower triangular, [S, S] with S the sum over the layers, and that of a stack of one is
the cell's. Where a row is held (`keep`, `lengths`) the map is the identity.

**Not what a tap sees.** A tap is added to a layer's new carry before the layer above reads it: its gradient counts the
way up at the same step. J changes a carry after the step, when all layers have read: the way up comes with the next.
So for a the adjoint of J, a_{t-1} = J_t^T a_t, and delta that of the taps: delta_t^l = a_t^l + (dcarry_t^{l+1}/
dcarry_t^l)^T delta_t^{l+1}. In the top layer, and in a single cell, the two are the same.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Integer, Shaped

from rnnlab.engines import scan
from rnnlab.engines.jacobians import Vectors
from rnnlab.layers import Join, layers, plain
from rnnlab.noise import quiet
from rnnlab.types import Cell, Directions, PyTree
from rnnlab.unroll import mask
from rnnlab.wrappers import hold, select

# One cell or several, one a layer; Directions are refused, by name.
Stack = Cell | Directions | Sequence[Cell | Directions]


class Flow(NamedTuple):
    """step: (input, carry [S]) -> carry [S], of one example at one step. start: first carries [*B, S].
    inputs: what the step takes, leaves [T, *B, ...]. keep: [T, *B], or None where no row is ever held."""

    step: Callable[[PyTree, Array], Array]
    start: Float[Array, "... S"]
    inputs: PyTree
    keep: Bool[Array, "T ..."] | None

    @property
    def size(self) -> int:
        """S, of one example."""
        return self.start.shape[-1]

    @property
    def length(self) -> int:
        """T."""
        return jax.tree.leaves(self.inputs)[0].shape[0]

    def states(self, start: Float[Array, " S"], inputs: PyTree) -> Float[Array, "T S"]:
        """The carry before each step, of one example."""

        def step(carry: Array, given: PyTree) -> tuple[Array, Array]:
            return self.step(given, carry), carry

        return lax.scan(step, start, inputs)[1]

    def per_example(self, function: Callable[[Array, PyTree], PyTree], axes: PyTree) -> PyTree:
        """function(start [S], inputs [T, ...]) of every example; its batch axes are put at `axes` of the results."""
        for _ in self.start.shape[:-1]:
            function = jax.vmap(function, in_axes=(0, 1), out_axes=axes)
        return function(self.start, self.inputs)


def flow(
    name: str,
    cells: Stack,
    params: PyTree,
    xs: Shaped[Array | np.ndarray, "T ..."],
    *,
    start: PyTree = None,
    keep: Bool[Array | np.ndarray, "T ..."] | None = None,
    lengths: Integer[Array | np.ndarray, "..."] | Sequence[int] | None = None,
    join: Join | Sequence[Join] = plain,
) -> Flow:
    """The map of a cell or a stack along xs [T, *B, D]; noise is left out, products are at full precision.

    start, keep, lengths: as in `unroll`, start one a layer for a stack. join: as in `layers`.
    Raises TypeError for a bidirectional layer, which has no step, ValueError as `layers` and `unroll` do; `name` is
    who asks.
    """
    cells, params, start = as_stack(name, cells, params, start)
    xs, depth = jnp.asarray(xs), len(cells)
    # Checks all that was given, and computes nothing.
    jax.eval_shape(
        lambda xs, keep: layers(cells, params, xs, start=start, keep=keep, lengths=lengths, join=join, engine=scan).ys,
        xs, keep,
    )  # fmt: skip
    batch_shape = xs.shape[1 : xs.ndim - cells[0].input_rank]
    keep = mask(keep, lengths, xs.shape[0], batch_shape)
    xs = xs if keep is None else select(keep, xs, jnp.zeros_like(xs))
    cells = tuple(quiet(cell) for cell in cells)
    joins = tuple(join) if isinstance(join, Sequence) else (join,) * depth
    weights = tuple(cell.prepare(p) for cell, p in zip(cells, params, strict=True))
    event = jax.eval_shape(lambda all: tuple(c.start(w, ()) for c, w in zip(cells, all, strict=True)), weights)
    given = zip(cells, weights, start, strict=True)
    first = tuple(cell.start(w, batch_shape) if one is None else one for cell, w, one in given)
    vectors = Vectors(event)
    step = partial(_step, cells, joins, weights, vectors)
    return Flow(step, vectors.ravel(first), (xs, cells[0].drive(weights[0], xs), keep), keep)


def as_stack(name: str, cells: Stack, params: PyTree, start: PyTree) -> tuple[Sequence[Cell], PyTree, Sequence]:
    """A cell as a stack of one, with its parameters and its start (None a layer for None)."""
    if isinstance(cells, Cell):
        return (cells,), (params,), (start,)
    if isinstance(cells, Directions) or not all(isinstance(cell, Cell) for cell in cells):
        raise TypeError(f"{name}: expected cells of one direction, got a bidirectional layer, which has no one step")
    return cells, params, (None,) * len(cells) if start is None else start


def _step(
    cells: tuple[Cell, ...], joins: tuple[Join, ...], weights: tuple, vectors: Vectors, given: tuple, flat: Array
) -> Array:
    """One step of the whole stack, its carries ravelled."""
    x, z, keep = given
    carries = []
    with jax.default_matmul_precision("highest"):  # TF32, the default of a GPU, has three digits: too few here
        for n, (cell, own, old) in enumerate(zip(cells, weights, vectors.unravel(flat), strict=True)):
            z = cell.drive(own, x) if n else z  # the lowest layer's was made for all steps at once
            new = cell.step(own, old, z)
            carries.append(new if keep is None else hold(keep, new, old))
            if n + 1 < len(cells):
                x = joins[n](x, cell.read(own, carries[-1], x))
    return vectors.ravel(tuple(carries))


def unit(x: Float[Array, "..."], axes: int | tuple[int, ...] = -1) -> tuple[Array, Array]:
    """x over its Euclidean norm over `axes`, and ln of that norm; zeros, and -inf, for zeros.

    Divides by the largest entry before squaring: squares of floats below 1e-19 are 0 in float32.
    """
    top = lax.stop_gradient(jnp.max(jnp.abs(x), axis=axes, keepdims=True))
    nothing = top == 0
    scale = jnp.where(nothing, 1, top)
    scaled = x / scale
    squares = jnp.where(nothing, 1, jnp.sum(scaled * scaled, axis=axes, keepdims=True))
    log = jnp.where(nothing, -jnp.inf, jnp.log(scale) + jnp.log(squares) / 2)
    return scaled / jnp.sqrt(squares), jnp.squeeze(log, axes)
