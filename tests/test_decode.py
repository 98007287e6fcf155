"""Sampling against the exact distribution, cuts against a NumPy definition, beams against every continuation."""

import itertools
import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.decode import beam_search, cut, greedy, sampled, stream

KEY = jax.random.key(3)


def logits_of(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1.5, shape)


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return np.log(softmax(logits))


def kept_by_definition(logits: np.ndarray, top_k: int, top_p: float) -> set[int]:
    """One row, in words: the k likeliest with all as likely as the last; then, one by one from the likeliest, as many
    as it takes to hold top_p of what those hold, again with all as likely as the last."""
    order = sorted(range(len(logits)), key=lambda n: -logits[n])
    if top_k:
        order = [n for n in order if logits[n] >= logits[order[min(top_k, len(order)) - 1]]]
    shares = dict(zip(order, softmax(logits[order]), strict=True))
    held, last = 0.0, order[-1]
    for n in order:
        held += shares[n]
        if held >= top_p:
            last = n
            break
    return {n for n in order if logits[n] >= logits[last]}


def kept(logits: np.ndarray, top_k: int, top_p: float) -> set[int]:
    found = np.asarray(cut(jnp.asarray(logits), top_k, top_p))
    left = np.flatnonzero(found > -np.inf)
    np.testing.assert_array_equal(found[left], logits[left])  # what stays is as it was
    return set(left.tolist())


@pytest.mark.parametrize("top_k", [0, 1, 2, 5, 8, 9, 100])
@pytest.mark.parametrize("top_p", [1e-9, 0.2, 0.55, 0.93, 1.0])
def test_what_is_cut_is_what_the_definition_cuts(top_k, top_p):
    for seed in range(5):
        logits = logits_of(seed, 9)
        assert kept(logits, top_k, top_p) == kept_by_definition(logits, top_k, top_p)


def test_ids_as_likely_as_the_last_one_kept_are_kept():
    logits = np.log([0.3, 0.1, 0.3, 0.1, 0.2])
    assert kept(logits, 1, 1.0) == {0, 2}
    assert kept(logits, 4, 1.0) == {0, 1, 2, 3, 4}
    assert kept(logits, 0, 0.7) == {0, 2, 4}
    assert kept(logits, 0, 0.85) == {0, 1, 2, 3, 4}


def test_a_share_that_is_just_reached_is_enough():
    assert kept(np.log([0.5, 0.25, 0.125, 0.125]), 0, 0.5) == {0}
    assert kept(np.log([0.5, 0.25, 0.125, 0.125]), 0, 0.75) == {0, 1}


def test_top_p_is_a_share_of_what_top_k_left():
    shares = np.array([0.4, 0.2, 0.2 - 1e-3, 0.1, 0.1 + 1e-3])
    assert kept(np.log(shares), 2, 0.66) == {0}  # 0.4 of 0.6 left is two thirds
    assert kept(np.log(shares), 0, 0.66) == {0, 1, 2}


def test_rows_are_cut_each_by_itself():
    logits = logits_of(1, 4, 3, 7)
    found = np.asarray(cut(jnp.asarray(logits), 3, 0.8))
    for place in np.ndindex(4, 3):
        assert set(np.flatnonzero(found[place] > -np.inf)) == kept_by_definition(logits[place], 3, 0.8)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.6, 0, 1.0), (2.5, 3, 1.0), (1.3, 0, 0.7), (0.8, 5, 0.9)]
)
def test_draws_come_as_often_as_the_exact_distribution_says(temperature, top_k, top_p):
    """By a chi-square test whose quantile is passed once in 100,000 by chance; the key is fixed."""
    logits, count = logits_of(2, 6), 20_000
    left = sorted(kept_by_definition(logits / temperature, top_k, top_p))
    exact = softmax(logits[left] / temperature)
    choose = sampled(temperature=temperature, top_k=top_k, top_p=top_p)
    drawn = np.asarray(choose(KEY, jnp.broadcast_to(jnp.asarray(logits), (count, 6))))
    seen = np.bincount(drawn, minlength=6)
    assert set(np.flatnonzero(seen)) == set(left)
    chi_square = ((seen[left] - count * exact) ** 2 / (count * exact)).sum()
    freedom = max(1, len(left) - 1)
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom) + 10


def test_no_temperature_is_greedy_and_a_tiny_one_nearly():
    logits = jnp.asarray(logits_of(4, 50, 8))
    expected = np.asarray(logits).argmax(-1)
    assert sampled(temperature=0) is greedy
    np.testing.assert_array_equal(greedy(KEY, logits), expected)
    np.testing.assert_array_equal(sampled(temperature=1e-320)(KEY, logits + 700), expected)  # its quotient overflows
    assert greedy(KEY, jnp.array([[1.0, 2.0, 2.0]]))[0] == 1  # the first of equal ones


@pytest.mark.parametrize(
    "wrong", [dict(temperature=-0.1), dict(temperature=math.nan), dict(top_k=-1), dict(top_p=0.0), dict(top_p=1.01)]
)
def test_what_no_one_can_draw_by_is_refused(wrong):
    with pytest.raises(ValueError, match="sampled: expected temperature and top_k"):
        sampled(**wrong)


# A toy model: the carry is a number [B], the logits a table of it, so that all continuations can be gone through.
TABLE = logits_of(7, 17, 4)
SIZE = TABLE.shape[1]


def next_of(ids, carry):
    for one in ids:
        carry = (5 * carry + one.astype(jnp.int32) + 1) % len(TABLE)
    return jnp.asarray(TABLE)[carry], carry


def begun(prompt: int):
    return next_of(jnp.array([[prompt]]), jnp.array([prompt], jnp.int32))


def log_probabilities(prompt: int, ids) -> list[float]:
    logits, carry = begun(prompt)
    found = []
    for one in ids:
        found.append(float(log_softmax(np.asarray(logits))[0, one]))
        logits, carry = next_of(jnp.array([[one]]), carry)
    return found


def continuations(prompt: int, steps: int, end: int | None) -> dict[tuple[int, ...], float]:
    """Every one, to its end's id where it has one, with its ln P."""
    found = {}
    for ids in itertools.product(range(SIZE), repeat=steps):
        whole = ids if end is None or end not in ids else ids[: ids.index(end) + 1]
        if whole not in found:
            found[whole] = sum(log_probabilities(prompt, whole))
    return found


@pytest.mark.parametrize("end", [None, 2])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_beam_wide_enough_finds_the_likeliest_of_all(steps, end):
    width = SIZE ** (steps - 1) + 1
    search = beam_search(next_of, width=width, steps=steps, end=end)
    for prompt in range(3):
        exact = sorted(continuations(prompt, steps, end).items(), key=lambda one: -one[1])[:width]
        found = search(*begun(prompt))
        assert len(exact) <= width
        for row, (ids, log) in enumerate(exact):
            padded = (*ids, *[end] * (steps - len(ids)))
            assert tuple(np.asarray(found.ids[row]).tolist()) == padded
            np.testing.assert_allclose(found.log_probability[row], log, rtol=1e-12)
            assert found.lengths[row] == (len(ids) if end is None or ids[-1] != end else len(ids) - 1)


def test_more_beams_than_continuations_say_so():
    found = beam_search(next_of, width=40, steps=2, end=0)(*begun(1))
    exact = continuations(1, 2, 0)
    assert np.isfinite(found.log_probability).sum() == len(exact) == 1 + 3 * SIZE
    np.testing.assert_allclose(np.exp(found.log_probability).sum(), 1, rtol=1e-12)


def test_one_beam_is_greedy():
    found = beam_search(next_of, width=1, steps=6)(*begun(2))
    logits, carry = begun(2)
    expected = []
    for _ in range(6):
        expected.append(int(np.asarray(logits).argmax()))
        logits, carry = next_of(jnp.array([[expected[-1]]]), carry)
    assert np.asarray(found.ids[0]).tolist() == expected


def test_no_beam_is_more_likely_than_the_one_before():
    found = beam_search(next_of, width=7, steps=5, end=1)(*begun(0))
    assert np.all(np.diff(found.log_probability) <= 0)
    for ids, log, length in zip(*found, strict=True):
        whole = np.asarray(ids)[: int(length) + 1]
        np.testing.assert_allclose(log, sum(log_probabilities(0, whole.tolist())), rtol=1e-12)


@pytest.mark.parametrize("wrong", [dict(width=0, steps=1), dict(width=1, steps=0)])
def test_a_search_of_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="beam_search: expected a width and steps of at least 1"):
        beam_search(next_of, **wrong)


def written(key, count: int, choose) -> list:
    return list(itertools.islice(stream(next_of, *begun(1), key, choose), count))


def test_a_stream_is_the_same_for_a_key_and_another_for_another():
    choose = sampled(temperature=1.2)
    one, again, other = (written(key, 30, choose) for key in (KEY, KEY, jax.random.key(4)))
    assert one == again != other


def test_a_stream_is_compiled_once_for_its_functions():
    traced = []

    def counting(ids, carry):
        traced.append(ids.shape)
        return next_of(ids, carry)

    choose = sampled(temperature=1.1)
    for n in range(3):
        list(itertools.islice(stream(counting, *begun(n), KEY, choose), 5))
    assert len(traced) == 1


def test_a_stream_says_what_the_uncut_model_gives_each_id():
    found = written(KEY, 25, sampled(temperature=0.5, top_k=2))
    expected = log_probabilities(1, [one.id for one in found])
    np.testing.assert_allclose([one.log_probability for one in found], expected, rtol=1e-12)


def test_what_a_stream_draws_does_not_hang_on_what_it_drew_before():
    """Of a model that gives each id the same chance at every step, pairs that follow one another come equally often."""
    count, even = 800, jnp.zeros((1, 3))
    found = stream(lambda ids, carry: (even, carry), even, (), KEY, sampled())
    ids = [one.id for one in itertools.islice(found, count + 1)]
    seen = Counter(itertools.pairwise(ids))
    assert len(seen) == 9 and all(abs(times - count / 9) < 5 * math.sqrt(count / 9) for times in seen.values())


def test_a_stream_draws_the_first_ids_as_often_as_the_model_says():
    """Pairs of ids of many keys, against the product of their conditional probabilities."""
    count, choose = 300, sampled(temperature=0.7, top_k=2)
    seen = Counter(tuple(one.id for one in written(jax.random.fold_in(KEY, n), 2, choose)) for n in range(count))
    exact = {}
    for pair in itertools.product(range(SIZE), repeat=2):
        logits, carry = begun(1)
        share = 1.0
        for one in pair:
            left = sorted(kept_by_definition(np.asarray(logits)[0] / 0.7, 2, 1.0))
            shares = dict(zip(left, softmax(np.asarray(logits)[0, left] / 0.7), strict=True))
            share *= shares.get(one, 0.0)
            logits, carry = next_of(jnp.array([[one]]), carry)
        exact[pair] = share
    assert set(seen) <= {pair for pair, share in exact.items() if share}
    for pair, share in exact.items():
        assert abs(seen[pair] - count * share) <= 5 * math.sqrt(count * share * (1 - share)) + 1e-9
