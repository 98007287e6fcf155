"""One folder a run: configuration, provenance, rows, arrays and state.

A folder is named NAME-HASH after what was asked for (experiment, configuration, data), so that asking again finds
it again. Nothing here imports JAX: a figure is drawn from a folder without it.

A run that was interrupted can be resumed: rows and series only grow, `Run.mark` says how long they are, a checkpoint
keeps that mark, and `Run.cut` takes away what was written after it. So the rows are those of an uninterrupted run.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import socket
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from rnnlab import claims, provenance, series
from rnnlab.errors import InputError
from rnnlab.process import Stop

STATES = ("running", "incomplete", "done")
# What a run begun anew removes; anything else in the folder is somebody's own and stays.
OUTPUTS = ("provenance.json", "metrics.jsonl", "timings.jsonl", "parts.json", "figure.png", "figure.pdf", "table.txt")
FOLDERS = ("checkpoints", "series", "tensorboard", "grid", "vocabularies")
# JSON has no such numbers. Written as protobuf's JSON mapping writes them, they survive any reader and none turns null.
NONFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def identity(experiment: str, config: Mapping[str, Any], data: Mapping[str, str]) -> str:
    """The first 10 hexadecimal digits of the SHA-256 of what was asked for; `data` maps a name to its content hash."""
    return hashlib.sha256(_dumps(_request(experiment, config, data)).encode()).hexdigest()[:10]


def find(
    path: str | Path,
    experiment: str,
    config: Mapping[str, Any],
    data: Mapping[str, str],
    *,
    force: bool = False,
    taken_over: bool = False,
) -> dict[str, Any] | None:
    """What is at `path`: None (nothing yet), or the status of this very run, "done" or "incomplete". Writes nothing.

    A run whose process died is incomplete. Raises InputError for all that may not be written to: a file in the way,
    no permission, a folder of something else or of another configuration, a run that another process is writing.
    `force` and `taken_over` override only the last, and only where the process is on another host and so cannot be
    looked for.
    """
    path = Path(path)
    with _refusing(path):
        claims.check_place(path)
        claims.check_folders(path, ("arrays", *FOLDERS))
        if not path.is_dir() or not set(os.listdir(path)) - {_temporary(path / "config.json").name}:
            return None
        claims.check_same(path, _read_request(path), _request(experiment, config, data))
        return claims.settled(path, _read_status(path), force or taken_over)


def begin(
    path: str | Path,
    experiment: str,
    config: Mapping[str, Any],
    data: Mapping[str, str],
    *,
    device: str,
    seed: int | None = None,
    command: str = "",
    sources: tuple[str | Path, ...] = (),
    force: bool = False,
    taken_over: bool = False,
    resume: bool = False,
    stop: Stop | None = None,
) -> "Run":
    """A run to be written, in a new folder or anew in that of an incomplete one (with `force`, a done one).

    With `resume` what an incomplete one wrote is kept, if it left checkpoints or finished parts (`Run.resumed`).
    Enter it (`with begin(...) as run`) and it is marked done at the end, or incomplete with the reason. Raises
    InputError as `find` does, before anything was created or removed. `sources` are folders of code beside rnnlab's.
    """
    path, asked = Path(path), (experiment, config, data)
    find(path, *asked, force=force, taken_over=taken_over)
    with _refusing(path):
        path.mkdir(parents=True, exist_ok=True)
        with claims.locked(path):
            # Once more, now that no other process can claim it in between.
            status = find(path, *asked, force=force, taken_over=taken_over)
            if status is None:
                _write_json(path / "config.json", _request(*asked))
            elif status["state"] == "done" and not force:
                raise InputError(f"{path} is done since {status['ended']}; --force runs it again")
            run = Run(path, writing=True, stop=stop)
            facts = {"device": device, "seed": seed, "data": dict(data), "command": command, "began": _now()}
            facts = provenance.gathered(sources) | facts
            if resume and status is not None and status["state"] == "incomplete" and _leftovers(path):
                run._resume(facts)
            else:
                run._set("running")
                _clear(path)
                _write_json(path / "provenance.json", facts)
    return run


class Run:
    """A run's folder, for reading; `begin` gives one that can also be written.

    `config` is the configuration as JSON gives it back: tuples are lists. `resumed`: whether it goes on from what was
    there. `stop`: how its process is asked to end.
    """

    def __init__(self, path: str | Path, *, writing: bool = False, stop: Stop | None = None):
        self.path = Path(path)
        if not self.path.is_dir():
            raise InputError(f"{self.path} is no folder; expected the folder of a run")
        with _refusing(self.path):
            request = _read_request(self.path)
        self.experiment: str = request["experiment"]
        self.config: dict[str, Any] = request["config"]
        self.data: dict[str, str] = request["data"]
        self.resumed = False
        self.stop = stop or Stop()
        self._writing = writing
        self._found: dict[str, int] = {}  # what was written before this process
        self._heads: dict[str, series.Head] = {}

    @property
    def status(self) -> dict[str, Any]:
        """{"state": "running" | "incomplete" | "done", "reason", "pid", "host", "began", "ended", ...}."""
        return _read_status(self.path)

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the run came from: commit, code, versions, device, processor, seed, data, command, start."""
        return _read_json(self.path / "provenance.json")

    def code_changed(self, *sources: str | Path) -> bool:
        """Whether rnnlab or `sources` changed since the run began."""
        return self.provenance["code"] != provenance.code(*sources)

    def metrics(self, **row: Any) -> None:
        """One row of results: numbers (NumPy and JAX scalars too), strings, or lists of them.

        Equal rows give equal bytes: what a clock says belongs in `timing`. NaN and infinities are written as the
        strings "NaN", "Infinity" and "-Infinity", and `rows` gives them back as floats.
        """
        self._append("metrics", row)

    def timing(self, **row: Any) -> None:
        """One row of what differs from run to run: seconds, rates, memory."""
        self._append("timings", row)

    def rows(self, name: str = "metrics") -> list[dict[str, Any]]:
        """The rows of `name` ("metrics" or "timings") in the order of their writing; none written, none returned."""
        file = self.path / f"{name}.jsonl"
        rows = []
        with _refusing(file):
            lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                rows.append({key: _decoded(value) for key, value in json.loads(line).items()})
            except (ValueError, AttributeError):
                raise InputError(f"{file}, line {number}: expected a JSON object, given {line[:60]!r}") from None
        return rows

    def arrays(self, name: str, **arrays: Any) -> None:
        """Arrays as arrays/NAME.npz; equal arrays give equal bytes. Refuses types that .npy cannot give back."""
        self._check_writing()
        _checked(name, "arrays")
        values = {key: np.asarray(arrays[key], order="C") for key in sorted(arrays)}
        for key, value in values.items():
            if value.dtype.hasobject or np.dtype(value.dtype.str) != value.dtype:
                # bfloat16 would come back as two raw bytes an element, an object as a pickle.
                raise TypeError(f"array {key} of {name}: expected one of NumPy's own types, given {value.dtype}")
        with _refusing(self.path):
            (self.path / "arrays").mkdir(exist_ok=True)
        with self.replacing(f"arrays/{name}.npz") as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for key, value in values.items():
                # A fresh ZipInfo is dated 1980, whatever the clock says.
                with archive.open(zipfile.ZipInfo(f"{key}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, value, allow_pickle=False)

    def load(self, name: str) -> dict[str, np.ndarray]:
        """The arrays that `arrays` saved under `name`."""
        file = self.path / "arrays" / f"{name}.npz"
        try:
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(f"{file}: expected saved arrays, given {_line(error)}") from None

    @contextlib.contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """A temporary path that becomes `name` in one step: a reader sees the old file or the new, never a half."""
        with _refusing(self.path), _replacing(self.path / name) as temporary:
            yield temporary

    def record(self, name: str, value: Any) -> None:
        """One more record of a series of float arrays of one shape, series/NAME.bin: the norms [L, T] of every step.

        Raises ValueError for another shape or type than the first record's, TypeError where that is no float.
        """
        self._check_writing()
        file = self.path / "series" / f"{_checked(name, 'a series')}.bin"
        with _refusing(file):
            file.parent.mkdir(exist_ok=True)
            self._heads[name] = series.append(file, np.asarray(value), self._heads.get(name))

    def series(self, name: str) -> np.ndarray:
        """The whole records [N, ...] that `record` wrote under `name`; read from the file as they are looked at."""
        file = self.path / "series" / f"{name}.bin"
        with _refusing(file):
            return series.read(file)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """What the operating system refuses within (a full disk), with a file of this run, is InputError."""
        with _refusing(self.path):
            yield

    # Resuming.

    def mark(self) -> dict[str, int]:
        """How many bytes the rows and series have; JSON takes it."""
        grown = [self.path / "metrics.jsonl", self.path / "timings.jsonl", *self.path.glob("series/*.bin")]
        return {file.relative_to(self.path).as_posix(): file.stat().st_size for file in sorted(grown) if file.exists()}

    def cut(self, mark: Mapping[str, int] | None = None) -> None:
        """Takes away the rows and records that came after `mark`.

        Without a mark, nothing of the part that is being written was saved: goes back to the end of the last finished
        part, and keeps what this process wrote. Raises InputError if less is there than the mark says.
        """
        self._check_writing()
        self._heads = {}
        kept = self._base() if mark is None else mark
        now = self.mark()
        for name, size in kept.items():
            if now.get(name, 0) < size:
                raise InputError(f"{self.path / name}: expected {size} bytes at least, given {now.get(name, 0)}")
        with _refusing(self.path):
            for name, size in now.items():
                low = kept.get(name, 0)
                high = size if mark is not None else max(low, self._found.get(name, 0))
                if low < high:
                    _excise(self.path / name, low, high)
        self._found = {}

    def has(self, part: str) -> bool:
        """Whether a part of this run was finished, by this process or one before."""
        return part in self._parts()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The rows of one of several parts (a model, a seed); once it is finished, a resumed run `has` it.

        In a run of parts every row and record is written within one: others would be there twice. A part with
        checkpoints keeps them in checkpoints/NAME, and what restores them cuts the rows.
        """
        _checked(name, "a part")
        kept = self.path / "checkpoints" / name
        if os.path.lexists(kept) and not kept.is_dir():
            raise InputError(f"{kept}: expected a folder, given a file; put back what was there")
        if self.resumed and not kept.exists():
            self.cut()
        yield
        with _refusing(self.path):
            _write_json(self.path / "parts.json", self._parts() | {name: self.mark()})

    def _parts(self) -> dict[str, dict[str, int]]:
        file = self.path / "parts.json"
        return _read_json(file) if file.exists() else {}

    def _base(self) -> dict[str, int]:
        return next(reversed(self._parts().values()), {})

    def _resume(self, facts: dict[str, Any]) -> None:
        self.resumed, self._found = True, self.mark()
        began = self.provenance
        self._set("running")
        resumed = {name: facts[name] for name in ("git", "code", "versions", "device", "command", "began")}
        _write_json(self.path / "provenance.json", began | {"resumed": [*began.get("resumed", []), resumed]})

    # Its state.

    def __enter__(self) -> "Run":
        self._check_writing()
        self._ending = self.stop.before_end(lambda: self._set("incomplete", self._interrupted()))
        self._ending.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: Any) -> None:
        self._ending.__exit__(None, None, None)
        if error is None:
            with _refusing(self.path):
                self._set("done")
            self._writing = False
            return
        # On a full disk this fails too; that the process named in the status is dead then says the same.
        with contextlib.suppress(OSError, InputError):
            interrupted = isinstance(error, KeyboardInterrupt)
            self._set("incomplete", self._interrupted() if interrupted else f"{type(error).__name__}: {_line(error)}")

    def _interrupted(self) -> str:
        file = self.path / "metrics.jsonl"
        rows = file.read_bytes().count(b"\n") if file.exists() else 0
        return f"interrupted at {_now()} after {rows} rows"

    def _set(self, state: str, reason: str | None = None) -> None:
        pid = os.getpid()
        status = {
            "state": state,
            "reason": reason,
            "pid": pid,
            "started": claims.started(pid),
            "host": socket.gethostname(),
        }
        began = _now() if state == "running" else self.status.get("began")
        _write_json(
            self.path / "status.json", status | {"began": began, "ended": None if state == "running" else _now()}
        )

    def _append(self, name: str, row: dict[str, Any]) -> None:
        self._check_writing()
        line = _dumps({key: _encoded(value, key) for key, value in row.items()}) + "\n"
        # Opened each time: some 20 us a row, but a row is whole on disk before the next step, even if we are killed.
        with _refusing(self.path), open(self.path / f"{name}.jsonl", "a", encoding="utf-8") as file:
            file.write(line)

    def _check_writing(self) -> None:
        if not self._writing:
            raise RuntimeError(f"{self.path} was opened for reading; rows and arrays are written by what `begin` gives")


def _checked(name: str, what: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"name of {what}: expected letters, digits, '_', '-' or '.', given {name!r}")
    return name


def _excise(file: Path, low: int, high: int) -> None:
    """Takes bytes `low` to `high` out of a file, and away the file where none are left; a series keeps its header."""
    tail = file.read_bytes()[high:] if high < file.stat().st_size else b""
    if not low and not tail:
        file.unlink()
    elif not tail:
        os.truncate(file, low)
    else:
        low = low or (series.head(file).size if file.suffix == ".bin" else 0)
        with _replacing(file) as temporary:
            temporary.write_bytes(file.read_bytes()[:low] + tail)


def _leftovers(path: Path) -> bool:
    """Whether an interrupted run left something to go on from."""
    checkpoints = path / "checkpoints"
    there = (path / "provenance.json").exists() and (path / "status.json").exists()
    return there and ((path / "parts.json").exists() or (checkpoints.is_dir() and any(checkpoints.iterdir())))


def _clear(path: Path) -> None:
    for old in [*(path / name for name in OUTPUTS), *path.glob("arrays/*.npz")]:
        old.unlink(missing_ok=True)
    for name in FOLDERS:
        if (path / name).is_dir():
            shutil.rmtree(path / name)


def _dumps(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _encoded(value: Any, key: str) -> Any:
    if getattr(value, "ndim", None) == 0:  # NumPy's and JAX's scalars alike, without importing JAX
        value = value.item()
    if isinstance(value, (list, tuple)):
        return [_encoded(item, key) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, str) and value in NONFINITE:
        raise ValueError(f"{key}: the string {value!r} stands for a number in a row")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{key}: expected a number, a string or a list of them, given {type(value).__name__}; see Run.arrays"
    )


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    return NONFINITE.get(value, value) if isinstance(value, str) else value


def _request(experiment: str, config: Mapping[str, Any], data: Mapping[str, str]) -> dict[str, Any]:
    request = {"experiment": experiment, "config": dict(config), "data": dict(data)}
    return json.loads(json.dumps(request, allow_nan=False))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    try:
        yield _temporary(path)
        os.replace(_temporary(path), path)
    finally:
        _temporary(path).unlink(missing_ok=True)


def _write_json(path: Path, value: Any) -> None:
    with _replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object")
    return value


def _read_request(path: Path) -> dict[str, Any]:
    if not (path / "config.json").exists():
        raise InputError(f"{path} is not the folder of a run (it holds no config.json)")
    request = _read_json(path / "config.json")
    kinds = {name: type(value) for name, value in request.items()}
    if kinds != {"experiment": str, "config": dict, "data": dict}:
        raise InputError(f"{path} is not the folder of a run (config.json: expected experiment, config and data)")
    return request


def _read_status(path: Path) -> dict[str, Any]:
    if not (path / "status.json").exists():
        return {"state": "incomplete", "reason": "killed while it began"}
    status = _read_json(path / "status.json")
    if status.get("state") not in STATES or not {"pid", "host", "started", "began", "ended"} <= status.keys():
        raise InputError(f"{path / 'status.json'}: expected the state of a run, given {str(status)[:60]}")
    return status


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """What the operating system refuses is the user's to put right."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename or path}: {error.strerror or error}") from None
