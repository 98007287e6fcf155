"""Linear and diagonal cells: `associative` is `scan`, flags are true; options, initial values, closed forms."""

from functools import cache, partial

import equations_linear as linear
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from equation import Equation, sigmoid
from jax.flatten_util import ravel_pytree
from scipy.linalg import expm

from rnnlab import cells
from rnnlab import initializers as inits
from rnnlab.cells import CELLS
from rnnlab.cells.minimal_gates import positive
from rnnlab.engines import associative, scan
from rnnlab.layers import highway, zero_taps
from rnnlab.noise import drop_weights, quiet, zoneout
from rnnlab.probes.specs import R15, R17
from rnnlab.unroll import unroll

T, B, D, H = (R17.setting[name] for name in "TBDH")
LENGTHS = np.array([T, 0, 4])
close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)


def moved(cell, dim, dtype=jnp.float64, by=0.3):
    """Parameters off their initial values."""
    leaves, tree = jax.tree.flatten(cell.init(jax.random.key(0), dim, dtype))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return tree.unflatten([p + by * jax.random.normal(k, p.shape, dtype) for p, k in zip(leaves, keys, strict=True)])


def random_like(tree, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(scale * rng.normal(size=a.shape), a.dtype), tree)


# R17: `associative` is `scan`.

AFFINE = [name for name in CELLS if CELLS[name](H).affine is not None]
RESETS = np.random.default_rng(0).random((T, B)) < 0.4
WAYS = {
    "resets": {"resets": RESETS},
    "reverse": {"lengths": LENGTHS, "resets": RESETS, "reverse": True},
    "chunk": {"lengths": LENGTHS, "chunk": 3},
}


@cache
def both(name, dtype):
    """Outputs, carries and gradients of a random linear function of them, by way and engine."""
    cell = CELLS[name](H)
    params = moved(cell, D, dtype)
    xs = random_like(jax.ShapeDtypeStruct((T, B, D), dtype), 2)
    start = random_like(cell.start(cell.prepare(params), (B,)), 3)
    taps = random_like(zero_taps(cell, params, T, (B,)), 4, 0.1)
    out = jax.eval_shape(lambda: tuple(unroll(cell, params, xs)[:3]))
    weights = random_like(out, 5)

    def total(how, point):
        params, xs, start, taps = point
        found = tuple(unroll(cell, params, xs, start=start, taps=taps, **how)[:3])
        return sum(jax.tree.leaves(jax.tree.map(lambda w, o: (w * o).sum(), weights, found))), found

    @jax.jit
    def measured(point):
        def of(way, engine):
            graded = jax.value_and_grad(partial(total, WAYS[way] | {"engine": engine}), has_aux=True)
            (_, found), grads = graded(point)
            return found, grads

        return {way: (of(way, scan), of(way, associative)) for way in WAYS}

    return jax.device_get(measured((params, xs, start, taps)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", R17.tolerance)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", AFFINE)
def test_r17_associative_is_scan(name, way, dtype):
    expected, got = both(name, dtype)[way]
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype == dtype and np.abs(other).max() > 0
        np.testing.assert_allclose(one, other, rtol=0, atol=R17.tolerance[dtype] * np.abs(other).max())


def test_the_cells_that_are_affine():
    assert {"lru", "s5", "min_gru", "min_lstm", "rg_lru", "qrnn"} <= set(AFFINE)


@pytest.mark.parametrize("name", [name for name in CELLS if name not in AFFINE])
def test_r17_any_other_cell_is_refused(name):
    cell = CELLS[name](H)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), D))
    with pytest.raises(TypeError, match=rf"^associative: expected a cell that is affine.* got {cell.name}, .*scan"):
        jax.eval_shape(lambda p: unroll(cell, p, jnp.zeros((T, D), jnp.float32), engine=associative).ys, params)


WRAPPED = {"highway": highway(cells.lru(D)), "dropped": drop_weights(cells.min_gru(H), 0.5, "W")}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_linear_cell_stays_linear_in_a_highway_and_with_dropped_weights(name):
    cell, xs = WRAPPED[name], random_like(jax.ShapeDtypeStruct((T, B, D), "float64"), 2)
    params = moved(cell, D)

    @partial(jax.jit, static_argnums=0)
    def graded(engine, params):
        def total(params):
            out = unroll(cell, params, xs, engine=engine, lengths=LENGTHS, key=jax.random.key(3))
            return (out.ys**2).sum(), out[:3]

        return jax.value_and_grad(total, has_aux=True)(params)

    jax.tree.map(close, graded(associative, params), graded(scan, params))


def test_a_linear_cell_with_zoneout_is_refused():
    cell = zoneout(cells.min_gru(H), h=0.2)
    with pytest.raises(TypeError, match="associative: expected a cell that is affine"):
        unroll(cell, moved(cell, D), jnp.zeros((T, D)), engine=associative)


# The flag `diagonal`.


def units(carry):
    """For every entry of the ravelled carry its leaf's shape and its place in it: leaves of one shape share units."""
    return [(leaf.shape, place) for leaf in jax.tree.leaves(carry) for place in range(leaf.size)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_a_diagonal_cell_is_one_and_no_other_is(name):
    cell = quiet(CELLS[name](5))
    params = moved(cell, 3, by=0.5)
    weights = cell.prepare(params)
    start = cell.start(weights, ())
    flat, unravel = ravel_pytree(start)
    places = units(start)
    z = cell.drive(weights, jax.random.normal(jax.random.key(2), (3,)))
    step = lambda carry: ravel_pytree(cell.step(weights, unravel(carry), z))[0]  # noqa: E731
    carries = jax.random.normal(jax.random.key(3), (4, flat.size))  # units of a relu may be dead
    jacobians = np.asarray(jax.jit(jax.vmap(jax.jacfwd(step)))(carries))
    apart = np.array([[one != other for other in places] for one in places])
    assert np.abs(jacobians).max() > 0
    assert (np.abs(jacobians[:, apart]).max(initial=0) == 0) == cell.diagonal


# Options, each against its equation in NumPy.


def with_positive(step, gates):
    """The candidate's weights come last; a + 1/2, and sigmoid(a) below 0."""

    def stepped(p, carry, x):
        a = np.split(x @ p.W + p.b, gates)
        n = np.where(a[-1] >= 0, a[-1] + 0.5, sigmoid(a[-1]))
        return step(p._replace(W=np.zeros_like(p.W), b=np.concatenate([*a[:-1], n])), carry, x)

    return stepped


def rg_lru_step(p, carry, x):
    r, i = np.split(sigmoid(x @ p.W[:, : 2 * H] + p.b), 2)
    a = sigmoid(p.decay) ** (3 * r)
    return carry._replace(h=a * carry.h + np.sqrt(1 - a**2) * i * (x @ p.W[:, 2 * H :]))


def sru_read(p, carry, x):
    return carry.r * carry.c + (1 - carry.r) * np.sqrt(1 + 2 / np.e) * x


OPTIONS = {
    "lru of 3": (cells.lru(H, state=3), linear.lru_step, linear.lru_read),
    "lru of 6": (cells.lru(H, state=6, r_min=0.5, r_max=0.9, max_phase=1.0), linear.lru_step, linear.lru_read),
    "s5 of 6 in 3": (cells.s5(H, state=6, blocks=3), linear.s5_step, linear.s5_read),
    "s5 of 1": (cells.s5(H, state=1, steps=(0.5, 2.0)), linear.s5_step, linear.s5_read),
    "min_gru > 0": (cells.min_gru(H, activation=positive), with_positive(linear.min_gru_step, 2), None),
    "min_lstm > 0": (cells.min_lstm(H, activation=positive), with_positive(linear.min_lstm_step, 3), None),
    "rg_lru, c = 3": (cells.rg_lru(H, c=3.0), rg_lru_step, None),
    "sru, D = H": (cells.sru(H, highway_bias=-1.0), linear.sru_step, sru_read),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_is_its_equation(name):
    cell, step, read = OPTIONS[name]
    params = moved(cell, H)
    xs = np.random.default_rng(0).normal(size=(T, B, H))
    start = jax.tree.map(np.asarray, cell.start(cell.prepare(params), (B,)))
    taps = jax.tree.map(lambda leaf: np.zeros((T, *leaf.shape)), start)
    equation = Equation(step, lambda D, H: 0, *([] if read is None else [read]))
    expected = reference.loop(equation, jax.tree.map(np.asarray, params), xs, start, taps=taps, lengths=LENGTHS)
    got = unroll(cell, params, xs, lengths=LENGTHS)
    for one, other in zip(jax.tree.leaves(tuple(got[:3])), jax.tree.leaves(tuple(expected)), strict=True):
        close(one, other)


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("window", [1, 2, 3, T + 2])
def test_a_qrnn_is_a_convolution_and_a_pooling(window, reverse, chunk):
    """Over whole rows: the convolution reaches back over the row's own valid inputs, and zeros before them."""
    cell = cells.qrnn(H, window=window)
    params = moved(cell, D)
    xs = np.random.default_rng(0).normal(size=(T, B, D))
    W, b = np.asarray(params.W).reshape(window, D, 3 * H), np.asarray(params.b)
    ys, last = np.zeros((T, B, H)), np.zeros((B, H))
    for row, length in enumerate(LENGTHS):
        valid = xs[:length, row][:: -1 if reverse else 1]
        padded = np.concatenate([np.zeros((window, D)), valid])
        a = sum(padded[window - k : window - k + length] @ W[k] for k in range(window)) + b
        n, f, o = np.split(a, 3, axis=-1)
        found = []
        for t in range(length):
            last[row] = sigmoid(f[t]) * last[row] + (1 - sigmoid(f[t])) * np.tanh(n[t])
            found.append(sigmoid(o[t]) * last[row])
        ys[:length, row] = np.reshape(found, (length, H))[:: -1 if reverse else 1]
    got = unroll(cell, params, xs, lengths=LENGTHS, reverse=reverse, chunk=chunk)
    close(got.ys, ys)
    close(got.last.c, last)
    assert (cell.affine is not None) == cell.diagonal == (window == 1)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"lru: expected 0 <= r_min < r_max <= 1, got 0\.5 and 0\.5"):
        cells.lru(H, r_min=0.5, r_max=0.5)
    with pytest.raises(ValueError, match="lru: expected state >= 1, got 0"):
        cells.lru(H, state=0)
    with pytest.raises(ValueError, match="s5: expected blocks >= 1 that divide state >= 1, got 2 and 3"):
        cells.s5(H, state=3, blocks=2)
    with pytest.raises(ValueError, match="rg_lru: expected 0 < radii < 1"):
        cells.rg_lru(H, radii=(0.9, 1.0))
    with pytest.raises(ValueError, match="qrnn: expected window >= 1, got 0"):
        cells.qrnn(H, window=0)


# R15 and the other initial values.


@pytest.mark.parametrize("seed", range(3))
def test_r15_the_state_of_an_lru_has_variance_1(seed):
    """White inputs; at radii up to 0.99 the state has forgotten its start, and decorrelates, after some 100 steps."""
    size, dim, begun = 256, 64, 500
    cell = cells.lru(1, state=size, r_max=0.99)
    params = cell.init(jax.random.key(seed), dim)
    xs = jax.random.normal(jax.random.key(seed + 100), (2500, 4, dim), jnp.float32)
    carries = jax.jit(lambda xs: unroll(cell, params, xs).carries)(xs)
    square = np.mean(np.asarray(carries.re**2 + carries.im**2)[begun:], dtype=np.float64)
    assert abs(square - R15.expected["lru_power"]) < R15.tolerance["lru_power"]


def test_the_ring_of_an_lru():
    size, low, high, most = 20_000, 0.4, 0.9, 0.5
    cell = cells.lru(1, state=size, r_min=low, r_max=high, max_phase=most)
    params = cell.init(jax.random.key(0), 1, jnp.float64)
    radius, phase = np.exp(-np.exp(params.nu)), np.exp(params.theta)
    assert low <= radius.min() < low + 0.01 and high - 0.01 < radius.max() <= high
    np.testing.assert_allclose((radius**2).mean(), (low**2 + high**2) / 2, rtol=0.01)  # uniform in area
    np.testing.assert_allclose(phase.mean(), most / 2, rtol=0.01)
    assert phase.max() <= most
    close(np.exp(2 * np.asarray(params.gamma)), 1 - radius**2)


@pytest.mark.parametrize("blocks", [1, 2])
def test_an_s5_begins_as_a_real_system(blocks):
    """HiPPO-LegS plus its part of rank 1, real B and C, the exact solution for a held input: dense, by expm."""
    size, dim, dt = 4, 3, 0.07
    rng = np.random.default_rng(0)
    Bs, Cs = rng.normal(size=(dim, 2 * size)), rng.normal(size=(2 * size, H))
    given = lambda matrix: lambda key, shape, dtype: jnp.asarray(matrix, dtype).reshape(shape)  # noqa: E731
    how = {"kernel": given(Bs), "readout": given(Cs), "skip": inits.constant(), "steps": (dt, dt)}
    cell = cells.s5(H, state=size, blocks=blocks, **how)
    n = np.arange(2 * size // blocks)
    legs = -np.tril(np.sqrt(np.outer(2 * n + 1, 2 * n + 1)), -1) - np.diag(n + 1.0)
    A = np.kron(np.eye(blocks), legs + np.sqrt(np.outer(n + 0.5, n + 0.5)))
    stepped = expm(A * dt)
    held = np.linalg.solve(A, stepped - np.eye(2 * size)) @ Bs.T
    xs = rng.normal(size=(T, dim))
    state, ys = np.zeros(2 * size), []
    for x in xs:
        state = stepped @ state + held @ x
        ys.append(state @ Cs)
    got = unroll(cell, cell.init(jax.random.key(0), dim, jnp.float64), xs).ys
    np.testing.assert_allclose(got, ys, rtol=1e-10, atol=1e-12)


def test_a_short_step_of_an_s5_keeps_its_digits():
    """(a - 1) / lambda is dt, nearly: a difference in float32 would keep three digits of it."""
    cell = cells.s5(H, steps=(1e-4, 1e-4))
    params = cell.init(jax.random.key(0), D, jnp.float32)
    wide = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    got, expected = cell.prepare(params).W, cell.prepare(wide).W
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=3e-7 * np.abs(other).max())


def test_the_radii_of_an_rg_lru():
    decay = np.asarray(cells.rg_lru(20_000).init(jax.random.key(0), 1, jnp.float64).decay)
    radius = sigmoid(decay) ** 8
    assert 0.9 <= radius.min() < 0.901 and 0.998 < radius.max() <= 0.999
    np.testing.assert_allclose(radius.mean(), (0.9 + 0.999) / 2, rtol=1e-3)


# Closed forms: with W = 0 (and U, p, v), the gates remember what the biases say.


def lstm_share(bias):
    return sigmoid(bias) / (sigmoid(bias) + 0.5)


REMEMBER = {
    "min_gru": (lambda bias: cells.min_gru(H, update_bias=bias), sigmoid),
    "min_lstm": (lambda bias: cells.min_lstm(H, forget_bias=bias), lstm_share),
    "qrnn": (lambda bias: cells.qrnn(H, forget_bias=bias), sigmoid),
    "sru": (lambda bias: cells.sru(H, forget_bias=bias), sigmoid),
    "para_gru": (lambda bias: cells.para_gru(H, update_bias=bias), sigmoid),
    "para_lstm": (lambda bias: cells.para_lstm(H, forget_bias=bias), sigmoid),
}


@pytest.mark.parametrize("bias", [-1.0, 0.0, 3.0])
@pytest.mark.parametrize("name", REMEMBER)
def test_the_biases_set_the_decay(name, bias):
    make, factor = REMEMBER[name]
    cell = make(bias)
    params = cell.init(jax.random.key(0), D, jnp.float64)
    params = params._replace(**{one: jnp.zeros_like(getattr(params, one)) for one in "WUp" if hasattr(params, one)})
    start = random_like(cell.start(params, ()), 0)
    memory = "c" if hasattr(start, "c") else "h"
    last = lambda c: getattr(unroll(cell, params, np.ones((T, D)), start=start._replace(**{memory: c})).last, memory)  # noqa: E731
    close(jax.jacrev(last)(getattr(start, memory)), factor(bias) ** T * np.eye(H), rtol=1e-9)


def test_the_decay_of_an_rg_lru():
    cell = cells.rg_lru(H)
    params = cell.init(jax.random.key(0), D, jnp.float64)
    params = params._replace(W=jnp.zeros_like(params.W), b=jnp.linspace(-1, 1, 2 * H))
    last = lambda h: unroll(cell, params, np.ones((T, D)), start=cells.Hidden(h)).last.h  # noqa: E731
    factors = sigmoid(np.asarray(params.decay)) ** (8 * sigmoid(np.asarray(params.b[:H])))
    close(jax.jacrev(last)(jnp.ones(H)), np.diag(factors**T))


@pytest.mark.parametrize("name", ["lru", "s5"])
def test_a_linear_cell_turns_and_shrinks_its_state(name):
    cell = CELLS[name](H)
    params = moved(cell, D)
    weights = cell.prepare(params)
    start = cell.start(weights, ())
    xs = np.random.default_rng(0).normal(size=(T, D))
    flat = lambda start: unroll(cell, params, xs, start=start).last  # noqa: E731
    J = jax.jacrev(flat)(start)
    factors = (np.asarray(weights.a.re) + 1j * np.asarray(weights.a.im)) ** T
    close(J.re.re, np.diag(factors.real))
    close(J.im.im, np.diag(factors.real))
    close(J.im.re, np.diag(factors.imag))
    close(J.re.im, -np.diag(factors.imag))


def test_chrono_goes_to_both_gates():
    cell = cells.min_lstm(H, forget_bias=inits.chrono(100))
    f, i, n = np.split(np.asarray(cell.init(jax.random.key(0), D, jnp.float64).b), 3)
    assert (f > 0).all() and not n.any()
    close(i, -f)


# Where a formula would divide by 0.


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("f, i, expected", [(-2000.0, -2000.0, 0.5), (-2000.0, 0.0, 0.0), (0.0, -2000.0, 1.0)])
def test_the_gates_of_a_min_lstm_may_vanish(f, i, expected, dtype):
    cell = cells.min_lstm(1, forget_bias=0.0)
    params = cells.MinLSTMParams(jnp.zeros((1, 3), dtype), jnp.array([f, i, 0.0], dtype))

    def stepped(params, h):
        return cell.step(params, cells.Hidden(h), cell.drive(params, jnp.zeros(1, dtype))).h[0]

    one = jnp.ones(1, dtype)
    (first, kept), second = jax.jit(lambda *at: (jax.grad(stepped, (0, 1))(*at), jax.hessian(stepped)(*at)))(
        params, one
    )
    close(kept, [expected])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((first, second)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("decay", [-300.0, 20.0, 300.0])
@pytest.mark.parametrize("gate", [-300.0, 0.0, 300.0])
def test_an_rg_lru_may_forget_nothing(decay, gate, dtype):
    """Where a_t is 1 to the last digit the root of 1 - a_t^2 has no slope, and the step must have one."""
    cell = cells.rg_lru(1)
    given = cells.RGLRUParams(jnp.ones((1, 3)), jnp.array([gate, 0.0]), jnp.array([decay])), jnp.ones(1)
    given = jax.tree.map(lambda leaf: leaf.astype(dtype), given)

    def stepped(params, x):
        return cell.step(params, cells.Hidden(jnp.ones(1, dtype)), cell.drive(params, x)).h[0]

    found = jax.jit(lambda *given: (stepped(*given), jax.grad(stepped, (0, 1))(*given), jax.hessian(stepped)(*given)))
    h, *slopes = found(*given)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    if decay == 300 or gate == -300:
        np.testing.assert_allclose(h, 1.0, rtol=1e-6)
