"""The tagger: what its loss counts, what it reads of a word, what is dropped, and that padding does not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import cells, crf
from rnnlab.models.tagger import AXES, PADDING, UNKNOWN, Tagger, Vocabularies, Widths, Words, chain, softmax
from rnnlab.train.optimisers import optimiser, schedule
from rnnlab.train.state import init_state
from rnnlab.train.step import train_step
from rnnlab.types import Directions

T, B, W, H = 6, 4, 5, 7
NAMES = ("O", "B-x", "I-x", "B-y")
C = len(NAMES)
SIZES = Vocabularies(words=11, characters=9, shapes=3, tags=C)
WIDTHS = Widths(word=5, character=4, shape=2, filters=6, window=3)
LENGTHS = np.array([6, 3, 1, 0], np.int32)
INSIDE = np.arange(T)[:, None] < LENGTHS
HEADS = {"softmax": softmax(), "crf": chain(crf.bio(NAMES))}
pytestmark = pytest.mark.usefixtures("allow_promotion")


def made(head, layers=1, **how):
    both = Directions(cells.elman(H), cells.gru(H))
    return Tagger((both,) * layers, SIZES, HEADS[head], WIDTHS, **how)


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(0)
    spelled = random.integers(1, SIZES.characters, (T, B, W))
    spelled[np.arange(W) >= random.integers(1, W + 1, (T, B, 1))] = PADDING
    tags = random.choice([0, 1, 3], (T, B))  # every path is allowed
    given = (random.integers(0, SIZES.words, (T, B)), spelled, random.integers(0, SIZES.shapes, (T, B)), LENGTHS, tags)
    return Words(*(jnp.asarray(one, jnp.int32) for one in given))


@pytest.fixture(scope="module", params=HEADS)
def model(request):
    model = made(request.param)
    with jax.numpy_dtype_promotion("standard"):
        return model, model.init(jax.random.key(1), jnp.float64)


def test_the_loss_is_each_rows_own_and_the_sum_of_its_terms(model, batch):
    model, params = model
    found, terms = jax.jit(model.loss)(params, None, batch, None), jax.jit(model.terms)(params, batch)
    scores, _ = jax.jit(model.scores)(params, batch)
    own = crf.constrained(params.decoder, crf.bio(NAMES)) if params.decoder else None
    likelihood = jax.jit(crf.negative_log_likelihood)
    for row, length in enumerate(LENGTHS):
        mine, tags = np.asarray(scores[:length, row]), np.asarray(batch.tags[:length, row])
        if own is None:
            expected = np.log(np.exp(mine).sum(-1)).sum() - mine[np.arange(length), tags].sum()
        else:
            expected = likelihood(own, mine, tags) if length else 0
        np.testing.assert_allclose(found.each[row], expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(terms.sum(0), found.each, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(terms[~INSIDE], 0)
    np.testing.assert_array_equal(found.count, LENGTHS)
    np.testing.assert_array_equal(found.keep, INSIDE)


def test_what_is_decoded_and_its_chances_are_those_of_the_decoder(model, batch):
    model, params = model
    tags, chances = jax.jit(model.decode)(params, batch), jax.jit(model.marginals)(params, batch)
    np.testing.assert_allclose(np.where(INSIDE, chances.sum(-1), 1), 1, rtol=1e-9)
    assert not np.any(np.asarray(chances)[~INSIDE]) and not np.any(np.asarray(tags)[~INSIDE])
    scores, _ = jax.jit(model.scores)(params, batch)
    if params.decoder:
        best = crf.viterbi(crf.constrained(params.decoder, crf.bio(NAMES)), scores, LENGTHS).tags
    else:
        best = np.where(INSIDE, np.asarray(scores).argmax(-1), 0)
        np.testing.assert_array_equal(np.asarray(chances).argmax(-1)[INSIDE], best[INSIDE])
    np.testing.assert_array_equal(tags, best)
    assert len(set(np.asarray(tags)[INSIDE].tolist())) > 1


def test_what_is_in_the_padding_changes_nothing(model, batch):
    model, params = model
    inside = jnp.asarray(INSIDE)
    torn = Words(
        jnp.where(inside, batch.words, 7), jnp.where(inside[..., None], batch.characters, 8),
        jnp.where(inside, batch.shapes, 2), batch.lengths, jnp.where(inside, batch.tags, 3),
    )  # fmt: skip
    total = jax.jit(jax.value_and_grad(lambda params, batch: model.loss(params, None, batch, None).each.sum()))
    (one, mine), (two, other) = total(params, batch), total(params, torn)
    np.testing.assert_allclose(one, two, rtol=1e-12)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    longer = jax.tree.map(lambda leaf, axis: jnp.pad(leaf, [(0, 3), *[(0, 0)] * (leaf.ndim - 1)]) if axis else leaf,
                          batch, AXES)  # fmt: skip
    np.testing.assert_allclose(jax.jit(model.loss)(params, None, longer, None).each.sum(), one, rtol=1e-12)


def test_the_spelling_is_the_largest_answer_of_a_window_anywhere_in_the_word():
    model = made("softmax")
    params = model.init(jax.random.key(2), jnp.float64)
    bias = jax.random.normal(jax.random.key(10), (WIDTHS.filters,), jnp.float64)
    params = params._replace(spelling={"params": params.spelling["params"] | {"bias": 3 * bias}})
    word, longer = jnp.asarray([3, 1, 4, 0, 0]), jnp.asarray([3, 1, 4, 0, 0, 0, 0])
    table, dense = params.characters["params"]["embedding"], params.spelling["params"]
    padded = np.concatenate([np.zeros((1, 4)), np.asarray(table)[[3, 1, 4]], np.zeros((1, 4))])
    answers = [padded[n : n + 3].ravel() @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"]) for n in range(3)]
    expected = np.maximum(np.max(answers, axis=0), 0)
    assert 0 < (expected > 0).sum() < len(expected)
    np.testing.assert_allclose(model.spelling(params, word), expected, rtol=1e-9)
    np.testing.assert_allclose(model.spelling(params, longer), expected, rtol=1e-9)
    assert not np.any(model.spelling(params, jnp.zeros(W, jnp.int32)))


def test_rare_words_are_forgotten_by_each_rows_own_key(batch):
    counts = np.arange(SIZES.words) ** 3  # 0 of the unknown one
    model = made("softmax", counts=counts, forgotten=8.0)
    params = model.init(jax.random.key(3), jnp.float64)
    words, table = jnp.asarray(np.tile([[1, 2, 10]], (4000, 1)), jnp.int32), params.words["params"]["embedding"]
    many = Words(words, jnp.ones((4000, 3, W), jnp.int32), 0 * words, jnp.full(3, 4000, jnp.int32))
    keys = jax.random.split(jax.random.key(4), 3)
    read = np.asarray(model.features(params, many, keys))[..., : WIDTHS.word]
    gone = (read == np.asarray(table[UNKNOWN])).all(-1)
    kept = (read == np.asarray(table)[np.asarray(words)]).all(-1)
    assert (gone ^ kept).all()
    np.testing.assert_allclose(gone.mean(0), 8 / (8 + counts[[1, 2, 10]]), atol=0.03)
    alone = jax.tree.map(lambda leaf, axis: leaf[1:2] if axis == 0 else leaf[:, 1:2], many, AXES._replace(tags=None))
    np.testing.assert_array_equal(model.features(params, alone, keys[1:2])[..., : WIDTHS.word], read[:, 1:2])
    whole = np.asarray(model.features(params, many))[..., : WIDTHS.word]
    np.testing.assert_array_equal(whole, np.asarray(table)[np.asarray(words)])


def test_dropout_is_each_rows_own_and_none_without_keys(batch):
    model = made("softmax", dropout=0.5)
    params, keys = model.init(jax.random.key(5), jnp.float64), jax.random.split(jax.random.key(6), B)
    whole, _ = model.scores(params, batch, keys)
    assert np.abs(whole[:, 0] - model.scores(params, batch)[0][:, 0]).max() > 0.05
    swapped = jax.tree.map(lambda leaf, axis: jnp.flip(leaf, axis), batch, AXES)
    other, _ = model.scores(params, swapped, keys[::-1])
    np.testing.assert_allclose(other[:, ::-1], whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("head", ["crf", pytest.param("softmax", marks=pytest.mark.slow)])
def test_a_step_trains_every_part_and_sees_every_layer_both_ways(head, batch):
    model = made(head, layers=2, dropout=0.2, counts=np.ones(SIZES.words, np.int32))
    params, adam = model.init(jax.random.key(7)), optimiser("adam", schedule("constant", peak=1e-2, steps=9, warm_up=0))
    before = jax.tree.map(np.asarray, params)
    state = init_state(params, adam, jax.random.key(8), ())
    step = train_step(model.loss, adam, axes=AXES, taps=model.taps, clip=1.0)
    losses = []
    for _ in range(30):
        state, metrics = step(state, batch)
        losses.append(float(metrics.loss))
    assert metrics.norms.joint.shape == (4, T) and np.isfinite(metrics.norms.joint[:, 0]).all()
    assert losses[-1] < 0.6 * losses[0]
    moved = jax.tree.map(lambda a, b: bool(np.any(a != np.asarray(b))), before, state.params)
    assert all(jax.tree.leaves(moved))


def test_taps_give_the_gradient_at_every_word_and_none_at_padding(batch):
    model = made("crf", layers=2)
    params = model.init(jax.random.key(9), jnp.float64)
    total = lambda taps: model.loss(params, taps, batch, None).each.sum()  # noqa: E731
    pulled = jax.jit(jax.grad(total))(model.taps(params, batch))
    assert len(pulled) == 2 and all(isinstance(one, Directions) for one in pulled)
    for leaf in jax.tree.leaves(pulled):
        sizes = np.abs(leaf).max(-1)
        assert (sizes[INSIDE] > 0).all() and not sizes[~INSIDE].any()
