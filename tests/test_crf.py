"""The linear-chain CRF against a sum over every path, and against an independent package."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pycrfsuite
import pytest

from rnnlab import crf

T, B, C = 5, 6, 4
LENGTHS = np.arange(B, dtype=np.int32)  # every one from 0 to T


@pytest.fixture(scope="module")
def chain():
    random = np.random.default_rng(0)
    return crf.Chain(*(jnp.asarray(2 * random.normal(size=size)) for size in ((C, C), C, C)))


@pytest.fixture(scope="module")
def emissions():
    return jnp.asarray(2 * np.random.default_rng(1).normal(size=(T, B, C)))


@pytest.fixture(scope="module")
def tags():
    return jnp.asarray(np.random.default_rng(2).integers(0, C, (T, B)), jnp.int32)


def plain_score(chain, emissions, path):
    """Of one row's path, as its definition says it; emissions [T, C]."""
    A, start, end = (np.asarray(one) for one in chain)
    if not len(path):
        return 0.0
    steps = sum(emissions[t, c] for t, c in enumerate(path))
    return start[path[0]] + steps + sum(A[i, j] for i, j in itertools.pairwise(path)) + end[path[-1]]


def every_path(chain, emissions, length):
    """All C^length paths of a row and their scores."""
    paths = list(itertools.product(range(emissions.shape[-1]), repeat=length))
    return paths, np.array([plain_score(chain, emissions, path) for path in paths])


def rows(emissions):
    return [(row, int(length), np.asarray(emissions[:, row])) for row, length in enumerate(LENGTHS)]


def test_partition_marginals_and_viterbi_are_those_of_every_path(chain, emissions):
    found = crf.log_partition(chain, emissions, LENGTHS)
    shares, best = crf.marginals(chain, emissions, LENGTHS), crf.viterbi(chain, emissions, LENGTHS)
    for row, length, own in rows(emissions):
        paths, scores = every_path(chain, own, length)
        total = np.log(np.exp(scores).sum())
        np.testing.assert_allclose(found[row], total, rtol=1e-12, atol=1e-12)
        expected = np.zeros((T, C))
        for path, share in zip(paths, np.exp(scores - total), strict=True):
            for t, c in enumerate(path):
                expected[t, c] += share
        np.testing.assert_allclose(shares[:, row], expected, rtol=1e-10, atol=1e-12)
        np.testing.assert_array_equal(best.tags[:, row], [*paths[scores.argmax()], *[0] * (T - length)])
        np.testing.assert_allclose(best.score[row], scores.max(), rtol=1e-12, atol=1e-12)


def test_score_and_likelihood_are_those_of_one_path(chain, emissions, tags):
    score = crf.score(chain, emissions, tags, LENGTHS)
    nats = crf.negative_log_likelihood(chain, emissions, tags, LENGTHS)
    for row, length, own in rows(emissions):
        mine = plain_score(chain, own, np.asarray(tags[:length, row]).tolist())
        np.testing.assert_allclose(score[row], mine, rtol=1e-12, atol=1e-12)
        _, scores = every_path(chain, own, length)
        np.testing.assert_allclose(nats[row], np.log(np.exp(scores).sum()) - mine, rtol=1e-11, atol=1e-11)
    assert score[0] == nats[0] == 0


def test_the_terms_of_the_loss_are_the_chances_of_each_step_after_those_before(chain, emissions, tags):
    terms = crf.conditionals(chain, emissions, tags, LENGTHS)
    nats = crf.negative_log_likelihood(chain, emissions, tags, LENGTHS)
    np.testing.assert_allclose(terms.sum(0), nats, rtol=1e-11, atol=1e-12)
    for row, length, own in rows(emissions):
        paths, scores = every_path(chain, own, length)
        mine, chances = np.asarray(tags[:, row]).tolist(), [1.0]
        for t in range(1, length + 1):
            inside = [path[:t] == tuple(mine[:t]) for path in paths]
            chances.append(np.exp(scores)[inside].sum() / np.exp(scores).sum())
        np.testing.assert_allclose(terms[:length, row], -np.diff(np.log(chances)), rtol=1e-10, atol=1e-12)
        assert not np.any(terms[length:, row])


def test_the_gradient_is_that_of_a_sum_over_every_path(chain, emissions, tags):
    def brute(chain, emissions):
        total = jnp.zeros(())
        for row, length in enumerate(LENGTHS.tolist()):
            paths = np.array(list(itertools.product(range(C), repeat=length)), int)
            if not length:
                continue
            steps = emissions[np.arange(length), row][np.arange(length), paths].sum(1)
            moves = chain.transitions[paths[:, :-1], paths[:, 1:]].sum(1)
            scores = steps + moves + chain.start[paths[:, 0]] + chain.end[paths[:, -1]]
            mine = (paths == np.asarray(tags[:length, row])).all(1).argmax()
            total += jnp.log(jnp.exp(scores).sum()) - scores[mine]
        return total

    def ours(chain, emissions):
        return crf.negative_log_likelihood(chain, emissions, tags, LENGTHS).sum()

    for mine, expected in zip(
        jax.tree.leaves(jax.grad(ours, (0, 1))(chain, emissions)),
        jax.tree.leaves(jax.grad(brute, (0, 1))(chain, emissions)), strict=True,
    ):  # fmt: skip
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=1e-10)


def test_padding_and_other_batch_axes_change_nothing(chain, emissions, tags):
    keep = jnp.asarray(np.arange(T)[:, None] < LENGTHS)
    torn = jnp.where(keep[..., None], emissions, jnp.nan)
    other = jnp.where(keep, tags, (tags + 1) % C)

    def loss(chain, emissions, tags):
        return crf.negative_log_likelihood(chain, emissions, tags, LENGTHS).sum()

    for one, two in zip(
        jax.tree.leaves(jax.value_and_grad(loss, (0, 1))(chain, emissions, tags)),
        jax.tree.leaves(jax.value_and_grad(loss, (0, 1))(chain, torn, other)), strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(one, two)
    wide, lengths = torn.reshape(T, 2, 3, C), LENGTHS.reshape(2, 3)
    for function in (crf.log_partition, crf.marginals, crf.viterbi):
        narrow = jax.tree.leaves(function(chain, emissions, LENGTHS))
        for one, two in zip(narrow, jax.tree.leaves(function(chain, wide, lengths)), strict=True):
            np.testing.assert_allclose(one.reshape(two.shape), two, rtol=1e-14, atol=0)
    alone = crf.log_partition(chain, emissions[:, -1])
    np.testing.assert_allclose(alone, crf.log_partition(chain, emissions, LENGTHS)[-1], rtol=1e-14)


def test_what_is_forbidden_has_no_chance_and_no_gradient(chain, emissions, tags):
    may = crf.Allowed(*(np.asarray(np.random.default_rng(4).random(one.shape) < 0.6) for one in chain))
    may.transitions[:, 2], may.start[2] = False, False  # a class that no path reaches
    fenced = crf.constrained(chain, may)
    found = crf.log_partition(fenced, emissions, LENGTHS)
    best = crf.viterbi(fenced, emissions, LENGTHS).tags
    for row, length, own in rows(emissions):
        paths, scores = every_path(chain, own, length)
        legal = [
            not path
            or (
                may.start[path[0]]
                and may.end[path[-1]]
                and all(may.transitions[i, j] for i, j in itertools.pairwise(path))
            )
            for path in paths
        ]
        assert sum(legal)
        np.testing.assert_allclose(found[row], np.log(np.exp(scores[legal]).sum()), rtol=1e-12, atol=1e-12)
        assert tuple(best[:length, row].tolist()) == paths[np.where(legal, scores, -np.inf).argmax()]

    def loss(chain):
        return crf.log_partition(crf.constrained(chain, may), emissions, LENGTHS).sum()

    for gradient, allowed in zip(jax.grad(loss)(chain), may, strict=True):
        assert np.isfinite(gradient).all() and not np.any(np.asarray(gradient)[~allowed])


def test_bio_lets_no_entity_go_on_that_has_not_begun():
    names = ("O", "B-x", "I-x", "B-y", "I-y")
    may = crf.bio(names)
    legal = [(names[i], names[j]) for i, j in zip(*np.nonzero(may.transitions), strict=True)]
    inside = {(one, two) for one, two in legal if two.startswith("I-")}
    assert inside == {("B-x", "I-x"), ("I-x", "I-x"), ("B-y", "I-y"), ("I-y", "I-y")}
    assert len(legal) == 15 + 4 and may.start.tolist() == [True, True, False, True, False] and may.end.all()
    assert all(one.all() for one in crf.bio(("O", "I-x", "I-y")))


def test_no_step_is_refused(chain):
    with pytest.raises(ValueError, match=r"at least one step, got shape \(0, 2, 4\)"):
        crf.log_partition(chain, jnp.zeros((0, 2, C)))


def test_a_chain_begins_near_independence():
    chain = crf.init(jax.random.key(3), C, jnp.float32)
    assert all(one.dtype == jnp.float32 and 0 < np.abs(one).max() <= 0.1 for one in chain)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """A model of crfsuite's, trained on random features and labels, with the labels and weights that it says."""
    random = np.random.default_rng(5)
    trainer = pycrfsuite.Trainer(algorithm="lbfgs", verbose=False)
    trainer.set_params({"c1": 0.0, "c2": 0.01, "max_iterations": 40, "feature.possible_transitions": True})
    for _ in range(30):
        length = int(random.integers(1, 9))
        items = [{f"f{n}": float(random.normal()) for n in random.choice(6, 3, replace=False)} for _ in range(length)]
        trainer.append(items, [str(random.integers(0, C)) for _ in range(length)])
    path = str(tmp_path_factory.mktemp("suite") / "model")
    trainer.train(path)
    tagger = pycrfsuite.Tagger()
    tagger.open(path)
    return tagger, tagger.labels(), tagger.info()


def test_agrees_with_crfsuite(suite):
    """Its own dynamic programming, in C: log-partition (by P and score), marginals and the likeliest path."""
    tagger, labels, info = suite
    place = {label: n for n, label in enumerate(labels)}
    A = np.zeros((C, C))
    for (one, two), weight in info.transitions.items():
        A[place[one], place[two]] = weight
    chain = crf.Chain(jnp.asarray(A), jnp.zeros(C), jnp.zeros(C))
    assert len(labels) == C and np.abs(A).max() > 0.1
    random = np.random.default_rng(6)
    lengths = np.array([1, 2, 7, 30], np.int32)
    emissions, paths, texts = np.zeros((30, 4, C)), random.integers(0, C, (30, 4)), []
    for row, length in enumerate(lengths):
        items = [{f"f{n}": float(random.normal()) for n in random.choice(6, 3, replace=False)} for _ in range(length)]
        for t, item in enumerate(items):
            for (name, label), weight in info.state_features.items():
                emissions[t, row, place[label]] += weight * item.get(name, 0.0)
        texts.append(items)
    shares, best = crf.marginals(chain, emissions, lengths), crf.viterbi(chain, emissions, lengths)
    nats = crf.negative_log_likelihood(chain, emissions, paths, lengths)
    for row, (items, length) in enumerate(zip(texts, lengths, strict=True)):
        tagger.set(items)
        theirs = [[tagger.marginal(label, t) for label in labels] for t in range(length)]
        np.testing.assert_allclose(shares[:length, row], theirs, rtol=1e-5)  # of its weights it says six decimals
        assert [labels[n] for n in best.tags[:length, row].tolist()] == tagger.tag()
        chance = tagger.probability([labels[n] for n in paths[:length, row]])
        np.testing.assert_allclose(-np.log(chance), nats[row], rtol=1e-5)
