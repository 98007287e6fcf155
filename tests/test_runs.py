"""A run's folder: found again, refused, begun anew, marked; and what is written reads back the same."""

import json
import os
import re
import socket
import stat
import subprocess
import sys
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import claims, provenance, runs
from rnnlab.errors import InputError

ASKED = ("toy", {"steps": 3, "rate": 0.5, "cells": ("gru", "lstm")}, {"text": "abc"})


def begin(path, **options):
    return runs.begin(path, *ASKED, **({"device": "a device"} | options))


def done(path):
    with begin(path) as run:
        run.metrics(step=1, loss=2.5)
        run.arrays("norms", a=np.arange(3.0))
    return path


def tree(path):
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None for p in sorted(path.rglob("*"))}


def set_status(path, **changes):
    file = path / "status.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def a_dead_process():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


# Identity and provenance.


def test_identity_is_of_what_was_asked_for():
    one = runs.identity(*ASKED)
    assert one == "77c2f66235"  # were it to change, no run made before would be found again
    assert one == runs.identity("toy", {"cells": ["gru", "lstm"], "rate": 0.5, "steps": 3}, {"text": "abc"})
    assert len({
        one,
        runs.identity("boy", *ASKED[1:]),
        runs.identity("toy", ASKED[1] | {"steps": 4}, ASKED[2]),
        runs.identity("toy", ASKED[1], {"text": "abd"}),
        runs.identity("toy", ASKED[1], {"test": "abc"}),
    }) == 5  # fmt: skip


def test_identity_refuses_what_json_has_no_word_for():
    with pytest.raises(ValueError, match="Out of range"):
        runs.identity("toy", {"rate": float("nan")}, {})


def test_provenance(tmp_path):
    sources = tmp_path / "experiments"
    sources.mkdir()
    (sources / "toy.py").write_text("1")
    with begin(tmp_path / "run", seed=7, command="python launch.py toy", sources=(sources,)) as run:
        assert not run.code_changed(sources)
        (sources / "toy.py").write_text("2")
        assert run.code_changed(sources)
    found = runs.Run(tmp_path / "run").provenance
    names = "git code versions environment device cpu seed data command began"
    assert sorted(found) == sorted(names.split())
    assert found["device"] == "a device" and found["seed"] == 7 and found["command"] == "python launch.py toy"
    assert found["data"] == {"text": "abc"} and len(found["code"]) == 64
    assert set(found["versions"]) == {"python", "rnnlab", "jax", "jaxlib", "flax", "optax", "numpy"}
    assert found["versions"]["numpy"] == np.__version__ and found["cpu"]["cores"] == os.cpu_count()


def test_code_is_names_and_contents(tmp_path):
    codes = set()
    for name, text in (("a.py", "1"), ("a.py", "2"), ("b.py", "2"), ("b.txt", "2")):
        folder = tmp_path / str(len(codes)) / "experiments"
        folder.mkdir(parents=True)
        (folder / name).write_text(text)
        codes.add(provenance.code(folder))
    assert len(codes) == 4 and provenance.code() in codes and provenance.code() == provenance.code()


def test_commit_and_whether_it_is_dirty(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]

    def git(*arguments):
        return subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True, text=True).stdout

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert provenance.commit(package) is None
    git("init")
    assert provenance.commit(package) is None
    git("add", ".")
    assert provenance.commit(package) is None
    git(*identity, "commit", "--no-verify", "-m", "one")
    head = git("rev-parse", "HEAD").strip()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert provenance.commit(package) == {"commit": head, "dirty": False}
    (package / "__init__.py").write_text("1")
    assert provenance.commit(package) == {"commit": head, "dirty": True}
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "__init__.py").write_text("")
    assert provenance.commit(installed) is None
    monkeypatch.setenv("PATH", "")
    assert provenance.commit(package) is None


# What is written.


def test_rows_read_back(tmp_path):
    row = {
        "i": 3, "f": 0.1, "s": "a\nü", "b": True, "n": None, "list": [1, (2.5, "x")],
        "numpy": np.float32(0.1), "count": np.int64(4), "flag": np.bool_(True), "jax": jnp.float32(0.5),
        "bfloat16": jnp.bfloat16(1.5), "inf": float("inf"), "minus": np.float64("-inf"),
    }  # fmt: skip
    with begin(tmp_path / "run") as run:
        run.metrics(**row, nan=float("nan"))
        run.metrics(step=2)
        run.timing(seconds=1.5)
    run = runs.Run(tmp_path / "run")
    first, second = run.rows()
    assert np.isnan(first.pop("nan")) and second == {"step": 2} and run.rows("timings") == [{"seconds": 1.5}]
    assert first == row | {"list": [1, [2.5, "x"]], "numpy": float(np.float32(0.1))}
    assert type(first["count"]) is int and type(first["flag"]) is bool and type(first["jax"]) is float
    text = (tmp_path / "run" / "metrics.jsonl").read_text()

    def refuse(word):
        raise AssertionError(word)

    assert json.loads(text.splitlines()[0], parse_constant=refuse)["minus"] == "-Infinity"


def test_equal_results_are_equal_bytes(tmp_path, monkeypatch):
    values = np.random.default_rng(0).normal(size=(4, 5))
    for name, clock in (("a", 1e9), ("b", 1.7e9)):
        monkeypatch.setattr("time.time", lambda clock=clock: clock)
        with begin(tmp_path / name) as run:
            order = (
                {"x": values, "y": 2 * values}
                if name == "a"
                else {"y": jnp.asarray(2 * values), "x": values.T.copy().T}
            )
            run.arrays("norms", **order)
            run.metrics(**({"z": 1, "a": 0.1} if name == "a" else {"a": np.float64(0.1), "z": np.int32(1)}))
    for file in ("metrics.jsonl", "arrays/norms.npz", "config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert (tmp_path / "a" / "metrics.jsonl").read_text() == '{"a":0.1,"z":1}\n'


def test_arrays_read_back(tmp_path):
    saved = {
        "file": np.array(np.pi), "empty": np.zeros((0, 3), np.int8), "nan": np.array([np.nan, -np.inf], np.float32),
        "complex": np.array([1 + 2j]), "text": np.array(["a", "bc"]), "fortran": np.asfortranarray(np.eye(2, 3)),
    }  # fmt: skip
    with begin(tmp_path / "run") as run:
        run.arrays("gru_seed0", **saved)
    found = runs.Run(tmp_path / "run").load("gru_seed0")
    assert set(found) == set(saved)
    for key, value in saved.items():
        assert found[key].dtype == value.dtype and found[key].shape == value.shape
        np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (lambda run: run.metrics(loss=np.zeros(2)), TypeError, "loss: expected a number.*given ndarray.*arrays"),
        (lambda run: run.metrics(loss=1j), TypeError, "given complex"),
        (lambda run: run.metrics(loss={}), TypeError, "given dict"),
        (lambda run: run.metrics(loss="NaN"), ValueError, "loss: the string 'NaN'"),
        (lambda run: run.arrays("a", x=np.array([None])), TypeError, "array x of a: .*given object"),
        (lambda run: run.arrays("a", x=jnp.ones(2, jnp.bfloat16)), TypeError, "given bfloat16"),
        (lambda run: run.arrays("../a", x=np.ones(2)), ValueError, "name of arrays"),
    ],
)
def test_what_cannot_be_read_back_is_not_written(tmp_path, write, error, message):
    with begin(tmp_path / "run") as run:
        before = tree(run.path)
        with pytest.raises(error, match=message):
            write(run)
        assert tree(run.path) == before


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    run = runs.Run(done(tmp_path / "run"))
    with run.replacing("table.txt") as temporary:
        temporary.write_text("old")
    with pytest.raises(KeyboardInterrupt), run.replacing("table.txt") as temporary:
        temporary.write_text("ne")
        raise KeyboardInterrupt
    assert (run.path / "table.txt").read_text() == "old" and not list(run.path.glob(".*"))


def test_a_run_that_is_read_is_not_written(tmp_path):
    path = done(tmp_path / "run")
    with begin(path, force=True) as forced:
        forced.metrics(step=1)
    for run in (runs.Run(path), forced):
        for write in (lambda run=run: run.metrics(a=1), lambda run=run: run.arrays("a", b=1), run.__enter__):
            with pytest.raises(RuntimeError, match="opened for reading"):
                write()


def test_config_as_json_gives_it_back(tmp_path):
    with begin(tmp_path / "run") as run:
        assert run.config == {"steps": 3, "rate": 0.5, "cells": ["gru", "lstm"]} == runs.Run(run.path).config
        assert list(run.config) == ["steps", "rate", "cells"]
        assert (run.experiment, run.data) == ("toy", {"text": "abc"})


@pytest.mark.parametrize(
    ("damage", "read", "message"),
    [
        (
            lambda p: (p / "metrics.jsonl").write_text('{"a":1}\n{"b":'),
            lambda r: r.rows(),
            "metrics.jsonl, line 2: .*b",
        ),
        (lambda p: (p / "metrics.jsonl").write_text("3\n"), lambda r: r.rows(), "line 1: expected a JSON object"),
        (lambda p: (p / "arrays/norms.npz").write_text("x"), lambda r: r.load("norms"), "norms.npz: expected saved"),
        (lambda p: None, lambda r: r.load("other"), "other.npz: expected saved arrays"),
        (lambda p: (p / "status.json").write_text("{"), lambda r: r.status, "status.json: expected a JSON object"),
        (lambda p: (p / "status.json").write_text("{}"), lambda r: r.status, "status.json: expected the state"),
        (lambda p: set_status(p, state="over"), lambda r: r.status, "status.json: expected the state .*over"),
        (lambda p: set_status(p, state="over"), lambda r: runs.find(r.path, *ASKED), "status.json: expected the state"),
    ],
)
def test_damage_is_named(tmp_path, damage, read, message):
    path = done(tmp_path / "run")
    damage(path)
    with pytest.raises(InputError, match=message):
        read(runs.Run(path))


# Finding, beginning, marking.


def test_new_then_done(tmp_path):
    path = tmp_path / "deep" / "run"
    assert runs.find(path, *ASKED) is None and not path.parent.exists()
    with begin(path) as run:
        status = run.status
        assert (status["state"], status["pid"], status["host"]) == ("running", os.getpid(), socket.gethostname())
        assert status["ended"] is None
    status = runs.find(path, *ASKED)
    assert status["state"] == "done" and status["reason"] is None and status["began"] <= status["ended"]
    with pytest.raises(InputError, match=r"is done since .*--force"):
        begin(path)


def test_an_empty_folder_will_do(tmp_path):
    (tmp_path / ".config.json.tmp").write_text("{")  # killed while it began
    assert runs.find(tmp_path, *ASKED) is None
    assert done(tmp_path) and runs.find(tmp_path, *ASKED)["state"] == "done"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("bad\n  luck"), "ValueError: bad luck"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), r"interrupted at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 after 2 rows"),
    ],
)
def test_incomplete_says_why_and_is_begun_anew(tmp_path, error, reason):
    path = tmp_path / "run"
    with pytest.raises(type(error)), begin(path) as run:
        run.metrics(a=1)
        run.metrics(a=2)
        run.timing(a=2)
        run.arrays("x", y=1)
        (path / "notes.txt").write_text("mine")
        raise error
    status = runs.find(path, *ASKED)
    assert status["state"] == "incomplete"

    assert re.fullmatch(reason, status["reason"])
    with begin(path) as run:
        assert run.rows() == run.rows("timings") == [] and run.status["state"] == "running"
        assert not list(path.glob("arrays/*")) and (path / "notes.txt").read_text() == "mine"


def test_forced_anew(tmp_path):
    path = done(tmp_path / "run")
    with begin(path, force=True) as run:
        assert run.rows() == [] and run.status["state"] == "running"
    assert runs.Run(path).rows() == []


def test_a_dead_run_is_incomplete(tmp_path):
    path = done(tmp_path / "run")
    pid = a_dead_process()
    set_status(path, state="running", pid=pid)
    assert runs.find(path, *ASKED)["reason"] == f"process {pid} on {socket.gethostname()} ended without a word"
    (path / "status.json").unlink()
    assert runs.find(path, *ASKED) == {"state": "incomplete", "reason": "killed while it began"}


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="only Linux tells when a process began")
def test_another_process_with_the_number_of_a_dead_one(tmp_path):
    path = done(tmp_path / "run")
    set_status(path, state="running", pid=os.getpid(), started="12")
    assert runs.find(path, *ASKED)["state"] == "incomplete"


@pytest.mark.parametrize("force", [False, True])
def test_a_live_run_is_left_alone(tmp_path, force):
    with begin(tmp_path / "run") as run:
        run.metrics(a=1)
        before = tree(run.path)
        for look in (runs.find, lambda *a, **o: runs.begin(*a, device="d", **o)):
            with pytest.raises(InputError, match=rf"being written by process {os.getpid()} since 2.*stop it"):
                look(run.path, *ASKED, force=force)
        assert tree(run.path) == before


def test_a_run_on_another_host_needs_a_word(tmp_path):
    path = done(tmp_path / "run")
    (path / "parts.json").write_text("{}")
    set_status(path, state="running", host="elsewhere", pid=a_dead_process())
    with pytest.raises(InputError, match=r"on elsewhere since .*--taken_over goes on .*--force"):
        begin(path, resume=True)
    with begin(path, resume=True, taken_over=True) as run:
        assert run.resumed and run.rows() == [{"step": 1, "loss": 2.5}]
    set_status(path, state="running", host="elsewhere", pid=a_dead_process())
    with begin(path, force=True) as run:
        assert not run.resumed and run.rows() == []


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="only Linux tells what state a process is in")
def test_a_process_that_ended_is_dead_whether_or_not_its_parent_asks(tmp_path):
    path = done(tmp_path / "run")
    with subprocess.Popen([sys.executable, "-c", "print()"], stdout=subprocess.PIPE) as process:
        started = claims.started(process.pid)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        set_status(path, state="running", pid=process.pid, started=started)
        assert claims.started(process.pid) == started  # a zombie, still in the table
        assert runs.find(path, *ASKED)["state"] == "incomplete"


@pytest.mark.parametrize("name", ["checkpoints", "series", "tensorboard"])
def test_a_file_in_the_place_of_a_folder_is_refused_and_nothing_is_lost(tmp_path, name):
    path = done(tmp_path / "run")
    set_status(path, state="incomplete")
    (path / name).write_text("mine")
    before = tree(path)
    for resume in (False, True):
        with pytest.raises(InputError, match=rf"{name}: expected a folder, given a file"):
            begin(path, resume=resume)
    assert tree(path) == before


def test_two_at_once(tmp_path):
    path = done(tmp_path / "run")
    with claims.locked(path), pytest.raises(InputError, match="is being opened by another process"):
        begin(path, force=True)
    with begin(path, force=True):
        pass


def test_claimed_between_the_look_and_the_lock(tmp_path, monkeypatch):
    path, looks, find = tmp_path / "run", [], runs.find

    def look(*asked, **options):
        looks.append(found := find(*asked, **options))
        if len(looks) == 1:
            monkeypatch.setattr(runs, "find", find)
            done(path)
        return found

    monkeypatch.setattr(runs, "find", look)
    with pytest.raises(InputError, match="is done since"):
        begin(path)
    assert runs.Run(path).rows() == [{"step": 1, "loss": 2.5}]


# Resuming.


class Killed(Exception):
    pass


def interrupted(path, *, leave="checkpoints"):
    """A run of two rows and records, of which the first was saved, and the mark of that."""
    with pytest.raises(Killed), begin(path) as run:
        if leave == "checkpoints":
            (path / "checkpoints" / "1").mkdir(parents=True)
        for step in (1, 2):
            run.metrics(step=step)
            run.timing(seconds=step)
            run.record("norms", np.full((2, 3), step, np.float32))
            mark = mark if step == 2 else json.loads(json.dumps(run.mark()))
        raise Killed
    return mark


def test_resumed_rows_and_records_are_those_of_a_whole_run(tmp_path):
    mark = interrupted(tmp_path / "a")
    with begin(tmp_path / "a", resume=True) as run:
        assert run.resumed and run.status["state"] == "running" and len(run.rows()) == 2
        run.metrics(begun="once more")  # before the checkpoint is restored
        run.cut(mark)
        assert run.rows() == [{"step": 1}] and run.rows("timings") == [{"seconds": 1}]
        run.metrics(step=2)
        run.record("norms", np.full((2, 3), 2, np.float32))
    interrupted(tmp_path / "b")
    for name in ("metrics.jsonl", "series/norms.bin"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    resumed = runs.Run(tmp_path / "a")
    assert resumed.status["began"] <= resumed.status["ended"] and len(resumed.provenance["resumed"]) == 1
    assert resumed.provenance["resumed"][0]["code"] == resumed.provenance["code"]


@pytest.mark.parametrize(("options", "leave"), [({}, "checkpoints"), ({"resume": True}, ""), ({"force": True}, "")])
def test_begun_anew_nothing_is_left(tmp_path, options, leave):
    path = tmp_path / "run"
    interrupted(path, leave=leave)
    with begin(path, **options) as run:
        assert not run.resumed and run.rows() == [] and run.mark() == {}
        assert not any((path / name).exists() for name in ("checkpoints", "series", "tensorboard"))


def test_a_done_run_forced_is_not_resumed(tmp_path):
    path = done(tmp_path / "run")
    (path / "checkpoints" / "1").mkdir(parents=True)
    with begin(path, force=True, resume=True) as run:
        assert not run.resumed and run.rows() == [] and not (path / "checkpoints").exists()


def test_without_a_mark_what_this_process_wrote_is_kept(tmp_path):
    interrupted(tmp_path / "run")
    with begin(tmp_path / "run", resume=True) as run:
        run.metrics(kind="data")
        run.record("norms", np.full((2, 3), 9, np.float32))
        run.cut()
        run.cut()
        assert run.rows() == [{"kind": "data"}] and run.rows("timings") == []
        assert run.series("norms").tolist() == np.full((1, 2, 3), 9).tolist()


def test_rows_that_are_missing_are_named(tmp_path):
    mark = interrupted(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    with begin(tmp_path / "run", resume=True) as run:
        before = tree(run.path)
        message = rf"metrics.jsonl: expected {mark['metrics.jsonl']} bytes at least, given 0"
        with pytest.raises(InputError, match=message):
            run.cut(mark)
        assert tree(run.path) == before


def in_parts(path, stop_in=None, after=0, resume=False):
    """Three parts of two rows; stops in one of them, after some of its rows. Returns the parts that were run."""
    ran = []
    with begin(path, resume=resume) as run:
        for part in ("a", "b", "c"):
            if run.has(part):
                continue
            with run.part(part):
                ran.append(part)
                for row in range(2):
                    if (part, row) == (stop_in, after):
                        raise Killed
                    run.metrics(part=part, row=row)
                    run.record(part, np.float64(row))
    return ran


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("part", ["b", "c"])
def test_parts_that_are_done_are_not_done_again(tmp_path, part, after):
    in_parts(tmp_path / "whole")
    with pytest.raises(Killed):
        in_parts(tmp_path / "run", part, after)
    assert in_parts(tmp_path / "run", resume=True) == ["a", "b", "c"]["abc".index(part) :]
    for name in ("metrics.jsonl", "series/a.bin", "series/c.bin"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_a_part_with_checkpoints_is_cut_by_what_restores_them(tmp_path):
    with pytest.raises(Killed):
        in_parts(tmp_path / "run", "b", 1)
    (tmp_path / "run" / "checkpoints" / "b").mkdir(parents=True)
    with begin(tmp_path / "run", resume=True) as run, run.part("b"):
        assert run.rows()[-1] == {"part": "b", "row": 0}
        run.cut()
        assert run.rows()[-1] == {"part": "a", "row": 1}


# Series.


def test_records_read_back(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    values[1, 0] = -np.inf, np.nan, 0
    with begin(tmp_path / "run") as run:
        for value in values:
            run.record("norms", value)
            run.record("loss", jnp.float32(value[0, 0]))
    read = runs.Run(tmp_path / "run")
    np.testing.assert_array_equal(read.series("norms"), values)
    assert read.series("norms").dtype == np.float32 and read.series("loss").shape == (5,)
    file = tmp_path / "run" / "series" / "norms.bin"
    with open(file, "ab") as torn:
        torn.write(b"half")  # killed within a record
    np.testing.assert_array_equal(read.series("norms"), values)
    os.truncate(file, file.stat().st_size - values.nbytes - 4)
    assert read.series("norms").shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.zeros((2, 4), np.float32), ValueError, r"series norms: expected records of .*\(2, 3\).*given .*\(2, 4\)"),
        (np.zeros((2, 3)), ValueError, "series norms: expected records of .*<f4.*given .*<f8"),
        (np.zeros((2, 3), int), TypeError, "series norms: expected one of <f4, <f8, given int64"),
        (jnp.zeros((2, 3), jnp.bfloat16), TypeError, "given bfloat16"),
    ],
)
def test_another_record_is_not_written(tmp_path, value, error, message):
    with begin(tmp_path / "run") as run:
        run.record("norms", np.zeros((2, 3), np.float32))
        before = tree(run.path)
        with pytest.raises(error, match=message):
            run.record("norms", value)
        with pytest.raises(ValueError, match="name of a series"):
            run.record("../norms", value)
        assert tree(run.path) == before


def test_a_series_that_is_damaged_or_missing(tmp_path):
    with begin(tmp_path / "run") as run:
        run.record("norms", np.zeros((2, 3), np.float32))
    (tmp_path / "run" / "series" / "norms.bin").write_bytes(b"\x00\xff" * 100)
    for name, message in (("norms", "norms.bin: expected a series of records"), ("other", "No such file")):
        with pytest.raises(InputError, match=message):
            runs.Run(tmp_path / "run").series(name)


def test_an_error_says_more_than_a_status_that_cannot_be_read(tmp_path):
    with pytest.raises(Killed), begin(tmp_path / "run") as run:
        (run.path / "status.json").write_text("{")
        raise Killed


def draw(run):
    with run.replacing("table.txt") as temporary:
        temporary.write_text("a table")


def test_what_the_disk_refuses_is_the_users(tmp_path):
    with pytest.raises(InputError, match="Not a directory"), begin(tmp_path / "run") as run:
        (tmp_path / "run").rename(tmp_path / "moved")
        (tmp_path / "run").write_text("a file now")
        for write in (
            lambda: run.metrics(a=1),
            lambda: run.timing(a=1),
            lambda: run.arrays("a", b=1),
            lambda: run.record("a", np.zeros(2)),
            lambda: draw(run),
        ):
            with pytest.raises(InputError, match=r"run.*: Not a directory"):
                write()
    assert (tmp_path / "run").read_text() == "a file now"


# Refusals; in none of them is anything written.


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("boy", *ASKED[1:]), 'expected experiment "toy", given "boy"'),
        (("toy", ASKED[1] | {"cells": ("gru",), "rate": 0.1}, ASKED[2]), "expected config.rate 0.5, given 0.1"),
        (("toy", ASKED[1] | {"rate": 1}, {}), "expected config.rate 0.5, given 1;"),
        (("toy", ASKED[1] | {"more": 1}, ASKED[2]), "expected config.more absent, given 1"),
        (("toy", {"rate": 0.5, "cells": ("gru", "lstm")}, ASKED[2]), "expected config.steps 3, given absent"),
        (("toy", ASKED[1], {"text": "abd"}), 'expected data.text "abc", given "abd"'),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_another_configuration(tmp_path, asked, message, force):
    path = done(tmp_path / "run")
    before = tree(path)
    with pytest.raises(InputError, match=f"run holds another run: {message}"):
        runs.begin(path, *asked, device="d", force=force)
    assert tree(path) == before


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": "mine"}, "is not the folder of a run .it holds no config.json"),
        ({"config.json": "{"}, "config.json: expected a JSON object"),
        ({"config.json": "[]"}, "config.json: expected a JSON object"),
        ({"config.json": "{}"}, "is not the folder of a run .config.json: expected experiment, config and data"),
        ({"config.json": '{"experiment": "toy", "config": [], "data": {}}'}, "is not the folder of a run"),
    ],
)
def test_a_folder_of_something_else(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    before = tree(tmp_path)
    for force in (False, True):
        with pytest.raises(InputError, match=message):
            begin(tmp_path, force=force)
    with pytest.raises(InputError, match=message):
        runs.Run(tmp_path)
    assert tree(tmp_path) == before


def test_a_file_in_the_way(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for path in (file, file / "run", tmp_path / "broken"):
        with pytest.raises(InputError, match=r"no run can be written to .*(file|broken) is no folder"):
            begin(path)
    assert file.read_text() == "mine" and not (tmp_path / "nowhere").exists()


def test_no_permission_seen_beforehand(tmp_path, monkeypatch):
    # Root may write anywhere, so the answer itself is put in.
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) != str(tmp_path))
    with pytest.raises(InputError, match=rf"no permission to write to {tmp_path}$"):
        begin(tmp_path / "a" / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(InputError, match="no permission to write"):
            begin(tmp_path / "run")
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_refused_by_the_operating_system(tmp_path):
    with pytest.raises(InputError, match="File name too long"):
        begin(tmp_path / ("x" * 300))
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_read(tmp_path):
    with pytest.raises(InputError, match="none is no folder; expected the folder of a run"):
        runs.Run(tmp_path / "none")


def test_the_archive_is_plain_npz(tmp_path):
    path = done(tmp_path / "run")
    with zipfile.ZipFile(path / "arrays" / "norms.npz") as archive:
        assert archive.namelist() == ["a.npy"] and archive.testzip() is None


def test_no_jax():
    subprocess.run([sys.executable, "-c", "import sys, rnnlab.runs; sys.exit('jax' in sys.modules)"], check=True)
