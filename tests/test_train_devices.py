"""The batch over host devices: the same step, with one all-reduce. In processes of their own, started with eight."""

import json
import os
import subprocess
import sys
from pathlib import Path

import conftest
import devices_run
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.errors import InputError
from rnnlab.train import devices


def run(dtype: str, ways: str, flags: str = "") -> dict:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XLA_"))}
    root = Path(devices_run.__file__).parents[1]
    flags = f"--xla_force_host_platform_device_count=8 {flags}"
    done = subprocess.run(
        [sys.executable, "-W", "error", devices_run.__file__, dtype, ways], cwd=root, capture_output=True, text=True,
        env=clean | {"PYTHONPATH": str(root), "XLA_FLAGS": flags},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def agrees(found: dict, tolerance: float) -> None:
    for way, one in found.items():
        assert one["far"] <= tolerance, (way, one)
        assert one["inside"] == 0 and one["loops"] >= 4, (way, one)
        assert one["outside"] == (0 if way.startswith("1x") else 1), (way, one)


def test_one_device_and_several_agree_to_rounding():
    got = run("float64", "2x2", conftest.FAST_COMPILE)
    agrees(got["found"], 1e-12)
    said = got["said"]
    assert "devices: expected 1 to 8" in said["more than there are"] and "got 9" in said["more than there are"]
    assert "launch.py with --devices=9" in said["more than there are"] and "got 0" in said["none"]
    assert said["rows"] == "batch: expected a multiple of 3 rows, for 3 devices with 1 pieces each, got 8"
    assert "multiple of 5 rows" in said["rows of a batch"] and "multiple of 3 rows" in said["rows of a carry"]


@pytest.mark.slow
def test_they_agree_in_float32_as_users_run_it():
    agrees(run("float32", "2x1,4x1,8x1")["found"], 1e-6)


@pytest.mark.slow
def test_they_agree_in_float64_optimised():
    agrees(run("float64", "2x1,4x2")["found"], 1e-12)


def test_reductions_in_loops_are_counted():
    text = """HloModule jit_step
%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %c = f32[] add(%a, %b)
}
%called (p: f32[4]) -> f32[4] {
  ROOT %all-reduce.1 = f32[4] all-reduce(%p), to_apply=%add
}
%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %fusion.1 = f32[4] call(%x), to_apply=%called
}
%condition (p: (s32[], f32[4])) -> pred[] {
}
ENTRY %main (p: f32[4]) -> f32[4] {
  %while.1 = (s32[], f32[4]) while(%p), condition=%condition, body=%body
  %r = f32[4] all-reduce(%q), to_apply=%add
  %s = f32[4] all-reduce-start(%q), to_apply=%add
}"""
    assert devices_run.reductions(text) == {"inside": 1, "outside": 2, "loops": 1}


def test_rows_lie_on_the_axis_that_is_named():
    batch = {"ids": np.zeros((7, 4)), "more": (np.zeros((4, 2)), np.zeros(4))}
    assert devices.rows(batch, {"ids": 1, "more": 0}) == 4
    specs = devices.specs(batch, {"ids": 1, "more": 0})
    assert specs == {
        "ids": jax.P(None, "rows"), "more": (jax.P("rows"), jax.P("rows")),
    }  # fmt: skip
    with pytest.raises(ValueError, match="every leaf to have as many rows on its axis"):
        devices.rows(batch, 0)
    with pytest.raises(ValueError, match="every leaf"):
        devices.rows(batch, 1)


def test_pieces_are_rows_in_their_order():
    ids = jnp.arange(24).reshape(4, 6)
    axes = {"over": 1, "down": 0}
    cut = jax.tree.map(np.asarray, devices.pieces({"over": ids, "down": ids.T}, axes, 3))
    for n in range(3):
        np.testing.assert_array_equal(cut["over"][n], ids[:, 2 * n : 2 * n + 2])
        np.testing.assert_array_equal(cut["down"][n], ids[:, 2 * n : 2 * n + 2].T)


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(InputError, match="devices: expected 1 to 1, as many as JAX has here, got 2"):
        devices.mesh(2)
