"""Rows whose answer is a formula, met to rounding: linear networks, gates without weights, one unit, a grid of paths.

A function a row: its specification -> its checked numbers. Run with float64 on.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments._closed_forms_check import Check, absolute, at_most, of_seed, relative
from rnnlab import initializers as inits
from rnnlab import probes
from rnnlab.cells import CELLS, elman
from rnnlab.layers import init_layers, layers, zero_taps
from rnnlab.probes.specs import Spec
from rnnlab.unroll import unroll

BATCH, DIM = 2, 3


def linear(hidden: int, scale: float = 1.0):
    return elman(hidden, activation=lambda z: z, recurrent=inits.orthogonal(scale))


def r1(spec: Spec) -> list[Check]:
    checks = []
    for gain in spec.setting["gains"]:
        for seed in spec.seeds:
            checks += [*r1_singular_values(spec, gain, seed), *r1_gradients(spec, gain, seed)]
    return checks


def r1_singular_values(spec: Spec, gain: float, seed: int) -> list[Check]:
    """Of the product of the Jacobians of the last 1..T steps: all H of them, and their Frobenius norm."""
    T, H = spec.setting["T"], spec.setting["H"]
    key, draw = jax.random.split(jax.random.key(seed))
    cell = linear(H, gain)
    params = cell.init(key, DIM, jnp.float64)
    xs = jax.random.normal(draw, (T, DIM))
    logs = np.asarray(jax.jit(lambda xs: probes.product_singular_values(probes.step_jacobians(cell, params, xs)))(xs))
    lags, setting = range(T, 0, -1), f"g = {gain:g}"  # row t is the product of steps t..T
    each = np.array([spec.expected["log_singular_value"](gain, k) for k in lags])[:, None]
    whole = [spec.expected["log_frobenius"](gain, k, H) for k in lags]
    found = np.logaddexp.reduce(2 * logs, axis=1) / 2
    return of_seed(
        seed,
        absolute("ln of singular values", setting, each, logs, spec.tolerance),
        absolute("ln of Frobenius norm", setting, whole, found, spec.tolerance),
    )


def r1_gradients(spec: Spec, gain: float, seed: int) -> list[Check]:
    T, H = spec.setting["T"], spec.setting["H"]
    key, draw, pull = jax.random.split(jax.random.key(seed), 3)
    cell = linear(H, gain)
    params = cell.init(key, DIM, jnp.float64)
    xs, cotangent = jax.random.normal(draw, (T, BATCH, DIM)), jax.random.normal(pull, (BATCH, H))
    norms = probes.gradient_norms(cell, params, xs, lambda ys: (ys[-1] * cotangent).sum(-1)).joint[0]
    ratio = np.asarray(norms) - np.log(np.linalg.norm(cotangent, axis=-1))
    expected = np.array([spec.expected["log_singular_value"](gain, k) for k in range(T - 1, -1, -1)])[:, None]
    return of_seed(seed, absolute("ln of gradient norm", f"g = {gain:g}", expected, ratio, spec.tolerance))


def r3(spec: Spec) -> list[Check]:
    return [check for seed in spec.seeds for check in r3_factors(spec, seed)]


def r3_factors(spec: Spec, seed: int) -> list[Check]:
    T = spec.setting["T"]
    key, draw, first = jax.random.split(jax.random.key(seed), 3)
    cell = elman(1, recurrent=inits.uniform(2.0), bias=inits.uniform())
    params = cell.init(key, 1, jnp.float64)
    xs = jax.random.normal(draw, (T, 1)) / 2
    start = cell.start(params, ())._replace(h=jax.random.normal(first, (1,)))
    factors = [spec.expected(float(params.U[0, 0]), float(h)) for h in unroll(cell, params, xs, start=start).ys[:, 0]]
    slope = jax.grad(lambda start: unroll(cell, params, xs, start=start).ys[-1, 0])(start).h[0]
    jacobians = probes.step_jacobians(cell, params, xs, start)[:, 0, 0]
    return of_seed(
        seed,
        relative("dh_T/dh_0", "", np.prod(factors), slope, spec.tolerance),
        relative("dh_t/dh_{t-1}", "", factors, jacobians, spec.tolerance),
    )


def gated(name: str, seed: int, T: int, H: int, **bias: float) -> tuple[Any, ...]:
    """A gated cell whose matrices are zero, with random inputs, first carry and cotangent."""
    cell = CELLS[name](H, **bias)
    key, draw, first, pull = jax.random.split(jax.random.key(seed), 4)
    params = cell.init(key, DIM, jnp.float64)
    params = params._replace(W=jnp.zeros_like(params.W), U=jnp.zeros_like(params.U))
    start = cell.start(params, (BATCH,))
    flat, unravel = ravel_pytree(start)
    first_carry = unravel(jax.random.normal(first, flat.shape))
    return cell, params, jax.random.normal(draw, (T, BATCH, DIM)), first_carry, jax.random.normal(pull, (BATCH, H))


def r4(spec: Spec) -> list[Check]:
    places = range(len(spec.setting["biases"]))
    return [check for place in places for seed in spec.seeds for check in r4_decay(spec, place, seed)]


def r4_decay(spec: Spec, place: int, seed: int) -> list[Check]:
    bias, T, H = spec.setting["biases"][place], spec.setting["T"], spec.setting["H"]
    cell, params, xs, start, cotangent = gated("lstm", seed, T, H, forget_bias=bias)
    loss = lambda taps: (unroll(cell, params, xs, start=start, taps=taps).last.c * cotangent).sum()  # noqa: E731
    pulled = jax.grad(loss)(zero_taps(cell, params, T, (BATCH,))).c
    factors = np.array([spec.expected["factor"](bias, T - 1 - t) for t in range(T)])[:, None, None]
    fit = probes.fit_decay(probes.log_norm(pulled, 2).T, 0, T - 1)
    expected, tolerance, setting = spec.expected, spec.tolerance, f"forget bias {bias:g}"
    return of_seed(
        seed,
        relative("dc_T/dc_t", setting, factors, pulled / cotangent, tolerance["factor"]),
        relative("gamma, closed form", setting, expected["factor"](bias, 1), fit.gamma, tolerance["factor"]),
        absolute("gamma, as printed", setting, expected["gamma"][place], fit.gamma, tolerance["gamma"]),
        absolute("half-life, as printed", setting, expected["half_life"][place], fit.half_life,
                 tolerance["half_life"]),
    )  # fmt: skip


def r5(spec: Spec) -> list[Check]:
    return [
        check
        for name in spec.setting["cells"]
        for bias in spec.setting["biases"]
        for seed in spec.seeds
        for check in r5_decay(spec, name, bias, seed)
    ]


def r5_decay(spec: Spec, name: str, bias: float, seed: int) -> list[Check]:
    T, H = spec.setting["T"], spec.setting["H"]
    cell, params, xs, start, cotangent = gated(name, seed, T, H, update_bias=bias)
    loss = lambda taps: (unroll(cell, params, xs, start=start, taps=taps).ys[-1] * cotangent).sum()  # noqa: E731
    pulled = jax.grad(loss)(zero_taps(cell, params, T, (BATCH,))).h
    factors = np.array([spec.expected(bias, T - 1 - t) for t in range(T)])[:, None, None]
    setting = f"{name}, update bias {bias:g}"
    return of_seed(seed, relative("dh_T/dh_t", setting, factors, pulled / cotangent, spec.tolerance))


def r6(spec: Spec) -> list[Check]:
    return [check for seed in spec.seeds for check in r6_paths(spec, seed)]


def r6_paths(spec: Spec, seed: int) -> list[Check]:
    """The gradient by layer and lag; its peak in the bottom layer, the only one: no other lag reaches it."""
    L, T, a, u = (spec.setting[name] for name in ("layers", "T", "a", "u"))
    cells = [linear(1)] * L
    params = init_layers(cells, jax.random.key(0), 1, jnp.float64)
    params = [p._replace(W=jnp.full((1, 1), u), U=jnp.full((1, 1), a)) for p in params]
    xs = jax.random.normal(jax.random.key(seed), (T, 1))
    pulled = jax.grad(lambda taps: layers(cells, params, xs, taps=taps).ys[-1, 0])(zero_taps(cells, params, T))
    gradient = np.array([layer.h[::-1, 0] for layer in pulled])  # [layer, lag]
    expected = [[spec.expected["gradient"](a, u, k, L - 1 - layer) for k in range(T)] for layer in range(L)]
    bottom, peaks, setting = gradient[0], list(spec.expected["peak_lags"]), f"layer 1 of {L}"
    first, second = peaks
    slopes = np.diff(bottom)
    return of_seed(
        seed,
        *(relative("dh_T/dh_t", f"layer {layer + 1} of {L}", expected[layer], gradient[layer],
                   spec.tolerance["gradient"]) for layer in range(L)),
        absolute("peak", setting, spec.expected["peak"], bottom[first], spec.tolerance["peak"]),
        relative("peak, its second lag", setting, bottom[first], bottom[second], spec.tolerance["gradient"]),
        at_most("largest of the other lags / peak", setting, spec.setting["others"],
                np.delete(bottom, peaks).max() / bottom[first]),
        at_most("lags before it that fall, and after that rise", setting, 0,
                np.sum(~(slopes[:first] > 0)) + np.sum(~(slopes[second:] < 0))),
    )  # fmt: skip


def r21(spec: Spec) -> list[Check]:
    return [r21_norms(spec, scale) for scale in spec.setting["scales"]]


def r21_norms(spec: Spec, scale: float) -> Check:
    """The book's figure: its matrix, and its cotangent of ones."""
    N, H, lags = (spec.setting[name] for name in ("N", "H", "lags"))
    [seed] = spec.seeds
    steps = max(lags) + 1
    recurrent = np.random.RandomState(seed).randn(H, H) * scale
    cell = linear(H)
    params = cell.init(jax.random.key(0), 2, jnp.float64)._replace(U=jnp.asarray(recurrent))
    xs = jax.random.normal(jax.random.key(1), (steps, N, 2))
    taps = zero_taps(cell, params, steps, (N,))
    pulled = jax.grad(lambda taps: unroll(cell, params, xs, taps=taps).ys[-1].sum())(taps).h[::-1]
    norms = [np.sqrt(np.sum(np.square(pulled[lag]))) / N for lag in lags]
    setting = f"scale {scale:g}, lags {', '.join(map(str, lags))}"
    return relative("norm of dh over N", setting, spec.expected[scale], norms, spec.tolerance)
