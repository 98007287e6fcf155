"""Single nodes of every direction against onnx.reference, onnxruntime and the standard's own examples."""

import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from rnnlab.types import Directions
from rnnlab.unroll import bidirectional, unroll

# Archive -> the feature that no cell of rnnlab has yet. The key shows that the archive really needs it.
NOT_EXPRESSED = {
    "ort_lstm_bidirectional_coupled_gates_ragged": "coupled gates",
    "ort_lstm_bidirectional_peephole_ragged": "peepholes",
    "ort_lstm_forward_coupled_gates_ragged": "coupled gates",
    "ort_lstm_forward_peephole_ragged": "peepholes",
    "ref_lstm_bidirectional_peephole": "peepholes",
    "ref_lstm_forward_peephole": "peepholes",
    "test_lstm_with_peepholes": "peepholes",
}
REASONS = {
    "coupled gates": lambda case: case.meta.get("input_forget") == 1,
    "peepholes": lambda case: "w.P" in case.arrays and np.any(case.arrays["w.P"] != 0),
}
EXPRESSED = [name for name in oracles.case_names("onnx") if name not in NOT_EXPRESSED]


def test_every_archive_is_compared_or_has_a_reason():
    assert len(EXPRESSED) + len(NOT_EXPRESSED) == 77
    assert set(EXPRESSED) | set(NOT_EXPRESSED) == set(oracles.case_names("onnx"))
    for name in oracles.case_names("onnx"):
        reasons = {reason for reason, holds in REASONS.items() if holds(oracles.load("onnx", name))}
        assert reasons == ({NOT_EXPRESSED[name]} if name in NOT_EXPRESSED else set()), name


@pytest.mark.parametrize("name", EXPRESSED)
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
        both = Directions(cell, cell)
        out = bidirectional(both, Directions(*params), xs, start=Directions(*start), lengths=lengths)
        last = [jnp.stack(leaves) for leaves in zip(*out.last, strict=True)]
        return np.stack(np.split(out.ys, 2, axis=-1), axis=1), [np.asarray(leaf) for leaf in last]
    reverse = case.meta["direction"] == "reverse"
    out = unroll(cell, params[0], xs, start=start[0], lengths=lengths, reverse=reverse)
    return np.asarray(out.ys)[:, None], [np.asarray(leaf)[None] for leaf in out.last]
