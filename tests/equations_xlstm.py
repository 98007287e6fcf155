"""sLSTM and mLSTM, from their published equations."""

import numpy as np
from equation import Equation, sigmoid


def slstm_step(p, carry, x):
    """Unit by unit of each head; the floor of 1/2 under n is the docstring's."""
    heads, size, _ = p.U.shape
    new = type(carry)(*(np.empty(heads * size) for _ in carry))
    for k in range(heads):
        before = carry.h[k * size : (k + 1) * size]
        for j in range(size):
            columns = [gate * size + j for gate in range(4)]
            i, f, g, o = (
                x @ p.W[:, k * 4 * size + at] + before @ p.U[k][:, at] + p.b[k * 4 * size + at] for at in columns
            )
            unit, log_f = k * size + j, np.log(sigmoid(f))
            m = max(log_f + carry.m[unit], i)
            write, keep = np.exp(i - m), np.exp(log_f + carry.m[unit] - m)
            c, n = keep * carry.c[unit] + write * np.tanh(g), keep * carry.n[unit] + write
            h = sigmoid(o) * c / max(n, 0.5)
            for leaf, value in zip(new, (h, c, n, m), strict=True):
                leaf[unit] = value
    return new


def mlstm_written(p, carry, x):
    """i, f, k, v of every head: two numbers, two vectors."""
    heads, size = carry.n.shape
    a = x @ p.W + p.b
    gates, units = a[: 2 * heads].reshape(2, heads), a[2 * heads :].reshape(2, heads, size)
    return [(*gates[:, k], units[0, k] / np.sqrt(size), units[1, k]) for k in range(heads)]


def mlstm_asked(p, carry, x):
    """q and o of every head."""
    return np.swapaxes((x @ p.V + p.c).reshape(2, *carry.n.shape), 0, 1)


def mlstm_step(p, carry, x):
    C, n, m = (np.empty(leaf.shape) for leaf in carry)
    for k, (i, f, key, value) in enumerate(mlstm_written(p, carry, x)):
        log_f = np.log(sigmoid(f))
        m[k] = max(log_f + carry.m[k], i)
        write, keep = np.exp(i - m[k]), np.exp(log_f + carry.m[k] - m[k])
        C[k] = keep * carry.C[k] + write * np.outer(value, key)
        n[k] = keep * carry.n[k] + write * key
    return carry._replace(C=C, n=n, m=m)


def mlstm_read(p, carry, x):
    asked = enumerate(mlstm_asked(p, carry, x))
    return np.concatenate(
        [sigmoid(o) * (carry.C[k] @ q) / max(abs(carry.n[k] @ q), np.exp(-carry.m[k])) for k, (q, o) in asked]
    )


EQUATIONS: dict[str, Equation] = {
    "slstm": Equation(slstm_step, lambda D, H: 4 * (D * H + H * H + H)),
    "mlstm": Equation(mlstm_step, lambda D, H: (D + 1) * (2 + 4 * H), mlstm_read),
}
