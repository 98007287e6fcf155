"""Tasks by name: each a factory of a `Task`."""

from collections.abc import Callable
from functools import partial

from rnnlab.tasks.adding import adding
from rnnlab.tasks.agreement import agreement
from rnnlab.tasks.copy_memory import copy_memory
from rnnlab.tasks.noise_padded import noise_padded, padded_with_noise
from rnnlab.tasks.parity import parity
from rnnlab.tasks.selective_copy import selective_copy
from rnnlab.tasks.task import AXES, Answer, Example, Task, asked_last, below, draw_batch, each_step, key_of
from rnnlab.tasks.temporal_order import temporal_order

TASKS: dict[str, Callable[..., Task]] = {
    "adding": adding,
    "copy_memory": copy_memory,
    "temporal_order": temporal_order,
    "temporal_order_8": partial(temporal_order, classes=8),
    "selective_copy": selective_copy,
    "noise_padded": noise_padded,
    "parity": parity,
    "agreement": agreement,
    "agreement_near": partial(agreement, subject="near"),
}

__all__ = [
    "AXES",
    "TASKS",
    "Answer",
    "Example",
    "Task",
    "adding",
    "agreement",
    "asked_last",
    "below",
    "copy_memory",
    "draw_batch",
    "each_step",
    "key_of",
    "noise_padded",
    "padded_with_noise",
    "parity",
    "selective_copy",
    "temporal_order",
]
