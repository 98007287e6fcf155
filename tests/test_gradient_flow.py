"""The main experiment at a tiny size, from flags to figure."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import jax
import launching
import numpy as np
import pytest

from experiments import _gradient_programs, _gradient_table, gradient_flow
from rnnlab import probes, runs
from rnnlab.cells import CELLS
from rnnlab.errors import InputError
from rnnlab.layers import zero_taps
from rnnlab.models.language_model import LanguageModel

pytestmark = [
    pytest.mark.usefixtures("allow_promotion"),
    pytest.mark.xdist_group("gradient_flow"),
]  # one worker, one run

ROOT = Path(__file__).parents[1]
TINY = dict(
    cell="elman,lstm", layers=2, hidden=6, length=12, batch=3, steps=4, measurements=2, examples=5, seeds=2,
    first_lag=1, scored=200,
)  # fmt: skip


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A generated text with some order in it: 3,000 characters."""
    rng = np.random.default_rng(5)
    words = ["".join(rng.choice(list("abcdefgh"), rng.integers(2, 6))) for _ in range(20)]
    path = tmp_path_factory.mktemp("text") / "story.txt"
    path.write_text(" ".join(rng.choice(words, 800))[:3000])
    return path


def launched(folder, story, **more):
    return launching.launched("gradient_flow", folder, **{**TINY, "text": story, **more})


@pytest.fixture(scope="module")
def finished(story, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    assert launched(folder, story) == 0
    return launching.only_run(folder)


def test_it_leaves_rows_series_table_and_figure(finished):
    rows = finished.rows()
    kinds = ("data", "train", "validation", "score")
    assert [sum(r["kind"] == kind for r in rows) for kind in kinds] == [1, 2 * 2 * 4, 2 * 2 * 3, 2 * 2]
    steps = [r["step"] for r in rows if (r["kind"], r.get("cell"), r.get("seed")) == ("validation", "lstm", 1)]
    assert steps == [0, 1, 4]
    assert sum(r["kind"] == "decay" for r in rows) == 2 * 2 * 2 * len(steps)
    for name in ("last_mean", "sum_dh", "last_dc"):
        assert finished.series(f"lstm_seed1_{name}").shape == (3, 2, 12)
    assert finished.series("lstm_seed1_train_sum").shape == (4, 2, 12)
    assert (finished.path / "figure.png").stat().st_size > 20_000 and (finished.path / "figure.pdf").exists()
    assert len(finished.rows("timings")) == 4
    assert len(list(finished.path.glob("tensorboard/*/*tfevents*"))) == 4
    text = (finished.path / "table.txt").read_text()
    assert all(word in text for word in ("Elman (tanh)", "LSTM, forget bias 1", "unigram", "bigram", "seeds 0 to 1"))


def same_results(one, other):
    names = ["metrics.jsonl", *(f"series/{file.name}" for file in one.path.glob("series/*"))]
    assert len(names) > 40
    for name in names:
        assert (one.path / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(finished, story, tmp_path):
    assert launched(tmp_path, story) == 0
    [again] = tmp_path.iterdir()
    assert again.name == finished.path.name
    same_results(finished, again)


@pytest.mark.faults
@pytest.mark.parametrize("after", [1, 5, 8])
def test_interrupted_and_started_again_it_gives_the_same_bytes(finished, story, tmp_path, monkeypatch, capsys, after):
    """In the first part, in the second, and between its last step and its end."""
    calls, keep = iter(range(after)), gradient_flow.keep_profiles

    def interrupted(*args):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        keep(*args)

    with monkeypatch.context() as patch:
        patch.setattr(gradient_flow, "keep_profiles", interrupted)
        assert launched(tmp_path, story) == 130
    [path] = tmp_path.iterdir()
    assert json.loads((path / "status.json").read_text())["state"] == "incomplete"
    assert launched(tmp_path, story) == 0
    assert ": resumed (interrupted at" in capsys.readouterr().err
    same_results(finished, path)


@pytest.mark.slow
def test_another_seed_gives_another_run(finished, story, tmp_path):
    assert launched(tmp_path, story, seed=7, seeds=1, cell="elman") == 0
    [other] = tmp_path.iterdir()
    assert other.name != finished.path.name
    bits = {(r["seed"], r["step"]): r["bits"] for r in runs.Run(other).rows() if r["kind"] == "train"}
    assert {seed for seed, _ in bits} == {7}
    assert bits[7, 1] != next(r["bits"] for r in finished.rows() if r["kind"] == "train")


def test_stored_norms_are_the_gradients_of_each_sequences_own_loss(story):
    """From scratch: perturb one carry through explicit autodiff, sequence by sequence, without taps of a batch."""
    config = gradient_flow.Config(
        cell=("gru",), layers=2, hidden=5, length=8, examples=3, text=str(story), first_lag=1, seeds=1
    )
    given = gradient_flow.inputs(config)
    compiled = gradient_flow.programs(config, given, "gru")
    params = compiled.init(0).params
    found = compiled.measure(params)["last"]
    model = LanguageModel([CELLS["gru"](5)] * 2, given.vocabulary.size, 5)
    starts = np.linspace(0, len(given.test) - 9, 3).astype(int)
    logs = []
    for start in starts:
        ids = jax.numpy.asarray(given.test[start : start + 9, None])
        taps = zero_taps(model.cells, params.stack, 8, (1,))
        pulled = jax.grad(lambda taps, ids=ids: model.losses(params, ids, taps=taps)[-1, 0])(taps)
        logs.append([np.log(np.linalg.norm(np.asarray(layer.h[:, 0]), axis=-1)) for layer in pulled])
    np.testing.assert_allclose(found.mean, np.mean(logs, axis=0), rtol=1e-4)
    np.testing.assert_array_equal(found.mean, found.parts["h"])


def test_bits_of_the_summed_loss_are_per_character(finished):
    first = next(r for r in finished.rows() if r["kind"] == "train")
    size = next(r for r in finished.rows() if r["kind"] == "data")["vocabulary"]
    assert 0.5 * math.log2(size) < first["bits"] < 2 * math.log2(size)


def test_the_table_repeats_the_stored_fit(finished):
    mean = np.stack([finished.series(f"elman_seed{s}_last_mean")[0, 1] for s in (0, 1)])
    fit = probes.fit_decay(jax.numpy.asarray(mean), 1, 7)
    gammas = [r["gamma"] for r in _gradient_table.fits_of(finished.rows(), "elman", 2, 0)]
    np.testing.assert_allclose(gammas, fit.gamma, rtol=1e-6)
    line = next(one for one in gradient_flow.table(finished).splitlines() if one.startswith("Elman"))
    assert f"{np.mean(gammas):.3f}" in line


def test_held_out_characters_are_scored_once_each():
    ids = np.arange(1000)
    rows = _gradient_programs.side_by_side(ids, most=7)
    predicted = rows[1:].T.ravel()
    assert rows.shape == (143, 7) and np.array_equal(predicted, np.arange(1, 995))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(length=400), "expected at least"),
        (dict(length=20, batch=200), "expected at least 4447 characters .*batch=200"),
        (dict(devices=2), "devices: expected 1 to 1"),
        (dict(clip=0.0), "clip: expected a norm above 0"),
        (dict(data="tiny_shakespeare"), "got both"),
        (dict(first_lag=8, last_lag=8), "last_lag"),
        (dict(last_lag=100), "last_lag"),
        (dict(text="/nowhere/at/all.txt"), "No such file"),
    ],
)
def test_what_does_not_fit_is_refused(story, change, words):
    with pytest.raises(InputError, match=words):
        gradient_flow.inputs(gradient_flow.Config(**{"text": str(story), **change}))


def test_the_size_of_a_text_is_that_of_its_normal_form(tmp_path):
    """A letter and its accent are two characters before, and one after."""
    path = tmp_path / "accents.txt"
    path.write_text("e\u0301a\u0300 " * 900, encoding="utf-8")  # 4,500 characters, 2,700 in normal form
    config = gradient_flow.Config(text=str(path), length=100, batch=26)
    with pytest.raises(InputError, match=r"expected at least 2892 characters .*, got 2700 in accents.txt"):
        gradient_flow.inputs(config)


def test_a_diverged_run_says_so_and_stays_incomplete(story, tmp_path, capsys):
    assert launched(tmp_path, story, learning_rate=1e30, clip=1e30, cell="elman_relu") == 2
    [path] = tmp_path.iterdir()
    assert json.loads((path / "status.json").read_text())["state"] == "incomplete"
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: training: expected finite numbers, given loss ")
    # The layer and the timestep depend on what is drawn. Step 1 is taken at rate 0, and after it all is measured.
    assert re.search(r"at step [23], layer [12] of 2, timestep \d+ of 12 \(carry\); .*/elman_relu_seed0/[12]$", said)


@pytest.mark.slow
def test_two_devices_are_as_one(story, tmp_path):
    """As users start it: the process begins again with two devices."""
    flags = {**TINY, "cell": "gru", "batch": 4, "seeds": 1, "text": story}
    words = [f"--{name}={value}" for name, value in flags.items()]
    found = {}
    for count in (1, 2):
        folder = tmp_path / str(count)
        command = [sys.executable, "launch.py", "gradient_flow", *words, f"--devices={count}", f"--runs={folder}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        run = launching.only_run(folder)
        assert ("device_count=2" in done.stderr) == (count == 2) and run.config["devices"] == count
        found[count] = [r["bits"] for r in run.rows() if "bits" in r], run.series("gru_seed0_train_sum")
    np.testing.assert_allclose(found[1][0], found[2][0], rtol=1e-5)
    np.testing.assert_allclose(found[1][1], found[2][1], atol=1e-4)
