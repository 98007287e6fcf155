"""Linear and diagonal cells, from their published equations."""

import numpy as np
from equation import Equation, sigmoid


def complex_of(pair):
    return pair[0] + 1j * pair[1]


def complex_step(p, carry, x, a, W):
    s = a * (carry.re + 1j * carry.im) + x @ W
    return carry._replace(re=s.real, im=s.imag)


def lru_step(p, carry, x):
    return complex_step(p, carry, x, np.exp(-np.exp(p.nu) + 1j * np.exp(p.theta)), complex_of(p.W) * np.exp(p.gamma))


def lru_read(p, carry, x):
    return ((carry.re + 1j * carry.im) @ complex_of(p.V)).real + x @ p.P


def s5_step(p, carry, x):
    eigenvalue = -np.exp(p.decay) + 1j * p.frequency
    a = np.exp(eigenvalue * np.exp(p.step))
    return complex_step(p, carry, x, a, (a - 1) / eigenvalue * complex_of(p.W))


def s5_read(p, carry, x):
    return 2 * ((carry.re + 1j * carry.im) @ complex_of(p.V)).real + x @ p.P


def min_gru_step(p, carry, x):
    z, n = np.split(x @ p.W + p.b, 2)
    return carry._replace(h=(1 - sigmoid(z)) * carry.h + sigmoid(z) * n)


def min_lstm_step(p, carry, x):
    f, i, n = np.split(x @ p.W + p.b, 3)
    f, i = sigmoid(f), sigmoid(i)
    return carry._replace(h=f / (f + i) * carry.h + i / (f + i) * n)


def rg_lru_step(p, carry, x):
    H = carry.h.size
    r, i = np.split(sigmoid(x @ p.W[:, : 2 * H] + p.b), 2)
    a = sigmoid(p.decay) ** (8 * r)
    return carry._replace(h=a * carry.h + np.sqrt(1 - a**2) * i * (x @ p.W[:, 2 * H :]))


def qrnn_step(p, carry, x):
    n, f, _ = np.split(x @ p.W + p.b, 3)
    return carry._replace(c=sigmoid(f) * carry.c + (1 - sigmoid(f)) * np.tanh(n))


def qrnn_read(p, carry, x):
    return sigmoid(np.split(x @ p.W + p.b, 3)[2]) * carry.c


def sru_step(p, carry, x):
    H = carry.c.size
    u = lambda k: x @ p.W[:, k * H : (k + 1) * H]  # noqa: E731
    f = sigmoid(u(1) + p.v[:H] * carry.c + p.b[:H])
    r = sigmoid(u(2) + p.v[H:] * carry.c + p.b[H:])
    return carry._replace(c=f * carry.c + (1 - f) * u(0), r=r)


def sru_read(p, carry, x):
    return carry.r * carry.c + (1 - carry.r) * np.sqrt(3) * (x @ p.W[:, 3 * carry.c.size :])


def para_gru_step(p, carry, x):
    (ur, uz, un), (ar, az, an) = np.split(p.U, 3), np.split(x @ p.W + p.b, 3)
    r, z = sigmoid(ar + ur * carry.h), sigmoid(az + uz * carry.h)
    return carry._replace(h=(1 - z) * carry.h + z * np.tanh(an + un * (r * carry.h)))


def para_lstm_step(p, carry, x):
    f, g, o = np.split(x @ p.W + p.b + p.U * np.tile(carry.h, 3), 3)
    pf, po = np.split(p.p, 2)
    f = sigmoid(f + pf * carry.c)
    c = f * carry.c + (1 - f) * np.tanh(g)
    return carry._replace(h=sigmoid(o + po * c) * np.tanh(c), c=c)


def half(hidden: int) -> int:
    return (hidden + 1) // 2


EQUATIONS = {
    "lru": Equation(lru_step, lambda D, H: 3 * H + 2 * D * H + 2 * H * H + D * H, lru_read),
    "s5": Equation(s5_step, lambda D, H: 3 * half(H) + 2 * half(H) * (D + H) + D * H, s5_read),
    "min_gru": Equation(min_gru_step, lambda D, H: 2 * (D * H + H)),
    "min_lstm": Equation(min_lstm_step, lambda D, H: 3 * (D * H + H)),
    "rg_lru": Equation(rg_lru_step, lambda D, H: 3 * D * H + 3 * H),
    "qrnn": Equation(qrnn_step, lambda D, H: 3 * (D * H + H), qrnn_read),
    "sru": Equation(sru_step, lambda D, H: (3 if D == H else 4) * D * H + 4 * H, sru_read),
    "para_gru": Equation(para_gru_step, lambda D, H: 3 * (D * H + 2 * H)),
    "para_lstm": Equation(para_lstm_step, lambda D, H: 3 * (D * H + 2 * H) + 2 * H),
}
