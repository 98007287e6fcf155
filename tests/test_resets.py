"""Sequences end to end in one row equal the sequences one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import CELLS, Hidden, elman, gru, lstm
from rnnlab.engines import fused, scan
from rnnlab.layers import init_layers, layers
from rnnlab.types import Directions
from rnnlab.unroll import unroll

D, H = 3, 5
PIECES = (4, 1, 6)  # lengths of the sequences in the row
T = sum(PIECES)
BEGINS = np.isin(np.arange(T), np.cumsum((0, *PIECES)))[:, None]
close = dict(rtol=1e-12, atol=1e-12)


def packed(key=0):
    return jax.random.normal(jax.random.key(key), (T, 1, D), jnp.float64)


def one_by_one(run, xs):
    return jnp.concatenate([run(piece) for piece in jnp.split(xs, np.cumsum(PIECES)[:-1])])


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("name", ["elman", "lstm", "gru", "gru_before", "scrn"])
def test_a_packed_row_is_its_sequences(name, chunk, reverse):
    cell = CELLS[name](H)
    params, xs = cell.init(jax.random.key(1), D, jnp.float64), packed()
    loss = lambda ys: (ys**2).sum() + ys[-1].sum()  # noqa: E731

    def together(params, xs):
        ys = unroll(cell, params, xs, resets=BEGINS, chunk=chunk, reverse=reverse).ys
        return loss(ys), ys

    def apart(params, xs):
        ys = one_by_one(lambda piece: unroll(cell, params, piece, reverse=reverse).ys, xs)
        return loss(ys), ys

    got, expected = (jax.value_and_grad(f, (0, 1), has_aux=True)(params, xs) for f in (together, apart))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), got, expected)


def test_stacks_in_both_directions():
    stack = (Directions(lstm(H), gru(H)), elman(H))
    params, xs = init_layers(stack, jax.random.key(1), D, jnp.float64), packed()
    apart = one_by_one(lambda piece: layers(stack, params, piece).ys, xs)
    np.testing.assert_allclose(layers(stack, params, xs, resets=BEGINS).ys, apart, **close)


def test_sequences_may_stand_apart_with_padding_between():
    """In reverse a sequence then ends at padding: the restart counts there too."""
    cell = lstm(H)
    params, xs = cell.init(jax.random.key(1), D, jnp.float64), packed()
    gap, at = 2, PIECES[0]
    spaced = jnp.concatenate([xs[:at], jnp.full((gap, 1, D), jnp.nan), xs[at:]])
    keep = np.ones((T + gap, 1), bool)
    keep[at : at + gap] = False
    begins = np.insert(BEGINS, at, [[False]] * gap, axis=0)
    for reverse in (False, True):
        ys = unroll(cell, params, spaced, keep=keep, resets=begins, reverse=reverse).ys
        expected = unroll(cell, params, xs, resets=BEGINS, reverse=reverse).ys
        np.testing.assert_allclose(ys[keep[:, 0]], expected, **close)


def test_a_start_that_is_learned_gets_its_gradient_on_every_engine():
    cell = elman(H)._replace(start=lambda weights, shape: Hidden(jnp.broadcast_to(weights.b, (*shape, H))))
    params = cell.init(jax.random.key(1), D, jnp.float64)._replace(b=jnp.linspace(-1, 1, H))
    xs = jnp.concatenate([packed(), packed(5)], axis=1)
    resets = jax.random.bernoulli(jax.random.key(2), 0.4, (T, 2))
    grads = [
        jax.grad(lambda p, e=engine: (unroll(cell, p, xs, resets=resets, engine=e).ys ** 2).sum())(params)
        for engine in (scan, fused)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), *grads)


def test_a_start_that_is_given_is_for_the_first_sequence_alone():
    cell = gru(H)
    params, xs = cell.init(jax.random.key(1), D, jnp.float64), packed()
    start = jax.tree.map(lambda c: c + 1, cell.start(params, (1,)))
    later = BEGINS.copy()
    later[0] = False
    ys = unroll(cell, params, xs, start=start, resets=later).ys
    first = unroll(cell, params, xs[: PIECES[0]], start=start).ys
    rest = unroll(cell, params, xs, resets=BEGINS).ys[PIECES[0] :]
    np.testing.assert_allclose(ys, jnp.concatenate([first, rest]), **close)


def test_wrong_resets_are_named():
    cell = gru(H)
    params = cell.init(jax.random.key(1), D, jnp.float64)
    with pytest.raises(ValueError, match=r"unroll: expected resets of shape \(11, 1\) and type bool, got \(11,\) bool"):
        unroll(cell, params, packed(), resets=BEGINS[:, 0])
