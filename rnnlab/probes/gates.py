"""Gates: how much a unit keeps, for how long, and how much of the gradient takes the direct path through them.

The direct path of a unit's memory is its own derivative by itself one step before with all gates held fixed: the
forget gate of an LSTM (dc_t/dc_{t-1}), the update gate of a GRU (dh_t/dh_{t-1}). Over many steps it is their product;
what else there is goes through gates and candidates, by way of h and the recurrent matrix: the indirect path.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Key, Shaped

from rnnlab.cells.layer_norm import normed
from rnnlab.layers import Join, plain, zero_taps
from rnnlab.noise import quiet
from rnnlab.probes.gradients import log_norm
from rnnlab.types import Cell, PyTree
from rnnlab.unroll import mask, unroll
from rnnlab.wrappers import select


class Gate(NamedTuple):
    """memory: the name of the carry's leaf that is kept. keep: (weights, carry before the step, z) -> what is kept of
    it [*B, H], between 0 and 1."""

    memory: str
    keep: Callable[..., Array]


class GateStatistics(NamedTuple):
    """Of one layer. gates: what is kept at every step, NaN at padding. time: quantiles at every step, over units and
    examples. units: quantiles of every unit, over steps and examples. time_constants: 1 / (1 - a unit's mean gate),
    in steps; inf where it rounds to 1."""

    gates: Float[Array, "T *B H"]
    time: Float[Array, "Q T"]
    units: Float[Array, "Q H"]
    time_constants: Float[Array, " H"]


class MemoryPaths(NamedTuple):
    """ln norms of v^T dc_T/dc_t, v random of N(0, 1), of every layer; c is the leaf that the gate keeps, and c_T each
    row's own last. direct: of v prod f_s, by logarithms, at any length. total: of all paths, by taps, -inf below what
    a float holds. indirect: of the difference. cosine: between direct and total, 1 where there is nothing else.
    -inf (cosine NaN) at padding."""

    direct: Float[Array, "L T ..."]
    total: Float[Array, "L T ..."]
    indirect: Float[Array, "L T ..."]
    cosine: Float[Array, "L T ..."]


def gate_statistics(
    cells: Cell | Sequence[Cell],
    params: PyTree,
    xs: Shaped[Array, "T ..."],
    *,
    quantiles: Sequence[float] = (0.1, 0.5, 0.9),
    gate: Gate | None = None,
    start: Sequence[PyTree] | None = None,
    keep: Bool[Array | np.ndarray, "T ..."] | None = None,
    lengths: Integer[Array | np.ndarray, "..."] | Sequence[int] | None = None,
    join: Join = plain,
) -> tuple[GateStatistics, ...]:
    """Statistics of every layer, first layer first; xs, start, keep, lengths and join as `layers` takes them.

    gate: of cells that are not ours, or not in `GATES`; the same for all layers.
    Cost: one forward pass and the gates' products once more; T B H floats a layer are kept. It says what gates do, not
    what they do to a gradient: for that `memory_paths`, or `gradient_norms`.
    Raises ValueError for a cell without gates, or one whose gates are not known here.
    """
    found = []
    for cell, weights, before, zs, counted, _ in _layers(cells, params, xs, start, keep, lengths, join):
        kept = (gate or gate_of(cell)).keep(weights, before, zs)
        kept = kept if counted is None else select(counted, kept, jnp.full_like(kept, jnp.nan))
        flat = kept.reshape(kept.shape[0], -1, kept.shape[-1])
        q = jnp.asarray(quantiles, kept.dtype)
        of_time, of_units = jnp.nanquantile(flat, q, axis=(1, 2)), jnp.nanquantile(flat, q, axis=(0, 1))
        found.append(GateStatistics(kept, of_time, of_units, 1 / (1 - jnp.nanmean(flat, axis=(0, 1)))))
    return tuple(found)


def memory_paths(
    cells: Cell | Sequence[Cell],
    params: PyTree,
    xs: Shaped[Array, "T ..."],
    key: Key[Array, ""],
    *,
    gate: Gate | None = None,
    start: Sequence[PyTree] | None = None,
    keep: Bool[Array | np.ndarray, "T ..."] | None = None,
    lengths: Integer[Array | np.ndarray, "..."] | Sequence[int] | None = None,
    join: Join = plain,
) -> MemoryPaths:
    """The direct path through each layer's memory beside all paths in that layer; arguments as in `gate_statistics`.

    dL/dc_t means the carried c, as everywhere: h_t, which was read off c_t before, does not move with it.
    Cost: a forward and a backward pass a layer, and one set of carries. A single direction v says what H of them say,
    to about 1 / sqrt(H); for the whole matrix of a small network take `step_jacobians`.
    """
    keys = jax.random.split(key, 1 if isinstance(cells, Cell) else len(cells))
    found = []
    for layer, own in zip(_layers(cells, params, xs, start, keep, lengths, join), keys, strict=True):
        cell, weights, before, zs, counted, total = layer
        which = gate or gate_of(cell)
        factors = which.keep(weights, before, zs)
        v = jax.random.normal(own, factors.shape[1:], factors.dtype)
        logs = jnp.log(factors if counted is None else select(counted, factors, jnp.ones_like(factors)))
        after = jnp.concatenate([logs[1:], jnp.zeros_like(logs[:1])])  # c_t is kept from the next step on
        path = jnp.cumsum(after[::-1], axis=0)[::-1]
        every, direct = total(which.memory, v), v * jnp.exp(path)
        rank = factors.ndim - 1
        size = jax.nn.logsumexp(2 * (path + jnp.log(jnp.abs(v))), axis=-1) / 2
        sizes = size, log_norm(every, rank), log_norm(every - direct, rank)
        aligned = (_unit(every, rank) * _unit(v * jnp.exp(path - path.max(-1, keepdims=True)), rank)).sum(-1)
        if counted is not None:
            sizes = [jnp.where(counted, one, -jnp.inf) for one in sizes]
            aligned = jnp.where(counted, aligned, jnp.nan)
        found.append(MemoryPaths(*sizes, aligned))
    return MemoryPaths(*(jnp.stack(field) for field in zip(*found, strict=True)))


def gate_of(cell: Cell) -> Gate:
    """What `cell` keeps, from `GATES`, or from the coefficients of a cell that is affine and diagonal in one real leaf.

    Raises ValueError for any other cell, zoneout around one included: it keeps more than its gate does.
    """
    names = [function.__qualname__.split(".")[0] for function in (cell.step, cell.init)]
    known = [GATES[name] for name in names if name in GATES]
    if known and names[0] != "zoneout":
        return known[0]
    if names[1] in AFFINE and cell.affine is not None:
        return Gate(
            AFFINE[names[1]], lambda weights, carry, z: jax.tree.leaves(cell.affine.coefficients(weights, z)[0])[0]
        )
    ours = ", ".join(sorted({*GATES, *AFFINE}))
    raise ValueError(f"gate_of: expected a gated cell ({ours}), got {cell.name}; or give gate=Gate(memory, keep)")


def _at(place: int, count: int, sign: int = 1) -> Callable[..., Array]:
    """sigmoid of gate `place` of `count` side by side, or of its negative."""

    def keep(weights: PyTree, carry: PyTree, z: Array) -> Array:
        a = jnp.split(z + carry.h @ weights.U + weights.b, count, axis=-1)[place]
        return jax.nn.sigmoid(a if sign > 0 else -a)

    return keep


def _peephole(weights: PyTree, carry: PyTree, z: Array) -> Array:
    f = jnp.split(z + carry.h @ weights.U + weights.b, 4, axis=-1)[1]
    return jax.nn.sigmoid(f + jnp.split(weights.p, 3)[1] * carry.c)


def _lstm_layer_norm(weights: PyTree, carry: PyTree, z: Array) -> Array:
    a = z + normed(carry.h @ weights.U) * weights.gain_h + weights.b
    return jax.nn.sigmoid(jnp.split(a, 4, axis=-1)[1])


def _gru_layer_norm(weights: PyTree, carry: PyTree, z: Array) -> Array:
    hidden = carry.h.shape[-1]
    u = normed((carry.h @ weights.U)[..., : 2 * hidden]) * weights.gain_h[: 2 * hidden]
    return jax.nn.sigmoid((z + weights.b)[..., hidden : 2 * hidden] + u[..., hidden:])


def _minimal(weights: PyTree, carry: PyTree, z: tuple[Array, Array]) -> Array:
    return jax.nn.sigmoid(z[1] + carry.h @ weights.U + weights.b)


def _fast(weights: PyTree, carry: PyTree, z: Array) -> Array:
    return jax.nn.sigmoid(z + carry.h @ weights.U + jnp.split(weights.b, 2)[0])


def _highway(weights: PyTree, carry: PyTree, z: Array) -> Array:
    """Of all transitions of a step: the product of their carry gates."""
    s, kept = carry.h, 1.0
    for n, (U, b) in enumerate(zip(weights.U, weights.b, strict=True)):
        a = s @ U + b
        candidate, transform = jnp.split(a + z if n == 0 else a, 2, axis=-1)
        gate = jax.nn.sigmoid(transform)
        s, kept = gate * jnp.tanh(candidate) + (1 - gate) * s, kept * jax.nn.sigmoid(-transform)
    return kept


def _simple(weights: PyTree, carry: PyTree, z: Array) -> Array:
    return jax.nn.sigmoid(
        jnp.split(z, 3, axis=-1)[1] + jnp.split(weights.v, 2)[0] * carry.c + jnp.split(weights.b, 2)[0]
    )


def _para_gru(weights: PyTree, carry: PyTree, z: Array) -> Array:
    return jax.nn.sigmoid(-jnp.split(z + weights.b, 3, axis=-1)[1] - jnp.split(weights.U, 3)[1] * carry.h)


def _para_lstm(weights: PyTree, carry: PyTree, z: Array) -> Array:
    f = jnp.split(z + weights.b, 3, axis=-1)[0] + jnp.split(weights.U, 3)[0] * carry.h
    return jax.nn.sigmoid(f + jnp.split(weights.p, 2)[0] * carry.c)


# By the factory that wrote the cell's step, or its init where several share a step.
GATES = {
    "lstm": Gate("c", _at(1, 4)),
    "lstm_1997": Gate("c", lambda weights, carry, z: jnp.ones_like(carry.c)),
    "lstm_peephole": Gate("c", _peephole),
    "lstm_layer_norm": Gate("c", _lstm_layer_norm),
    "cifg": Gate("c", _at(0, 3, -1)),
    "gru": Gate("h", _at(1, 3)),
    "gru_before": Gate("h", _at(1, 3)),
    "gru_layer_norm": Gate("h", _gru_layer_norm),
    "mgu": Gate("h", _at(0, 2, -1)),
    "ugrnn": Gate("h", _at(0, 2)),
    "minimal_rnn": Gate("h", _minimal),
    "fast_grnn": Gate("h", _fast),
    "rhn": Gate("h", _highway),
    "sru": Gate("c", _simple),
    "para_gru": Gate("h", _para_gru),
    "para_lstm": Gate("c", _para_lstm),
}
# Affine and diagonal: what is kept is the coefficient of the carry.
AFFINE = {"min_gru": "h", "min_lstm": "h", "rg_lru": "h", "qrnn": "c"}


class _Layer(NamedTuple):
    """What a layer does: its cell and weights, the carry before every step, the drives, what is no padding, and
    (name of a leaf, v) -> v^T dlast/dcarry_t of that leaf."""

    cell: Cell
    weights: PyTree
    before: PyTree
    zs: PyTree
    counted: Array | None
    total: Callable[[str, Array], Array]


def _layers(cells, params, xs, start, keep, lengths, join):
    """Layer after layer, each with the inputs that the one below hands on."""
    stack, params = ((cells,), (params,)) if isinstance(cells, Cell) else (cells, params)
    start = (None,) * len(stack) if start is None else start
    batch_shape = xs.shape[1 : xs.ndim - stack[0].input_rank]
    counted = mask(keep, lengths, xs.shape[0], batch_shape)
    if counted is not None:
        xs = select(counted, xs, jnp.zeros_like(xs))
    for cell, own, first in zip(stack, params, start, strict=True):
        cell = quiet(cell)
        weights = cell.prepare(own)
        first = cell.start(weights, batch_shape) if first is None else first
        how = dict(start=first, keep=counted)
        out = unroll(cell, own, xs, **how)
        before = jax.tree.map(lambda f, c: jnp.concatenate([f[None], c[:-1]]), first, out.carries)

        def total(name: str, v: Array, cell=cell, own=own, xs=xs, how=how) -> Array:
            def seen(taps: PyTree) -> Array:
                return (getattr(unroll(cell, own, xs, taps=taps, **how).last, name) * v).sum()

            return getattr(jax.grad(seen)(zero_taps(cell, own, xs.shape[0], batch_shape)), name)

        yield _Layer(cell, weights, before, cell.drive(weights, xs), counted, total)
        xs = join(xs, out.ys)


def _unit(x: Array, lead: int) -> Array:
    """x over its norm; 0 where it is 0."""
    size = log_norm(x, lead)[..., None]
    top = jnp.abs(x).max(-1, keepdims=True)
    top = jnp.where(top > 0, top, 1)
    return x / top * jnp.where(jnp.isfinite(size), jnp.exp(jnp.log(top) - size), 0)
