"""The engine that solves for all carries at once: exact where it converges, and honest where it does not."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rnnlab import initializers as inits
from rnnlab import probes
from rnnlab.cells import CELLS, elman, gru, lstm
from rnnlab.engines import diagonal, full, newton, scan
from rnnlab.engines.jacobians import Vectors
from rnnlab.layers import zero_taps
from rnnlab.noise import drop_weights, zoneout
from rnnlab.probes.specs import R18
from rnnlab.unroll import unroll

T, B, D, H = 30, 3, 2, 4
FORMS = {"full": full, "diagonal": diagonal}
each_form = pytest.mark.parametrize("form", FORMS)


def torch_like(name, hidden):
    """All weights and biases U(-1/sqrt H, 1/sqrt H), as torch.nn's modules draw them."""
    drawn = dict(kernel=inits.uniform(), recurrent=inits.uniform(), bias=inits.uniform())
    return {"elman": elman, "gru": gru, "lstm": partial(lstm, forget_bias=0.0)}[name](hidden, **drawn)


def drawn(cell, dtype, length, seed=0, **shape):
    init, inputs = jax.random.split(jax.random.key(seed))
    dim, batch = shape.get("dim", D), shape.get("batch", B)
    return cell.init(init, dim, dtype), jax.random.normal(inputs, (length, batch, dim), dtype)


def relative(got, expected):
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    return max(float(jnp.abs(g - e).max() / jnp.abs(e).max()) for g, e in pairs)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("hidden", R18.setting["sizes"])
@pytest.mark.parametrize("name", R18.setting["cells"])
def test_r18_states_gradients_and_iterations(name, hidden, seed):
    cell = torch_like(name, hidden)
    params, xs = drawn(cell, jnp.float32, R18.setting["T"], seed, dim=R18.setting["D"], batch=R18.setting["B"])

    def graded(engine):
        def loss(params, xs):
            out = unroll(cell, params, xs, engine=engine)
            return (jnp.sin(out.ys) ** 2).sum(), out

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, xs)

    ((_, expected), slopes), ((_, out), got) = graded(scan), graded(newton())
    assert out.info.converged.all() and out.info.iterations.max() <= R18.expected["iterations"]
    for one, other in zip(jax.tree.leaves(out.carries), jax.tree.leaves(expected.carries), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=R18.tolerance["states"])
    assert relative(got, slopes) <= R18.tolerance["gradients"]


# Chaos.


def chaotic(gain=3.0, hidden=32):
    """An Elman network past the edge of chaos, and inputs too small to tame it: its largest exponent is positive."""
    cell = elman(hidden, recurrent=inits.normal(gain))
    params, xs = drawn(cell, jnp.float32, 300)
    return cell, params, 0.01 * xs


@each_form
def test_chaos_does_not_converge_and_gives_the_scan_and_its_gradient(form):
    cell, params, xs = chaotic()
    assert probes.largest_exponent(cell, params, xs[:, 0], jax.random.key(0)) > 0.1

    def graded(engine):
        def loss(xs):
            out = unroll(cell, params, xs, engine=engine)
            return out.ys[-1].sum(), out

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(xs)

    ((_, expected), slopes), ((_, out), got) = graded(scan), graded(newton(jacobian=FORMS[form], max_iterations=20))
    assert not out.info.converged.any()
    np.testing.assert_array_equal(out.info.iterations, 20)
    np.testing.assert_array_equal(out.ys, expected.ys)
    assert np.isfinite(got).all() and relative(got, slopes) < 1e-4


def test_every_example_converges_by_itself():
    """Strong inputs tame one row; it gets the same trajectory as alone, in as many iterations."""
    cell, params, xs = chaotic()
    xs = xs.at[:, 1].multiply(10_000)
    engine = newton(max_iterations=20)
    out = jax.jit(lambda xs: unroll(cell, params, xs, engine=engine))(xs)
    np.testing.assert_array_equal(out.info.converged, [False, True, False])
    assert out.info.iterations[1] < 20 == out.info.iterations[0]
    assert out.info.residual[1] < 1e-5 < out.info.residual[0]
    alone = jax.jit(lambda xs: unroll(cell, params, xs, engine=engine))(xs[:, 1])
    assert alone.info.iterations == out.info.iterations[1]
    np.testing.assert_allclose(out.ys[:, 1], alone.ys, rtol=0, atol=1e-6)


@each_form
def test_nan_in_an_input_is_that_row_s_alone(form):
    cell = gru(H)
    params, xs = drawn(cell, jnp.float64, T)
    xs = xs.at[5, 1, 0].set(jnp.nan)
    out, expected = (unroll(cell, params, xs, engine=e) for e in (newton(jacobian=FORMS[form]), scan))
    np.testing.assert_array_equal(out.info.converged, [True, False, True])
    np.testing.assert_allclose(out.ys, expected.ys, atol=1e-12)


# Derivatives, wrapped in all that a cell can be wrapped in.

LENGTHS, RESETS = np.array([T, 12, 0]), np.zeros((T, B), bool)
RESETS[7], RESETS[20, 1] = True, True
HOW = {
    "plain": {},
    "ragged": dict(lengths=LENGTHS, reverse=True),
    "resets": dict(resets=RESETS),
    "chunk": dict(chunk=13),
}
WRAPPED = {
    "gru": gru(H),
    "lstm_projected": CELLS["lstm_projected"](H),
    "zoneout": zoneout(lstm(H), h=0.2, c=0.3),
    "dropped": drop_weights(gru(H), 0.5, "U"),
}


@cache
def derivatives(name, way, form):
    """Outputs, gradients, a slope in forward mode and both kinds of Hessian-vector product, of everything."""
    cell = WRAPPED[name]
    params, xs = drawn(cell, jnp.float64, T)
    noise = iter(np.random.default_rng(0).normal(size=20_000))
    draw = lambda leaf: jnp.asarray(np.fromiter(noise, float, leaf.size).reshape(leaf.shape))  # noqa: E731
    taps = jax.tree.map(lambda leaf: 0.1 * draw(leaf), zero_taps(cell, params, T, (B,)))
    given = params, xs, taps, jax.tree.map(lambda leaf: draw(leaf[0]), taps)
    along = jax.tree.map(draw, given)
    engine = scan if form is None else newton(jacobian=FORMS[form], max_iterations=200)
    key = jax.random.key(3) if cell.noise else None

    def total(*given):
        params, xs, taps, start = given
        out = unroll(cell, params, xs, taps=taps, start=start, engine=engine, key=key, **HOW[way])
        return sum((jnp.sin(leaf) ** 2).sum() for leaf in jax.tree.leaves(out[:3])), out

    loss, slopes = lambda *given: total(*given)[0], jax.grad(lambda *given: total(*given)[0], (0, 1, 2, 3))
    dot = lambda a, b: sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), a, b)))  # noqa: E731

    @jax.jit
    def everything(given, along):
        found = {"outputs": total(*given)[1][:3], "gradients": slopes(*given)}
        found["jvp"] = jax.jvp(loss, given, along)[1]
        found["grad of grad"] = jax.grad(lambda *given: dot(slopes(*given), along), (0, 1, 2, 3))(*given)
        found["jvp of grad"] = jax.jvp(slopes, given, along)[1]
        return found, total(*given)[1].info

    return jax.device_get(everything(given, along))


# Noise takes part in the ways that are hardest: each of these compiles half a minute of second derivatives.
PAIRS = [(name, way) for name in WRAPPED for way in HOW if WRAPPED[name].noise is None or way in ("ragged", "chunk")]


@pytest.mark.slow
@each_form
@pytest.mark.parametrize(("name", "way"), PAIRS)
def test_all_derivatives_are_those_of_the_scan(name, way, form):
    """In chunks too, where a rule of our own would be dropped and the second derivatives be wrong."""
    (expected, _), (got, info) = derivatives(name, way, None), derivatives(name, way, form)
    assert info.converged.all()
    for what in expected:
        assert relative(got[what], expected[what]) < 1e-11, what


@each_form
def test_a_gradient_iterates_no_more_than_its_function(form):
    cell = gru(H)
    params, xs = drawn(cell, jnp.float64, T)
    total = lambda params: unroll(cell, params, xs, engine=newton(jacobian=FORMS[form])).ys.sum()  # noqa: E731
    assert [loops(jax.make_jaxpr(f)(params)) for f in (total, jax.grad(total))] == [1, 1]


def loops(jaxpr):
    """`while` equations, in all programs within."""
    found = 0
    for equation in jaxpr.eqns:
        found += equation.primitive.name == "while"
        inner = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns"))
        found += sum(loops(one) for one in inner if hasattr(one, "eqns"))
    return found


# Forms of a Jacobian.


@pytest.mark.parametrize("name", ["elman", "lstm", "lstm_projected", "scrn", "gru"])
def test_forms_hold_the_jacobian_or_its_diagonal(name):
    cell = CELLS[name](H)
    params, xs = drawn(cell, jnp.float64, T, batch=1)
    out = unroll(cell, params, xs, engine=scan)
    expected = probes.step_jacobians(cell, params, xs[:, 0])
    vectors = Vectors(cell.start(params, ()))
    start = cell.start(params, (1,))
    before = jnp.concatenate([vectors.ravel(start)[None], vectors.ravel(out.carries)[:-1]])
    step = lambda flat: vectors.ravel(cell.step(params, vectors.unravel(flat), cell.drive(params, xs)))  # noqa: E731
    push = jax.linearize(step, before)[1]
    v = jax.random.normal(jax.random.key(1), before.shape)
    units = np.concatenate([np.arange(leaf.size) for leaf in jax.tree.leaves(vectors.event)])
    kinds = np.concatenate([np.full(leaf.size, leaf.size) for leaf in jax.tree.leaves(vectors.event)])
    own = (units[:, None] == units) & (kinds[:, None] == kinds)
    for form, mask in ((full, np.ones_like(own)), (diagonal, own)):
        held = form(cell, vectors)
        J, dense = jax.jit(partial(held.of, push))(before), np.where(mask, expected, 0)
        close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)
        close(held.times(J, v)[:, 0], np.einsum("tij,tj->ti", dense, v[:, 0]))
        close(held.times(held.transpose(J), v)[:, 0], np.einsum("tij,ti->tj", dense, v[:, 0]))
        earlier, later = (jax.tree.map(lambda j, k=k: j[k], J) for k in (slice(0, 5), slice(5, 10)))
        both = held.times(held.compose(earlier, later), v[:5])[:, 0]
        close(both, np.einsum("tij,tjk,tk->ti", dense[5:10], dense[:5], v[:5, 0]))


def test_vectors_are_the_ravelled_carry_of_each_example():
    cell = CELLS["lstm_projected"](H)
    carry = cell.start(cell.init(jax.random.key(0), D, jnp.float64), (2, 3))
    carry = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape), carry)
    vectors = Vectors(jax.tree.map(lambda leaf: leaf[0, 0], carry))
    flat = vectors.ravel(carry)
    np.testing.assert_array_equal(flat[1, 2], ravel_pytree(jax.tree.map(lambda leaf: leaf[1, 2], carry))[0])
    jax.tree.map(np.testing.assert_array_equal, vectors.unravel(flat), carry)


# The start of the iteration.


def test_a_warm_start_saves_iterations_and_changes_nothing_else():
    cell = lstm(H)
    params, xs = drawn(cell, jnp.float64, T)
    cold = unroll(cell, params, xs, engine=newton())
    warm = unroll(cell, params, xs, engine=newton(guess=cold.carries))
    assert (warm.info.iterations == 1).all() and (cold.info.iterations > 3).all()
    np.testing.assert_allclose(warm.ys, cold.ys, atol=1e-13)
    moved = jax.tree.map(lambda p: p + 1e-4, params)  # as a step of training moves them
    near, far = (unroll(cell, moved, xs, engine=newton(guess=guess)) for guess in (cold.carries, None))
    assert near.info.iterations.max() < far.info.iterations.min()
    np.testing.assert_allclose(near.ys, far.ys, atol=1e-13)


def test_a_guess_is_not_differentiated_and_may_be_nonsense():
    cell = gru(H)
    params, xs = drawn(cell, jnp.float64, T)
    carries = unroll(cell, params, xs).carries
    nonsense = jax.tree.map(lambda c: c.at[3].set(jnp.nan).at[9].set(1e9), carries)
    total = lambda guess: unroll(cell, params, xs, engine=newton(guess=guess)).ys.sum()  # noqa: E731
    np.testing.assert_allclose(total(nonsense), total(None), rtol=1e-12)
    assert not any(g.any() for g in jax.tree.leaves(jax.grad(total)(carries)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@each_form
def test_types_stay(form, dtype):
    cell = lstm(H)
    params, xs = drawn(cell, jnp.dtype(dtype), T)
    out, expected = (unroll(cell, params, xs, engine=e) for e in (newton(jacobian=FORMS[form]), scan))
    assert {leaf.dtype for leaf in jax.tree.leaves((out.ys, out.carries, out.info.residual))} == {jnp.dtype(dtype)}
    np.testing.assert_allclose(
        out.ys.astype(float), expected.ys.astype(float), atol={"bfloat16": 5e-2}.get(dtype, 1e-6)
    )


# Refusals.


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (dict(tol=0.0), "newton: expected tol > 0, got 0.0"),
        (dict(tol=-1.0), "newton: expected tol > 0, got -1.0"),
        (dict(tol=float("nan")), "newton: expected tol > 0, got nan"),
        (dict(max_iterations=0), "newton: expected max_iterations >= 1, got 0"),
    ],
)
def test_refuses_what_cannot_be(how, words):
    with pytest.raises(ValueError, match=words):
        newton(**how)


def test_refuses_a_guess_of_another_length():
    cell = gru(H)
    params, xs = drawn(cell, jnp.float64, T)
    guess = unroll(cell, params, xs[1:]).carries
    with pytest.raises(ValueError, match=r"newton: expected a guess of shapes .*30, 3, 4.*, got .*29, 3, 4"):
        unroll(cell, params, xs, engine=newton(guess=guess))


def test_refuses_an_integer_carry_by_name():
    from spikes import counter

    with pytest.raises(TypeError, match=r"newton: expected a carry of one float type, got int32 in counter"):
        unroll(counter(), (), jnp.zeros((T, B, D)), engine=newton())
