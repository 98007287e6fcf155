"""Training: the state, the step, and what a step lets one see."""

from rnnlab.losses import Losses, per_row
from rnnlab.train.optimisers import OPTIMISERS, SCHEDULES, Optimiser, optimiser, schedule
from rnnlab.train.state import TrainState, init_state
from rnnlab.train.step import pure_step, train_step
from rnnlab.train.telemetry import Metrics, Place, describe

__all__ = [
    "OPTIMISERS", "SCHEDULES", "Losses", "Metrics", "Optimiser", "Place", "TrainState", "describe", "init_state",
    "optimiser", "per_row", "pure_step", "schedule", "train_step",
]  # fmt: skip
