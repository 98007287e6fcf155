"""What the laboratory must reproduce: one specification a row, read by the test, the experiment and the table.

A setting holds numbers only and an expected value is a number, or the closed form that gives it, so that a
row can be printed without JAX. g, a, u: factors a step; k: the lag T - t in steps; m: layers below the top.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Spec(NamedTuple):
    """One row: what is set up, what must come out, how close, and where the formula stands."""

    name: str
    setting: Mapping[str, Any]
    expected: Any
    tolerance: Any
    source: str


def sigmoid(bias: float) -> float:
    return 1 / (1 + math.exp(-bias))


def gate_decay(bias: float, lag: int) -> float:
    """dc_T/dc_t of an LSTM, dh_T/dh_t of a GRU, whose weights are zero: the gate to the power of the lag."""
    return sigmoid(bias) ** lag


def lattice_paths(a: float, u: float, k: int, m: int) -> float:
    """dh^L_T/dh^l_t of a linear stack: C(k + m, m) monotone paths, k steps in time and m in depth, of equal weight."""
    return math.comb(k + m, m) * a**k * u**m


R1 = Spec(
    "R1",
    dict(gains=(0.5, 0.9, 1.0, 1.1), T=100, H=32),
    dict(
        log_singular_value=lambda g, k: k * math.log(g),  # each of the H
        log_frobenius=lambda g, k, hidden: k * math.log(g) + math.log(hidden) / 2,
    ),
    1e-12,
    "h_t = x_t W + h_{t-1} gQ, Q orthogonal: every J_t is gQ^T (Saxe, McClelland & Ganguli 2014, section 3)",
)
R2 = Spec(
    "R2",
    dict(T=12, B=3, D=4, H=5, layers=3),
    "delta_t = J_{t+1}^T delta_{t+1} + dl_t/dh_t",
    dict(float64=1e-12, float32=1e-5),  # relative to ||delta_t||
    "backpropagation through time (Werbos 1990)",
)
R3 = Spec(
    "R3",
    dict(T=20),
    lambda u, h: u * (1 - h * h),  # d_i, whose product over i is dh_T/dh_0
    1e-13,  # relative
    "h_i = tanh(w x_i + u h_{i-1} + b): the lecture's product d_1 d_2 ... d_T",
)
R4 = Spec(
    "R4",
    dict(biases=(0.0, 1.0, 2.0, 5.0), T=40, H=6),
    dict(
        factor=gate_decay,
        gamma=(0.5, 0.731059, 0.880797, 0.993307),  # as printed, to six digits
        half_life=(1.0, 2.2127, 5.4609, 103.2183),  # steps, as printed, to four
    ),
    dict(factor=1e-12, gamma=5e-7, half_life=5e-5),
    "LSTM with W = U = 0: c_t = sigmoid(b_f) c_{t-1} + i g (Gers, Schmidhuber & Cummins 2000)",
)
R5 = Spec(
    "R5",
    dict(biases=(0.0, 1.0, 2.0, 5.0), T=40, H=6),
    gate_decay,
    1e-12,
    "GRU with W = U = 0: h_t = sigmoid(b_z) h_{t-1} + (1 - z) n (Cho et al. 2014, equation 7)",
)
R6 = Spec(
    "R6",
    dict(layers=5, T=40, a=0.9, u=0.8),
    dict(gradient=lattice_paths, peak=843.313, peak_lags=(35, 36)),  # the peak is of layer 0
    dict(gradient=1e-12, peak=5e-4),  # relative; absolute, as printed
    "h^l_t = a h^l_{t-1} + u h^{l-1}_t: paths through the grid of layers and steps",
)
R13 = Spec(
    "R13",
    dict(gains=(0.5, 2.0), T=400, H=32),  # float32; each row's own loss is c . h_T, c ~ N(0, 1)
    dict(
        log_norm=lambda g, k: k * math.log(g),  # ln ||delta_t|| - ln ||c||, at every lag
        naive_zero=lambda largest: 63 + math.log2(largest),  # lags beyond which sqrt(sum(delta^2)) is 0 at 1/2 a step
        tap_zero=lambda largest: 126 + math.log2(largest),  # lags beyond which delta itself is
    ),
    1e-3,  # nats
    "Werbos 1990, an exponent beside every vector. The row said that a naive norm is 0 beyond 64 lags: it is where "
    "every square, (c_i 2^-k)^2, is below the least normal float, 2^-126 (XLA flushes what is smaller), so beyond "
    "63 + log2 max |c_i| lags: 63 at c_i = 1, 65 where the largest is 4",
)
R15 = Spec(
    "R15",
    dict(sizes=(2, 5, 16, 33), seeds=3, epsilon=0.1),
    dict(
        antisymmetric=lambda epsilon, norm: math.sqrt(1 + (epsilon * norm) ** 2),  # norm: largest singular value of A
        lru_power=1.0,  # E |s|^2 of a unit, white inputs
    ),
    dict(antisymmetric=1e-8, lru_power=0.03),
    "h_t = h_{t-1} + epsilon (x_t W + h_{t-1} A + b), A = -A^T: J = I + epsilon A^T is normal (Chang et al. 2019); "
    "LRU at its ring initialisation (Orvieto et al. 2023, section 3.3)",
)
R17 = Spec(
    "R17",
    dict(T=7, B=3, D=2, H=4),
    "`associative` = `scan`, for every cell with `affine`",
    dict(float64=1e-12, float32=1e-5),  # relative to the largest entry
    "c_t = a_t c_{t-1} + b_t as one scan over an associative product (Blelloch 1990; Martin & Cundy 2018, section 2.2)",
)
R18 = Spec(
    "R18",
    dict(T=1000, B=2, D=4, sizes=(4, 16), cells=("elman", "lstm", "gru")),  # all weights U(+-1/sqrt H), float32
    dict(iterations=8),  # of full Newton, at most; seen 4 to 7
    dict(states=2e-6, gradients=5e-6),  # absolute; relative to the largest entry
    "Newton's method on the whole trajectory = step after step (Lim et al. 2024, DEER)",
)
R21 = Spec(
    "R21",
    dict(seed=3, scales=(1.0, 0.5), N=2, H=3, lags=(1, 10, 20)),
    {1.0: (2.46841, 25.689, 249.496), 0.5: (1.2342, 0.0250869, 0.000237938)},  # sqrt(sum(dh^2)) / N
    1e-5,  # relative
    "dh <- dh Wh^T from ones (Saitoh 2018, Deep Learning from Scratch 2, rnn_gradient_graph.py)",
)

SPECS = {spec.name: spec for spec in (R1, R2, R3, R4, R5, R6, R13, R15, R17, R18, R21)}
