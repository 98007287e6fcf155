"""Rows of random networks at their first weights: mean field, decay at initialisation, variances, sensitivities.

A function a row: its specification -> its checked numbers. Run with float64 on.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments._closed_forms_check import Check, absolute, at_least, of_seed, relative
from rnnlab import cells, probes
from rnnlab import initializers as inits
from rnnlab.cells import CELLS
from rnnlab.probes.mean_field import gru_mean_field, lstm_mean_field, mean_field
from rnnlab.probes.specs import Spec
from rnnlab.unroll import unroll

# Mean field.

THEORIES = {"lstm": lstm_mean_field, "gru": gru_mean_field}


def r8(spec: Spec) -> list[Check]:
    return [*r8_theory(spec), *r8_measured(spec)]


def r8_theory(spec: Spec) -> list[Check]:
    sigma_w, sigma_v = np.array(spec.setting["sigmas"]).T
    found = jax.jit(lambda w, v: mean_field(jnp.tanh, w, v).chi)(sigma_w, sigma_v)
    known = zip(spec.setting["sigmas"], spec.expected, found, strict=True)
    return [absolute("chi, theory", sigmas(*pair), want, chi, spec.tolerance["theory"]) for pair, want, chi in known]


def r8_measured(spec: Spec) -> list[Check]:
    cell = cells.elman(spec.setting["N"], recurrent=inits.normal())
    chi = jax.jit(lambda w, v, seed: measured_chi(cell, spec, w, v, jax.random.key(seed), cells.Hidden))
    checks = []
    for pair, expected in zip(spec.setting["sigmas"], spec.expected, strict=True):
        found = np.exp(np.mean([np.log(chi(*pair, seed)) for seed in spec.seeds]))
        checks.append(relative("chi, measured", sigmas(*pair), expected, found, spec.tolerance["measured"]))
    return checks


def r8_gated(spec: Spec) -> list[Check]:
    return [check for name in THEORIES for check in r8_gated_measured(spec, name)]


def r8_gated_measured(spec: Spec, name: str) -> list[Check]:
    """Against the theory of tied weights, of which that of weights drawn anew at every step falls short."""
    theory, N = jax.jit(THEORIES[name]), spec.setting["N"]
    cell = getattr(cells, name)(N, recurrent=inits.normal(), bias=inits.constant())
    place = 1  # of the gate that remembers, in both

    def leaning(bias):
        def init(key, dim, dtype):
            params = cell.init(key, dim, dtype)
            return params._replace(b=params.b.at[place * N : (place + 1) * N].set(bias))

        return cell._replace(init=init)

    chi = jax.jit(lambda b, w, v, seed: measured_chi(leaning(b), spec, w, v, jax.random.key(seed)))
    checks = []
    for bias, *pair in spec.setting[name]:
        found = np.mean([chi(bias, *pair, seed) for seed in spec.seeds])
        expected, setting = theory(*pair, bias), f"{name}, bias {bias:g}, {sigmas(*pair)}"
        checks += [
            relative("chi, measured", setting, expected.chi, found, spec.tolerance),
            at_least("chi / untied theory's", setting, spec.setting["untied_falls_short"], found / expected.untied),
        ]
    return checks


def sigmas(sigma_w: float, sigma_v: float) -> str:
    return f"sigma_w {sigma_w:g}, sigma_v {sigma_v:g}"


def measured_chi(cell: Any, spec: Spec, sigma_w: Any, sigma_v: Any, key: Any, start: Callable | None = None) -> Any:
    """exp(2 x slope of the log-norm), of a cell whose matrices are scaled as the setting says."""
    N, D, T, B = (spec.setting.get(name, 1) for name in ("N", "D", "T", "B"))
    init, draw, first, pull = jax.random.split(key, 4)
    params = cell.init(init, D, jnp.float64)
    params = params._replace(U=params.U * sigma_w, W=params.W * sigma_v)
    xs, v = jax.random.normal(draw, (T, B, D)), jax.random.normal(pull, (B, N))
    begun = start and (start(jax.random.normal(first, (B, N))),)
    norms = probes.gradient_norms((cell,), (params,), xs, lambda ys: (ys[-1] * v).sum(-1), start=begun).joint[0]
    return probes.fit_decay(norms.mean(-1), *spec.setting["lags"]).gamma ** 2


# How strongly the output depends on a memory.


def integrator() -> tuple[Any, Callable, Any]:
    """h_t = a h_{t-1} + x_t; its only direction is a."""
    cell = CELLS["elman"](1, activation=lambda z: z)
    params = cell.init(jax.random.key(0), 1, jnp.float64)
    at = lambda a: params._replace(W=jnp.ones((1, 1)), U=jnp.full((1, 1), a))  # noqa: E731
    return cell, at, jax.tree.map(jnp.zeros_like, params)._replace(U=jnp.ones((1, 1)))


def r14(spec: Spec) -> list[Check]:
    cell, at, direction = integrator()
    [seed] = spec.seeds
    T, B, burn_in = (spec.setting[name] for name in ("T", "B", "burn_in"))
    xs = jax.random.normal(jax.random.key(seed), (T, B, 1))
    mean = jax.jit(lambda a: probes.output_sensitivity(cell, at(a), xs, direction)[burn_in:].mean())
    return [
        relative("E (dh_t/da)^2", f"a = {a:g}", spec.expected(a), mean(a), spec.tolerance)
        for a in spec.setting["decays"]
    ]


# Initial values.


def r15(spec: Spec) -> list[Check]:
    sizes, seeds = spec.setting["sizes"], spec.seeds
    antisymmetric = [check for size in sizes for seed in seeds for check in r15_antisymmetric(spec, size, seed)]
    return [*antisymmetric, *(check for seed in seeds for check in r15_lru(spec, seed))]


def r15_antisymmetric(spec: Spec, size: int, seed: int) -> list[Check]:
    epsilon = spec.setting["epsilon"]
    cell = cells.antisymmetric_rnn(size, epsilon=epsilon, gamma=0.0, activation=lambda a: a)
    params = cell.init(jax.random.key(seed), 3, jnp.float64)
    upper = np.zeros((size, size))
    upper[np.triu_indices(size, 1)] = params.U
    expected = spec.expected["antisymmetric"](epsilon, np.linalg.norm(upper - upper.T, 2))
    J = probes.step_jacobians(cell, params, jax.random.normal(jax.random.key(seed + 9), (3, 3)))
    found = np.linalg.svd(np.asarray(J), compute_uv=False)[:, 0]
    what, tolerance = "largest singular value of J, antisymmetric", spec.tolerance["antisymmetric"]
    return of_seed(seed, absolute(what, f"H = {size}", expected, found, tolerance))


def r15_lru(spec: Spec, seed: int) -> list[Check]:
    """In float32, as users run it."""
    lru = spec.setting["lru"]
    size, dim, length, batch = (lru[name] for name in ("state", "D", "T", "B"))
    cell = cells.lru(1, state=size, r_max=lru["r_max"])
    params = cell.init(jax.random.key(seed), dim, jnp.float32)
    xs = jax.random.normal(jax.random.key(seed + 100), (length, batch, dim), jnp.float32)
    carries = jax.jit(lambda xs: unroll(cell, params, xs).carries)(xs)
    found = np.mean(np.asarray(carries.re**2 + carries.im**2)[lru["burn_in"] :], dtype=np.float64)
    what, setting = "E |s|^2 of an LRU", f"radii to {lru['r_max']:g}"
    return of_seed(seed, absolute(what, setting, spec.expected["lru_power"], found, spec.tolerance["lru_power"]))


# Decay at initialisation.


def r20(spec: Spec) -> list[Check]:
    return [r20_decay(spec, which) for which in spec.expected]


def r20_decay(spec: Spec, which: tuple[str, Any]) -> Check:
    name, choice = which
    H, D, T, B = (spec.setting[name] for name in "HDTB")
    torch = dict(kernel=inits.uniform(), recurrent=inits.uniform(), bias=inits.uniform())
    ours = {
        "orthogonal": {},  # our own defaults: W of N(0, 1/D), no bias
        "orthogonal, W and b as torch": torch | dict(recurrent=inits.orthogonal()),
    }
    cell = CELLS[name](H, **ours.get(choice, torch), **(dict(forget_bias=0.0) if name == "lstm" else {}))

    @jax.jit
    def decay(seed):
        init, draw, pull = jax.random.split(jax.random.key(seed), 3)
        params = cell.init(init, D, jnp.float64)
        if name == "lstm":
            params = params._replace(b=params.b.at[H : 2 * H].set(choice))
        xs, v = jax.random.normal(draw, (T, B, D)), jax.random.normal(pull, (B, H))
        norms = probes.gradient_norms(cell, params, xs, lambda ys: (ys[-1] * v).sum(-1)).joint[0].mean(-1)
        return probes.fit_decay(norms, *spec.setting["lags"]).gamma, norms[::-1]

    gammas, curves = zip(*(decay(seed) for seed in spec.seeds), strict=True)
    setting = {None: "torch's", **{bias: f"torch's, forget bias {bias:g}" for bias in (0.0, 1.0, 3.0)}}
    words = f"{name}, {setting.get(choice, choice)}"
    tolerance = spec.tolerance.get(which, spec.tolerance["other"])
    check = absolute("gamma", words, spec.expected[which], np.mean(gammas), tolerance)
    shown = np.mean(curves, axis=0)[: spec.setting["lags"][1] + 1]
    return check._replace(curve=tuple(shown.tolist()))
