"""Cells over time: `unroll` and `bidirectional`, with lengths, resets, taps, noise and chunks."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Integer, Key, Shaped

from rnnlab.engines import default
from rnnlab.engines.pieces import in_pieces
from rnnlab.noise import drawn, quiet
from rnnlab.types import Cell, Directions, Engine, PyTree
from rnnlab.wrappers import held, restarted, select, tapped


class Unrolled(NamedTuple):
    """ys: outputs [T, *B, H], 0 at padding. carries: every carry [T, *B, *event].
    last: each row's own last carry [*B, *event]. info: what the engine said, one entry a chunk if chunked.

    `bidirectional` gives `Directions` of the last three, `layers` tuples of them, first layer first.
    Under jit, what is not used is not kept.
    """

    ys: Shaped[Array, "T ..."]
    carries: PyTree
    last: PyTree
    info: PyTree


def unroll(
    cell: Cell,
    params: PyTree,
    xs: Shaped[Array | np.ndarray, "T ..."],
    *,
    start: PyTree = None,
    keep: Bool[Array | np.ndarray, "T ..."] | None = None,
    lengths: Integer[Array | np.ndarray, "..."] | Sequence[int] | None = None,
    resets: Bool[Array | np.ndarray, "T ..."] | None = None,
    taps: PyTree = None,
    reverse: bool = False,
    engine: Engine | None = None,
    chunk: int | None = None,
    key: Key[Array, ""] | None = None,
) -> Unrolled:
    """One cell over xs [T, *B, D]; exact for every row, however long.

    start:   first carry [*B, *event]; the cell's own (zeros, mostly) by default.
    keep:    [T, *B]: where False the input is padding: whatever it holds (NaN and inf too) changes neither
             the outputs nor any gradient, the carry is held, y = 0. `lengths` [*B] is the same for right
             padding: keep_t = t < length; at length 0, y = 0 and the last carry is the first one.
    resets:  [T, *B]: True where a new sequence begins in a row. Its first step (in reverse, its last) starts from the
             cell's own first carry, not from `start`, so that several sequences end to end equal these one by one.
    taps:    zeros like the carries, from `zero_taps`: the gradient with respect to them is dL/dcarry_t, the
             total derivative, at every step (0 at padding).
    reverse: from the last step to the first; outputs stay where their inputs are.
    engine:  how steps are evaluated, one of `rnnlab.engines`; by default `fused` for a cell with local derivatives,
             which has no forward mode (under jvp or jacfwd give `scan`), and `scan` for any other.
    chunk:   steps that are recomputed together in the backward pass. Drive, engine and read of one chunk
             live in memory at a time, so that T=100,000 fits, for one more forward pass; and where only `last`
             is used, the carries of one chunk are all that is ever kept.
    key:     for a cell with noise (`rnnlab.noise`): training. Without one, its expectation: evaluation. A cell without
             noise draws nothing.

    Raises ValueError or TypeError for shapes, types or lengths that do not fit. Lengths that are traced
    by jit cannot be looked at, and are not.
    """
    engine = engine or default(cell)
    xs = jnp.asarray(xs)
    _check_inputs(cell, params, xs)
    batch_shape = xs.shape[1 : xs.ndim - cell.input_rank]
    keep = mask(keep, lengths, xs.shape[0], batch_shape)
    if resets is not None:
        resets = _checked_flags("resets", resets, (xs.shape[0], *batch_shape))
        resets = jnp.roll(resets, -1, axis=0).at[-1].set(False) if reverse else resets
    cell, keys = _with_noise(cell, key, xs.shape[0], batch_shape)
    weights = cell.prepare(params)
    own = cell.start(weights, batch_shape)
    start = own if start is None else _checked("start", start, own)
    if taps is not None:
        _checked("taps", taps, jax.tree.map(lambda c: jax.ShapeDtypeStruct((xs.shape[0], *c.shape), c.dtype), own))
    if keep is not None:
        xs = select(keep, xs, jnp.zeros_like(xs))

    def segment(carry: PyTree, inputs: tuple) -> Unrolled:
        (xs, taps, resets, keep), keys = inputs
        wrapped, given = cell, xs if keys is None else (xs, keys)
        if taps is not None:
            wrapped, given = tapped(wrapped), (given, taps)
        if keep is not None:
            wrapped, given = held(wrapped), (given, keep)
        if resets is not None:
            wrapped, given = restarted(wrapped), (given, resets)
        carries, info = engine(wrapped, weights, carry, given)
        ys = cell.read(weights, carries, xs)
        if keep is not None:
            ys = select(keep, ys, jnp.zeros_like(ys))
        return Unrolled(ys, carries, jax.tree.map(lambda c: c[-1], carries), info)

    flip = _flipped if reverse else lambda tree: tree
    inputs = flip((xs, taps, resets, keep)), keys
    out = segment(start, inputs) if chunk is None else _chunked(segment, chunk, start, inputs)
    return out._replace(ys=flip(out.ys), carries=flip(out.carries))


def bidirectional(
    cells: Directions,
    params: Directions,
    xs: Shaped[Array | np.ndarray, "T ..."],
    *,
    start: Directions = Directions(None, None),
    keep: Bool[Array | np.ndarray, "T ..."] | None = None,
    lengths: Integer[Array | np.ndarray, "..."] | Sequence[int] | None = None,
    resets: Bool[Array | np.ndarray, "T ..."] | None = None,
    taps: Directions = Directions(None, None),
    engine: Engine | None = None,
    chunk: int | None = None,
    key: Key[Array, ""] | None = None,
) -> Unrolled:
    """One cell forward and one backward over the same xs (Schuster & Paliwal 1997): ys [T, *B, H + H'].

    With lengths, the backward cell starts at each row's own last step. Arguments as in `unroll`.
    """
    how = dict(keep=keep, lengths=lengths, resets=resets, engine=engine, chunk=chunk)
    keys = (None, None) if key is None else jax.random.split(key)
    passes = Directions(
        *(
            unroll(cell, p, xs, start=s, taps=t, reverse=back, key=k, **how)
            for cell, p, s, t, back, k in zip(cells, params, start, taps, (False, True), keys, strict=True)
        )
    )
    _, *rest = (Directions(*parts) for parts in zip(*passes, strict=True))
    return Unrolled(jnp.concatenate([one.ys for one in passes], axis=-1), *rest)


# Inside.


def _chunked(segment: Callable, chunk: int, carry: PyTree, inputs: PyTree) -> Unrolled:
    """`segment` over pieces of `chunk` steps, each recomputed in the backward pass; a shorter piece ends it."""
    if chunk < 1:
        raise ValueError(f"unroll: expected chunk >= 1, got {chunk}")

    def piece(carry: PyTree, inputs: PyTree) -> tuple[PyTree, tuple, PyTree]:
        out = segment(carry, inputs)
        return out.last, (out.ys, out.carries), out.info

    run = jax.checkpoint(piece, prevent_cse=False)  # inside a scan nothing can be merged across passes
    last, (ys, carries), info = in_pieces(run, chunk, carry, inputs, rest=jax.checkpoint(piece))
    return Unrolled(ys, carries, last, info)


def _flipped(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda a: jnp.flip(a, axis=0), tree)


def mask(
    keep: Array | np.ndarray | None,
    lengths: Array | np.ndarray | Sequence[int] | None,
    length: int,
    batch_shape: tuple[int, ...],
) -> Array | None:
    """[T, *B], True where an input counts; from either form, checked; None where neither is given."""
    if keep is None and lengths is None:
        return None
    if keep is not None and lengths is not None:
        raise ValueError("unroll: expected keep or lengths, got both")
    if keep is not None:
        return _checked_flags("keep", keep, (length, *batch_shape))
    lengths = np.asarray(lengths) if isinstance(lengths, Sequence) else lengths
    if lengths.shape != batch_shape or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(
            f"unroll: expected lengths of shape {batch_shape} and an integer type, got {lengths.shape} {lengths.dtype}"
        )
    try:
        known = np.asarray(lengths)
    except jax.errors.TracerArrayConversionError:
        known = np.zeros(0, int)
    if known.size and (known.min() < 0 or known.max() > length):
        raise ValueError(f"unroll: expected lengths in 0..{length}, got {known.min()}..{known.max()}")
    steps = jnp.arange(length).reshape(length, *(1,) * len(batch_shape))
    return steps < jnp.asarray(lengths).astype(steps.dtype)[None]  # int8 cannot count to T


def _checked_flags(name: str, given: Array | np.ndarray, shape: tuple[int, ...]) -> Array:
    if given.shape != shape or given.dtype != bool:
        raise ValueError(f"unroll: expected {name} of shape {shape} and type bool, got {given.shape} {given.dtype}")
    return jnp.asarray(given)


def _with_noise(cell: Cell, key: Array | None, length: int, batch_shape: tuple[int, ...]) -> tuple[Cell, Array | None]:
    """The cell with what it draws for the sequence, and a key a step; without a key, its expectation."""
    if cell.noise is None or key is None:
        return quiet(cell), None
    once, steps = jax.random.split(key)
    return drawn(cell, once, batch_shape), jax.random.split(steps, length)


def _check_inputs(cell: Cell, params: PyTree, xs: Array) -> None:
    if xs.ndim < 1 + cell.input_rank or xs.shape[0] == 0:
        raise ValueError(
            f"unroll: expected xs of at least one step, [T, *B] and {cell.input_rank} input axes, got shape {xs.shape}"
        )
    floats = {leaf.dtype for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.floating)}
    if jnp.issubdtype(xs.dtype, jnp.floating) and floats and xs.dtype not in floats:
        names = " or ".join(sorted(str(one) for one in floats))
        raise TypeError(f"unroll: expected xs of the parameters' type {names}, got {xs.dtype}; cast one of them")


def _checked(name: str, given: PyTree, expected: PyTree) -> PyTree:
    if jax.tree.structure(given) != jax.tree.structure(expected):
        raise ValueError(
            f"unroll: expected {name} of structure {jax.tree.structure(expected)}, got {jax.tree.structure(given)}"
        )
    for (path, want), have in zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(given), strict=True):
        if (have.shape, have.dtype) != (want.shape, want.dtype):
            raise ValueError(
                f"unroll: expected {name}{jax.tree_util.keystr(path)} of shape {want.shape} {want.dtype}, "
                f"got {have.shape} {have.dtype}"
            )
    return given
