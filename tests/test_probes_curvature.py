"""Hessian products and sharpness through an unroll, and what memory does to them: R14, R16; initial decays: R20."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments import _closed_forms_networks as networks
from experiments._closed_forms_check import require
from rnnlab import probes
from rnnlab.cells import CELLS
from rnnlab.engines import fused, scan
from rnnlab.layers import init_layers, layers
from rnnlab.probes.specs import R14, R16, R20
from rnnlab.unroll import unroll

T, B, D, H = (R16.setting[name] for name in "TBDH")


def objective(names, engine=None, dtype=jnp.float64, **how):
    cells = tuple(CELLS[name](H) for name in names)
    key, draw = jax.random.split(jax.random.key(0))
    flat, unravel = ravel_pytree(init_layers(cells, key, D, dtype))
    flat = flat + 0.1 * jax.random.normal(key, flat.shape, dtype)
    xs = jax.random.normal(draw, (T, B, D), dtype)
    loss = lambda params: jnp.sin(layers(cells, params, xs, engine=engine, **how).ys).sum((0, -1)).mean()  # noqa: E731
    return lambda flat: loss(unravel(flat)), flat


def assert_r16(names, engine=None, **how):
    loss, flat = objective(names, engine, **how)
    v = jax.random.normal(jax.random.key(1), flat.shape)
    step = 1e-5

    @jax.jit
    def found(flat, v):
        gradient = jax.grad(loss)
        return probes.hessian_product(loss, flat, v), gradient(flat + step * v), gradient(flat - step * v)

    product, above, below = found(flat, v)
    want = (above - below) / (2 * step)
    assert jnp.linalg.norm(product - want) < R16.tolerance["hessian"] * jnp.linalg.norm(want)


def test_r16_hessian_product_on_the_default_engine():
    assert_r16(("elman",), fused, lengths=[T, 0, 3])


@pytest.mark.slow
def test_r16_hessian_product_of_a_stack_in_chunks():
    assert_r16(("lstm", "gru"), lengths=[T, 0, 3], chunk=3)


KINDS = ("slstm", "lru", "exp_rnn")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "engine"), [(name, None) for name in KINDS] + [("lstm", scan), ("lstm", fused), ("gru", fused)]
)
def test_r16_hessian_product_of_every_kind_of_cell(name, engine):
    assert_r16((name,), engine)


# sharpness


def test_sharpness_of_a_network_is_that_of_its_whole_hessian():
    loss, flat = objective(("elman",))
    exact = np.linalg.eigvalsh(jax.jit(jax.hessian(loss))(flat))
    assert exact[0] < -0.1 and exact[-1] > 0.1  # a saddle

    @jax.jit
    def both(flat):
        found = probes.sharpness(loss, flat, jax.random.key(0), iterations=60)
        return found, probes.hessian_product(loss, flat, found.direction)

    found, along = both(flat)
    np.testing.assert_allclose([found.largest, found.smallest], exact[[-1, 0]], rtol=1e-8)
    assert found.error.max() < 1e-6
    u = found.direction
    np.testing.assert_allclose(jnp.linalg.norm(u), 1, rtol=1e-12)
    np.testing.assert_allclose(along, found.largest * u, atol=1e-5 * abs(found.largest))


@partial(jax.jit, static_argnames="iterations")
def quadratic(A, iterations):
    return probes.sharpness(lambda x: x @ A @ x / 2, jnp.ones(len(A)), jax.random.key(1), iterations=iterations)


@pytest.mark.parametrize("eigenvalues", [[-5.0, -2.0, -1.0, -1.0], [1.0, 1.0, 1.0, 4.0], [-7.0, 0.0, 3.0, 3.0]])
def test_sharpness_has_the_sign_right_where_the_space_ends_early(eigenvalues):
    """More iterations than dimensions, or than different eigenvalues: no 0 comes in from outside."""
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((len(eigenvalues),) * 2))[0]
    A = jnp.asarray(Q @ np.diag(eigenvalues) @ Q.T)
    found = quadratic(A, iterations=9)
    np.testing.assert_allclose([found.largest, found.smallest], [max(eigenvalues), min(eigenvalues)], rtol=1e-10)
    assert found.error.max() < 1e-10


def test_the_error_bounds_the_distance_to_an_eigenvalue():
    values = np.sort(np.random.default_rng(2).standard_normal(40))
    found = quadratic(jnp.diag(jnp.asarray(values)), iterations=6)
    for value, error in zip((found.largest, found.smallest), found.error, strict=True):
        assert error > 1e-6 and np.abs(values - value).min() < error
    with pytest.raises(ValueError, match="iterations >= 1, got 0"):
        probes.sharpness(lambda x: x @ x, jnp.ones(3), jax.random.key(0), iterations=0)


# R14


@pytest.mark.slow
def test_r14_sensitivity_of_a_memory():
    require(networks.r14(R14))


def test_r14_sensitivity_is_the_sum_of_the_derivation_and_the_sharpness_of_the_squared_error():
    cell, at, direction = networks.integrator()
    a, n = 0.9, 12
    xs = jax.random.normal(jax.random.key(3), (n, 1))
    found = jax.jit(lambda xs: probes.output_sensitivity(cell, at(a), xs, direction))(xs)
    want = [sum(k * a ** (k - 1) * xs[t - k, 0] for k in range(1, t + 1)) ** 2 for t in range(n)]
    np.testing.assert_allclose(found, want, rtol=1e-12)
    targets = unroll(cell, at(a), xs).ys
    error = lambda a: ((unroll(cell, at(a[0]), xs).ys - targets) ** 2).sum() / 2  # noqa: E731
    sharp = jax.jit(lambda a: probes.sharpness(error, a, jax.random.key(0), iterations=2))(jnp.full(1, a))
    np.testing.assert_allclose(sharp.largest, sum(want), rtol=1e-10)
    total = sum(k * k * a ** (2 * (k - 1)) for k in range(1, 2000))
    np.testing.assert_allclose(total, R14.expected(a), rtol=1e-12)


def test_a_direction_unlike_the_parameters_is_refused():
    cell, at, direction = networks.integrator()
    with pytest.raises(ValueError, match="output_sensitivity: expected a direction like the parameters"):
        probes.output_sensitivity(cell, at(0.5), jnp.zeros((3, 1)), (direction,))


# R20


@pytest.mark.slow
@pytest.mark.parametrize("which", R20.expected, ids=str)
def test_r20_decay_at_initialisation(which):
    require([networks.r20_decay(R20, which)])
