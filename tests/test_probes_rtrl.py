"""RTRL, lag by lag, and truncated BPTT: R16 and windows cut by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rnnlab import probes
from rnnlab.cells import CELLS
from rnnlab.layers import init_layers, layers, residual
from rnnlab.probes.specs import R16
from rnnlab.types import Directions

T, B, D, H = (R16.setting[name] for name in "TBDH")
LENGTHS = np.array([T, 0, T // 2])


def problem(names, dtype=jnp.float64, seed=0):
    """A stack of cells with random parameters (biases too), inputs, and a loss that looks at every output."""
    cells = tuple(CELLS[name](H) for name in names)
    key, draw, weigh = jax.random.split(jax.random.key(seed), 3)
    flat, unravel = ravel_pytree(init_layers(cells, key, D, dtype))
    params = unravel(flat + 0.1 * jax.random.normal(key, flat.shape, dtype))
    xs = jax.random.normal(draw, (T, B, D), dtype)
    width = jax.eval_shape(lambda: layers(cells, params, xs).ys).shape[-1]
    weights = jax.random.normal(weigh, (T, B, width), dtype)
    return cells, params, xs, lambda ys: (weights * jnp.sin(ys)).sum((0, -1))


def bptt(cells, params, xs, loss, **how):
    return jax.grad(lambda params: loss(layers(cells, params, xs, **how).ys).mean())(params)


def close(have, want, tolerance):
    have, want = ravel_pytree(have)[0], ravel_pytree(want)[0]
    assert have.dtype == want.dtype and jnp.abs(want).max() > 0
    error = jnp.linalg.norm(have - want) / jnp.linalg.norm(want)
    assert error < tolerance, error


def assert_r16(names, dtype=jnp.float64, **how):
    tolerance = R16.tolerance["rtrl"] if dtype == jnp.float64 else 1e-4
    cells, params, xs, loss = problem(names, dtype)

    @jax.jit
    def found(params, xs):
        forward = probes.rtrl(cells, params, xs, loss, **how)
        lags = probes.lag_gradients(cells, params, xs, loss, T, **how)
        bias = probes.truncation_bias(cells, params, xs, loss, T, **how)
        return forward, lags, bias, bptt(cells, params, xs, loss, **how), loss(layers(cells, params, xs, **how).ys)

    forward, lags, bias, want, losses = found(params, xs)
    np.testing.assert_allclose(forward.losses, losses, rtol=1e-5 if dtype == jnp.float32 else 1e-12)
    close(forward.grads, want, tolerance)
    close(jax.tree.map(lambda g: g.sum(0), lags), want, tolerance)
    assert jax.tree.structure(forward.grads) == jax.tree.structure(params)
    assert bias.window.tolist() == list(range(1, T + 1))
    assert bias.bias[-1] < tolerance and abs(bias.cosine[-1] - 1) < tolerance
    flat = jnp.concatenate([g.reshape(T, -1) for g in jax.tree.leaves(lags)], axis=1)
    partial, whole = np.cumsum(np.asarray(flat), axis=0), np.asarray(flat).sum(0)
    norms = np.linalg.norm(partial, axis=1) * np.linalg.norm(whole)
    rough = dict(rtol=1e-4, atol=1e-5) if dtype == jnp.float32 else dict(rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(bias.bias, np.linalg.norm(partial - whole, axis=1) / np.linalg.norm(whole), **rough)
    np.testing.assert_allclose(bias.cosine, partial @ whole / np.where(norms > 0, norms, 1), **rough)


@pytest.mark.slow
def test_r16_of_a_stack_with_lengths():
    assert_r16(("elman", "ind_rnn"), lengths=LENGTHS, join=(lambda xs, ys: ys, residual))


# Of every kind: hand-written derivatives, several transitions a step, a matrix, prepared weights, a first carry that is
# a parameter.
KINDS = ("lstm", "rhn", "mlstm", "exp_rnn", "unitary_rnn")


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_r16_of_every_kind_of_cell(name):
    assert_r16((name,), lengths=LENGTHS)


@pytest.mark.slow
@pytest.mark.parametrize("names", [("gru", "lstm")])
def test_r16_in_float32(names):
    assert_r16(names, jnp.float32)


def cut_by_hand(cell, params, xs, loss, window):
    """g_k, a window at a time: the carry that enters it is a constant."""
    carries = layers((cell,), (params,), xs).carries[0]

    def windowed(params):
        ys = []
        for s in range(T):
            begin = max(0, s - window + 1)
            start = None if begin == 0 else (jax.tree.map(lambda c, b=begin: c[b - 1], carries),)
            ys.append(layers((cell,), (params,), xs[begin : s + 1], start=start).ys[-1])
        return loss(jnp.stack(ys)).mean()

    return jax.grad(windowed)(params)


@pytest.mark.parametrize(
    ("name", "windows"), [("elman", (3,)), pytest.param("lstm", (1, 4, 6), marks=pytest.mark.slow)]
)
def test_truncated_bptt_is_windows_cut_by_hand(name, windows):
    (cell,), (params,), xs, loss = problem((name,))
    lags = jax.jit(lambda params: probes.lag_gradients(cell, params, xs, loss, T - 1))(params)
    by_hand = jax.jit(lambda params: [cut_by_hand(cell, params, xs, loss, k) for k in windows])(params)
    for k, want in zip(windows, by_hand, strict=True):
        close(jax.tree.map(lambda g, k=k: g[:k].sum(0), lags), want, R16.tolerance["truncated"])


def test_a_given_first_carry_depends_on_no_parameter():
    cells, params, xs, loss = problem(("elman",))
    start = tuple(
        jax.tree.map(lambda c: jax.random.normal(jax.random.key(5), c.shape), cell.start(p, (B,)))
        for cell, p in zip(cells, params, strict=True)
    )
    found = jax.jit(lambda params: probes.rtrl(cells, params, xs, loss, start=start).grads)(params)
    close(found, jax.jit(lambda params: bptt(cells, params, xs, loss, start=start))(params), 1e-12)


def test_what_it_refuses():
    cells, params, xs, loss = problem(("elman",))
    with pytest.raises(ValueError, match=rf"lag_gradients: expected longest in 1..T = {T}, got {T + 1}"):
        probes.lag_gradients(cells, params, xs, loss, T + 1)
    with pytest.raises(ValueError, match="truncation_bias: expected longest"):
        probes.truncation_bias(cells, params, xs, loss, 0)
    with pytest.raises(ValueError, match="bidirectional"):
        probes.rtrl((Directions(*cells, *cells),), params, xs, loss)
    with pytest.raises(ValueError, match="each example's own loss"):
        probes.rtrl(cells, params, xs, lambda ys: ys.mean())
