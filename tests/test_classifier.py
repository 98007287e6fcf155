"""The classifier of texts against its written-out equations, and what its padding, dropout and n-grams must not do."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import cells
from rnnlab.layers import residual
from rnnlab.models.classifier import AXES, POOLS, Classifier, Texts
from rnnlab.types import Directions

pytestmark = pytest.mark.usefixtures("allow_promotion")

SEED = int.from_bytes(os.urandom(4), "big")
V, E, C, T, B, G = 9, 4, 3, 7, 5, 6
FORWARD = (cells.elman(3),)
BOTH = (Directions(cells.elman(3), cells.elman(2)),)


def texts(seed: int, steps: int = T, rows: int = B) -> Texts:
    rng = np.random.default_rng([SEED, seed])
    lengths = np.append(rng.integers(1, steps + 1, rows - 2), [steps, 0]).astype(np.int32)
    ids, labels = rng.integers(0, V, (steps, rows)), rng.integers(0, C, rows)
    return Texts(*map(jnp.asarray, (ids, lengths, labels, rng.integers(0, G, (steps, rows, 2)))))


def made(stack=FORWARD, **how):
    model = Classifier(stack, V, E, C, **how)
    grams = jax.random.normal(jax.random.key(SEED % 1000), (G, C), jnp.float64)
    return model, model.init(jax.random.key(1), jnp.float64, grams=grams)


def elman(params, xs: np.ndarray) -> np.ndarray:
    """h_t = tanh(x_t W + h_{t-1} U + b), in NumPy."""
    h, hs = np.zeros(len(params.b)), []
    for x in xs:
        h = np.tanh(x @ params.W + h @ params.U + params.b)
        hs.append(h)
    return np.array(hs)


def outputs(stack, params, xs: np.ndarray) -> np.ndarray:
    if stack is FORWARD:
        return elman(params.stack[0], xs)
    forward, backward = params.stack[0]
    return np.concatenate([elman(forward, xs), elman(backward, xs[::-1])[::-1]], axis=1)


@pytest.mark.parametrize(("pool", "stack"), [("last", FORWARD), ("mean", FORWARD), ("max", BOTH)])
def test_the_loss_is_that_of_the_written_out_model(pool, stack):
    model, params = made(stack, pool=POOLS[pool])
    batch = texts(0)
    found = jax.jit(model.loss)(params, None, batch, None)
    params = jax.tree.map(np.asarray, params)
    batch = jax.tree.map(np.asarray, batch)
    kernel, bias = (params.readout["params"][name] for name in ("kernel", "bias"))
    for row, length in enumerate(batch.lengths):
        if not length:
            assert found.each[row] == found.count[row] == found.aux["right"][row] == 0
            continue
        xs = params.embed["params"]["embedding"][batch.ids[:length, row]]
        ys = outputs(stack, params, xs)
        pooled = {"last": ys[-1], "mean": ys.mean(0), "max": ys.max(0)}[pool]
        logits = pooled @ kernel + bias
        grams = batch.grams[:length, row].ravel()
        logits = logits + sum((params.grams[g] for g in grams if g), np.zeros(C))
        label = int(batch.labels[row])
        expected = np.log(np.exp(logits).sum()) - logits[label]
        np.testing.assert_allclose(found.each[row], expected, rtol=1e-10)
        assert found.aux["right"][row] == (np.argmax(logits) == label) and found.count[row] == 1


@pytest.mark.parametrize("pool", POOLS)
def test_the_running_score_is_that_of_every_prefix(pool):
    model, params = made(pool=POOLS[pool])
    batch = texts(1)._replace(lengths=jnp.full(B, T, jnp.int32))
    running = jax.jit(model.running)(params, batch)
    logits = jax.jit(lambda params, batch: model.logits(params, batch)[0])
    for t in range(T):
        prefix = batch._replace(lengths=jnp.full(B, t + 1, jnp.int32))
        np.testing.assert_allclose(running[t], logits(params, prefix), rtol=1e-9, atol=1e-12)


def test_a_bidirectional_reading_has_no_running_score():
    model, params = made(BOTH)
    with pytest.raises(ValueError, match="bidirectional"):
        model.running(params, texts(1))


@pytest.mark.parametrize("pool", ["last", "max"])
def test_padding_changes_neither_loss_nor_gradient(pool):
    model, params = made(pool=POOLS[pool], dropout=0.4, word_dropout=0.4)
    batch, keys = texts(2), jax.random.split(jax.random.key(3), B)
    pad = lambda a, fill: jnp.concatenate([a, jnp.full((4, *a.shape[1:]), fill, a.dtype)])  # noqa: E731
    longer = batch._replace(ids=pad(batch.ids, 1), grams=pad(batch.grams, 2))

    def total(params, batch):
        return model.loss(params, None, batch, keys).each.sum()

    pairs = zip(*(jax.tree.leaves(jax.jit(jax.value_and_grad(total))(params, b)) for b in (batch, longer)), strict=True)
    for plain, padded in pairs:
        np.testing.assert_allclose(plain, padded, rtol=1e-9, atol=1e-12)


def test_a_dropped_word_is_the_unknown_one_and_its_grams_are_none():
    model, params = made(word_dropout=0.999999, unknown=3)
    each = jax.jit(lambda batch, keys: model.loss(params, None, batch, keys).each)
    batch, keys = texts(3), jax.random.split(jax.random.key(0), B)
    nothing = batch._replace(ids=jnp.full_like(batch.ids, 3), grams=jnp.zeros_like(batch.grams))
    np.testing.assert_allclose(each(batch, keys), each(nothing, None), rtol=1e-10)
    assert np.all((each(nothing, None) != each(batch, None)) | (batch.lengths == 0))


def test_dropout_is_drawn_by_each_rows_own_key():
    stack = (cells.elman(E), cells.elman(E))
    model, params = made(stack, dropout=0.5, word_dropout=0.3, join=residual)
    each = jax.jit(lambda batch, keys: model.loss(params, None, batch, keys).each)
    batch, keys = texts(4), jax.random.split(jax.random.key(5), B)
    order = np.random.default_rng(SEED).permutation(B)
    moved = jax.tree.map(lambda leaf, axis: jnp.take(leaf, order, axis), batch, AXES)
    np.testing.assert_allclose(each(batch, keys)[order], each(moved, keys[order]), rtol=1e-10)
    assert np.std(np.asarray(each(batch, keys) - each(batch, jax.random.split(jax.random.key(6), B)))) > 0


def test_taps_give_the_gradient_of_every_carry_and_padding_none():
    model, params = made()
    batch = texts(6)
    pulled = jax.jit(jax.grad(lambda taps: model.loss(params, taps, batch, None).each.sum()))(model.taps(params, batch))
    there = np.arange(T)[:, None] < np.asarray(batch.lengths)
    for leaf in jax.tree.leaves(pulled):
        assert np.all(np.abs(leaf).sum(-1)[~there] == 0)
        assert np.all(np.abs(leaf).sum(-1)[there] > 0)


def test_a_model_without_ngrams_has_no_such_parameters():
    model = Classifier(FORWARD, V, E, C)
    params = model.init(jax.random.key(0), jnp.float64)
    assert params.grams is None
    batch = texts(7)
    zeros = params._replace(grams=jnp.zeros((G, C)))
    logits = jax.jit(lambda params: model.logits(params, batch)[0])
    np.testing.assert_allclose(logits(params), logits(zeros), rtol=1e-12)
