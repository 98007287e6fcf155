"""Results of other implementations, and their weights as rnnlab parameters. See archives/README.md.

The maps are linear and written in JAX, so that a gradient taken through them comes back under the names
and in the layout of the implementation it is compared with.
"""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.cells import ElmanCarry, ElmanParams, GRUCarry, GRUParams, LSTMCarry, LSTMParams, elman, gru, gru_before
from rnnlab.cells import lstm as lstm_cell
from rnnlab.types import Cell, Directions, PyTree

ARCHIVES = Path(__file__).parent / "archives"


class Case(NamedTuple):
    """meta: what was run (torch's meta_json, ONNX's attributes). arrays: everything else, by its key."""

    meta: dict
    arrays: dict[str, np.ndarray]


def case_names(source: str) -> list[str]:
    """Names of all archives of `torch` or `onnx`."""
    return sorted(path.stem for path in (ARCHIVES / source).glob("*.npz"))


@cache
def load(source: str, name: str) -> Case:
    with np.load(ARCHIVES / source / f"{name}.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    meta = json.loads(str(arrays.pop("meta_json" if source == "torch" else "attrs_json")))
    return Case(meta, arrays)


def under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose keys begin with `prefix`, by the rest of their keys."""
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


# PyTorch


class TorchNet(NamedTuple):
    """What decides the shape of a torch network; hashable, so that compilations can be shared."""

    cell: str
    layers: int
    directions: int
    hidden: int
    projection: int | None


def torch_net(meta: dict) -> TorchNet:
    return TorchNet(meta["cell"], meta["layers"], meta["directions"], meta["H"], meta["proj"] or None)


def torch_cells(net: TorchNet) -> tuple[Cell | Directions, ...]:
    cell = {
        "rnn_tanh": lambda: elman(net.hidden),
        "rnn_relu": lambda: elman(net.hidden, activation=jax.nn.relu),
        "lstm": lambda: lstm_cell(net.hidden, projection=net.projection),
        "gru": lambda: gru(net.hidden),
    }[net.cell]()
    return tuple(as_layers(net, [cell] * (net.layers * net.directions)))


def torch_params(net: TorchNet, weights: dict[str, jax.Array]) -> tuple[PyTree, ...]:
    """Parameters of every layer from torch's own (weight_ih_l0, bias_hh_l1_reverse, ...)."""
    suffixes = [f"_l{layer}{back}" for layer in range(net.layers) for back in ("", "_reverse")[: net.directions]]
    return as_layers(net, [_torch_cell_params(net, weights, suffix) for suffix in suffixes])


def _torch_cell_params(net: TorchNet, weights: dict[str, jax.Array], suffix: str) -> PyTree:
    W, U = weights["weight_ih" + suffix].T, weights["weight_hh" + suffix].T
    none = jnp.zeros(W.shape[-1], W.dtype)
    b_ih, b_hh = weights.get("bias_ih" + suffix, none), weights.get("bias_hh" + suffix, none)
    if net.cell == "lstm":
        return LSTMParams(W, U, b_ih + b_hh, weights["weight_hr" + suffix].T if net.projection else None)
    if net.cell == "gru":
        inside = slice(2 * net.hidden, None)  # the reset gate multiplies n's recurrent bias, so it stays apart
        return GRUParams(W, U, b_ih + b_hh.at[inside].set(0), b_hh[inside])
    return ElmanParams(W, U, b_ih + b_hh)


def torch_carries(net: TorchNet, h: jax.Array, c: jax.Array | None) -> tuple[PyTree, ...]:
    """States stacked over layers and directions [LD, ...] as a carry for every layer."""
    if net.cell == "lstm":
        return as_layers(net, [LSTMCarry(*hc) for hc in zip(h, c, strict=True)])
    return as_layers(net, [GRUCarry(one) if net.cell == "gru" else ElmanCarry(one) for one in h])


def stacked(net: TorchNet, carries: tuple[PyTree, ...]) -> dict[str, jax.Array]:
    """The inverse of `torch_carries`: {"h": [LD, ...], "c": [LD, ...]}."""
    flat = [one for layer in carries for one in (layer if net.directions == 2 else (layer,))]
    return {leaf: jnp.stack([getattr(one, leaf) for one in flat]) for leaf in flat[0]._fields}


def as_layers(net: TorchNet, flat: list) -> tuple:
    """One entry a layer and direction, forward first -> one a layer."""
    return tuple(flat) if net.directions == 1 else tuple(map(Directions, flat[::2], flat[1::2]))


# ONNX


class OnnxNode(NamedTuple):
    """cell and parameters of each direction of a node: one for forward and reverse, two for bidirectional."""

    cell: Cell
    params: list[PyTree]
    start: list[PyTree]


def onnx_node(case: Case) -> OnnxNode:
    """Cell, parameters and first carries of a node without peepholes and coupled gates."""
    arrays, meta = case.arrays, case.meta
    hidden, W, R = meta["hidden_size"], arrays["w.W"], arrays["w.R"]
    directions, rows = W.shape[:2]
    biases = arrays.get("w.B", np.zeros((directions, 2 * rows), W.dtype))
    batch = arrays["i.X"].shape[0 if meta["layout"] else 1]
    h, c = (_onnx_state(case, key, (directions, batch, hidden)) for key in ("i.initial_h", "i.initial_c"))
    build = {"RNN": _onnx_rnn, "GRU": _onnx_gru, "LSTM": _onnx_lstm}[str(arrays["op"])]
    nodes = [build(meta, d, W[d].T, R[d].T, *np.split(biases[d], 2), h[d], c[d]) for d in range(directions)]
    cells, params, start = zip(*nodes, strict=True)
    return OnnxNode(cells[0], list(params), list(start))


def _onnx_state(case: Case, key: str, shape: tuple[int, ...]) -> np.ndarray:
    given = case.arrays.get(key)
    if given is None:
        return np.zeros(shape, case.arrays["i.X"].dtype)
    return np.moveaxis(given, 0, 1) if case.meta["layout"] else given


def _onnx_rnn(meta, d, W, R, Wb, Rb, h, c):
    activation = {"Tanh": jnp.tanh, "Relu": jax.nn.relu}[meta["activations"][d]]
    return elman(meta["hidden_size"], activation=activation), ElmanParams(W, R, Wb + Rb), ElmanCarry(h)


def _onnx_gru(meta, d, W, R, Wb, Rb, h, c):
    order = "zrh", "rzh"
    W, R, Wb, Rb = (_reordered(array, *order) for array in (W, R, Wb, Rb))
    hidden = meta["hidden_size"]
    if not meta["linear_before_reset"]:
        return gru_before(hidden), GRUParams(W, R, Wb + Rb, None), GRUCarry(h)
    outside = np.concatenate([Rb[: 2 * hidden], np.zeros(hidden, Rb.dtype)])
    return gru(hidden), GRUParams(W, R, Wb + outside, Rb[2 * hidden :]), GRUCarry(h)


def _onnx_lstm(meta, d, W, R, Wb, Rb, h, c):
    W, R, b = (_reordered(array, "iofc", "ifco") for array in (W, R, Wb + Rb))
    return lstm_cell(meta["hidden_size"]), LSTMParams(W, R, b, None), LSTMCarry(h, c)


def _reordered(array: np.ndarray, given: str, wanted: str) -> np.ndarray:
    """Gates along the last axis, from one order to another."""
    gates = dict(zip(given, np.split(array, len(given), axis=-1), strict=True))
    return np.concatenate([gates[gate] for gate in wanted], axis=-1)
