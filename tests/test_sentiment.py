"""`sentiment`: how its texts are split and encoded, its running score, its run from flags to figure, what it says."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from launching import launched, only_run

from experiments import _sentiment_programs, _sentiment_table, sentiment
from experiments._sentiment_data import Rated, encoded, opened, vocabularies_of
from rnnlab.data.sources.lines import split_of
from rnnlab.errors import InputError

pytestmark = pytest.mark.usefixtures("allow_promotion")

SEED = int.from_bytes(os.urandom(4), "big")
TINY = dict(cell="elman", steps=6, seeds=2, measurements=2, hidden=4, embedding=4, batch=16, shown=2)


def written(path: Path, count: int = 160) -> Path:
    """Texts whose rating is what their words are worth, some of them twice and some rated 0."""
    rng = np.random.default_rng(SEED)
    worth = {f"good{n}": 1 for n in range(6)} | {f"bad{n}": -1 for n in range(6)} | {f"word{n}": 0 for n in range(20)}
    lines = []
    for _ in range(count):
        words = rng.choice(list(worth), rng.integers(3, 12)).tolist()
        lines.append(f"{sum(worth[w] for w in words) / 2:g}\t{' '.join(words)}")
    lines += [line for line in lines if not line.startswith("0\t")][:40]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("texts") / "texts.tsv")


@pytest.fixture(scope="module")
def run(file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    assert launched("sentiment", folder, file=file, **TINY) == 0
    return only_run(folder)


def test_texts_are_split_by_the_hash_of_their_ids_and_training_has_none_of_the_others(file):
    given = opened(str(file), {})
    lines = file.read_text().splitlines()
    ratings = [float(line.split("\t")[0]) for line in lines]
    assert given.zeros == ratings.count(0) > 0
    for split, some in given.splits.items():
        assert all(split_of(one.id) == split for one in some)
        assert all(lines[int(one.id) - 1] == f"{one.rating:g}\t{one.text}" for one in some)
    of = {split: {one.text for one in some} for split, some in given.splits.items()}
    assert not of["train"] & (of["validation"] | of["test"])
    kept = sum(map(len, given.splits.values()))
    assert given.removed > 0 and kept + given.zeros + given.removed == len(lines)
    assert given.shared == sum(one.text in of["validation"] for one in given.splits["test"])


def test_every_step_has_its_word_and_the_pair_that_ends_there():
    train = [Rated("1", "a b c, a b", 1.0), Rated("2", "c a", -1.0)]
    vocabularies = vocabularies_of(train, 2)
    found = encoded(vocabularies, ["c", "a", "b", "never", "b"])
    tokens = vocabularies.grams.tokens
    assert [tokens[n] for n in found["grams"][:, 0]] == ["c", "a", "b", "<unknown>", "b"]
    assert [tokens[n] for n in found["grams"][:, 1]] == ["<unknown>", "c a", "a b", "<unknown>", "<unknown>"]
    assert [vocabularies.words.tokens[n] for n in found["ids"]] == ["c", "a", "b", "<unknown>", "b"]
    assert encoded(vocabularies, [])["grams"].shape == (0, 2)


def test_the_term_of_ngrams_begins_as_a_share_of_naive_bayes(file):
    given = opened(str(file), {})
    vocabularies = vocabularies_of(given.splits["train"], 1)
    config = sentiment.Config(ngrams_scale=1.0, hidden=4, embedding=4)
    bayes = sentiment.naive_bayes.fitted(*sentiment._pair(given.splits["train"]), 1.0)
    variant = _sentiment_programs.Variant("elman", "naive_bayes")
    table = _sentiment_programs.first_grams(config, variant, bayes, vocabularies)
    prior = np.diff(bayes.model.class_log_prior_)[0]
    for one in given.splits["test"][:5]:
        added = table[encoded(vocabularies, one.words)["grams"].ravel()]
        assert added[:, 1].sum() - added[:, 0].sum() + prior == pytest.approx(bayes.log_odds([one.words])[0], abs=1e-4)


def test_a_bidirectional_running_score_is_of_each_prefix(file, monkeypatch):
    monkeypatch.setattr(_sentiment_programs, "PREFIXES", 8)
    monkeypatch.setattr(_sentiment_programs, "SHORTEST", 4)
    config = sentiment.Config(reads="both", hidden=3, embedding=4)
    vocabularies = vocabularies_of(opened(str(file), {}).splits["train"], 1)
    model = _sentiment_programs.classifier(config, "elman", vocabularies.words.size)
    params = model.init(jax.random.key(0))
    read = _sentiment_programs.reader(config, model, vocabularies)
    words = ["good1", "word3", "bad2", "nothing", "bad0"]
    running = read(params, words)
    assert running.after == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(
        running.positive, [read(params, words[:n]).positive[-1] for n in running.after], rtol=1e-5
    )
    long = read(params, words * 6)
    assert len(long.after) == 8 and long.after[-1] == 30
    whole = dict(zip(long.after, long.positive, strict=True))
    np.testing.assert_allclose(whole[long.after[2]], read(params, (words * 6)[: long.after[2]]).positive[-1], rtol=1e-5)


def test_a_run_leaves_its_table_figure_and_baselines(run):
    table = (run.path / "table.txt").read_text()
    assert "naive Bayes" in table and "unseen" in table and "the reader's own" in table
    assert (run.path / "figure.png").stat().st_size > 10_000
    rows = run.rows()
    test = run.load("test")
    [bayes] = [row for row in rows if row["kind"] == "baseline" and row["name"] == "naive_bayes"]
    assert bayes["test"] == pytest.approx(np.mean((test["naive_bayes"] > 0) == test["label"]))
    for row in (row for row in rows if row["kind"] == "test"):
        odds = run.load(f"{row['cell']}_{row['ngrams']}_seed{row['seed']}_test")["log_odds"]
        assert row["right"] == ((odds > 0) == test["label"]).sum() and row["count"] == len(odds)
    assert len([row for row in rows if row["kind"] == "running"]) == 2 * 2 * 3


@pytest.mark.parametrize(("share", "count", "expected"), [(0.5, 100, "[40.4, 59.6]"), (0.8, 1000, "[77.4, 82.4]")])
def test_the_interval_over_texts_is_wilsons(share, count, expected):
    assert _sentiment_table.within(share, count) == expected


def asked(run, *given: str, **how: str) -> list[dict]:
    predict = sentiment.predictor(run, sentiment.Predicting(**how))
    answers = [list(predict(text)) for text in given]
    assert all(len(one) == 1 for one in answers)
    json.dumps([one[0].row for one in answers], allow_nan=False)
    return [one[0].row for one in answers]


def test_it_is_asked(run):
    usual, empty, foreign, odd, long = asked(
        run, "Good1, bad2!", "  ", "यह फ़िल्म अच्छी है", "\0 \u200b 🙂 good1 \x1b[31m", "good1 bad2 " * 5000
    )
    assert usual["words"] == ["good1", ",", "bad2", "!"] and usual["unknown"] == 2
    assert usual["running"][-1] == usual["positive"] and len(usual["running"]) == 4
    assert usual["label"] == ("positive" if usual["positive"] > 0.5 else "negative")
    assert empty["label"] is None and empty["running"] == []
    assert foreign["unknown"] == len(foreign["words"]) == 4
    assert 0 < odd["positive"] < 1 and len(long["running"]) == 10_000


def test_each_model_of_a_run_can_be_asked(run):
    [plain], [with_ngrams] = asked(run, "good1 bad2", ngrams="none"), asked(run, "good1 bad2", ngrams="naive_bayes")
    assert plain["positive"] != with_ngrams["positive"]
    with pytest.raises(InputError, match="elman with naive_bayes"):
        sentiment.predictor(run, sentiment.Predicting(cell="gru"))


def test_a_prediction_is_the_models_own(run, file):
    """The stored running scores of the best seed, asked again."""
    [found] = [r for r in run.rows() if r["kind"] == "running" and r["seed"] == best(run) and r["number"] == 0
               and r["ngrams"] == "none"]  # fmt: skip
    [row] = asked(run, " ".join(found["words"]), ngrams="none")
    np.testing.assert_allclose(row["running"], found["positive"], rtol=1e-5)


def best(run) -> int:
    chosen = [row for row in run.rows() if row["kind"] == "chosen" and row["ngrams"] == "none"]
    return min(chosen, key=lambda row: row["loss"])["seed"]


@pytest.mark.parametrize(
    ("content", "flags", "said"),
    [
        ("1.0 no tab\n", {}, "2 fields between tabs"),
        ("high\tgood\n", {}, "RATING TAB TEXT"),
        ("nan\tgood\n", {}, "RATING TAB TEXT"),
        ("1\t \n", {}, "RATING TAB TEXT"),
        ("1\tgood\n2\tfine\n", {}, "above and below 0"),
        (None, dict(join="residual", hidden=5), "expected 5"),
    ],
)
def test_bad_input_is_one_line(content, flags, said, file, tmp_path, capsys):
    path = file
    if content is not None:
        path = tmp_path / "wrong.tsv"
        path.write_text(content)
    assert launched("sentiment", tmp_path / "runs", file=path, **{**TINY, **flags}) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not (tmp_path / "runs").exists()
