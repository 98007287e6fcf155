"""Archives of arrays: what goes in comes out, whole or not at all, and no pickle is ever opened."""

import os
import pickle
import sys
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import lstm
from rnnlab.interop import archives
from rnnlab.interop.torch import from_torch

ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "transposed": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "scalar": np.array(3, np.int64),
    "file": np.array([True, False]),
    "a/path.npy": np.zeros((0, 2), np.float16),
}
KINDS = [".npz", ".safetensors"]
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_what_goes_in_comes_out(tmp_path, kind):
    path = tmp_path / f"weights{kind}"
    archives.write(path, ARRAYS)
    got = archives.read(str(path))
    assert set(got) == set(ARRAYS)
    for name, one in ARRAYS.items():
        assert (got[name].dtype, got[name].shape) == (one.dtype, one.shape), name
        np.testing.assert_array_equal(got[name], one)
    assert os.listdir(tmp_path) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_numpy_reads_what_is_written_and_the_other_way_round(tmp_path):
    archives.write(tmp_path / "ours.npz", ARRAYS)
    with np.load(tmp_path / "ours.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["transposed"], ARRAYS["transposed"])
    np.savez_compressed(tmp_path / "theirs.npz", x=ARRAYS["weight"], text="three words here")
    got = archives.read(tmp_path / "theirs.npz")
    np.testing.assert_array_equal(got["x"], ARRAYS["weight"])
    assert str(got["text"]) == "three words here"


def test_bfloat16_and_text_go_where_they_can(tmp_path):
    brain = jnp.ones((2, 2), jnp.bfloat16)
    archives.write(tmp_path / "a.safetensors", {"w": brain})
    assert archives.read(tmp_path / "a.safetensors")["w"].dtype == jnp.bfloat16
    archives.write(tmp_path / "a.npz", {"text": np.array("words")})
    for path, arrays, given in [
        ("b.npz", {"w": brain}, "w of a type that .npz can hold, got bfloat16"),
        ("b.npz", {"w": np.array([[1], None], object)}, "w of a type that .npz can hold, got object"),
        ("b.safetensors", {"w": np.array([{}])}, "w of a type that .safetensors can hold, got object"),
        ("b.safetensors", {"w": np.array("words")}, "w of a type that .safetensors can hold, got <U5"),
    ]:
        with pytest.raises(ValueError, match=given):
            archives.write(tmp_path / path, arrays)
        assert not (tmp_path / path).exists()


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_no_pickle_is_opened(tmp_path):
    sprung, trap = tmp_path / "sprung", tmp_path / "trap"
    poison = pickle.dumps(Trap(sprung))
    pickle.loads(poison).close()
    assert sprung.exists(), "the trap does not work"
    sprung.unlink()
    for suffix in (".pt", ".pth", ".bin", ".pkl", ".npy", ""):
        path = trap.with_suffix(suffix)
        path.write_bytes(poison)
        with pytest.raises(ValueError, match=r"expected .npz or .safetensors, got .*; save as .safetensors or .npz$"):
            archives.read(path)
        with pytest.raises(ValueError, match=r"expected .npz or .safetensors"):
            archives.write(path, {})
    for kind in KINDS:
        trap.with_suffix(kind).write_bytes(poison)
        with pytest.raises(ValueError, match=r"; save as .safetensors or .npz$"):
            archives.read(trap.with_suffix(kind))
    np.savez(tmp_path / "objects.npz", x=np.array([Trap(sprung)], object))
    with zipfile.ZipFile(tmp_path / "torch.npz", "w") as archive:
        archive.writestr("archive/data.pkl", poison)
    for name, why in (("objects", "Object arrays cannot be loaded"), ("torch", "archive/data.pkl is no array")):
        with pytest.raises(ValueError, match=f"expected plain arrays, got: {why}"):
            archives.read(tmp_path / f"{name}.npz")
    assert not sprung.exists()


@each_kind
def test_a_broken_file_is_refused_and_a_missing_one_is_missing(tmp_path, kind):
    path = tmp_path / f"weights{kind}"
    with pytest.raises(FileNotFoundError):
        archives.read(path)
    archives.write(path, ARRAYS)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"^{path}: expected "):
        archives.read(path)


@each_kind
def test_a_write_that_fails_leaves_what_was_there(tmp_path, kind, monkeypatch):
    path = tmp_path / f"weights{kind}"
    archives.write(path, {"x": np.zeros(3)})

    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        archives.write(path, ARRAYS)
    assert os.listdir(tmp_path) == [path.name]
    np.testing.assert_array_equal(archives.read(path)["x"], np.zeros(3))


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "safetensors.numpy", raising=False)
    for call in (lambda p: archives.read(p), lambda p: archives.write(p, ARRAYS)):
        with pytest.raises(ImportError, match=r"needs the package safetensors; pip install 'rnnlab\[interop\]'"):
            call(tmp_path / "x.safetensors")


def test_a_state_goes_through_an_archive(tmp_path):
    state = {"weight_ih_l0": np.ones((16, 3), np.float32), "weight_hh_l0": np.ones((16, 4), np.float32)}
    for kind in KINDS:
        archives.write(tmp_path / f"s{kind}", state)
        (params,) = from_torch((lstm(4),), archives.read(tmp_path / f"s{kind}"))
        assert params.W.shape == (3, 16)
