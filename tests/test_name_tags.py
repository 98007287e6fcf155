"""Tagging names: what is read and counted, and the experiment at a tiny size, from flags to figure and predictions."""

import json

import launching
import numpy as np
import pytest
import seqeval.metrics

import experiments
from experiments import _name_tags_data as data
from experiments import _name_tags_scores, name_tags
from experiments._lecture import NAMES, UNTAGGED
from experiments._name_tags_predict import Predicting
from experiments._name_tags_programs import SCORES
from rnnlab import cli
from rnnlab.data import published
from rnnlab.errors import InputError

pytestmark = [pytest.mark.usefixtures("allow_promotion"), pytest.mark.xdist_group("name_tags")]
TAGS = ("O", "B-city", "I-city", "B-person", "I-person")
TINY = dict(
    head="crf", cell="elman", hidden=5, embedding=4, filters=3, longest=6, batch=4, steps=6, measurements=2,
    buckets=1, seeds=2, dropout=0.2,
)  # fmt: skip


def sentences(count, seed):
    """Words of which some begin with a capital letter, and those are of people or cities."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        ids = random.integers(0, 40, random.integers(1, 9))
        tags = [{0: 0, 1: 1, 2: 3}[min(2, int(n) % 7)] if n % 3 == 0 else 0 for n in ids]
        made.append(
            data.Sentence([f"{'W' if tag else 'w'}{n}" for n, tag in zip(ids, tags, strict=True)], np.array(tags))
        )
    return made


def opened(name, split):
    """In the place of WNUT-17."""
    examples = [one._asdict() for one in sentences({"train": 40}.get(split, 9), len(split))]
    examples = [{"tokens": one["words"], "tags": one["tags"]} for one in examples]
    return published.DataSet(examples, name, "0.0.0", split, len(examples), "0" * 64, {"tags": TAGS}, "", "", "made up")


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """A tiny run on what stands in for WNUT-17."""
    folder = tmp_path_factory.mktemp("tagged")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(published, "open", opened)
        assert launching.launched("name_tags", folder, **TINY) == 0
    return launching.only_run(folder)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """The lecture's sentences as its preset has them, by one head."""
    folder = tmp_path_factory.mktemp("learned")
    assert launching.launched("name_tags", folder, preset="lecture", head="softmax", seeds=2) == 0
    return launching.only_run(folder)


# What is read.


def test_words_are_looked_up_without_case_digits_and_names():
    words = [
        "Paul",
        "B2B",
        "@Paul_1",
        "@",
        "#NLP2",
        "HTTP://t.co/Xy",
        "www.x.org",
        "STRASSE",
        "e\N{COMBINING ACUTE ACCENT}",
    ]
    assert [data.normal(word) for word in words] == [
        "paul", "b0b", "@name", "@", "#nlp0", "http://", "http://", "strasse", "é",
    ]  # fmt: skip


def test_shapes_of_words():
    shapes = {
        "paul": "lower", "Paul": "Title", "PAUL": "UPPER", "P": "X", "iPhone": "mIxed", "3,000": "123", "B2B": "a1",
        "...": "?!", "@paul": "@name", "#NLP": "#word", "http://t.co": "address", "नमस्ते": "other", "😀": "other",
        "Éa": "Title", "O'Neil": "mIxed",
    }  # fmt: skip
    assert {word: data.SHAPES[data.shape(word)] for word in shapes} == shapes


def test_every_character_of_a_text_is_in_one_word_or_space():
    random = np.random.default_rng(1)
    pieces = [
        "@paul's",
        "http://t.co/a?b.",
        "don't",
        "hulk's",
        "Inc.",
        "1,000",
        "नमस्ते",
        "😀",
        "\0",
        "\x1b[2J",
        "#a-b",
        "e\u0301",
    ]
    for _ in range(30):
        text = "".join(random.choice([*pieces, " ", "\t", "\u3000"], 12))
        found = data.words_in(text)
        assert all(text[one.begin : one.end] == one.word and one.word for one in found)
        covered = {n for one in found for n in range(one.begin, one.end)}
        assert covered == {n for n, c in enumerate(text) if not c.isspace()}
        assert sum(len(one.word) for one in found) == len(covered)
    assert [one.word for one in data.words_in("@paul's http://t.co/a #a-b hulk's")] == [
        "@paul", "'", "s", "http://t.co/a", "#a", "-", "b", "hulk's",
    ]  # fmt: skip


def test_the_vocabulary_is_of_training_alone_and_long_words_show_both_ends():
    train = [data.Sentence(["aab", "Aab", "xyxy"], np.zeros(3, int))]
    encoder, counts = data.encoder(train, 4)
    assert encoder.words.tokens == ("<unknown>", "aab", "xyxy") and counts.tolist() == [0, 2, 1]
    assert set(encoder.spelling.learned) == {"a", "b", "x", "y"}  # what occurs once is unknown in training, too
    found = encoder.encode(["AAB", "new", "aaxxyybb"])
    assert found["words"].tolist() == [1, 0, 0]
    spell = lambda word: encoder.spelling.encode(word).tolist()  # noqa: E731
    assert found["characters"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [*spell("aa"), *spell("bb")]]


FILE = "Ann\tB-person\nLee\tI-person\nsaw\tO\n\nParis\tB-city\n"


def own_files(folder, **texts):
    paths = []
    for split in data.SPLITS:
        paths.append(folder / f"{split}.conll")
        paths[-1].write_text(texts.get(split, FILE))
    return [str(path) for path in paths]


def test_own_files_are_read(tmp_path):
    corpus = data.files(own_files(tmp_path, test="x\tO\n"))
    assert corpus.tags == ("O", "B-city", "B-person", "I-person") and len(corpus.train) == 2
    assert corpus.train[0].words == ["Ann", "Lee", "saw"] and corpus.train[0].tags.tolist() == [2, 3, 0]
    assert len(corpus.hashes) == 3 and corpus.test[0].words == ["x"]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"validation": "x\tB-group\n"}, r"validation.conll, line 1: .*given 'B-group'"),
        ({"train": "x\tperson\n"}, r"train.conll: expected tags O, B-TYPE and I-TYPE, got 'person'"),
        ({"test": "x\tO\ny\tI-person\n"}, r"test.conll, sentence 1, word 2: expected I-person only after .* after O"),
        ({"test": "x\tI-person\n"}, r"test.conll, sentence 1, word 1: .* after nothing"),
        ({"test": "\n\n"}, r"test.conll: expected a sentence, got none"),
        ({"train": "x O\n"}, r"train.conll, line 1: expected 2 fields between tabs"),
    ],
)
def test_own_files_that_are_wrong_are_refused(tmp_path, texts, words):
    with pytest.raises(InputError, match=words):
        data.files(own_files(tmp_path, **texts))


def test_flags_that_do_not_go_together_are_refused(tmp_path, capsys):
    for flags, words in (
        (dict(data="own", train_file="a"), "got none for --validation_file, --test_file"),
        (dict(data="lecture", test_file="a"), "expected --data=own beside --test_file, got lecture"),
        (dict(data="own", train_file="a", validation_file="b", test_file="c"), "a: expected a readable file"),
        (dict(data="lecture", cell="none"), "cell: expected one of"),
    ):
        assert launching.launched("name_tags", tmp_path, **flags) == 2
        assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# What is counted.


def test_entities_are_counted_as_seqeval_does():
    random = np.random.default_rng(2)
    some = sentences(40, 3)
    found = [random.integers(0, len(TAGS), len(one.words)) for one in some]  # I- after anything, too
    names = [[[TAGS[n] for n in ids] for ids in of] for of in ([one.tags for one in some], found)]
    mine = _name_tags_scores.scores(some, found, TAGS)
    theirs = seqeval.metrics.classification_report(*names, output_dict=True, zero_division=0)
    for name, numbers in (("micro avg", mine), *((t, {"f1": c.f1, "precision": c.precision, "recall": c.recall})
                                                 for t, c in mine["by_type"].items())):  # fmt: skip
        np.testing.assert_allclose(numbers["f1"], theirs[name]["f1-score"], rtol=1e-12)
        np.testing.assert_allclose(numbers["precision"], theirs[name]["precision"], rtol=1e-12)
        np.testing.assert_allclose(numbers["recall"], theirs[name]["recall"], rtol=1e-12)
    assert 0 < mine["f1"] < 1 and mine["by_type"]["city"].asked == theirs["city"]["support"]
    ones, asked = np.concatenate(found) > 0, np.concatenate([one.tags for one in some]) > 0
    np.testing.assert_allclose(mine["accuracy"], (ones == asked).mean())
    np.testing.assert_allclose(mine["one_precision"], asked[ones].mean())
    np.testing.assert_allclose(mine["one_recall"], ones[asked].mean())


def test_a_surface_form_counts_once_and_is_right_where_it_was_found_somewhere():
    words = ["Ann", "Ann", "Lee", "Rome", "x"]
    some = [data.Sentence(words, np.array([3, 0, 3, 1, 0])), data.Sentence(["Ann", "Rome"], np.array([3, 1]))]
    found = [np.array([3, 3, 0, 3, 0]), np.array([0, 1])]
    mine = _name_tags_scores.scores(some, found, TAGS)
    # There are (Ann, person), (Lee, person), (Rome, city); found are (Ann, person), (Rome, person), (Rome, city).
    assert mine["surface_precision"] == pytest.approx(2 / 3) and mine["surface_recall"] == pytest.approx(2 / 3)
    assert mine["precision"] == pytest.approx(2 / 4) and mine["recall"] == pytest.approx(2 / 5)


def test_nothing_found_is_no_error():
    some = [data.Sentence(["a"], np.array([0]))]
    mine = _name_tags_scores.scores(some, [np.array([0])], TAGS)
    assert mine["f1"] == mine["surface_f1"] == mine["one_f1"] == 0 and mine["accuracy"] == 1


def test_the_most_frequent_tag_is_counted_in_training_without_case():
    train = [
        data.Sentence(["Rome", "rome", "ROME", "a", "b"], np.array([1, 1, 0, 3, 0])),
        data.Sentence(["b"], np.array([2])),
    ]
    said = _name_tags_scores.most_frequent(train)
    assert said(["romE", "A", "b", "new"]).tolist() == [1, 3, 0, 0]


def test_hits_by_chance_choose_no_stopping_point():
    found = [{"f1": 0.01, "accuracy": 0.08}, {"f1": 0.0, "accuracy": 0.92}, {"f1": 0.2, "accuracy": 0.93}]
    assert sorted(found, key=SCORES["f1"]) == found[::-1]


# From flags to figure.


def test_it_leaves_rows_table_and_figure(tagged):
    rows = tagged.rows()
    kinds = ("data", "baseline", "train", "validation", "chosen", "test", "sentence")
    assert [sum(r["kind"] == kind for r in rows) for kind in kinds] == [1, 1, 2 * 6, 2 * 3, 2, 2, 2 * 4]
    [known] = [r for r in rows if r["kind"] == "data"]
    assert known["train"] == 40 and known["test"] == 9 and known["tags"] == list(TAGS) and known["held_out"]
    for seed in (0, 1):
        best = min((r for r in rows if r["kind"] == "validation" and r["seed"] == seed), key=SCORES["f1"])
        [chosen] = [r for r in rows if r["kind"] == "chosen" and r["seed"] == seed]
        assert (chosen["step"], chosen["f1"]) == (best["step"], best["f1"])
    assert not any(r["seen"] or "terms" in r for r in rows if r["kind"] == "sentence")
    text = (tagged.path / "table.txt").read_text()
    for words in ("UH-RiTUAL", "41.86", "most frequent tag", "made up", "unseen", "40 / 9 / 9", "2 seeds from 0"):
        assert words in text
    assert (tagged.path / "figure.png").stat().st_size > 20_000


def test_the_lectures_sentences_are_learned_exactly_and_shown_term_by_term(learned):
    rows = learned.rows()
    for seed in (0, 1):
        mine = [r for r in rows if r["kind"] == "sentence" and r["seed"] == seed]
        assert [r["seen"] for r in mine] == [True, True, True, False] and "answer" not in mine[-1]
        for row, (text, ones) in zip(mine, NAMES, strict=False):
            assert row["text"] == text and row["ones"] == list(ones)
            assert len(row["terms"]) == len(row["words"]) and sum(row["terms"]) == pytest.approx(row["total"])
            assert row["total"] < 0.05
        [test] = [r for r in rows if r["kind"] == "test" and r["seed"] == seed]
        assert test["accuracy"] == test["f1"] == 1
        begun = next(r for r in rows if r["kind"] == "validation" and r["seed"] == seed and r["step"] == 0)
        assert len(begun["terms"]) == 16 and sum(begun["terms"]) > 5
    text = (learned.path / "table.txt").read_text()
    assert "learned by heart" in text and "all right in 2 of 2" in text and "loss after training:" in text
    assert "UH-RiTUAL" not in text and "no accuracy on new text" in " ".join(text.split())


# What a finished run says.


def asked(run, texts, as_json=True, **how):
    predictor = name_tags.predictor(run, Predicting(**how))
    return [list(predictor(text)) for text in texts]


def test_predictions_of_any_text(learned):
    long = " ".join(["Bob told Ahmed"] * 3000)
    texts = ["", " \t", "Ironman punched on hulk's face", "नमस्ते दुनिया 😀 a\0b \x1b[2J", long, "Bob"]
    answers = asked(learned, texts)
    assert all(len(one) == 1 for one in answers)
    rows = [json.loads(json.dumps(one[0].row, allow_nan=False)) for one in answers]
    assert rows[0]["words"] == rows[1]["words"] == [] and "(no words)" in answers[0][0].shown
    third = rows[2]
    assert third["ones"] == [1, 0, 0, 1, 1] and third["seen_in_training"] and third["unknown_words"] == 0
    assert [(e["text"], e["words"], e["characters"]) for e in third["entities"]] == [
        ("Ironman", [0, 1], [0, 7]), ("hulk's face", [3, 5], [19, 30]),
    ]  # fmt: skip
    assert "seen in training" in answers[2][0].shown and "name: hulk's face" in answers[2][0].shown
    for row, text in zip(rows, texts, strict=True):
        assert row["text"] == text
        assert (
            len(row["words"]) == len(row["ones"]) == len(row["tags"]) == len(row["chance"]) == len(row["chance_of_1"])
        )
        assert all(0 <= p <= 1 for p in row["chance"] + row["chance_of_1"])
        assert all(text[slice(*e["characters"])] == e["text"] for e in row["entities"])
    assert rows[3]["unknown_words"] == len(rows[3]["words"]) and rows[3]["unknown_characters"] > 5
    assert "\x1b" not in answers[3][0].shown and "\0" not in answers[3][0].shown
    assert len(rows[4]["words"]) == 9000 and not rows[4]["seen_in_training"]


def test_what_is_said_of_a_sentence_does_not_depend_on_how_it_is_padded(learned):
    [run] = [r for r in learned.rows() if r["kind"] == "sentence" and r["seed"] == 0 and r["text"] == UNTAGGED]
    best = min((r for r in learned.rows() if r["kind"] == "chosen"), key=lambda r: r["loss"])
    [[answer]] = asked(learned, [UNTAGGED], head="softmax")
    if best["seed"] == 0:
        np.testing.assert_allclose(answer.row["chance_of_1"], run["chance_of_1"], atol=1e-5)
    assert answer.row["model"] == f"softmax, lstm, seed {best['seed']}"


def test_a_head_that_was_not_trained_is_refused(learned):
    with pytest.raises(InputError, match="expected one of softmax, which were trained, got crf"):
        name_tags.predictor(learned, Predicting(head="crf"))


def test_the_command_writes_a_row_a_line(tagged, tmp_path, capsys):
    (tmp_path / "texts").write_text("W1 w2\n\nPaul\n")
    assert cli.launch(["predict", str(tagged.path), "--json", f"--file={tmp_path / 'texts'}"], experiments, "") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["words"] for row in rows] == [["W1", "w2"], [], ["Paul"]]
    assert set(rows[0]["tags"]) <= set(TAGS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [7, 100])
def test_the_lectures_sentences_are_learned_exactly_by_every_head_and_seed(tmp_path, seed):
    assert launching.launched("name_tags", tmp_path, preset="lecture", seed=seed) == 0
    rows = [row for row in launching.only_run(tmp_path).rows() if row["kind"] == "sentence" and "answer" in row]
    assert len(rows) == 2 * 3 * 3 and all(row["ones"] == row["answer"] for row in rows)
