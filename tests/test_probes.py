"""Norms, their summaries and the fit: what each says at the edges of the float format and of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import probes
from rnnlab.cells import CELLS
from rnnlab.layers import init_layers, layers, zero_taps
from rnnlab.types import Directions
from rnnlab.unroll import bidirectional, unroll

T, B, D, H = 7, 4, 3, 5


def normal(seed, shape, dtype=jnp.float64):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


# log_norm


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_log_norm_neither_underflows_nor_overflows(size):
    x = normal(0, (3, 2, 4), jnp.float32) * jnp.float32(size)
    with np.errstate(over="ignore", under="ignore"):
        assert set(np.square(np.asarray(x)).ravel()) <= {0.0, np.inf}  # what the plain formula would add up
    exact = np.log(np.linalg.norm(np.asarray(x, np.float64), axis=-1))
    np.testing.assert_allclose(probes.log_norm(x, 2), exact, rtol=1e-6)
    flat = np.log(np.linalg.norm(np.asarray(x, np.float64).reshape(3, -1), axis=-1))
    np.testing.assert_allclose(probes.log_norm(x, 1), flat, rtol=1e-6)


@pytest.mark.parametrize("top", [8e37, 9e37, 2e38, 3e38])
def test_log_norm_at_the_end_of_the_format(top):
    """Compiled, a division by a float32 beyond 8.5e37 is a product with 0."""
    x = jnp.full((2, 4), top / 8, jnp.float32).at[:, 0].set(top)
    exact = np.log(np.linalg.norm(np.asarray(x, np.float64), axis=-1))
    np.testing.assert_allclose(jax.jit(lambda x: probes.log_norm(x, 1))(x), exact, rtol=1e-6)


def test_log_norm_of_bfloat16_is_computed_in_float32():
    x = normal(1, (3, 1000), jnp.bfloat16)
    norms = probes.log_norm(x, 1)
    assert norms.dtype == jnp.float32
    np.testing.assert_allclose(norms, np.log(np.linalg.norm(np.asarray(x, np.float64), axis=-1)), rtol=1e-6)


def test_log_norm_shows_zero_inf_and_nan():
    x = np.array(normal(2, (4, 3)))
    x[0], x[1, 1], x[2, 0], x[3, :2] = 0, -np.inf, np.nan, (np.inf, np.nan)
    norms = np.asarray(probes.log_norm(jnp.asarray(x), 1))
    assert norms[0] == -np.inf and norms[1] == np.inf and np.isnan(norms[2:]).all()


# log_norms


def test_log_norms_orders_directions_and_mixed_layers():
    lstm, gru = CELLS["lstm"](H), CELLS["gru"](H - 1)
    stack = [gru, Directions(lstm, gru), lstm]
    params = init_layers(stack, jax.random.key(0), D, jnp.float64)
    taps = zero_taps(stack, params, T, (B,))
    leaves, structure = jax.tree.flatten(taps)
    drawn = jax.tree.unflatten(structure, [normal(i, leaf.shape) for i, leaf in enumerate(leaves)])
    norms = jax.jit(lambda drawn: probes.log_norms(drawn, 1))(drawn)

    first, both, third = drawn
    carries = [first, both.forward, both.backward, third]
    assert norms.joint.shape == (4, T, B) and len(norms.parts) == 4
    for joint, parts, carry in zip(norms.joint, norms.parts, carries, strict=True):
        assert type(parts) is type(carry)
        for have, part in zip(parts, carry, strict=True):
            np.testing.assert_allclose(have, np.log(np.linalg.norm(part, axis=-1)), rtol=1e-12)
        want = np.log(np.linalg.norm(np.concatenate(carry, axis=-1), axis=-1))
        np.testing.assert_allclose(joint, want, rtol=1e-12)


def test_log_norms_join_parts_that_vanish():
    h, c = np.array(normal(0, (3, 1, 4))), np.array(normal(1, (3, 1, 4)))
    c[0], h[1], c[1] = 0, 0, 0
    h[2], c[2] = h[2] * 1e-200, c[2] * 1e-200
    lstm = CELLS["lstm"](4)
    carry = lstm.start(lstm.init(jax.random.key(0), 1, jnp.float64), (3, 1))._replace(
        h=jnp.asarray(h), c=jnp.asarray(c)
    )
    joint = np.asarray(probes.log_norms((carry,), 1).joint[0, :, 0])
    np.testing.assert_allclose(joint[0], np.log(np.linalg.norm(h[0])), rtol=1e-12)
    assert joint[1] == -np.inf
    scaled = np.concatenate([h[2], c[2]]) * 1e200
    np.testing.assert_allclose(joint[2], np.log(np.linalg.norm(scaled)) - 200 * np.log(10), rtol=1e-12)


# gradient_norms


def squares(ys):
    """Each example's own loss, summed over its steps."""
    return (ys**2).sum((0, -1)) + jnp.sin(ys[-1]).sum(-1)


def norms_by_hand(pulled):
    return np.log(np.sqrt(sum(np.square(np.asarray(leaf)).sum(-1) for leaf in jax.tree.leaves(pulled))))


@pytest.mark.parametrize("name", ["elman", "lstm", "gru"])
def test_gradient_norms_of_one_cell(name):
    cell = CELLS[name](H)
    params, xs = cell.init(jax.random.key(0), D, jnp.float64), normal(1, (T, B, D))
    taps = zero_taps(cell, params, T, (B,))
    pulled = jax.jit(jax.grad(lambda taps: squares(unroll(cell, params, xs, taps=taps).ys).sum()))(taps)
    norms = jax.jit(lambda xs: probes.gradient_norms(cell, params, xs, squares))(xs)
    assert norms.joint.shape == (1, T, B)
    np.testing.assert_allclose(norms.joint[0], norms_by_hand(pulled), rtol=1e-12)
    alone = probes.gradient_norms(cell, params, xs[:, 2], lambda ys: (ys**2).sum() + jnp.sin(ys[-1]).sum())
    np.testing.assert_allclose(alone.joint[0], norms.joint[0, :, 2], rtol=1e-12)  # no batch axis at all


@pytest.mark.parametrize("how", [dict(), dict(reverse=True), dict(chunk=3)], ids=str)
def test_gradient_norms_of_a_stack_with_lengths(how):
    stack = [CELLS["lstm"](H), CELLS["gru"](H)]
    params, xs = init_layers(stack, jax.random.key(0), D, jnp.float64), np.array(normal(1, (T, B, D)))
    lengths = np.array([T, 0, 3, 1])
    padding = np.arange(T)[:, None] >= lengths
    xs[padding] = np.nan
    measure = jax.jit(
        lambda xs, loss, n: probes.gradient_norms(stack, params, xs, loss, lengths=n, **how), static_argnums=1
    )
    norms = measure(xs, squares, lengths)
    for values in jax.tree.leaves(norms):
        values = np.asarray(values)
        assert not np.isnan(values).any()
        assert (values[np.broadcast_to(padding, values.shape)] == -np.inf).all()
    # Of the joint norm alone: nobody reads the last c of an LSTM, so its gradient is 0 at a row's own last step.
    assert np.isfinite(np.asarray(norms.joint)[:, ~padding]).all()
    row = 2  # the short row by itself, cut to its length
    cut = measure(xs[: lengths[row], row : row + 1], squares_of_sum, None)
    full = measure(xs, squares_of_sum, lengths)
    np.testing.assert_allclose(full.joint[:, : lengths[row], row], cut.joint[:, :, 0], rtol=1e-12)


def squares_of_sum(ys):
    """A loss that zeros at padding do not change."""
    return (ys**2).sum((0, -1)) + jnp.sin(ys.sum(0)).sum(-1)


def test_gradient_norms_of_directions():
    cells = Directions(CELLS["lstm"](H), CELLS["gru"](H - 1))
    (params,) = init_layers([cells], jax.random.key(0), D, jnp.float64)
    xs = normal(1, (T, B, D))
    taps = zero_taps(cells, params, T, (B,))
    pulled = jax.jit(jax.grad(lambda taps: squares(bidirectional(cells, params, xs, taps=taps).ys).sum()))(taps)
    norms = jax.jit(lambda xs: probes.gradient_norms(cells, params, xs, squares))(xs)
    assert norms.joint.shape == (2, T, B)
    for joint, direction in zip(norms.joint, pulled, strict=True):
        np.testing.assert_allclose(joint, norms_by_hand(direction), rtol=1e-12)


# value_and_grad


def stack_loss():
    stack = [CELLS["gru"](H), CELLS["lstm"](H)]
    params, xs = init_layers(stack, jax.random.key(0), D, jnp.float64), normal(1, (T, B, D))

    def loss(params, taps, xs, scale):
        return squares(layers(stack, params, xs, taps=taps).ys) * scale

    return stack, params, xs, loss


def test_value_and_grad_is_the_gradient_of_the_mean():
    stack, params, xs, loss = stack_loss()
    taps = zero_taps(stack, params, T, (B,))
    measured = jax.jit(probes.value_and_grad(loss))(params, taps, xs, 0.7)
    assert measured.aux is None
    np.testing.assert_allclose(measured.losses, loss(params, None, xs, 0.7), rtol=1e-12)
    expected = jax.jit(jax.grad(lambda params: loss(params, None, xs, 0.7).mean()))(params)
    jax.tree.map(
        lambda have, want: np.testing.assert_allclose(have, want, rtol=1e-10, atol=1e-12), measured.grads, expected
    )
    norms = jax.jit(lambda xs: probes.gradient_norms(stack, params, xs, lambda ys: squares(ys) * 0.7))(xs)
    np.testing.assert_allclose(measured.norms.joint, norms.joint, rtol=1e-12)


def test_value_and_grad_does_not_depend_on_the_batch():
    stack, params, xs, loss = stack_loss()
    measure = jax.jit(probes.value_and_grad(loss))
    together = measure(params, zero_taps(stack, params, T, (B,)), xs, 0.7)
    for b in range(B):
        alone = measure(params, zero_taps(stack, params, T, (1,)), xs[:, b : b + 1], 0.7)
        np.testing.assert_allclose(alone.losses[0], together.losses[b], rtol=1e-12)
        for have, want in zip(jax.tree.leaves(alone.norms), jax.tree.leaves(together.norms), strict=True):
            np.testing.assert_allclose(have[..., 0], want[..., b], rtol=1e-12, atol=1e-12)


def test_value_and_grad_hands_aux_through():
    stack, params, xs, loss = stack_loss()

    def with_aux(*args):
        losses = loss(*args)
        return losses, {"largest": losses.max()}

    taps = zero_taps(stack, params, T, (B,))
    measured = jax.jit(probes.value_and_grad(with_aux, has_aux=True))(params, taps, xs, 0.7)
    plain = jax.jit(probes.value_and_grad(loss))(params, taps, xs, 0.7)
    assert measured.aux["largest"] == plain.losses.max()
    jax.tree.map(
        lambda have, want: np.testing.assert_allclose(have, want, rtol=1e-12), measured._replace(aux=None), plain
    )


# summarise


def test_summarise_counts_what_is_kept():
    norms = np.array(normal(0, (2, 3, 11)))
    keep = np.array(jax.random.bernoulli(jax.random.key(1), 0.6, norms.shape))
    keep[1, 2] = False
    norms[~keep] = np.inf  # whatever stands at padding
    summary = probes.summarise(jnp.asarray(norms), jnp.asarray(keep))
    for i, j in np.ndindex(2, 3):
        row = norms[i, j][keep[i, j]]
        have = [float(field[i, j]) for field in summary]
        if row.size == 0:
            assert np.isnan(have).all()
            continue
        np.testing.assert_allclose(have[0], row.mean(), rtol=1e-12)
        for quantile, q in zip(have[1:], (0.1, 0.5, 0.9), strict=True):
            # An entry of the row, never between two: a mean with a -inf would be no number. Midway, either will do.
            place = np.flatnonzero(np.sort(row) == quantile)
            assert place.size == 1 and abs(place[0] - q * (row.size - 1)) <= 0.5 + 1e-9


def test_summarise_other_axes_and_a_batch_of_one():
    norms = normal(0, (11, 4))
    summary = probes.summarise(norms, axis=0)
    np.testing.assert_allclose(summary.mean, np.mean(norms, axis=0), rtol=1e-12)
    np.testing.assert_allclose(summary.high, np.quantile(norms, 0.9, axis=0, method="nearest"), rtol=1e-12)
    vanished = probes.summarise(norms.at[:4].set(-jnp.inf), axis=0)
    assert (vanished.mean == -jnp.inf).all() and (vanished.low == -jnp.inf).all()
    np.testing.assert_array_equal(vanished.high, np.sort(norms.at[:4].set(-jnp.inf), axis=0)[9])
    for field in probes.summarise(norms[:, :1]):
        np.testing.assert_array_equal(field, norms[:, 0])


# fit_decay


def line(gamma, intercept, steps):
    """Log-norms in order of time of an exact exponential."""
    return intercept + np.log(gamma) * np.arange(steps - 1, -1, -1.0)


@pytest.mark.parametrize("gamma", [0.5, 0.97, 1.0, 1.2])
def test_fit_decay_of_an_exact_exponential(gamma):
    logs = line(gamma, -1.3, 50)
    logs[:5], logs[-3:] = 77.0, -77.0  # outside the range of lags
    fit = probes.fit_decay(jnp.asarray(logs), 3, 44)
    np.testing.assert_allclose(fit.gamma, gamma, rtol=1e-12)
    np.testing.assert_allclose(fit.intercept, -1.3, rtol=1e-12)
    np.testing.assert_allclose(fit.r2, 1, rtol=1e-12)
    assert fit.count == 42
    if gamma == 1:
        assert fit.half_life > 1e12
    else:
        np.testing.assert_allclose(fit.half_life, abs(np.log(2) / np.log(gamma)), rtol=1e-12)


def test_fit_decay_is_least_squares():
    logs = np.array(normal(0, (4, 40))) * 0.3 + line(0.9, 2.0, 40)
    fit = probes.fit_decay(jnp.asarray(logs), 5, 30)
    lags = np.arange(5, 31)
    for row in range(4):
        ys = logs[row, ::-1][5:31]
        slope, intercept = np.polyfit(lags, ys, 1)
        residual = ys - slope * lags - intercept
        np.testing.assert_allclose(fit.gamma[row], np.exp(slope), rtol=1e-12)
        np.testing.assert_allclose(fit.intercept[row], intercept, rtol=1e-11)
        np.testing.assert_allclose(fit.r2[row], 1 - residual.var() / ys.var(), rtol=1e-11)


def test_fit_decay_leaves_out_vanished_norms():
    logs = np.stack([line(0.8, 0.5, 30)] * 4)
    logs[1, 10:14] = -np.inf
    logs[2, :27] = -np.inf  # three left, lags 0, 1 and 2
    logs[3, :28] = -np.inf  # two left
    fit = probes.fit_decay(jnp.asarray(logs), 0, 29)
    assert fit.count.tolist() == [30, 26, 3, 2]
    np.testing.assert_allclose(fit.gamma[:3], 0.8, rtol=1e-12)
    for field in fit._replace(count=fit.gamma):
        assert np.isnan(field[3]) and np.isfinite(field[:3]).all()


@pytest.mark.parametrize(("first", "last"), [(-1, 5), (5, 5), (6, 5), (0, 10)])
def test_fit_decay_refuses_lags_outside_the_sequence(first, last):
    with pytest.raises(ValueError, match=rf"T = 10, got first={first}, last={last}"):
        probes.fit_decay(normal(0, (10,)), first, last)


def test_fit_decay_under_jit_and_vmap():
    logs = normal(0, (3, 20))
    plain = probes.fit_decay(logs, 1, 15)
    fit = lambda rows: probes.fit_decay(rows, 1, 15)  # noqa: E731
    for other in (jax.jit(fit)(logs), jax.vmap(fit)(logs)):
        jax.tree.map(lambda have, want: np.testing.assert_allclose(have, want, rtol=1e-12), other, plain)


def test_a_loss_that_is_not_each_examples_own_is_refused():
    cell = CELLS["elman"](3)
    params, xs = cell.init(jax.random.key(0), 2, jnp.float64), jax.random.normal(jax.random.key(1), (4, 5, 2))
    with pytest.raises(ValueError, match="each example's own loss"):
        probes.gradient_norms(cell, params, xs, loss=lambda ys: ys[-1].mean())
