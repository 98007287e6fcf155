"""What `cells` measures of one cell: its size, its structure, its memory, its training step."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from rnnlab import probes
from rnnlab.cells import IMAGE_CELLS, own
from rnnlab.noise import quiet
from rnnlab.types import Cell, PyTree
from rnnlab.unroll import unroll

SMALL = 8  # units at which structure and closed forms are measured: a Jacobian has the square of it
TOLERANCE = 1e-4  # relative: float32 rounds at 1e-7, and what is not linear or not diagonal is off by 0.1 and more
CARRIES = 16  # pairs: a few units of a relu are linear by chance
STEPS = 32  # of a product of Jacobians
MATRICES = ("W", "U", "V", "P", "R", "p")  # parameters that a closed form takes to be 0; biases and gains stay


class Made(NamedTuple):
    """A cell, the shape of one input, and its units: entries of its hidden state."""

    cell: Cell
    event: tuple[int, ...]
    units: int


def made(name: str, hidden: int, dim: int, rows: int, columns: int) -> Made:
    """The cell of that name with `hidden` units and `dim` inputs, which a cell of images spreads over its pixels.

    Channels are rounded up: 64 units are 4 channels on 4x4, and 8 are 1 channel and 16 units.
    """
    if name not in IMAGE_CELLS:
        return Made(own.factory(name)(hidden), (dim,), hidden)
    pixels = rows * columns
    channels, features = -(-hidden // pixels), -(-dim // pixels)
    cell = IMAGE_CELLS[name](channels, rows=rows, columns=columns)
    return Made(cell, (rows, columns, features), pixels * channels)


def sizes(one: Made) -> dict[str, int]:
    """Numbers in the parameters and in the carry of one row. Nothing is computed."""
    params = jax.eval_shape(lambda: one.cell.init(jax.random.key(0), one.event[-1]))
    carry = jax.eval_shape(lambda p: quiet(one.cell).start(quiet(one.cell).prepare(p), ()), params)
    count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    return {"parameters": count(params), "carry": count(carry), "units": one.units}


# Structure.


def structure(cell: Cell, event: tuple[int, ...], seed: int) -> dict[str, float]:
    """How far a step is from affine in its carry, and from diagonal: relative, 0 where it is either.

    At random parameters (drawn, then moved, for an identity is diagonal by chance), carries and input.
    linear:   |step(a) + step(b) - step(a+b) - step(0)| over |step(a) - step(0)|, largest entries
    diagonal: the largest entry of the step's Jacobian that couples a unit with another one, over the largest of all.
              A unit is an index in a leaf of the carry; leaves of one shape share their units.
    """
    cell, keys = quiet(cell), jax.random.split(jax.random.key(seed), 5)
    # Parameters are drawn outside of what is compiled, here and below: to compile a QR costs more than all the rest.
    params = _moved(keys[1], cell.init(keys[0], event[-1]))
    x = jax.random.normal(keys[2], event, jnp.float32)
    linear, coupled = jax.jit(lambda *given: _structure(cell, *given))(params, x, keys[3])
    return {"linear": float(linear), "diagonal": float(coupled)}


def words(found: dict[str, float]) -> str:
    """`linear`, `diagonal`, both or `sequential`."""
    return ", ".join(kind for kind in ("linear", "diagonal") if found[kind] < TOLERANCE) or "sequential"


def _structure(cell: Cell, params: PyTree, x: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    weights = cell.prepare(params)
    z, start = cell.drive(weights, x), cell.start(weights, ())
    flat, unravel = ravel_pytree(start)
    step = lambda carry: ravel_pytree(cell.step(weights, unravel(carry), z))[0]  # noqa: E731
    a, b = jax.random.normal(key, (2, CARRIES, *flat.shape), flat.dtype)
    of_a, of_b, of_both, of_none = map(jax.vmap(step), (a, b, a + b, jnp.zeros_like(a)))
    J, units = jax.vmap(jax.jacfwd(step))(a), _units(start)
    coupled = jnp.where(units[:, None] == units[None, :], 0, J)
    return _share(of_a + of_b - of_both - of_none, of_a - of_none), _share(coupled, J)


def _moved(key: jax.Array, params: PyTree) -> PyTree:
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten([x + 0.5 * jax.random.normal(k, x.shape, x.dtype) for x, k in zip(leaves, keys, strict=True)])


def _units(carry: PyTree) -> np.ndarray:
    """A number for every entry of the ravelled carry, the same for the same index in leaves of one shape."""
    found, first, shapes = [], 0, {}
    for leaf in jax.tree.leaves(carry):
        if leaf.shape not in shapes:
            shapes[leaf.shape], first = first, first + leaf.size
        found.append(shapes[leaf.shape] + np.arange(leaf.size))
    return np.concatenate(found)


def _share(part: jax.Array, whole: jax.Array) -> jax.Array:
    most = jnp.abs(whole).max()
    return jnp.abs(part).max() / jnp.where(most > 0, most, 1)


# Memory.


def _sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a))


# The carry's own decay a step with all matrices 0, from the default biases, as the cells' docstrings have it.
CLOSED = {
    **dict.fromkeys(
        ("lstm", "lstm_peephole", "lstm_projected", "lstm_layer_norm", "cifg", "conv_lstm", "ugrnn", "fast_grnn"),
        _sigmoid(1.0),
    ),
    **dict.fromkeys(("lstm_forget0", "gru", "gru_before", "gru_layer_norm", "mgu", "minimal_rnn"), _sigmoid(0.0)),
    "lstm_1997": 1.0,
    **dict.fromkeys(("sco_rnn", "exp_rnn", "unitary_rnn"), 1.0),  # orthogonal whatever the angles
    "antisymmetric_rnn": 0.99,  # 1 - epsilon gamma
    "lem": 0.5,  # 1 - dt / 2
    "rhn": _sigmoid(2.0) ** 2,  # two transitions a step
    "scrn": 0.95,  # whatever the matrices
    **dict.fromkeys(("qrnn", "para_lstm"), _sigmoid(1.0)),
    **dict.fromkeys(("min_gru", "sru", "para_gru"), _sigmoid(0.0)),
    "min_lstm": _sigmoid(1.0) / (_sigmoid(1.0) + _sigmoid(0.0)),
    "mlstm": _sigmoid(3.0),  # slstm has none: its start is a memory of scale 0, on which nothing depends
}


def own_decay(cell: Cell, event: tuple[int, ...], seed: int) -> float:
    """The same number by autodiff: how the largest singular value of J_T ... J_t falls, a step.

    From the cell's start on inputs of 0, matrices and peepholes 0. Of T steps and of T/2, so that what only the last
    step stretches (h against c in an LSTM) is not counted.
    """

    params = _without_matrices(cell.init(jax.random.key(seed), event[-1]))

    def logs(params: PyTree) -> jax.Array:
        found = probes.step_jacobians(cell, params, jnp.zeros((STEPS, *event), jnp.float32))
        return probes.product_singular_values(found)[:: STEPS // 2, 0]

    all_steps, half = jax.device_get(jax.jit(logs)(params)).tolist()
    return 0.0 if all_steps == -math.inf else math.exp((all_steps - half) / (STEPS // 2))


def _without_matrices(params: PyTree) -> PyTree:
    def emptied(path: tuple, leaf: jax.Array) -> jax.Array:
        return jnp.zeros_like(leaf) if jax.tree_util.keystr(path[-1:], simple=True) in MATRICES else leaf

    return jax.tree_util.tree_map_with_path(emptied, params)


def decay(one: Made, shape: tuple[int, int], lags: tuple[int, int]) -> Callable[[int], dict[str, float]]:
    """seed -> the fit of ln ||dL/dcarry_t||, mean over the batch; L a random projection of the last output.

    Network, inputs N(0, 1) of `shape` [T, B] and projection N(0, 1) are the seed's.
    """

    def fitted(params: PyTree, xs: jax.Array, key: jax.Array) -> probes.DecayFit:
        def loss(ys: jax.Array) -> jax.Array:
            last = ys[-1] * jax.random.normal(key, ys.shape[1:], ys.dtype)
            return last.sum(tuple(range(1, last.ndim)))

        norms = probes.gradient_norms(one.cell, params, xs, loss)
        return probes.fit_decay(probes.summarise(norms.joint[0]).mean, *lags)

    compiled = jax.jit(fitted)

    def of(seed: int) -> dict[str, float]:
        init, inputs, projection = jax.random.split(jax.random.key(seed), 3)
        xs = jax.random.normal(inputs, (*shape, *one.event), jnp.float32)
        fit = jax.device_get(compiled(one.cell.init(init, one.event[-1]), xs, projection))
        return {"gamma": float(fit.gamma), "r2": float(fit.r2), "lags": int(fit.count)}

    return of


# A decay nearer to 1 than this is none: the norms are float32, and are fitted over some 60 lags.
ROUNDING = 1e-6


def half_life(gamma: float) -> float:
    """Steps in which a gradient halves: infinite where it does not fade, NaN where there was none."""
    if gamma == 0:
        return 0.0
    return math.inf if gamma >= 1 - ROUNDING else -math.log(2) / math.log(gamma)


# Cost.


def training_step(one: Made, shape: tuple[int, int], seed: int) -> Callable[[], PyTree]:
    """The mean of all outputs [T, B, ...] and its gradients with respect to the parameters, compiled."""
    init, inputs = jax.random.split(jax.random.key(seed))
    params = one.cell.init(init, one.event[-1])
    xs = jax.random.normal(inputs, (*shape, *one.event), jnp.float32)
    step = jax.jit(jax.value_and_grad(lambda params, xs: unroll(one.cell, params, xs).ys.mean()))
    return lambda: step(params, xs)
