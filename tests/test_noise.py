"""Noise: rates, what stays the same over time, expectations, and the same numbers from every engine."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import Hidden, elman, gru, lstm, lstm_peephole
from rnnlab.engines import fused, scan
from rnnlab.layers import highway, init_layers, layers, zero_taps
from rnnlab.noise import drop_weights, quiet, variational, zoneout
from rnnlab.probes import gradient_norms, step_jacobians
from rnnlab.unroll import unroll

T, B, D, H = 12, 16, 3, 32  # enough draws for five standard deviations to be narrow
KEY = jax.random.key(7)
close = dict(rtol=1e-12, atol=1e-12)
linear = lambda a: a  # noqa: E731

NOISY = {
    "zoneout": zoneout(lstm(H), h=0.2, c=0.4),
    "dropped weights": drop_weights(gru(H), 0.3, "U", "W"),
    "both": zoneout(drop_weights(elman(H), 0.3, "U"), h=0.2),
    "inside the LSTM": lstm(H, hidden_dropout=0.2, recurrent_dropout=0.3),
    "inside the GRU, dropped, held": zoneout(drop_weights(gru(H, recurrent_dropout=0.2), 0.3, "U"), h=0.1),
    "inside the Elman cell": elman(H, hidden_dropout=0.3),
    "a cell without local derivatives": zoneout(lstm_peephole(H), c=0.3),
    "behind a gate": highway(zoneout(lstm(D), c=0.3)),
}
every_noise = pytest.mark.parametrize("name", NOISY)


def setting(cell):
    params = cell.init(jax.random.key(0), D, jnp.float64)
    return params, jax.random.normal(jax.random.key(1), (T, B, D), jnp.float64)


def near(share, rate, draws):
    """Within five standard deviations of a binomial share."""
    assert abs(share - rate) < 5 * np.sqrt(rate * (1 - rate) / draws), (share, rate, draws)


def held_share(new, old):
    return np.asarray(new == old).mean()


def test_zoneout_holds_units_at_its_rates_anew_at_every_step():
    cell = NOISY["zoneout"]
    params, xs = setting(cell)
    carries = unroll(cell, params, xs, key=KEY).carries
    for leaf, rate in zip(carries, (0.2, 0.4), strict=True):
        held = np.asarray(leaf[1:] == leaf[:-1])
        near(held.mean(), rate, held.size)
        same = held[1:] == held[:-1]  # independent from step to step, and from row to row
        near(same.mean(), rate**2 + (1 - rate) ** 2, same.size)
        rows = held[:, 1:] == held[:, :-1]
        near(rows.mean(), rate**2 + (1 - rate) ** 2, rows.size)
    together = np.asarray(carries.h[1:] == carries.h[:-1]) & np.asarray(carries.c[1:] == carries.c[:-1])
    near(together.mean(), 0.2 * 0.4, together.size)


def test_zoneout_without_a_key_is_the_mean_of_old_and_new():
    cell, plain = NOISY["zoneout"], lstm(H)
    params, xs = setting(cell)
    carry = plain.start(params, (B,))
    for t, got in zip(range(T), zip(*unroll(cell, params, xs).carries, strict=True), strict=False):
        new = plain.step(params, carry, plain.drive(params, xs[t]))
        carry = type(carry)(h=0.2 * carry.h + 0.8 * new.h, c=0.4 * carry.c + 0.6 * new.c)
        np.testing.assert_allclose(got[0], carry.h, **close)
        np.testing.assert_allclose(got[1], carry.c, **close)


def mean_of_draws(cell, params, xs, start, draws=1000):
    """Mean and standard error of the carry after one step, over keys."""
    one = lambda key: unroll(cell, params, xs[:1], start=start, key=key).last  # noqa: E731
    drawn = jax.jit(jax.vmap(one))(jax.random.split(KEY, draws))
    return [(np.mean(leaf, axis=0), np.std(leaf, axis=0) / np.sqrt(draws)) for leaf in drawn]


@pytest.mark.parametrize("name", ["zoneout", "inside the LSTM"])
def test_the_carry_without_a_key_is_the_expectation_over_keys(name):
    """Of one step, where it is exact: c is linear in what is drawn. (h is, for zoneout.)"""
    cell = zoneout(lstm(H), h=0.2, c=0.4) if name == "zoneout" else lstm(H, recurrent_dropout=0.3)
    params, xs = setting(cell)
    start = jax.tree.map(lambda c: c + 0.5, quiet(cell).start(params, (B,))) if name == "zoneout" else None
    expected = unroll(cell, params, xs[:1], start=start).last
    found = mean_of_draws(cell, params, xs, start)
    (mean, error), leaf = (found[1], expected.c)
    assert np.all(np.abs(mean - leaf) < 6 * error + 1e-12)
    if name == "zoneout":
        assert np.all(np.abs(found[0][0] - expected.h) < 6 * found[0][1] + 1e-12)


def test_hidden_dropout_has_one_mask_for_all_steps_of_a_row():
    cell = elman(H, activation=linear, hidden_dropout=0.4)
    params, xs = setting(cell)
    params = params._replace(U=jnp.eye(H), W=0 * params.W)
    start = Hidden(jnp.ones((B, H)))
    h = np.asarray(unroll(cell, params, xs, start=start, key=KEY).carries.h)
    near((h[0] > 0).mean(), 0.6, h[0].size)
    kept = h[0] > 0
    for t in range(T):  # kept units are multiplied by 1/0.6 at every step: a fresh mask would empty them
        np.testing.assert_allclose(h[t], np.where(kept, 0.6 ** -(t + 1), 0), rtol=1e-9)
    same_rows = kept[1:] == kept[:-1]
    near(same_rows.mean(), 0.4**2 + 0.6**2, same_rows.size)
    np.testing.assert_array_equal(unroll(cell, params, xs, start=start).carries.h, 1)


def test_recurrent_dropout_drops_what_is_written_and_never_the_memory():
    cell = lstm(H, recurrent_dropout=0.3)
    params, xs = setting(cell)
    b = jnp.concatenate([jnp.full(H, value) for value in (0.3, 100.0, 0.7, 0.1)])  # f = 1: nothing is forgotten
    params = params._replace(W=0 * params.W, U=0 * params.U, b=b)
    c = np.asarray(unroll(cell, params, xs, key=KEY).carries.c)
    written = np.diff(np.concatenate([np.zeros((1, B, H)), c]), axis=0)
    once = np.tanh(0.7) / (1 + np.exp(-0.3)) / 0.7
    dropped = np.abs(written) < 1e-9
    np.testing.assert_allclose(written[~dropped], once, rtol=1e-9)
    near(dropped.mean(), 0.3, dropped.size)
    same = dropped[1:] == dropped[:-1]
    near(same.mean(), 0.3**2 + 0.7**2, same.size)


def test_recurrent_dropout_of_the_gru_drops_the_candidate():
    cell = gru(H, recurrent_dropout=0.3)
    params, xs = setting(cell)
    b = jnp.concatenate([jnp.zeros(H), jnp.zeros(H), jnp.full(H, 0.7)])
    params = params._replace(W=0 * params.W, U=0 * params.U, b=b)
    h = np.asarray(unroll(cell, params, xs, key=KEY).carries.h)
    written = h - 0.5 * np.concatenate([np.zeros((1, B, H)), h[:-1]])
    dropped = np.abs(written) < 1e-12
    np.testing.assert_allclose(written[~dropped], 0.5 * np.tanh(0.7) / 0.7, rtol=1e-9)
    near(dropped.mean(), 0.3, dropped.size)


def test_dropped_weights_are_the_same_at_every_step_and_for_every_row():
    cell = drop_weights(elman(H, activation=linear), 0.3, "U")
    params, xs = setting(cell)
    ones = jnp.ones((H, H), xs.dtype)
    start = Hidden(jnp.eye(H)[:B])  # each row reads one row of the dropped matrix, at the first step
    out = unroll(cell, params._replace(W=0 * params.W, U=ones), xs, start=start, key=KEY).carries.h
    grads = jax.grad(lambda U: unroll(cell, params._replace(U=U), xs, key=KEY).ys.sum())(ones)
    dropped = np.asarray(grads) == 0
    near(dropped.mean(), 0.3, dropped.size)
    matrix = np.where(dropped, 0, 1 / 0.7)
    np.testing.assert_allclose(out[0], matrix[:B], **close)
    np.testing.assert_allclose(out[1], out[0] @ matrix, rtol=1e-9)
    plain = unroll(elman(H, activation=linear), params, xs).ys
    np.testing.assert_array_equal(unroll(cell, params, xs).ys, plain)


def test_variational_dropout_has_one_mask_for_all_steps_of_a_row():
    xs = jnp.ones((T, B, 40))
    dropped = np.asarray(variational(xs, 0.25, KEY))
    assert (dropped == dropped[:1]).all()
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.75])
    near((dropped[0] == 0).mean(), 0.25, dropped[0].size)
    near((dropped[0, 1:] == dropped[0, :-1]).mean(), 0.25**2 + 0.75**2, dropped[0, 1:].size)
    assert variational(xs, 0.25, None) is xs


def test_layers_drop_what_each_layer_reads_by_its_own_rate_and_mask():
    through = elman(H)._replace(read=lambda weights, carry, xs: xs)
    params = init_layers((through,) * 3, jax.random.key(0), H, jnp.float64)
    ones = jnp.ones((T, B, H))
    ys = np.asarray(layers((through,) * 3, params, ones, dropout=(0.2, 0.0, 0.5), key=KEY).ys)
    assert (ys == ys[:1]).all()
    near((ys[0] > 0).mean(), 0.8 * 0.5, ys[0].size)
    np.testing.assert_array_equal(layers((through,) * 3, params, ones, dropout=0.5).ys, ones)
    with pytest.raises(ValueError, match="layers: expected dropout for 3 layers, got 2"):
        layers((through,) * 3, params, ones, dropout=(0.2, 0.1), key=KEY)


def test_deep_stacks_draw_anew_in_every_layer():
    stack = (zoneout(lstm(D), h=0.3),) * 9  # one scan over the layers
    params = init_layers(stack, jax.random.key(0), D, jnp.float64)
    xs = setting(stack[0])[1]
    out = layers(stack, params, xs, key=KEY)
    held = [np.asarray(one.h[1:] == one.h[:-1]) for one in out.carries]
    assert all((a != b).any() for a, b in itertools.pairwise(held))
    near(np.mean(held), 0.3, np.size(held))


@every_noise
@pytest.mark.parametrize("key", [None, KEY], ids=["evaluation", "training"])
def test_every_engine_gives_the_same_numbers(name, key):
    """Outputs and every gradient, masked, reversed, with restarts and taps; plain, in chunks, and fused."""
    cell = NOISY[name]
    params, xs = setting(cell)
    taps = zero_taps(cell, params, T, (B,))
    lengths = np.arange(B) % (T + 1)
    resets = jax.random.bernoulli(jax.random.key(3), 0.2, (T, B))

    def loss(engine, chunk, params, xs, taps):
        how = dict(lengths=lengths, resets=resets, reverse=True, engine=engine, chunk=chunk, key=key)
        return (unroll(cell, params, xs, taps=taps, **how).ys ** 2).sum()

    def graded(engine, chunk):
        return jax.jit(jax.value_and_grad(lambda *args: loss(engine, chunk, *args), (0, 1, 2)))(params, xs, taps)

    expected = graded(scan, None)
    for engine, chunk in (
        (fused if cell.local else scan, 5),
        *([(fused, None)] if cell.local and key is not None else []),
    ):
        jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, **close), graded(engine, chunk), expected)
    assert (cell.local is None) == ("inside" in name or "without" in name)


@every_noise
def test_keys_decide_and_evaluation_needs_none(name):
    cell = NOISY[name]
    params, xs = setting(cell)
    one, same, other = (unroll(cell, params, xs, key=jax.random.key(seed)).ys for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (np.asarray(one) != np.asarray(other)).any()
    np.testing.assert_array_equal(unroll(cell, params, xs).ys, unroll(quiet(cell), params, xs).ys)
    assert gradient_norms(cell, params, xs, loss=lambda ys: ys[-1].sum(-1)).joint.shape == (1, T, B)
    assert step_jacobians(cell, params, xs[:, 0]).shape[0] == T


def test_a_key_means_nothing_to_a_cell_without_noise():
    params, xs = setting(lstm(H))
    np.testing.assert_array_equal(unroll(lstm(H), params, xs, key=KEY).ys, unroll(lstm(H), params, xs).ys)
    assert lstm(H, recurrent_dropout=0.0).noise is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: zoneout(lstm(H), h=1.0), r"zoneout: expected a rate in \[0, 1\), got h=1.0"),
        (lambda: lstm(H, recurrent_dropout=-0.1), r"dropout: expected a rate in \[0, 1\), got candidate=-0.1"),
        (lambda: drop_weights(lstm(H), 2, "U"), r"drop_weights: expected a rate in \[0, 1\), got rate=2"),
        (lambda: drop_weights(lstm(H), 0.5), "drop_weights: expected the names of weights, such as 'U', got none"),
        (lambda: used(drop_weights(lstm(H), 0.5, "X")), "drop_weights: expected names among W, U, b, R, got 'X'"),
        (lambda: used(zoneout(lstm(H), x=0.5)), "zoneout: expected names among h, c, got 'x'"),
        (lambda: variational(jnp.ones((2, 3)), 1.5, KEY), r"variational: expected a rate in \[0, 1\), got rate=1.5"),
    ],
)
def test_wrong_arguments_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_parts_without_names_are_refused():
    bare = elman(H)._replace(start=lambda weights, batch_shape: jnp.zeros((*batch_shape, H)))
    with pytest.raises(TypeError, match="zoneout: expected a cell whose parts have names, NamedTuples, got "):
        used(zoneout(bare, h=0.5))


def used(cell):
    params, xs = setting(cell)
    return unroll(cell, params, xs, key=KEY)
