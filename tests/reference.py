"""Every cell once more, from its published equations, in NumPy, one row and one step at a time.

Nothing here is shared with the library but the names of the parameters, so that the two can disagree.
A new cell adds one `Equation` to `EQUATIONS`; the conformance suite does the rest.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Equation(NamedTuple):
    """step: (params, carry, x [D]) -> carry, all of one row. count: (D, H) -> numbers in the parameters.
    read: (params, carry, x [D]) -> y."""

    step: Callable
    count: Callable[[int, int], int]
    read: Callable = lambda params, carry, x: carry.h


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


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


def gated(gates: int) -> Callable[[int, int], int]:
    """Numbers in `gates` input matrices, recurrent matrices and biases."""
    return lambda D, H: gates * (D * H + H * H + H)


EQUATIONS = {
    "elman": Equation(elman_step(np.tanh), gated(1)),
    "elman_relu": Equation(elman_step(lambda a: np.maximum(a, 0)), gated(1)),
    "lstm": Equation(lstm_step, gated(4)),
    "lstm_forget0": Equation(lstm_step, gated(4)),
    "gru": Equation(gru_step, lambda D, H: gated(3)(D, H) + H),
    "gru_before": Equation(gru_before_step, gated(3)),
}


class Looped(NamedTuple):
    """As `rnnlab.unroll.Unrolled`, in NumPy."""

    ys: np.ndarray
    carries: tuple
    last: tuple


def loop(equation: Equation, params, xs, start, *, taps, lengths, reverse: bool = False) -> Looped:
    """Rows one by one, each over its valid steps only. xs [T, B, D], carries leaf by leaf [T, B, H].

    At padding y is 0 and the carry is the one before it in the order of the steps.
    """
    T, B, _ = xs.shape
    carries = type(start)(*(np.zeros((T, *leaf.shape), leaf.dtype) for leaf in start))
    ys = None
    for b in range(B):
        carry = type(start)(*(leaf[b] for leaf in start))
        for t in reversed(range(T)) if reverse else range(T):
            if t < lengths[b]:
                new = equation.step(params, carry, xs[t, b])
                carry = type(start)(*(leaf + tap[t, b] for leaf, tap in zip(new, taps, strict=True)))
                y = equation.read(params, carry, xs[t, b])
                ys = np.zeros((T, B, *y.shape), y.dtype) if ys is None else ys
                ys[t, b] = y
            for leaf, new in zip(carries, carry, strict=True):
                leaf[t, b] = new
    end = 0 if reverse else T - 1
    return Looped(ys, carries, type(start)(*(leaf[end] for leaf in carries)))
