"""Pascanu's bounds against measured products; Omega against a NumPy loop and finite differences of its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _closed_forms_products as products
from experiments._closed_forms_check import require
from rnnlab import initializers as inits
from rnnlab import probes
from rnnlab.cells import CELLS, elman
from rnnlab.layers import init_layers
from rnnlab.probes.specs import R7
from rnnlab.types import Directions

T, B, D, H = 8, 3, 2, 4


def normal(seed, shape, dtype=jnp.float64):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


# R7


@pytest.mark.parametrize("name", R7.setting["sigma_max"])
def test_r7_no_product_breaks_the_bound(name):
    require(products.r7_bound(R7, name))


@pytest.mark.parametrize("name", R7.setting["sigma_max"])
def test_r7_says_what_vanishes_and_what_may_explode(name):
    Q = jnp.linalg.qr(normal(0, (H, H)))[0]
    for sigma_max in R7.setting["sigma_max"][name]:
        bound = probes.recurrent_bounds(Q * sigma_max, products.ACTIVATIONS[name])
        rate = R7.expected(R7.setting["slopes"][name], sigma_max)
        np.testing.assert_allclose(bound.sigma_max, sigma_max, rtol=1e-12)
        if abs(rate) > 1e-9:
            assert bool(bound.vanishes) is (rate < 0) and bool(bound.may_explode) is (rate > 0)


def test_bounds_of_numbers_batches_and_strangers():
    U = normal(0, (5, H, H))
    bound = jax.jit(lambda U: probes.recurrent_bounds(U, 0.5))(U)
    values = np.linalg.norm(U, 2, axis=(1, 2))
    np.testing.assert_allclose(bound.log_rate, np.log(values / 2), rtol=1e-12)
    np.testing.assert_array_equal(bound.vanishes, values < 2)
    np.testing.assert_array_equal(bound.may_explode, values > 2)
    np.testing.assert_allclose(bound.at([1, 7]), np.log(values / 2) * np.array([[1], [7]]), rtol=1e-12)
    with pytest.raises(ValueError, match="recurrent_bounds: expected tanh, sigmoid, relu or"):
        probes.recurrent_bounds(U, jnp.sin)


# Omega, by its definition: h_t = tanh(x_t W + h_{t-1} U + b), delta_t J_t = U (1 - h_t^2) delta_t.


def weighed(weights):
    return lambda ys: (weights * jnp.sin(ys)).sum((0, -1))


def trajectory(params, xs):
    hs, h = [], np.zeros((xs.shape[1], params.b.size))
    for x in xs:
        hs.append(h)
        h = np.tanh(x @ params.W + h @ params.U + params.b)
    return np.stack(hs), np.stack([*hs[1:], h])


def omega_of(params, xs, before, deltas):
    """Row by row, with before = h_{t-1} and deltas as they are given."""
    after = np.tanh(xs @ params.W + before @ params.U + params.b)
    pulled = (deltas * (1 - after**2)) @ np.asarray(params.U).T
    ratio = np.linalg.norm(pulled, axis=-1) / np.linalg.norm(deltas, axis=-1)
    return ((ratio - 1) ** 2).sum(0)


@pytest.fixture(scope="module")
def elman_case():
    cell = elman(H, recurrent=inits.normal(1.5), bias=inits.uniform())
    params, xs, weights = cell.init(jax.random.key(0), D, jnp.float64), normal(1, (T, B, D)), normal(2, (T, B, H))
    params, xs, weights = jax.tree.map(np.asarray, (params, xs, weights))
    before, after = trajectory(params, xs)
    deltas, delta = [], np.zeros((B, H))
    for t in reversed(range(T)):
        delta = delta + weights[t] * np.cos(after[t])
        deltas.append(delta)
        delta = (delta * (1 - after[t] ** 2)) @ params.U.T
    return cell, params, xs, weights, before, np.stack(deltas[::-1])


def test_omega_and_its_immediate_gradient(elman_case):
    cell, params, xs, weights, before, deltas = elman_case
    run = jax.jit(lambda p: probes.omega(cell, p, xs, weighed(weights)))
    np.testing.assert_allclose(run(params), omega_of(params, xs, before, deltas), rtol=1e-12)

    # States and deltas stay what they are while the parameters move: equation 10's derivative.
    found = jax.jit(jax.grad(lambda p: probes.omega(cell, p, xs, weighed(weights)).sum()))(params)
    step = 1e-6
    for name in params._fields:
        for place in np.ndindex(getattr(params, name).shape):
            moved = []
            for sign in (step, -step):
                array = getattr(params, name).copy()
                array[place] += sign
                moved.append(omega_of(params._replace(**{name: array}), xs, before, deltas).sum())
            slope = (moved[0] - moved[1]) / (2 * step)
            np.testing.assert_allclose(getattr(found, name)[place], slope, rtol=1e-6, atol=1e-8)


def test_omega_in_float32_where_squares_underflow(elman_case):
    """A loss of 1e-25 has the same direction: Omega does not see its size."""
    cell, params, xs, weights, before, deltas = elman_case
    low = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (params, xs, weights))
    run = jax.jit(lambda scale: jax.value_and_grad(
        lambda p: probes.omega(cell, p, low[1], weighed(low[2] * scale)).sum())(low[0]))  # fmt: skip
    value, grads = run(jnp.float32(1e-25))
    np.testing.assert_allclose(value, omega_of(params, xs, before, deltas).sum(), rtol=1e-5)
    same = run(jnp.float32(1))[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), grads, same)
    value, grads = run(jnp.float32(0))  # nothing comes back: nothing to keep
    assert value == 0 and all((leaf == 0).all() for leaf in jax.tree.leaves(grads))


def test_omega_of_a_ragged_stack():
    """Each row equals itself alone, NaN at padding or not; every layer has its part."""
    cells = (CELLS["elman"](3), CELLS["ind_rnn"](H))
    params, lengths = init_layers(cells, jax.random.key(0), D, jnp.float64), np.array([T, 0, 3])
    xs, weights = np.array(normal(1, (T, B, D))), normal(2, (T, B, H))
    xs[np.arange(T)[:, None] >= lengths] = np.nan

    def value(params, xs, weights, lengths=None):
        return probes.omega(cells, params, xs, weighed(weights), lengths=lengths)

    def run(params):
        grads = jax.grad(lambda p: value(p, xs, weights, lengths).sum())(params)
        return value(params, xs, weights, lengths), grads, value(params, xs[:3, 2], weights[:3, 2])

    found, grads, alone = jax.jit(run)(params)
    assert found.shape == (B,) and found[1] == 0 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    np.testing.assert_allclose(found[2], alone, rtol=1e-12)
    assert np.abs(grads[0].U).max() > 1e-3 and np.abs(grads[1].u).max() > 1e-3


def test_omega_is_nothing_where_norms_are_kept():
    cell = elman(H, activation=lambda z: z)
    params, xs = cell.init(jax.random.key(0), D, jnp.float64), normal(1, (T, D))  # orthogonal U
    value = jax.jit(lambda U: probes.omega(cell, params._replace(U=U), xs, lambda ys: ys[2].sum()))
    np.testing.assert_allclose(value(params.U), 0, atol=1e-20)
    np.testing.assert_allclose(value(2 * params.U), 3, rtol=1e-12)  # three steps lead to h_3, each with (2 - 1)^2


def test_what_does_not_fit_is_refused():
    cell = CELLS["elman"](H)
    params, xs = cell.init(jax.random.key(0), D, jnp.float64), normal(1, (T, B, D))
    with pytest.raises(ValueError, match="omega: expected each example's own loss"):
        probes.omega(cell, params, xs, lambda ys: ys.sum())
    with pytest.raises(TypeError, match="omega: expected cells of one direction"):
        probes.omega([Directions(cell, cell)], [Directions(params, params)], xs, lambda ys: ys.sum((0, -1)))
