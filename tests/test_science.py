"""Closed forms that the laboratory must reproduce: the rows of rnnlab/probes/specs.py."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rnnlab import initializers as inits
from rnnlab import probes
from rnnlab.cells import CELLS, elman
from rnnlab.layers import init_layers, layers, zero_taps
from rnnlab.probes.specs import R1, R2, R3, R4, R5, R6, R21
from rnnlab.unroll import unroll


def linear(hidden: int, scale: float = 1.0):
    return elman(hidden, activation=lambda z: z, recurrent=inits.orthogonal(scale))


# R1


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("gain", R1.setting["gains"])
def test_r1_singular_values_of_a_linear_network(gain, seed):
    T, H = R1.setting["T"], R1.setting["H"]
    key, draw = jax.random.split(jax.random.key(seed))
    cell = linear(H, gain)
    params = cell.init(key, 3, jnp.float64)
    xs = jax.random.normal(draw, (T, 3))

    logs = np.asarray(jax.jit(lambda xs: probes.product_singular_values(probes.step_jacobians(cell, params, xs)))(xs))
    lags = range(T, 0, -1)  # row t is the product of the Jacobians of steps t..T
    expected = np.array([R1.expected["log_singular_value"](gain, k) for k in lags])
    np.testing.assert_allclose(logs, np.broadcast_to(expected[:, None], (T, H)), rtol=0, atol=R1.tolerance)
    frobenius = np.logaddexp.reduce(2 * logs, axis=1) / 2
    expected = [R1.expected["log_frobenius"](gain, k, H) for k in lags]
    np.testing.assert_allclose(frobenius, expected, rtol=0, atol=R1.tolerance)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("gain", R1.setting["gains"])
def test_r1_gradient_norms_of_a_linear_network(gain, seed):
    T, H, B = R1.setting["T"], R1.setting["H"], 2
    key, draw, pull = jax.random.split(jax.random.key(seed), 3)
    cell = linear(H, gain)
    params = cell.init(key, 3, jnp.float64)
    xs, cotangent = jax.random.normal(draw, (T, B, 3)), jax.random.normal(pull, (B, H))

    norms = probes.gradient_norms(cell, params, xs, lambda ys: (ys[-1] * cotangent).sum(-1)).joint[0]
    ratio = np.asarray(norms) - np.log(np.linalg.norm(cotangent, axis=-1))
    expected = [R1.expected["log_singular_value"](gain, k) for k in range(T - 1, -1, -1)]
    np.testing.assert_allclose(ratio, np.stack([expected] * B, axis=1), rtol=0, atol=R1.tolerance)


# R2: the same recursion, written out with dense matrices in NumPy.


def local_loss(ys, weights):
    """Each example's own loss: nonlinear, different at every step, summed over the steps."""
    return (weights * jnp.sin(ys)).sum((0, -1))


class LayerJacobians(NamedTuple):
    """Of one layer at every step, carries ravelled: J = dcarry_t/dcarry_{t-1}, K = dcarry_t/dx_t, R = dy_t/dcarry_t."""

    J: np.ndarray
    K: np.ndarray
    R: np.ndarray


def layer_jacobians(cell, params, xs):
    out, weights, start = unroll(cell, params, xs), cell.prepare(params), cell.start(cell.prepare(params), ())
    before = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), start, out.carries)
    _, unravel = ravel_pytree(start)
    flat = jax.vmap(lambda carry: ravel_pytree(carry)[0])
    step = lambda x, s: ravel_pytree(cell.step(weights, unravel(s), cell.drive(weights, x)))[0]  # noqa: E731
    read = lambda s, x: cell.read(weights, unravel(s), x)  # noqa: E731
    J = probes.step_jacobians(cell, params, xs)
    K = jax.vmap(jax.jacfwd(step))(xs, flat(before))
    R = jax.vmap(jax.jacfwd(read))(flat(out.carries), xs)
    return LayerJacobians(J, K, R), out.ys


def explicit_adjoint(stack, dys):
    """dL/dcarry_t of every layer of one sequence [T, S]: from the last step to the first, top layer first."""
    deltas = []
    for J, K, R in reversed(stack):
        delta, rows = np.zeros_like(J[0, 0]), []
        for t in reversed(range(len(J))):
            delta = (J[t + 1].T @ delta if t + 1 < len(J) else delta) + R[t].T @ dys[t]
            rows.append(delta)
        deltas.append(np.stack(rows[::-1]))
        dys = np.einsum("tsd,ts->td", K, deltas[-1])  # what this layer adds to the outputs of the one below
    return deltas[::-1]


# Cells that divide by how far their units spread, which near h = 0 is little: both sides round off more in float32.
# Seen: 2.4e-5 (lstm_layer_norm, seed 1). In float64 they meet the tolerance as any other.
NORMED = {"lstm_layer_norm", "gru_layer_norm"}


def assert_taps_are_the_adjoint(cells, seed, dtype, slack=1.0):
    T, B, D = (R2.setting[name] for name in "TBD")
    key, draw, weigh = jax.random.split(jax.random.key(seed), 3)
    params = init_layers(cells, key, D, dtype)
    xs = jax.random.normal(draw, (T, B, D), dtype)
    outputs = jax.eval_shape(lambda: layers(cells, params, xs).ys)
    weights = jax.random.normal(weigh, outputs.shape, dtype)
    taps = zero_taps(cells, params, T, (B,))

    @jax.jit
    def measured(xs, taps):
        pulled = jax.grad(lambda taps: local_loss(layers(cells, params, xs, taps=taps).ys, weights).sum())(taps)
        stack, ys = [], jnp.swapaxes(xs, 0, 1)
        for cell, p in zip(cells, params, strict=True):
            jacobians, ys = jax.vmap(partial(layer_jacobians, cell, p))(ys)
            stack.append(jacobians)
        ravelled = [jax.vmap(jax.vmap(lambda carry: ravel_pytree(carry)[0]))(layer) for layer in pulled]
        return ravelled, stack, ys

    pulled, stack, ys = jax.tree.map(np.asarray, measured(xs, taps))
    for b in range(B):
        expected = explicit_adjoint(
            [LayerJacobians(*(part[b] for part in layer)) for layer in stack],
            np.asarray(weights[:, b]) * np.cos(ys[b]),
        )
        for layer, want in zip(pulled, expected, strict=True):
            assert layer.dtype == want.dtype == dtype
            error = np.linalg.norm(layer[:, b] - want, axis=1) / np.linalg.norm(want, axis=1)
            assert error.max() <= slack * R2.tolerance[np.dtype(dtype).name], error.max()


both_types = pytest.mark.parametrize("dtype", [jnp.float64, pytest.param(jnp.float32, marks=pytest.mark.slow)])
two_seeds = pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])


@both_types
@two_seeds
@pytest.mark.parametrize("name", CELLS)
def test_r2_taps_are_the_adjoint(name, seed, dtype):
    slack = 5.0 if name in NORMED and dtype == jnp.float32 else 1.0
    assert_taps_are_the_adjoint([CELLS[name](R2.setting["H"])], seed, dtype, slack)


@both_types
@two_seeds
def test_r2_taps_are_the_adjoint_in_a_stack(seed, dtype):
    H = R2.setting["H"]
    stack = [CELLS["elman"](H + 1), CELLS["lstm"](H - 1), CELLS["gru"](H)]
    assert len(stack) == R2.setting["layers"]
    assert_taps_are_the_adjoint(stack, seed, dtype)


# R3


@pytest.mark.parametrize("seed", range(5))
def test_r3_product_of_scalar_factors(seed):
    T = R3.setting["T"]
    key, draw, first = jax.random.split(jax.random.key(seed), 3)
    cell = elman(1, recurrent=inits.uniform(2.0), bias=inits.uniform())
    params = cell.init(key, 1, jnp.float64)
    xs = jax.random.normal(draw, (T, 1)) / 2
    start = cell.start(params, ())._replace(h=jax.random.normal(first, (1,)))

    factors = [R3.expected(float(params.U[0, 0]), float(h)) for h in unroll(cell, params, xs, start=start).ys[:, 0]]
    slope = jax.grad(lambda start: unroll(cell, params, xs, start=start).ys[-1, 0])(start).h[0]
    np.testing.assert_allclose(slope, np.prod(factors), rtol=R3.tolerance, atol=0)
    jacobians = probes.step_jacobians(cell, params, xs, start)
    np.testing.assert_allclose(jacobians[:, 0, 0], factors, rtol=R3.tolerance, atol=0)


# R4 and R5


def gated(name, seed, T, H, **bias):
    """A gated cell whose matrices are zero, with random inputs, first carry and cotangent."""
    cell = CELLS[name](H, **bias)
    key, draw, first, pull = jax.random.split(jax.random.key(seed), 4)
    params = cell.init(key, 3, jnp.float64)
    params = params._replace(W=jnp.zeros_like(params.W), U=jnp.zeros_like(params.U))
    start = cell.start(params, (2,))
    flat, unravel = ravel_pytree(start)
    return (
        cell,
        params,
        jax.random.normal(draw, (T, 2, 3)),
        unravel(jax.random.normal(first, flat.shape)),
        jax.random.normal(pull, (2, H)),
    )


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("index", range(4))
def test_r4_forget_bias_sets_the_decay(index, seed):
    bias, T, H = R4.setting["biases"][index], R4.setting["T"], R4.setting["H"]
    cell, params, xs, start, cotangent = gated("lstm", seed, T, H, forget_bias=bias)
    taps = zero_taps(cell, params, T, (2,))

    def loss(taps):
        return (unroll(cell, params, xs, start=start, taps=taps).last.c * cotangent).sum()

    pulled = jax.grad(loss)(taps).c
    factors = np.array([R4.expected["factor"](bias, T - 1 - t) for t in range(T)])
    tolerance = R4.tolerance
    np.testing.assert_allclose(
        pulled / cotangent, np.ones((1, 2, H)) * factors[:, None, None], rtol=tolerance["factor"]
    )
    fit = probes.fit_decay(probes.log_norm(pulled, 2).T, 0, T - 1)
    np.testing.assert_allclose(fit.gamma, R4.expected["factor"](bias, 1), rtol=tolerance["factor"])
    np.testing.assert_allclose(fit.gamma, R4.expected["gamma"][index], rtol=0, atol=tolerance["gamma"])
    np.testing.assert_allclose(fit.half_life, R4.expected["half_life"][index], rtol=0, atol=tolerance["half_life"])


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("bias", R5.setting["biases"])
@pytest.mark.parametrize("name", ["gru", "gru_before"])
def test_r5_update_bias_sets_the_decay(name, bias, seed):
    T, H = R5.setting["T"], R5.setting["H"]
    cell, params, xs, start, cotangent = gated(name, seed, T, H, update_bias=bias)
    taps = zero_taps(cell, params, T, (2,))

    def loss(taps):
        return (unroll(cell, params, xs, start=start, taps=taps).ys[-1] * cotangent).sum()

    factors = np.array([R5.expected(bias, T - 1 - t) for t in range(T)])
    expected = np.ones((1, 2, H)) * factors[:, None, None]
    np.testing.assert_allclose(jax.grad(loss)(taps).h / cotangent, expected, rtol=R5.tolerance, atol=0)


# R6


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_r6_gradient_over_time_and_depth(seed):
    L, T, a, u = (R6.setting[name] for name in ("layers", "T", "a", "u"))
    cells = [linear(1)] * L
    params = init_layers(cells, jax.random.key(0), 1, jnp.float64)
    params = [p._replace(W=jnp.full((1, 1), u), U=jnp.full((1, 1), a)) for p in params]
    xs = jax.random.normal(jax.random.key(seed), (T, 1))
    taps = zero_taps(cells, params, T)
    pulled = jax.grad(lambda taps: layers(cells, params, xs, taps=taps).ys[-1, 0])(taps)

    gradient = np.array([layer.h[::-1, 0] for layer in pulled])  # [layer, lag]
    expected = [[R6.expected["gradient"](a, u, k, L - 1 - layer) for k in range(T)] for layer in range(L)]
    np.testing.assert_allclose(gradient, expected, rtol=R6.tolerance["gradient"], atol=0)

    first, second = R6.expected["peak_lags"]
    bottom = gradient[0]
    assert abs(bottom[first] - R6.expected["peak"]) < R6.tolerance["peak"]
    np.testing.assert_allclose(bottom[first], bottom[second], rtol=R6.tolerance["gradient"], atol=0)
    others = np.delete(bottom, [first, second])
    assert others.max() < 0.999 * bottom[first]
    slopes = np.diff(bottom)
    assert slopes[:first].min() > 0 > slopes[second:].max()  # not monotone: it grows for 35 lags, then fades


# R21


@pytest.mark.parametrize("scale", R21.setting["scales"])
def test_r21_the_figure_of_the_book(scale):
    setting = R21.setting
    N, H, last = setting["N"], setting["H"], max(setting["lags"])
    cotangent = np.ones((N, H))  # prescribed by the book
    recurrent = np.random.RandomState(setting["seed"]).randn(H, H) * scale
    cell = linear(H)
    params = cell.init(jax.random.key(0), 2, jnp.float64)._replace(U=jnp.asarray(recurrent))
    xs = jax.random.normal(jax.random.key(1), (last + 1, N, 2))
    taps = zero_taps(cell, params, last + 1, (N,))
    pulled = jax.grad(lambda taps: (unroll(cell, params, xs, taps=taps).ys[-1] * cotangent).sum())(taps).h
    norms = [np.sqrt(np.sum(np.square(pulled[last - lag]))) / N for lag in setting["lags"]]
    np.testing.assert_allclose(norms, R21.expected[scale], rtol=R21.tolerance, atol=0)
