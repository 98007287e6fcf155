"""Examples decoded once: what went in comes out, row for row, and what does not fit is refused by name."""

import numpy as np
import pytest

from rnnlab.data.columns import Column, Columns, decode, gather, padded, truncated, windows
from rnnlab.errors import InputError


def some(seed, count=23):
    """Examples with every kind of column; some sequences are empty."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 9, count)
    lengths[rng.integers(count)] = 0
    return [
        {
            "text": "".join(rng.choice(list("abक़ि "), n)).encode(),
            "ids": rng.integers(0, 99, n).tolist(),
            "frames": rng.normal(size=(rng.integers(0, 6), 3, 2)).astype(np.float32),
            "label": int(rng.integers(4)),
            "image": rng.integers(0, 255, (4, 5), dtype=np.uint8),
        }
        for n in lengths
    ]


def points(text):
    return np.array([ord(c) for c in text], np.int32)


WANTED = {
    "sequences": {"text": points, "ids": np.asarray, "frames": np.asarray},
    "fixed": {"label": np.asarray, "image": np.asarray},
}


class Numbered:
    """Random access and no more, as some data sources are: no IndexError ends a plain `for` over it."""

    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, number):
        if number >= len(self.examples):
            raise ValueError(number)
        return self.examples[number]


@pytest.mark.parametrize("form", [list, iter, tuple, Numbered])
def test_examples_come_back(form):
    examples = some(0)
    columns = decode(form(examples), **WANTED)
    assert columns.count == len(examples)
    for n, example in enumerate(examples):
        for name, function in WANTED["sequences"].items():
            flat, offsets = columns.sequences[name]
            raw = example[name].decode() if name == "text" else example[name]
            np.testing.assert_array_equal(flat[offsets[n] : offsets[n + 1]], function(raw))
            assert columns.lengths[name][n] == len(function(raw))
        for name in WANTED["fixed"]:
            np.testing.assert_array_equal(columns.fixed[name][n], example[name])
    assert {name: column.flat.dtype for name, column in columns.sequences.items()} == {
        "text": np.int32, "ids": np.int64, "frames": np.float32
    }  # fmt: skip
    assert columns.fixed["image"].dtype == np.uint8 and columns.fixed["image"].shape == (23, 4, 5)
    assert columns.lengths["ids"].dtype == np.int32


def test_long_decoding_shows_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr("rnnlab.progress.LOG", 0.0)
    decode(some(1, 3), sequences={"ids": np.asarray}, fixed={}, label="words")
    assert "words 3/3 steps" in capsys.readouterr().err
    decode(iter(some(1, 3)), sequences={"ids": np.asarray}, fixed={}, label="words")
    assert not capsys.readouterr().err


def naive(column, rows, bound):
    taken = np.zeros((bound, len(rows), *column.flat.shape[1:]), column.flat.dtype)
    for b, n in enumerate(rows):
        if n >= 0:
            sequence = column.flat[column.offsets[n] : column.offsets[n + 1]]
            taken[: len(sequence), b] = sequence
    return taken


@pytest.mark.parametrize("name", WANTED["sequences"])
def test_padded_is_a_loop_over_rows(name):
    column = decode(some(2), **WANTED).sequences[name]
    rows = np.random.default_rng(3).permutation(np.append(np.arange(23), [-1, -1]))
    bound = int(column.lengths.max()) + 2
    taken, lengths = padded(column, rows, bound)
    np.testing.assert_array_equal(taken, naive(column, rows, bound))
    np.testing.assert_array_equal(lengths, np.where(rows >= 0, np.append(column.lengths, 0)[rows], 0))
    assert taken.dtype == column.flat.dtype and lengths.dtype == np.int32


def test_padded_where_nothing_has_a_step():
    column = Column(np.zeros((0, 2), np.int16), np.zeros(4, np.int64))
    taken, lengths = padded(column, np.array([2, -1]), 3)
    assert taken.shape == (3, 2, 2) and taken.dtype == np.int16 and not taken.any() and not lengths.any()


def test_padded_cuts_nothing_off():
    column = decode(some(4), **WANTED).sequences["ids"]
    longest = int(column.lengths.argmax())
    with pytest.raises(ValueError, match=rf"at most 5 steps, got one of {column.lengths.max()}"):
        padded(column, np.array([longest]), 5)


def test_gather_overlaps():
    flat = np.random.default_rng(5).integers(1, 99, 20)
    taken = gather(flat, np.array([0, 3, 4]), np.array([4, 2, 0]), 4)
    np.testing.assert_array_equal(taken.T, [flat[:4], [*flat[3:5], 0, 0], [0] * 4])


def test_truncated_only_where_asked():
    columns = decode(some(6), **WANTED)
    cut = truncated(columns, {"ids": 3, "frames": 1})
    for n in range(columns.count):
        for name, bound in (("ids", 3), ("frames", 1), ("text", None)):
            before, after = columns.sequences[name], cut.sequences[name]
            kept = before.flat[before.offsets[n] : before.offsets[n + 1]][:bound]
            np.testing.assert_array_equal(after.flat[after.offsets[n] : after.offsets[n + 1]], kept)
    assert cut.fixed is columns.fixed and max(cut.lengths["ids"]) == 3


@pytest.mark.parametrize("bounds", [{"word": 3}, {"ids": 0}])
def test_truncated_refuses(bounds):
    with pytest.raises(ValueError, match="expected positive bounds of"):
        truncated(decode(some(6), **WANTED), bounds)


def test_columns_without_sequences():
    columns = decode(some(7), sequences={}, fixed={"label": np.asarray})
    assert columns.count == 23 and columns.lengths == {} and isinstance(columns, Columns)


def refuse(text):
    raise InputError("vocabulary: no such letter")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"ids": None}, r"^data, example 2: expected a column 'ids', got frames, image, label, text$"),
        ({"ids": [0.5]}, r"^column 'ids', example 2: expected int64 \[\d\] as before, got float64 \[1\]$"),
        ({"ids": [[1], [2]]}, r"^column 'ids', example 2: expected int64 \[\d\] as before, got int64 \[2, 1\]$"),
        ({"ids": 7}, r"^column 'ids', example 2: expected a sequence, got shape \[\]$"),
        ({"ids": [[1], [2, 3]]}, r"^column 'ids', example 2: .*inhomogeneous"),
        ({"ids": ["a"]}, r"^column 'ids', example 2: expected numbers, got ndarray array\(\['a'\]"),
        ({"frames": np.ones((2, 3, 3), np.float32)}, r"^column 'frames', example 2: .*got float32 \[2, 3, 3\]$"),
        ({"frames": np.ones((2, 3, 2))}, r"^column 'frames', example 2: .*got float64 \[2, 3, 2\]$"),
        ({"text": b"a\xff"}, r"^column 'text', example 2: .*can't decode byte 0xff in position 1"),
        ({"label": 0.5}, r"^column 'label', example 2: expected int64 \[\] as before, got float64 \[\]$"),
        ({"label": []}, r"^column 'label', example 2: expected shape \[\], got an empty list$"),
        ({"label": "7"}, r"^column 'label', example 2: expected numbers"),
        (
            {"image": np.zeros((5, 4), np.uint8)},
            r"^column 'image', example 2: .*\[4, 5\] as before, got uint8 \[5, 4\]$",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, line):
    examples = some(8)
    for name, value in change.items():
        if value is None:
            del examples[2][name]
        else:
            examples[2][name] = value
    with pytest.raises(InputError, match=line) as refused:
        decode(examples, **WANTED)
    assert "\n" not in str(refused.value)


def test_what_a_function_refuses_has_its_example_named():
    with pytest.raises(InputError, match=r"^column 'text', example 0: vocabulary: no such letter$"):
        decode(some(9), sequences={"text": refuse}, fixed={})


@pytest.mark.parametrize("examples", [[], iter([])])
def test_no_examples(examples):
    with pytest.raises(InputError, match=r"^data: expected examples, got none$"):
        decode(examples, **WANTED)


def test_nothing_but_empty_lists_has_no_type():
    with pytest.raises(InputError, match="column 'x': expected a value that is no empty list, got 2 of those"):
        decode([{"x": []}, {"x": []}], sequences={"x": np.asarray}, fixed={})


def test_the_callers_mistakes():
    with pytest.raises(ValueError, match="at least one column"):
        decode(some(9), sequences={}, fixed={})
    with pytest.raises(ValueError, match=r"a column once, got \['ids'\]"):
        decode(some(9), sequences={"ids": np.asarray}, fixed={"ids": np.asarray})


@pytest.mark.parametrize("count", [21, 22, 27])
def test_windows_share_an_id_with_the_next_one(count):
    ids = np.random.default_rng(count).integers(0, 99, count)
    column = windows(ids, 5)
    rows, lengths = padded(column, np.arange(len(column.lengths)), 6)
    assert (lengths == 6).all() and len(lengths) == (count - 1) // 5
    np.testing.assert_array_equal(rows[1:].T.ravel(), ids[1 : 1 + 5 * len(lengths)])
    np.testing.assert_array_equal(rows[0, 1:], rows[-1, :-1])
