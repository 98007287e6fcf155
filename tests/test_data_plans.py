"""Plans: every example once, in batches of one bucket; the same from the same arguments, and split over shards."""

import itertools

import numpy as np
import pytest

from rnnlab.data.plans import EMPTY, bounds_for, buckets, drop, in_order, keep, plan, shuffled
from rnnlab.errors import InputError


def lengths_of(seed, count):
    """Lengths of sentences and of their translations: skewed, with a long tail, and short together."""
    rng = np.random.default_rng(seed)
    one = rng.lognormal(3, 0.5, count)
    return {"source": one.astype(np.int32) + 1, "target": (one * rng.uniform(0.8, 1.3, count)).astype(np.int32)}


@pytest.mark.parametrize("order", [shuffled, in_order])
@pytest.mark.parametrize(("count", "size", "kinds"), [(101, 8, 3), (7, 8, 2), (64, 8, 1), (1, 1, 1), (50, 7, 9)])
def test_every_example_comes_once_in_a_batch_of_its_bucket(count, size, kinds, order):
    bucket = np.random.default_rng(count).integers(0, kinds, count)
    rows, which = plan(bucket, size, seed=3, epoch=1, order=order)
    assert sorted(rows[rows != EMPTY]) == list(range(count)) and rows.dtype == np.int32
    assert len(rows) == sum(-(-(bucket == b).sum() // size) for b in range(kinds))
    for row, b in zip(rows, which, strict=True):
        assert (bucket[row[row != EMPTY]] == b).all() and row[0] != EMPTY
        assert (np.diff((row == EMPTY).astype(int)) >= 0).all()  # empty rows come last


def test_drop_leaves_out_only_what_fills_no_batch():
    bucket = np.random.default_rng(0).integers(0, 4, 90)
    seen = set()
    for epoch in range(20):
        rows, _ = plan(bucket, 8, seed=0, epoch=epoch, leftover=drop)
        assert (rows != EMPTY).all() and len(np.unique(rows)) == rows.size
        assert len(rows) == sum((bucket == b).sum() // 8 for b in range(4))
        seen |= set(rows.ravel().tolist())
    assert seen == set(range(90))  # not the same ones every time


def test_keep_and_drop():
    rows = np.arange(5, dtype=np.int32)
    np.testing.assert_array_equal(keep(rows, 3), [[0, 1, 2], [3, 4, -1]])
    np.testing.assert_array_equal(drop(rows, 3), [[0, 1, 2]])
    assert keep(rows[:0], 3).shape == drop(rows[:0], 3).shape == (0, 3)


def test_a_plan_is_a_function_of_its_arguments():
    bucket = np.random.default_rng(1).integers(0, 3, 100)
    np.random.seed(0)
    one = plan(bucket, 8, seed=5, epoch=2)
    np.random.seed(1)
    again = plan(bucket, 8, seed=5, epoch=2)
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    others = [plan(bucket, 8, seed=seed, epoch=epoch).rows for seed, epoch in ((5, 3), (6, 2), (2, 5), (5, 2))]
    assert [np.array_equal(one.rows, other) for other in others] == [False, False, False, True]


def test_the_order_is_drawn_from_seed_and_epoch_as_documented():
    """Were it to change, no run begun before could be resumed."""
    generator = np.random.default_rng(np.random.SeedSequence([11, 4]))
    expected = generator.permutation(24).reshape(6, 4)[generator.permutation(6)]
    np.testing.assert_array_equal(plan(np.zeros(24, np.int64), 4, seed=11, epoch=4).rows, expected)


def test_examples_and_batches_are_both_shuffled():
    bucket = np.repeat(np.arange(4), 25)
    rows, which = plan(bucket, 5, seed=0, epoch=0)
    assert (np.diff(which) < 0).any()
    assert any((np.diff(row) < 0).any() for row in rows)
    rows, which = plan(bucket, 5, seed=0, epoch=0, order=in_order)
    np.testing.assert_array_equal(rows, np.arange(100).reshape(20, 5))


@pytest.mark.parametrize("leftover", [keep, drop])
@pytest.mark.parametrize("shards", [2, 3, 6])
def test_shards_one_below_the_other_are_the_batch(shards, leftover):
    bucket = np.random.default_rng(shards).integers(0, 3, 103)
    whole = plan(bucket, 12, seed=1, epoch=9, leftover=leftover)
    parts = [plan(bucket, 12, seed=1, epoch=9, leftover=leftover, shard=s, shards=shards) for s in range(shards)]
    np.testing.assert_array_equal(np.concatenate([part.rows for part in parts], 1), whole.rows)
    assert all(np.array_equal(part.buckets, whole.buckets) for part in parts)
    assert {part.rows.shape for part in parts} == {(len(whole.rows), 12 // shards)}


@pytest.mark.parametrize(("size", "shard", "shards"), [(8, 0, 3), (0, 0, 1), (8, 2, 2), (8, -1, 2), (8, 0, 0)])
def test_shards_that_do_not_fit_are_refused(size, shard, shards):
    with pytest.raises(ValueError, match=r"^batches: expected a (batch size|shard) .*, got -?\d+$"):
        plan(np.zeros(9, np.int64), size, seed=0, epoch=0, shard=shard, shards=shards)


def test_buckets_are_the_first_that_fit_in_every_column():
    lengths = lengths_of(2, 300)
    bounds = {"source": (10, 20, 20, 200), "target": (12, 12, 30, 250)}
    found = buckets(lengths, bounds)
    for n in range(300):
        fits = [k for k in range(4) if all(lengths[name][n] <= bounds[name][k] for name in bounds)]
        assert found[n] == fits[0]


def test_a_longer_example_is_refused_by_name():
    lengths = {"source": np.array([3, 9, 4, 8], np.int32)}
    with pytest.raises(
        InputError, match=r"^column 'source': .* at most 7 steps an example, got 9 in example 1, and 2 "
    ):
        buckets(lengths, {"source": (5, 7)})


@pytest.mark.parametrize(
    "bounds", [{"source": (5, 9)}, {"source": (), "target": ()}, {"source": (5,), "target": (5, 9)},
               {"source": (9, 5), "target": (5, 9)}, {"source": (0, 9), "target": (5, 9)}],
)  # fmt: skip
def test_bounds_that_are_none_are_refused(bounds):
    with pytest.raises(ValueError, match="buckets: expected"):
        buckets({"source": np.array([3]), "target": np.array([4])}, bounds)


def cost(lengths, bounds, size):
    """Slots, if the last batch of each bucket is half full."""
    bucket = buckets(lengths, bounds)
    widths = np.sum([bounds[name] for name in bounds], axis=0)
    return int(((np.bincount(bucket, minlength=len(widths)) + size // 2) * widths).sum())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("size", "count"), [(1, 3), (16, 3), (1, 6), (6, 6)])
def test_bounds_are_the_best_of_all(seed, size, count):
    rng = np.random.default_rng(seed)
    values = rng.choice(np.arange(1, 12), 200, p=rng.dirichlet(np.full(11, 0.4)))
    found = bounds_for({"x": values}, count, size)
    distinct = np.unique(values).tolist()
    choices = [c for k in range(1, count + 1) for c in itertools.combinations(distinct, k) if c[-1] == distinct[-1]]
    assert found["x"] in choices
    assert cost({"x": values}, found, size) == min(cost({"x": values}, {"x": c}, size) for c in choices)


@pytest.mark.parametrize("count", [1, 2, 8, 40])
def test_bounds_hold_every_example_and_pad_ever_less(count):
    lengths = lengths_of(3, 3000)
    bounds = bounds_for(lengths, count, 32)
    assert {len(some) for some in bounds.values()} <= {*range(1, count + 1)}
    assert all(some[-1] == lengths[name].max() and list(some) == sorted(some) for name, some in bounds.items())
    assert len(set(zip(*bounds.values(), strict=True))) == len(bounds["source"])
    assert all(type(bound) is int for some in bounds.values() for bound in some)
    if count > 1:
        assert cost(lengths, bounds, 32) <= cost(lengths, bounds_for(lengths, count // 2, 32), 32)


def test_bounds_of_columns_that_are_long_in_turn():
    values = np.random.default_rng(5).permutation(np.arange(1, 101))
    bounds = bounds_for({"x": values, "y": 101 - values}, 4, 1)
    assert bounds["x"][-1] == bounds["y"][-1] == 100
    buckets({"x": values, "y": 101 - values}, bounds)


def test_bounds_leave_little_padding():
    lengths = {"source": lengths_of(4, 3000)["source"]}
    total = lengths["source"].sum()
    shares = [1 - total / cost(lengths, bounds_for(lengths, count, 1), 1) for count in (1, 8)]
    assert shares[0] > 0.7 and shares[1] < 0.15


def test_bounds_of_equal_and_of_empty_sequences():
    assert bounds_for({"x": np.full(9, 4)}, 5, 2) == {"x": (4,)}
    assert bounds_for({"x": np.zeros(9, np.int32)}, 5, 2) == {"x": (1,)}


@pytest.mark.parametrize(
    ("lengths", "count", "size"), [({}, 3, 1), ({"x": np.ones(3, int)}, 0, 1), ({"x": np.ones(3, int)}, 1, 0)]
)
def test_bounds_for_refuses(lengths, count, size):
    with pytest.raises(ValueError, match="bounds_for: expected"):
        bounds_for(lengths, count, size)
