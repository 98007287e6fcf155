"""The batch over several devices: each takes a part of the rows, all hold the whole state.

On a CPU, XLA does not spread a scan over cores: a process that was started with `--devices=N` has N devices, one a core
or so, and N parts of the batch go through time side by side.
"""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from rnnlab.data.batches import Batch
from rnnlab.errors import InputError
from rnnlab.types import PyTree

ROWS = "rows"  # the one axis of the mesh
AXES = Batch(sequences=1, fixed=0, lengths=0, numbers=0)  # of the rows of `rnnlab.data`'s batches


def check(count: int) -> None:
    """Raises InputError unless JAX has so many devices: on a CPU it has as many as were asked for as it started."""
    found = len(jax.devices())
    if not 1 <= count <= found:
        raise InputError(
            f"devices: expected 1 to {found}, as many as JAX has here, got {count}; on a CPU they are made before "
            f"Python starts, by launch.py with --devices={max(count, 1)}"
        )


def mesh(count: int) -> Mesh:
    """The first `count` devices in a row; raises InputError where there are fewer."""
    check(count)
    return jax.make_mesh((count,), (ROWS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])


def rows(batch: PyTree, axes: PyTree) -> int:
    """B, the rows of a batch whose leaves have them on the axes given: an int, or a tree of ints that `batch` begins
    with. Raises ValueError where leaves differ."""
    found = {
        (jax.tree_util.keystr(path), np.shape(leaf)[axis] if axis < np.ndim(leaf) else None)
        for (path, leaf), axis in zip(jax.tree.leaves_with_path(batch), _spread(axes, batch), strict=True)
    }
    counts = {count for _, count in found}
    if len(counts) != 1 or None in counts:
        raise ValueError(f"batch: expected every leaf to have as many rows on its axis of {axes}, got {sorted(found)}")
    return counts.pop()


def check_rows(count: int, devices: int, pieces: int) -> None:
    """Raises InputError unless so many rows divide into equal parts, `pieces` one after another on each device."""
    if count % (devices * pieces) or not count:
        raise InputError(
            f"batch: expected a multiple of {devices * pieces} rows, for {devices} devices with {pieces} pieces each, "
            f"got {count}"
        )


def specs(batch: PyTree, axes: PyTree) -> PyTree:
    """Like the batch: which axis of each leaf goes over the devices."""
    found = [PartitionSpec(*(None,) * axis, ROWS) for axis in _spread(axes, batch)]
    return jax.tree.unflatten(jax.tree.structure(batch), found)


def split(batch: PyTree, axes: PyTree, over: Mesh) -> PyTree:
    """The batch, each device holding its part of the rows. Raises InputError where they do not divide."""
    check_rows(rows(batch, axes), over.size, 1)
    return jax.device_put(batch, jax.tree.map(lambda spec: NamedSharding(over, spec), specs(batch, axes)))


def replicate(tree: PyTree, over: Mesh) -> PyTree:
    """The arrays, whole on every device."""
    return jax.device_put(tree, NamedSharding(over, PartitionSpec()))


def place(state: PyTree, over: Mesh) -> PyTree:
    """A `TrainState` as a step over that mesh wants it: whole on every device, but its carry split by rows. Raises
    InputError where they do not divide."""
    carry = split(state.carry, 0, over) if jax.tree.leaves(state.carry) else ()
    return replicate(state.replace(carry=()), over).replace(carry=carry)


def pieces(tree: PyTree, axes: PyTree, count: int) -> PyTree:
    """Leaves cut along their axis of rows into `count` pieces of equal size, which come first: [count, ...]."""

    def cut(leaf: Array, axis: int) -> Array:
        shape = (*leaf.shape[:axis], count, leaf.shape[axis] // count, *leaf.shape[axis + 1 :])
        return jax.numpy.moveaxis(leaf.reshape(shape), axis, 0)

    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, [cut(*one) for one in zip(leaves, _spread(axes, tree), strict=True)])


def _spread(axes: PyTree, tree: PyTree) -> list[int]:
    """The axis of rows of every leaf."""
    return jax.tree.leaves(jax.tree.broadcast(axes, tree))
