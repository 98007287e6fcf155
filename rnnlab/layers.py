"""Cells over depth: stacks unrolled layer by layer, their parameters and their taps.

A stack is not one cell that steps all its layers at once: a tap on such a cell gives wrong gradients in the inner
layers, because the layer above would read the carry before the tap.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Integer, Key, Shaped

from rnnlab import initializers as inits
from rnnlab.noise import quiet, variational
from rnnlab.types import Cell, Directions, Engine, PyTree
from rnnlab.unroll import Unrolled, bidirectional, mask, unroll
from rnnlab.wrappers import select


def plain(xs: Shaped[Array, "..."], ys: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """What a layer hands on: its outputs."""
    return ys


def residual(xs: Shaped[Array, "..."], ys: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """What a layer hands on: its outputs plus its inputs, of the same width (He et al. 2016, equation 1)."""
    if xs.shape != ys.shape:
        raise ValueError(
            f"residual: expected inputs and outputs of one shape, got {xs.shape} and {ys.shape}; "
            "where a layer changes the width give one join a layer: join=(plain, residual, ...)"
        )
    return xs + ys


class HighwayParams(NamedTuple):
    """cell: the cell's own. W, b: of the transform gate."""

    cell: PyTree
    W: Float[Array, "D D"]
    b: Float[Array, " D"]


def highway(cell: Cell, *, transform_bias: float | int = -1.0, kernel: inits.Initializer = inits.normal()) -> Cell:
    """A cell whose outputs are gated against its inputs, of the same width, so that a deep stack begins near identity:

        t = sigmoid(x_t W + b),   y_t = t * (the cell's y_t) + (1 - t) * x_t

    (Srivastava, Greff & Schmidhuber 2015, equation 3.) The gate needs no carry: recurrence, engine and taps are the
    cell's own. W normal, b = `transform_bias`. Raises ValueError in `init` where the widths differ.
    """

    def init(key: Key[Array, ""], dim: int, dtype=jnp.float32) -> HighwayParams:
        own, W = jax.random.split(key)
        params = cell.init(own, dim, dtype)
        if (width := _width(cell, params, dim, dtype)) != dim:
            raise ValueError(f"highway: expected inputs and outputs of one width, got {dim} and {width}")
        return HighwayParams(params, kernel(W, (dim, dim), dtype), jnp.full(dim, transform_bias, dtype))

    def read(weights: HighwayParams, carry: PyTree, xs: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        ys, gate = cell.read(weights.cell, carry, xs), jax.nn.sigmoid(xs @ weights.W + weights.b)
        return gate * ys + (1 - gate) * xs

    def deferred(weights: HighwayParams, *rest: PyTree) -> tuple[HighwayParams, PyTree]:
        dcell, dinputs = cell.local.deferred(weights.cell, *rest)
        return HighwayParams(dcell, jnp.zeros_like(weights.W), jnp.zeros_like(weights.b)), dinputs

    def noise(key: Key[Array, ""] | None, weights: HighwayParams, batch_shape: tuple[int, ...]) -> HighwayParams:
        return weights._replace(cell=cell.noise(key, weights.cell, batch_shape))

    def inside(function: Callable) -> Callable:
        return lambda weights, *rest: function(weights.cell, *rest)

    local = cell.local and cell.local._replace(
        forward=inside(cell.local.forward), deferred=deferred, transposed=inside(cell.local.transposed)
    )
    affine = cell.affine and cell.affine._replace(coefficients=inside(cell.affine.coefficients))
    return cell._replace(
        init=init, read=read, start=inside(cell.start), drive=inside(cell.drive), step=inside(cell.step),
        local=local, affine=affine,
        prepare=lambda params: params._replace(cell=cell.prepare(params.cell)), noise=cell.noise and noise,
    )  # fmt: skip


Join = Callable[[Array, Array], Array]

# So many layers alike, one upon the other, are one scan, so that a deep stack compiles in the time of a shallow one. It
# costs 5 to 15 % of a training step, for what is kept of each layer is copied; fewer compile as fast one by one.
SCANNED = 8


def layers(
    cells: Sequence[Cell | Directions],
    params: Sequence[PyTree],
    xs: Shaped[Array | np.ndarray, "T ..."],
    *,
    start: Sequence[PyTree] | None = None,
    keep: Bool[Array | np.ndarray, "T ..."] | None = None,
    lengths: Integer[Array | np.ndarray, "..."] | Sequence[int] | None = None,
    resets: Bool[Array | np.ndarray, "T ..."] | None = None,
    taps: Sequence[PyTree] | None = None,
    join: Join | Sequence[Join] = plain,
    dropout: float | int | Sequence[float | int] = 0.0,
    reverse: bool = False,
    engine: Engine | None = None,
    chunk: int | None = None,
    key: Key[Array, ""] | None = None,
) -> Unrolled:
    """A stack, layer by layer: each layer reads what the one below hands on. Widths may differ.

    cells: one a layer, first layer first; `Directions(forward, backward)` makes it bidirectional.
    start, taps: one a layer. join: what a layer hands on, `plain` or `residual` or any (inputs, outputs) ->
    outputs; one for all layers or one a layer. dropout: rate at which features of what a layer reads are dropped, the
    same ones at every step of a row (`rnnlab.noise.variational`); one for all layers or one a layer. key: for dropout
    and for cells with noise; without one, their expectation. The other arguments as in `unroll`.

    ys are the last layer's; carries, last and info are tuples, one entry a layer.
    """
    _check_stack("layers", cells)
    depth = len(cells)
    joins = tuple(join) if isinstance(join, Sequence) else (join,) * depth
    start = (None,) * depth if start is None else start
    taps = (None,) * depth if taps is None else taps
    rates = tuple(dropout) if isinstance(dropout, Sequence) else (dropout,) * depth
    keys = (None,) * depth if key is None else tuple(jax.random.split(key, depth))
    each = {"params": params, "start": start, "taps": taps, "join": joins, "dropout": rates}
    for name, given in each.items():
        if len(given) != depth:
            raise ValueError(f"layers: expected {name} for {depth} layers, got {len(given)}")
    xs = jnp.asarray(xs)
    keep = mask(keep, lengths, xs.shape[0], _batch_shape(cells[0], xs))
    if keep is not None:
        xs = select(keep, xs, jnp.zeros_like(xs))  # a join looks at the inputs too, padding and all

    outs = []
    for one in _runs(cells, params, start, taps, keys, joins, rates):
        run = _layer if len(one) < SCANNED else _scanned
        xs, found = run(xs, one, reverse, dict(keep=keep, resets=resets, engine=engine, chunk=chunk))
        outs += found
    return Unrolled(xs, *(tuple(getattr(o, f) for o in outs) for f in ("carries", "last", "info")))


class _Layer(NamedTuple):
    """What `layers` was given for one layer."""

    cell: Cell | Directions
    params: PyTree
    start: PyTree
    taps: PyTree
    key: Array | None
    join: Join
    dropout: float | int

    @property
    def arrays(self) -> tuple:
        """What differs between layers alike."""
        return self.params, self.start, self.taps, self.key


def _runs(*given: Sequence) -> list[list[_Layer]]:
    """The stack, cut into runs that one program can serve: of the same cell and join, and arrays of one shape."""

    def alike(layer: _Layer) -> tuple:
        leaves = [(jnp.shape(a), jax.typeof(a).dtype) for a in jax.tree.leaves(layer.arrays)]
        return layer.cell, layer.join, layer.dropout, jax.tree.structure(layer.arrays), leaves

    return [list(run) for _, run in itertools.groupby(itertools.starmap(_Layer, zip(*given, strict=True)), alike)]


def _layer(xs: Array, run: list[_Layer], reverse: bool, how: dict) -> tuple[Array, list[Unrolled]]:
    """Layer after layer; what the last one hands on, and everything of each."""
    outs = []
    for cell, params, start, taps, key, join, rate in run:
        mine, own = (None, None) if key is None else jax.random.split(key)
        read = variational(xs, rate, mine)
        if isinstance(cell, Directions):
            if reverse:
                raise ValueError("layers: reverse=True was given for a bidirectional layer, which runs both ways")
            none = Directions(None, None)
            out = bidirectional(cell, params, read, start=start or none, taps=taps or none, key=own, **how)
        else:
            out = unroll(cell, params, read, start=start, taps=taps, reverse=reverse, key=own, **how)
        xs = join(xs, out.ys)
        outs.append(out)
    return xs, outs


def _scanned(xs: Array, run: list[_Layer], reverse: bool, how: dict) -> tuple[Array, list[Unrolled]]:
    """The same as one scan over the layers: compiled once, however deep."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(one.arrays for one in run))

    def step(xs: Array, arrays: tuple) -> tuple[Array, Unrolled]:
        xs, (out,) = _layer(xs, [_Layer(run[0].cell, *arrays, run[0].join, run[0].dropout)], reverse, how)
        return xs, out._replace(ys=None)

    xs, outs = lax.scan(step, xs, stacked)
    return xs, [jax.tree.map(lambda a, n=n: a[n], outs) for n in range(len(run))]


def init_layers(
    cells: Sequence[Cell | Directions], key: Key[Array, ""], dim: int, dtype=jnp.float32
) -> tuple[PyTree, ...]:
    """Parameters of every layer of a stack whose first layer reads inputs of D = dim features."""
    _check_stack("init_layers", cells)
    params = []
    for cell, layer_key in zip(cells, jax.random.split(key, len(cells)), strict=True):
        directions = cell if isinstance(cell, Directions) else (cell,)
        keys = jax.random.split(layer_key, len(directions))
        drawn = [one.init(k, dim, dtype) for one, k in zip(directions, keys, strict=True)]
        dim = sum(_width(one, p, dim, dtype) for one, p in zip(directions, drawn, strict=True))
        params.append(Directions(*drawn) if isinstance(cell, Directions) else drawn[0])
    return tuple(params)


def zero_taps(
    cells: Cell | Directions | Sequence, params: PyTree, length: int, batch_shape: tuple[int, ...] = ()
) -> PyTree:
    """Taps for `unroll`, `bidirectional` or `layers`: zeros like every carry, [T, *B, *event]."""
    if isinstance(cells, Cell):
        cell = quiet(cells)
        carry = jax.eval_shape(lambda p: cell.start(cell.prepare(p), batch_shape), params)
        return jax.tree.map(lambda c: jnp.zeros((length, *c.shape), c.dtype), carry)
    taps = [zero_taps(cell, p, length, batch_shape) for cell, p in zip(cells, params, strict=True)]
    return Directions(*taps) if isinstance(cells, Directions) else tuple(taps)


def _check_stack(name: str, cells: Sequence[Cell | Directions]) -> None:
    """A cell and a pair of directions are tuples themselves, and would pass for stacks of something."""
    if isinstance(cells, Cell | Directions) or len(cells) == 0:
        given = type(cells).__name__ if len(cells) else "an empty one"
        raise TypeError(f"{name}: expected a sequence of cells, one a layer, got {given}; write (cell,) for one layer")


def _batch_shape(cell: Cell | Directions, xs: Array) -> tuple[int, ...]:
    one = cell.forward if isinstance(cell, Directions) else cell
    return xs.shape[1 : xs.ndim - one.input_rank]


def _width(cell: Cell, params: PyTree, dim: int, dtype) -> int:
    """Features of one output, found without computing anything."""
    if cell.input_rank != 1:
        raise ValueError("init_layers: an image cell's inputs are more than one axis; initialise each layer by itself")

    cell = quiet(cell)

    def output(params: PyTree) -> Array:
        weights = cell.prepare(params)
        return cell.read(weights, cell.start(weights, ()), jnp.zeros(dim, dtype))

    return jax.eval_shape(output, params).shape[-1]
