"""An experiment as its command runs it, in this process."""

from pathlib import Path
from typing import Any

import jax

import experiments
from rnnlab import cli, runs


def launched(name: str, folder: Path, **flags: Any) -> int:
    """The exit status of `launch.py NAME --flag=value ... --runs=FOLDER`."""
    words = [f"--{flag}={value}" for flag, value in {**flags, "runs": folder}.items()]
    with jax.numpy_dtype_promotion("standard"):  # strict promotion is for the core
        return cli.launch([name, *words, "--nocompilation_cache"], experiments, name)


def only_run(folder: Path) -> runs.Run:
    """The one run that is in the folder."""
    [path] = folder.iterdir()
    return runs.Run(path)
