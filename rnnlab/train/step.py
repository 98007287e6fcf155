"""One training step, as a pure function of state and batch, for any model whose loss says what each row's own is.

The gradient is that of sum(each) / sum(count) over the global batch, however it is cut: into pieces one after another
(`accumulate`) and over devices (`mesh`). All that is summed over rows is one tree, `Sums`: pieces add it up, and
devices in one all-reduce of it, ravelled, after the pass. (Sharded by jit alone, XLA reduces in every step of the
backward scan.)
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Key

from rnnlab import probes
from rnnlab.losses import Losses
from rnnlab.train import devices
from rnnlab.train.optimisers import Optimiser
from rnnlab.train.state import TrainState
from rnnlab.train.telemetry import Metrics, Place, flattened, norm, norms
from rnnlab.types import Directions, PyTree

Loss = Callable[[PyTree, PyTree, PyTree, Key[Array, " B"], PyTree], Losses]
Step = Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]


def train_step(loss: Loss, optimiser: Optimiser, *, mesh: Mesh | None = None, **how: PyTree) -> Step:
    """`pure_step`, which takes the same arguments, compiled. The state given is used up: its buffers become those of
    the new one. With a mesh, give it a state from `devices.place`.
    """
    pure = pure_step(loss, optimiser, mesh=mesh, **how)
    if mesh is None:
        return jax.jit(pure, donate_argnums=0)
    whole, rows = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in ((), (devices.ROWS,)))
    state = TrainState(whole, whole, whole, whole, rows)
    return jax.jit(pure, donate_argnums=0, out_shardings=(state, whole))


def pure_step(
    loss: Loss,
    optimiser: Optimiser,
    *,
    axes: PyTree,
    taps: Callable[[PyTree, PyTree], PyTree] | None,
    clip: float | None = None,
    accumulate: int = 1,
    compute: jax.typing.DTypeLike | None = None,
    mesh: Mesh | None = None,
) -> Step:
    """(state, batch) -> (state, metrics), for jit, `lax.scan` or `rnnlab.seeds.over_seeds`.

    loss:       (params, taps, batch, keys [B], carry) -> Losses of the rows given, a part of the batch perhaps. keys:
                one a row, from the state's key, the step and the row's number in the global batch. A draw of each row's
                own key is the same on any number of devices and pieces; one of keys[0] for all rows of the part is the
                same where devices x accumulate is. carry: the state's, of these rows; no gradient flows through it
    axes:       the axis of rows of the batch's leaves: an int, or a tree of ints that the batch begins with, such as
                `devices.AXES` for the batches of `rnnlab.data`
    taps:       (params, batch) -> zeros for the loss to hand to `layers`, of the rows given; None without
    clip:       largest global norm of the gradient; None is no clipping
    accumulate: pieces that the rows of each device are cut into, one after another: for batches beyond the memory
    compute:    the type that floats of parameters, batch and carry are cast to for the loss, such as bfloat16.
                Gradients, optimiser, norms and sums over rows keep the parameters', float32 at least
    mesh:       from `devices.mesh`: the rows are cut over its devices; None is the default device

    Where the loss, the gradient or the new state is not finite, the state stays what it was, metrics.finite is False.
    Raises InputError for rows that do not divide by devices x accumulate, ValueError for a loss of other shapes.
    """
    if accumulate < 1 or not (clip is None or clip > 0):
        raise ValueError(f"train_step: expected accumulate >= 1 and clip > 0 or None, got {accumulate} and {clip}")
    count = 1 if mesh is None else mesh.size
    piece = partial(_piece, loss, taps, compute)

    def local(params: PyTree, batch: PyTree, keys: Array, carry: PyTree) -> tuple[Sums, PyTree]:
        if accumulate == 1:
            return piece(params, batch, keys, carry)
        return _one_after_another(partial(piece, params), axes, accumulate, batch, keys, carry)

    def reduced(*args: PyTree) -> tuple[Sums, PyTree]:
        sums, carry = local(*args)
        flat, back = ravel_pytree(sums)
        return back(lax.psum(flat, devices.ROWS)), carry

    def step(state: TrainState, batch: PyTree) -> tuple[TrainState, Metrics]:
        rows = devices.rows(batch, axes)
        devices.check_rows(rows, count, accumulate)
        key = jax.random.fold_in(state.key, state.step)
        keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(rows, dtype=jnp.uint32))
        run = local
        if mesh is not None:
            whole, split = PartitionSpec(), PartitionSpec(devices.ROWS)
            given, found = (whole, devices.specs(batch, axes), split, split), (whole, split)
            # Unchecked, or JAX adds an all-reduce of its own for every parameter, inside the scan.
            run = jax.shard_map(reduced, mesh=mesh, in_specs=given, out_specs=found, check_vma=False)
        return _updated(optimiser, clip, state, *run(state.params, batch, keys, state.carry))

    return step


class Sums(NamedTuple):
    """Sums over rows, so that pieces and devices have only to be added up, all floats of one type.

    gradient: of sum(each). norms: of log-norms over the rows that count, GradientNorms or None, and counted [T], how
    many those were. bad_carries, bad_gradients [L, T], or None: rows where the value is not finite; bad_last []: those
    of the last carry.
    """

    gradient: PyTree
    loss: Float[Array, ""]
    count: Float[Array, ""]
    aux: dict[str, Float[Array, ""]]
    norms: PyTree
    counted: Float[Array, " T"] | None
    bad_carries: Float[Array, "L T"] | None
    bad_gradients: Float[Array, "L T"] | None
    bad_last: Float[Array, ""]


def _piece(
    loss: Loss, taps: Callable | None, compute, params: PyTree, batch: PyTree, keys: Array, carry: PyTree
) -> tuple[Sums, PyTree]:
    """The sums of some rows, and their last carry in the type of the one given."""
    wide = jnp.promote_types(jnp.result_type(*jax.tree.leaves(params)), jnp.float32)
    batch, given = _cast(batch, compute), _cast(carry, compute)
    zeros = None if taps is None else taps(_cast(params, compute), batch)

    def total(params: PyTree, zeros: PyTree) -> tuple[Array, Losses]:
        found = loss(_cast(params, compute), zeros, batch, keys, given)
        _check(found, keys.shape, carry)
        return found.each.astype(wide).sum(), found

    (summed, found), (gradient, pulled) = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(params, zeros)
    logs, counted, bad = _row_norms(found, pulled, wide)
    bad_carries = None if found.carries is None else _bad_carries(found.carries, wide)
    bad_last = sum((_bad(leaf, 0, wide) for leaf in jax.tree.leaves(found.carry)), jnp.zeros((), wide))
    gradient, (count, aux) = _cast(gradient, wide), _cast((found.count, found.aux), wide)
    aux = {name: value.sum() for name, value in aux.items()}
    sums = Sums(gradient, summed, count.sum(), aux, logs, counted, bad_carries, bad, bad_last)
    return sums, jax.tree.map(lambda new, old: new.astype(old.dtype), found.carry, carry)


def _one_after_another(
    piece: Callable, axes: PyTree, count: int, batch: PyTree, keys: Array, carry: PyTree
) -> tuple[Sums, PyTree]:
    """The sums over pieces of the rows, of which one is in memory at a time."""
    given = (devices.pieces(batch, axes, count), devices.pieces(keys, 0, count), devices.pieces(carry, 0, count))
    shapes, _ = jax.eval_shape(piece, *jax.tree.map(lambda a: a[0], given))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def add(sums: Sums, one: tuple) -> tuple[Sums, PyTree]:
        found, last = piece(*one)
        return jax.tree.map(jnp.add, sums, found), last

    sums, last = lax.scan(add, zeros, given)
    return sums, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), last)


def _updated(
    optimiser: Optimiser, clip: float | None, state: TrainState, sums: Sums, carry: PyTree
) -> tuple[TrainState, Metrics]:
    """The new state, or the old one where anything is not finite, and what was seen."""
    mean = jax.tree.map(lambda g, p: (g / sums.count).astype(p.dtype), sums.gradient, state.params)
    before = norm(mean)
    scale = jnp.ones_like(before) if clip is None else jnp.where(before > clip, clip / before, 1)
    updates, moments = optimiser.update(
        jax.tree.map(lambda g: g * scale.astype(g.dtype), mean), state.optimiser, state.params
    )
    own = norms(mean, updates, state.params)
    loss = sums.loss / sums.count
    bad = {name: ~jnp.isfinite(one).all() for name, one in own.items()}
    place = Place(_any(sums.bad_carries), _any(sums.bad_gradients), bad)
    good = jnp.isfinite(loss) & jnp.isfinite(flattened(moments)).all() & (sums.bad_last == 0)
    good &= ~jnp.concatenate([flag.ravel() for flag in jax.tree.leaves(place)]).any()

    params = optax.apply_updates(state.params, updates)
    new = state.replace(params=params, optimiser=moments, step=state.step + 1, carry=carry)
    kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), new.replace(key=()), state.replace(key=()))
    metrics = Metrics(
        loss=loss, count=sums.count, aux={name: value / sums.count for name, value in sums.aux.items()},
        norm=before, clipped_norm=before * scale, clipped=scale < 1,
        rate=jnp.asarray(optimiser.rate(state.step), before.dtype),
        ratios={name: dw / w for name, (_, dw, w) in own.items()},
        norms=None if sums.norms is None else jax.tree.map(lambda n: n / sums.counted, sums.norms),
        finite=good, place=place,
    )  # fmt: skip
    return kept.replace(key=state.key), metrics


def _row_norms(found: Losses, pulled: PyTree, wide) -> tuple[PyTree, Array | None, Array | None]:
    """Sums over rows of the log-norms, the rows summed over at every timestep, and those that are not finite."""
    if not jax.tree.leaves(pulled):
        return None, None, None
    logs = probes.log_norms(pulled, 1)
    counts = jnp.broadcast_to(found.count > 0, logs.joint.shape[1:])
    counts = counts if found.keep is None else counts & found.keep
    sums = jax.tree.map(lambda n: jnp.where(counts, n, 0).sum(-1).astype(wide), logs)
    bad = (jnp.isnan(logs.joint) | (logs.joint == jnp.inf)).sum(-1)
    return sums, counts.sum(-1).astype(wide), bad.astype(wide)


def _bad_carries(carries: PyTree, wide) -> Array:
    """[L, T]: rows of each layer's carry that are not finite; a bidirectional layer counts as two."""
    flat = [one for layer in carries for one in (layer if isinstance(layer, Directions) else (layer,))]
    return jnp.stack([sum(_bad(leaf, 1, wide) for leaf in jax.tree.leaves(carry)) for carry in flat])


def _bad(leaf: Array, lead: int, wide) -> Array:
    """How many entries are not finite, over all axes after the first `lead`."""
    return (~jnp.isfinite(leaf)).sum(tuple(range(lead, leaf.ndim))).astype(wide)


def _any(counts: Array | None) -> Array | None:
    return None if counts is None else counts > 0


def _cast(tree: PyTree, dtype) -> PyTree:
    """Its floats as `dtype`; as they are for None."""
    if dtype is None:
        return tree
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def _check(found: Losses, shape: tuple[int, ...], carry: PyTree) -> None:
    """What is summed must be one number a row, or a sum over steps would pass for one over rows."""
    for name, value in {"each": found.each, "count": found.count, **found.aux}.items():
        if value.shape != shape:
            raise ValueError(f"train_step: expected the loss's {name} of shape {shape}, one a row, got {value.shape}")
    if jax.tree.structure(found.carry) != jax.tree.structure(carry):
        raise ValueError(
            f"train_step: expected the loss's carry of the state's structure {jax.tree.structure(carry)}, "
            f"got {jax.tree.structure(found.carry)}"
        )
