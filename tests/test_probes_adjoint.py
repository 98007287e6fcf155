"""The log-domain adjoint and what is made of it: taps where floats reach, closed forms where they do not."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _closed_forms_adjoint as adjoint
from experiments._closed_forms_check import require
from rnnlab import initializers as inits
from rnnlab import probes
from rnnlab.cells import CELLS, elman
from rnnlab.engines import associative, newton, scan
from rnnlab.layers import init_layers, layers, plain, residual, zero_taps
from rnnlab.probes.clipping import shortened
from rnnlab.probes.scaled import ZERO, power_of_two, scaled, shifted, total, unscaled
from rnnlab.probes.specs import R3, R4, R6, R13
from rnnlab.types import Directions
from rnnlab.unroll import unroll

T, B, D, H = 8, 4, 3, 4
LENGTHS = np.array([T, 0, 3, 5])
RESETS = np.random.default_rng(0).random((T, B)) > 0.7


def normal(seed, shape, dtype=jnp.float64):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def wavy(ys):
    """Each example's own loss, different at every step."""
    return (jnp.sin(ys) * normal(9, ys.shape, ys.dtype)).sum((0, -1))


def same(have, want, tolerance=1e-10):
    """Tree by tree; -inf where -inf is expected."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), have, want)


def linear(hidden, gain=1.0):
    return elman(hidden, activation=lambda z: z, recurrent=inits.orthogonal(gain))


def mixed():
    """Two directions, complex states, a join that is no sum; lengths and resets."""
    stack = [Directions(CELLS["lru"](2), CELLS["lstm"](H - 2)), CELLS["elman"](H)]
    join = (plain, lambda xs, ys: jnp.tanh(xs) * ys + xs)
    params = init_layers(stack, jax.random.key(0), D, jnp.float64)
    return stack, params, normal(1, (T, B, D)), dict(join=join, lengths=LENGTHS, resets=RESETS)


# Scaled vectors


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
def test_powers_of_two_are_exact(dtype):
    form = jnp.finfo(dtype)
    exponents = np.arange(form.minexp, form.maxexp)
    have = np.asarray(power_of_two(jnp.asarray(exponents, jnp.int32), dtype)).astype(np.float64)
    np.testing.assert_array_equal(have, np.ldexp(1.0, exponents))
    ends = power_of_two(jnp.asarray([2 * ZERO, form.minexp - 1, form.maxexp, 2**29], jnp.int32), dtype)
    np.testing.assert_array_equal(np.asarray(ends).astype(float), np.array([0, 0, *[2.0 ** (form.maxexp - 1)] * 2]))


def test_scaled_keeps_every_value():
    x = np.array(normal(0, (6, 5), jnp.float32))
    x[0] *= 1e-30
    x[1] *= 3e37
    x[2], x[3, 1], x[4, 0] = 0, np.inf, np.nan
    x[5] = 1e-42  # below the normal numbers: 0, or what it is
    parts = {"a": jnp.asarray(x[:, :2]), "b": jnp.asarray(x[:, 2:])}
    one, back = jax.jit(lambda parts: (one := unscaled(parts, 1), shifted(one.vector, one.exponent)))(parts)
    tops = np.max(np.abs(np.concatenate([one.vector["a"], one.vector["b"]], axis=1)), axis=1)
    assert ((tops[:2] >= 0.5) & (tops[:2] < 1)).all() and one.exponent[2] == ZERO
    np.testing.assert_array_equal(np.concatenate([back["a"], back["b"]], axis=1)[:5], x[:5])


def test_total_is_exact_at_any_distance():
    vectors = [normal(n, (3, 4)) for n in range(3)]
    exponents = np.array([[10, -5000, ZERO], [9, 7, ZERO], [8, -5000, 3]], np.int32)
    vectors = [v.at[2].set(0) if n < 2 else v for n, v in enumerate(vectors)]

    @jax.jit
    def added(*vectors):
        have = total(*(scaled(v, jnp.asarray(e)) for v, e in zip(vectors, exponents, strict=True)))
        return shifted(have.vector, have.exponent)

    want = [vectors[0][0] * 1024 + vectors[1][0] * 512 + vectors[2][0] * 256, vectors[1][1] * 128, vectors[2][2] * 8]
    np.testing.assert_allclose(added(*vectors), np.stack(want), rtol=1e-14)


# The log-domain adjoint


@pytest.mark.slow
def test_equals_the_taps_of_a_mixed_stack():
    stack, params, xs, how = mixed()
    taps = zero_taps(stack, params, T, (B,))

    @jax.jit
    def measured(xs):
        pulled = jax.grad(lambda taps: wavy(layers(stack, params, xs, taps=taps, **how).ys).sum())(taps)
        return pulled, probes.log_adjoint(stack, params, xs, wavy, **how)

    pulled, have = measured(xs)
    norms = probes.log_norms(pulled, 1)
    same(have.norms, norms)
    assert np.isfinite(np.asarray(norms.joint)).sum() > 40 and have.norms.joint.shape == (3, T, B)
    assert jax.tree.structure(have.units) == jax.tree.structure(pulled)
    flat = [one for c in pulled for one in (c if isinstance(c, Directions) else (c,))]
    units = [one for c in have.units for one in (c if isinstance(c, Directions) else (c,))]
    for unit, gradient, joint in zip(units, flat, norms.joint, strict=True):
        same(jax.tree.map(lambda u, j=joint: u * np.exp(j)[..., None], unit), gradient, 1e-12)


def test_equals_the_taps_in_reverse_from_a_given_start():
    cell = CELLS["elman"](H)
    params, xs = cell.init(jax.random.key(0), D, jnp.float64), normal(1, (T, B, D))
    start = (cell.start(params, (B,))._replace(h=normal(2, (B, H))),)
    keep = np.random.default_rng(1).random((T, B)) > 0.4  # holes, over which a gradient passes through the hold
    both = lambda xs: [f(cell, params, xs, wavy, reverse=True, start=start, keep=keep) for f in PAIR]  # noqa: E731
    same(*jax.jit(both)(xs))
    with pytest.raises(ValueError, match=r"each example's own loss, of shape \(4,\), got shape \(\)"):
        probes.log_gradient_norms(cell, params, xs, lambda ys: ys.sum())


@pytest.mark.slow
def test_equals_the_taps_of_a_deep_stack_in_reverse_and_without_a_batch():
    stack = [CELLS["elman"](D), CELLS["lstm"](D), CELLS["gru"](D)]
    params, xs = init_layers(stack, jax.random.key(0), D, jnp.float64), normal(1, (T, B, D))
    for how in (dict(reverse=True, lengths=LENGTHS, resets=RESETS, join=residual), dict(join=residual)):
        same(*jax.jit(lambda xs, how=how: [f(stack, params, xs, wavy, **how) for f in PAIR])(xs))
    own = lambda ys: (ys[-1] ** 2).sum()  # noqa: E731
    same(*jax.jit(lambda xs: [f(stack, params, xs, own) for f in PAIR])(xs[:, 0]))


PAIR = probes.log_gradient_norms, probes.gradient_norms


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_equals_the_taps_of_every_cell(name):
    cell = CELLS[name](5)
    params, xs = cell.init(jax.random.key(0), D, jnp.float64), normal(1, (T, B, D))
    both = lambda xs: [f(cell, params, xs, wavy, lengths=LENGTHS) for f in PAIR]  # noqa: E731
    same(*jax.jit(both)(xs))


@pytest.mark.parametrize("gain", R13.setting["gains"])
def test_r13_where_taps_vanish_the_log_domain_does_not(gain):
    require(adjoint.r13_gain(R13, gain))


def test_r4_forget_bias_at_any_lag():
    bias, T, cell = R4.setting["biases"][0], 500, CELLS["lstm"](H, forget_bias=R4.setting["biases"][0])
    params = cell.init(jax.random.key(0), D, jnp.float32)
    params = params._replace(W=jnp.zeros_like(params.W), U=jnp.zeros_like(params.U))
    xs, start = normal(0, (T, 2, D), jnp.float32), cell.start(params, (2,))
    start = start._replace(c=start.c + 0.4)

    def measured(xs):
        return probes.log_gradient_norms(cell, params, xs, lambda ys: ys[-1].sum(-1), start=(start,)).parts[0].c

    logs = np.asarray(jax.jit(measured)(xs), float)
    lags = np.arange(T)[::-1, None]
    assert (logs[-1] == -np.inf).all()  # nobody reads the last c
    want = (lags - 1) * np.log(R4.expected["factor"](bias, 1)) + np.zeros((1, 2))
    np.testing.assert_allclose(logs[:-1] - logs[-2], want[:-1], rtol=0, atol=1e-3)


def test_r6_a_stack_beyond_floats():
    """Paths through time and depth, C(k + m, m) a^k u^m: every term of every sum meets one of another size."""
    L, T, a, u = 3, 400, 0.5, R6.setting["u"]
    cells = [linear(1)] * L
    params = init_layers(cells, jax.random.key(0), 1, jnp.float32)
    params = [p._replace(W=jnp.full((1, 1), u, jnp.float32), U=jnp.full((1, 1), a, jnp.float32)) for p in params]
    xs = normal(0, (T, 1), jnp.float32)
    logs = jax.jit(lambda xs: probes.log_gradient_norms(cells, params, xs, lambda ys: ys[-1, 0]).joint)(xs)
    choose = lambda k, m: math.lgamma(k + m + 1) - math.lgamma(k + 1) - math.lgamma(m + 1)  # noqa: E731
    want = [[choose(k, m) + k * math.log(a) + m * math.log(u) for k in range(T)] for m in reversed(range(L))]
    assert logs.dtype == jnp.float32
    np.testing.assert_allclose(logs[:, ::-1], want, rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("length", [400, 1000])
def test_float32_stacks_agree_with_float64_taps(length, seed):
    """Where float32 ends at -87 nats and float64 at -708. The states themselves differ by 1e-7."""
    stack = [elman(16, recurrent=inits.orthogonal(0.6)), CELLS["gru"](16)]
    params = init_layers(stack, jax.random.key(seed), D, jnp.float64)
    xs = normal(seed + 10, (length, 2, D))
    last = lambda ys: ys[-1].sum(-1) + ys[length // 2].sum(-1) * 1e-30  # noqa: E731
    want = jax.jit(lambda xs: probes.gradient_norms(stack, params, xs, last).joint)(xs)
    single = jax.tree.map(lambda p: p.astype(jnp.float32), (params, xs))
    have = jax.jit(lambda p, xs: probes.log_gradient_norms(stack, p, xs, last).joint)(*single)
    want, have = np.asarray(want), np.asarray(have, float)
    assert np.isfinite(want).mean() > 0.9 and np.isfinite(have).all() and want[np.isfinite(want)].min() < -100
    assert np.abs(have - want)[np.isfinite(want)].max() < 2e-3


# Lags


def test_lag_matrix_is_each_steps_own_gradient():
    stack = [CELLS["elman"](H)] * 2
    params, xs = init_layers(stack, jax.random.key(0), D, jnp.float64), normal(1, (T, B, D))
    taps = zero_taps(stack, params, T, (B,))
    loss = lambda ys: jnp.sin(ys).sum(-1) * ys[::-1, :, 0]  # noqa: E731 - looks at other steps as well

    @jax.jit
    def both(xs):
        one = lambda taps: loss(layers(stack, params, xs, taps=taps, lengths=LENGTHS).ys).sum(1)  # noqa: E731
        rows = jax.vmap(lambda row: probes.log_norms(row, 1))(jax.jacrev(one)(taps))
        return rows, probes.lag_matrix(stack, params, xs, loss, together=3, lengths=LENGTHS)

    rows, have = both(xs)
    assert have.joint.shape == (2, T, T, B)
    same(jnp.moveaxis(have.joint, 0, 1), rows.joint)
    same(have.parts, rows.parts)
    with pytest.raises(ValueError, match=r"the loss of every step, of shape \(8, 4\), got \(4,\)"):
        probes.lag_matrix(stack, params, xs, wavy)
    with pytest.raises(ValueError, match="together >= 1, got 0"):
        probes.lag_matrix(stack, params, xs, loss, together=0)


@pytest.mark.slow
def test_lag_matrix_of_a_linear_network_beyond_floats():
    T, gain, cell = 150, 0.25, linear(6, 0.25)
    params = cell.init(jax.random.key(0), 2, jnp.float32)
    xs, c = normal(1, (T, 2), jnp.float32), normal(2, (6,), jnp.float32)
    matrix = jax.jit(lambda xs: probes.lag_matrix(cell, params, xs, lambda ys: ys @ c).joint)(xs)
    lag = np.arange(T)[:, None] - np.arange(T)[None, :]
    want = np.where(lag >= 0, lag * np.log(gain) + np.log(np.linalg.norm(np.asarray(c, float))), -np.inf)
    np.testing.assert_allclose(matrix[0], want, rtol=0, atol=1e-3)
    mean = probes.mean_over_lags(matrix)
    np.testing.assert_allclose(mean[0], want[-1, ::-1], rtol=0, atol=1e-3)


def test_mean_over_lags_counts_what_is_kept():
    matrix, keep = np.array(normal(0, (2, T, T, B))), np.arange(T)[:, None] < LENGTHS
    have = np.asarray(probes.mean_over_lags(jnp.asarray(matrix), jnp.asarray(keep)))
    for layer, k, b in np.ndindex(2, T, B):
        pairs = [matrix[layer, s, s - k, b] for s in range(k, T) if keep[s, b] and keep[s - k, b]]
        np.testing.assert_allclose(have[layer, k, b], np.mean(pairs) if pairs else np.nan, rtol=1e-12)
    matrix[0, 3, 1, 0] = -np.inf
    assert probes.mean_over_lags(jnp.asarray(matrix))[0, 2, 0] == -np.inf
    with pytest.raises(ValueError, match="S = T"):
        probes.mean_over_lags(jnp.zeros((1, 3, 4)))


# Contributions


def assert_contributions_add_up(stack, params, xs, how):
    weights = normal(8, (B,))  # a sum of examples, each as much as its own: none may stand in for another

    @jax.jit
    def measured(xs):
        total = jax.grad(lambda params: (wavy(layers(stack, params, xs, **how).ys) * weights).sum())(params)
        steps = probes.step_gradients(stack, params, xs, wavy, **how)
        return total, steps, probes.contributions(stack, params, xs, wavy, together=3, **how)

    total, steps, logs = measured(xs)
    total = [one for p in total for one in (p if isinstance(p, Directions) else (p,))]
    for want, have, parts, joint in zip(total, steps, logs.parts, logs.joint, strict=True):
        same(jax.tree.map(lambda g: jnp.tensordot(weights, g.sum(0), 1), have), want)
        same(parts, jax.tree.map(lambda g: probes.log_norm(g, 2), have))
        squares = sum(np.square(np.asarray(g)).reshape(T, B, -1).sum(-1) for g in jax.tree.leaves(have))
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(joint, np.log(squares) / 2, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_contributions_add_up_to_the_gradient():
    stack = [Directions(CELLS["elman"](2), CELLS["ind_rnn"](3))]
    params, xs = init_layers(stack, jax.random.key(0), D, jnp.float64), normal(1, (T, B, D))
    assert_contributions_add_up(stack, params, xs, dict(lengths=LENGTHS, resets=RESETS))


@pytest.mark.slow
def test_contributions_of_a_mixed_stack_add_up():
    assert_contributions_add_up(*mixed())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gru", "lstm_projected", "mlstm", "exp_rnn", "unitary_rnn"])
def test_contributions_of_other_cells_add_up(name):
    """A learned first carry (unitary_rnn) counts to the step that begins at it: in reverse that is padding."""
    cell = CELLS[name](4)
    params = init_layers([cell], jax.random.key(0), D, jnp.float64)
    assert_contributions_add_up([cell], params, normal(1, (T, B, D)), dict(reverse=True, lengths=LENGTHS))


@pytest.mark.parametrize("name", ["elman", *(pytest.param(n, marks=pytest.mark.slow) for n in ("lstm", "ugrnn"))])
def test_products_are_the_contributions_of_weighted_sums(name):
    cell = CELLS[name](H)
    params, xs = cell.init(jax.random.key(0), D, jnp.float64), normal(1, (T, B, D))
    run = lambda xs: [f(cell, params, xs, wavy, lengths=LENGTHS, resets=RESETS) for f in COSTLY_AND_CHEAP]  # noqa: E731
    exact, cheap = jax.jit(run)(xs)
    same(cheap, exact)
    assert cheap.joint.shape == (1, T, B) and np.isfinite(np.asarray(cheap.joint)).sum() > 10


COSTLY_AND_CHEAP = probes.contributions, probes.product_contributions


@pytest.mark.parametrize("name", ["gru_before", "lru", pytest.param("mgu", marks=pytest.mark.slow)])
def test_products_refuse_other_cells(name):
    cell = CELLS[name](H)
    params = cell.init(jax.random.key(0), D, jnp.float64)
    with pytest.raises(ValueError, match="W, U and b and enter by x W"):
        jax.jit(lambda xs: probes.product_contributions(cell, params, xs, wavy))(normal(1, (2, B, D)))


# Factors


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 5))])
def test_r3_factors_of_a_scalar_network(seed):
    T = R3.setting["T"]
    cell = elman(1, recurrent=inits.uniform(2.0), bias=inits.uniform())
    params, xs = cell.init(jax.random.key(seed), 1, jnp.float64), normal(seed + 1, (T, 1)) / 2
    start = cell.start(params, ())._replace(h=normal(seed + 2, (1,)))
    found = jax.jit(lambda xs: probes.scalar_factors(cell, params, xs, start=start))(xs)
    hs = unroll(cell, params, xs, start=start).ys[:, 0]
    np.testing.assert_allclose(found.d, [R3.expected(float(params.U[0, 0]), float(h)) for h in hs], rtol=R3.tolerance)
    slope = jax.grad(lambda start: unroll(cell, params, xs, start=start).ys[-1, 0])(start).h[0]
    np.testing.assert_allclose(found.sign[0] * np.exp(found.log[0]), slope, rtol=R3.tolerance)
    with np.errstate(divide="ignore"):
        want = np.log(np.abs(np.cumprod(np.asarray(found.d)[::-1])))[::-1]
    np.testing.assert_allclose(found.log, want, rtol=1e-12)


@pytest.mark.parametrize("gain", [-0.3, -2.0])
def test_a_thousand_factors_neither_under_nor_overflow(gain):
    cell, T = linear(1), 1001
    params = cell.init(jax.random.key(0), 1, jnp.float32)._replace(U=jnp.full((1, 1), gain, jnp.float32))
    found = jax.jit(lambda xs: probes.scalar_factors(cell, params, xs))(jnp.zeros((T, 1), jnp.float32))
    assert found.log.dtype == jnp.float32
    lags = np.arange(T, 0, -1)
    np.testing.assert_allclose(found.log, lags * np.log(abs(np.float32(gain))), rtol=0, atol=1e-3)
    np.testing.assert_array_equal(found.sign, np.where(lags % 2, -1, 1))


def test_factors_at_padding_resets_and_zeros():
    cell = elman(1, activation=jax.nn.relu)
    params, xs = cell.init(jax.random.key(0), D, jnp.float64), normal(1, (T, B, D))
    how = dict(lengths=LENGTHS, resets=RESETS, reverse=True)
    found, plainly = jax.jit(lambda xs: [probes.scalar_factors(cell, params, xs, **h) for h in (how, {})])(xs)
    padded = np.arange(T)[:, None] >= LENGTHS
    begins = np.roll(RESETS, -1, axis=0) & (np.arange(T) < T - 1)[:, None]
    assert (np.asarray(found.d)[padded & ~begins] == 1).all() and (np.asarray(found.d)[begins] == 0).all()
    zeros = np.asarray(plainly.d) == 0  # a ReLU that is off
    gone = np.cumsum(zeros[::-1], axis=0)[::-1] > 0
    assert zeros.any() and not zeros.all()
    np.testing.assert_array_equal(np.asarray(plainly.log) == -np.inf, gone)
    np.testing.assert_array_equal(np.asarray(plainly.sign) == 0, gone)
    with pytest.raises(ValueError, match=r"one number, got one of the event shapes \[\(2,\)\]"):
        two = elman(2)
        probes.scalar_factors(two, two.init(jax.random.key(0), D, jnp.float64), xs)


# Clipping


@pytest.mark.parametrize(("name", "engine"), [("linear", scan), ("relu", None)], ids=["scan", "fused"])
def test_clipped_norms_saturate(name, engine):
    """At a gain of 2 what arrives is 2 min(what arrived one step later, limit); what leaves is no longer than it."""
    gain, limit, T = 2.0, 3.0, 9
    # A ReLU network whose units are all on is linear, and has `local`.
    cell = linear(H, gain) if name == "linear" else elman(H, activation=jax.nn.relu, recurrent=inits.identity(gain))
    params, xs = cell.init(jax.random.key(0), 1, jnp.float64), jnp.abs(normal(1, (T, B, 1)))
    params = params._replace(W=jnp.abs(params.W))
    cotangent = normal(2, (B, H))
    bound = probes.clipped(cell, limit)
    taps = zero_taps(cell, params, T, (B,))
    out = lambda taps: unroll(bound, params, xs, taps=taps, engine=engine)  # noqa: E731
    np.testing.assert_array_equal(out(None).ys, unroll(cell, params, xs, engine=engine).ys)
    pulled = jax.jit(jax.grad(lambda taps: (out(taps).ys[-1] * cotangent).sum()))(taps).h
    norms = np.linalg.norm(np.asarray(pulled), axis=-1)[::-1]
    want = np.linalg.norm(cotangent, axis=-1)
    assert want.min() < limit < want.max() * 2
    for have in norms:
        np.testing.assert_allclose(have, want, rtol=1e-12)
        want = gain * np.minimum(want, limit)


@pytest.mark.slow
def test_clipping_at_a_limit_that_is_not_reached_changes_nothing():
    lstm, lru = CELLS["lstm"](H), CELLS["lru"](H)
    plainly = [lru, Directions(lstm, CELLS["elman"](H))]
    bound = lambda limit: jax.tree.map(  # noqa: E731
        lambda cell: probes.clipped(cell, limit), plainly, is_leaf=lambda one: isinstance(one, type(lstm))
    )
    params, xs = init_layers(plainly, jax.random.key(0), D, jnp.float64), normal(1, (T, B, D))

    @jax.jit
    def gradients(params):
        loss = lambda params, stack: wavy(layers(stack, params, xs, lengths=LENGTHS).ys).sum()  # noqa: E731
        return [jax.grad(loss)(params, one) for one in (plainly, bound(1e6), bound(0.05))]

    free, far, near = gradients(params)
    jax.tree.map(np.testing.assert_array_equal, far, free)
    size = lambda W: float(jnp.linalg.norm(W))  # noqa: E731
    assert size(near[0].W) < 0.3 * size(free[0].W)
    for one, other in zip(near[1], free[1], strict=True):
        assert size(one.U) < 0.3 * size(other.U)


def test_clipping_is_of_each_example_over_all_leaves_and_over_the_whole_range():
    cut = jax.jit(shortened, static_argnums=(1, 2))
    vector = {"h": normal(0, (3, 2), jnp.float32), "c": normal(1, (3, 4), jnp.float32)}
    flat = np.concatenate([vector["h"], vector["c"]], axis=1).astype(float)
    sizes = np.linalg.norm(flat, axis=1)
    limit = float(np.sort(sizes)[1]) * 1.0001
    joined = lambda one: np.concatenate([one["h"], one["c"]], axis=1)  # noqa: E731
    np.testing.assert_allclose(joined(cut(vector, limit, 1)), flat * np.minimum(1, limit / sizes)[:, None], rtol=1e-6)
    huge = cut(jax.tree.map(lambda a: a * jnp.float32(1e38), vector), limit, 1)
    np.testing.assert_allclose(np.linalg.norm(joined(huge), axis=1), limit, rtol=1e-6)
    assert (cut({"h": jnp.zeros((2, 3))}, 1.0, 1)["h"] == 0).all()
    wrong = cut({"h": jnp.asarray([[jnp.nan, 1.0], [jnp.inf, 1.0], [0.1, 0.1]])}, 1.0, 1)["h"]
    assert np.isnan(wrong[:2]).any(1).all() and (wrong[2] == 0.1).all()


def test_what_clipped_cells_are_refused_by():
    cell = probes.clipped(CELLS["min_gru"](H), 1.0)
    assert cell is probes.clipped(CELLS["min_gru"](H), 1.0)
    params, xs = cell.init(jax.random.key(0), D, jnp.float64), normal(1, (T, B, D))
    with pytest.raises(TypeError, match="associative"):
        unroll(cell, params, xs, engine=associative)
    with pytest.raises(TypeError, match="custom_vjp"):
        unroll(cell, params, xs, engine=newton())
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(lambda xs: unroll(cell, params, xs, engine=scan).ys, (xs,), (xs,))
    with pytest.raises(ValueError, match="a clipped one"):
        probes.log_gradient_norms(cell, params, xs, wavy)
    with pytest.raises(ValueError, match="limit > 0, got 0"):
        probes.clipped(CELLS["lstm"](H), 0)


def test_clipping_summary_counts_steps():
    before = np.exp(np.asarray(normal(0, (2, 40)))) * 2
    before[0, 3], before[1, 5:7] = np.nan, np.inf
    after = np.minimum(before, 2.5)
    summary = jax.jit(probes.clipping_summary)
    found = summary(jnp.asarray(before), jnp.asarray(after))
    for row in range(2):
        finite = np.isfinite(before[row])
        b, a = before[row][finite], after[row][finite]
        assert found.count[row] == finite.sum() and 0 < (b > 2.5).sum() < b.size
        np.testing.assert_allclose(found.share[row], (b > 2.5).mean(), rtol=1e-12)
        np.testing.assert_allclose(found.before.mean[row], np.log(b).mean(), rtol=1e-12)
        np.testing.assert_allclose(found.after.high[row], np.log(2.5), rtol=1e-12)
        np.testing.assert_allclose(found.lost[row], np.log(b / a)[b > 2.5].mean(), rtol=1e-12)
    flags = summary(jnp.asarray(after), jnp.asarray(after), jnp.asarray(before > 2.5))
    assert flags.share[0] == found.share[0] and (flags.lost == 0).all()
    free = summary(jnp.ones(3), jnp.ones(3))
    assert free.share == 0 and free.lost == 0
    none = summary(jnp.full(3, jnp.nan), jnp.ones(3))
    assert none.count == 0 and np.isnan(none.share) and np.isnan(none.before.mean)
    with pytest.raises(ValueError, match=r"one shape, got \(3,\), \(4,\)"):
        probes.clipping_summary(jnp.ones(3), jnp.ones(4))
