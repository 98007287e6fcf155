"""Nodes RNN, GRU and LSTM of ONNX: from attributes and arrays to a cell and its parameters, and back. Needs no onnx."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rnnlab.cells import (
    CIFGParams,
    ElmanParams,
    GRUParams,
    PeepholeParams,
    cifg,
    elman,
    gru,
    gru_before,
    lstm,
    lstm_peephole,
)
from rnnlab.interop import matrices
from rnnlab.interop.matrices import Matrices
from rnnlab.noise import quiet
from rnnlab.types import Cell, Directions, PyTree

# ONNX's order of the gates, and ours.
ORDERS = {"RNN": ("h", "h"), "GRU": ("zrn", "rzn"), "LSTM": ("iofg", "ifgo")}
COUPLED = "igo"  # of `cifg`
PEEPHOLES = "iof", "ifo"
# What may stand in a node: op -> activations of one direction, and the attributes beside the common ones.
ACTIVATIONS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
COMMON = {"direction": "forward", "hidden_size": None, "activations": None, "layout": 0}
OWN = {"RNN": {}, "GRU": {"linear_before_reset": 0}, "LSTM": {"input_forget": 0}}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def from_onnx(op: str, attributes: Mapping[str, Any], arrays: Mapping[str, Any]) -> tuple[Cell | Directions, PyTree]:
    """The cell and the parameters of a node; both are `Directions` where it is bidirectional.

    op: RNN (Tanh or Relu: `elman`), GRU (linear_before_reset=1: `gru`, 0: `gru_before`) or LSTM (`lstm`;
    input_forget=1: `cifg`; with a P that is not all 0: `lstm_peephole`).
    attributes: as in the standard; what is absent has its default. A node of direction "reverse" gives what one of
    "forward" does: run it with reverse=True. Nor is layout looked at: it is the inputs', not the weights'.
    arrays: W [N G D], R [N G H], and where given B [N 2G] and P [N 3H], for N directions, in one float type; the node's
    other inputs may stand beside them. Gates are in the order i, o, f, c and z, r, h; peepholes i, o, f.

    Linear in the arrays, so it can be differentiated through; under jit a P given counts as one that is not 0. Two
    biases become their sum, but h's recurrent one with linear_before_reset. The f rows of coupled gates are unused
    and dropped.

    Raises ValueError for clip and any other attribute or activation that no cell has, for peepholes together with
    coupled gates, and for the first array that is missing or of another shape; TypeError for float64 where x64 is
    off, and for mixed types.
    """
    given = _attributes(op, attributes)
    found = matrices.arrays("from_onnx", {name: arrays[name] for name in "WRBP" if arrays.get(name) is not None})
    count, hidden = _check(op, given, found)
    peepholes = "P" in found and matrices.zero(found["P"]) is not True
    if peepholes and given["input_forget"]:
        raise ValueError("from_onnx: no cell has peepholes together with coupled gates (input_forget=1)")
    if op == "LSTM":
        cell = lstm_peephole(hidden) if peepholes else cifg(hidden) if given["input_forget"] else lstm(hidden)
    elif op == "GRU":
        cell = gru(hidden) if given["linear_before_reset"] else gru_before(hidden)
    cells = [elman(hidden) if one == "tanh" else elman(hidden, activation=jax.nn.relu) for one in given["activations"]]
    cells = cells if op == "RNN" else [cell] * count
    params = [_params(op, one, {name: array[d] for name, array in found.items()}) for d, one in enumerate(cells)]
    return (Directions(*cells), Directions(*params)) if count == 2 else (cells[0], params[0])


def to_onnx(
    cell: Cell | Directions, params: PyTree, *, reverse: bool = False
) -> tuple[str, dict[str, Any], dict[str, Float[Array, "..."]]]:
    """The inverse of `from_onnx`: op, attributes and arrays of a node. reverse: of one that runs backward.

    The input biases hold the bias and the recurrent ones zeros, but bn; the f rows of coupled gates are zeros.

    Raises ValueError for a cell that ONNX has not (a projection too), and for two directions that are not alike.
    """
    if isinstance(cell, Directions) and reverse:
        raise ValueError("to_onnx: reverse=True was given for Directions, which run both ways")
    pairs = list(zip(cell, params, strict=True)) if isinstance(cell, Directions) else [(cell, params)]
    nodes = [_node(*pair) for pair in pairs]
    (op, attributes, _), (other, its, _) = nodes[0], nodes[-1]
    alike = lambda one: {name: value for name, value in one.items() if name != "activations"}  # noqa: E731
    if (op, alike(attributes)) != (other, alike(its)):
        raise ValueError(f"to_onnx: expected two directions alike, got {op} {attributes} and {other} {its}")
    direction = "bidirectional" if len(nodes) == 2 else "reverse" if reverse else "forward"
    activations = [name for _, one, _ in nodes for name in one["activations"]]
    stacked = {name: jnp.stack([arrays[name] for *_, arrays in nodes]) for name in nodes[0][2]}
    return op, attributes | {"activations": activations, "direction": direction}, stacked


def initial(cell: Cell | Directions, arrays: Mapping[str, Any], *, layout: int = 0) -> PyTree:
    """The first carry of `from_onnx`'s cell from initial_h and initial_c [N B H] ([B N H] at layout 1).

    Where one is absent it is 0; where both are, None: the cell's own start, which is 0.
    Raises ValueError for another number of directions, TypeError as `from_onnx`.
    """
    given = {name: arrays[name] for name in ("initial_h", "initial_c") if arrays.get(name) is not None}
    given = matrices.arrays("initial", given)
    if not given:
        return None
    h, c = (given.get(name) for name in ("initial_h", "initial_c"))
    h, c = (jnp.zeros_like(c) if h is None else h), (jnp.zeros_like(h) if c is None else c)
    h, c = (jnp.moveaxis(one, 1, 0) if layout else one for one in (h, c))
    cells = cell if isinstance(cell, Directions) else (cell,)
    if len(h) != len(cells):
        raise ValueError(f"initial: expected states of {len(cells)} directions, got {len(h)}")
    carries = []
    for one, *state in zip(cells, h, c, strict=True):
        kind = type(_first(one))
        carries.append(kind(*state[: len(kind._fields)]))  # c is the LSTMs' alone
    return Directions(*carries) if len(cells) == 2 else carries[0]


def _attributes(op: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All attributes, defaults included; activations in lower case, for each direction."""
    if op not in ORDERS:
        raise ValueError(f"from_onnx: expected op RNN, GRU or LSTM, got {op}")
    text = lambda one: one.decode() if isinstance(one, bytes) else one  # noqa: E731
    known = COMMON | OWN[op]
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"from_onnx: expected of {op} only {', '.join(known)}, got {name}={value}")
    found = {"linear_before_reset": 0, "input_forget": 0} | known | {name: text(one) for name, one in given.items()}
    if found["direction"] not in DIRECTIONS:
        raise ValueError(f"from_onnx: expected direction {' or '.join(DIRECTIONS)}, got {found['direction']}")
    count = DIRECTIONS[found["direction"]]
    activations = [text(one).lower() for one in found["activations"] or ACTIVATIONS[op] * count]
    only = [one.lower() for one in ACTIVATIONS[op] * count]
    if activations != only and not (op == "RNN" and len(activations) == count and set(activations) <= {"tanh", "relu"}):
        either = " or Relu" if op == "RNN" else ""
        raise ValueError(f"from_onnx: expected activations {ACTIVATIONS[op] * count}{either}, got {activations}")
    return found | {"activations": activations}


def _check(op: str, attributes: Mapping[str, Any], found: Mapping[str, Array]) -> tuple[int, int]:
    """The number of directions and H, once every array fits them."""
    count, rows = DIRECTIONS[attributes["direction"]], len(ORDERS[op][0])
    W, R = found.get("W"), found.get("R")
    dim = W.shape[-1] if W is not None and W.ndim else 1
    hidden = attributes["hidden_size"] or (R.shape[-1] if R is not None and R.ndim else 1)
    expected = {"W": (count, rows * hidden, dim), "R": (count, rows * hidden, hidden)}
    optional = {"B": (count, 2 * rows * hidden)} | ({"P": (count, 3 * hidden)} if op == "LSTM" else {})
    expected |= {name: shape for name, shape in optional.items() if name in found}
    matrices.fit("from_onnx", expected, matrices.shapes(found))
    return count, hidden


def _params(op: str, cell: Cell, one: Mapping[str, Array]) -> PyTree:
    """Parameters of one direction from its own arrays."""
    shapes, (order, ours) = matrices.params_of(cell, one["W"].shape[-1]), ORDERS[op]
    ours = COUPLED if isinstance(shapes, CIFGParams) else ours
    W, R = one["W"].T, one["R"].T
    biases = jnp.split(one["B"], 2) if "B" in one else [jnp.zeros(W.shape[-1], W.dtype)] * 2
    given = Matrices(*(matrices.reordered(a, order, ours) for a in (W, R, *biases)))
    if isinstance(shapes, PeepholeParams):
        return PeepholeParams(given.W, given.U, given.b + given.bu, matrices.reordered(one["P"], *PEEPHOLES))
    return matrices.merged(type(shapes), given, bn=getattr(shapes, "bn", None) is not None)


def _node(cell: Cell, params: PyTree) -> tuple[str, dict[str, Any], dict[str, Array]]:
    """Op, attributes and arrays of one direction."""
    matrices.check_cell("to_onnx", "ONNX", cell, "gru_before", "lstm_peephole", "cifg")
    matrices.check_params("to_onnx", cell, params)
    op = {ElmanParams: "RNN", GRUParams: "GRU"}.get(type(params), "LSTM")
    order, ours = ORDERS[op]
    parts = matrices.apart("to_onnx", params)
    if isinstance(params, CIFGParams):
        unused = lambda a: jnp.zeros_like(a[..., : params.U.shape[0]])  # noqa: E731
        parts, ours = Matrices(*(jnp.concatenate([a, unused(a)], axis=-1) for a in parts)), COUPLED + "f"
    W, U, b, bu = (matrices.reordered(one, ours, order) for one in parts)
    arrays = {"W": W.T, "R": U.T, "B": jnp.concatenate([b, bu])}
    if isinstance(params, PeepholeParams):
        arrays["P"] = matrices.reordered(matrices.array("to_onnx", "p", params.p), *reversed(PEEPHOLES))
    attributes = {"hidden_size": params.U.shape[0], "activations": ACTIVATIONS[op]}
    if op == "RNN":
        attributes["activations"] = [matrices.activation("to_onnx", cell).capitalize()]
    elif op == "GRU":
        attributes["linear_before_reset"] = int(params.bn is not None)
    else:
        attributes["input_forget"] = int(isinstance(params, CIFGParams))
    return op, attributes, arrays


def _first(cell: Cell) -> PyTree:
    """Shapes of the first carry of one row."""
    cell = quiet(cell)
    return jax.eval_shape(lambda: cell.start(cell.prepare(cell.init(jax.random.key(0), 1)), ()))
