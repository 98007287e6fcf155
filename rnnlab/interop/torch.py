"""Weights of torch.nn.RNN, LSTM and GRU: from a state_dict to parameters and back. Needs no PyTorch."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rnnlab.cells import ElmanParams, LSTMParams
from rnnlab.interop import matrices
from rnnlab.interop.matrices import Matrices
from rnnlab.types import Cell, Directions, PyTree


def from_torch(stack: Sequence[Cell | Directions], state: Mapping[str, Any]) -> tuple[PyTree, ...]:
    """Parameters of a stack from torch's own, for `rnnlab.layers.layers`: one entry a layer.

    stack: what the network is: `elman` (tanh or relu), `lstm` (with a projection or without) or `gru`, of one kind and
    width, one a layer; `Directions` of two where it is bidirectional.
    state: weight_ih_l0 [G D], weight_hh_l0 [G P], bias_ih_l0 [G], bias_hh_l0 [G], weight_hr_l0 [P H], and so on with
    _l1 and _l0_reverse: a state_dict, or arrays of any kind that NumPy takes, in one float type. Gates are in the order
    i, f, g, o and r, z, n, which is ours.

    Linear, so it can be differentiated through. Two biases become their sum, but n's recurrent one in a GRU, which
    stays apart as bn; without biases they are 0. So from here to torch and back is exact, and from torch to here and
    back is exact in the weights and keeps the sums of the biases. A state has no name for RNN's activation: the cell's
    counts.

    Raises ValueError for a cell that torch has not, and for the first array that is missing, superfluous or of another
    shape; TypeError for float64 where x64 is off, and for mixed types.
    """
    _check("from_torch", stack)
    state = matrices.arrays("from_torch", dict(state))
    first = state.get("weight_ih_l0")
    dim = first.shape[1] if first is not None and first.ndim == 2 else 1
    shapes = _shapes(stack, dim)
    bias = any(name.startswith("bias_") for name in state)
    expected = jax.eval_shape(lambda params: to_torch(stack, params, bias=bias), shapes)
    matrices.fit("from_torch", matrices.shapes(expected), matrices.shapes(state))
    params = [_params(shape, state, suffix) for suffix, shape in _places(stack, shapes)]
    return tuple(map(Directions, params[::2], params[1::2])) if isinstance(stack[0], Directions) else tuple(params)


def to_torch(
    stack: Sequence[Cell | Directions], params: Sequence[PyTree], *, bias: bool = True
) -> dict[str, Float[Array, "..."]]:
    """The inverse of `from_torch`: JAX arrays under torch's names and in its layout.

    bias_ih holds the bias and bias_hh zeros, but a GRU's bn. With bias=False, for a network made so, there are none.
    For `load_state_dict`: {name: torch.from_numpy(np.array(one)) for name, one in to_torch(...).items()}.

    Raises ValueError for a cell that torch has not, and with bias=False for a bias that is not 0 (under jit, where that
    cannot be seen, it is dropped).
    """
    _check("to_torch", stack)
    if len(params) != len(stack):
        raise ValueError(f"to_torch: expected params for {len(stack)} layers, got {len(params)}")
    state = {}
    for (suffix, one), (_, cell) in zip(_places(stack, params), _places(stack, stack), strict=True):
        matrices.check_params("to_torch", cell, one)
        W, U, b, bu = matrices.apart("to_torch", one)
        state |= {f"weight_ih{suffix}": W.T, f"weight_hh{suffix}": U.T}
        biases = {f"bias_ih{suffix}": b, f"bias_hh{suffix}": bu}
        for name, value in biases.items():
            if not bias and matrices.zero(value) is False:
                raise ValueError(f"to_torch: expected {name} of zeros where bias=False, got others")
        state |= biases if bias else {}
        if isinstance(one, LSTMParams) and one.R is not None:
            state[f"weight_hr{suffix}"] = one.R.T
    return state


def _check(who: str, stack: Sequence[Cell | Directions]) -> None:
    """torch has one cell, one width and one number of directions in all layers."""
    if isinstance(stack, Cell | Directions) or not stack:
        raise TypeError(f"{who}: expected a sequence of cells, one a layer; write (cell,) for one layer")
    if len({isinstance(layer, Directions) for layer in stack}) > 1:
        raise ValueError(f"{who}: expected Directions in all layers or in none, got both; torch has no such network")
    kinds = []
    for cell in (one for layer in stack for one in (layer if isinstance(layer, Directions) else (layer,))):
        shapes = matrices.check_cell(who, "torch", cell, "projection")
        kind = matrices.activation(who, cell) if isinstance(shapes, ElmanParams) else type(shapes).__name__
        kinds.append((kind, shapes.U.shape))
    for kind in kinds:
        if kind != kinds[0]:
            raise ValueError(f"{who}: expected the same cell in every layer and direction, got {kinds[0]} and {kind}")


def _shapes(stack: Sequence[Cell | Directions], dim: int) -> tuple[PyTree, ...]:
    """Shapes of the parameters of every layer."""
    found = []
    for layer in stack:
        cells = layer if isinstance(layer, Directions) else (layer,)
        shapes = [matrices.params_of(cell, dim) for cell in cells]
        dim = sum(one.U.shape[0] for one in shapes)
        found.append(Directions(*shapes) if isinstance(layer, Directions) else shapes[0])
    return tuple(found)


def _places(stack: Sequence[Cell | Directions], params: Sequence[PyTree]) -> list[tuple[str, PyTree]]:
    """(suffix of torch's names, parameters) of every layer and direction, forward first."""
    layers = [one if isinstance(layer, Directions) else (one,) for layer, one in zip(stack, params, strict=True)]
    backs = "", "_reverse"
    return [(f"_l{n}{back}", p) for n, one in enumerate(layers) for back, p in zip(backs, one, strict=False)]


def _params(shape: PyTree, state: Mapping[str, Array], suffix: str) -> PyTree:
    W, U = state["weight_ih" + suffix].T, state["weight_hh" + suffix].T
    none = jnp.zeros(W.shape[-1], W.dtype)
    biases = [state.get(name + suffix, none) for name in ("bias_ih", "bias_hh")]
    params = matrices.merged(type(shape), Matrices(W, U, *biases))
    projected = isinstance(params, LSTMParams) and shape.R is not None
    return params._replace(R=state["weight_hr" + suffix].T) if projected else params
