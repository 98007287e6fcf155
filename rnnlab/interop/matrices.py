"""A cell as other libraries store it: two matrices and two biases. What each of them must agree on."""

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rnnlab.cells import CIFGParams, ElmanParams, GRUParams, LSTM1997Params, LSTMParams, PeepholeParams
from rnnlab.noise import quiet
from rnnlab.types import Cell, PyTree


class Matrices(NamedTuple):
    """Gates in rnnlab's order. W [D G], U [P G]: of the input and of the state. b [G], bu [G]: a bias of each product.

    The two biases are one where nothing stands between the products. Only the reset gate of a GRU does.
    """

    W: Array
    U: Array
    b: Array
    bu: Array


def merged(kind: type, given: Matrices, bn: bool = True) -> PyTree:
    """Parameters of a kind: LSTMParams (its R None), GRUParams, ElmanParams, CIFGParams.

    Two biases become their sum, but n's recurrent bias in a GRU with `bn`, which the reset gate multiplies.
    """
    W, U, b, bu = given
    if kind is LSTMParams:
        return LSTMParams(W, U, b + bu, None)
    if kind is not GRUParams:
        return kind(W, U, b + bu)
    if not bn:
        return GRUParams(W, U, b + bu, None)
    inside = 2 * U.shape[0]
    return GRUParams(W, U, b.at[:inside].add(bu[:inside]), bu[inside:])


def apart(who: str, params: PyTree) -> Matrices:
    """The inverse of `merged`: the sum of the biases and zeros, but bn."""
    W, U, b = (array(who, name, getattr(params, name)) for name in "WUb")
    zeros, bn = jnp.zeros_like(b), getattr(params, "bn", None)
    return Matrices(W, U, b, zeros if bn is None else zeros.at[-bn.shape[0] :].set(array(who, "bn", bn)))


def reordered(array: Float[Array, "..."], given: str, wanted: str) -> Float[Array, "..."]:
    """Gates along the last axis, a letter each, from one order to another; a gate that is not wanted is dropped."""
    gates = dict(zip(given, jnp.split(array, len(given), axis=-1), strict=True))
    return jnp.concatenate([gates[gate] for gate in wanted], axis=-1)


def activation(who: str, cell: Cell) -> str:
    """The name of an Elman cell's activation, tanh or relu, found by trying it.

    Raises ValueError for any other function: tanh and relu are what every library has.
    """
    found = _activation(cell)
    if found is None:
        raise ValueError(f"{who}: expected an elman cell of tanh or relu, got one of another activation")
    return found


@cache  # and it is asked of every layer
def _activation(cell: Cell) -> str | None:
    cell, shapes = quiet(cell), params_of(cell, 1)
    tries = np.asarray([[-2.0], [-0.5], [0.5], [2.0]], np.float32)
    with jax.ensure_compile_time_eval():
        weights = cell.prepare(jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes))
        xs = jnp.broadcast_to(tries, (len(tries), shapes.b.shape[0]))
        got = cell.step(weights, cell.start(weights, (len(tries),)), xs).h
        same = (name for name, function in ACTIVATIONS.items() if jnp.allclose(got, function(xs), atol=1e-6))
        return next(same, None)


ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}


@cache  # tracing the initialisers takes longer than all the rest
def params_of(cell: Cell, dim: int) -> PyTree:
    """Shapes and types of a cell's parameters for inputs of D = dim, with nothing drawn."""
    return jax.eval_shape(lambda: cell.init(jax.random.key(0), dim, jnp.float32))


# Beyond an RNN, an LSTM and a GRU with the reset after the product: a cell -> what it asks of a library, and whether
# parameters are such a cell's.
FEATURES = {
    "projection": ("projection", lambda params: isinstance(params, LSTMParams) and params.R is not None),
    "gru_before": ("reset before the product", lambda params: isinstance(params, GRUParams) and params.bn is None),
    "lstm_peephole": ("peepholes", lambda params: isinstance(params, PeepholeParams)),
    "cifg": ("coupled gates", lambda params: isinstance(params, CIFGParams)),
    "lstm_1997": ("LSTM without a forget gate", lambda params: isinstance(params, LSTM1997Params)),
}
KINDS = ElmanParams | LSTMParams | GRUParams | PeepholeParams | CIFGParams | LSTM1997Params


def check_cell(who: str, library: str, cell: Cell, *has: str) -> PyTree:
    """The shapes of a cell's parameters at D = 1, for a library that has, beside the usual, these FEATURES.

    Raises ValueError that names what the library has not.
    """
    shapes = params_of(cell, 1)
    for name, (what, asked) in FEATURES.items():
        if name not in has and asked(shapes):
            raise ValueError(f"{who}: {library} has no {what} ({name})")
    if not isinstance(shapes, KINDS):
        raise ValueError(f"{who}: {library} has no cell with {type(shapes).__name__}")
    if isinstance(shapes, ElmanParams):
        activation(who, cell)
    return shapes


def check_params(who: str, cell: Cell, params: PyTree) -> None:
    """Raises ValueError for parameters that are not this cell's."""
    own = params_of(cell, 1)
    if type(params) is not type(own):
        raise ValueError(f"{who}: expected {type(own).__name__}, got {type(params).__name__}")
    here, there = (
        {name: one for name, one in tree._asdict().items() if one is not None}
        for tree in (params_of(cell, params.W.shape[0]), params)
    )
    fit(who, shapes(here), shapes(there))


def array(who: str, name: str, given: Any) -> Float[Array, "..."]:
    """An array of floats in JAX, of the type it was given in.

    Raises TypeError for what is no array of floats, and for a type that JAX would narrow.
    """
    if not isinstance(given, jax.Array):
        try:
            given = np.asarray(given)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{who}: expected {name} as an array on the CPU, got {type(given)}: {error}") from error
    if not jnp.issubdtype(given.dtype, jnp.floating):
        raise TypeError(f"{who}: expected {name} of a float type, got {given.dtype}")
    kept = jax.dtypes.canonicalize_dtype(given.dtype)
    if kept != given.dtype:
        raise TypeError(
            f"{who}: expected {name} of at most {kept}, got {given.dtype}; turn on jax_enable_x64 or cast it"
        )
    return jnp.asarray(given)


def arrays(who: str, given: dict[str, Any]) -> dict[str, Float[Array, "..."]]:
    """`array` of each; raises TypeError where their types differ."""
    found = {name: array(who, name, one) for name, one in given.items()}
    types = {}
    for name, one in found.items():
        types.setdefault(one.dtype, name)
    if len(types) > 1:
        names = " and ".join(f"{name} {dtype}" for dtype, name in types.items())
        raise TypeError(f"{who}: expected one float type, got {names}")
    return found


def fit(who: str, expected: dict[str, tuple[int, ...]], given: dict[str, tuple[int, ...]]) -> None:
    """Raises ValueError that names the first array that is missing, of another shape, or not expected."""
    for name, shape in expected.items():
        if name not in given:
            raise ValueError(f"{who}: expected {name} of shape {shape}, got only {_names(given)}")
        if given[name] != shape:
            raise ValueError(f"{who}: expected {name} of shape {shape}, got {given[name]}")
    for name, shape in given.items():
        if name not in expected:
            raise ValueError(f"{who}: expected only {_names(expected)}, got {name} of shape {shape} too")


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"


def shapes(tree: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of every array of a dictionary."""
    return {name: tuple(one.shape) for name, one in tree.items()}


def zero(given: Float[Array, "..."]) -> bool | None:
    """Whether all are 0; None where that cannot be known, under jit."""
    return None if isinstance(given, jax.core.Tracer) else not bool(jnp.any(given))
