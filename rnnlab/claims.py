"""Whether a run may be written to a folder: what is in its way, whose run is there, and who is writing it."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rnnlab.errors import InputError


def check_place(path: Path) -> None:
    """Refuses what cannot be made a folder of, or written to."""
    existing = path.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"no run can be written to {path}: {existing} is no folder")
    if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        raise InputError(f"no run can be written to {path}: no permission to write to {existing}")


def check_folders(path: Path, names: Iterable[str]) -> None:
    """Before anything is cleared or cut: where a folder is gone for now, its run is to be resumed once it is back."""
    for place in (path / name for name in names):
        if os.path.lexists(place) and not place.is_dir():
            raise InputError(f"{place}: expected a folder, given a file; put back what was there")


def check_same(path: Path, there: dict[str, Any], asked: dict[str, Any]) -> None:
    """Refuses another run than the one that is there, by the first thing that differs."""

    def fields(request: dict[str, Any]) -> dict[str, str]:
        pairs = [("experiment", request["experiment"])]
        pairs += [(f"{part}.{name}", value) for part in ("config", "data") for name, value in request[part].items()]
        return {name: json.dumps(value) for name, value in pairs}

    old, new = fields(there), fields(asked)
    for name in [*new, *old]:
        if old.get(name) != new.get(name):
            given, expected = new.get(name, "absent"), old.get(name, "absent")
            raise InputError(
                f"{path} holds another run: expected {name} {expected}, given {given}; name another folder"
            )


def settled(path: Path, status: dict[str, Any], force: bool) -> dict[str, Any]:
    """The status, "incomplete" if the process that wrote "running" is no more; refuses one that lives, or may."""
    if status["state"] != "running":
        return status
    pid, host = status["pid"], status["host"]
    if host == socket.gethostname():
        if _alive(pid, status["started"]):
            raise InputError(
                f"{path} is being written by process {pid} since {status['began']}; wait for it or stop it"
            )
    elif not force:
        raise InputError(
            f"{path} is being written by process {pid} on {host} since {status['began']}, as far as can be seen from "
            "here; --taken_over goes on from what it left, --force begins it anew"
        )
    return status | {"state": "incomplete", "reason": f"process {pid} on {host} ended without a word"}


def started(pid: int) -> str | None:
    """When a process began, in clock ticks since the boot, so that a number used again is not taken for it."""
    found = _stat(pid)
    return found[19] if found else None


def _alive(pid: int, began: str | None) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    found = _stat(pid)
    # One that has ended is in the table until its parent asks for its status.
    return began == started(pid) and not (found and found[0] in "ZX")


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; None for no such process, or where there is no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps a folder from another process that claims it in this way."""
    folder = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path} is being opened by another process") from None
        except OSError:
            pass  # Some network filesystems have no locks; there two simultaneous starts may go unseen.
        yield
    finally:
        os.close(folder)
