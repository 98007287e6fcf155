"""Recurrent cells by name: `CELLS[name](hidden) -> Cell`. One file a family."""

from functools import partial

import jax

from rnnlab import initializers as inits
from rnnlab.cells.conv_lstm import ConvLSTMCarry, ConvLSTMParams, conv_lstm
from rnnlab.cells.elman import ElmanParams, elman
from rnnlab.cells.gated import FastGRNNParams, MinimalRNNParams, OneGateParams, fast_grnn, mgu, minimal_rnn, ugrnn
from rnnlab.cells.gru import GRUParams, gru, gru_before
from rnnlab.cells.hidden import Hidden
from rnnlab.cells.highway import HighwayParams, rhn
from rnnlab.cells.jordan import JordanCarry, JordanParams, jordan
from rnnlab.cells.layer_norm import NormedGRUParams, NormedLSTMParams, gru_layer_norm, lstm_layer_norm
from rnnlab.cells.lstm import LSTMCarry, LSTMParams, lstm
from rnnlab.cells.lstm_kin import CIFGParams, LSTM1997Params, PeepholeParams, cifg, lstm_1997, lstm_peephole
from rnnlab.cells.scrn import SCRNCarry, SCRNParams, scrn
from rnnlab.types import Cell


def lstm_projected(hidden: int) -> Cell:
    """`lstm` with outputs of half its units, rounded up."""
    return lstm(hidden, projection=(hidden + 1) // 2)


CELLS = {
    "elman": elman,
    "elman_relu": partial(elman, activation=jax.nn.relu),
    "irnn": partial(elman, activation=jax.nn.relu, recurrent=inits.identity()),
    "jordan": jordan,
    "lstm": lstm,
    "lstm_forget0": partial(lstm, forget_bias=0.0),
    "lstm_1997": lstm_1997,
    "lstm_peephole": lstm_peephole,
    "cifg": cifg,
    "lstm_projected": lstm_projected,
    "lstm_layer_norm": lstm_layer_norm,
    "gru": gru,
    "gru_before": gru_before,
    "gru_layer_norm": gru_layer_norm,
    "mgu": mgu,
    "ugrnn": ugrnn,
    "minimal_rnn": minimal_rnn,
    "fast_grnn": fast_grnn,
    "rhn": rhn,
    "scrn": scrn,
}
# Whose inputs are images: IMAGE_CELLS[name](channels, rows=, columns=) -> Cell.
IMAGE_CELLS = {"conv_lstm": conv_lstm}

__all__ = [
    "CELLS", "IMAGE_CELLS", "CIFGParams", "Cell", "ConvLSTMCarry", "ConvLSTMParams", "ElmanParams",
    "FastGRNNParams", "GRUParams", "Hidden", "HighwayParams", "JordanCarry", "JordanParams",
    "LSTM1997Params", "LSTMCarry", "LSTMParams", "MinimalRNNParams", "NormedGRUParams", "NormedLSTMParams",
    "OneGateParams", "PeepholeParams", "SCRNCarry", "SCRNParams", "cifg", "conv_lstm", "elman", "fast_grnn", "gru",
    "gru_before", "gru_layer_norm", "jordan", "lstm", "lstm_1997", "lstm_layer_norm", "lstm_peephole",
    "lstm_projected", "mgu", "minimal_rnn", "rhn", "scrn", "ugrnn",
]  # fmt: skip
