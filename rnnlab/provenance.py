"""What a result came from: the commit, the code, the versions, the machine. Imports no JAX."""

import hashlib
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("rnnlab", "jax", "jaxlib", "flax", "optax", "numpy")

SETTINGS = ("GLIBC_TUNABLES", "JAX_", "XLA_")  # what changes how a program runs, and so how fast


def code(*folders: str | Path) -> str:
    """SHA-256 of the names and contents of every *.py file of rnnlab and of `folders` (the experiments)."""
    digest = hashlib.sha256()
    for folder in (Path(__file__).parent, *map(Path, folders)):
        for file in sorted(folder.rglob("*.py")):
            name = file.relative_to(folder.parent).as_posix().encode()
            digest.update(name + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def commit(folder: Path) -> dict[str, Any] | None:
    """The git commit of the package in `folder`, and whether tracked files differ from it; None outside one."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(folder), "--no-optional-locks", *arguments]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
        return answer.stdout.strip() if answer.returncode == 0 else None

    # Inside a git hook these name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        # A package that is installed below somebody else's checkout is not part of it: hence the look at the file.
        if git("ls-files", "--error-unmatch", "__init__.py") is None or (head := git("rev-parse", "HEAD")) is None:
            return None
        return {"commit": head, "dirty": git("status", "--porcelain", "--untracked-files=no") != ""}
    except (OSError, subprocess.TimeoutExpired):
        return None


def gathered(sources: tuple[str | Path, ...]) -> dict[str, Any]:
    """Commit, code, versions and processor, as JSON takes them; `sources` are folders of code beside rnnlab's."""
    try:
        processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        processor = None
    return {
        "git": commit(Path(__file__).parent),
        "code": code(*sources),
        "versions": {"python": platform.python_version(), **{package: _version(package) for package in PACKAGES}},
        "environment": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(SETTINGS)},
        "cpu": {"model": processor[1] if processor else platform.processor() or None, "cores": os.cpu_count()},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
