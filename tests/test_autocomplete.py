"""Autocomplete: the keyboard against typing letter by letter, the baselines against counting by hand, the programs
against the model written out, and the whole at a tiny size on sentences made here."""

import json
import math
from collections import Counter
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import launching
import numpy as np
import pytest

import experiments
from experiments import _autocomplete_keyboard as keys
from experiments import _autocomplete_predict as predict
from experiments import _autocomplete_programs as programs
from experiments import _autocomplete_text as texts
from experiments import autocomplete
from experiments._autocomplete_counts import STRENGTHS, baselines
from rnnlab import cli
from rnnlab.data import published
from rnnlab.data.replies import PARTS
from rnnlab.data.vocabularies import BEGIN, END, UNKNOWN, tokens
from rnnlab.data.words import join_words
from rnnlab.errors import InputError

pytestmark = pytest.mark.usefixtures("allow_promotion")

LETTERS = "ab"
ENGLISH = ["the cat sat on the mat.", "a cat is here, and the dog is not!", "Is it here?", "no dog sat on the cat."]


def random_words(seed: int, count: int) -> list[str]:
    generator = np.random.default_rng(seed)
    found = {"".join(generator.choice(list(LETTERS), generator.integers(1, 5))) for _ in range(4 * count)}
    return sorted(found)[:count]


def random_sentences(seed: int, words: list[str], count: int) -> list[list[str]]:
    generator = np.random.default_rng(seed)
    return [generator.choice(words, generator.integers(1, 9)).tolist() for _ in range(count)]


def vocabulary_of(words: list[str]):
    return tokens([words], specials=(BEGIN, END, UNKNOWN))


def random_logs(seed: int, rows: int, size: int) -> np.ndarray:
    """Few different values, so that many are equal."""
    return np.random.default_rng(seed).integers(-4, 0, (rows, size)).astype(float)


def test_ranks_are_places_among_the_words_that_begin_so():
    vocabulary = vocabulary_of([*random_words(0, 12), ".", ","])
    board = keys.keyboard(vocabulary)
    words = [*random_words(1, 12), "zebra"]
    logs = random_logs(2, len(words), vocabulary.size)
    found = keys.ranks(board, logs, words)
    assert found.shape == (len(words), 5)
    for row, word in enumerate(words):
        for j in range(found.shape[1]):
            order = sorted(
                (-logs[row, vocabulary.tokens.index(one)], one)
                for one in vocabulary.learned
                if keys.is_word(one) and one.startswith(word[:j])
            )
            places = [one for _, one in order]
            expected = places.index(word) + 1 if j < len(word) and word in vocabulary.learned else keys.NEVER
            assert found[row, j] == expected


def typed_out(sentence, logs, vocabulary, offered: int) -> int:
    """Keystrokes of somebody who looks at what is offered before every letter."""
    text, pressed = join_words(sentence), 0
    for step, word in enumerate(sentence):
        begins = join_words(sentence[: step + 1])
        space = int(step + 1 < len(sentence) and text[len(begins)] == " ")
        letters = 0
        while letters < len(word):
            offers = sorted(
                (one for one in vocabulary.learned if keys.is_word(one) and one.startswith(word[:letters])),
                key=lambda one: (-logs[step, vocabulary.tokens.index(one)], one),
            )[:offered]
            if keys.is_word(word) and word in offers and letters + 1 < len(word) + space:
                break
            letters += 1
        pressed += letters + 1 if letters < len(word) else letters + space
    return pressed


@pytest.mark.parametrize("seed", range(2))
def test_scores_are_those_of_typing_letter_by_letter(seed):
    words = random_words(seed, 14)
    vocabulary = vocabulary_of([*words[2:], ".", "?"])
    sentences = random_sentences(seed, [*words, ".", "?"], 100)  # more than are scored at a time
    tables = {id_: random_logs(seed + id_, 10, vocabulary.size) for id_ in range(len(sentences))}
    order = iter(range(len(sentences)))

    def model(some):
        return np.concatenate([tables[next(order)][: len(ids) - 1] for ids in some])

    encode = lambda sentence: texts.encoded(vocabulary, sentence)  # noqa: E731
    found = keys.score(vocabulary, encode, sentences, model)
    characters = sum(len(join_words(sentence)) for sentence in sentences)
    assert found.characters == characters
    for offered, saved in ((1, found.saved1), (3, found.saved3)):
        pressed = sum(typed_out(one, tables[n], vocabulary, offered) for n, one in enumerate(sentences))
        np.testing.assert_allclose(saved, 1 - pressed / characters, rtol=1e-12)

    nats, places, missing = [], [], 0
    for n, sentence in enumerate(sentences):
        for step, number in enumerate(encode(sentence)[1:]):
            nats.append(-tables[n][step, number])
            if 0 < step < len(sentence) and keys.is_word(sentence[step]):
                offers = sorted(
                    filter(keys.is_word, vocabulary.learned),
                    key=lambda one, n=n, step=step: (-tables[n][step, vocabulary.tokens.index(one)], one),
                )
                known = sentence[step] in offers
                places.append(offers.index(sentence[step]) if known else 99)
                missing += not known
    assert (found.words, found.steps) == (len(places), len(nats))
    np.testing.assert_allclose(found.perplexity, math.exp(np.mean(nats)), rtol=1e-12)
    expected = [np.mean(np.array(places) < 1), np.mean(np.array(places) < 5), missing / len(places)]
    np.testing.assert_allclose([found.top1, found.top5, found.unknown], expected, rtol=1e-12)
    assert 0 < found.unknown < 1 and found.top1 < found.top5 < 1


def test_a_model_that_knows_all_saves_all_but_one_key_a_word():
    sentences = [texts.words_of(line) for line in ENGLISH]
    vocabulary = vocabulary_of([word for sentence in sentences for word in sentence])

    def oracle(some):
        after = np.concatenate([ids[1:] for ids in some])
        return np.where(np.eye(vocabulary.size)[after] > 0, 0.0, -99.0)

    found = keys.score(vocabulary, lambda one: texts.encoded(vocabulary, one), sentences, oracle)
    marks = sum(not keys.is_word(word) for sentence in sentences for word in sentence)
    spaces_after_marks = 1  # of "here, and"
    words = sum(map(len, sentences)) - marks
    assert found.top1 == 1 and found.perplexity == 1 and found.unknown == 0
    np.testing.assert_allclose(found.saved1, 1 - (words + marks + spaces_after_marks) / found.characters)


# The baselines.


@pytest.fixture(scope="module")
def counted():
    words = random_words(5, 8)
    vocabulary = vocabulary_of(words)
    train, validation = ([texts.encoded(vocabulary, s) for s in random_sentences(seed, words, 60)] for seed in (6, 7))
    return vocabulary, train, validation, baselines(train, vocabulary.size, validation)


def share_by_hand(train, size, context, word, strengths) -> float:
    """P(word | context), recursively, by counting the text anew."""
    padded = [[ids[0]] * 2 + list(ids) for ids in train]
    if not context:
        after = [one for ids in train for one in ids[1:]]
        return (after.count(word) + 1) / (len(after) + size)
    pairs = Counter(
        (tuple(ids[n - len(context) : n]), ids[n]) for ids in padded for n in range(3, len(ids))
    )  # ids[2] is BEGIN itself
    total = sum(count for (before, _), count in pairs.items() if before == context)
    lower = share_by_hand(train, size, context[1:], word, strengths)
    strength = strengths[len(context)]
    return (pairs[context, word] + strength * lower) / (total + strength)


def test_baselines_are_what_counting_by_hand_gives(counted):
    vocabulary, train, validation, found = counted
    strengths = [one.strength for one in found]
    assert [one.name for one in found] == ["unigram", "bigram", "trigram"] and set(strengths[1:]) <= set(STRENGTHS)
    ids = validation[0]
    for order, one in enumerate(found):
        logs = one.model([ids])
        np.testing.assert_allclose(np.exp(logs).sum(1), 1, rtol=1e-12)
        for step in range(len(ids) - 1):
            before = tuple([ids[0]] * 2 + list(ids[: step + 1]))[-order:] if order else ()
            for word in range(vocabulary.size):
                expected = share_by_hand(train, vocabulary.size, before, word, strengths)
                np.testing.assert_allclose(np.exp(logs[step, word]), expected, rtol=1e-10)


def test_the_prior_is_the_best_of_those_tried_on_the_validation_part(counted):
    vocabulary, train, validation, found = counted
    after = np.concatenate([ids[1:] for ids in validation])
    for one in found:
        logs = one.model(validation)
        np.testing.assert_allclose(one.perplexity, np.exp(-logs[np.arange(len(after)), after].mean()), rtol=1e-10)
    tried = {strength: bigram_perplexity(train, vocabulary.size, validation[:9], strength) for strength in STRENGTHS}
    few = baselines(train, vocabulary.size, validation[:9])
    assert few[1].perplexity == pytest.approx(min(tried.values()), rel=1e-12)
    assert few[1].strength == min(tried, key=tried.get)


def bigram_perplexity(train, size, validation, strength) -> float:
    """The bigram's perplexity with one prior."""
    shares = [
        share_by_hand(train, size, (ids[n],), ids[n + 1], [0, strength])
        for ids in validation
        for n in range(len(ids) - 1)
    ]
    return math.exp(-np.mean(np.log(shares)))


# The text.


def test_words_are_lower_case_with_straight_apostrophes():
    assert texts.words_of("I\u2019m HERE, Cafe\u0301!") == ["i'm", "here", ",", "caf\u00e9", "!"]
    assert texts.words_of(" \t\n") == []


def test_a_phrase_is_found_where_its_words_stand_one_after_another():
    origin = texts.Origin("x", "real", [texts.words_of(line) for line in ENGLISH], [], {})
    assert texts.occurrences([origin], ["on", "the"]) == 2
    assert texts.occurrences([origin], ["at"]) == 0  # within "cat", "sat", "mat"
    assert texts.occurrences([origin], ["cat", "sat", "on", "the", "mat"]) == 1
    assert texts.shared_runs([origin], [["a", "cat", "is", "not"], ["the", "cat"]], 3) == 0.5


def test_held_out_replies_are_all_different_and_hashed():
    origin, validation = texts.generated(30, 100, 5)
    assert len(origin.train) == 30 and len(set(map(tuple, origin.test))) == len(origin.test) > 50
    assert len(set(map(tuple, validation))) == len(validation)
    assert set(origin.hashes) == {f"replies ({part})" for part in ("train", "validation", "test")}
    assert texts.generated(30, 100, 6)[0].hashes != origin.hashes


def data_set(split: str, lines: list[str], column: str = "text") -> published.DataSet:
    examples = [{column: line, "id": np.int32(n)} for n, line in enumerate(lines)]
    return published.DataSet(examples, "made", "1.0.0", split, len(lines), f"{split:0<64}", {}, "", "", "real")


@pytest.fixture
def made(monkeypatch):
    """A published data set of sentences made here."""
    opened = {"train": data_set("train", ENGLISH * 2), "test": data_set("test", ["The dog sat on the mat."])}
    monkeypatch.setattr(published, "open", lambda name, split: opened[split])
    return opened


def test_a_data_set_gives_lines_once_each_and_cut_to_length(made):
    origin = texts.real("made", 5)
    assert origin.kind == "real" and origin.cut == 2 + 3 + 2  # of 7, 11 and 7 words and marks
    assert sum(map(len, origin.train)) == sum(len(texts.words_of(line)) for line in ENGLISH)
    assert max(map(len, origin.train)) == 5 and origin.test == [["the", "dog", "sat", "on", "the", "mat", "."]]


def test_a_column_english_is_read_and_another_refused(made):
    made["train"] = data_set("train", ["one two"], "english")
    assert texts.real("made", 9).train == [["one", "two"]]
    made["train"] = data_set("train", ["one two"], "hindi")
    with pytest.raises(InputError, match="expected a data set with a column english or text, got made with hindi, id"):
        texts.real("made", 9)


def test_of_a_file_the_last_tenth_is_held_out(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("\n".join(f"line number {n}" for n in range(40)), encoding="utf-8")
    origin = texts.own_file(str(file), 9)
    assert (len(origin.train), len(origin.test)) == (36, 4) and origin.test[0] == ["line", "number", "36"]
    file.write_text("one line")
    with pytest.raises(InputError, match="expected at least 5 lines, a sentence each, got 1"):
        texts.own_file(str(file), 9)


# The programs.


def config_of(**more):
    return autocomplete.Config(**{"hidden": 6, "layers": 2, "batch": 4, "dropout": 0.0, "embedding": 0, **more})


@pytest.fixture(scope="module")
def asked():
    """A small untrained model whose likeliest continuations can be gone through."""
    vocabulary = tokens([["a", "an", "b", "."]], specials=(BEGIN, END, UNKNOWN))
    model = programs.model_of(config_of(), "lstm", vocabulary.size)
    params = model.init(jax.random.key(1), np.float64)
    params = jax.tree.map(lambda leaf: 2 * leaf, params)  # far from uniform
    return SimpleNamespace(vocabulary=vocabulary, model=model, params=params, asking=programs.asking(model, vocabulary))


def next_shares(asked, ids) -> np.ndarray:
    """P of what follows, <begin> and <unknown> ruled out."""
    logits = np.asarray(asked.model.logits(asked.params, jnp.array(ids)[:, None]))[-1, 0]
    shares = np.exp(logits - logits.max())
    shares[[asked.vocabulary.special(BEGIN), asked.vocabulary.special(UNKNOWN)]] = 0
    return shares / shares.sum()


def test_next_words_and_phrases_are_the_models_own(asked):
    ids = predict._ids(asked.vocabulary, ["b", "a", "zzz"])
    found = programs.said(asked.asking, asked.vocabulary, asked.params, ids, words=2, width=40)
    np.testing.assert_allclose(np.exp(found.logs), next_shares(asked, ids), atol=1e-12)
    first = next_shares(asked, ids)
    end, expected = asked.vocabulary.special(END), {}
    for one in np.flatnonzero(first):
        if one == end:
            expected[""] = first[one]
            continue
        second = next_shares(asked, [*ids, one])
        for two in np.flatnonzero(second):
            words = [asked.vocabulary.tokens[n] for n in ([one] if two == end else [one, two])]
            key = join_words(words)
            expected[key] = expected.get(key, 0) + first[one] * second[two]
    said = predict.likely_phrases(asked.vocabulary, found, 100)
    assert len(said) == len(expected)
    assert {text: share for text, share, _ in said} == pytest.approx(expected, rel=1e-9)
    assert np.all(np.diff([share for _, share, _ in said]) <= 0)
    assert [text for text, _, ends in said if ends and not text] == [""]


def test_the_probability_of_a_phrase_is_that_of_its_words(asked):
    before, after = predict._ids(asked.vocabulary, ["an"]), asked.vocabulary.encode(["b", "."])
    expected = next_shares(asked, before)[after[0]] * next_shares(asked, [*before, after[0]])[after[1]]
    found = programs.log_probability(asked.asking, asked.params, before, after)
    assert math.exp(found) == pytest.approx(expected, rel=1e-9)
    unknown = asked.vocabulary.encode(["zzz"])
    assert programs.log_probability(asked.asking, asked.params, before, unknown) == -math.inf


def test_a_word_begun_is_completed_by_words_that_begin_so(asked):
    ids = predict._ids(asked.vocabulary, ["b"])
    allowed = predict._allowed(keys.keyboard(asked.vocabulary), asked.vocabulary, "a")
    found = programs.said(asked.asking, asked.vocabulary, asked.params, ids, words=1, width=9, allowed=allowed)
    shares = next_shares(asked, ids)
    both = {word: shares[asked.vocabulary.tokens.index(word)] for word in ("a", "an")}
    expected = {word: share / sum(both.values()) for word, share in both.items()}
    assert dict(predict.next_words(asked.vocabulary, found, 9)) == pytest.approx(expected, rel=1e-9)
    assert {text for text, _, _ in predict.likely_phrases(asked.vocabulary, found, 9)} == {"a", "an"}


@pytest.mark.parametrize(
    ("text", "last", "expected"),
    [
        ("b a", "auto", ""), ("b a", "begun", "a"), ("b a ", "begun", ""), ("b ab", "auto", ""), ("b c", "begun", ""),
        ("an", "whole", ""), ("b A", "begun", "a"), (".", "begun", ""), ("", "begun", ""),
    ],
)  # fmt: skip
def test_what_counts_as_begun(text, last, expected, asked):
    board = keys.keyboard(asked.vocabulary)
    assert predict._begun(text, texts.words_of(text), board, asked.vocabulary, last) == expected


def test_an_unknown_last_word_that_known_ones_begin_with_is_begun():
    vocabulary = vocabulary_of(["this", "time", "thing"])
    assert predict._begun("x thi", ["x", "thi"], keys.keyboard(vocabulary), vocabulary, "auto") == "thi"


def test_a_sentences_distribution_is_the_models_whatever_it_is_scored_with(asked):
    sentences = [texts.encoded(asked.vocabulary, words) for words in (["a"], ["b", "an", ".", "a"] * 5, ["an", "b"])]
    found = programs.distribution(asked.model)(asked.params)(sentences)
    row = 0
    for ids in sentences:
        losses = np.asarray(asked.model.losses(asked.params, jnp.array(ids)[:, None]))[:, 0]
        np.testing.assert_allclose(-found[row + np.arange(len(ids) - 1), ids[1:]], losses, rtol=1e-9)
        row += len(ids) - 1
    assert row == len(found)
    np.testing.assert_allclose(np.exp(found).sum(1), 1, rtol=1e-9)


def test_the_recipe_begins_with_the_words_frequencies_and_validates_by_the_mean_loss():
    words = random_words(3, 9)
    vocabulary = vocabulary_of(words)
    train, held_out = random_sentences(4, words, 30), random_sentences(5, words, 11)
    columns = [programs.columns_of(lambda s: texts.encoded(vocabulary, s), some) for some in (train, held_out)]
    recipe = programs.recipe_of(config_of(), "gru", vocabulary.size, *columns)
    params = recipe.init(jax.random.key(0))
    after = np.concatenate([texts.encoded(vocabulary, s)[1:] for s in train])
    counts = np.bincount(after, minlength=vocabulary.size) + 1
    np.testing.assert_allclose(params.readout["params"]["bias"], np.log(counts / counts.sum()), rtol=1e-5)
    model = programs.model_of(config_of(), "gru", vocabulary.size)
    each = [np.asarray(model.losses(params, jnp.array(texts.encoded(vocabulary, s))[:, None])) for s in held_out]
    expected = sum(losses.sum() for losses in each) / sum(map(len, each))
    found = recipe.evaluate(params)
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
    _, batch = next(recipe.batches([0, 0, 0]))
    assert batch.ids.shape[1] == 4 and np.all(batch.ids[0] == vocabulary.special(BEGIN))


# The whole.

TINY = dict(
    data="made",
    replies=80,
    held_out=30,
    hidden=8,
    steps=6,
    measurements=2,
    seeds=2,
    batch=8,
    at_least=1,
    readout="tied",
    embedding=0,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of two seeds, on the data set that `made` opens."""
    patch = pytest.MonkeyPatch()
    opened = {"train": data_set("train", ENGLISH * 2), "test": data_set("test", ["The dog sat on the mat."])}
    patch.setattr(published, "open", lambda name, split: opened[split])
    patch.setattr(programs, "BUCKETS", 1)
    folder = tmp_path_factory.mktemp("runs")
    assert launching.launched("autocomplete", folder, **TINY) == 0
    patch.undo()
    return launching.only_run(folder)


def test_a_run_has_a_test_of_every_model_on_every_set_and_every_seed(finished):
    rows = finished.rows()
    tests = Counter((row["model"], row["set"]) for row in rows if row["kind"] == "test")
    counts = {"unigram": 1, "bigram": 1, "trigram": 1, "lstm": 2}
    assert tests == {(model, name): count for model, count in counts.items() for name in ("replies", "made")}
    for row in rows:
        if row["kind"] == "test":
            assert 0 <= row["top1"] <= row["top5"] <= 1 and row["saved1"] <= row["saved3"] < 1 < row["perplexity"]
    chosen = [row for row in rows if row["kind"] == "chosen"]
    validations = [row for row in rows if row["kind"] == "validation"]
    for row in chosen:
        assert row["loss"] == min(one["loss"] for one in validations if one["seed"] == row["seed"])
    assert finished.series("lstm_seed0_norms_" + norms_length(finished)).shape[1] == 1


def norms_length(run) -> str:
    [name] = [path.stem for path in run.path.glob("series/lstm_seed0_norms_*.bin")]
    return name.rpartition("_")[2]


def test_the_table_says_where_everything_comes_from(finished):
    table = " ".join((finished.path / "table.txt").read_text().split())
    for said in (
        "replies (generated)",
        "made (real)",
        "looked at once",
        f"{len(PARTS['train'].templates)} templates",
        "seeds 0 to 1",
        "Trnka & McCoy",
    ):
        assert said in table
    assert finished.provenance["cpu"]["model"] in table
    sentences = [row for row in finished.rows() if row["kind"] == "sentence"]
    assert len(sentences) == 4 and [row["lecture"] for row in sentences] == [True, True, False, False]
    for row in sentences:
        assert (row["seen"] > 0) == (f"{row['prompt']} -> {row['expected']} lstm seen in training" in table)
        assert (row["seen"] == 0) == (f"{row['prompt']} -> {row['expected']} lstm unseen" in table)
    assert all(row["seen"] for row in sentences if row["lecture"])  # both stand in the templates


def test_the_figure_is_drawn_of_stored_rows_alone(finished, monkeypatch):
    monkeypatch.setattr(autocomplete, "inputs", None)
    drawn = autocomplete.figure(finished)
    assert len(drawn.axes) == 1 + 2 * 4 + 2


def answers(run, capsys, *flags: str) -> list[dict]:
    with jax.numpy_dtype_promotion("standard"):
        command = ["predict", str(run.path), "--json", *flags]
        assert cli.launch(command, experiments, "autocomplete") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def without_cache(monkeypatch):
    monkeypatch.setattr(cli, "_keep_compiled", lambda: None)


@pytest.mark.usefixtures("without_cache")
def test_predict_says_all_that_the_model_gives(finished, capsys):
    [row] = answers(finished, capsys, "--text=Not interested at", "--top=1000", "--words=1")
    shares = [one["probability"] for one in row["words"]]
    assert np.all(np.diff(shares) <= 0) and sum(shares) == pytest.approx(row["any_word"], rel=1e-5)
    assert row["any_word"] + row["any_mark"] + row["end"] == pytest.approx(1, rel=1e-5)
    phrases = {one["text"]: one["probability"] for one in row["phrases"]}
    assert phrases[""] == pytest.approx(row["end"], rel=1e-5) and sum(phrases.values()) == pytest.approx(1, rel=1e-5)
    assert {one["word"]: one["probability"] for one in row["words"]}.items() <= phrases.items()
    assert (row["read"], row["begun"], row["unknown"], row["cell"]) == (3, "", 0, "lstm")
    assert UNKNOWN not in phrases and BEGIN not in phrases


@pytest.mark.usefixtures("without_cache")
def test_predict_completes_a_word_that_is_begun(finished, capsys):
    [row] = answers(finished, capsys, "--text=not interested at thi", "--top=500")
    assert row["begun"] == "thi" and row["read"] == 3 and row["unknown"] == 0
    assert all(one["word"].startswith("thi") for one in row["words"]) and "this" in [w["word"] for w in row["words"]]
    assert sum(one["probability"] for one in row["words"]) == pytest.approx(1, rel=1e-5)


@pytest.mark.usefixtures("without_cache")
def test_predict_takes_any_text(finished, capsys, tmp_path):
    odd = [
        "",
        "   ",
        "\u0928\u092e\u0938\u094d\u0924\u0947 the",
        "a\0b \U0001f600 the\x1b[2J",
        "at " * 10_000,
        "\u0130 CAT",
    ]
    file = tmp_path / "texts"
    file.write_text("\n".join(odd) + "\n", encoding="utf-8")
    found = answers(finished, capsys, f"--file={file}")
    assert [row["text"] for row in found] == odd
    assert [row["read"] for row in found][:2] == [0, 0] and found[4]["read"] == 10_000
    assert found[2]["unknown"] == 1 and found[2]["unknown_words"] == ["\u0928\u092e\u0938\u094d\u0924\u0947"]
    assert found[3]["unknown"] >= 3
    assert all(row["words"] and row["phrases"] for row in found)


@pytest.mark.usefixtures("without_cache")
def test_predict_for_people_names_words_phrases_and_what_is_unknown(finished, capsys):
    with jax.numpy_dtype_promotion("standard"):
        text = "qqq \x07 " + "we are " * 40 + "the"
        assert cli.launch(["predict", str(finished.path), f"--text={text}"], experiments, "autocomplete") == 0
    said = capsys.readouterr().out
    assert (
        said.startswith("...")
        and "\x07" not in said
        and "2 of 83 words and marks are unknown to the model: qqq" in said
    )
    assert "word " in said and "phrase " in said and "%" in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (dict(data="none", replies=0), "expected something to train on"),
        (dict(data="made,made"), "expected every data set once"),
        (dict(embedding=5, readout="tied"), "expected embeddings as wide as the last layer"),
        (dict(cell="lstmm"), "lstmm"),
        (dict(clip=0), "clip: expected a norm above 0"),
    ],
)
@pytest.mark.usefixtures("made")
def test_what_cannot_be_run_is_one_line(flags, message, tmp_path, capsys):
    assert launching.launched("autocomplete", tmp_path / "runs", **{**TINY, **flags}) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.strip().splitlines()) == 1 and not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("without_cache")
def test_predict_refuses_a_cell_that_was_not_trained(finished, capsys):
    assert cli.launch(["predict", str(finished.path), "--text=a", "--cell=gru"], experiments, "autocomplete") == 2
    assert "cell: expected one of lstm, got 'gru'" in capsys.readouterr().err


@pytest.mark.slow
def test_your_own_file_and_no_replies_to_train_on(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("\n".join(f"{line} {n}" for n, line in enumerate(ENGLISH * 10)), encoding="utf-8")
    more = dict(data="none", text=file, replies=0, cell="gru,lstm", seeds=1, steps=2, readout="dense", embedding=5)
    assert launching.launched("autocomplete", tmp_path / "runs", **{**TINY, **more}) == 0
    run = launching.only_run(tmp_path / "runs")
    sets = {row["set"] for row in run.rows() if row["kind"] == "test"}
    assert sets == {"replies", "mine.txt"}
    table = (run.path / "table.txt").read_text()
    assert "the reader's own" in table and "seen in training" not in table.partition("demonstrations:")[0]
