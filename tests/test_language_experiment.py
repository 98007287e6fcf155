"""`language_model`: a tiny run from flags to figure, its scores against the model's losses, what it predicts."""

import io
import json
import math
import random

import jax
import jax.numpy as jnp
import launching
import numpy as np
import pytest

from experiments import _language_programs, _training, language_model
from experiments._language_programs import PIECE, made, reader, scorer
from rnnlab import cli, decode, predictions, runs
from rnnlab.data.text import tenths
from rnnlab.data.vocabularies import UNKNOWN, characters
from rnnlab.errors import InputError
from rnnlab.models.kneser_ney import kneser_ney

pytestmark = pytest.mark.usefixtures("allow_promotion")

TINY = dict(hidden=8, embedding=4, steps=4, measurements=2, seeds=2, length=7, batch=3, written=9)


def prose(sentences: int) -> str:
    draw = random.Random(3)
    words = ["the", "sea", "is", "deep", "and", "a", "ship", "sails", "home"]
    return "".join(" ".join(draw.choices(words, k=6)).capitalize() + ".\n" for _ in range(sentences))


@pytest.fixture(scope="module", params=["characters", pytest.param("words", marks=pytest.mark.slow)])
def finished(request, tmp_path_factory) -> runs.Run:
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "text.txt").write_text(prose(60) + "Zebra zoo!\n")  # only the last tenth has these
    flags = TINY | dict(level=request.param, text=folder / "text.txt", cell="elman,gru")
    flags |= dict(readout="tied", embedding=0, weight_dropout=0.2) if request.param == "words" else {}
    assert launching.launched("language_model", folder / "runs", **flags) == 0
    return launching.only_run(folder / "runs")


def inputs_of(run):
    return language_model.inputs(language_model.Config(**run.config))


def test_a_run_has_its_rows(finished):
    rows = finished.rows()
    kinds = {kind: [row for row in rows if row["kind"] == kind] for kind in ("train", "validation", "chosen", "test")}
    assert {kind: len(found) for kind, found in kinds.items()} == dict(train=16, validation=12, chosen=4, test=4)
    assert all(math.isfinite(row["loss"]) for found in kinds.values() for row in found)
    for chosen in kinds["chosen"]:
        same = [row for row in kinds["validation"] if (row["cell"], row["seed"]) == (chosen["cell"], chosen["seed"])]
        assert chosen["loss"] == min(row["loss"] for row in same)
    norms = finished.series("gru_seed1_norms_7")
    assert norms.shape == (4, 1, 7) and np.isfinite(norms).all()
    assert {row["text"] for row in rows if row["kind"] == "written"} != {""}
    assert (finished.path / "figure.png").exists() and "Kneser-Ney 5-gram" in (finished.path / "table.txt").read_text()


def test_the_test_is_that_of_the_chosen_parameters_on_the_last_tenth(finished):
    config, given = language_model.Config(**finished.config), inputs_of(finished)
    assert given.vocabulary.special(UNKNOWN) in given.test and given.vocabulary.special(UNKNOWN) not in given.train
    model = made(config, "gru", given.vocabulary.size)
    params = _training.best(finished, model.init, "gru_seed1")
    [row] = [r for r in finished.rows() if r["kind"] == "test" and r["cell"] == "gru" and r["seed"] == 1]
    rows = max(1, (len(given.test) - 1) // 100)
    size = -(-(len(given.test) - 1) // rows)
    ids = jnp.asarray(given.test)[:, None]
    total = sum(float(model.losses(params, ids[at * size : (at + 1) * size + 1]).sum()) for at in range(rows))
    assert row["loss"] == pytest.approx(total / (len(given.test) - 1), rel=1e-5)
    [data] = [r for r in finished.rows() if r["kind"] == "data"]
    assert data["kneser_ney"] == -kneser_ney(given.train, given.test, given.vocabulary.size, 5).mean()


def test_tenths_are_in_time_order():
    text = "".join(chr(40 + n) for n in range(57))
    assert [len(part) for part in tenths(text)] == [45, 6, 6] and "".join(tenths(text)) == text


@pytest.mark.parametrize("count", [2, 99, 7001])
def test_every_id_but_the_first_is_scored_once(count):
    config = language_model.Config(hidden=5, embedding=3)
    model = made(config, "lstm", 6)
    params = model.init(jax.random.key(0), jnp.float64)
    ids = np.random.default_rng(count).integers(0, 6, count).astype(np.int32)
    rows = min(32, max(1, (count - 1) // 100))
    size = -(-(count - 1) // rows)
    each = jnp.asarray(ids)[:, None]
    total = sum(float(model.losses(params, each[n * size : (n + 1) * size + 1]).sum()) for n in range(rows))
    assert scorer(model)(params, ids) == pytest.approx(total / (count - 1), rel=1e-12)


# What is predicted.


def asked(run, text: str, **how) -> tuple[str, dict]:
    found = list(language_model.predictor(run, language_model.Predicting(**how))(text))
    assert [answer.row is None for answer in found] == [True] * (len(found) - 1) + [False]
    return "".join(answer.shown for answer in found), found[-1].row


def test_a_text_goes_on(finished):
    shown, row = asked(finished, "The sea ", length=5, sample=3)
    assert row["text"] == "The sea " and shown == "The sea " + row["continuation"] + "\n" and row["continuation"]
    assert row["log_probability"] < 0 and math.isfinite(row["nats"]) and row["unknown"] == 0
    assert asked(finished, "The sea ", length=5, sample=3) == (shown, row)
    assert asked(finished, "The sea ", length=5, sample=4)[1] != row
    best = min((r for r in finished.rows() if r["kind"] == "chosen"), key=lambda r: r["loss"])
    assert (row["cell"], row["seed"]) == (best["cell"], best["seed"])
    assert asked(finished, "The sea", cell="gru", length=1)[1]["cell"] == "gru"


@pytest.mark.parametrize("text", ["", " ", "\N{DEVANAGARI LETTER NA} \N{ROCKET}\0", "home " * 700])
def test_any_text_is_read(finished, text):
    _, row = asked(finished, text, length=3)
    assert row["text"] == text and row["continuation"] and json.dumps(row, allow_nan=False)
    assert row["unknown"] == 0 if text.isascii() and "\0" not in text else row["unknown"] > 0
    assert (row["nats"] is None) == (row["ids"] < 2)


def test_a_cell_that_was_not_trained_is_refused(finished):
    with pytest.raises(InputError, match="cell: expected one of elman, gru, got 'lstm'"):
        language_model.predictor(finished, language_model.Predicting(cell="lstm"))


@pytest.mark.parametrize("length", [1, PIECE, PIECE + 1])
def test_a_prompt_read_in_pieces_is_read_whole(length):
    vocabulary = characters("abcd")
    model = made(language_model.Config(hidden=6, embedding=3), "gru", vocabulary.size)
    params = model.init(jax.random.key(1), jnp.float64)
    text = "".join(random.Random(length).choices("abcd", k=length))
    ids = vocabulary.encode(text)[:, None]
    prompt = reader(model, params, vocabulary).read(text)
    logits, carry = model.next(params, jnp.asarray(ids), model.start(params, 1))
    np.testing.assert_allclose(prompt.logits[:, 1:], logits[:, 1:], rtol=1e-10)
    assert prompt.logits[0, 0] == -np.inf  # UNKNOWN is never written
    np.testing.assert_allclose(prompt.carry[0].h, carry[0].h, rtol=1e-10)
    expected = model.losses(params, jnp.asarray(ids)).mean() if length > 1 else np.nan
    np.testing.assert_allclose(prompt.nats, expected, rtol=1e-10)


def test_greedy_writing_is_the_likeliest_id_after_all_before():
    vocabulary = characters("abcd\n")
    model = made(language_model.Config(hidden=6, embedding=3), "gru", vocabulary.size)
    params = model.init(jax.random.key(2), jnp.float64)
    of, ids, expected = reader(model, params, vocabulary), [*vocabulary.encode("ab")], 0.0
    pieces = of.write(of.read("ab"), decode.greedy, seed=0)
    for _ in range(6):
        piece, said = next(pieces)
        logits = model.next(params, jnp.asarray(ids)[:, None], model.start(params, 1))[0].at[0, 0].set(-jnp.inf)
        ids.append(int(logits.argmax()))
        expected = float(jax.nn.log_softmax(logits)[0, ids[-1]])
        assert piece == vocabulary.tokens[ids[-1]] and said == pytest.approx(expected, rel=1e-9)


def test_an_empty_prompt_begins_after_a_line():
    for text, first in (("ab\n.", "\n"), ("ab.", "."), ("ab", "a")):
        vocabulary = characters(text)
        assert vocabulary.tokens[_language_programs.begin(vocabulary)] == first


# What is refused.


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (dict(cell=("ind_rnn",), weight_dropout=0.5), "weight_dropout: expected a cell with a recurrent matrix U"),
        (dict(readout="tied", hidden=8, embedding=4), "expected embeddings as wide as the last layer's outputs, 8"),
        (dict(batch=100, length=50), "text: expected at least 5100 characters"),
        (dict(clip=0.0), "clip: expected a norm above 0"),
        (dict(devices=64), "devices: expected 1 to"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path, flags, message):
    (tmp_path / "text.txt").write_text(prose(60))
    with pytest.raises(InputError, match=message):
        language_model.inputs(language_model.Config(text=str(tmp_path / "text.txt"), **flags))


@pytest.mark.parametrize("name", language_model.PRESETS)
def test_presets_are_configurations(name):
    config = language_model.Config(**language_model.PRESETS[name])
    made(config, "lstm", 50).init(jax.random.key(0))


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--preset=two_cores"], ["--devices=2"]),
        (["--preset", "two_cores", "--seeds=3"], ["--devices=2"]),
        (["--preset=two_cores", "--devices=1"], []),
        (["--preset=words"], []),
        (["--steps=5"], []),
    ],
)
def test_the_process_starts_with_the_devices_of_a_preset(argv, expected):
    assert cli._devices_of_preset("experiments.language_model", argv) == expected


# The command.


def predict(run, *argv: str) -> int:
    import experiments

    with jax.numpy_dtype_promotion("standard"):
        return cli.launch(["predict", str(run.path), *argv], experiments, "language_model")


def test_the_command_writes_a_json_object_a_line(finished, tmp_path, capsys):
    (tmp_path / "texts").write_bytes("the sea\r\n\nसमुद्र\n".encode())
    assert predict(finished, f"--file={tmp_path / 'texts'}", "--json", "--length=2") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["the sea", "", "समुद्र"]


def test_the_command_writes_for_people(finished, capsys):
    assert predict(finished, "--text=the", "--length=2", "--temperature=0") == 0
    assert capsys.readouterr().out.startswith("the")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--text=a", "--file=b"], "expected --text or --file, got both"),
        (["--file=nowhere"], "file: expected a readable file, got nowhere"),
        (["--top_p=0", "--text=a"], "--top_p=0: expected a finite number from 1e-06 to 1.0"),
        (["--lenght=3", "--text=a"], "did you mean --length?"),
        (["a text"], "got 'a text' after the run"),
    ],
)
def test_the_command_refuses_in_one_line(finished, argv, message, capsys):
    assert predict(finished, *argv) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_texts_that_are_not_utf_8_are_refused_by_their_line():
    given = predictions.texts(predictions.Asked(), io.BytesIO(b"good\nb\xffd\n"))
    assert next(given) == "good"
    with pytest.raises(InputError, match="standard input, line 2: expected UTF-8, got byte 0xff at 1"):
        next(given)


def test_an_empty_text_is_a_text():
    assert list(predictions.texts(predictions.Asked(text=""))) == [""]
    assert list(predictions.texts(predictions.Asked(), io.BytesIO(b""))) == []
