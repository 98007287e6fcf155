"""Noise for training: zoneout, dropout inside the step, dropped weights; by key, and by expectation without one.

A noisy cell is a cell with a field `noise`, (key or None, weights, batch_shape) -> weights: what holds for a whole
sequence (a dropped matrix, a mask that is the same at every step) is drawn there. What is new at every step is drawn in
the step: its inputs are (xs, keys) and its z is (z, key). `unroll(..., key=)` hands out the keys; without one they are
None, and the cell is its own expectation.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rnnlab.types import Cell, PyTree
from rnnlab.wrappers import beside

# Folded into a key for each use of it, so that no two draws share their numbers.
ZONEOUT, CANDIDATE, HIDDEN, WEIGHTS = range(4)


def zoneout(cell: Cell, **rates: float | int) -> Cell:
    """A cell of which each unit of the carry stays what it was with the given probability, anew at every step.

    rates: by the name of the carry's leaf, `zoneout(lstm(128), h=0.05, c=0.5)`; other leaves are never held. Without a
    key the expectation, rate * old + (1 - rate) * new (Krueger et al. 2017, section 3). On the engine `fused` where the
    cell is. Raises ValueError for a rate outside [0, 1), or (where it is used) for a leaf that the carry has not,
    TypeError for a carry without names.
    """
    _check_rates("zoneout", rates)
    cell = keyed(cell)

    def stays(key: Key[Array, ""] | None, carry: PyTree) -> PyTree:
        """The share of the old value in the new one, leaf by leaf: 0 or 1, or the expected one."""
        _check_names("zoneout", rates, carry)
        shares = []
        for n, (name, leaf) in enumerate(zip(carry._fields, carry, strict=True)):
            rate = rates.get(name, 0)
            if key is None or rate == 0:
                shares.append(jnp.asarray(rate, leaf.dtype))
            else:
                own = jax.random.fold_in(jax.random.fold_in(key, ZONEOUT), n)
                shares.append(jax.random.bernoulli(own, rate, leaf.shape).astype(leaf.dtype))
        return type(carry)(*shares)

    def mixed(stay: PyTree, old: PyTree, new: PyTree) -> PyTree:
        return jax.tree.map(lambda s, old, new: s * old + (1 - s) * new, stay, old, new)

    def step(weights: PyTree, carry: PyTree, z: tuple) -> PyTree:
        return mixed(stays(z[1], carry), carry, cell.step(weights, carry, z))

    def forward(weights: PyTree, carry: PyTree, z: tuple) -> tuple[PyTree, tuple]:
        stay = stays(z[1], carry)
        new, factors = cell.local.forward(weights, carry, z)
        return mixed(stay, carry, new), (factors, stay)

    def backward(transposed: PyTree, factors: tuple, dcarry: PyTree) -> tuple[PyTree, PyTree]:
        factors, stay = factors
        through, kept = cell.local.backward(transposed, factors, jax.tree.map(lambda s, d: (1 - s) * d, stay, dcarry))
        return jax.tree.map(lambda s, d, t: s * d + t, stay, dcarry, through), kept

    def deferred(weights: PyTree, inputs: tuple, carries: PyTree, factors: tuple, kept: PyTree) -> tuple:
        return cell.local.deferred(weights, inputs, carries, factors[0], kept)

    changed = dict(forward=forward, backward=backward, deferred=deferred, in_place=False)
    return cell._replace(step=step, local=cell.local and cell.local._replace(**changed), affine=None)


def drop_weights(cell: Cell, rate: float | int, *names: str) -> Cell:
    """A cell of whose weights `names` entries are dropped, the same ones at every step and for every row of a batch.

    DropConnect on recurrent matrices (Merity, Keskar & Socher 2018, section 2): `drop_weights(lstm(128), 0.5, "U")`.
    Dropped are the weights that `prepare` gives. What is kept is divided by its probability; without a key nothing is
    dropped. On the engine `fused` where the cell is. Raises ValueError for a rate outside [0, 1), no name, or (where it
    is used) for a name that the weights have not.
    """
    _check_rates("drop_weights", {"rate": rate})
    if not names:
        raise ValueError("drop_weights: expected the names of weights, such as 'U', got none")
    cell = keyed(cell)

    def noise(key: Key[Array, ""] | None, weights: PyTree, batch_shape: tuple[int, ...]) -> PyTree:
        _check_names("drop_weights", names, weights)
        if key is not None:
            keys = jax.random.split(jax.random.fold_in(key, WEIGHTS), len(names))
            matrices = {name: getattr(weights, name) for name in names}
            masks = (kept(k, rate, m.shape, m.dtype) for k, m in zip(keys, matrices.values(), strict=True))
            weights = weights._replace(**{n: m * k for (n, m), k in zip(matrices.items(), masks, strict=True)})
        return cell.noise(key, weights, batch_shape)

    return cell._replace(noise=noise)


class Masks(NamedTuple):
    """What a step with dropout multiplies by. hidden: h_{t-1} in its products. candidate: what it writes."""

    hidden: Float[Array, "..."] | float = 1.0
    candidate: Float[Array, "..."] | float = 1.0


class Dropping(NamedTuple):
    """The weights of a cell with dropout, and its mask of h for the sequence."""

    weights: PyTree
    hidden: Float[Array, "..."] | float


def dropout(cell: Cell, step: Callable, *, hidden: float | int, candidate: float | int, written: str = "h") -> Cell:
    """`cell` with a step (weights, carry, z, Masks) -> carry whose masks are drawn; without a key they are 1.

    hidden:    rate at which units of h_{t-1} are left out of the products, the same ones at every step of a row
               (variational dropout: Gal & Ghahramani 2016, equation 7)
    candidate: rate at which a new value is not written, anew at every step (recurrent dropout without memory loss:
               Semeniuta, Severyn & Barth 2016, equations 8 and 12); `written` is the leaf that has its shape
    What is kept is divided by its probability. For the factories of cells, whose insides it concerns; with both rates
    0, `cell` itself. Runs on the engine `scan`. Raises ValueError for a rate outside [0, 1).
    """
    _check_rates("dropout", {"hidden": hidden, "candidate": candidate})
    if not hidden and not candidate:
        return cell

    def noise(key: Key[Array, ""] | None, weights: PyTree, batch_shape: tuple[int, ...]) -> Dropping:
        if key is None or not hidden:
            return Dropping(weights, 1.0)
        h = cell.start(weights, batch_shape).h
        return Dropping(weights, kept(jax.random.fold_in(key, HIDDEN), hidden, h.shape, h.dtype))

    def masked(dropping: Dropping, carry: PyTree, z: tuple) -> PyTree:
        inner, key = z
        drawn, leaf = 1.0, getattr(carry, written)
        if key is not None and candidate:
            drawn = kept(jax.random.fold_in(key, CANDIDATE), candidate, leaf.shape, leaf.dtype)
        return step(dropping.weights, carry, inner, Masks(dropping.hidden, drawn))

    return cell._replace(
        start=lambda dropping, batch_shape: cell.start(dropping.weights, batch_shape),
        drive=lambda dropping, inputs: (cell.drive(dropping.weights, inputs[0]), inputs[1]),
        step=masked,
        read=lambda dropping, carry, xs: cell.read(dropping.weights, carry, xs),
        local=None,
        affine=None,
        noise=noise,
    )


def variational(xs: Float[Array, "T ..."], rate: float | int, key: Key[Array, ""] | None) -> Float[Array, "T ..."]:
    """xs [T, *B, *D] with entries dropped, the same ones at every step of a row (Gal & Ghahramani 2016, section 4.2).

    What is kept is divided by its probability; without a key, xs itself. Raises ValueError for a rate outside [0, 1).
    """
    _check_rates("variational", {"rate": rate})
    return xs if key is None or rate == 0 else xs * kept(key, rate, xs.shape[1:], xs.dtype)


def kept(key: Key[Array, ""], rate: float | int, shape: tuple[int, ...], dtype) -> Float[Array, "..."]:
    """0 with probability `rate`, else 1 / (1 - rate): of mean 1."""
    return jax.random.bernoulli(key, 1 - rate, shape).astype(dtype) / (1 - rate)


def kept_by_row(
    keys: Key[Array, " B"], number: int, rate: float | int, like: Float[Array, "... B D"]
) -> Float[Array, "B D"]:
    """`kept`, features of each row by its own key: no other row and no device changes what is drawn. number: which of
    a row's draws. Times `like` it is variational dropout of [T, B, D]."""
    draw = lambda key: kept(jax.random.fold_in(key, number), rate, like.shape[-1:], like.dtype)  # noqa: E731
    return jax.vmap(draw)(keys)


# For whoever calls a cell.


def quiet(cell: Cell) -> Cell:
    """The cell without noise, its expectation, for evaluation and probes; a cell without noise is returned as it is."""
    if cell.noise is None:
        return cell

    def deferred(weights: PyTree, xs: PyTree, *rest: PyTree) -> tuple[PyTree, PyTree]:
        dweights, (dxs, _) = cell.local.deferred(weights, (xs, None), *rest)
        return dweights, dxs

    return cell._replace(
        prepare=lambda params: cell.noise(None, cell.prepare(params), ()),
        drive=lambda weights, xs: cell.drive(weights, (xs, None)),
        local=cell.local and cell.local._replace(deferred=deferred),
        noise=None,
    )


def drawn(cell: Cell, key: Key[Array, ""], batch_shape: tuple[int, ...]) -> Cell:
    """The noisy cell with what it draws once for all steps; it still wants a key a step beside its inputs."""
    return cell._replace(prepare=lambda params: cell.noise(key, cell.prepare(params), batch_shape), noise=None)


def keyed(cell: Cell) -> Cell:
    """Any cell as a noisy one that draws nothing; a noisy one as it is."""
    if cell.noise is not None:
        return cell

    def forward(weights: PyTree, carry: PyTree, z: tuple) -> tuple[PyTree, PyTree]:
        return cell.local.forward(weights, carry, z[0])

    def deferred(weights: PyTree, inputs: tuple, *rest: PyTree) -> tuple[PyTree, tuple]:
        dweights, dxs = cell.local.deferred(weights, inputs[0], *rest)
        return dweights, (dxs, None)

    def coefficients(weights: PyTree, z: tuple) -> tuple[PyTree, PyTree]:
        return cell.affine.coefficients(weights, z[0])

    return cell._replace(
        drive=beside(cell),
        step=lambda weights, carry, z: cell.step(weights, carry, z[0]),
        local=cell.local and cell.local._replace(forward=forward, deferred=deferred),
        affine=cell.affine and cell.affine._replace(coefficients=coefficients),
        noise=lambda key, weights, batch_shape: weights,
    )


def _check_rates(name: str, rates: Mapping[str, float | int]) -> None:
    for which, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"{name}: expected a rate in [0, 1), got {which}={rate}")


def _check_names(who: str, names: Iterable[str], found: PyTree) -> None:
    fields = getattr(found, "_fields", None)
    if fields is None:
        raise TypeError(f"{who}: expected a cell whose parts have names, NamedTuples, got {type(found).__name__}")
    for name in names:
        if name not in fields:
            raise ValueError(f"{who}: expected names among {', '.join(fields)}, got {name!r}")
