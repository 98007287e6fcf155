"""Streams of batches: each row is its example, and any state gives the batches that would have followed."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rnnlab.data.batches import Batch, Padding, State, bucketed, contiguous, padding, stream
from rnnlab.data.columns import decode
from rnnlab.data.plans import bounds_for, drop, in_order, keep
from rnnlab.errors import InputError

ROOT = Path(__file__).parent.parent


def columns_of(seed, count=61):
    rng = np.random.default_rng(seed)
    examples = [
        {
            "words": rng.integers(1, 9, n),
            "frames": rng.normal(size=(n + rng.integers(4), 2)),
            "label": rng.integers(1, 5),
            "box": rng.normal(size=3),
        }
        for n in rng.integers(0, 12, count)
    ]
    one = np.asarray
    return decode(examples, sequences={"words": one, "frames": one}, fixed={"label": one, "box": one})


def source_of(columns, count=3, size=8, **how):
    return bucketed(columns, bounds_for(columns.lengths, count, size), size, **how)


def flat(batch):
    return [*batch.sequences.values(), *batch.fixed.values(), *batch.lengths.values(), batch.numbers]


def same(one, other):
    return one[0] == other[0] and all(np.array_equal(a, b) for a, b in zip(flat(one[1]), flat(other[1]), strict=True))


@pytest.mark.parametrize("leftover", [keep, drop])
def test_each_row_is_its_example(leftover):
    columns = columns_of(0)
    bounds = bounds_for(columns.lengths, 3, 8)
    shapes = set(zip(bounds["words"], bounds["frames"], strict=True))
    seen, used = [], set()
    for _, batch in stream(source_of(columns, leftover=leftover), State(1, 0, 0), epochs=1):
        used.add((len(batch.sequences["words"]), len(batch.sequences["frames"])))
        assert batch.numbers.dtype == np.int32 and {a.dtype for a in batch.lengths.values()} == {np.dtype(np.int32)}
        for b, n in enumerate(batch.numbers):
            for name, (flat, offsets) in columns.sequences.items():
                expected = flat[offsets[n] : offsets[n + 1]] if n >= 0 else flat[:0]
                row, length = batch.sequences[name][:, b], batch.lengths[name][b]
                assert length == len(expected) and np.array_equal(row[:length], expected) and not row[length:].any()
            for name, values in columns.fixed.items():
                np.testing.assert_array_equal(batch.fixed[name][b], values[n] if n >= 0 else np.zeros_like(values[0]))
        seen += batch.numbers[batch.numbers >= 0].tolist()
    assert len(set(seen)) == len(seen) and used == shapes and len(shapes) == 3
    assert len(seen) == columns.count if leftover is keep else columns.count - 3 * 7 <= len(seen) < columns.count


SOURCES = {
    "keep": lambda: source_of(columns_of(1, 40)),
    "drop": lambda: source_of(columns_of(1, 40), leftover=drop),
    "in order": lambda: source_of(columns_of(1, 40), order=in_order),
    "shard": lambda: source_of(columns_of(1, 40), shard=1, shards=2),
    "contiguous": lambda: contiguous(np.random.default_rng(2).integers(0, 9, 137), 4, 5),
}


@pytest.mark.parametrize("name", SOURCES)
def test_from_any_state_the_same_batches_follow(name):
    first = State(7, 0, 0)
    whole = list(stream(SOURCES[name](), first, epochs=2))
    assert whole[-1][0] == State(7, 2, 0) and len(whole) > 7
    for at, state in enumerate([first, *(state for state, _ in whole)]):
        restored = json.loads(json.dumps(state))
        rest = list(stream(SOURCES[name](), restored, epochs=2))
        assert len(rest) == len(whole) - at and all(map(same, rest, whole[at:]))


def test_states_count_up_and_epochs_differ():
    source = source_of(columns_of(3))
    count = source(0, 0).count
    pairs = list(itertools.islice(stream(source, State(0, 0, 0)), 2 * count + 1))
    states = [State(0, e, i) for e in range(3) for i in range(count)]
    assert [state for state, _ in pairs] == states[1 : 2 * count + 2]
    epochs = [[tuple(batch.numbers) for _, batch in pairs[e * count : (e + 1) * count]] for e in range(2)]
    assert epochs[0] != epochs[1]
    other = [tuple(batch.numbers) for _, batch in stream(source, State(1, 0, 0), epochs=1)]
    assert other != epochs[0]


def test_the_end_of_an_epoch_may_be_written_either_way():
    source = source_of(columns_of(3))
    ends = [State(0, 0, source(0, 0).count), State(0, 1, 0)]
    one, other = (next(stream(source, state)) for state in ends)
    assert same(one, other)


@pytest.mark.parametrize("name", ["bucketed", "contiguous"])
def test_shards_one_below_the_other_are_the_batch(name):
    columns, ids = columns_of(4), np.random.default_rng(4).integers(0, 9, 200)
    made = {
        "bucketed": lambda **how: source_of(columns, **how),
        "contiguous": lambda **how: contiguous(ids, 8, 5, **how),
    }
    whole = list(stream(made[name](), State(2, 0, 0), epochs=2))
    parts = [list(stream(made[name](shard=s, shards=4), State(2, 0, 0), epochs=2)) for s in range(4)]
    assert len(whole) == len(parts[0]) and len({len(part) for part in parts}) == 1
    for n, (state, batch) in enumerate(whole):
        assert {part[n][0] for part in parts} == {state}
        some = [part[n][1] for part in parts]
        for key, value in batch.sequences.items():
            np.testing.assert_array_equal(np.concatenate([one.sequences[key] for one in some], 1), value)
        for kind in ("fixed", "lengths"):
            for key, value in getattr(batch, kind).items():
                np.testing.assert_array_equal(np.concatenate([getattr(one, kind)[key] for one in some]), value)
        np.testing.assert_array_equal(np.concatenate([one.numbers for one in some]), batch.numbers)


def test_columns_of_fixed_shape_alone():
    rng = np.random.default_rng(5)
    images = rng.normal(size=(11, 4, 4))
    columns = decode([{"image": image} for image in images], sequences={}, fixed={"image": np.asarray})
    batches = [batch for _, batch in stream(bucketed(columns, {}, 4), State(0, 0, 0), epochs=1)]
    rows = np.concatenate([batch.numbers for batch in batches])
    np.testing.assert_array_equal(
        np.concatenate([batch.fixed["image"] for batch in batches])[rows >= 0], images[rows[rows >= 0]]
    )
    assert sorted(rows) == [-1, *range(11)] and padding(batches[0]) == Padding(0, 0) and padding(batches[0]).share == 0


def test_in_order_for_evaluation():
    columns = columns_of(5)
    batches = [batch for _, batch in stream(source_of(columns, order=in_order), State(3, 0, 0), epochs=1)]
    widths = [len(batch.sequences["frames"]) for batch in batches]
    assert widths == sorted(widths)
    for width in set(widths):
        rows = np.concatenate([b.numbers for b in batches if len(b.sequences["frames"]) == width])
        assert (np.diff(rows[rows >= 0]) > 0).all()


def test_no_full_batch_is_refused():
    with pytest.raises(InputError, match=r"^batches: expected 8 examples for a full batch, got 7"):
        source_of(columns_of(6, 7), leftover=drop)
    assert source_of(columns_of(6, 7), 1)(0, 0).count == 1


def test_what_is_too_long_is_refused():
    columns = columns_of(7)
    with pytest.raises(InputError, match=r"^column 'words': expected at most 3 steps"):
        bucketed(columns, {"words": (3,), "frames": (99,)}, 4)


@pytest.mark.parametrize("state", [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, 999]])
def test_a_state_of_another_stream_is_refused(state):
    with pytest.raises(ValueError, match=r"^stream: expected"):
        next(stream(source_of(columns_of(8)), state))


def test_padding_counts_steps_and_slots():
    batch = Batch(
        {"a": np.zeros((5, 3)), "b": np.zeros((2, 3, 7))},
        {},
        {"a": np.array([5, 1, 0], np.int32), "b": np.array([2, 1, 0], np.int32)},
        np.array([4, 2, -1], np.int32),
    )
    assert padding(batch) == Padding(9, 21) and padding(batch).share == pytest.approx(12 / 21)
    assert padding(batch).plus(Padding(1, 3)) == Padding(10, 24)


def test_another_process_gives_the_same_batches():
    code = (
        "import hashlib, numpy as np\n"
        "from rnnlab.data.batches import State, contiguous, stream\n"
        "batches = stream(contiguous(np.arange(300), 4, 5), State(3, 1, 2), epochs=3)\n"
        "print(hashlib.sha256(b''.join(b.sequences['ids'].tobytes() for _, b in batches)).hexdigest())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
    batches = stream(contiguous(np.arange(300), 4, 5), State(3, 1, 2), epochs=3)
    here = hashlib.sha256(b"".join(b.sequences["ids"].tobytes() for _, b in batches)).hexdigest()
    assert out.stdout.decode().strip() == here


# One long text.


@pytest.mark.parametrize(
    ("count", "rows", "steps"), [(137, 4, 5), (43, 4, 5), (41, 4, 10), (14, 4, 10), (1000, 7, 13), (9, 8, 1)]
)
@pytest.mark.parametrize("order", ["shuffled", "in order"])
def test_every_step_of_a_text_comes_once(count, rows, steps, order):
    ids = np.random.default_rng(count).permutation(count) + 1
    how = {"order": in_order} if order == "in order" else {}
    for epoch in range(3):
        epoch_of = contiguous(ids, rows, steps, **how)(5, epoch)
        pairs, row_parts = [], [[] for _ in range(rows)]
        for n in range(epoch_of.count):
            batch = epoch_of.batch(n)
            taken, lengths = batch.sequences["ids"], batch.lengths["ids"]
            assert taken.shape == (steps + 1, rows) and (batch.fixed["resets"] == (n == 0)).all()
            assert ((lengths == 0) == (batch.numbers == -1)).all() and (lengths != 1).all() and lengths.any()
            for b in range(rows):
                part = taken[: lengths[b], b].tolist()
                assert not taken[lengths[b] :, b].any()
                pairs += itertools.pairwise(part)
                # A chunk begins with the id that the one before it ended with: the carry fits.
                assert not part or not row_parts[b] or row_parts[b][-1] == part[0]
                row_parts[b] += part[1:] if row_parts[b] else part
        first = count - 1 - len(pairs)
        assert first == 0 if order == "in order" else 0 <= first < steps
        assert sorted(pairs) == sorted(itertools.pairwise(ids[first:].tolist()))
        assert [part for parts in row_parts for part in parts[:-1]] == ids[first:-1].tolist()


def test_an_epoch_begins_elsewhere():
    source = contiguous(np.arange(500), 2, 50)
    firsts = [[int(source(seed, epoch).batch(0).sequences["ids"][0, 0]) for epoch in range(40)] for seed in range(2)]
    assert firsts[0] != firsts[1] and len(set(firsts[0])) > 15 and max(firsts[0]) < 50


def test_features_of_a_series_run_on_too():
    series = np.random.default_rng(9).normal(size=(90, 3))
    batch = contiguous(series, 2, 6, order=in_order)(0, 0).batch(1)
    np.testing.assert_array_equal(batch.sequences["ids"][:, 0], series[6:13])


def test_a_text_that_is_too_short():
    with pytest.raises(InputError, match=r"^text: expected at least 14 ids for 4 rows of 10, got 13$"):
        contiguous(np.arange(13), 4, 10)
    with pytest.raises(ValueError, match="positive number of steps, got 0"):
        contiguous(np.arange(13), 4, 0)
