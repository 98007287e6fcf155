"""Can the interface say it? Four cells that strain it, each equal to a plain Python loop over single rows."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import spikes

from rnnlab import probes
from rnnlab.cells import LSTMParams, gru_before, lstm
from rnnlab.layers import layers, zero_taps
from rnnlab.types import PyTree
from rnnlab.unroll import unroll

T, ROWS, COLUMNS = 4, 2, 3
# name: (cell, axes of one input)
SPIKES = {
    "gru_before": (gru_before(3), (2,)),
    "conv_lstm": (spikes.conv_lstm(ROWS, COLUMNS, 2), (ROWS, COLUMNS, 2)),
    "rotation": (spikes.rotation(3), (2,)),
    "exp_rnn": (spikes.exp_rnn(3), (2,)),
}
every_spike = pytest.mark.parametrize("name", SPIKES)


def setting(name, batch_shape, dtype=jnp.float64):
    """Cell, parameters, inputs and a first carry, all random."""
    cell, event = SPIKES[name]
    keys = jax.random.split(jax.random.key(len(batch_shape)), 3)
    params = cell.init(keys[0], event[-1], dtype)
    xs = jax.random.normal(keys[1], (T, *batch_shape, *event), dtype)
    start = like(keys[2], cell.start(cell.prepare(params), batch_shape))
    return cell, params, xs, start


def like(key, tree: PyTree) -> PyTree:
    """A random tree of the same shapes and types."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        structure, [jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, leaves, strict=True)]
    )


@cache
def row_loop(name: str, length: int, reverse: bool):
    """vjp of a plain Python loop over one row: no batch axis, mask, flip, drive or read of more than one step.

    (params, xs, start, taps, cotangents) -> ((ys, carries, last), gradients). Compiled once for each length.
    """
    cell, _ = SPIKES[name]

    def loop(params, xs, start, taps):
        weights, carry = cell.prepare(params), start
        ys, carries = [None] * T, [None] * T
        for t in reversed(range(T)) if reverse else range(T):
            ys[t] = jnp.zeros_like(cell.read(weights, carry, xs[t]))
            if t < length:
                carry = cell.step(weights, carry, cell.drive(weights, xs[t]))
                carry = jax.tree.map(lambda new, tap, t=t: new + tap[t], carry, taps)
                ys[t] = cell.read(weights, carry, xs[t])
            carries[t] = carry
        return jnp.stack(ys), jax.tree.map(lambda *parts: jnp.stack(parts), *carries), carry

    @jax.jit
    def pulled(params, xs, start, taps, cotangents):
        out, pull = jax.vjp(loop, params, xs, start, taps)
        return out, pull(cotangents)

    return pulled


def by_rows(name, lengths, reverse, params, xs, start, taps, cotangents):
    """`row_loop` for every row, put together: values by batch axes, parameter gradients added up."""
    batch_shape = xs.shape[1 : xs.ndim - SPIKES[name][0].input_rank]
    at = lambda tree, row, axis: jax.tree.map(lambda a: a[(slice(None),) * axis + row], tree)  # noqa: E731
    results = []
    for row in np.ndindex(batch_shape):
        ys, carries, last = cotangents
        run = row_loop(name, T if lengths is None else int(lengths[row]), reverse)
        by_row = at(xs, row, 1), at(start, row, 0), at(taps, row, 1)
        results.append(run(params, *by_row, (at(ys, row, 1), at(carries, row, 1), at(last, row, 0))))

    def together(axis, parts):
        def join(*rows):
            whole = np.stack(rows, axis)
            return whole.reshape(*whole.shape[:axis], *batch_shape, *whole.shape[axis + 1 :])

        return jax.tree.map(join, *parts)

    (ys, carries, last), (dparams, dxs, dstart, dtaps) = (
        tuple(zip(*part, strict=True)) for part in zip(*results, strict=True)
    )
    out = together(1, ys), together(1, carries), together(0, last)
    return out, (
        jax.tree.map(lambda *rows: sum(rows), *dparams),
        together(1, dxs),
        together(0, dstart),
        together(1, dtaps),
    )


def assert_close(have, want, tolerance=1e-12):
    assert jax.tree.structure(have) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(have), jax.tree.leaves(want), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, float(np.max(np.abs(b)))))


HOWS = {
    "single": dict(batch_shape=()),
    "single, short, reverse": dict(batch_shape=(), lengths=2, reverse=True),
    "lengths": dict(batch_shape=(3,), lengths=[4, 0, 2]),
    "reverse, chunk": dict(batch_shape=(3,), reverse=True, chunk=2),
    "lengths, reverse, uneven chunk": dict(batch_shape=(3,), lengths=[2, 4, 2], reverse=True, chunk=3),
    "two batch axes, lengths, chunk": dict(batch_shape=(2, 2), lengths=[[2, 4], [0, 2]], chunk=1),
}


# What is compiled anew for each; the hardest way stands for the others in the quick suite.
HARDEST = "lengths, reverse, uneven chunk"
each_how = [pytest.param(how, marks=() if how == HARDEST else pytest.mark.slow) for how in HOWS]


@pytest.mark.parametrize("how", each_how)
@every_spike
def test_a_spike_is_its_loop(name, how):
    how = dict(HOWS[how])
    batch_shape, reverse = how.pop("batch_shape"), how.get("reverse", False)
    lengths = how["lengths"] = np.array(how["lengths"]) if "lengths" in how else None
    cell, params, xs, start = setting(name, batch_shape)
    taps = like(jax.random.key(9), zero_taps(cell, params, T, batch_shape))
    given = np.array(xs)
    if lengths is not None:  # what stands at padding must not matter, in values or gradients
        given[np.arange(T).reshape(T, *[1] * len(batch_shape)) >= lengths] = np.nan

    @jax.jit
    def pulled(params, xs, start, taps):
        def run(params, xs, start, taps):
            out = unroll(cell, params, xs, start=start, taps=taps, **how)
            return out.ys, out.carries, out.last

        out, pull = jax.vjp(run, params, xs, start, taps)
        cotangents = like(jax.random.key(8), out)
        return out, pull(cotangents), cotangents

    *have, cotangents = pulled(params, jnp.asarray(given), start, taps)
    assert_close(tuple(have), by_rows(name, lengths, reverse, params, xs, start, taps, cotangents))


@pytest.mark.slow
@every_spike
def test_forward_mode_and_vmap(name):
    cell, params, xs, start = setting(name, (2,))
    lengths = jnp.array([3, 4])
    run = lambda params, xs, start: unroll(cell, params, xs, start=start, lengths=lengths).ys  # noqa: E731
    tangents = like(jax.random.key(4), (params, xs, start))

    def both(params, xs, start):
        ys, forward = jax.jvp(run, (params, xs, start), tangents)
        pull = jax.vjp(run, params, xs, start)[1]
        weights = like(jax.random.key(5), ys)
        return jnp.vdot(forward, weights), pull(weights)

    forward, backward = jax.jit(both)(params, xs, start)
    inner = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(tangents), jax.tree.leaves(backward), strict=True))
    np.testing.assert_allclose(forward, inner, rtol=1e-12)

    alone = lambda xs, start, length: unroll(cell, params, xs, start=start, lengths=length).ys  # noqa: E731
    mapped = jax.jit(jax.vmap(alone, in_axes=(1, 0, 0), out_axes=1))(xs, start, lengths)
    assert_close(mapped, run(params, xs, start))


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 0.1)])
@every_spike
def test_state_types(name, dtype, tolerance):
    cell, params, xs, start = setting(name, (3,), dtype)
    run = jax.jit(lambda params, xs, start: unroll(cell, params, xs, start=start))
    out = run(params, xs, start)
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype(dtype)}
    wide = jax.tree.map(lambda a: a.astype(jnp.float64), (params, xs, start))
    exact = run(*wide)
    for have, want in zip(jax.tree.leaves(out), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(have.astype(jnp.float64), want, rtol=tolerance, atol=tolerance)


@every_spike
def test_spikes_stack_and_have_norms(name):
    cell, params, xs, _ = setting(name, (3,))
    out_dim = unroll(cell, params, xs).ys.shape[-1]
    stack, stacked = [cell, cell], [params, cell.init(jax.random.key(7), out_dim, jnp.float64)]
    loss = lambda ys: (ys**2).sum((0, *range(2, ys.ndim)))  # noqa: E731
    lengths = jnp.array([4, 2, 3])
    norms = jax.jit(lambda xs: probes.gradient_norms(stack, stacked, xs, loss, lengths=lengths))(xs)
    assert norms.joint.shape == (2, T, 3)
    valid = np.arange(T)[:, None] < np.array(lengths)
    assert np.isfinite(np.asarray(norms.joint)[:, valid]).all()
    assert (np.asarray(norms.joint)[:, ~valid] == -np.inf).all()
    assert layers(stack, stacked, xs, lengths=lengths).ys.shape == (T, 3, *xs.shape[2:-1], out_dim)


# What each spike is by itself.


def test_gru_before_resets_before_the_product():
    cell, params, _, start = setting("gru_before", (3,))
    xs = jax.random.normal(jax.random.key(2), (1, 3, 2))
    W, U, b, _ = (np.asarray(leaf) for leaf in params)
    h, x = np.asarray(start.h), np.asarray(xs[0])
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    r, z = (sigmoid(x @ W[:, i : i + 3] + h @ U[:, i : i + 3] + b[i : i + 3]) for i in (0, 3))
    n = np.tanh(x @ W[:, 6:] + (r * h) @ U[:, 6:] + b[6:])
    assert params.bn is None
    np.testing.assert_allclose(unroll(cell, params, xs, start=start).ys[0], (1 - z) * n + z * h, rtol=1e-12)


def test_conv_lstm_with_a_window_of_one_is_an_lstm_at_every_pixel():
    cell = spikes.conv_lstm(ROWS, COLUMNS, 4, window=1)
    params = like(jax.random.key(0), cell.init(jax.random.key(0), 2, jnp.float64))
    xs = jax.random.normal(jax.random.key(1), (T, 3, ROWS, COLUMNS, 2))
    pixels = unroll(lstm(4), LSTMParams(params.W[0, 0], params.U[0, 0], params.b, None), xs)  # three batch axes
    np.testing.assert_allclose(unroll(cell, params, xs).ys, pixels.ys, rtol=1e-12)


def test_rotation_turns_and_keeps_the_norm():
    cell = spikes.rotation(3, tiny=0.0)
    params = cell.init(jax.random.key(0), 2, jnp.float64)
    params = params._replace(W=jnp.zeros_like(params.W), b=jnp.zeros_like(params.b))
    xs = jax.random.normal(jax.random.key(1), (50, 2))
    states = jax.tree.map(np.asarray, unroll(cell, params, xs).carries)
    first = np.asarray(params.h[0]) + 1j * np.asarray(params.h[1])
    turned = first * np.exp(1j * np.asarray(params.angle) * np.arange(1, 51)[:, None])
    np.testing.assert_allclose(states.re + 1j * states.im, turned, rtol=1e-12)


@pytest.mark.parametrize(("tiny", "finite"), [(1e-5, True), (0.0, False)])
def test_a_step_needs_a_gradient_where_a_row_waits(tiny, finite):
    """A known limit: the step runs at padding too, on x = 0 and the held carry, before its result is thrown away."""
    cell = spikes.rotation(3, tiny=tiny)
    params = cell.init(jax.random.key(0), 2, jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (T, 2, 2))
    origin = jax.tree.map(jnp.zeros_like, cell.start(cell.prepare(params), (2,)))
    loss = lambda params: (unroll(cell, params, xs, start=origin, lengths=jnp.array([3, 0])).ys ** 2).sum()  # noqa: E731
    assert np.isfinite(jax.grad(loss)(params).angle).all() == finite


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16])
def test_exp_rnn_is_orthogonal(dtype):
    cell = spikes.exp_rnn(6)
    Q = cell.prepare(cell.init(jax.random.key(0), 2, dtype)).Q
    assert Q.dtype == dtype
    wide = np.asarray(Q.astype(jnp.float64))
    # In bfloat16 the only error is the rounding of the entries: the exponential itself was taken in float32.
    np.testing.assert_allclose(wide @ wide.T, np.eye(6), atol=20 * float(jnp.finfo(dtype).eps) / 2)


@pytest.mark.parametrize("chunk", [None, 5])
def test_prepare_runs_once_a_sequence(chunk):
    cell, calls = spikes.exp_rnn(3), []

    def counted(params):
        jax.debug.callback(lambda: calls.append(1))
        return cell.prepare(params)

    counting = cell._replace(prepare=counted)
    params = cell.init(jax.random.key(0), 2, jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (17, 2))
    jax.jit(lambda params: unroll(counting, params, xs, chunk=chunk).ys)(params).block_until_ready()
    jax.effects_barrier()
    assert len(calls) == 1


def equations(jaxpr, path=()):
    """Every equation with the scans that it is inside of, by their lengths."""
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name, path
        inner = (*path, eqn.params["length"]) if eqn.primitive.name == "scan" else path
        for part in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda p: hasattr(p, "eqns")):
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield from equations(part, inner)


@pytest.mark.parametrize("chunk", [None, 17])
@pytest.mark.parametrize("transform", [lambda f: f, jax.grad], ids=["forward", "gradient"])
def test_prepare_is_outside_the_loop(transform, chunk):
    cell, steps = spikes.exp_rnn(3), 17 * 19  # lengths that nothing else has
    params = cell.init(jax.random.key(0), 2, jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (steps, 2))
    run = transform(lambda params: unroll(cell, params, xs, chunk=chunk).ys.sum())
    found = list(equations(jax.make_jaxpr(run)(params).jaxpr))
    over_time = [name for name, path in found if {steps, 17, 19} & set(path)]
    assert "tanh" in over_time
    assert "lu" in {name for name, _ in found} and "lu" not in over_time  # expm solves a linear system, by LU


# The counter.


@pytest.mark.parametrize("reverse", [False, True])
def test_counter(reverse):
    cell = spikes.counter()
    xs = jax.random.normal(jax.random.key(0), (7, 4, 2))
    lengths = np.array([7, 0, 3, 1])
    out = unroll(cell, (), xs, lengths=lengths, reverse=reverse, chunk=3)
    steps, valid = np.arange(7)[:, None], np.arange(7)[:, None] < lengths
    seen = np.maximum(lengths - steps, 0) if reverse else np.minimum(steps + 1, lengths)
    np.testing.assert_array_equal(out.carries.s, seen)
    np.testing.assert_array_equal(out.last.s, lengths)
    np.testing.assert_array_equal(out.ys, np.where(valid[..., None], xs + 1, 0))
