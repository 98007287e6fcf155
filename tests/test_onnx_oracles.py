"""Single nodes of every direction against onnx.reference, onnxruntime and the standard's own examples."""

from collections import Counter

import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from rnnlab.types import Directions
from rnnlab.unroll import bidirectional, unroll

CASES = oracles.case_names("onnx")


def test_there_are_77_cases_and_every_kind_of_gate_among_them():
    assert len(CASES) == 77
    params = [oracles.onnx_node(oracles.load("onnx", name)).params for name in CASES]
    kinds = Counter(type(one.forward if isinstance(one, Directions) else one).__name__ for one in params)
    assert kinds == {"ElmanParams": 23, "GRUParams": 25, "LSTMParams": 22, "PeepholeParams": 5, "CIFGParams": 2}


@pytest.mark.parametrize("name", CASES)
def test_node(name):
    case = oracles.load("onnx", name)
    ys, last = _run(case)
    lengths = case.arrays.get("i.sequence_lens", np.full(ys.shape[2], ys.shape[0]))
    got = {"o.Y": ys, "o.Y_h": last[0], "o.Y_c": last[-1]}
    expected = oracles.under("o.", case.arrays)
    # Single precision, where the sums are in another order; the stored tolerance where it is tighter.
    close = {key: min(float(case.arrays[key]), limit) for key, limit in (("rtol", 1e-4), ("atol", 1e-5))}
    for key, reference in expected.items():
        value = got[f"o.{key}"]
        assert value.dtype == reference.dtype
        if case.meta["layout"]:  # batch first
            value = np.moveaxis(value, -2, 0)
        elif key != "Y":  # the last state of an empty row is not part of the standard
            value, reference = value[:, lengths > 0], reference[:, lengths > 0]
        np.testing.assert_allclose(value, reference, **close, err_msg=key)
    assert expected


def _run(case):
    """Y [T, D, B, H] and the leaves of the last carry, each [D, B, H]."""
    cell, params, start = oracles.onnx_node(case)
    xs = np.moveaxis(case.arrays["i.X"], 1, 0) if case.meta["layout"] else case.arrays["i.X"]
    lengths = case.arrays.get("i.sequence_lens")
    if case.meta["direction"] == "bidirectional":
        out = bidirectional(cell, params, xs, start=start or Directions(None, None), lengths=lengths)
        last = [jnp.stack(leaves) for leaves in zip(*out.last, strict=True)]
        return np.stack(np.split(out.ys, 2, axis=-1), axis=1), [np.asarray(leaf) for leaf in last]
    out = unroll(cell, params, xs, start=start, lengths=lengths, reverse=case.meta["direction"] == "reverse")
    return np.asarray(out.ys)[:, None], [np.asarray(leaf)[None] for leaf in out.last]
