"""Runs of other experiments within a run: each a folder of its own below grid/, found again where it is done."""

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any

from rnnlab import runs
from rnnlab.errors import InputError


def child(parent: runs.Run, module: ModuleType, config: Any, label: str) -> runs.Run:
    """The run of an experiment with a configuration in the parent's grid/LABEL: done before, resumed or begun.

    Its figure is drawn when somebody asks for it: `launch.py figure RUN/grid/*`.
    """
    name, path = module.__name__.rpartition(".")[2], parent.path / "grid" / label
    given = module.inputs(config)
    asked = (name, dataclasses.asdict(config), given.hashes)
    status = runs.find(path, *asked)
    if status is None or status["state"] != "done":
        facts = parent.provenance
        own = {"device": facts["device"], "seed": config.seed, "command": facts["command"], "stop": parent.stop}
        with runs.begin(path, *asked, resume=True, sources=(Path(module.__file__).parent,), **own) as run:
            module.run(config, given, run)
    return runs.Run(path)


def check(module: ModuleType, config: Any) -> None:
    """Raises InputError, with the experiment's name, for a configuration that it refuses."""
    try:
        module.inputs(config)
    except InputError as error:
        raise InputError(f"{module.__name__.rpartition('.')[2]}: {error}") from None
