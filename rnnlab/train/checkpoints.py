"""Checkpoints: a state and where its data stands, written beside the training, found again and checked.

A checkpoint is a folder named by its step, with three items that orbax writes: the parameters, the rest of the state,
and `about`: the configuration, the data's position, the mark of the run's rows, and of every array its name, shape,
type and checksum. It is there whole or not at all; what a disk did to it afterwards is found out as it is read.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from rnnlab.errors import InputError
from rnnlab.types import PyTree

ITEMS = ("params", "rest", "about")
DAMAGED, SCORES = "damaged", "scores.json"


class Restored(NamedTuple):
    """state: as the template. position, mark: as `save` was given them, after JSON: a tuple is a list."""

    step: int
    state: PyTree
    position: Any
    mark: Any


class Checkpoints:
    """The latest `keep` checkpoints in a folder, and the one with the lowest score. Close it, or use `with`.

    configuration: all that a state's meaning hangs on (the number of devices too), as JSON takes it; only checkpoints
    of the same one are restored. What the disk refuses (full, no folder any more) is InputError, at the save or at the
    next call, and what was saved before stays as it is.
    """

    def __init__(self, folder: str | Path, configuration: Mapping[str, Any], *, keep: int = 3):
        self.folder = Path(folder).absolute()
        self._configuration = json.loads(json.dumps(dict(configuration), allow_nan=False))
        _silence_orbax()
        with self._refusing("could not be opened"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._scores = _read_scores(self.folder)
            self._manager = _manager(
                self.folder, preservation_policy=_LatestAndBest(keep, self._scores), cleanup_tmp_directories=True
            )

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint; None without one."""
        return self._manager.latest_step()

    @property
    def best(self) -> int | None:
        """The step of the checkpoint with the lowest score, the first of equal ones; None where none was scored."""
        return _best(self._manager.all_steps(), self._scores)

    def save(self, step: int, state: PyTree, position: Any, mark: Any = None) -> None:
        """Begins to write a checkpoint and returns once its arrays are copied; waits for the one before.

        state: has a field `params`, and a method `replace` (flax.struct.dataclass). position, mark: as JSON takes them.
        """
        index = {name: [*_kind(leaf), _checksum(leaf)] for name, leaf in _named(state).items()}
        about = {"step": step, "configuration": self._configuration, "position": position, "mark": mark, "index": index}
        about = json.loads(json.dumps(about, allow_nan=False))
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(jax.tree.map(_stored, state.params)),
            rest=ocp.args.StandardSave(jax.tree.map(_stored, state.replace(params=None))),
            about=ocp.args.JsonSave(about | {"hash": _hash(about)}),
        )
        with self._refusing("a checkpoint could not be written"):
            self._manager.save(step, args=items, force=True)

    def score(self, step: int, value: float) -> None:
        """What validation said of the checkpoint of `step`, lower is better; one that is not finite is never best."""
        self._scores[step] = float(value)
        with self._refusing("scores could not be written"):
            temporary = self.folder / f".{SCORES}.tmp"
            temporary.write_text(json.dumps({k: v for k, v in self._scores.items() if np.isfinite(v)}))
            os.replace(temporary, self.folder / SCORES)

    def restore(self, template: PyTree) -> Restored | None:
        """The newest checkpoint that can be read, with the shapes, types and shardings of `template`; None without one.

        A damaged one is passed over, with a line on standard error, and moved to the folder `damaged`. Raises
        InputError for one of another configuration or another state, naming the first difference, and where all are
        damaged; then all stays where it is.
        """
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                about = _about(self._manager, step)
                self._check_configuration(step, about["configuration"])
                _check_index(f"{self.folder / str(step)}", about["index"], _named(template))
                state = _read(self._manager, step, about, template)
            except _Damaged as error:
                damaged[step] = str(error)
                continue
            with self._refusing("a damaged checkpoint could not be set aside"):
                self._set_aside(damaged, step)
            return Restored(step, state, about["position"], about["mark"])
        if damaged:
            step, reason = next(iter(damaged.items()))
            raise InputError(
                f"{self.folder}: expected a checkpoint that can be read, but all are damaged, the newest (step {step}) "
                f"thus: {reason}; move the folder away to begin anew"
            )
        return None

    def wait(self) -> None:
        """Returns once what was begun to be saved is on disk."""
        with self._refusing("a checkpoint could not be written"):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and gives the threads back."""
        with self._refusing("a checkpoint could not be written"):
            self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        # An error that is under way says more than a second one.
        with contextlib.suppress(*([] if kind is None else [Exception])):
            self.close()

    def _check_configuration(self, step: int, there: dict[str, Any]) -> None:
        found = _difference("", there, self._configuration)
        if found:
            name, expected, given = found
            raise InputError(
                f"{self.folder / str(step)} is of another configuration: expected {name} {expected}, given {given}"
            )

    def _set_aside(self, damaged: Mapping[int, str], good: int) -> None:
        for step, reason in damaged.items():
            line = f"{self.folder / str(step)} is damaged ({reason}) and set aside; going back to step {good}"
            print(line, file=sys.stderr, flush=True)
            place = self.folder / DAMAGED / str(step)
            place.parent.mkdir(exist_ok=True)
            while place.exists():
                place = place.with_name(place.name + "_")
            os.rename(self.folder / str(step), place)
        if damaged:
            self._manager.reload()

    @contextlib.contextmanager
    def _refusing(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reason = _refusal(error)
            if reason is None:
                raise
            raise InputError(f"{self.folder}: {what}: {reason}; what was saved before is as it was") from None


def restore_params(folder: str | Path, template: PyTree, *, step: int | None = None) -> PyTree:
    """The parameters alone, as `template`: of `step`, or of the best checkpoint, or of the latest if none was scored.

    Raises InputError where there is none, where it is damaged, and for parameters of another shape, naming the first.
    """
    folder = Path(folder).absolute()
    _silence_orbax()
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of checkpoints, given {'a file' if folder.exists() else 'none'}")
    with contextlib.closing(_manager(folder, read_only=True)) as manager:
        steps = manager.all_steps()
        chosen = step if step is not None else _best(steps, _read_scores(folder))
        chosen = max(steps, default=None) if chosen is None else chosen
        if chosen not in steps:
            raise InputError(f"{folder}: expected a checkpoint{'' if step is None else f' of step {step}'}, given none")
        try:
            about = _about(manager, chosen)
            index = {name: kind for name, kind in about["index"].items() if re.match(r"params\b", name)}
            _check_index(f"{folder / str(chosen)}", index, _named(template, ".params"))
            [found] = _trees(manager, chosen, params=template)
            _check_sums(index, _named(found, ".params"))
        except _Damaged as error:
            raise InputError(f"{folder / str(chosen)} is damaged: {error}") from None
    return found


class _LatestAndBest(NamedTuple):
    """Orbax asks it which checkpoints to preserve; the scores are those of the `Checkpoints`, as they stand."""

    count: int
    scores: Mapping[int, float]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        steps = [one.step for one in checkpoints]
        kept = {*sorted(steps)[-self.count :], _best(steps, self.scores)}
        return [step in kept for step in steps]


class _Damaged(Exception):
    """A checkpoint cannot be read, or is not what was written."""


# Reading.


def _manager(folder: Path, **options: Any) -> ocp.CheckpointManager:
    # Folders are made within `save`: left to its threads, a folder that cannot be made keeps them waiting for minutes.
    waits = ocp.AsyncOptions(create_directories_asynchronously=False)
    return ocp.CheckpointManager(
        folder, options=ocp.CheckpointManagerOptions(async_options=waits, **options), item_names=ITEMS
    )


def _items(manager: ocp.CheckpointManager, step: int, **items: Any) -> Any:
    try:
        return manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:  # whatever a broken file leads to
        refused = _refusal(error)
        if refused not in (None, os.strerror(errno.ENOENT)):  # the disk's fault now, not the checkpoint's
            raise InputError(f"{manager.directory / str(step)} could not be read: {refused}") from None
        raise _Damaged(_line(error)) from None


def _trees(manager: ocp.CheckpointManager, step: int, **templates: PyTree) -> list[PyTree]:
    wanted = {name: ocp.args.StandardRestore(jax.tree.map(_abstract, one)) for name, one in templates.items()}
    found = _items(manager, step, **wanted)
    return [jax.tree.map(_given_back, found[name], template) for name, template in templates.items()]


def _about(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    about = _items(manager, step, about=ocp.args.JsonRestore()).about
    if not isinstance(about, dict) or about.pop("hash", None) != _hash(about):
        raise _Damaged("about: its checksum is wrong")
    return about


def _read(manager: ocp.CheckpointManager, step: int, about: dict[str, Any], template: PyTree) -> PyTree:
    params, rest = _trees(manager, step, params=template.params, rest=template.replace(params=None))
    state = rest.replace(params=params)
    _check_sums(about["index"], _named(state))
    return state


def _check_index(where: str, there: Mapping[str, list], asked: Mapping[str, Any]) -> None:
    given = {name: list(_kind(leaf)) for name, leaf in asked.items()}
    for name in [*given, *there]:
        old = there[name][:2] if name in there else "absent"
        new = given.get(name, "absent")
        if old != new:
            raise InputError(f"{where} is of another state: expected {name} {_words(old)}, given {_words(new)}")


def _check_sums(index: Mapping[str, list], found: Mapping[str, Any]) -> None:
    for name, leaf in found.items():
        if _checksum(leaf) != index[name][2]:
            raise _Damaged(f"{name}: its checksum is wrong")


# Names, kinds and checksums of arrays.


def _named(tree: PyTree, before: str = "") -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {(before + jax.tree_util.keystr(path)).removeprefix("."): leaf for path, leaf in leaves}


def _kind(leaf: Any) -> tuple[str, list[int]]:
    return str(leaf.dtype), list(leaf.shape)


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape if leaf.size else (1,), leaf.dtype, sharding=sharding)


def _stored(leaf: Any) -> Any:
    """An array as orbax takes it: not empty."""
    return leaf if leaf.size else jnp.zeros(1, leaf.dtype)


def _given_back(found: Any, template: Any) -> Any:
    return found if template.size else jnp.zeros(template.shape, template.dtype)


def _checksum(leaf: Any) -> int:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _words(kind: Sequence[Any] | str) -> str:
    return kind if isinstance(kind, str) else f"{kind[0]}{kind[1]}"


def _difference(name: str, there: Any, asked: Any) -> tuple[str, str, str] | None:
    """Name, old and new value of the first difference of two values from JSON."""
    if isinstance(there, dict) and isinstance(asked, dict):
        for key in [*asked, *there]:
            inner = f"{name}.{key}" if name else key
            if key not in there or key not in asked:
                return inner, *("absent" if key not in one else json.dumps(one[key]) for one in (there, asked))
            if found := _difference(inner, there[key], asked[key]):
                return found
        return None
    # As text, for 1 and 1.0 are equal, and not the same configuration.
    old, new = json.dumps(there), json.dumps(asked)
    return None if old == new else (name, old, new)


# Scores.


def _best(steps: Sequence[int], scores: Mapping[int, float]) -> int | None:
    scored = [step for step in sorted(steps) if np.isfinite(scores.get(step, np.nan))]
    return min(scored, key=lambda step: scores[step], default=None)


def _read_scores(folder: Path) -> dict[int, float]:
    try:
        return {int(step): float(value) for step, value in json.loads((folder / SCORES).read_text()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError):
        print(f"{folder / SCORES} is damaged: no checkpoint before is known as the best", file=sys.stderr, flush=True)
        return {}


# What goes wrong.


def _refusal(error: BaseException) -> str | None:
    """In the system's words what it refused; None where the error is of another kind. Orbax's are of any type."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    code = re.search(r"os_error_code='(\d+)'|\[Errno (\d+)\]", str(error))
    if code:
        return os.strerror(int(code[1] or code[2]))
    return os.strerror(errno.ENOENT) if re.search(r"NOT_FOUND|No such file", str(error)) else None


def _line(error: BaseException) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 160 else words[:157] + "..."


class _NotOrbax(logging.Filter):
    """Keeps out what orbax logs: dozens of lines a save, and each error, which is raised as well, with tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        frames, trace = [record.pathname], record.exc_info[2] if record.exc_info else None
        while trace:
            frames.append(trace.tb_frame.f_code.co_filename)
            trace = trace.tb_next
        return not any(f"{os.sep}orbax{os.sep}" in frame for frame in frames)


class _NotTensorstore:
    """Keeps out what tensorstore's threads throw where nobody can catch it: a write that failed tells an event loop
    which that same failure has ended."""

    def __init__(self, before: Callable[[Any], Any]):
        self.before = before

    def __call__(self, thrown: Any) -> None:
        if not (thrown.object is None and str(thrown.exc_value) == "Event loop is closed"):
            self.before(thrown)


_NOT_ORBAX = _NotOrbax()


def _silence_orbax() -> None:
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_NOT_ORBAX)  # a filter is added once, however often it is asked
    if not isinstance(sys.unraisablehook, _NotTensorstore):
        sys.unraisablehook = _NotTensorstore(sys.unraisablehook)
