"""Rows of products of Jacobians: bounds, exponents, estimates, chaos, flossing.

A function a row: its specification -> its checked numbers. Run with float64 on.
"""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._closed_forms_check import Check, absolute, at_least, at_most, of_seed, relative
from rnnlab import initializers as inits
from rnnlab import probes
from rnnlab.cells import CELLS, elman
from rnnlab.probes.flow import flow
from rnnlab.probes.products import adjoint_norms
from rnnlab.probes.specs import Spec

ACTIVATIONS = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}


def r7(spec: Spec) -> list[Check]:
    return [check for name in spec.setting["sigma_max"] for check in r7_bound(spec, name)]


def r7_bound(spec: Spec, name: str) -> list[Check]:
    T, B, H, D = (spec.setting[name] for name in "TBHD")
    activation, lags = ACTIVATIONS[name], np.arange(1, T + 1)
    cell = elman(H, activation=activation, recurrent=inits.normal(), bias=inits.uniform())

    @jax.jit
    def run(params, xs):
        bound = probes.recurrent_bounds(params.U, activation)
        return probes.dense_product(cell, params, xs, lags=lags).spectral, bound.at(lags)

    checks = []
    for seed in spec.seeds:
        params, draw = cell.init(jax.random.key(seed), D, jnp.float64), jax.random.key(seed + 50)
        xs = jax.random.normal(draw, (T, B, D)) / 2
        for sigma_max in spec.setting["sigma_max"][name]:
            scale, setting = sigma_max / np.linalg.norm(params.U, 2), f"{name}, sigma_max {sigma_max:g}"
            logs, limit = run(params._replace(U=params.U * scale), xs)
            rate, broken = spec.expected(spec.setting["slopes"][name], sigma_max), (logs > limit[:, None]).sum()
            checks += of_seed(
                seed,
                absolute("ln of the bound, at every lag", setting, lags * rate, limit, spec.tolerance["bound"]),
                at_most("lags and rows beyond it", setting, spec.tolerance["violations"], broken),
            )
    return checks


def autonomous(gain: float, seed: int, N: int, steps: int) -> tuple[Any, ...]:
    """h_t = tanh(h_{t-1} U), U of N(0, gain^2 / N), h_0 of N(0, 1): cell, parameters, inputs, first carry, two keys."""
    cell = elman(N)  # one cell whatever the gain, and so one program
    keys = jax.random.split(jax.random.key(seed), 4)
    params = elman(N, recurrent=inits.normal(gain)).init(keys[0], 1, jnp.float64)
    start = cell.start(params, ())._replace(h=jax.random.normal(keys[1], (N,)))
    return cell, params, jnp.zeros((steps, 1)), start, keys[2:]


@partial(jax.jit, static_argnums=(0, 1))
def exponent(cell, burn_in, params, xs, start, key):
    return probes.largest_exponent(cell, params, xs, key, start, burn_in=burn_in)


def largest(spec: Spec, gain: float, seed: int) -> float:
    N, T, burn_in = (spec.setting[name] for name in ("N", "T", "burn_in"))
    cell, params, xs, start, keys = autonomous(gain, seed, N, burn_in + T)
    return float(exponent(cell, burn_in, params, xs, start, keys[0]))


@cache
def radius_at_one(seed: int, N: int) -> float:
    """The spectral radius of U / gain, which is one matrix whatever the gain."""
    return np.abs(np.linalg.eigvals(np.asarray(autonomous(1.0, seed, N, 1)[1].U))).max()


def r9(spec: Spec) -> list[Check]:
    fading = [check for gain in spec.setting["fading"] for check in r9_fading(spec, gain)]
    return [*fading, *(r9_chaotic(spec, place) for place in range(len(spec.setting["chaotic"])))]


def r9_fading(spec: Spec, gain: float) -> list[Check]:
    checks = []
    for seed in spec.seeds:
        radius, tolerance = gain * radius_at_one(seed, spec.setting["N"]), spec.tolerance["fading"]
        expected, found = spec.expected["fading"](radius), largest(spec, gain, seed)
        checks += of_seed(
            seed, absolute("lambda_1 = ln of spectral radius", f"g = {gain:g}", expected, found, tolerance)
        )
    return checks


def r9_chaotic(spec: Spec, place: int) -> Check:
    gain, expected = spec.setting["chaotic"][place], spec.expected["chaotic"][place]
    mean = np.mean([largest(spec, gain, seed) for seed in spec.seeds])
    return absolute("lambda_1, mean of seeds", f"g = {gain:g}", expected, mean, spec.tolerance["chaotic"][place])


def r10(spec: Spec) -> list[Check]:
    return [check for name in spec.setting["cells"] for check in r10_sum(spec, name)]


def r10_sum(spec: Spec, name: str) -> list[Check]:
    """The whole sum, and step by step."""
    T, H, D = (spec.setting[name] for name in "THD")
    cell, checks = CELLS[name](H), []

    @jax.jit
    def run(params, xs, key):
        return probes.step_jacobians(cell, params, xs), probes.lyapunov_spectrum(cell, params, xs, key)

    for seed in spec.seeds:
        params, draw = cell.init(jax.random.key(seed), D, jnp.float64), jax.random.key(seed + 50)
        J, found = run(params, jax.random.normal(draw, (T, D)), jax.random.key(seed + 100))
        volumes = np.linalg.slogdet(np.asarray(J)).logabsdet
        total = T * np.sum(found.exponents)
        steps = np.sum(found.local, axis=-1)
        checks += of_seed(
            seed,
            relative("T sum of the exponents", name, volumes.sum(), total, spec.tolerance["sum"]),
            absolute("their sum at every step", name, volumes, steps, spec.tolerance["step"]),
        )
    return checks


def r11(spec: Spec) -> list[Check]:
    return [check for gain in spec.setting["gains"] for check in r11_slope(spec, gain)]


def r11_slope(spec: Spec, gain: float) -> list[Check]:
    N, burn_in, first = (spec.setting[name] for name in ("N", "burn_in", "first_lag"))
    steps, checks = burn_in + spec.setting["T"], []
    for seed in spec.seeds:
        cell, params, xs, start, keys = autonomous(gain, seed, N, steps)
        logs = np.asarray(adjoint(cell, params, xs, start, keys[1]))[burn_in : steps - first]
        slope, expected = -np.polyfit(np.arange(len(logs)), logs, 1)[0], largest(spec, gain, seed)
        checks += of_seed(seed, absolute("slope = lambda_1", f"g = {gain:g}", expected, slope, spec.tolerance))
    return checks


@partial(jax.jit, static_argnums=0)
def adjoint(cell, params, xs, start, key):
    """ln ||dL/dh_{t-1}|| [T] of L = v h_T, v random."""
    cotangent = jax.random.normal(key, start.h.shape)
    return adjoint_norms(flow("R11", cell, params, xs, start=start), cotangent[None])[:, 0]


def r12(spec: Spec) -> list[Check]:
    """Symmetric U of singular values s^(1/T), so that those of U^T are s: 1, 1/gap, and smaller ones."""
    S, steps, gap = (spec.setting[name] for name in ("S", "T", "gap"))
    cell = elman(S, activation=lambda z: z)
    params = cell.init(jax.random.key(0), 1, jnp.float64)

    @jax.jit
    def run(U, key):
        given = cell, params._replace(U=U), jnp.zeros((steps, 1)), key
        spectral = probes.power_iteration(*given, iterations=spec.setting["iterations"])
        return spectral.value[0], probes.hutchinson(*given, probes=spec.setting["probes"]).value[0]

    checks, tolerance, setting = [], spec.tolerance, f"gap {gap:g}"
    for seed in spec.seeds:
        rng = np.random.default_rng(seed)
        values = np.concatenate([[1, 1 / gap], rng.uniform(0, 1 / gap, S - 2)])
        Q = np.linalg.qr(rng.normal(size=(S, S)))[0]
        spectral, frobenius = run((Q * values ** (1 / steps)) @ Q.T, jax.random.key(seed))
        expected = np.log(np.linalg.norm(values))
        checks += of_seed(
            seed,
            absolute("ln of spectral norm, power iteration", setting, 0.0, spectral, tolerance["spectral"]),
            absolute("ln of Frobenius norm, Hutchinson", setting, expected, frobenius, tolerance["frobenius"]),
        )
    return checks


def r19(spec: Spec) -> list[Check]:
    N, count, steps = (spec.setting[name] for name in ("N", "count", "steps"))
    cell, optimiser = elman(N, recurrent=inits.normal(spec.setting["gain"])), optax.adam(spec.setting["learning_rate"])
    xs = jnp.zeros((spec.setting["T"], 1))

    @jax.jit
    def descend(params, start, key):
        def step(_, given):
            params, state = given
            loss = lambda p: probes.flossing_loss(cell, p, xs, key, count=count, start=start)  # noqa: E731
            updates, state = optimiser.update(jax.grad(loss)(params), state)
            return optax.apply_updates(params, updates), state

        # optax mixes types.
        with jax.numpy_dtype_promotion("standard"):
            params, _ = jax.lax.fori_loop(0, steps, step, (params, optimiser.init(params)))
        return params

    spectrum = jax.jit(
        lambda params, start, key: probes.lyapunov_spectrum(cell, params, xs, key, count=count, start=start).exponents
    )
    checks, setting = [], f"first {count}, after {steps} steps"
    for seed in spec.seeds:
        drawn, _, key, first = jax.random.split(jax.random.key(seed), 4)
        params = cell.init(drawn, 1, jnp.float64)
        start = cell.start(params, ())._replace(h=jax.random.normal(first, (N,)))
        before = np.abs(spectrum(params, start, key) - spec.expected)
        after = np.abs(spectrum(descend(params, start, key), start, key) - spec.expected)
        least = spec.setting["times"] * spec.tolerance["largest"]
        checks += of_seed(
            seed,
            at_least("largest |exponent| before", f"first {count}", least, before.max()),
            absolute("largest |exponent|", setting, spec.expected, after.max(), spec.tolerance["largest"]),
            absolute("mean |exponent|", setting, spec.expected, after.mean(), spec.tolerance["mean"]),
        )
    return checks
