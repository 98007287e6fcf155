"""The experiment on the rows of the specification: what holds and what does not, and what is shown of it."""

import math

import launching
import numpy as np
import pytest

from experiments import _closed_forms_check as check
from experiments import closed_forms
from experiments._closed_forms_check import Check
from rnnlab.probes.specs import SPECS


def test_every_row_is_measured_here_or_by_a_benchmark():
    assert {*closed_forms.MEASURES, *closed_forms.ELSEWHERE} == set(SPECS)
    assert not {*closed_forms.MEASURES} & {*closed_forms.ELSEWHERE}


# Checks.


def test_a_check_holds_within_its_tolerance_and_keeps_the_furthest():
    rng = np.random.default_rng(0)
    expected = rng.uniform(2, 3, (4, 5))
    off = rng.uniform(-0.1, 0.1, (4, 5))
    off[1, 2] = -0.2
    for made, scale in ((check.absolute, 1.0), (check.relative, expected)):
        found = made("what", "where", expected, expected + off * scale, 0.19)
        assert not found.holds and found.error == pytest.approx(0.2)
        assert (found.expected, found.measured) == pytest.approx((expected[1, 2], (expected + off * scale)[1, 2]))
        assert made("what", "where", expected, expected + off * scale, 0.21).holds
    assert check.absolute("what", "where", 0.0, 1.0, 1.0).holds  # the tolerance itself is allowed


def test_bounds_have_no_tolerance():
    assert check.at_most("what", "", 3, [2, 3]).holds and check.at_least("what", "", 3, [4, 3]).holds
    above, below = check.at_most("what", "", 3, [2, 3.5]), check.at_least("what", "", 3, [4, 2.5])
    assert not above.holds and not below.holds
    assert above.measured == 3.5 and below.measured == 2.5 and above.error == below.error == 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_never_holds(bad):
    values = np.array([1.0, bad, 1.0])
    for found in (
        check.absolute("what", "", 1.0, values, 0.1),
        check.relative("what", "", 1.0, values, 0.1),
        check.far("what", "", values, 2.0),
        check.at_most("what", "", 1.0, values),
    ):
        assert not found.holds
    assert not check.at_least("what", "", 1.0, -values).holds


def test_tests_are_told_of_every_number_that_does_not_hold():
    good, bad = check.absolute("good", "", 1.0, 1.0, 0.1), check.absolute("bad", "", 1.0, 2.0, 0.1)
    check.require([good])
    with pytest.raises(AssertionError, match="bad"):
        check.require([good, bad])
    with pytest.raises(AssertionError):
        check.require([])


# What is shown.

MADE = {
    "R20": [
        Check("gamma", "elman", 0.6, 0.7, 0.1, 0.03, curve=tuple(math.log(0.7) * np.arange(61))),
        Check("gamma", "lstm", 0.9, 0.9, 0.0, 0.03, curve=tuple(math.log(0.9) * np.arange(61))),
    ],
    "R8": [Check("chi, measured", "sigma_w 1", 0.7, 0.71, 0.0143, 0.04)],
    "R1": [
        Check("ln of gradient norm", "g = 1", 1.0, 1.0, 0.0, 1e-12, seed=0),
        Check("ln of gradient norm", "g = 1", 1.0, 1.5, 0.5, 1e-12, seed=1),
        Check("lags beyond it", "tanh", 0.0, 2.0, 2.0, 0.0, "<="),
    ],
}


@pytest.fixture
def made(monkeypatch):
    """Rows that are what the test says."""
    for name, checks in MADE.items():
        monkeypatch.setitem(closed_forms.MEASURES, name, lambda spec, checks=checks: checks)
    return ",".join(MADE)


def test_the_table_says_what_does_not_hold(made, tmp_path):
    assert launching.launched("closed_forms", tmp_path, row=made) == 0
    run = launching.only_run(tmp_path)
    assert len(run.rows()) == 6 and [row["row"] for row in run.rows("timings")] == list(MADE)
    text = (run.path / "table.txt").read_text()
    lines = text.split("\n\n")[0].splitlines()[2:]
    assert [line.split()[0] for line in lines if line[0] != " "] == ["R1", "R8", "R20"]
    verdicts = [line.split("  ")[-1].strip() for line in lines]
    assert verdicts == ["NO 1/2", "NO", "yes", "NO", "yes"]
    assert " 1.5 " in lines[0] and "<= 0 " in lines[1]  # of the seeds, the one that is off
    assert "3 of 6 checked numbers hold. NOT all of R1, R20." in text
    assert "generated" in text and run.provenance["cpu"]["model"] in " ".join(text.split())
    assert " ".join(SPECS["R20"].note.split()) in " ".join(text.split()) and "R9:" not in text
    assert max(map(len, text.split("\n\n")[2].splitlines())) <= 118
    errors, chi, decays = closed_forms.figure(run).axes
    assert [words.get_text().split()[-1] for words in errors.get_yticklabels()] == ["R20", "R8", "R1"]
    assert len(decays.texts) == 2 and chi.get_xlabel()


def test_an_interrupted_run_goes_on_by_row(made, tmp_path, monkeypatch):
    measured = []

    def interrupted(name):
        if name == "R8" and "R8" not in measured:
            measured.append(name)
            raise KeyboardInterrupt
        measured.append(name)
        return MADE[name]

    monkeypatch.setattr(closed_forms, "measured", interrupted)
    assert launching.launched("closed_forms", tmp_path, row=made) == 130
    assert launching.launched("closed_forms", tmp_path, row=made) == 0
    assert measured == ["R20", "R8", "R8", "R1"]
    assert [row["row"] for row in launching.only_run(tmp_path).rows()] == ["R20"] * 2 + ["R8"] + ["R1"] * 3


@pytest.mark.parametrize(("row", "words"), [("R99", "one of R1, "), ("R22", "one of R1, "), ("R1,R1", "once")])
def test_a_row_that_is_not_there_is_one_line(row, words, tmp_path, capsys):
    assert launching.launched("closed_forms", tmp_path, row=row) == 2
    message = capsys.readouterr().err
    assert words in message and "row" in message and message.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_cheap_rows_from_end_to_end(tmp_path):
    for folder in "ab":
        assert launching.launched("closed_forms", tmp_path / folder, row="R3,R21") == 0
    one, again = (launching.only_run(tmp_path / folder) for folder in "ab")
    assert [row["holds"] for row in one.rows()] == [True] * (2 * len(SPECS["R3"].seeds) + 2)
    assert (one.path / "metrics.jsonl").read_bytes() == (again.path / "metrics.jsonl").read_bytes()
    assert (one.path / "figure.png").stat().st_size > 10_000
