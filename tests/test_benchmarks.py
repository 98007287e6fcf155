"""The benchmarks of memory: what is trained and measured, tiny runs from flags to figure, and what they claim."""

import inspect
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import launching
import numpy as np
import pytest
from scipy import stats

from experiments import (
    _benchmark,
    _benchmark_claims,
    _benchmark_programs,
    _compared_table,
    adding,
    agreement,
    cells_compared,
    copy_memory,
)
from rnnlab import cells, probes, report
from rnnlab.cells import CELLS
from rnnlab.errors import InputError
from rnnlab.probes.specs import R22, R23, R24
from rnnlab.tasks import TASKS
from rnnlab.tasks.task import A_CLASS

pytestmark = pytest.mark.usefixtures("allow_promotion")

ROOT = Path(__file__).parents[1]

TINY = dict(hidden=4, batch=3, steps=4, measurements=2, examples=5, tested=7, seeds=2)


# Variants.


def variants(**given):
    return [
        (one.cell, one.initialisation, one.bias) for one in _benchmark_programs.variants(_benchmark.Config(**given))
    ]


def test_a_cell_comes_with_every_initialisation_and_bias_that_it_takes():
    found = variants(cell=("elman", "lstm", "lru"), initialisation=("orthogonal", "uniform"), gate_bias=(0.0, 2.0))
    assert found == [
        ("elman", "orthogonal", None), ("elman", "uniform", None), ("lstm", "orthogonal", 0.0),
        ("lstm", "orthogonal", 2.0), ("lstm", "uniform", 0.0), ("lstm", "uniform", 2.0), ("lru", "own", None),
    ]  # fmt: skip
    assert variants(cell=("gru",), initialisation=("own",)) == [("gru", "own", None)]


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_is_a_variant(name):
    """Its factory's arguments are found behind caches and partials."""
    found = _benchmark_programs.variants(_benchmark.Config(cell=(name,), initialisation=("uniform",), gate_bias=(1.0,)))
    takes = inspect.signature(CELLS[name]).parameters
    assert [one.initialisation for one in found] == ["uniform" if "recurrent" in takes and "kernel" in takes else "own"]
    assert isinstance(_benchmark_programs.made(found[0], 4), cells.Cell)


@pytest.mark.parametrize(("name", "gate"), [("lstm", 1), ("gru", 1), ("lstm_forget0", 1)])
def test_uniform_matrices_and_a_bias_of_one_gate(name, gate):
    variant = _benchmark_programs.Variant(name, "uniform", 2.5)
    params = _benchmark_programs.made(variant, 16).init(jax.random.key(0), 3, jnp.float32)
    for matrix in (params.W, params.U):
        assert np.abs(matrix).max() <= 0.25 and np.abs(matrix).max() > 0.24  # 1 / sqrt 16
    expected = np.zeros_like(params.b)
    expected[gate * 16 : (gate + 1) * 16] = 2.5
    np.testing.assert_array_equal(params.b, expected)


# Lengths and batches.


def test_curricula():
    of = _benchmark_programs.CURRICULA
    assert [of["growing"](step, 8, 2, 12) for step in range(8)] == [(n, n) for n in (2, 2, 4, 4, 8, 8, 12, 12)]
    assert {of["mixed"](step, 8, 2, 12) for step in range(8)} == {(2, 12)}
    assert {of["none"](step, 8, 2, 12) for step in range(8)} == {(12, 12)}


POOL = {"train": (np.arange(10, dtype=np.int32),), "validation": (np.arange(10, 17, dtype=np.int32),)}


def pooled():
    """A task whose examples are one step with their number in it."""

    def draw(key, length, bound, item):
        example = TASKS["parity"]().draw(key, length, bound, ())
        return example._replace(targets=jnp.where(example.asked, item[0], 0))

    return TASKS["parity"]()._replace(draw=draw, pool=POOL)


def taken(task, position, count, **config):
    given = _benchmark.Config(**{**TINY, "length": 5, "batch": 3, **config})
    stream = _benchmark_programs.batches(given, task)(position)
    return [jax.tree.map(np.asarray, next(stream)) for _ in range(count)]


@pytest.mark.parametrize("task", [TASKS["parity"](), pooled()], ids=["generated", "pool"])
def test_batches_go_on_from_any_position_and_seeds_do_not_mind_each_other(task):
    whole = taken(task, [0, 0, 0], 6)
    for at in (2, 4):
        position = json.loads(json.dumps([int(n) for n in whole[at - 1][0]]))
        for (_, one), (_, two) in zip(whole[at:], taken(task, position, 6 - at), strict=True):
            jax.tree.map(np.testing.assert_array_equal, one, two)
    for (_, one), (_, two) in zip(whole[:2], taken(task, [0, 0, 0], 2, seed=1, seeds=1), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1:], b), one, two)
    assert not np.array_equal(whole[0][1].inputs, whole[1][1].inputs)


def test_an_epoch_reads_every_example_of_the_pool_once():
    numbers = np.array([batch.targets.sum(1) for _, batch in taken(pooled(), [0, 0, 0], 6)])  # [step, S, B]
    for epoch in (numbers[:3], numbers[3:]):
        for seed in range(2):
            assert len(set(epoch[:, seed].ravel())) == 9  # of 10, the tenth does not fill a batch


@pytest.mark.slow
def test_held_out_examples_are_so_many_and_no_training_example(monkeypatch):
    monkeypatch.setattr(_benchmark_programs, "EVALUATED", 4)
    config = _benchmark.Config(**TINY, length=5, test_length=(5, 9))
    examples = _benchmark_programs.held_out(config, TASKS["adding"]())
    found = [list(examples(split, 5, 10)) for split in ("validation", "test")]
    assert [[batch.lengths.size for batch in batches] for batches in found] == [[4, 4, 2]] * 2
    assert found[0][0].inputs.shape == (9, 4, 2) and not np.asarray(found[0][0].inputs[5:]).any()
    train = taken(TASKS["adding"](), [0, 0, 0], 1)[0][1].inputs[0]
    first = {float(np.asarray(batch.inputs)[0, 0, 0]) for batches in found for batch in batches}
    assert len(first) == 6 and float(train[0, 0, 0]) not in first
    pool = _benchmark_programs.held_out(config, pooled())
    numbers = np.concatenate([np.asarray(batch.targets.sum(0)) for batch in pool("validation", 5, 100)])
    np.testing.assert_array_equal(numbers, np.arange(10, 17))  # all there are, in order


# Programs.


@pytest.fixture(scope="module")
def programs():
    """Copying, 2 layers of a GRU, two seeds."""
    config = copy_memory.Config(cell=("gru",), initialisation=("own",), length=2, layers=2, **TINY)
    task = TASKS["copy_memory"]()
    [variant] = _benchmark_programs.variants(config)
    with jax.numpy_dtype_promotion("standard"):
        return config, task, _benchmark_programs.programs(config, task, variant)


@pytest.mark.slow
def test_the_decay_is_that_of_the_last_answers_loss_alone(programs):
    config, task, compiled = programs
    params = compiled.init().params
    example = _benchmark.Examples.of(config, task, {}).probe
    assert example.inputs.shape == (task.steps(2), 32)
    found = np.asarray(compiled.decay(params, example))
    model = _benchmark_programs.SequenceModel([cells.gru(4)] * 2, task.inputs, task.outputs, A_CLASS)
    for seed in range(2):
        own = jax.tree.map(lambda leaf, s=seed: leaf[s], params)

        def last(params, taps):
            said, _ = model.outputs_of(params, example.inputs, taps=taps)
            return A_CLASS.loss(said[-1], example.targets[-1])

        norms = probes.value_and_grad(last)(own, model.taps(own, example)).norms.joint
        np.testing.assert_allclose(found[seed], np.asarray(norms).mean(-1), atol=2e-4)
    assert found.shape == (2, 2, 22)


@pytest.mark.slow
def test_seeds_are_each_its_run_alone(programs):
    config, task, compiled = programs
    [variant] = _benchmark_programs.variants(config)
    alone = _benchmark.Config(**{**config.__dict__, "seed": 1, "seeds": 1})
    [(_, both), *_] = taken(task, [0, 0, 0], 1, length=2)
    new, seen = compiled.step(compiled.init(), jax.tree.map(jnp.asarray, both))
    other = _benchmark_programs.programs(alone, task, variant)
    one, own = other.step(other.init(), jax.tree.map(lambda leaf: jnp.asarray(leaf[1:]), both))
    for a, b in zip(jax.tree.leaves(new.params), jax.tree.leaves(one.params), strict=True):
        np.testing.assert_allclose(a[1:], b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen.norms[1:], own.norms, rtol=1e-4)
    assert not np.array_equal(jax.tree.leaves(new.params)[0][0], jax.tree.leaves(new.params)[0][1])


# From flags to figure.


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    assert launched("adding", folder) == 0
    return launching.only_run(folder)


def launched(name, folder, **more):
    own = dict(cell="elman", initialisation="uniform,own", length=6, test_length="6,9")
    return launching.launched(name, folder, **{**TINY, **own, **more})


def test_it_leaves_rows_series_table_and_figure(finished):
    rows = finished.rows()
    kinds = ("task", "validation", "test", "skipped")
    assert [sum(r["kind"] == kind for r in rows) for kind in kinds] == [1, 2 * 2 * 3, 2 * 2 * 2, 0]
    assert rows[0]["chance"] == pytest.approx(1 / 6) and rows[0]["lags"] == [5, 8] and rows[0]["origin"] == "generated"
    assert finished.series("elman_uniform_norms_6").shape == (4, 2, 1, 6)
    assert finished.series("elman_own_loss").shape == (4, 2) and finished.series("elman_own_decay").shape == (
        3,
        2,
        1,
        6,
    )
    assert (finished.path / "figure.png").stat().st_size > 20_000
    text = " ".join((finished.path / "table.txt").read_text().split())
    assert all(word in text for word in ("uniform", "own", "0.1667", "seeds 0 to 1", "data: generated", "at 9"))
    loss = [
        row["loss"] for row in rows if row["kind"] == "test" and row["variant"] == "elman_own" and row["length"] == 6
    ]
    assert report.interval(loss, 3, low=0) in text


def same_results(one, other):
    names = ["metrics.jsonl", *(f"series/{file.name}" for file in one.path.glob("series/*"))]
    assert len(names) == 7
    for name in names:
        assert (one.path / name).read_bytes() == (other.path / name).read_bytes(), name


@pytest.mark.faults
@pytest.mark.parametrize("after", [1, 2, 4])
def test_interrupted_and_started_again_it_gives_the_same_bytes(finished, tmp_path, monkeypatch, after):
    calls, keep = iter(range(after)), _benchmark.keep_validation

    def interrupted(*args):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        keep(*args)

    with monkeypatch.context() as patch:
        patch.setattr(_benchmark, "keep_validation", interrupted)
        assert launched("adding", tmp_path) == 130
    assert launched("adding", tmp_path) == 0
    same_results(finished, launching.only_run(tmp_path))


LENGTHS = {"copy_memory": (2, "1,2"), "temporal_order": (12, "12"), "parity": (4, "4,8"), "noise_padded": (3, "3")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["copy_memory", "temporal_order", "selective_copy", "noise_padded", "parity"])
def test_every_benchmark_runs(name, tmp_path):
    length, test_length = LENGTHS.get(name, (12, "12,20"))
    flags = dict(cell="gru", initialisation="own", first_length=1, length=length, test_length=test_length)
    assert launched(name, tmp_path, **flags) == 0
    assert "accuracy" in (launching.only_run(tmp_path).path / "table.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("flags", [dict(bidirectional=True, layers=2), dict(curriculum="mixed", first_length=2)])
def test_depth_directions_and_mixed_lengths(flags, tmp_path):
    assert launched("adding", tmp_path, cell="lstm", initialisation="uniform", **flags) == 0
    depth = 4 if "layers" in flags else 1  # two directions of two layers
    assert launching.only_run(tmp_path).series("lstm_uniform_norms_6").shape == (4, 2, depth, 6)


@pytest.mark.slow
def test_agreement_shows_the_lectures_sentences(tmp_path):
    flags = dict(cell="gru", initialisation="own", gate_bias="0,2", length=5, test_length="5")
    assert launched("agreement", tmp_path, **flags) == 0
    rows = [row for row in launching.only_run(tmp_path).rows() if row["kind"] == "shown"]
    assert len(rows) == 2 * 2 * 2 and {row["words"].split()[0] for row in rows} == {"Today", "Last"}
    assert all(0 < row["right"] < 1 and (row["answer"] in (0, 1)) for row in rows)


@pytest.mark.slow
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(tmp_path):
    assert launched("adding", tmp_path, initialisation="own", learning_rate=1e30, steps=6) == 0
    found = launching.only_run(tmp_path)
    skipped = [row for row in found.rows() if row["kind"] == "skipped"]
    text = " ".join((found.path / "table.txt").read_text().split())
    assert skipped and f"{len(skipped)} steps were not finite" in text


@pytest.mark.slow
def test_seeds_on_devices_of_their_own_are_as_on_one(tmp_path):
    """As users start it: the process begins again with two devices."""
    flags = {**TINY, "cell": "gru", "initialisation": "own", "length": 6, "test_length": "6"}
    words = [f"--{name}={value}" for name, value in flags.items()]
    found = {}
    for count in (1, 2):
        folder = tmp_path / str(count)
        command = [sys.executable, "launch.py", "adding", *words, f"--devices={count}", f"--runs={folder}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        run = launching.only_run(folder)
        assert ("device_count=2" in done.stderr) == (count == 2) and run.config["devices"] == count
        found[count] = [row["loss"] for row in run.rows() if "loss" in row], run.series("gru_own_norms_6")
    assert len(set(found[1][0])) == 8  # 3 validations and a test, of two seeds
    np.testing.assert_allclose(found[1][0], found[2][0], rtol=1e-5)
    np.testing.assert_allclose(found[1][1], found[2][1], atol=1e-4)


@pytest.mark.parametrize(
    ("module", "change", "words"),
    [
        (adding, dict(clip=0.0), "clip: expected a norm above 0, got 0"),
        (adding, dict(length=1), "length: expected at least 2, got 1"),
        (adding, dict(test_length=(1,)), "got 50 to train and 1 to test"),
        (adding, dict(cell=("elmann",)), "cell: expected one of elman"),
        (adding, dict(seeds=3, devices=1000), "devices: expected 1 to"),
        (adding, dict(curriculum="mixed", first_length=51), "first_length: expected 2 to length = 50"),
        (adding, dict(last_lag=50), "last_lag: expected at least 3 lags, first_lag = 0 < last_lag < 50 steps, got 50"),
        (cells_compared, dict(cell=("lstm", "gru")), "cell: expected at least 3 cells to rank, got lstm,gru"),
        (cells_compared, dict(adding_length=2), "adding: last_lag"),
    ],
)
def test_what_does_not_fit_is_refused(module, change, words):
    with pytest.raises(InputError, match=None) as caught:
        module.inputs(module.Config(**change))
    assert words in str(caught.value)


# What is claimed.


def test_chance_lines_are_those_of_the_specification():
    """R24."""
    for name, chance in R24.expected.items():
        for length in (20, 50):
            if name in TASKS:
                assert TASKS[name]().chance(length) == pytest.approx(chance(length), rel=R24.tolerance)


def rows_of(cell, bias, **values):
    return [
        dict(kind="test", cell=cell, bias=bias, initialisation="uniform", length=50, seed=seed, **{name: value[seed]})
        for name, value in values.items()
        for seed in range(len(value))
    ]


def test_a_claim_holds_in_every_seed_or_not_at_all():
    config = agreement.Config()
    assert _benchmark_claims.met(config, R22.setting) and _benchmark_claims.met(adding.Config(), R23.setting["adding"])
    assert _benchmark_claims.met(copy_memory.Config(), R23.setting["copy_memory"])
    good = rows_of("lstm", 1.0, accuracy=[0.995, 0.999, 1.0])
    bad = rows_of("gru", 2.0, accuracy=[0.995, 0.5, 1.0])
    chance = rows_of("lstm", 0.0, loss=[math.log(2), math.log(2) + 0.01, 0.7])
    lines = agreement.claims(config, good + bad + chance)
    assert [line.split(": ")[3].split(",")[0] for line in lines] == ["yes", "no", "yes"]
    assert "0.9950 to 1.0000 in 3" in lines[0] and agreement.claims(config, []) == []


def test_claims_are_made_of_the_specifications_settings_only():
    rows = rows_of("lstm", None, loss=[0.001]) + rows_of("elman", None, loss=[0.1])
    assert [line.split(": ")[3].split(",")[0] for line in adding.said(adding.Config(), rows)] == ["no", "yes"]
    assert adding.said(adding.Config(steps=10), rows) == []
    assert copy_memory.said(copy_memory.Config(), []) == []


def test_an_interval_is_students():
    values = [0.3, 0.5, 0.45]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert report.interval(values, 3) == f"{np.mean(values):.3f} [{low:.3f}, {high:.3f}]"
    assert report.interval([0.99, 1.0], 2, low=0, high=1) == "0.99 [0.93, 1.00]"
    assert report.interval([0.25], 2) == "0.25"


# Cells compared.


def test_ranks_are_spearmans_and_their_interval_is_of_the_cells():
    random = np.random.default_rng(1)
    ratio = random.normal(size=30)
    found = _compared_table.Compared([str(n) for n in range(30)], ratio, ratio + random.normal(size=30))
    rank = _compared_table.rank(found, 2000)
    assert rank.value == pytest.approx(stats.spearmanr(found.ratio, found.learned).statistic)
    assert rank.low < rank.value < rank.high and 0.2 < rank.high - rank.low < 0.7
    assert _compared_table.rank(found._replace(learned=np.exp(ratio)), 100) == pytest.approx((1.0, 1.0, 1.0))


@pytest.mark.slow
def test_a_grid_of_runs_goes_on_where_it_was(tmp_path, monkeypatch):
    flags = dict(cell="elman,gru,lru", task="copy_memory,agreement", hidden=4, batch=3, steps=2, seeds=2)
    flags |= dict(copy_length=2, agreement_length=3, resamples=100)
    calls, keep, trained = iter(range(2)), cells_compared.keep, []

    def interrupted(*args):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        keep(*args)

    with monkeypatch.context() as patch:
        patch.setattr(cells_compared, "keep", interrupted)
        assert launching.launched("cells_compared", tmp_path, **flags) == 130
    one = _benchmark.one_variant
    monkeypatch.setattr(_benchmark, "one_variant", lambda *args: (trained.append(args[3].part), one(*args)))
    assert launching.launched("cells_compared", tmp_path, **flags) == 0
    assert trained == ["elman_own", "gru_own", "lru_own"]  # of agreement; copying was done before
    found = launching.only_run(tmp_path)
    assert sorted(path.name for path in (found.path / "grid").iterdir()) == sorted(
        f"{task}-{cell}" for task in ("copy_memory", "agreement") for cell in ("elman", "gru", "lru")
    )
    rows = [row for row in found.rows() if row["kind"] == "compared"]
    assert len(rows) == 2 * 3 * 2 and len({(r["task"], r["cell"], r["seed"]) for r in rows}) == 12
    assert "rank correlation" in (found.path / "table.txt").read_text()
    assert (found.path / "figure.png").stat().st_size > 20_000
