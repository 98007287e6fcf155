"""Nodes of ONNX to here and back: exact, and refused by name. `test_onnx_oracles.py` compares the 77 stored nodes."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from rnnlab.cells import CELLS, cifg, elman, gru, gru_before, lstm, lstm_peephole
from rnnlab.interop.onnx import from_onnx, initial, to_onnx
from rnnlab.types import Directions

D, H = 3, 4
CASES = oracles.case_names("onnx")
RELU = elman(H, activation=jax.nn.relu)
EXPRESSED = {
    "tanh": elman(H), "relu": RELU, "lstm": lstm(H), "lstm_peephole": lstm_peephole(H), "cifg": cifg(H), "gru": gru(H),
    "gru_before": gru_before(H), "tanh and relu": Directions(elman(H), RELU), "both lstm": Directions(lstm(H), lstm(H)),
    "both gru": Directions(gru(H), gru(H)), "both cifg": Directions(cifg(H), cifg(H)),
}  # fmt: skip


def drawn(cell, dtype=np.float32):
    """Parameters off their initial values, so that no bias is 0."""
    if isinstance(cell, Directions):
        return Directions(*(jax.tree.map(lambda a, n=n: a + n, drawn(one, dtype)) for n, one in enumerate(cell)))
    params = cell.init(jax.random.key(0), D, dtype)
    return jax.tree.map(lambda a: a + jax.random.normal(jax.random.key(a.size), a.shape, dtype), params)


def same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EXPRESSED)
def test_from_here_to_onnx_and_back_is_exact(name, dtype):
    cell = EXPRESSED[name]
    params = drawn(cell, dtype)
    op, attributes, arrays = to_onnx(cell, params)
    assert attributes["direction"] == ("bidirectional" if isinstance(cell, Directions) else "forward")
    back, again = from_onnx(op, attributes, {key: np.asarray(one) for key, one in arrays.items()})
    assert back == cell  # the same arguments give the same cell, whose step is one function
    same(again, params)
    same(jax.jit(lambda p: from_onnx(op, attributes, to_onnx(cell, p)[2])[1])(params), params)


def test_a_reverse_node_is_marked_and_read_as_forward():
    op, attributes, arrays = to_onnx(gru(H), drawn(gru(H)), reverse=True)
    assert attributes["direction"] == "reverse"
    same(from_onnx(op, attributes, arrays)[1], drawn(gru(H)))
    both = Directions(gru(H), gru(H))
    with pytest.raises(ValueError, match="reverse=True was given for Directions"):
        to_onnx(both, drawn(both), reverse=True)


@pytest.mark.parametrize("name", CASES)
def test_from_onnx_to_here_and_back_keeps_the_weights_and_the_sums_of_biases(name):
    case = oracles.load("onnx", name)
    op, given = str(case.arrays["op"]), oracles.under("w.", case.arrays)
    cell, params = from_onnx(op, case.meta, given)
    other, attributes, arrays = to_onnx(cell, params, reverse=case.meta["direction"] == "reverse")
    assert other == op
    for key in set(attributes) & set(case.meta):
        assert attributes[key] == case.meta[key], key
    hidden = case.meta["hidden_size"]
    f = slice(2 * hidden, 3 * hidden)  # unused where gates are coupled
    given = {key: one.copy() for key, one in given.items() if key != "P" or np.any(one)}
    if case.meta.get("input_forget"):
        for key in "WR":
            given[key][:, f] = 0
    assert set(arrays) - set(given) <= {"B"}
    for key in set(given) - {"B"}:
        np.testing.assert_array_equal(arrays[key], given[key])
    if "B" in given:
        sums = [np.sum(np.split(one, 2, axis=1), axis=0) for one in (np.asarray(arrays["B"]), given["B"])]
        sums[1][:, f] = sums[0][:, f] if case.meta.get("input_forget") else sums[1][:, f]
        np.testing.assert_array_equal(*sums)


def node(op="LSTM", **changes):
    """Arrays of a forward node with something else."""
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op] * H
    arrays = {"W": (1, gates, D), "R": (1, gates, H), "B": (1, 2 * gates)}
    made = {name: np.ones(shape, np.float32) for name, shape in arrays.items()} | changes
    return {name: one for name, one in made.items() if one is not None}


P = np.ones((1, 3 * H), np.float32)
WRONG = {
    "op": ("Loop", {}, {}, "expected op RNN, GRU or LSTM, got Loop"),
    "clip": ("LSTM", {"clip": 3.0}, node(), "expected of LSTM only direction, .*input_forget, got clip=3.0"),
    "alpha": ("RNN", {"activation_alpha": [1.0]}, node("RNN"), "expected of RNN only .*, got activation_alpha="),
    "another op's": ("GRU", {"input_forget": 1}, node("GRU"), "expected of GRU only .*, got input_forget=1"),
    "direction": ("GRU", {"direction": "up"}, node("GRU"), "expected direction forward or .*, got up"),
    "activation": ("RNN", {"activations": ["Affine"]}, node("RNN"), r"\['Tanh'\] or Relu, got \['affine'\]"),
    "a gate's": ("GRU", {"activations": ["HardSigmoid", "Tanh"]}, node("GRU"), r"\['Sigmoid', 'Tanh'\], got \['hard"),
    "too few": ("RNN", {"activations": ["Tanh"], "direction": "bidirectional"}, node("RNN"), "got .'tanh'.$"),
    "both": ("LSTM", {"input_forget": 1}, node(P=P), "no cell has peepholes together with coupled gates"),
    "W": ("LSTM", {}, node(W=None), r"expected W of shape \(1, 16, 1\), got only R, B"),
    "R": ("GRU", {"hidden_size": 5}, node("GRU"), r"expected W of shape \(1, 15, 3\), got \(1, 12, 3\)"),
    "B": ("LSTM", {}, node(B=np.ones((1, 16), np.float32)), r"expected B of shape \(1, 32\), got \(1, 16\)"),
    "P": ("LSTM", {}, node(P=P[:, 1:]), r"expected P of shape \(1, 12\), got \(1, 11\)"),
    "P of another": ("GRU", {}, node("GRU", P=P), "expected only W, R, B, got P"),
    "directions": ("LSTM", {"direction": "bidirectional"}, node(), r"W of shape \(2, 16, 3\), got \(1, 16, 3\)"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_node_that_no_cell_is_is_refused_by_name(wrong):
    op, attributes, arrays, message = WRONG[wrong]
    with pytest.raises(ValueError, match=f"^from_onnx: .*{message}"):
        from_onnx(op, attributes, arrays)


def test_types_are_refused_and_never_cast():
    with pytest.raises(TypeError, match="from_onnx: expected one float type, got W float32 and B float64"):
        from_onnx("LSTM", {}, node(B=np.ones((1, 32))))
    wide = {name: one.astype(np.float64) for name, one in node().items()}
    with jax.enable_x64(False), pytest.raises(TypeError, match="expected W of at most float32, got float64"):
        from_onnx("LSTM", {}, wide)


def test_defaults_bytes_and_peepholes_of_zeros():
    """What the parsers of ONNX hand out: bytes for text, nothing for a default, P of zeros from exporters."""
    cell, params = from_onnx(
        "LSTM", {"direction": b"forward", "activations": [b"SIGMOID", b"Tanh", b"Tanh"]}, node(P=0 * P)
    )
    assert cell == lstm(H)
    same(params, from_onnx("LSTM", {}, node())[1])
    assert from_onnx("LSTM", {}, node(P=P))[0] == lstm_peephole(H)
    assert from_onnx("GRU", {}, node("GRU"))[0] == gru_before(H)
    assert not np.any(from_onnx("GRU", {}, node("GRU", B=None))[1].b)


STRANGE = {
    "lstm_projected": "ONNX has no projection",
    "lstm_1997": "ONNX has no LSTM without a forget gate",
    "lstm_layer_norm": "ONNX has no cell with NormedLSTMParams",
    "jordan": "ONNX has no cell with JordanParams",
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_cell_that_onnx_has_not_is_refused_by_what_it_lacks(name):
    cell = CELLS[name](H)
    with pytest.raises(ValueError, match=f"^to_onnx: {STRANGE[name]}"):
        to_onnx(cell, cell.init(jax.random.key(0), D))


def test_directions_that_are_not_alike_are_refused():
    for both in (Directions(gru(4), gru(5)), Directions(gru(4), gru_before(4)), Directions(lstm(4), cifg(4))):
        with pytest.raises(ValueError, match="to_onnx: expected two directions alike, got"):
            to_onnx(both, drawn(both))
    with pytest.raises(ValueError, match="to_onnx: expected an elman cell of tanh or relu"):
        to_onnx(elman(H, activation=jnp.sin), drawn(elman(H)))


def test_parameters_of_another_cell_are_refused():
    with pytest.raises(ValueError, match="to_onnx: expected CIFGParams, got LSTMParams"):
        to_onnx(cifg(H), drawn(lstm(H)))
    with pytest.raises(ValueError, match=r"to_onnx: expected W of shape \(3, 5\), got \(3, 4\)"):
        to_onnx(elman(5), drawn(elman(H)))


def test_first_carries():
    both, h = Directions(lstm(H), lstm(H)), np.arange(2 * 3 * H, dtype=np.float32).reshape(2, 3, H)
    assert initial(both, {"initial_h": None}) is None
    got = initial(both, {"initial_h": h})
    np.testing.assert_array_equal(np.stack([one.h for one in got]), h)
    assert not np.any(got.forward.c) and got.forward.c.shape == (3, H)
    got = initial(both, {"initial_c": h})
    assert not np.any(got.backward.h) and np.array_equal(got.backward.c, h[1])
    first = initial(gru(H), {"initial_h": np.moveaxis(h[:1], 0, 1)}, layout=1)
    assert jax.tree.structure(first) == jax.tree.structure(gru(H).start(drawn(gru(H)), (3,)))
    np.testing.assert_array_equal(first.h, h[0])
    with pytest.raises(ValueError, match="initial: expected states of 1 directions, got 2"):
        initial(gru(H), {"initial_h": h})
