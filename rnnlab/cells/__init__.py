"""Recurrent cells by name: `CELLS[name](hidden) -> Cell`. One file a family."""

from functools import partial

import jax

from rnnlab import initializers as inits
from rnnlab.cells.antisymmetric import AntisymmetricParams, antisymmetric_rnn
from rnnlab.cells.conv_lstm import ConvLSTMCarry, ConvLSTMParams, conv_lstm
from rnnlab.cells.diagonal_gates import ParaGRUParams, ParaLSTMParams, para_gru, para_lstm
from rnnlab.cells.elman import ElmanParams, elman
from rnnlab.cells.gated import FastGRNNParams, MinimalRNNParams, OneGateParams, fast_grnn, mgu, minimal_rnn, ugrnn
from rnnlab.cells.gru import GRUParams, gru, gru_before
from rnnlab.cells.hidden import Hidden
from rnnlab.cells.highway import HighwayParams, rhn
from rnnlab.cells.independent import IndRNNParams, ind_rnn
from rnnlab.cells.jordan import JordanCarry, JordanParams, jordan
from rnnlab.cells.layer_norm import NormedGRUParams, NormedLSTMParams, gru_layer_norm, lstm_layer_norm
from rnnlab.cells.legendre import LMUCarry, LMUParams, lmu
from rnnlab.cells.lru import LRUParams, lru
from rnnlab.cells.lstm import LSTMCarry, LSTMParams, lstm
from rnnlab.cells.lstm_kin import CIFGParams, LSTM1997Params, PeepholeParams, cifg, lstm_1997, lstm_peephole
from rnnlab.cells.minimal_gates import MinGRUParams, MinLSTMParams, min_gru, min_lstm
from rnnlab.cells.multiscale import LEMCarry, LEMParams, lem
from rnnlab.cells.orthogonal import OrthogonalParams, exp_rnn, sco_rnn
from rnnlab.cells.oscillatory import CoRNNCarry, CoRNNParams, co_rnn
from rnnlab.cells.quasi import QRNNCarry, QRNNParams, QRNNWindowCarry, qrnn
from rnnlab.cells.rg_lru import RGLRUParams, rg_lru
from rnnlab.cells.s5 import S5Params, s5
from rnnlab.cells.scrn import SCRNCarry, SCRNParams, scrn
from rnnlab.cells.sru import SRUCarry, SRUParams, sru
from rnnlab.cells.unitary import UnitaryParams, unitary_rnn
from rnnlab.cells.xlstm import MLSTMCarry, MLSTMParams, SLSTMCarry, SLSTMParams, mlstm, slstm
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
    "slstm": slstm,
    "mlstm": mlstm,
    "lru": lru,
    "s5": s5,
    "min_gru": min_gru,
    "min_lstm": min_lstm,
    "rg_lru": rg_lru,
    "qrnn": qrnn,
    "sru": sru,
    "para_gru": para_gru,
    "para_lstm": para_lstm,
    "sco_rnn": sco_rnn,
    "exp_rnn": exp_rnn,
    "unitary_rnn": unitary_rnn,
    "ind_rnn": ind_rnn,
    "antisymmetric_rnn": antisymmetric_rnn,
    "co_rnn": co_rnn,
    "lem": lem,
    "lmu": lmu,
}
# Whose inputs are images: IMAGE_CELLS[name](channels, rows=, columns=) -> Cell.
IMAGE_CELLS = {"conv_lstm": conv_lstm}

__all__ = [
    "CELLS", "IMAGE_CELLS", "AntisymmetricParams", "CIFGParams", "Cell", "CoRNNCarry", "CoRNNParams",
    "ConvLSTMCarry", "ConvLSTMParams", "ElmanParams", "FastGRNNParams", "GRUParams", "Hidden", "HighwayParams",
    "IndRNNParams", "JordanCarry", "JordanParams", "LEMCarry", "LEMParams", "LMUCarry", "LMUParams",
    "LRUParams", "LSTM1997Params", "LSTMCarry", "LSTMParams", "MLSTMCarry", "MLSTMParams", "MinGRUParams",
    "MinLSTMParams", "MinimalRNNParams", "NormedGRUParams", "NormedLSTMParams", "OneGateParams",
    "OrthogonalParams", "ParaGRUParams", "ParaLSTMParams", "PeepholeParams", "QRNNCarry", "QRNNParams",
    "QRNNWindowCarry", "RGLRUParams", "S5Params", "SCRNCarry", "SCRNParams", "SLSTMCarry", "SLSTMParams",
    "SRUCarry", "SRUParams", "UnitaryParams", "antisymmetric_rnn", "cifg", "co_rnn", "conv_lstm", "elman",
    "exp_rnn", "fast_grnn", "gru", "gru_before", "gru_layer_norm", "ind_rnn", "jordan", "lem", "lmu", "lru",
    "lstm", "lstm_1997", "lstm_layer_norm", "lstm_peephole", "lstm_projected", "mgu", "min_gru", "min_lstm",
    "minimal_rnn", "mlstm", "para_gru", "para_lstm", "qrnn", "rg_lru", "rhn", "s5", "sco_rnn", "scrn", "slstm",
    "sru", "ugrnn", "unitary_rnn",
]  # fmt: skip
