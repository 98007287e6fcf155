"""Products of Jacobians: of cells, stacks and ragged batches, against what autodiff and NumPy make of them."""

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
from rnnlab.engines import scan
from rnnlab.layers import init_layers, layers, residual, zero_taps
from rnnlab.probes.specs import R12
from rnnlab.types import Directions

T, B, D = 7, 3, 2
LENGTHS = np.array([T, 0, 4])
STACK = (CELLS["lstm"](3), CELLS["elman"](3))
JOIN = (residual, lambda xs, ys: ys)


def normal(seed, shape, dtype=jnp.float64):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def stack_of(dtype=jnp.float64):
    """Parameters, inputs with NaN at padding, and random first carries."""
    params, xs = init_layers(STACK, jax.random.key(0), 3, dtype), np.array(normal(1, (T, B, 3), dtype))
    xs[np.arange(T)[:, None] >= LENGTHS] = np.nan
    first = [cell.start(cell.prepare(p), (B,)) for cell, p in zip(STACK, params, strict=True)]
    leaves, tree = jax.tree.flatten(tuple(first))
    return params, jnp.asarray(xs), tree.unflatten([normal(i, leaf.shape, dtype) for i, leaf in enumerate(leaves)])


def linear(hidden, U):
    """h_t = x_t W + h_{t-1} U, so that J_t = U^T at every step."""
    cell = elman(hidden, activation=lambda z: z)
    return cell, cell.init(jax.random.key(0), 1, U.dtype)._replace(U=U)


# One step, of a stack.


@pytest.fixture(scope="module")
def measured():
    """J [T, B, S, S] of the stack, and its dense product at some lags, of one program."""
    params, xs, start = stack_of()
    how = dict(start=start, lengths=LENGTHS, join=JOIN)
    run = lambda xs: (  # noqa: E731
        probes.step_jacobians(STACK, params, xs, **how),
        probes.dense_product(STACK, params, xs, lags=(5, T, 1, 5), **how),
    )
    return jax.jit(run)(xs)


def test_the_product_is_what_the_first_carries_do_to_the_last(measured):
    """dlast/dstart by autodiff through `layers`, which knows no Jacobian."""
    params, xs, start = stack_of()
    J = np.asarray(measured[0])
    assert J.shape == (T, B, 9, 9)

    def last(start):
        return layers(STACK, params, xs, start=start, lengths=LENGTHS, join=JOIN, engine=scan).last

    found = jax.jit(jax.jacrev(last))(start)
    for b in range(B):
        blocks = [np.asarray(block)[b, :, b] for block in jax.tree.leaves(found)]  # rows and columns of three leaves
        whole = np.block([blocks[:3], blocks[3:6], blocks[6:]])
        np.testing.assert_allclose(np.linalg.multi_dot(J[::-1, b]), whole, rtol=1e-11, atol=1e-14)
    for b, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(J[length:, b], np.broadcast_to(np.eye(9), (T - length, 9, 9)))


def test_the_stack_of_one_is_the_cell_and_a_batch_is_its_rows():
    cell = CELLS["lstm"](3)
    params, xs = cell.init(jax.random.key(0), D, jnp.float64), normal(1, (T, B, 2, D))
    found = jax.jit(lambda xs: probes.step_jacobians((cell,), (params,), xs))(xs)
    alone = jax.jit(partial(probes.step_jacobians, cell, params))
    for place in np.ndindex(B, 2):
        np.testing.assert_allclose(found[:, *place], alone(xs[:, *place]), rtol=1e-13, atol=1e-15)


def test_a_tap_counts_the_way_up_at_its_own_step(measured):
    """delta_t = a_t in the top layer; below, delta_t^l = a_t^l + (dcarry_t^{l+1}/dcarry_t^l)^T delta_t^{l+1}."""
    cells = (CELLS["lstm"](3), CELLS["gru"](2))
    params, xs, weigh = init_layers(cells, jax.random.key(0), D, jnp.float64), normal(1, (T, D)), normal(2, (2,))
    loss = lambda taps: layers(cells, params, xs, taps=taps).ys[-1] @ weigh  # noqa: E731

    @jax.jit
    def run(xs):
        out = layers(cells, params, xs)
        hs, before = out.carries[0], out.carries[1].h
        before = jnp.concatenate([jnp.zeros_like(before[:1]), before[:-1]])

        def above(h, old):  # the upper layer's new h from the lower one's
            return cells[1].step(params[1], type(out.last[1])(old), cells[1].drive(params[1], h)).h

        K = jax.vmap(jax.jacfwd(above))(hs.h, before)
        return jax.grad(loss)(zero_taps(cells, params, T)), probes.step_jacobians(cells, params, xs), K

    (lower, upper), J, K = jax.tree.map(np.asarray, run(xs))
    a = np.concatenate([np.zeros(6), weigh])  # order of the carry: h and c of the lower layer, h of the upper
    for t in reversed(range(T)):
        np.testing.assert_allclose(upper.h[t], a[6:], rtol=1e-11, atol=1e-15)
        np.testing.assert_allclose(lower.c[t], a[3:6], rtol=1e-11, atol=1e-15)
        np.testing.assert_allclose(lower.h[t], a[:3] + K[t].T @ upper.h[t], rtol=1e-11, atol=1e-15)
        assert np.abs(K[t].T @ upper.h[t]).max() > 1e-6
        a = J[t].T @ a


# The dense product.


def test_dense_product_has_the_singular_values_of_the_product(measured):
    J, found = jax.tree.map(np.asarray, measured)
    for place, lag in enumerate((5, T, 1, 5)):
        for b in range(B):
            values = np.linalg.svd(np.linalg.multi_dot([np.eye(9), *J[::-1, b][:lag]]), compute_uv=False)
            rounding = 1e-14 * values[0] / values  # of a value, in the product's
            assert (np.abs(found.singular_values[place, b] - np.log(values)) < 1e-12 + rounding).all()
            np.testing.assert_allclose(found.spectral[place, b], np.log(values[0]), rtol=0, atol=1e-12)
            frobenius = np.log(np.linalg.norm(values))
            np.testing.assert_allclose(found.frobenius[place, b], frobenius, rtol=0, atol=1e-12)
            assert abs(found.condition[place, b] - np.log(values[0] / values[-1])) < 1e-12 + rounding[-1]
    every = probes.product_singular_values(jnp.asarray(J))
    assert every.shape == (T, B, 9)
    np.testing.assert_allclose(every[T - 5, :, 0], found.spectral[0], rtol=0, atol=1e-12)


def test_what_rounding_has_taken_is_not_a_number():
    cell, params = linear(3, jnp.diag(jnp.array([1.0, 0.5, 1e-3])))
    run = jax.jit(lambda xs: probes.dense_product(cell, params, xs, lags=range(1, 31)))
    found = jax.tree.map(np.asarray, run(normal(1, (30, 1))))
    lags = np.arange(1, 31)
    np.testing.assert_allclose(found.singular_values[:, 1], lags * math.log(0.5), atol=1e-12)
    seen = lags < 6  # 1e-18 is beyond float64
    np.testing.assert_allclose(found.singular_values[seen, 2], lags[seen] * math.log(1e-3), atol=1e-3)
    assert np.isnan(found.singular_values[~seen, 2]).all() and np.isnan(found.condition[~seen]).all()


# Estimates.


@pytest.mark.slow
def test_estimates_of_a_ragged_stack():
    params, xs, start = stack_of()
    how = dict(start=start, lengths=LENGTHS, join=JOIN, lags=(T, 2))

    @jax.jit
    def run(xs, key):
        ask = partial(probes.product_norms, STACK, params, xs, key, **how)
        return ask(dense_up_to=9), ask(dense_up_to=8)

    exact, found = run(xs, jax.random.key(3))
    assert isinstance(exact, probes.DenseProduct) and exact.method == "dense"
    assert isinstance(found, probes.EstimatedProduct) and found.method == "power iteration and Hutchinson"
    np.testing.assert_allclose(found.spectral, exact.spectral, rtol=0, atol=1e-6)
    np.testing.assert_array_less(found.spectral, exact.spectral + 1e-12)
    assert (np.abs(found.frobenius - exact.frobenius) < 4 * found.error + 1e-12).all()
    np.testing.assert_allclose(found.frobenius[:, 1], math.log(9) / 2, rtol=1e-12)  # a row of length 0: the identity
    assert (found.error[:, 1] < 1e-12).all() and (found.error[:, 0] > 0.01).all() and (found.error < 0.15).all()


@pytest.fixture(scope="module")
def of_linear():
    """ln of both norms of U^400 in three ways, in float32."""
    cell, params = linear(8, jnp.zeros((8, 8), jnp.float32))
    xs = jnp.zeros((400, 1), jnp.float32)

    @jax.jit
    def run(U):
        given = cell, params._replace(U=U), xs
        exact, key = probes.dense_product(*given, lags=(1, 400)), jax.random.key(0)
        power = probes.power_iteration(*given, key, lags=(1, 400))
        traced = probes.hutchinson(*given, key, lags=(1, 400), probes=5)
        return exact, power, traced, probes.product_singular_values(probes.step_jacobians(*given))

    return run


@pytest.mark.parametrize("gain", [0.5, 2.0, 1e-25, 1e25])
def test_no_norm_underflows_or_overflows_in_float32(of_linear, gain):
    U = inits.orthogonal()(jax.random.key(1), (8, 8), jnp.float32) * jnp.float32(gain)
    exact, power, traced, every = of_linear(U)
    logs = np.array([1, 400]) * math.log(gain)
    for found, expected in (
        (exact.spectral, logs), (exact.singular_values[:, -1], logs), (power.value, logs),
        (exact.frobenius, logs + math.log(8) / 2), (traced.value, logs + math.log(8) / 2),
        (every[::-399, -1], logs),
    ):  # fmt: skip
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(exact.condition, 0, atol=1e-3)


def test_a_product_that_is_nothing_says_so(of_linear):
    exact, power, traced, _ = of_linear(jnp.zeros((8, 8), jnp.float32))
    for found in (exact.spectral, exact.frobenius, power.value, traced.value):
        assert (np.asarray(found) == -np.inf).all()
    assert (power.error == 0).all() and (traced.error == 0).all()
    U = jnp.full((8, 8), jnp.nan, jnp.float32)
    assert all(np.isnan(one.value).all() for one in of_linear(U)[1:3])


# R12


def test_r12_estimates_at_the_smallest_gap():
    require(products.r12(R12))


# Refusals.


def test_what_does_not_fit_is_refused():
    cell = CELLS["elman"](3)
    params, xs, key = cell.init(jax.random.key(0), D, jnp.float64), normal(1, (T, D)), jax.random.key(0)
    for lags in ((), (0,), (T + 1,)):
        with pytest.raises(ValueError, match=rf"hutchinson: expected lags within 1..T = {T}"):
            probes.hutchinson(cell, params, xs, key, lags=lags)
    with pytest.raises(ValueError, match="iterations >= 1, got 0"):
        probes.power_iteration(cell, params, xs, key, iterations=0)
    with pytest.raises(ValueError, match="at least 2 probes"):
        probes.hutchinson(cell, params, xs, key, probes=1)
    with pytest.raises(TypeError, match="dense_product: expected cells of one direction"):
        probes.dense_product([Directions(cell, cell)], [Directions(params, params)], xs)
    with pytest.raises(TypeError, match="dense_product: expected cells of one direction"):
        probes.dense_product(Directions(cell, cell), Directions(params, params), xs)
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    with pytest.raises(ValueError, match="expected parameters of float32 or float64, got bfloat16"):
        probes.dense_product(cell, half, xs.astype(jnp.bfloat16))
    with pytest.raises(ValueError, match="lengths in"):
        probes.dense_product(cell, params, xs[:, None], lengths=[T + 1])
    with pytest.raises(ValueError, match="start"):
        probes.step_jacobians(cell, params, xs, cell.start(params, (2,)))


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_forward_and_reverse_mode_agree_for_every_cell_in_float32(name):
    cell = CELLS[name](4)
    params, xs = cell.init(jax.random.key(0), 4, jnp.float32), normal(1, (T, 2, 4), jnp.float32)
    given, lengths = (cell, params, xs), np.array([T, 3])
    run = lambda: (probes.step_jacobians(*given, lengths=lengths), probes.dense_product(*given, lengths=lengths))  # noqa: E731
    J, found = jax.tree.map(np.asarray, jax.jit(run)())
    for b in range(2):
        norm = np.linalg.norm(np.linalg.multi_dot(J[::-1, b].astype(np.float64)), 2)
        expected = np.log(norm) if norm > 0 else -np.inf  # a ReLU that is off for all units
        np.testing.assert_allclose(found.spectral[0, b], expected, rtol=0, atol=1e-4)
