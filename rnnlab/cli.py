"""The command line: flags from a frozen dataclass, and an experiment from flags to figure.

An experiment is a module with a docstring (its first line is the question) and

    Config                      frozen dataclass, every field made by `flag`; a field `seed` goes into the provenance
    inputs(config)              loads and checks; has `hashes`, a dict from the name of data to its content hash
    run(config, inputs, run)    writes rows and arrays to a `runs.Run`
    figure(run), table(run)     a matplotlib Figure and a str, from what `run` wrote and nothing else
    PRESETS                     if it has some: by name, values of the Config's fields for --preset=NAME, which stand
                                where no flag says otherwise
    RESUMES                     True if `run` trains by `rnnlab.train.fit` with checkpoints below run.path/checkpoints
                                (its rows within `run.part`, where it trains several models): interrupted and started
                                again, it goes on where it was. Without it, a run that was interrupted begins anew
    predictor(run, how)         if its models can be asked: a `predictions.Predictor`, from what `run` left behind and
                                no data; `how`: an instance of Predicting, its own flags of `predict`, if it has some

What the user can put right is one line on standard error and status 2, with nothing written. JAX and the experiment
are imported only where they are needed, so that `list` and a mistyped name answer at once.
"""

import ast
import dataclasses
import importlib.util
import os
import pkgutil
import shlex
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from rnnlab import process, runs
from rnnlab.errors import InputError
from rnnlab.flags import NO_PRESETS, Presets, described, described_presets, flag, nearest, parse
from rnnlab.predictions import Asked, answer, texts

COMMANDS = ("list", "figure", "predict")


@dataclasses.dataclass(frozen=True)
class Launcher:
    """The flags that every experiment has; none of them changes a result, so none is part of a run's identity."""

    runs: str = flag("runs", "folder that holds one folder a run")
    run_folder: str = flag("", "this run's folder; empty for NAME-HASH below --runs")
    force: bool = flag(False, "begin anew what is done")
    taken_over: bool = flag(False, "go on from what a process on another host left, which was running when last seen")
    restart: bool = flag(True, "start again, once, with what must be set before Python starts (by launch.py only)")
    huge_pages: bool = flag(True, "start again, once, with large buffers on huge pages (Linux): a quarter faster")
    compilation_cache: bool = flag(True, "keep compiled programs in $XDG_CACHE_HOME/rnnlab or ~/.cache/rnnlab")


Restart = Callable[[Sequence[str]], None]


def stay(argv: Sequence[str]) -> None:
    """The process as it is, for callers inside a larger program."""


def launch(argv: Sequence[str], experiments: ModuleType, default: str, restart: Restart = stay) -> int:
    """The exit status of `python launch.py ARGV`: 0, 1 (our error), 2 (the user's), 130 (SIGINT) or 75 (SIGTERM).

    `restart` may replace the process by one that is set up as a run wants it; called before JAX is imported.
    """
    program = "python launch.py"
    command = shlex.join([*program.split(), *argv])
    return _guard(lambda stop: _dispatch(list(argv), experiments, default, program, restart, stop), command)


def main(module: ModuleType, argv: Sequence[str]) -> int:
    """The exit status of `python -m experiments.NAME ARGV`, by `cli.main(sys.modules[__name__], sys.argv[1:])`."""
    file = Path(module.__file__)
    program = f"python -m {module.__spec__.name}" if module.__spec__ else f"python {file.name}"
    job = Job(module, file.stem, program, file.parent)
    return _guard(lambda stop: job.launch(list(argv), stop), shlex.join([*program.split(), *argv]))


def _dispatch(
    argv: list[str], experiments: ModuleType, default: str, program: str, restart: Restart, stop: process.Stop
) -> int:
    names = _names(experiments)
    if argv and not argv[0].startswith("-"):
        name, argv = argv[0], argv[1:]
    elif _asks_help(argv):
        print(_overview(experiments, default, program))
        return 0
    else:
        name = default
    if name in COMMANDS:
        if _asks_help(argv):
            of_run = name == "predict" and not argv[0].startswith("-")
            print(_predict_help(experiments, argv[0]) if of_run else _overview(experiments, default, program))
            return 0
        if name == "predict":
            return _predict(experiments, argv)
        found = parse(argv, (), positional=True)[0]
        return _list(experiments, found) if name == "list" else _redraw(experiments, found)
    if name not in names:
        raise InputError(f"no experiment is called {name!r}{nearest(name, [*names, *COMMANDS])}")
    if not _asks_help(argv):
        restart([*argv, *_devices_of_preset(f"{experiments.__name__}.{name}", argv)])
    module = importlib.import_module(f"{experiments.__name__}.{name}")
    return Job(module, name, program + " " + name, Path(module.__file__).parent).launch(argv, stop)


def _devices_of_preset(module: str, argv: list[str]) -> list[str]:
    """--devices=N where a preset says it and no flag does: what the process is started with hangs on it."""
    words = [word.lstrip("-") for word in argv if word.startswith("-")]
    if not any(word.partition("=")[0] == "preset" for word in words) or any(w.startswith("devices") for w in words):
        return []
    presets = getattr(importlib.import_module(module), "PRESETS", NO_PRESETS)
    asked = [values for name, values in presets.items() if f"preset={name}" in words or name in argv]
    return [f"--devices={values['devices']}" for values in asked if "devices" in values]


@dataclasses.dataclass(frozen=True)
class Job:
    """An experiment, and how it was called."""

    module: ModuleType
    name: str
    program: str
    sources: Path

    @property
    def presets(self) -> Presets:
        return getattr(self.module, "PRESETS", NO_PRESETS)

    def launch(self, argv: list[str], stop: process.Stop) -> int:
        """From flags to figure; a run that is done is shown."""
        if _asks_help(argv):
            print(_help(self))
            return 0
        _, config, own = parse(argv, (self.module.Config, Launcher), presets=self.presets)
        inputs = self.module.inputs(config)
        asked = (self.name, dataclasses.asdict(config), inputs.hashes)
        path = Path(own.run_folder or Path(own.runs) / f"{self.name}-{runs.identity(*asked)}").expanduser()
        status = runs.find(path, *asked, force=own.force, taken_over=own.taken_over)
        if status and status["state"] == "done" and not own.force:
            return self.show(path, status)
        options = {"device": _device(), "seed": getattr(config, "seed", None), "sources": (self.sources,)}
        options |= {"command": shlex.join([*self.program.split(), *argv]), "force": own.force, "stop": stop}
        options |= {"taken_over": own.taken_over}
        resumes = getattr(self.module, "RESUMES", False) and not own.force
        with runs.begin(path, *asked, resume=resumes, **options) as run:
            if settings := process.restarted():
                _say(f"started again with {settings} (not with --norestart)")
            _say(f"{path}: {_beginning(status, run.resumed)}{', on huge pages' if process.huge_pages() else ''}")
            if run.resumed and run.code_changed(self.sources):
                _say(f"{path}: the code has changed since it began")
            if own.compilation_cache:
                _keep_compiled()
            self.module.run(config, inputs, run)
            table = _draw(self.module, run)
        _report(path, table)
        return 0

    def show(self, path: Path, status: dict[str, Any]) -> int:
        """What a run left behind; what is missing of figure and table is drawn from its rows."""
        run = runs.Run(path)
        _say(f"{path}: done since {status['ended']}; --force runs it again")
        if run.code_changed(self.sources):
            _say(f"{path}: the code has changed since; what follows is from before")
        drawn = all((path / name).exists() for name in ("figure.png", "figure.pdf", "table.txt"))
        _report(path, (path / "table.txt").read_text(encoding="utf-8").rstrip() if drawn else _draw(self.module, run))
        return 0


def _beginning(status: dict[str, Any] | None, resumed: bool) -> str:
    if status is None:
        return "begun"
    if resumed:
        return f"resumed ({status['reason']})"
    return "begun anew (it was done)" if status["state"] == "done" else f"begun anew ({status['reason']})"


def _report(path: Path, table: str) -> None:
    print(f"{table}\n\nrun:    {path}\nfigure: {path / 'figure.png'}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# What is said without running anything.


def _asks_help(argv: list[str]) -> bool:
    return not {"--help", "-help", "-h"}.isdisjoint(argv)


def _names(experiments: ModuleType) -> list[str]:
    return sorted(one.name for one in pkgutil.iter_modules(experiments.__path__) if not one.name.startswith("_"))


def _list(experiments: ModuleType, rest: list[str]) -> int:
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r} after list")
    print(_questions(experiments))
    return 0


def _questions(experiments: ModuleType) -> str:
    names = _names(experiments)
    width = max(map(len, names), default=0)
    return "\n".join(f"{name:<{width}}  {_question(experiments, name)}" for name in names)


def _question(experiments: ModuleType, name: str) -> str:
    """The first line of a module's docstring, read and not run: importing every experiment would take seconds."""
    spec = importlib.util.find_spec(f"{experiments.__name__}.{name}")
    try:
        text = ast.get_docstring(ast.parse(Path(spec.origin).read_bytes()))
    except (SyntaxError, ValueError) as error:
        return f"(does not parse: {error})"
    return text.splitlines()[0] if text else "(no docstring)"


def _overview(experiments: ModuleType, default: str, program: str) -> str:
    usage = f"""\
        {program} [NAME] [--flag=value ...]    run an experiment, {default} if none is named
        {program} NAME --help                  what it asks, and its flags
        {program} list                         the experiments
        {program} figure RUN ...               draw figure and table anew from the rows of finished runs
        {program} predict RUN --text="..."     what a finished run's model says of a text (RUN --help: its flags)"""
    groups = [described(Launcher, "flags of every experiment:"), described(Asked, "flags of predict:")]
    return "\n\n".join([textwrap.dedent(usage), _questions(experiments), *groups])


def _help(job: Job) -> str:
    text = (job.module.__doc__ or "(no docstring)").strip()
    usage = f"usage: {job.program} [--flag=value ...]"
    own = described(Launcher, "flags of every experiment:")
    flags = [described(job.module.Config, f"flags of {job.name}:"), own]
    return "\n\n".join([text, usage, *([described_presets(job.presets)] if job.presets else []), *flags])


# What a finished run is asked.


def _predict(experiments: ModuleType, argv: list[str]) -> int:
    if not argv or argv[0].startswith("-"):
        raise InputError('predict: expected the folder of a run first, as in predict RUN --text="..."')
    run, module = _asked_run(experiments, argv[0])
    own = getattr(module, "Predicting", None)
    rest, asked, *how = parse(argv[1:], (Asked, own) if own else (Asked,), positional=True)
    if rest:
        raise InputError(f"predict: expected a text by --text, --file or standard input, got {rest[0]!r} after the run")
    given = texts(asked)
    if asked.text is None and not asked.file and sys.stdin.isatty():
        _say("a text a line, please; Ctrl-D ends")
    _keep_compiled()
    return answer(module.predictor(run, *how), given, asked.json)


def _asked_run(experiments: ModuleType, path: str) -> tuple[runs.Run, ModuleType]:
    run = _finished(experiments, path)
    module = importlib.import_module(f"{experiments.__name__}.{run.experiment}")
    if not hasattr(module, "predictor"):
        raise InputError(f"{run.path}: expected a run whose model can be asked, given one of {run.experiment}")
    return run, module


def _predict_help(experiments: ModuleType, path: str) -> str:
    run, module = _asked_run(experiments, path)
    own = getattr(module, "Predicting", None)
    groups = [described(own, f"flags of predict, for a run of {run.experiment}:")] if own else []
    return "\n\n".join([described(Asked, "flags of predict:"), *groups])


# Figures.


def _finished(experiments: ModuleType, path: str) -> runs.Run:
    run = runs.Run(path)
    if run.experiment not in _names(experiments):
        raise InputError(f"{run.path} is a run of {run.experiment!r}, which is no experiment here")
    if run.status["state"] != "done":
        raise InputError(f"{run.path} is {run.status['state']}, not done; its rows are not all there")
    return run


def _redraw(experiments: ModuleType, paths: list[str]) -> int:
    if not paths:
        raise InputError("figure: expected the folder of a run, or several")
    found = [_finished(experiments, path) for path in paths]
    for run in found:
        try:
            table = _draw(importlib.import_module(f"{experiments.__name__}.{run.experiment}"), run)
        except OSError as error:
            raise InputError(f"{error.filename or run.path}: {error.strerror or error}") from None
        _report(run.path, table)
    return 0


def _draw(module: ModuleType, run: runs.Run) -> str:
    """Saves figure.png, figure.pdf and table.txt from the stored rows alone, and returns the table."""
    import matplotlib

    matplotlib.use("Agg")  # a window would need a display, and keep the figure open
    table, figure = module.table(run).rstrip(), module.figure(run)
    # Without its date a PDF is the same from the same rows.
    for kind, options in (("png", {"dpi": 200}), ("pdf", {"metadata": {"CreationDate": None}})):
        with run.replacing(f"figure.{kind}") as temporary:
            figure.savefig(temporary, format=kind, **options)
    with run.replacing("table.txt") as temporary:
        temporary.write_text(table + "\n", encoding="utf-8")
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(figure)
    return table


# The process.


def _device() -> str:
    import jax

    try:
        found = jax.devices()
    except RuntimeError as error:
        raise InputError(f"JAX finds no device: {error}") from None
    return f"{len(found)} x {found[0].device_kind} ({found[0].platform})"


def _keep_compiled() -> None:
    import jax

    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "rnnlab"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        _say(f"compiled programs are not kept: {error}")
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # By default only what took seconds is stored, which is next to nothing here.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _guard(action: Callable[[process.Stop], int], command: str) -> int:
    """Its exit status; every way of failing becomes a status and a message, one line where the user can act on it."""

    def interrupted(number: int) -> None:
        _say(f"interrupted by {signal.Signals(number).name}; start it again with: {command}")

    with process.Stop(interrupted) as stop:
        try:
            return action(stop)
        except InputError as error:
            status, message = 2, "error: " + " ".join(str(error).split())
        except KeyboardInterrupt:
            status, message = 130, None
        except Exception:
            status, message = 1, traceback.format_exc().rstrip()
        # Said after the frames of the run are gone, for then a progress bar has closed its line.
        if stop.asked is not None or message is None:
            number = stop.asked or signal.SIGINT
            interrupted(number)
            return process.STATUS[number]
        _say(message)
    return status
