"""From a command line to a run's folder, with a toy experiment in a package of its own."""

import dataclasses
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import matplotlib.figure  # finds its own cache before a test hides it
import pytest

from rnnlab import cli, runs

TOY = '''"""Does the toy play?

More of it: \\xfc.
"""

import dataclasses
import os
import signal
import sys
import time
from types import SimpleNamespace

from matplotlib.figure import Figure

from rnnlab import cli
from rnnlab.errors import InputError
from rnnlab.progress import track


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = cli.flag(3, "steps to take", low=1, high=1000)
    offset: int = cli.flag(0, "where to begin", low=-5)
    rate: float = cli.flag(1, "size of a step", low=0.0)
    cells: tuple[str, ...] = cli.flag(("gru", "lstm"), "who plays", choices=("elman", "gru", "lstm"))
    sizes: tuple[int, ...] = cli.flag((), "how large they are", low=1)
    mode: str = cli.flag("play", "what happens", choices=("play", "fail", "refuse", "stop", "swallow", "wait", "draw"))
    text: str = cli.flag("", "a file")
    fast: bool = cli.flag(False, "whether to run")
    seed: int = cli.flag(0, "the seed", low=0)


PRESETS = {"long": {"steps": 9, "sizes": (4, 5)}, "short": {"steps": 2}}


def inputs(config):
    if config.offset >= config.steps:
        raise InputError(f"offset: expected less than steps = {config.steps},\\n got {config.offset}")
    return SimpleNamespace(hashes={"text": "abc"})


def run(config, inputs, run):
    for step in track(range(config.steps), config.steps, "toy"):
        run.metrics(step=step, loss=config.rate / (step + 1))
    run.timing(seconds=time.perf_counter())
    run.arrays("final", steps=range(config.steps))
    if config.mode == "fail":
        raise ZeroDivisionError("no\\nluck")
    if config.mode == "refuse":
        raise InputError("rate: expected one that converges")
    if config.mode == "stop":
        os.kill(os.getpid(), signal.SIGTERM if config.fast else signal.SIGINT)
        time.sleep(5)
    if config.mode == "swallow":
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise RuntimeError("as a compiled program does") from None
    if config.mode == "wait":
        print("waiting", flush=True)
        time.sleep(60)


def figure(run):
    if run.config["mode"] == "draw":
        raise KeyboardInterrupt
    made = Figure(figsize=(3, 2))
    made.subplots().plot([row["loss"] for row in run.rows()])
    return made


def table(run):
    return "\\n".join(f"step {row['step']}  loss {row['loss']}" for row in run.rows())


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
'''
TABLE = "step 0  loss 1.0\nstep 1  loss 0.5\nstep 2  loss 0.3333333333333333\n"
MARK = "raise RuntimeError('imported')"


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """The package, in a folder that is the working directory; JAX's settings as they were, afterwards."""
    package = tmp_path / "toys"
    package.mkdir()
    (package / "__init__.py").write_text('"""Toys."""\n')
    (package / "toy.py").write_text(TOY)
    (package / "_hidden.py").write_text(MARK)
    (package / "silent.py").write_text(MARK)
    (package / "torn.py").write_text("def f(:")
    (package / "zoo_of_cells.py").write_text(f'"""Which cell?\n\nRest."""\n{MARK}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    settings = [name for name in jax.config.values if "compilation_cache" in name or "persistent_cache" in name]
    before = {name: jax.config.values[name] for name in settings}
    yield importlib.import_module("toys")
    for name, value in before.items():
        jax.config.update(name, value)
    for name in [name for name in sys.modules if name.split(".")[0] == "toys"]:
        del sys.modules[name]


@pytest.fixture
def launch(toys, capsys):
    """launch(*argv) -> status, standard output, standard error; without the compilation cache."""

    def launch(*argv, off=True):
        extra = ["--nocompilation_cache"] if off else []
        status = cli.launch([*argv, *extra], toys, "toy")
        return status, *capsys.readouterr()

    return launch


def folders():
    return sorted(Path("runs").iterdir()) if Path("runs").exists() else []


def the_run():
    (folder,) = folders()
    return runs.Run(folder)


# A run from flags to figure.


def test_a_run(launch):
    status, out, err = launch("toy", "--seed=4", "--fast", "--sizes=3,4", "--cells", "lstm")
    run = the_run()
    assert status == 0 and err == f"{run.path}: begun\n"
    assert out == f"{TABLE}\nrun:    {run.path}\nfigure: {run.path}/figure.png\n"
    assert re.fullmatch(r"runs/toy-[0-9a-f]{10}", str(run.path))
    names = "arrays config.json figure.pdf figure.png metrics.jsonl provenance.json status.json table.txt timings.jsonl"
    assert sorted(os.listdir(run.path)) == names.split()
    assert (run.path / "table.txt").read_text() == TABLE and run.status["state"] == "done"
    assert run.config == {
        "steps": 3, "offset": 0, "rate": 1.0, "cells": ["lstm"], "sizes": [3, 4], "mode": "play", "text": "",
        "fast": True, "seed": 4,
    }  # fmt: skip
    assert type(run.config["rate"]) is float and run.data == {"text": "abc"}
    provenance = run.provenance
    command = "python launch.py toy --seed=4 --fast --sizes=3,4 --cells lstm --nocompilation_cache"
    assert provenance["command"] == command and provenance["seed"] == 4
    assert (
        provenance["device"] == f"{len(jax.devices())} x {jax.devices()[0].device_kind} ({jax.devices()[0].platform})"
    )
    assert not run.code_changed("toys")
    png = (run.path / "figure.png").read_bytes()
    assert png[16:24] == (600).to_bytes(4, "big") + (400).to_bytes(4, "big")  # 3 x 2 inches at 200 dpi
    assert (run.path / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert not (jax.config.jax_compilation_cache_dir or "").endswith("rnnlab")


def test_the_same_run_is_the_same_bytes(launch):
    for root in ("a", "b"):
        assert launch("toy", f"--runs={root}")[0] == 0
    (a,), (b,) = Path("a").iterdir(), Path("b").iterdir()
    assert a.name == b.name
    for name in ("config.json", "metrics.jsonl", "arrays/final.npz", "figure.png", "figure.pdf", "table.txt"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def test_the_default_experiment(launch):
    assert launch()[0] == launch("--seed=1")[0] == launch("toy", "--seed=1")[0] == 0
    assert len(folders()) == 2
    assert {runs.Run(folder).provenance["command"] for folder in folders()} == {
        "python launch.py toy --nocompilation_cache",
        "python launch.py toy --seed=1 --nocompilation_cache",
    }


def test_done_is_shown(launch, toys):
    _, first, _ = launch()
    run = the_run()
    before, ended = (run.path / "metrics.jsonl").stat().st_mtime_ns, run.status["ended"]
    status, out, err = launch()
    assert (status, out) == (0, first) and err == f"{run.path}: done since {ended}; --force runs it again\n"
    Path(toys.__path__[0], "another.py").write_text("")
    (run.path / "figure.png").unlink()
    status, out, err = launch()
    assert (status, out) == (0, first) and (run.path / "figure.png").exists()
    assert err.splitlines()[1:] == [f"{run.path}: the code has changed since; what follows is from before"]
    assert (run.path / "metrics.jsonl").stat().st_mtime_ns == before
    status, out, err = launch("--force")
    assert (status, out, err) == (0, first, f"{run.path}: begun anew (it was done)\n")
    assert not run.code_changed("toys") and len(run.rows()) == 3


def test_an_experiment_that_resumes(launch, toys):
    """What it wrote stays where there are checkpoints, and --force begins anew."""
    saved = '(run.path / "checkpoints" / "1").mkdir(parents=True, exist_ok=True)\n    if config.mode == "fail"'
    source = TOY.replace('if config.mode == "fail"', saved).replace("import os\n", "import os\nRESUMES = True\n")
    Path(toys.__path__[0], "toy.py").write_text(source)
    assert launch("--mode=fail")[0] == 1
    run = the_run()
    status, _, err = launch("--mode=fail")
    assert status == 1 and err.splitlines()[0] == f"{run.path}: resumed (ZeroDivisionError: no luck)"
    assert len(run.rows()) == 6  # this toy cuts nothing off
    Path(toys.__path__[0], "another.py").write_text("")
    status, _, err = launch("--mode=fail")
    assert err.splitlines()[1] == f"{run.path}: the code has changed since it began"
    status, _, err = launch("--mode=fail", "--force")
    assert status == 1 and err.startswith(f"{run.path}: begun anew (ZeroDivisionError") and len(run.rows()) == 3


def test_a_restart_is_said(launch, monkeypatch):
    monkeypatch.setenv("RNNLAB_RESTARTED", f"{os.getpid()} XLA_FLAGS=--a=1 OPENBLAS_NUM_THREADS=1")
    line = "started again with XLA_FLAGS=--a=1 OPENBLAS_NUM_THREADS=1 (not with --norestart)"
    assert launch()[2].splitlines()[0] == line


def test_a_folder_of_ones_own(launch, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert launch("--run_folder=~/deep/mine")[0] == 0
    assert runs.Run("home/deep/mine").status["state"] == "done" and not folders()
    status, out, err = launch("--run_folder=home/deep/mine", "--steps=4", "--force")
    line = "error: home/deep/mine holds another run: expected config.steps 3, given 4; name another folder\n"
    assert (status, out, err) == (2, "", line)
    assert len(runs.Run("home/deep/mine").rows()) == 3


def test_flags_from_a_file(launch):
    Path("my.flags").write_text("--steps=2\n# why\n--fast\n")
    assert launch("toy", "--flagfile=my.flags")[0] == 0
    assert the_run().config["steps"] == 2 and the_run().config["fast"] is True


@pytest.mark.parametrize(
    ("given", "steps", "sizes"),
    [
        ([], 3, []),
        (["--preset=long"], 9, [4, 5]),
        (["--preset=long", "--steps=2"], 2, [4, 5]),
        (["--steps=3", "--preset=long"], 3, [4, 5]),
        (["--preset=long", "--sizes="], 9, []),
        (["--preset", "short"], 2, []),
    ],
)
def test_a_preset_stands_where_no_flag_says_otherwise(launch, given, steps, sizes):
    assert launch("toy", *given)[0] == 0
    assert (the_run().config["steps"], the_run().config["sizes"]) == (steps, sizes)


def test_a_preset_is_no_part_of_a_run(launch):
    assert launch("toy", "--preset=short")[0] == launch("toy", "--steps=2")[0] == 0
    assert len(folders()) == 1


# What the user can put right.

CELLS = "expected a list with commas, each item one of elman, gru, lstm"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["toi"], "no experiment is called 'toi'; did you mean toy?"),
        (["zoo_of_cell", "--steps=3"], "no experiment is called 'zoo_of_cell'; did you mean zoo_of_cells?"),
        (["figures"], "no experiment is called 'figures'; did you mean figure?"),
        (
            ["_hidden"],
            "no experiment is called '_hidden'; expected one of silent, torn, toy, zoo_of_cells, list, figure",
        ),
        (["qqq"], "no experiment is called 'qqq'; expected one of silent"),
        ([""], "no experiment is called ''"),
        (["toy", "--stepz=3"], "no flag is called --stepz; did you mean --steps?"),
        (["toy", "--step", "3"], "no flag is called --step; did you mean --steps?"),
        (["toy", "--nofasst"], "no flag is called --nofasst; did you mean --nofast?"),
        (["toy", "--run_foldr=x"], "no flag is called --run_foldr; did you mean --run_folder?"),
        (["toy", "--qqqq"], "no flag is called --qqqq; expected one of --steps, --offset"),
        (["--undefok=stepz", "--stepz=3"], "no flag is called --undefok"),
        (["--steps=abc"], "flag --steps=abc: expected an integer from 1 to 1000"),
        (["--steps=2.0"], "flag --steps=2.0: expected an integer from 1 to 1000"),
        (["--steps=0"], "flag --steps=0: expected an integer from 1 to 1000"),
        (["--steps=1001"], "flag --steps=1001: expected an integer from 1 to 1000"),
        (["--steps="], "flag --steps=: expected an integer"),
        (["--steps"], "Missing value for flag --steps"),
        (["--steps=" + "9" * 5000], "expected an integer from 1 to 1000"),
        (["--steps=1\n2"], "flag --steps=1 2: expected an integer"),
        (["--offset=-6"], "flag --offset=-6: expected an integer of at least -5"),
        (["--rate=-0.1"], "flag --rate=-0.1: expected a finite number of at least 0.0"),
        (["--rate=nan"], "flag --rate=nan: expected a finite number"),
        (["--rate=inf"], "flag --rate=inf: expected a finite number"),
        (["--mode=dance"], "flag --mode=dance: expected one of play, fail,"),
        (["--mode=Play"], "flag --mode=Play: expected one of play, fail,"),
        (["--cells=gru,rnn"], f"flag --cells=gru,rnn: {CELLS}"),
        (["--cells="], f"flag --cells=: {CELLS}"),
        (["--cells=gru,"], f"flag --cells=gru,: {CELLS}"),
        (["--cells=gru,gru"], "flag --cells=gru,gru: expected every item once"),
        (["--sizes=4,0"], "flag --sizes=4,0: expected a list with commas, each item an integer of at least 1"),
        (["--sizes=4;5"], "flag --sizes=4;5: expected a list with commas"),
        (["--fast=maybe"], "flag --fast=maybe: expected true or false"),
        (["--nofast=true"], "--nofast=true does not take an argument"),
        (["--steps=3", "--steps=4"], "flag --steps=4: already defined as 3"),
        (["--fast", "--nofast"], "flag --fast=false: already defined as True"),
        (["toy", "steps=3"], "unexpected argument 'steps=3'; flags are written --name=value"),
        (
            ["--steps=3", "toy"],
            "unexpected argument 'toy'; flags are written --name=value, after the experiment's name",
        ),
        (["toy", "--", "x"], "unexpected argument 'x'"),
        (["--preset=medium"], "flag --preset=medium: expected one of long, short"),
        (["--flagfile=none"], "No such file or directory: 'none'"),
        (["--flagfile=toys"], "Is a directory: 'toys'"),
        (["--offset=3"], "offset: expected less than steps = 3, got 3"),
        (["--run_folder=toys"], "toys is not the folder of a run"),
        (["--runs=go.py"], "is no folder"),
        (["list", "x"], "unexpected argument 'x' after list"),
        (["list", "--steps=3"], "no flag is called --steps"),
        (["figure"], "figure: expected the folder of a run, or several"),
        (["figure", "none"], "none is no folder; expected the folder of a run"),
        (["figure", "toys"], "toys is not the folder of a run"),
    ],
)
def test_one_line_and_nothing_written(launch, argv, message, tmp_path):
    Path("go.py").write_text("")
    before = sorted(p for p in tmp_path.rglob("*") if "__pycache__" not in str(p))
    status, out, err = launch(*argv, off=False)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n") and message in err
    assert sorted(p for p in tmp_path.rglob("*") if "__pycache__" not in str(p)) == before


def test_no_device(launch, monkeypatch):
    def devices():
        raise RuntimeError("Unable to\ninitialize")

    monkeypatch.setattr(jax, "devices", devices)
    assert launch() == (2, "", "error: JAX finds no device: Unable to initialize\n") and not folders()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: int = 3", "Config.steps: expected a field made by cli.flag"),
        ("steps: list = cli.flag((), 'x')", "Config.steps: expected a field made by cli.flag"),
        ("steps: int = cli.flag(0, 'x', low=1)", "flag --steps=0: expected an integer of at least 1"),
        ("steps: int = cli.flag(True, 'x')", "flag --steps=True: expected an integer"),
        ("cells: tuple[str, ...] = cli.flag(('a',), 'x', choices=('b',))", "each item one of b"),
        ("force: bool = cli.flag(False, 'x')", "The flag 'force' is defined twice"),
    ],
)
def test_a_wrong_config_is_our_error(launch, toys, text, message):
    Path(toys.__path__[0], "bad.py").write_text(
        f"import dataclasses\nfrom rnnlab import cli\n@dataclasses.dataclass(frozen=True)\nclass Config:\n    {text}\n"
    )
    status, _, err = launch("bad")
    assert status == 1 and err.startswith("Traceback") and message in err and not folders()


def test_strings_for_annotations(launch, toys):
    Path(toys.__path__[0], "later.py").write_text(
        "from __future__ import annotations\n" + TOY[TOY.index("import data") :]
    )
    assert launch("later", "--sizes=5")[0] == 0


# A run that does not end well.


@pytest.mark.parametrize(
    ("flags", "status", "last", "reason"),
    [
        (["--mode=fail"], 1, "luck", "ZeroDivisionError: no luck"),
        (["--mode=refuse"], 2, "error: rate: expected one that converges", "InputError: rate: expected"),
        (["--mode=stop"], 130, "interrupted by SIGINT; start it again with: python launch.py toy", "interrupted at 2"),
        (
            ["--mode=stop", "--fast"],
            75,
            "interrupted by SIGTERM; start it again with: python launch.py",
            "after 3 rows",
        ),
        (["--mode=swallow"], 130, "interrupted by SIGINT; start it again", "RuntimeError: as a compiled program does"),
        (["--mode=draw"], 130, "interrupted by SIGINT; start it again", "after 3 rows"),
    ],
)
def test_incomplete(launch, flags, status, last, reason):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    got, out, err = launch("toy", *flags)
    run, lines = the_run(), err.splitlines()
    assert (got, out) == (status, "") and lines[0] == f"{run.path}: begun" and lines[-1].startswith(last)
    assert len(lines) == 2 or status == 1
    assert ("Traceback" in err) == (status == 1)
    assert run.status["state"] == "incomplete" and reason in run.status["reason"]
    assert not (run.path / "figure.png").exists()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    before = run.status["reason"]
    assert launch("toy", *flags)[2].startswith(f"{run.path}: begun anew ({before})\n") and len(run.rows()) == 3


def test_an_interrupt_before_anything_began(launch, toys):
    Path(toys.__path__[0], "slow.py").write_text("raise KeyboardInterrupt")
    line = "interrupted by SIGINT; start it again with: python launch.py slow '--text=a b' --nocompilation_cache\n"
    assert launch("slow", "--text=a b") == (130, "", line) and not folders()


# Figures from rows.


def test_figure_from_rows_alone(launch, toys, monkeypatch):
    _, out, _ = launch()
    run = the_run()
    kept = {name: (run.path / name).read_bytes() for name in ("figure.png", "figure.pdf", "table.txt")}
    for name in kept:
        (run.path / name).write_text("old")
    for name in ("run", "inputs"):
        monkeypatch.delattr(sys.modules["toys.toy"], name)
    assert launch("figure", str(run.path), f"{run.path}/", off=False) == (0, out + out, "")
    assert {name: (run.path / name).read_bytes() for name in kept} == kept


def test_figure_of_what_is_not_done(launch):
    launch("--mode=fail")
    path = the_run().path
    error = f"error: {path} is incomplete, not done; its rows are not all there\n"
    assert launch("figure", str(path), off=False) == (2, "", error)


def test_figure_looks_at_all_before_it_draws_one(launch):
    launch()
    path = the_run().path
    (path / "table.txt").write_text("old")
    status, out, err = launch("figure", str(path), "none", off=False)
    assert (status, out) == (2, "") and "none is no folder" in err and (path / "table.txt").read_text() == "old"


def test_figure_of_an_experiment_that_is_gone(launch, toys):
    launch()
    Path(toys.__path__[0], "toy.py").unlink()
    path = the_run().path
    error = f"error: {path} is a run of 'toy', which is no experiment here\n"
    assert launch("figure", str(path), off=False) == (2, "", error)


def test_figure_that_cannot_be_saved(launch):
    launch()
    path = the_run().path
    (path / ".figure.png.tmp").mkdir()
    status, _, err = launch("figure", str(path), off=False)
    assert status == 2 and re.fullmatch(r"error: .*\.figure\.png\.tmp: Is a directory\n", err)


# What is said without running.


def test_list(launch):
    lines = [
        "silent        (no docstring)",
        "torn          (does not parse: invalid syntax (<unknown>, line 1))",
        "toy           Does the toy play?",
        "zoo_of_cells  Which cell?",
    ]
    assert launch("list", off=False) == (0, "\n".join(lines) + "\n", "")


def test_overview(launch):
    for argv in (["--help"], ["-h"], ["list", "--help"], ["figure", "--help"]):
        status, out, err = launch(*argv, off=False)
        assert (status, err) == (0, "")
        for part in (
            "launch.py NAME --help",
            "toy if none is named",
            "toy           Does the toy play?",
            "--[no]force",
        ):
            assert part in out


def test_help(launch):
    status, out, err = launch("toy", "--help", "--steps=abc", off=False)
    assert (status, err) == (0, "") and not folders()
    assert out.startswith("Does the toy play?\n\nMore of it: ü.\n\nusage: python launch.py toy [--flag=value ...]\n")
    for part in (
        "\n  --steps=3\n      steps to take (an integer from 1 to 1000)\n",
        "\n  --rate=1.0\n      size of a step (a finite number of at least 0.0)\n",
        "\n  --cells=gru,lstm\n      who plays (a list with commas, each item one of elman, gru, lstm)\n",
        "\n  --[no]fast, false by default\n      whether to run\n",
        "\n  --[no]compilation_cache, true by default\n",
        "\n  --runs=runs\n",
        "\n  --run_folder=\n",
        "\n  --[no]force, false by default\n",
        "\n--preset=NAME, for flags that are not given themselves:\n  long: --steps=9 --sizes=4,5\n  short: --steps=2",
    ):
        assert part in out
    assert max(map(len, out.splitlines())) <= 100


def test_a_flag_is_a_field():
    @dataclasses.dataclass(frozen=True)
    class Config:
        steps: int = cli.flag(3, "steps", low=1)

    assert Config() == Config(3) and Config(steps=5).steps == 5


# In a process of its own.

GO = "import sys, toys\nfrom rnnlab import cli\nsys.exit(cli.launch(sys.argv[1:], toys, 'toy'))\n"


def start(*argv, **options):
    Path("go.py").write_text(GO)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "go.py", *argv], **(pipes | options))


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_names_and_errors_do_without_jax(toys):
    for argv in (["list"], ["toi"], ["--help"]):
        program = (
            f"import sys, toys; from rnnlab import cli; cli.launch({argv}, toys, 'toy'); sys.exit('jax' in sys.modules)"
        )
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_the_compilation_cache(toys, tmp_path):
    jitted = "    import jax\n    jax.jit(lambda x: x * 2 + 1)(3.0)\n"
    source = TOY.replace("def run(config, inputs, run):\n", "def run(config, inputs, run):\n" + jitted)
    (tmp_path / "toys" / "toy.py").write_text(source)
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "MPLCONFIGDIR": matplotlib.get_cachedir()}
    assert finish(start(env=os.environ | cache))[0] == 0
    assert any(file.name.endswith("-cache") for file in (tmp_path / "cache" / "rnnlab").iterdir())


def test_a_cache_that_cannot_be_made_is_done_without(launch, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("cache").write_text("mine")
    status, _, err = launch(off=False)
    assert status == 0 and Path("cache").read_text() == "mine" and the_run().status["state"] == "done"
    _, line = err.splitlines()
    assert line.startswith("compiled programs are not kept: ") and "cache" in line


def test_an_experiment_by_itself(toys):
    answer = subprocess.run(
        [sys.executable, "-m", "toys.toy", "--steps=3", "--nocompilation_cache"], capture_output=True, text=True
    )
    run = the_run()
    assert (answer.returncode, answer.stderr) == (0, f"{run.path}: begun\n") and answer.stdout.startswith(TABLE)
    assert run.path.name.startswith("toy-")
    assert run.provenance["command"] == "python -m toys.toy --steps=3 --nocompilation_cache"
    answer = subprocess.run([sys.executable, "-m", "toys.toy", "--step=3"], capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (2, "error: no flag is called --step; did you mean --steps?\n")
    status, _, err = finish(start("--nocompilation_cache"))
    assert status == 0 and "done since" in err and "changed" not in err  # the same run, however it is called


def test_launch_py():
    root = Path(cli.__file__).parents[1]
    answer = subprocess.run([sys.executable, root / "launch.py", "list"], capture_output=True, text=True, check=True)
    assert re.search(r"^gradient_flow +\S.*\?$", answer.stdout, re.MULTILINE) and answer.stderr == ""
    wrong = subprocess.run([sys.executable, root / "launch.py", "gradient_flo"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1) and "did you mean gradient_flow?" in wrong.stderr


def waiting(*argv):
    process = start("toy", "--mode=wait", "--nocompilation_cache", *argv)
    assert process.stdout.readline() == "waiting\n"
    return process


@pytest.mark.faults
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_stopped_from_outside(toys, number, status):
    process = waiting()
    process.send_signal(number)
    got, out, err = finish(process)
    run = the_run()
    again = "python launch.py toy --mode=wait --nocompilation_cache"
    assert (got, out) == (status, "")
    assert err.splitlines() == [
        f"{run.path}: begun", f"interrupted by {number.name}; start it again with: {again}",
    ]  # fmt: skip
    assert run.status["state"] == "incomplete" and run.status["reason"].endswith("after 3 rows")


@pytest.mark.faults
def test_killed(toys):
    process = waiting()
    run = the_run()
    second = finish(start("toy", "--mode=wait", "--nocompilation_cache", "--force"))
    assert second[0] == 2 and f"being written by process {process.pid} since" in second[2]
    assert second[2].count("\n") == 1 and len(run.rows()) == 3
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL and run.status["state"] == "running"
    process = waiting()
    assert process.stderr.readline().startswith(f"{run.path}: begun anew (process ")
    process.kill()
    finish(process)


@pytest.mark.faults
def test_killed_at_any_moment(toys):
    """Whatever is left behind, the next start either finds it done or begins it anew."""
    for tenths in range(0, 20, 2):
        process = start("toy", "--nocompilation_cache", "--steps=1000")
        time.sleep(0.2 + tenths / 10)
        process.kill()
        finish(process)
        for folder in folders():
            if any(folder.glob("config.json")):
                assert all(json.loads(file.read_text()) for file in folder.glob("*.json"))
    status, out, _ = finish(start("toy", "--nocompilation_cache", "--steps=1000"))
    assert status == 0 and out.count("loss") == 1000 and the_run().status["state"] == "done"


def test_a_restart_comes_before_the_run_and_not_for_help(toys, tmp_path):
    asked = []
    assert cli.launch(["toy", f"--runs={tmp_path}"], toys, "toy", restart=asked.append) == 0
    assert cli.launch(["toy", "--help"], toys, "toy", restart=asked.append) == 0
    assert asked == [[f"--runs={tmp_path}"]]
