"""Lyapunov spectra against determinants, eigenvalues, finite differences; rows R9, R10, R11 and R19."""

import math
from functools import partial

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
from rnnlab.probes.specs import R9, R10, R11, R19

T, B, D = 20, 3, 2


def normal(seed, shape, dtype=jnp.float64):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def linear(hidden, U):
    cell = elman(hidden, activation=lambda z: z)
    return cell, cell.init(jax.random.key(0), 1, U.dtype)._replace(U=U)


# R10


@pytest.mark.parametrize("name", R10.setting["cells"])
def test_r10_the_sum_of_the_spectrum_is_the_determinant(name):
    require(products.r10_sum(R10, name))


# The spectrum.


def test_a_linear_network_has_the_logarithms_of_its_eigenvalues():
    values = jnp.array([1.3, 0.7, -0.4, 0.1])
    V = normal(0, (4, 4))
    cell, params = linear(4, V @ jnp.diag(values) @ jnp.linalg.inv(V))
    measure = lambda xs, count: probes.lyapunov_spectrum(cell, params, xs, jax.random.key(1), count=count, burn_in=100)  # noqa: E731
    run = jax.jit(lambda xs: (measure(xs, None), measure(xs, 2)))
    found, first = run(jnp.zeros((160, 1)))
    logs = np.log(np.abs(values))
    np.testing.assert_allclose(found.exponents, logs, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.local[100:], np.broadcast_to(logs, (60, 4)), rtol=0, atol=1e-10)
    assert found.local.shape == (160, 4) and np.abs(found.local[0] - logs).max() > 1e-2  # burn-in is kept, not counted
    np.testing.assert_allclose(found.dimension, 1 + math.log(1.3) / -math.log(0.7), rtol=1e-9)
    np.testing.assert_allclose(first.exponents, logs[:2], rtol=0, atol=1e-10)


@pytest.fixture(scope="module")
def ragged():
    """Spectrum and largest exponent of a stack, of rows of several lengths, with NaN at padding."""
    stack = (CELLS["lstm"](3), CELLS["elman"](2))
    params, lengths = init_layers(stack, jax.random.key(0), D, jnp.float64), np.array([T, 0, 9])
    xs = np.array(normal(1, (T, B, D)))
    xs[np.arange(T)[:, None] >= lengths] = np.nan

    @partial(jax.jit, static_argnames=("count", "burn_in"))
    def run(xs, lengths, key, count=None, burn_in=2):
        given = stack, params, xs
        how = dict(burn_in=burn_in, lengths=lengths)
        largest = probes.largest_exponent(*given, key, **how)
        return probes.lyapunov_spectrum(*given, key, count=count, **how), largest

    return stack, params, xs, lengths, run


@pytest.mark.slow
def test_a_ragged_batch_is_each_row_alone(ragged):
    _, _, xs, lengths, run = ragged
    key = jax.random.key(2)
    found, largest = run(xs, jnp.asarray(lengths), key)
    assert found.exponents.shape == (B, 8) and found.local.shape == (T, B, 8) and largest.shape == (B,)
    assert np.isnan(found.exponents[1]).all() and np.isnan(largest[1]) and np.isnan(found.dimension[1])
    cut, cut_largest = run(xs[:9, 2], None, key)
    np.testing.assert_allclose(found.exponents[2], cut.exponents, rtol=1e-9)
    np.testing.assert_allclose(found.local[:9, 2], cut.local, rtol=1e-9, atol=1e-12)
    assert (found.local[9:, 2] == 0).all()
    np.testing.assert_allclose(largest[2], cut_largest, rtol=1e-10)
    np.testing.assert_allclose(found.exponents[0, 0], largest[0], atol=0.1)


def test_one_direction_is_the_largest_exponent(ragged):
    _, _, xs, _, run = ragged
    found, largest = run(xs[:, 0], None, jax.random.key(3), count=1, burn_in=0)
    np.testing.assert_allclose(found.exponents, [largest], rtol=1e-12)
    np.testing.assert_allclose(found.exponents, found.local.mean(0), rtol=1e-12)


def test_the_exponents_of_a_stack_are_those_of_its_layers(ragged):
    """Its Jacobians are block triangular: their determinants are products, and so the sums of exponents add up."""
    stack, params, xs, _, run = ragged
    found, _ = run(xs[:, 0], None, jax.random.key(2), burn_in=0)
    J = np.asarray(jax.jit(partial(probes.step_jacobians, stack, params))(xs[:, 0]))
    assert (J[:, :6, 6:] == 0).all() and np.abs(J[:, 6:, :6]).min(axis=(1, 2)).max() > 0
    parts = [np.linalg.slogdet(block).logabsdet.mean() for block in (J[:, :6, :6], J[:, 6:, 6:])]
    np.testing.assert_allclose(found.exponents.sum(), sum(parts), rtol=1e-10)


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences():
    cell = CELLS["gru"](4)
    params, xs, key = cell.init(jax.random.key(0), D, jnp.float64), normal(1, (T, D)), jax.random.key(2)
    lengths, move = jnp.asarray(T - 5), normal(3, (4, 12))

    def loss(amount):
        moved = params._replace(U=params.U + amount * move)
        return probes.flossing_loss(cell, moved, xs, key, count=3, burn_in=1, lengths=lengths)

    @jax.jit
    def run(amount):
        found = probes.lyapunov_spectrum(cell, params, xs, key, count=3, burn_in=1, lengths=lengths)
        return *jax.value_and_grad(loss)(amount), (found.exponents**2).sum()

    step = 1e-5
    value, slope, squares = run(0.0)
    np.testing.assert_allclose(value, squares, rtol=1e-12)
    np.testing.assert_allclose(slope, (run(step)[0] - run(-step)[0]) / (2 * step), rtol=1e-6)


def test_float32_neither_underflows_nor_overflows():
    cell, params = linear(4, jnp.zeros((4, 4), jnp.float32))

    @jax.jit
    def run(U, key):
        given = cell, params._replace(U=U), jnp.zeros((200, 1), jnp.float32), key
        return probes.lyapunov_spectrum(*given).exponents, probes.largest_exponent(*given)

    Q = inits.orthogonal()(jax.random.key(1), (4, 4), jnp.float32)
    for gain in (0.5, 1e-25, 1e25):
        exponents, largest = run(Q * jnp.float32(gain), jax.random.key(0))
        assert exponents.dtype == largest.dtype == jnp.float32
        np.testing.assert_allclose([*exponents, largest], math.log(gain), rtol=1e-5)
    exponents, largest = run(0 * Q, jax.random.key(0))
    assert largest == -math.inf and exponents[0] == -math.inf  # all is forgotten at once


# Kaplan and Yorke's dimension.


@pytest.mark.parametrize(
    ("exponents", "size", "dimension"),
    [
        ((0.9, 0.0, -14.57), 3, 2 + 0.9 / 14.57),  # Lorenz's system: 2.062
        ((-14.57, 0.9, 0.0), 3, 2 + 0.9 / 14.57),  # in any order
        ((0.9, 0.0, -14.57), 8, 2 + 0.9 / 14.57),  # the others are not needed
        ((0.0, -1.0), 2, 1.0),
        ((0.25, -0.25, -1.0), 3, 2.0),
        ((-0.1, -0.2), 2, 0.0),
        ((0.5, -math.inf), 2, 1.0),
        ((-math.inf, -math.inf), 2, 0.0),
        ((0.5, 0.1), 2, 2.0),  # fills the space
        ((0.5, 0.1), 3, math.nan),  # nobody knows the third
        ((0.5, math.nan), 2, math.nan),
        ((-0.5, math.nan), 2, math.nan),
    ],
)
def test_kaplan_yorke_dimension(exponents, size, dimension):
    rows = jnp.array([exponents, [-1.0] * len(exponents)])
    np.testing.assert_allclose(probes.kaplan_yorke_dimension(rows, size), [dimension, 0.0], rtol=1e-12)


def test_what_does_not_fit_is_refused():
    cell = CELLS["elman"](3)
    params, xs, key = cell.init(jax.random.key(0), D, jnp.float64), normal(1, (T, D)), jax.random.key(0)
    for count in (0, 4):
        with pytest.raises(ValueError, match=rf"lyapunov_spectrum: expected a count within 1..S = 3, got {count}"):
            probes.lyapunov_spectrum(cell, params, xs, key, count=count)
    for burn_in in (-1, T):
        with pytest.raises(ValueError, match=rf"largest_exponent: expected a burn-in within 0..T-1 = {T - 1}"):
            probes.largest_exponent(cell, params, xs, key, burn_in=burn_in)
    with pytest.raises(ValueError, match="at most size = 1 exponents, got 2"):
        probes.kaplan_yorke_dimension(jnp.zeros(2), 1)


# R9 and R11


@pytest.mark.slow
@pytest.mark.parametrize("gain", R9.setting["fading"])
def test_r9_below_the_edge_the_exponent_is_the_spectral_radius(gain):
    assert all(gain * products.radius_at_one(seed, R9.setting["N"]) < 1 for seed in R9.seeds)
    require(products.r9_fading(R9, gain))


@pytest.mark.slow
@pytest.mark.parametrize("place", range(len(R9.setting["chaotic"])))
def test_r9_beyond_it_there_is_chaos(place):
    require([products.r9_chaotic(R9, place)])


@pytest.mark.slow
@pytest.mark.parametrize("gain", R11.setting["gains"])
def test_r11_the_adjoint_grows_by_the_largest_exponent(gain):
    require(products.r11_slope(R11, gain))


# R19


@pytest.mark.slow
def test_r19_flossing_brings_the_first_exponents_to_nothing():
    require(products.r19(R19))
