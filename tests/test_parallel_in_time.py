"""Evaluation in parallel over time at a tiny size, from flags to figure; nothing depends on how fast it is."""

import launching
import numpy as np
import pytest

from experiments import _parallel_measure as measure
from experiments import _parallel_table, parallel_in_time
from rnnlab.errors import InputError

pytestmark = pytest.mark.usefixtures("allow_promotion")

TINY = dict(
    cell="gru,lru", lengths="20,60", hidden=3, seconds=0, rounds=2, gains="0.5,3", gain_lengths="30,60", gain_hidden=8,
    max_iterations=40, seeds=2,
)  # fmt: skip


def launched(folder, **more):
    return launching.launched("parallel_in_time", folder, **{**TINY, **more})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    assert launched(folder) == 0
    return launching.only_run(folder)


@pytest.mark.slow
def test_every_engine_that_takes_a_cell_is_measured_over_t(finished):
    rows = [row for row in finished.rows() if row["kind"] == "length"]
    expected = {"gru": ["scan", "fused", "full", "quasi"], "lru": ["scan", "full", "quasi", "associative"]}
    found = [(row["cell"], row["T"], row["engine"], row["seed"]) for row in rows]
    wanted = [(c, T, e, s) for c, engines in expected.items() for T in (20, 60) for e in engines for s in (0, 1)]
    assert found == wanted
    assert all(row["error"] < 1e-5 for row in rows)
    newton = [row for row in rows if row["engine"] in ("full", "quasi")]
    assert all(row["converged"] == 1 and 1 < row["iterations"] <= 40 and row["residual"] < 1e-5 for row in newton)
    assert {row["iterations"] for row in rows if row["engine"] == "associative"} == {0}
    assert all(row["error"] == 0 for row in rows if row["engine"] == "scan")
    timed = [row for row in finished.rows("timings") if row["kind"] == "length"]
    assert [(row["cell"], row["T"], row["engine"]) for row in timed] == list(dict.fromkeys(w[:3] for w in wanted))
    assert all(len(row["seconds"]) == 2 and row["temporary"] > 0 for row in timed)


@pytest.mark.slow
def test_time_is_measured_at_every_exponent_too(finished):
    rows = [row for row in finished.rows("timings") if row["kind"] == "gain"]
    assert [(row["gain"], row["engine"]) for row in rows] == [
        (g, e) for g in (0.5, 3) for e in ("scan", "full", "quasi")
    ]
    assert {row["T"] for row in rows} == {60} and all(len(row["seconds"]) == 2 for row in rows)
    gains = {
        row["exponent"] for row in finished.rows() if row["kind"] == "gain" and row["T"] == 60 and row["seed"] == 0
    }
    assert {one.exponent for one in _parallel_table.costs(finished)} == gains


@pytest.mark.slow
def test_chaos_ends_convergence_and_the_scan_s_result_stands_in(finished):
    rows = [row for row in finished.rows() if row["kind"] == "gain"]
    assert len(rows) == 2 * 2 * 2 * 2
    for row in rows:
        if row["gain"] == 0.5:
            assert row["exponent"] < -0.3 and row["converged"] == 1 and row["error"] < 1e-5
        elif row["T"] == 60 and row["exponent"] > 0.05:
            assert row["converged"] == 0 and row["iterations"] == 40 and row["error"] == 0
    assert any(row["converged"] == 0 for row in rows)


def row(engine, length, exponent, converged):
    return {"kind": "gain", "engine": engine, "T": length, "exponent": exponent, "converged": converged}


def test_a_boundary_lies_between_the_last_and_the_first():
    class Stored:
        def rows(self):
            table = [("full", 10, -1.0, 1), ("full", 10, -0.2, 1), ("full", 10, 0.1, 0), ("full", 10, 0.3, 1)]
            return [row(*one) for one in [*table, ("quasi", 10, -1.0, 1), ("quasi", 20, -1.0, 0)]]

    assert _parallel_table.boundaries(Stored()) == [
        ("full", 10, -0.2, 0.1), ("quasi", 10, -1.0, None), ("quasi", 20, None, -1.0),
    ]  # fmt: skip


@pytest.mark.slow
def test_table_and_figure_say_what_was_run(finished):
    text = (finished.path / "table.txt").read_text()
    assert (
        "generated" in text and "seeds 0 to 1" in text and finished.provenance["cpu"]["model"] in " ".join(text.split())
    )
    assert sum(line.startswith("gru ") for line in text.splitlines()) == 8
    drawn = parallel_in_time.figure(finished)
    assert [axis.get_title(loc="left")[0] for axis in drawn.axes] == list("abcdef")
    assert len(drawn.axes[1].get_lines()) == 6 + 1  # gru: fused, full, quasi; lru: three; and the line at 1
    assert len(drawn.axes[2].get_lines()) == 8


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(finished, tmp_path):
    assert launched(tmp_path) == 0
    [again] = tmp_path.iterdir()
    assert (again / "metrics.jsonl").read_bytes() == (finished.path / "metrics.jsonl").read_bytes()


def test_exponent_is_the_one_of_a_known_network():
    """Without inputs at h = 0 the Elman network's Jacobian is U^T: the exponent is ln of its spectral radius."""
    cell = measure.gained(6, 0.8)
    given = measure.drawn(cell, measure.Sizes(1, 4000, 2, 6), seed=3, scale=0.0)
    radius = np.abs(np.linalg.eigvals(np.asarray(given.params.U))).max()
    assert abs(measure.exponent(cell)(given, 0) - np.log(radius)) < 2e-3


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ({"cell": "grue"}, "cell: expected one of elman, "),
        ({"lengths": "20,20"}, "lengths: expected every item once, got 20,20"),
        ({"gains": "1,1.0"}, "gains: expected every item once, got 1.0,1.0"),
        ({"engine": "full"}, "engine: expected scan among them"),
    ],
)
def test_refuses(flag, words):
    given = {name: tuple(v.split(",")) if isinstance(v, str) else v for name, v in flag.items()}
    for name, kind in (("lengths", int), ("gains", float)):
        given |= {name: tuple(map(kind, given[name]))} if name in given else {}
    with pytest.raises(InputError, match=words):
        parallel_in_time.inputs(parallel_in_time.Config(**given))


def test_gains_are_checked_where_they_enter(tmp_path, capsys):
    assert launched(tmp_path, gains="1,x") == 2
    assert (
        "flag --gains=1,x: expected a list with commas, each item a finite number of at least 0.0"
        in capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []
