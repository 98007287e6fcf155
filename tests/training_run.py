"""Does a run that was stopped at any moment end in the same bits?

A program that trains a small Elman network on shuffled batches and can be made to stand still at one place; and a
nursery, which imports everything once and forks a life for each line of its standard input, so that fifty of them cost
little.
"""

import ctypes
import dataclasses
import itertools
import json
import os
import resource
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from matplotlib.figure import Figure

from rnnlab import cli
from rnnlab.train.checkpoints import Checkpoints
from rnnlab.train.events import Events
from rnnlab.train.fit import Final, Step, Validation, fit

RESUMES = True
EXAMPLES, LENGTH, FEATURES = 60, 9, 3


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = cli.flag(200, "training steps", low=1)
    batch: int = cli.flag(8, "sequences in a step", low=1)
    every: int = cli.flag(10, "steps between checkpoints", low=1)
    evaluate_every: int = cli.flag(50, "steps between evaluations", low=1)
    hidden: int = cli.flag(6, "units", low=1)
    rate: float = cli.flag(0.01, "Adam's step size", low=0.0)
    seed: int = cli.flag(0, "the seed", low=0)


@flax.struct.dataclass
class State:
    params: Any
    optimiser: Any
    step: Any
    key: Any


class Metrics(NamedTuple):
    loss: Any
    finite: Any


def inputs(config):
    return SimpleNamespace(hashes={})


def hang(place: str) -> None:
    """Stands still at the place that HANG names: in Python, or (with a C before) where no handler runs."""
    asked, _, step = os.environ.get("HANG", "").partition("@")
    if asked.removeprefix("C") != place.partition("@")[0] or step != place.partition("@")[2]:
        return
    print(f"at {place}", flush=True)
    if asked.startswith("C"):
        lock, taken = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
        taken(lock), taken(lock)
    time.sleep(300)


def batches(xs, size):
    per_epoch = len(xs) // size

    def stream(position):
        epoch, index = position
        while True:
            order = np.random.default_rng([5, epoch]).permutation(len(xs))
            while index < per_epoch:
                hang(f"data@{epoch * per_epoch + index}")
                yield (epoch, index + 1), xs[order[index * size : (index + 1) * size]].swapaxes(0, 1)
                index += 1
            epoch, index = epoch + 1, 0

    return stream


def first_state(config):
    """Drawn by NumPy: a life is not to spend its time on compiling that."""
    draw, h = np.random.default_rng([7, config.seed]), config.hidden
    shapes = {"in": (FEATURES, h), "back": (h, h), "out": (h, FEATURES)}
    params = {name: draw.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    moments = jax.tree.map(lambda one: np.zeros(one.shape, one.dtype), jax.eval_shape(optax.adam(0.1).init, params))
    return jax.device_put(State(params, moments, np.int32(0), jax.random.key(config.seed)))


def built(config):
    """The step and the evaluation, of an Elman network with dropout, and the batches."""
    xs = np.random.default_rng(config.seed).normal(size=(EXAMPLES, LENGTH, FEATURES)).astype(np.float32)
    optimiser = optax.adam(config.rate)

    def loss(params, batch, key):
        def cell(h, x):
            h = jnp.tanh(x @ params["in"] + h @ params["back"])
            return h, h

        _, ys = lax.scan(cell, jnp.zeros((batch.shape[1], config.hidden)), batch[:-1])
        kept = ys * jax.random.bernoulli(key, 0.9, (config.hidden,))
        return jnp.mean((kept @ params["out"] - batch[1:]) ** 2)

    def update(state, batch):
        found, grads = jax.value_and_grad(loss)(state.params, batch, jax.random.fold_in(state.key, state.step))
        updates, moments = optimiser.update(grads, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(params, moments, state.step + 1, state.key), Metrics(found, jnp.isfinite(found))

    jitted = jax.jit(update, donate_argnums=0)
    calls = itertools.count()

    def step(state, batch):
        call = next(calls)
        if call == 0:
            hang("compile")
            if os.environ.get("HANG") == "xla":
                slow_to_compile(batch)
        hang(f"step@{call}")
        return jitted(state, batch)

    def evaluate(state):
        hang(f"evaluate@{int(state.step)}")
        params, h, errors = jax.device_get(state.params), 0.0, []
        for x, following in zip(xs.swapaxes(0, 1), xs.swapaxes(0, 1)[1:], strict=False):
            h = np.tanh(x @ params["in"] + (h @ params["back"] if errors else 0))
            errors.append(np.mean((h @ params["out"] - following) ** 2))
        return {"loss": np.mean(errors)}

    return step, batches(xs, config.batch), evaluate


def slow_to_compile(x):
    def deep(x):
        for n in range(400):
            x = jnp.sort(jnp.tanh(x * (1 + n / 7)) @ jnp.eye(FEATURES), axis=n % 3)
        return x

    print("at xla", flush=True)
    jax.jit(jax.grad(lambda x: deep(x).sum()))(x)
    print("compiled", flush=True)


def run(config, inputs, run):
    state, (step, stream, evaluate) = first_state(config), built(config)
    folder = run.path / "checkpoints"
    with Checkpoints(folder, dataclasses.asdict(config), keep=3) as checkpoints, Events(run) as events:
        for seen in fit(
            step, state, stream, position=(0, 0), steps=config.steps, checkpoints=checkpoints, journal=events,
            every=config.every, evaluate=evaluate, evaluate_at=range(0, config.steps, config.evaluate_every),
            stop=run.stop,
        ):  # fmt: skip
            match seen:
                case Step(number, metrics):
                    Path(f"{os.environ['LOG']}.trains").touch()
                    hang(f"row@{number}")
                    events.row("train", number, loss=metrics.loss)
                    run.record("losses", np.float32([[metrics.loss, number]]))
                case Validation(number, result):
                    events.row("validation", number, **result)
                case Final():
                    state = seen.state
        leaves = jax.tree_util.tree_leaves_with_path(state.params)
        run.arrays("final", **{jax.tree_util.keystr(path): leaf for path, leaf in leaves})


def figure(run):
    return Figure(figsize=(1, 1))


def table(run):
    return f"{run.rows()[-1]}"


def nursery() -> None:
    """A line is [settings of the environment, arguments]; answers the life's number, then as it ends its status."""
    import matplotlib.backends.backend_agg  # what a life would spend its time on
    import matplotlib.backends.backend_pdf  # noqa: F401

    for line in sys.stdin:
        settings, argv = json.loads(line)
        child = os.fork()
        if child == 0:
            os.environ.update(settings)
            log = os.open(settings["LOG"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if settings["LIMIT"]:
                resource.setrlimit(resource.RLIMIT_FSIZE, (int(settings["LIMIT"]),) * 2)
            status = cli.main(sys.modules[__name__], argv)
            sys.stdout.flush()
            os._exit(status)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--nursery"]:
        nursery()
    else:
        sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
