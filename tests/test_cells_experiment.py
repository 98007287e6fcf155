"""The comparison of cells at a tiny size, from flags to figure. Nothing here depends on how fast anything is."""

import math

import jax
import jax.numpy as jnp
import launching
import numpy as np
import pytest

from experiments import _cells_measure as measure
from experiments import cells
from rnnlab import runs
from rnnlab.cells import CELLS
from rnnlab.errors import InputError
from rnnlab.types import Cell

pytestmark = pytest.mark.usefixtures("allow_promotion")

TINY = dict(
    cell="elman,lstm,lstm_1997,conv_lstm",
    hidden=8,
    dim=3,
    rows=2,
    columns=2,
    batch=2,
    length=30,
    first_lag=2,
    last_lag=12,
    seconds=0,
    rounds=2,
    seeds=1,
)
RUN = tuple(TINY["cell"].split(","))


def launched(folder, **more):
    return launching.launched("cells", folder, **{**TINY, **more})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    assert launched(folder) == 0
    return launching.only_run(folder)


def facts(run):
    return {row["cell"]: row for row in run.rows() if row["kind"] == "cell"}


@pytest.mark.slow
def test_every_cell_has_its_rows_a_line_and_a_place_in_the_figure(finished):
    assert list(facts(finished)) == list(RUN)
    assert [row["cell"] for row in finished.rows() if row["kind"] == "decay"] == list(RUN)
    assert {row["cell"]: len(row["seconds"]) for row in finished.rows("timings")} == dict.fromkeys(RUN, 2)
    text = (finished.path / "table.txt").read_text()
    assert all(any(line.startswith(name + " ") for line in text.splitlines()) for name in RUN)
    assert "generated" in text and "seed 0" in text and finished.provenance["cpu"]["model"] in " ".join(text.split())
    panels = [axis for axis in cells.figure(finished).axes]
    assert [len(axis.get_yticks()) for axis in panels] == [len(RUN)] * 3
    longest = [line.cell for line in cells.lines_of(finished)]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == longest


@pytest.mark.parametrize("name", cells.NAMES)
def test_closed_forms_agree_with_autodiff(name):
    small = measure.made(name, 6, 2, 2, 2)
    found, promised = measure.own_decay(small.cell, small.event, seed=0), measure.CLOSED.get(name)
    if promised is not None:
        assert abs(found - promised) < 1e-5
    if name in ("elman", "elman_relu", "irnn", "jordan"):
        assert found == 0 and promised is None


@pytest.mark.slow
def test_both_are_stored(finished):
    for name, row in facts(finished).items():
        assert row["closed"] == measure.CLOSED.get(name)
        assert row["autodiff"] == pytest.approx(row["closed"] or 0, abs=1e-5)


@pytest.mark.slow
def test_sizes_are_those_of_the_cells(finished):
    found = facts(finished)
    H, D = 8, 3
    assert found["elman"]["parameters"] == H * D + H * H + H and found["elman"]["carry"] == H
    assert found["lstm"]["parameters"] == 4 * (H * D + H * H + H) and found["lstm"]["carry"] == 2 * H
    images = found["conv_lstm"]  # 2 channels of 4 pixels; 1 input channel
    assert (images["units"], images["carry"]) == (8, 16) and images["parameters"] == 9 * (1 + 2) * 8 + 8


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_one_another_decay(tmp_path):
    for folder in "ab":
        assert launched(tmp_path / folder, cell="ugrnn", seed=3, seeds=2) == 0
    one, again = (next((tmp_path / n).iterdir()) for n in "ab")
    assert (one / "metrics.jsonl").read_bytes() == (again / "metrics.jsonl").read_bytes()
    decays = [row for row in runs.Run(one).rows() if row["kind"] == "decay"]
    assert [row["seed"] for row in decays] == [3, 4] and decays[0]["gamma"] != decays[1]["gamma"]
    assert {row["cell"] for row in runs.Run(one).rows("timings")} == {"elman", "ugrnn"}  # time over Elman's


def toy(step, *, carry=2) -> Cell:
    """A cell of `step` and `carry` leaves, of four units each."""
    names = [f"s{n}" for n in range(carry)]
    return Cell(
        init=lambda key, dim, dtype=jnp.float32: {"a": jax.random.normal(key, (4,), dtype)},
        start=lambda weights, batch: dict.fromkeys(names, jnp.zeros((*batch, 4), jnp.float32)),
        drive=lambda weights, xs: xs[..., :4],
        step=lambda weights, carry, z: step(weights["a"], carry, z),
        read=lambda weights, carry, xs: carry[names[0]],
    )


def rotated(a, s, z):
    return {"s0": a * s["s0"] - s["s1"] + z, "s1": s["s0"] + a * s["s1"]}


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (toy(rotated), "linear, diagonal"),
        (toy(lambda a, s, z: {"s0": jnp.tanh(a * s["s0"] + z)}, carry=1), "diagonal"),
        (toy(lambda a, s, z: {"s0": jnp.roll(s["s0"], 1, -1) * a + z}, carry=1), "linear"),
        (CELLS["elman"](4), "sequential"),
        (CELLS["irnn"](4), "sequential"),  # whose first U, the identity, is diagonal
    ],
)
def test_structure_is_measured(cell, expected):
    assert measure.words(measure.structure(cell, (5,), seed=1)) == expected


def test_decay_is_that_of_an_explicit_gradient():
    """A linear network of one number: every norm is a power of its weight."""
    cell = toy(lambda a, s, z: {"s0": jnp.float32(0.8) * s["s0"] + z}, carry=1)
    fit = measure.decay(measure.Made(cell, (5,), 4), (20, 3), (2, 15))(7)
    np.testing.assert_allclose([fit["gamma"], fit["r2"]], [0.8, 1.0], rtol=1e-5)
    assert fit["lags"] == 14


def test_half_lives_in_words():
    assert measure.half_life(0.5) == 1 and measure.half_life(1.0) == measure.half_life(1.01) == math.inf
    assert cells.shown([2.0]) == "2.0" and cells.shown([2.0, math.inf]) == "never fades"
    assert cells.shown([math.nan, 2.0]) == "-"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(last_lag=30), "last_lag: expected at least 3 lags"),
        (dict(first_lag=12), "last_lag: expected at least 3 lags"),
        (dict(cell="gru,gru"), "cell: expected every cell once"),
        (dict(cell="grru"), "one of elman"),
        (dict(hidden=0), "at least 1"),
    ],
)
def test_what_does_not_fit_is_one_line(change, words, tmp_path, capsys):
    assert launched(tmp_path, **change) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_cell_given_twice_is_refused():
    with pytest.raises(InputError, match="every cell once"):
        cells.inputs(cells.Config(cell=("gru", "gru")))
