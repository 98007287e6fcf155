"""The classic cells, from their published equations."""

from collections.abc import Callable

import numpy as np
from equation import Equation, sigmoid


def elman_step(activation):
    def step(p, carry, x):
        return carry._replace(h=activation(x @ p.W + carry.h @ p.U + p.b))

    return step


def lstm_step(p, carry, x):
    H = carry.c.size
    i, f, g, o = (slice(k * H, (k + 1) * H) for k in range(4))
    pre = lambda gate: x @ p.W[:, gate] + carry.h @ p.U[:, gate] + p.b[gate]  # noqa: E731
    c = sigmoid(pre(f)) * carry.c + sigmoid(pre(i)) * np.tanh(pre(g))
    return carry._replace(h=sigmoid(pre(o)) * np.tanh(c), c=c)


def gru_step(p, carry, x):
    H = carry.h.size
    r, z, n = (slice(k * H, (k + 1) * H) for k in range(3))
    reset = sigmoid(x @ p.W[:, r] + carry.h @ p.U[:, r] + p.b[r])
    update = sigmoid(x @ p.W[:, z] + carry.h @ p.U[:, z] + p.b[z])
    candidate = np.tanh(x @ p.W[:, n] + p.b[n] + reset * (carry.h @ p.U[:, n] + p.bn))
    return carry._replace(h=(1 - update) * candidate + update * carry.h)


def gru_before_step(p, carry, x):
    H = carry.h.size
    r, z, n = (slice(k * H, (k + 1) * H) for k in range(3))
    reset = sigmoid(x @ p.W[:, r] + carry.h @ p.U[:, r] + p.b[r])
    update = sigmoid(x @ p.W[:, z] + carry.h @ p.U[:, z] + p.b[z])
    candidate = np.tanh(x @ p.W[:, n] + (reset * carry.h) @ p.U[:, n] + p.b[n])
    return carry._replace(h=(1 - update) * candidate + update * carry.h)


def gates_of(p, carry_h, x, count):
    """Every gate's x W + h U + b, one matrix column block after another."""
    H = p.b.size // count
    return [x @ p.W[:, k] + carry_h @ p.U[:, k] + p.b[k] for k in (slice(n * H, (n + 1) * H) for n in range(count))]


def projected_step(p, carry, x):
    H = carry.c.size
    i, f, g, o = gates_of(p, carry.h, x, 4)
    c = sigmoid(f) * carry.c + sigmoid(i) * np.tanh(g)
    assert p.R.shape[0] == H
    return carry._replace(h=(sigmoid(o) * np.tanh(c)) @ p.R, c=c)


def jordan_step(p, carry, x):
    hidden = np.tanh(x @ p.W + carry.y @ p.U + p.b)
    return carry._replace(y=np.tanh(hidden @ p.V + p.c))


def lstm_1997_step(p, carry, x):
    i, g, o = gates_of(p, carry.h, x, 3)
    c = carry.c + sigmoid(i) * np.tanh(g)
    return carry._replace(h=sigmoid(o) * np.tanh(c), c=c)


def cifg_step(p, carry, x):
    i, g, o = gates_of(p, carry.h, x, 3)
    c = (1 - sigmoid(i)) * carry.c + sigmoid(i) * np.tanh(g)
    return carry._replace(h=sigmoid(o) * np.tanh(c), c=c)


def peephole_step(p, carry, x):
    H = carry.c.size
    i, f, g, o = gates_of(p, carry.h, x, 4)
    c = sigmoid(f + p.p[H : 2 * H] * carry.c) * carry.c + sigmoid(i + p.p[:H] * carry.c) * np.tanh(g)
    return carry._replace(h=sigmoid(o + p.p[2 * H :] * c) * np.tanh(c), c=c)


def normal_form(a):
    return (a - a.mean()) / np.sqrt(a.var() + 1e-5)


def lstm_layer_norm_step(p, carry, x):
    a = normal_form(x @ p.W) * p.gain_x + normal_form(carry.h @ p.U) * p.gain_h + p.b
    i, f, g, o = np.split(a, 4)
    c = sigmoid(f) * carry.c + sigmoid(i) * np.tanh(g)
    return carry._replace(h=sigmoid(o) * np.tanh(normal_form(c) * p.gain_c + p.shift_c), c=c)


def gru_layer_norm_step(p, carry, x):
    H = carry.h.size
    two, n = slice(0, 2 * H), slice(2 * H, None)
    of_x = lambda gate: normal_form(x @ p.W[:, gate]) * p.gain_x[gate] + p.b[gate]  # noqa: E731
    of_h = lambda gate: normal_form(carry.h @ p.U[:, gate]) * p.gain_h[gate]  # noqa: E731
    reset, update = np.split(sigmoid(of_x(two) + of_h(two)), 2)
    candidate = np.tanh(of_x(n) + reset * (of_h(n) + p.bn))
    return carry._replace(h=(1 - update) * candidate + update * carry.h)


def mgu_step(p, carry, x):
    H = carry.h.size
    f = sigmoid(x @ p.W[:, :H] + carry.h @ p.U[:, :H] + p.b[:H])
    n = np.tanh(x @ p.W[:, H:] + (f * carry.h) @ p.U[:, H:] + p.b[H:])
    return carry._replace(h=(1 - f) * carry.h + f * n)


def ugrnn_step(p, carry, x):
    g, n = gates_of(p, carry.h, x, 2)
    return carry._replace(h=sigmoid(g) * carry.h + (1 - sigmoid(g)) * np.tanh(n))


def minimal_rnn_step(p, carry, x):
    n = np.tanh(x @ p.W + p.c)
    u = sigmoid(carry.h @ p.U + n @ p.V + p.b)
    return carry._replace(h=u * carry.h + (1 - u) * n)


def fast_grnn_step(p, carry, x):
    H = carry.h.size
    a = x @ p.W + carry.h @ p.U
    u, n = sigmoid(a + p.b[:H]), np.tanh(a + p.b[H:])
    return carry._replace(h=(sigmoid(p.zeta) * (1 - u) + sigmoid(p.nu)) * n + u * carry.h)


def rhn_step(p, carry, x):
    s, H = carry.h, carry.h.size
    for n, (U, b) in enumerate(zip(p.U, p.b, strict=True)):
        a = s @ U + b + (x @ p.W if n == 0 else 0)
        t = sigmoid(a[H:])
        s = np.tanh(a[:H]) * t + s * (1 - t)
    return carry._replace(h=s)


def scrn_step(p, carry, x):
    s = 0.05 * (x @ p.V) + 0.95 * carry.s
    return carry._replace(h=sigmoid(s @ p.P + x @ p.W + carry.h @ p.U + p.b), s=s)


def conv_lstm_step(p, carry, x):
    a = convolution(x, p.W) + convolution(carry.h, p.U) + p.b
    i, f, g, o = np.split(a, 4, axis=-1)
    c = sigmoid(f) * carry.c + sigmoid(i) * np.tanh(g)
    return carry._replace(h=sigmoid(o) * np.tanh(c), c=c)


def convolution(image, kernel):
    """Pixel by pixel, zeros outside: image [rows, columns, D], kernel [window, window, D, G]."""
    rows, columns, _ = image.shape
    half = kernel.shape[0] // 2
    out = np.zeros((rows, columns, kernel.shape[-1]))
    for r, c in np.ndindex(rows, columns):
        for dr, dc in np.ndindex(kernel.shape[:2]):
            at = r + dr - half, c + dc - half
            if 0 <= at[0] < rows and 0 <= at[1] < columns:
                out[r, c] += image[at] @ kernel[dr, dc]
    return out


def gated(gates: int) -> Callable[[int, int], int]:
    """Numbers in `gates` input matrices, recurrent matrices and biases."""
    return lambda D, H: gates * (D * H + H * H + H)


def half(hidden: int) -> int:
    return (hidden + 1) // 2


EQUATIONS = {
    "elman": Equation(elman_step(np.tanh), gated(1)),
    "elman_relu": Equation(elman_step(lambda a: np.maximum(a, 0)), gated(1)),
    "lstm": Equation(lstm_step, gated(4)),
    "lstm_forget0": Equation(lstm_step, gated(4)),
    "gru": Equation(gru_step, lambda D, H: gated(3)(D, H) + H),
    "gru_before": Equation(gru_before_step, gated(3)),
    "irnn": Equation(elman_step(lambda a: np.maximum(a, 0)), gated(1)),
    "jordan": Equation(jordan_step, lambda D, H: gated(1)(D, H) + H * H + H, lambda p, carry, x: carry.y),
    "lstm_1997": Equation(lstm_1997_step, gated(3)),
    "lstm_peephole": Equation(peephole_step, lambda D, H: gated(4)(D, H) + 3 * H),
    "cifg": Equation(cifg_step, gated(3)),
    "lstm_projected": Equation(projected_step, lambda D, H: 4 * H * (D + half(H) + 1) + H * half(H)),
    "lstm_layer_norm": Equation(lstm_layer_norm_step, lambda D, H: gated(4)(D, H) + 2 * 4 * H + 2 * H),
    "gru_layer_norm": Equation(gru_layer_norm_step, lambda D, H: gated(3)(D, H) + 2 * 3 * H + H),
    "mgu": Equation(mgu_step, gated(2)),
    "ugrnn": Equation(ugrnn_step, gated(2)),
    "minimal_rnn": Equation(minimal_rnn_step, lambda D, H: D * H + 2 * H * H + 2 * H),
    "fast_grnn": Equation(fast_grnn_step, lambda D, H: D * H + H * H + 2 * H + 2),
    "rhn": Equation(rhn_step, lambda D, H: 2 * D * H + 2 * (2 * H * H + 2 * H)),
    "scrn": Equation(
        scrn_step, lambda D, H: gated(1)(D, H) + (D + H) * max(1, 2 * H // 5),
        lambda p, carry, x: np.concatenate([carry.h, carry.s]),
    ),
    "conv_lstm": Equation(conv_lstm_step, lambda D, H: 4 * (9 * D * H + 9 * H * H + H)),
}  # fmt: skip
