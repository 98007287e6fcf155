"""What a training step lets one see: losses, norms, ratios, and where the first non-finite value was."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from rnnlab.probes.gradients import GradientNorms, divisor
from rnnlab.types import PyTree


class Place(NamedTuple):
    """Where values are not finite; `describe` finds the first.

    carries:    [L, T] whether a row's carry is not; None where the loss hands out no carries
    gradients:  [L, T] whether a row's dL/dcarry_t is not; None where it has no taps
    parameters: by name of a part, whether its gradient or its new value is not
    """

    carries: Bool[Array, "L T"] | None
    gradients: Bool[Array, "L T"] | None
    parameters: dict[str, Bool[Array, ""]]


class Metrics(NamedTuple):
    """What a step has seen, all over the global batch.

    loss:    sum(each) / sum(count). count: sum(count). aux: averaged as the loss is
    norm:    of that loss's gradient, before clipping. clipped_norm: after. clipped: whether they differ
    rate:    the learning rate of this update
    ratios:  ||dw|| / ||w|| of each part of the parameters, by name (`parts`): of the update, rate and clipping included
    norms:   mean over examples of ln ||dL_b/dcarry_t||, L_b an example's own loss, joint [L, T] and each leaf of the
             carry [T]: no batch size, piece or device changes it. Padding and empty rows do not count: NaN where no
             example does, -inf where one's norm is 0 (as that of an LSTM's c at a row's last step). None without taps
    finite:  whether everything is, the new state too. Where it is not, no update was made: the state is the old one
    place:   where it is not, for `describe`
    """

    loss: Float[Array, ""]
    count: Float[Array, ""]
    aux: dict[str, Float[Array, ""]]
    norm: Float[Array, ""]
    clipped_norm: Float[Array, ""]
    clipped: Bool[Array, ""]
    rate: Float[Array, ""]
    ratios: dict[str, Float[Array, ""]]
    norms: GradientNorms | None
    finite: Bool[Array, ""]
    place: Place


def parts(params: PyTree) -> dict[str, PyTree]:
    """A model's parameters by name: `embed`, `stack.0`, `stack.1`, `readout`; a tuple of layers goes by number."""
    found = {}
    for name, tree in _children(params, "parameters").items():
        plain = isinstance(tree, tuple | list) and not hasattr(tree, "_fields")
        inner = {f"{name}.{n}": layer for n, layer in enumerate(tree)} if plain else {name: tree}
        found |= {name: tree for name, tree in inner.items() if jax.tree.leaves(tree)}
    return found


def norm(tree: PyTree) -> Float[Array, ""]:
    """The Euclidean norm of all leaves together; see `norms`."""
    return norms({"all": tree})["all"][0]


def norms(*trees: PyTree) -> dict[str, Float[Array, " N"]]:
    """The Euclidean norm of each of the `parts`, in each of N trees alike, over the whole range of their float format:
    no square overflows, and none vanishes but of parts 1e-19 (float32) of the tree's largest. Not finite exactly where
    an entry is not."""
    flat = [{name: flattened(part) for name, part in parts(tree).items()} for tree in trees]
    every = jnp.stack([jnp.concatenate(list(one.values())) for one in flat])
    top = jnp.max(jnp.where(jnp.isfinite(every), jnp.abs(every), 0), axis=1)
    safe = jnp.where(top > 0, divisor(top), 1)
    squares, ends = (every / safe[:, None]) ** 2, np.cumsum([part.size for part in flat[0].values()])
    sums = [one.sum(1) for one in jnp.split(squares, ends[:-1], axis=1)]
    return {name: jnp.sqrt(one) * safe for name, one in zip(flat[0], sums, strict=True)}


def flattened(tree: PyTree) -> Float[Array, " N"]:
    """All floats of the leaves, float32 at least. One vector copies them, but compiles faster than leaf after leaf."""
    floats = [leaf.ravel() for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.concatenate([f.astype(jnp.promote_types(f.dtype, jnp.float32)) for f in floats] or [jnp.zeros(1)])


def describe(metrics: Metrics) -> str | None:
    """Where the first non-finite value of a step was, in words; None where everything is finite.

    Forward, the earliest timestep, and there the lowest layer, whose carry is not finite. Where all carries are, or
    none were handed out, the latest timestep and there the top-most layer whose gradient is not. Then the parameters,
    then the loss. Layers and timesteps are counted from 1.
    """
    if bool(metrics.finite):
        return None
    place = metrics.place
    unseen = "; the loss hands out no carries" if place.carries is None else ""
    for what, flags, order in (
        ("carry", place.carries, 1), (f"gradient of the carry{unseen}", place.gradients, -1),
    ):  # fmt: skip
        if flags is not None and np.any(flags):
            depth, length = np.shape(flags)
            first = int(np.argmax(np.asarray(flags).T.ravel()[::order]))
            step, layer = divmod(first if order == 1 else depth * length - 1 - first, depth)
            return f"layer {layer + 1} of {depth}, timestep {step + 1} of {length} ({what})"
    if not float(metrics.count):
        return "the loss: no row of the batch counts"
    for name, flag in place.parameters.items():
        if bool(flag):
            return f"parameters {name} (gradient or new value)"
    return "the loss alone" if not np.isfinite(metrics.loss) else "the state of the optimiser or the last carry"


def _children(tree: PyTree, otherwise: str) -> dict[str, PyTree]:
    if hasattr(tree, "_asdict"):
        return tree._asdict()
    if isinstance(tree, tuple | list):
        return {str(n): one for n, one in enumerate(tree)}
    return dict(tree) if isinstance(tree, dict) else {otherwise: tree}
