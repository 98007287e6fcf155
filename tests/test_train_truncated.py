"""Truncated backpropagation through time: carries that go on from chunk to chunk, and rows that begin anew."""

from typing import NamedTuple

import elman_loops
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import cells, train
from rnnlab.cells.hidden import Hidden
from rnnlab.layers import layers, zero_taps
from rnnlab.losses import Losses
from rnnlab.models.language_model import Chunk, LanguageModel
from rnnlab.wrappers import hold

pytestmark = pytest.mark.usefixtures("allow_promotion")

T, B, D, H, L = 4, 4, 3, 5, 2
STACK = (cells.elman(H),) * L
RATE = 0.2


class Part(NamedTuple):
    """xs: [T, B, D]. lengths, resets: [B]."""

    xs: np.ndarray
    lengths: np.ndarray
    resets: np.ndarray


def loss(params, taps, batch, keys, carry) -> Losses:
    fresh = jax.tree.map(jnp.zeros_like, carry)
    begun = hold(batch.resets, fresh, carry)
    out = layers(STACK, params["stack"], batch.xs, taps=taps, lengths=batch.lengths, start=begun)
    each = ((out.ys @ params["head"]) ** 2).sum(0)
    return Losses(each, batch.lengths.astype(each.dtype), out.last, out.carries)


def test_chunks_are_the_loops_with_the_carry_of_the_chunk_before():
    """Three chunks, in pieces of two rows: a row begins anew in the second, one has no steps there."""
    random = np.random.default_rng(8)
    elman = jax.eval_shape(lambda: STACK[0].init(jax.random.key(0), D))
    stack = [type(elman)(*(random.normal(size=s) / 2 for s in ((d, H), (H, H), (H,)))) for d in (D, H)]
    params = {"stack": tuple(stack), "head": random.normal(size=H)}
    optimiser = train.optimiser("sgd", train.schedule("constant", peak=RATE, steps=1, warm_up=0))
    carry = tuple(Hidden(jnp.asarray(random.normal(size=(B, H)))) for _ in range(L))
    step = train.train_step(
        loss, optimiser, axes=Part(1, 0, 0), accumulate=2,
        taps=lambda params, batch: zero_taps(STACK, params["stack"], T, batch.lengths.shape),
    )  # fmt: skip
    state = train.init_state(jax.tree.map(jnp.asarray, params), optimiser, jax.random.key(0), carry)
    carries = [[np.asarray(layer.h)[row] for layer in carry] for row in range(B)]
    for n, lengths in enumerate(([T] * B, [T, T, 0, 2], [T] * B)):
        part = Part(random.normal(size=(T, B, D)), np.array(lengths), np.array([n == 1, False, False, False]))
        state, seen = step(state, part)
        total = 0
        for row, length in enumerate(lengths):
            begun = None if part.resets[row] else carries[row]
            value, gradient, _, carries[row], _ = elman_loops.row(params, part.xs[:length, row], begun)
            total = jax.tree.map(np.add, total, (value, gradient)) if row else (value, gradient)
        np.testing.assert_allclose(seen.loss, total[0] / sum(lengths), rtol=1e-12)
        params = jax.tree.map(lambda p, g, count=sum(lengths): p - RATE * g / count, params, total[1])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), state.params, params)
        for row in range(B):
            for layer in range(L):
                np.testing.assert_allclose(np.asarray(state.carry[layer].h)[row], carries[row][layer], rtol=1e-12)


# The language model.

V, E, CHUNKS = 9, 3, 3
MODEL = LanguageModel((cells.elman(H), cells.elman(H)), V, E)


@pytest.fixture(scope="module")
def given():
    """Parameters, ids of the whole text [CHUNKS * T + 1, B], and the compiled loss of one chunk."""
    with jax.numpy_dtype_promotion("standard"):
        shapes = jax.eval_shape(lambda key: MODEL.init(key, jnp.float64), jax.random.key(4))
        random = np.random.default_rng(4)
        params = jax.tree.map(lambda s: jnp.asarray(random.normal(size=s.shape) / 2), shapes)
        ids = np.random.default_rng(6).integers(0, V, (CHUNKS * T + 1, B)).astype(np.int32)
        return params, ids, jax.jit(lambda params, batch, carry: MODEL.loss(params, None, batch, None, carry))


def chunk(ids, n: int, resets=(False,) * B) -> Chunk:
    return Chunk(ids[n * T : (n + 1) * T + 1], np.full(B, T, np.int32), np.array(resets))


def test_chunks_of_a_text_go_through_the_carries_of_the_text(given):
    params, ids, loss = given
    carry, each = MODEL.start(params, B), 0
    for n in range(CHUNKS):
        found = loss(params, chunk(ids, n), carry)
        carry, each = found.carry, each + found.each
    whole = jax.jit(lambda params, ids: MODEL.losses(params, ids))(params, jnp.asarray(ids))
    np.testing.assert_allclose(each, whole.sum(0), rtol=1e-12)
    assert found.count.tolist() == [T] * B


def test_a_row_that_is_reset_is_a_fresh_one(given):
    params, ids, loss = given
    begun = loss(params, chunk(ids, 0), MODEL.start(params, B)).carry
    mixed = loss(params, chunk(ids, 1, (True, False, True, False)), begun)
    fresh, gone_on = (loss(params, chunk(ids, 1), carry) for carry in (MODEL.start(params, B), begun))
    for look in (lambda found: np.asarray(found.each), lambda found: np.asarray(found.carry[1].h)):
        np.testing.assert_array_equal(look(mixed)[::2], look(fresh)[::2])
        np.testing.assert_array_equal(look(mixed)[1::2], look(gone_on)[1::2])
    assert not np.any(fresh.each == gone_on.each)


def test_a_chunk_from_no_carry_begins_and_ends_with_none(given):
    params, ids, loss = given
    found, begun = (jax.eval_shape(loss, params, chunk(ids, 0), carry) for carry in ((), MODEL.start(params, B)))
    in_chunks = jax.eval_shape(lambda: MODEL.loss(params, None, chunk(ids, 0), None, (), chunk=2))
    assert found.carry == () and in_chunks.carries is None
    assert found.carries == begun.carries == jax.eval_shape(MODEL.taps, params, chunk(ids, 0))


@pytest.mark.slow
def test_a_chunk_as_long_as_the_text_is_all_of_backpropagation(given):
    params, ids, loss = given

    @jax.jit
    def slopes(params, batch):
        total = lambda params, carry: loss(params, batch, carry).each.sum()  # noqa: E731
        whole = jax.grad(lambda params: MODEL.losses(params, batch.ids).sum())(params)
        return [whole, *(jax.grad(total)(params, carry) for carry in (MODEL.start(params, B), ()))]

    whole, carried, begun = slopes(params, chunk(ids, 0))
    for found in (carried, begun):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, whole)
