"""Rounds and ratios, with functions and times that are known."""

import time

import numpy as np
import pytest

from rnnlab.timing import in_turns, ratio


def counted(calls, name, seconds=0.0):
    def function():
        calls.append(name)
        time.sleep(seconds)

    return function


def test_each_runs_once_a_round_and_the_warm_up_is_not_counted():
    calls, told = [], []
    functions = {name: counted(calls, name) for name in "abc"}
    taken = in_turns(functions, seconds=0.0, least=4, after=told.append)
    assert "".join(calls) == "abc" * 5
    assert {name: len(times) for name, times in taken.items()} == dict(a=4, b=4, c=4)
    assert told == [1, 2, 3, 4]


def test_it_goes_on_until_the_seconds_have_passed():
    began = time.perf_counter()
    taken = in_turns({"a": counted([], "a", 0.001)}, seconds=0.1, least=1)
    assert time.perf_counter() - began >= 0.1 and len(taken["a"]) > 1


def test_a_call_lasts_until_its_result_is_ready():
    class Late:
        def block_until_ready(self):
            time.sleep(0.02)
            return self

    taken = in_turns({"late": lambda: {"deep": [Late()]}}, seconds=0.0, least=2)
    assert min(taken["late"]) >= 0.02


def test_a_ratio_is_theirs_over_ours():
    rng = np.random.default_rng(3)
    ours, theirs = rng.uniform(1, 2, 31), rng.uniform(4, 9, 31)
    found = ratio(ours, theirs)
    assert found.median == pytest.approx(np.median(theirs) / np.median(ours))
    assert 1 < found.low < found.median < found.high


def test_the_interval_is_of_the_bootstrap():
    """Anew with another generator: 20,000 draws, rounds kept together."""
    rng = np.random.default_rng(4)
    ours = rng.lognormal(0, 0.2, 25)
    theirs = 1.5 * ours * rng.lognormal(0, 0.05, 25)
    drawn = []
    for _ in range(20_000):
        rounds = rng.choice(25, 25)
        drawn.append(np.median(theirs[rounds]) / np.median(ours[rounds]))
    found = ratio(ours, theirs, draws=20_000)
    np.testing.assert_allclose([found.low, found.high], np.quantile(drawn, [0.025, 0.975]), rtol=0.01)


def test_a_slow_moment_counts_for_both():
    ours = np.random.default_rng(5).lognormal(0, 1.0, 20)
    found = ratio(ours, 2 * ours)
    np.testing.assert_allclose(found, 2.0)


def test_the_same_seed_gives_the_same_interval():
    rng = np.random.default_rng(6)
    ours, theirs = rng.uniform(1, 2, 99), rng.uniform(1, 2, 99)
    assert ratio(ours, theirs, seed=1) == ratio(ours, theirs, seed=1) != ratio(ours, theirs, seed=2)


@pytest.mark.parametrize(("ours", "theirs"), [([1.0], [1.0, 2.0]), ([], []), (np.ones((1, 1)), np.ones((1, 1)))])
def test_what_are_no_rounds_is_refused(ours, theirs):
    with pytest.raises(ValueError, match="equally long"):
        ratio(ours, theirs)
