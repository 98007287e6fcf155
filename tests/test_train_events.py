"""Rows reach TensorBoard's files, which are read back here record by record, as its protocol has them."""

import ast
import inspect
import struct

import numpy as np
import pytest
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event

from rnnlab import runs
from rnnlab.errors import InputError
from rnnlab.train import events
from rnnlab.train.events import Events


def begun(path, **options):
    return runs.begin(path, "toy", {}, {}, device="d", **options)


def read(folder):
    """Every event of the files in the order of their names; each record's checksums are right."""
    found = []
    for file in sorted(folder.iterdir()):
        content, place = file.read_bytes(), 0
        while place < len(content):
            (size,), header = struct.unpack_from("Q", content, place), content[place : place + 8]
            data = content[place + 12 : place + 12 + size]
            for part, at in ((header, place + 8), (data, place + 12 + size)):
                value = crc32c(part)
                masked = (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF
                assert struct.unpack_from("I", content, at) == (masked,)
            found.append(Event.FromString(data))
            place += 16 + size
    return found


def scalars(found):
    """What TensorBoard shows: a start takes away the earlier events from its step on."""
    shown = []
    for event in found:
        if event.HasField("session_log"):
            shown = [one for one in shown if one[0] < event.step]
        shown += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return shown


def test_rows_are_scalars(tmp_path):
    losses = np.random.default_rng(0).normal(size=4).astype(np.float32)
    with begun(tmp_path / "run") as run, Events(run) as writer:
        for step, loss in enumerate(losses, 1):
            writer.row("train", step, loss=loss, cell="gru", clipped=True, norms=[1.0, 2.0])
        writer.row("validation", 4, loss=0.5, accuracy=float("inf"))
    rows = run.rows()
    assert rows[0] == {
        "kind": "train", "step": 1, "loss": float(losses[0]), "cell": "gru", "clipped": True, "norms": [1.0, 2.0],
    }  # fmt: skip
    found = read(run.path / "tensorboard")
    assert found[0].file_version == "brain.Event:2"
    train = [(step, name, value) for step, loss in enumerate(losses, 1)
             for name, value in (("train/loss", loss), ("train/clipped", 1.0))]  # fmt: skip
    assert scalars(found) == [*train, (4, "validation/loss", 0.5), (4, "validation/accuracy", np.inf)]


def test_after_a_resumption_later_events_are_superseded(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(ZeroDivisionError), begun(path) as run, Events(run, "gru") as writer:
        (path / "checkpoints" / "1").mkdir(parents=True)
        for step in range(1, 6):
            writer.row("train", step, loss=step)
            mark = writer.mark() if step == 3 else mark if step > 3 else None
        raise ZeroDivisionError
    with begun(path, resume=True) as run, Events(run, "gru") as writer:
        writer.cut(mark)
        for step in range(4, 7):
            writer.row("train", step, loss=10 * step)
        assert writer.mark()["step"] == 6
    assert [row["loss"] for row in run.rows()] == [1, 2, 3, 40, 50, 60]
    assert len(list((path / "tensorboard" / "gru").iterdir())) == 2
    assert [value for _, _, value in scalars(read(path / "tensorboard" / "gru"))] == [1, 2, 3, 40, 50, 60]


def test_begun_again_before_anything_was_saved(tmp_path):
    with begun(tmp_path / "run") as run:
        for loss in (1.0, 2.0):
            with Events(run) as writer:
                writer.cut()
                writer.row("train", 1, loss=loss)
    assert scalars(read(run.path / "tensorboard")) == [(1, "train/loss", 2.0)]


def test_what_the_disk_refuses_is_the_users(tmp_path):
    with begun(tmp_path / "run") as run:
        (run.path / "tensorboard").write_text("mine")
        writer = Events(run)
        with pytest.raises(InputError, match=r"tensorboard.*: (File exists|Not a directory)"):
            writer.row("train", 1, loss=1.0)


def test_it_imports_no_jax_itself():
    """Of its package's that is another matter."""
    nodes = ast.walk(ast.parse(inspect.getsource(events)))
    modules = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    assert len(modules) > 4 and not any(module.split(".")[0] in ("jax", "tensorflow") for module in modules)
