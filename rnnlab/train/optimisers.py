"""Optimisers and learning rates by name, all of them optax's."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import optax

from rnnlab.errors import InputError
from rnnlab.types import PyTree


class Optimiser(NamedTuple):
    """An optax transformation with the schedule it was made with, so that a step can say what its rate was.

    init:   params -> state
    update: (gradients, state, params) -> (updates, state)
    rate:   step [] -> learning rate []
    """

    init: Callable[..., PyTree]
    update: Callable[..., tuple[PyTree, PyTree]]
    rate: optax.Schedule


# Each takes the learning rate or a schedule of it, and optax's own options by name.
OPTIMISERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": optax.adam,
    "adamw": optax.adamw,
    "nadam": optax.nadam,
    "rmsprop": optax.rmsprop,
    "adagrad": optax.adagrad,
    "lion": optax.lion,
    "sgd": optax.sgd,
    "momentum": partial(optax.sgd, momentum=0.9),
    "nesterov": partial(optax.sgd, momentum=0.9, nesterov=True),
}


def constant(peak: float, steps: int, warm_up: int) -> optax.Schedule:
    """From 0 to the peak in `warm_up` steps, then the peak."""
    return optax.warmup_constant_schedule(0.0 if warm_up else peak, peak, warm_up)


def cosine(peak: float, steps: int, warm_up: int) -> optax.Schedule:
    """From 0 to the peak in `warm_up` steps, then half a cosine to 0 at the last (Loshchilov & Hutter 2017, eq. 5)."""
    return optax.warmup_cosine_decay_schedule(0.0 if warm_up else peak, peak, warm_up, max(steps, warm_up + 1))


def linear(peak: float, steps: int, warm_up: int) -> optax.Schedule:
    """From 0 to the peak in `warm_up` steps, then straight to 0 at the last."""
    down = optax.linear_schedule(peak, 0.0, max(1, steps - warm_up))
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warm_up), down], [warm_up]) if warm_up else down


def inverse_sqrt(peak: float, steps: int, warm_up: int) -> optax.Schedule:
    """From 0 to the peak in `warm_up` steps, then with the root of the step (Vaswani et al. 2017, equation 3)."""
    warm = max(1, warm_up)

    def down(count):
        return peak * (warm / (count + warm)) ** 0.5

    return optax.join_schedules([optax.linear_schedule(0.0, peak, warm_up), down], [warm_up]) if warm_up else down


# (peak, steps, warm_up) -> step -> rate: the highest rate, the steps of the whole training, and those of its beginning.
SCHEDULES: dict[str, Callable[[float, int, int], optax.Schedule]] = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "inverse_sqrt": inverse_sqrt,
}


def schedule(name: str, *, peak: float, steps: int, warm_up: int) -> optax.Schedule:
    """The learning rate of every step by the name of its schedule; 0 at step 0 where warm_up > 0.

    Raises InputError for a name that is not in `SCHEDULES`, a peak below 0, and more steps of warm-up than steps.
    """
    if not peak >= 0:
        raise InputError(f"learning rate: expected a number of at least 0, got {peak}")
    if not 0 <= warm_up <= steps:
        raise InputError(f"warm-up: expected between 0 and all {steps} steps, got {warm_up}")
    return _named("schedule", SCHEDULES, name)(peak, steps, warm_up)


def optimiser(name: str, rate: optax.Schedule, **options: PyTree) -> Optimiser:
    """The optimiser of that name in `OPTIMISERS`, with optax's own options (b1, momentum, weight_decay, ...).

    Raises InputError for a name that is not there, TypeError for an option that this optimiser has not.
    """
    found = _named("optimiser", OPTIMISERS, name)(rate, **options)
    return Optimiser(found.init, found.update, rate)


def _named(what: str, table: dict[str, Callable], name: str) -> Callable:
    if name not in table:
        raise InputError(f"{what}: expected one of {', '.join(table)}, got {name!r}")
    return table[name]
