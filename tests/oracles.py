"""Results of other implementations, and their weights as rnnlab parameters. See archives/README.md.

The weights go through `rnnlab.interop`, whose maps are linear: a gradient taken through them comes back under the
names and in the layout of the implementation it is compared with.
"""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.cells import Hidden, LSTMCarry, elman, gru
from rnnlab.cells import lstm as lstm_cell
from rnnlab.interop.onnx import from_onnx, initial
from rnnlab.interop.torch import from_torch
from rnnlab.types import Cell, Directions, PyTree

ARCHIVES = Path(__file__).parent / "archives"


class Case(NamedTuple):
    """meta: what was run (ONNX's attributes, everyone else's meta_json). arrays: everything else, by its key."""

    meta: dict
    arrays: dict[str, np.ndarray]


def case_names(source: str) -> list[str]:
    """Names of all archives of `torch`, `keras` or `onnx`."""
    return sorted(path.stem for path in (ARCHIVES / source).glob("*.npz"))


@cache
def load(source: str, name: str) -> Case:
    with np.load(ARCHIVES / source / f"{name}.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    meta = json.loads(str(arrays.pop("attrs_json" if source == "onnx" else "meta_json")))
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
    return from_torch(torch_cells(net), weights)


def torch_carries(net: TorchNet, h: jax.Array, c: jax.Array | None) -> tuple[PyTree, ...]:
    """States stacked over layers and directions [LD, ...] as a carry for every layer."""
    if net.cell == "lstm":
        return as_layers(net, [LSTMCarry(*hc) for hc in zip(h, c, strict=True)])
    return as_layers(net, [Hidden(one) for one in h])


def stacked(net: TorchNet, carries: tuple[PyTree, ...]) -> dict[str, jax.Array]:
    """The inverse of `torch_carries`: {"h": [LD, ...], "c": [LD, ...]}."""
    flat = [one for layer in carries for one in (layer if net.directions == 2 else (layer,))]
    return {leaf: jnp.stack([getattr(one, leaf) for one in flat]) for leaf in flat[0]._fields}


def as_layers(net: TorchNet, flat: list) -> tuple:
    """One entry a layer and direction, forward first -> one a layer."""
    return tuple(flat) if net.directions == 1 else tuple(map(Directions, flat[::2], flat[1::2]))


# ONNX


class OnnxNode(NamedTuple):
    """cell, parameters and first carry of a node: `Directions` of them where it is bidirectional."""

    cell: Cell | Directions
    params: PyTree
    start: PyTree


def onnx_node(case: Case) -> OnnxNode:
    cell, params = from_onnx(str(case.arrays["op"]), case.meta, under("w.", case.arrays))
    return OnnxNode(cell, params, initial(cell, under("i.", case.arrays), layout=case.meta["layout"]))
