"""A stack of Elman layers by NumPy loops, forward and back through time: the oracle of the training step."""

import numpy as np


def row(params, xs, carry=None):
    """The loss sum_t (y_t . head)^2 of one row xs [T, D], its gradient, dL/dh_t [L, T, H], the last carries, and each
    step's loss.

    params: {"stack": a W, U and b a layer, "head"}. carry: h_0 of every layer, a constant; zeros by default.
    """
    stack, head = [tuple(map(np.asarray, one)) for one in params["stack"]], np.asarray(params["head"])
    start = [np.zeros(len(b)) for _, _, b in stack] if carry is None else [np.asarray(h) for h in carry]
    inputs, states = xs, []
    for (W, U, b), h in zip(stack, start, strict=True):
        states.append(np.zeros((len(xs), len(b))))
        for t, x in enumerate(inputs):
            h = states[-1][t] = np.tanh(x @ W + h @ U + b)
        inputs = states[-1]
    scores = inputs @ head
    dys, found, slopes = 2 * scores[:, None] * head, [], []
    for depth in reversed(range(len(stack))):
        (W, U, b), hs = stack[depth], states[depth]
        below = xs if depth == 0 else states[depth - 1]
        before = np.concatenate([start[depth][None], hs])[: len(hs)]
        dhs, das, later = np.zeros_like(hs), np.zeros_like(hs), np.zeros_like(b)
        for t in reversed(range(len(xs))):
            dhs[t] = dys[t] + later
            das[t] = dhs[t] * (1 - hs[t] ** 2)
            later = das[t] @ U.T
        found.insert(0, type(params["stack"][depth])(below.T @ das, before.T @ das, das.sum(0)))
        slopes.insert(0, dhs)
        dys = das @ W.T
    gradient = {"stack": tuple(found), "head": 2 * inputs.T @ scores}
    last = [hs[-1] if len(xs) else h for hs, h in zip(states, start, strict=True)]
    return (scores**2).sum(), gradient, slopes, last, scores**2
