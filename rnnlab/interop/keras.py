"""Weights of Keras's SimpleRNN, LSTM and GRU: from `get_weights()` to parameters and back. Needs no Keras."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rnnlab.cells import ElmanParams, GRUParams, LSTMParams
from rnnlab.interop import matrices
from rnnlab.interop.matrices import Matrices
from rnnlab.types import Cell, Directions, PyTree

# Keras's order of the gates, and ours; a letter is a gate's name in rnnlab.
ORDERS = {ElmanParams: ("h", "h"), LSTMParams: ("ifgo", "ifgo"), GRUParams: ("zrn", "rzn")}
NAMES = ("kernel", "recurrent_kernel", "bias")


def from_keras(cell: Cell | Directions, weights: Sequence[Any]) -> PyTree:
    """Parameters of a cell from a layer's `get_weights()`; of `Directions` from those of keras.layers.Bidirectional.

    cell: `elman`, `lstm`, `gru` (reset_after=True, Keras's default) or `gru_before` (reset_after=False).
    weights: kernel [D G], recurrent_kernel [H G] and, with use_bias, bias [G] ([2 G] with reset_after: of the input and
    of the recurrent product), in one float type. Gates are in the order i, f, c, o and z, r, h.

    Linear, so it can be differentiated through. Without a bias it is 0. From here to Keras and back is exact; so is
    from Keras to here and back, but that of the two biases of r and z the sum is kept.

    Raises ValueError for a cell that Keras has not, and for the first array that is missing, superfluous or of another
    shape; TypeError for float64 where x64 is off, and for mixed types.
    """
    if isinstance(cell, Directions):
        half = len(weights) // 2
        return Directions(from_keras(cell.forward, weights[:half]), from_keras(cell.backward, weights[half:]))
    matrices.check_cell("from_keras", "Keras", cell, "gru_before")
    names = [*NAMES, *(f"array {number}" for number in range(len(NAMES), len(weights)))]
    given = matrices.arrays("from_keras", dict(zip(names, weights, strict=False)))
    kernel = given.get("kernel")
    dim = kernel.shape[0] if kernel is not None and kernel.ndim == 2 else 1
    shapes = matrices.params_of(cell, dim)
    expected = matrices.shapes(jax.eval_shape(_stored, shapes))
    expected = {name: expected[name] for name in (NAMES if "bias" in given else NAMES[:2])}
    matrices.fit("from_keras", expected, matrices.shapes(given))
    bias = given.get("bias", jnp.zeros(expected.get("bias", shapes.b.shape), kernel.dtype))
    b, bu = bias if bias.ndim == 2 else (bias, jnp.zeros_like(bias))
    ordered = [matrices.reordered(one, *ORDERS[type(shapes)]) for one in (kernel, given["recurrent_kernel"], b, bu)]
    return matrices.merged(type(shapes), Matrices(*ordered), bn=getattr(shapes, "bn", None) is not None)


def to_keras(cell: Cell | Directions, params: PyTree, *, bias: bool = True) -> list[Float[Array, "..."]]:
    """The inverse of `from_keras`: JAX arrays for a layer's `set_weights`; bias=False for one with use_bias=False.

    Raises ValueError for a cell that Keras has not, and with bias=False for a bias that is not 0 (under jit, where that
    cannot be seen, it is dropped).
    """
    if isinstance(cell, Directions):
        return [one for c, p in zip(cell, params, strict=True) for one in to_keras(c, p, bias=bias)]
    matrices.check_cell("to_keras", "Keras", cell, "gru_before")
    matrices.check_params("to_keras", cell, params)
    stored = _stored(params)
    if not bias and matrices.zero(stored["bias"]) is False:
        raise ValueError("to_keras: expected a bias of zeros where bias=False, got others")
    return [stored[name] for name in (NAMES if bias else NAMES[:2])]


def _stored(params: PyTree) -> dict[str, Array]:
    keras, ours = ORDERS[type(params)]
    W, U, b, bu = (matrices.reordered(one, ours, keras) for one in matrices.apart("to_keras", params))
    two = isinstance(params, GRUParams) and params.bn is not None
    return dict(zip(NAMES, (W, U, jnp.stack([b, bu]) if two else b), strict=True))
