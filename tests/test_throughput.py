"""The benchmark at a tiny size, from flags to figure. Nothing here depends on how fast anything is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import launching
import numpy as np
import pytest
from matplotlib.container import BarContainer

from experiments import _memory, _peers, _sections, _throughput_figure, _throughput_rows, _throughput_table, throughput
from experiments._work import PRODUCTS, Shape, Work, geometric_mean, inputs_of, lengths_of, shape_of
from rnnlab.errors import InputError

pytestmark = pytest.mark.usefixtures("allow_promotion")

ROOT = Path(__file__).parent.parent
TINY = dict(
    cell="lstm,elman", shape="3x6x2x4,2x5x3x4", base="3x8x2x4", lengths="20", chunk=5, compile_lengths="5,8",
    depths="1,2", seeds=2, seconds=0, rounds=2, peer="linen,equinox,torch,torch_single,devices,scan",
)  # fmt: skip


def launched(folder, **more):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "equinox", None)  # as if it were not installed; torch is blocked for all tests
        for name in ("SQUARE", "FLAT", "SMALL"):
            patch.setattr(_sections, name, (4 + len(name), 8, 16))
        return launching.launched("throughput", folder, **{**TINY, **more})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    assert launched(folder) == 0
    return launching.only_run(folder)


# What is asked for.


@pytest.mark.parametrize("words", ["", "32x100x128", "32x100x128x128x1", "0x1x1x1", "1x-2x3x4", "axbxcxd", "1x2x3x4 "])
def test_what_is_no_shape_is_refused_in_one_line(tmp_path, words, capsys):
    assert launched(tmp_path, shape=f"1x1x1x1,{words}x") == 2
    with pytest.raises(InputError, match=r"BxTxDxH, four positive integers .* got"):
        shape_of(words)
    [line] = capsys.readouterr().err.splitlines()
    assert "BxTxDxH" in line and not list(tmp_path.iterdir())


def test_a_shape_is_read_in_the_order_of_its_letters():
    shape = shape_of("32x100x12x128")
    assert shape == Shape(batch=32, steps=100, dim=12, hidden=128) and str(shape) == "32x100x12x128"
    assert inputs_of(shape, 0).shape == (100, 32, 12)


@pytest.mark.parametrize("flag", ["shape=1x1x1x1,1x1x1x1", "layers=2,2", "lengths=5,5", "depths=1,1"])
def test_the_same_twice_is_refused(tmp_path, flag, capsys):
    name, value = flag.split("=")
    assert launched(tmp_path, **{name: value}) == 2
    assert f"{name}: expected every item once" in capsys.readouterr().err


@pytest.mark.parametrize("cell", PRODUCTS)
@pytest.mark.parametrize("layers", [1, 3])
def test_operations_are_two_an_element_of_every_matrix(cell, layers):
    """Counted from the parameters themselves: each element of a matrix is used once a row and step."""
    work = Work(cell, layers, Shape(5, 7, 3, 4), "infer")
    _, params = _peers.stack_of(work)
    elements = sum(leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == 2)
    assert work.flops == 2 * 5 * 7 * elements
    assert work._replace(mode="train").flops == 3 * work.flops


def test_lengths_are_of_the_batch_and_one_is_the_longest():
    lengths = lengths_of(Shape(50, 9, 1, 1), 0)
    assert lengths.dtype == np.int32 and lengths.max() == lengths[0] == 9 and lengths.min() == 1
    assert not np.array_equal(lengths, lengths_of(Shape(50, 9, 1, 1), 1))


def test_geometric_mean():
    assert geometric_mean([2, 8, 0.5]) == pytest.approx(2.0)


# The peers.


@pytest.mark.slow
@pytest.mark.parametrize("cell", PRODUCTS)
@pytest.mark.parametrize("peer", ["rnnlab", "scan", "linen", "nnx", "haiku", "equinox"])
def test_every_peer_does_the_same_work(peer, cell):
    """Outputs of all steps, and the gradients of their mean by parameters and inputs; of our own sizes."""
    work = Work(cell, 2, Shape(3, 5, 2, 4), "infer")
    xs = inputs_of(work.shape, 0)
    if (peer, cell) == ("equinox", "elman"):
        with pytest.raises(_peers.Absent, match="no such cell"):
            _peers.prepare(peer, work, xs)
        return
    ys = _peers.prepare(peer, work, xs).call()
    loss, (grads, dxs) = _peers.prepare(peer, work._replace(mode="train"), xs).call()
    assert ys.shape == (5, 3, 4) and dxs.shape == xs.shape
    assert {leaf.dtype for leaf in jax.tree.leaves((ys, loss, grads, dxs))} == {np.dtype("float32")}
    np.testing.assert_allclose(loss, ys.mean(), rtol=1e-4, atol=1e-7)
    matrices = sum(leaf.size for leaf in jax.tree.leaves(grads) if leaf.ndim == 2)
    assert 2 * 3 * 5 * matrices == work.flops
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves((dxs, [g for g in jax.tree.leaves(grads)])))


def test_engines_agree_on_full_and_ragged_batches():
    work = Work("gru", 2, Shape(3, 5, 2, 4))
    xs, lengths = inputs_of(work.shape, 0), lengths_of(work.shape, 1)
    for given in (None, lengths):
        ours, scans = (_peers.prepare(peer, work, xs, given).call() for peer in ("rnnlab", "scan"))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, scans)


def test_linen_leaves_nothing_at_padding():
    work = Work("lstm", 1, Shape(4, 6, 2, 4), "infer")
    lengths = np.array([6, 1, 3, 2], np.int32)
    ys = np.asarray(_peers.prepare("linen", work, inputs_of(work.shape, 0), lengths).call())
    padding = np.arange(6)[:, None] >= lengths
    assert np.all(ys[padding] == 0) and np.all(ys[~padding] != 0)


def test_peers_without_lengths_say_so():
    work = Work("gru", 1, Shape(2, 3, 2, 4))
    with pytest.raises(_peers.Absent, match="ragged"):
        _peers.prepare("nnx", work, inputs_of(work.shape, 0), lengths_of(work.shape, 0))


TWO_DEVICES = """
import jax, numpy as np
from experiments import _peers
from experiments._work import Shape, Work, inputs_of
for mode in ("train", "infer"):
    work = Work("lstm", 2, Shape(4, 5, 3, 6), mode)
    xs = inputs_of(work.shape, 0)
    one, all_of_them = (_peers.prepare(peer, work, xs).call() for peer in ("rnnlab", "devices"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), one, all_of_them)
    print(len(jax.tree.leaves(all_of_them)[-1].sharding.device_set))
try:
    _peers.prepare("devices", Work("lstm", 1, Shape(3, 5, 3, 6)), inputs_of(Shape(3, 5, 3, 6), 0))
except _peers.Absent as why:
    print(why)
"""


def test_two_devices_give_the_gradients_of_one():
    environment = os.environ | {"XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=2"}
    answer = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert answer.stdout.splitlines() == ["2", "2", "a batch of 3 cannot be split over 2 devices"], answer.stderr


def test_what_a_new_process_holds_is_its_own():
    """The process that starts it holds more than it ever does."""
    ballast = np.ones(10**8)  # 0.8 GB
    work = Work("lstm", 1, Shape(2, 5, 3, 4))
    found = _memory.in_child(work, "fused", 2, seed=0)
    assert 5e7 < found < 6e8 < ballast.nbytes <= _memory.resident()


# From flags to figure.


@pytest.mark.slow
def test_a_peer_that_is_not_there_is_named(finished):
    states = {(r["peer"], r["cell"]): r["state"] for r in finished.rows() if r["kind"] == "peer"}
    assert states["rnnlab", "lstm"] == states["linen", "elman"] == states["scan", "lstm"] == "measured"
    assert states["torch", "lstm"] == states["torch_single", "lstm"] == states["equinox", "elman"] == "not installed"
    assert states["devices", "elman"] == "JAX has one device"
    text = " ".join((finished.path / "table.txt").read_text().split())
    why = ("rnnlab, all devices: JAX has one device", "equinox: not installed", "torch: not installed")
    assert f"not measured: {'; '.join(why)}." in text


@pytest.mark.slow
def test_every_comparison_has_rows(finished):
    metrics, timings = finished.rows(), finished.rows("timings")
    count = {kind: sum(r["kind"] == kind for r in timings) for kind in {r["kind"] for r in timings}}
    comparisons = 2 * 2 * 2  # cells, shapes, modes
    assert count["speed"] == 3 * comparisons and count["limit"] == 3 + comparisons
    assert count["ragged"] == 2 * 2 * 2 and count["compile"] == 3 and count["taps"] == 2 * 2
    assert count["memory"] == 3 and count["resident"] == 2 and count["seeds"] == 2 * 3
    assert sum(r["kind"] == "work" for r in metrics) == comparisons
    assert all(len(r["seconds"]) == 2 for r in timings if "seconds" in r)
    temporaries = {r["way"]: r["temporaries"] for r in metrics if r["kind"] == "memory"}
    assert temporaries["fused, in chunks"] < temporaries["fused"] < temporaries["scan"]


@pytest.mark.slow
def test_it_leaves_a_table_and_a_figure(finished):
    text = (finished.path / "table.txt").read_text()
    words = ("training, 1 layer", "inference, 1 layer", "geometric mean", "LSTM 3x6x2x4", "Elman 2x5x3x4", "compiling",
             "in chunks of 5", "norms at every step", "2 seeds", "machine:", "versions: jax", "seed 0")  # fmt: skip
    assert [word for word in words if word not in text] == []
    assert max(map(len, text.splitlines())) < 160
    assert (finished.path / "figure.png").stat().st_size > 20_000


@pytest.mark.slow
def test_the_same_seed_gives_the_same_metrics(tmp_path):
    few = dict(section="speed,ragged", cell="lstm", shape="3x6x2x4", peer="linen,torch")
    kept = []
    for folder in ("one", "two"):
        assert launched(tmp_path / folder, **few) == 0
        [path] = (tmp_path / folder).iterdir()
        kept.append((path / "metrics.jsonl").read_bytes())
    assert kept[0] == kept[1]


def test_nothing_compiled_is_taken_from_the_store(tmp_path, monkeypatch):
    seen = []

    def section(config, run):
        return [("look", lambda: seen.append(jax.config.jax_enable_compilation_cache))]

    monkeypatch.setitem(throughput.SECTIONS, "taps", section)
    before = jax.config.jax_enable_compilation_cache
    assert launched(tmp_path, section="taps") == 0
    assert seen == [False] and jax.config.jax_enable_compilation_cache == before


# What is shown, from stored rows alone.


class Stored:
    """A run of known rows: 4 and 16 times our time on JAX, 2 and 0.5 on torch, of which one thread is the faster."""

    def __init__(self):
        self.config = dict(cell=["lstm"], seed=0)
        self.provenance = dict(
            cpu={"model": "a processor", "cores": 2}, device="1 x cpu (cpu)", environment={}, versions={"jax": "1.2"}
        )
        self.metrics = [dict(kind="machine", threads=2, precision="default")]
        self.timings = [dict(kind="limit", flops=1000, seconds=[2.0, 1.0])]
        for shape, haiku, torch in (("1x2x3x4", 4.0, 2.0), ("2x2x3x4", 16.0, 0.5)):
            key = dict(cell="lstm", layers=1, shape=shape, mode="train")
            self.metrics.append(dict(kind="work", **key, flops=500))
            times = dict(rnnlab=1.0, linen=20.0, haiku=haiku, torch=100.0, torch_single=torch, scan=0.1)
            for peer, seconds in times.items():
                self.timings.append(dict(kind="speed", **key, peer=peer, seconds=[seconds] * 3, version=None))

    def rows(self, name="metrics"):
        return getattr(self, name)


def test_the_table_says_what_the_rows_say():
    lines = {line[:22].strip(): line for line in _throughput_table.table(Stored()).splitlines()}
    first, second, mean = (lines[name].split() for name in ("LSTM 1x2x3x4", "LSTM 2x2x3x4", "LSTM geometric mean"))
    assert first[2:] == ["1,000", "haiku", "4,000", "4.00", "4.00-4.00", "2,000", "2.00", "2.00-2.00", "0.50"]
    assert second[3:6] == ["haiku", "16,000", "16.00"] and second[7:9] == ["500", "0.50"]
    assert mean[3:] == ["8.00", "1.00"]


def test_the_fastest_is_a_peer_on_jax():
    one = _throughput_rows.compared(Stored())[0]
    assert one.fastest == "haiku" and one.share(1000.0) == 0.5
    assert one.median("torch") == 2.0 and "torch_single" not in one.seconds
    assert one._replace(seconds={"rnnlab": [1.0], "torch": [1.0], "scan": [0.1]}).fastest is None


def test_bars_are_as_high_as_the_ratios():
    drawn = _throughput_figure.figure(Stored())
    [axis] = [axis for part in drawn.subfigs for axis in part.axes if axis.get_title("left").startswith("LSTM")]
    bars = [bars for bars in axis.containers if isinstance(bars, BarContainer)]
    tops = {one.get_label(): [bar.get_y() + bar.get_height() for bar in one] for one in bars}
    assert tops == {
        "flax linen": [20, 20],
        "haiku": [4, 16],
        "torch": [2, 0.5],
        "rnnlab, plain scan": pytest.approx([0.1, 0.1]),
    }


def test_a_run_without_speed_is_drawn_too(tmp_path):
    assert launched(tmp_path, section="seeds") == 0
    [path] = tmp_path.iterdir()
    assert json.loads((path / "status.json").read_text())["state"] == "done"
    assert "over in turn" in (path / "table.txt").read_text()
