"""Recurrent cells by name: `CELLS[name](hidden) -> Cell`. One file a family."""

from functools import partial

import jax

from rnnlab.cells.elman import ElmanCarry, ElmanParams, elman
from rnnlab.cells.gru import GRUCarry, GRUParams, gru, gru_before
from rnnlab.cells.lstm import LSTMCarry, LSTMParams, lstm
from rnnlab.types import Cell

CELLS = {
    "elman": elman,
    "elman_relu": partial(elman, activation=jax.nn.relu),
    "lstm": lstm,
    "lstm_forget0": partial(lstm, forget_bias=0.0),
    "gru": gru,
    "gru_before": gru_before,
}

__all__ = [
    "CELLS", "Cell", "ElmanCarry", "ElmanParams", "GRUCarry", "GRUParams", "LSTMCarry", "LSTMParams",
    "elman", "gru", "gru_before", "lstm",
]  # fmt: skip
