"""Vocabularies: ids and back, right for Devanagari, the same in every process, and what is unknown is never silent."""

import json
import os
import re
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from rnnlab.data import vocabularies
from rnnlab.data.vocabularies import BEGIN, END, PAD, UNKNOWN, characters, load, subwords, tokens, words
from rnnlab.data.words import join_words, split_words
from rnnlab.errors import InputError

ROOT = Path(__file__).parent.parent
HINDI = [
    "आप कैसे हैं?",
    "क्षत्रिय राजा ने कहा, “ज़मीन हमारी है।”",
    "मुझे हिन्दी अच्छी लगती है।",
    "वह लड़का पढ़ रहा है, और लड़की भी पढ़ रही है।",
    "क्या आप मेरी मदद कर सकते हैं?",
    "उसने १२३ रुपये दिए (या 4,500.75?)।",
]
# One string, two spellings: consonants with a nukta as one code point each, or as two.
WHOLE, SPLIT = "\u0958\u0932\u092e \u095b\u092e\u0940\u0928", "\u0915\u093c\u0932\u092e \u091c\u093c\u092e\u0940\u0928"
MAKERS = {
    "characters": characters,
    "words": words,
    "subwords": lambda texts, **how: subwords(texts, 390, **how),
}


def made(kind, texts=HINDI, **how):
    return MAKERS[kind](texts, **how)


def nfc(text):
    return unicodedata.normalize("NFC", text)


def random_text(seed, alphabet="abc  \n,.'(?1२क\u093f\u093c\u094dष।\u200dé", count=60):
    return "".join(np.random.default_rng(seed).choice(list(alphabet), count))


# All kinds.


@pytest.mark.parametrize("kind", MAKERS)
def test_ids_and_back(kind):
    vocabulary = made(kind)
    for text in HINDI:
        ids = vocabulary.encode(text)
        assert ids.dtype == np.int32 and ids.ndim == 1 and ids.min() >= 0 and ids.max() < vocabulary.size
        assert vocabulary.decode(ids) == vocabulary.decode(ids.tolist())
        back = vocabulary.decode(ids)
        if kind == "words":
            assert split_words(back) == split_words(nfc(text))
        else:
            assert back == nfc(text)
    assert len(vocabulary.tokens) == vocabulary.size and len(set(vocabulary.tokens)) == vocabulary.size


@pytest.mark.parametrize("kind", MAKERS)
def test_two_spellings_of_a_string_have_the_same_ids(kind):
    assert WHOLE != SPLIT
    for trained in (WHOLE, SPLIT):
        vocabulary = made(kind, [*HINDI, trained])
        np.testing.assert_array_equal(vocabulary.encode(WHOLE), vocabulary.encode(SPLIT))
        assert vocabulary.decode(vocabulary.encode(WHOLE)) == SPLIT  # NFC writes these in two
    assert made(kind, [*HINDI, WHOLE]).sha256 == made(kind, [*HINDI, SPLIT]).sha256


def test_other_forms_of_normalisation_on_request():
    assert characters("\ufb01\u2460", form="NFKC").tokens == (UNKNOWN, "1", "f", "i")
    assert characters("\ufb01\u2460").tokens == (UNKNOWN, "\u2460", "\ufb01")
    vocabulary = words(["\uff46\uff55\uff4c\uff4c wide"], form="NFKC")
    np.testing.assert_array_equal(vocabulary.encode("full"), vocabulary.encode("\uff46\uff55\uff4c\uff4c"))
    with pytest.raises(ValueError, match=r"a form of .*, got 'nfc'"):
        words(HINDI, form="nfc")


@pytest.mark.parametrize("kind", MAKERS)
def test_text_of_nothing_and_of_spaces(kind):
    vocabulary = made(kind)
    assert vocabulary.encode("").shape == (0,) and vocabulary.encode("").dtype == np.int32
    assert vocabulary.decode(vocabulary.encode("")) == vocabulary.decode([]) == ""
    assert vocabulary.decode(vocabulary.encode("   ")) == ("" if kind == "words" else "   ")


@pytest.mark.parametrize("texts", ["", [], iter([]), ["", " \n", "\t"]])
@pytest.mark.parametrize("kind", MAKERS)
def test_no_text_to_learn_from(kind, texts):
    with pytest.raises(InputError, match=r"^vocabulary: expected some text, got none$"):
        made(kind, list(texts) if not isinstance(texts, str) else texts)


@pytest.mark.parametrize("kind", MAKERS)
def test_specials_have_the_first_ids_and_no_text_gives_them(kind):
    specials = (PAD, BEGIN, END, UNKNOWN)
    vocabulary = made(kind, specials=specials)
    assert vocabulary.tokens[:4] == specials and [vocabulary.special(one) for one in specials] == [0, 1, 2, 3]
    ids = vocabulary.encode("<pad><begin> आप <end> <0x41> <unknown>")
    assert not set(ids.tolist()) & {0, 1, 2}
    text = HINDI[0]
    framed = [1, *vocabulary.encode(text), 2, 0, 0]
    assert vocabulary.decode(framed) == vocabulary.decode(vocabulary.encode(text))
    with pytest.raises(ValueError, match=r"expected one of the specials .*, got '<mask>'"):
        vocabulary.special("<mask>")
    with pytest.raises(ValueError, match="different tokens"):
        made(kind, specials=(PAD, PAD))


@pytest.mark.parametrize(
    ("kind", "text", "places", "back"),
    [("characters", "आपXहै", [2], "आप\ufffdहै"), ("words", "आप नए हैं!", [1, 3], "आप \ufffd हैं \ufffd")],
)
def test_what_is_unknown(kind, text, places, back):
    vocabulary = made(kind, specials=(PAD, UNKNOWN))
    ids = vocabulary.encode(text)
    assert np.flatnonzero(ids == 1).tolist() == places and vocabulary.decode(ids) == back
    with pytest.raises(
        InputError, match=rf"^vocabulary: expected one of \d+ {kind}, got '.*', number {places[0]} of all$"
    ):
        made(kind, specials=()).encode(text)


@pytest.mark.parametrize("kind", MAKERS)
def test_saved_and_loaded(kind, tmp_path):
    vocabulary = made(kind, specials=(PAD, UNKNOWN), form="NFKC")
    vocabulary.save(tmp_path / "vocabulary.json")
    again = load(tmp_path / "vocabulary.json")
    assert again[:5] == vocabulary[:5] and again.sha256 == vocabulary.sha256 and again.json == vocabulary.json
    for text in [*HINDI, "Xyz \ufb01 日本"]:
        np.testing.assert_array_equal(again.encode(text), vocabulary.encode(text))
        assert again.decode(again.encode(text)) == vocabulary.decode(vocabulary.encode(text))
    assert os.listdir(tmp_path) == ["vocabulary.json"]


def test_the_hash_is_of_everything():
    several = [
        words(HINDI),
        words(HINDI[:-1]),
        words(HINDI, specials=(PAD, UNKNOWN)),
        words(HINDI, form="NFKC"),
        tokens(map(split_words, HINDI)),
        subwords(HINDI, 390),
        subwords(HINDI, 391),
    ]
    assert len({one.sha256 for one in several}) == 7 and words(iter(HINDI)).sha256 == words(HINDI).sha256
    # Were it to change, no run made before would be found again.
    assert characters("ab").sha256 == "46dc9cd164a4a43e02e46a6f13df00d30ede89d0847544db56788a506adc347b"


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("damage", ["cut", "empty", "list", "kind", "twice", "surplus", "binary"])
def test_a_file_that_is_no_vocabulary(kind, damage, tmp_path):
    path = tmp_path / "vocabulary.json"
    made(kind).save(path)
    fields = json.loads(path.read_text())
    changed = {
        "cut": path.read_text()[:-40], "empty": "", "list": "[1]", "kind": json.dumps(fields | {"kind": "no such"}),
        "twice": json.dumps(fields | {"learned": [*fields["learned"], fields["learned"][-1]]}),
        "surplus": json.dumps(fields | {"more": 1}), "binary": None,
    }[damage]  # fmt: skip
    path.write_bytes(b"\xff\xfe\x00") if changed is None else path.write_text(changed)
    with pytest.raises(InputError, match=r"^vocabulary: expected a file that was saved as one, got .*\)$") as refused:
        load(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(InputError, match=r"^vocabulary: expected a readable file, got .*: No such file"):
        load(tmp_path / "none")
    with pytest.raises(InputError, match=r"^vocabulary: expected a readable file, got .*: Is a directory"):
        load(tmp_path)
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "vocabulary", tmp_path / "none" / "vocabulary"):
        with pytest.raises(InputError, match=r"^vocabulary: expected to write .*, got: N"):
            words(HINDI).save(path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"^vocabulary: expected to write .*, got: Is a directory"):
        words(HINDI).save(tmp_path / "folder")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("ids", [[-1], [10**6], [0.5], [[0, 1]]])
def test_ids_that_are_none(kind, ids):
    with pytest.raises(ValueError, match="decode: expected"):
        made(kind).decode(ids)


def test_another_process_makes_the_same_vocabularies():
    code = (
        "import json, sys\n"
        "from rnnlab.data import vocabularies as v\n"
        "texts = json.loads(sys.stdin.read())\n"
        "print(v.characters(texts).sha256, v.words(texts).sha256, v.subwords(texts, 390).sha256)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "3"}
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, input=json.dumps(HINDI), capture_output=True,
        text=True, check=True,
    ).stdout  # fmt: skip
    assert out.split() == [made(kind).sha256 for kind in ("characters", "words", "subwords")]


# Characters.


def test_characters_are_code_points_in_their_order():
    assert characters(["bcca", "aक्षि"], specials=(PAD, UNKNOWN)).tokens == (PAD, UNKNOWN, *"abc", "क", "ष", "ि", "्")
    assert characters(["aab", "bc"], at_least=2).tokens == (UNKNOWN, "a", "b")


@pytest.mark.parametrize("seed", range(3))
def test_characters_are_a_loop_over_a_table(seed):
    vocabulary = characters([random_text(seed, count=20)])
    text = nfc(random_text(seed + 9) + "\U0010ffff\ud800")
    place = {token: n for n, token in enumerate(vocabulary.tokens)}
    np.testing.assert_array_equal(vocabulary.encode(text), [place.get(c, 0) for c in text])


def test_a_million_characters_take_no_time():
    text = random_text(0, count=1_000) * 1_200
    vocabulary = characters(text[:1000])
    began = time.process_time()
    assert len(vocabulary.encode(text)) > 1_000_000
    assert time.process_time() - began < 0.2


# Words.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("क्षत्रिय", ["क्षत्रिय"]),
        ("आप कैसे हैं?", ["आप", "कैसे", "हैं", "?"]),
        ("मैं ठीक हूँ।", ["मैं", "ठीक", "हूँ", "।"]),
        ("“हाँ”, (नहीं)…", ["“", "हाँ", "”", ",", "(", "नहीं", ")", "…"]),
        (SPLIT, SPLIT.split()),
        ("क्\u200dष र्\u200cक", ["क्\u200dष", "र्\u200cक"]),  # joiners shape letters, and part no words
        ("१२ 3.14 1,000, 5.", ["१२", "3.14", "1,000", ",", "5", "."]),
        ("don't 'tis dogs' it\u2019s", ["don't", "'", "tis", "dogs", "'", "it\u2019s"]),
        ("U.S. a-b x_1\ty\n\nz", ["U", ".", "S", ".", "a", "-", "b", "x_1", "y", "z"]),
        ("वह@ex.in #टैग", ["वह", "@", "ex", ".", "in", "#", "टैग"]),
        (" \u00a0\u3000 ", []),
        ("", []),
    ],
)
def test_words_of_a_text(text, expected):
    assert split_words(text) == expected


@pytest.mark.parametrize("seed", range(20))
def test_no_character_is_lost_and_joined_words_split_the_same(seed):
    text = random_text(seed)
    found = split_words(text)
    assert "".join(found) == re.sub(r"\s", "", text)
    assert split_words(join_words(found)) == found


def test_words_are_joined_as_people_write_them():
    for text in ("आप कैसे हैं? मैं ठीक हूँ।", "Yes, (no): 3.14% of it\u2019s [all]; gone!"):
        assert join_words(split_words(text)) == text


def test_words_by_frequency_then_code_point():
    vocabulary = words(["b a c b", "d c b अ"])
    assert vocabulary.tokens == (UNKNOWN, "b", "c", "a", "d", "अ")
    assert words(["b a c b", "d c b अ"], at_least=2).tokens == (UNKNOWN, "b", "c")
    assert words(["b a c b", "d c b अ"], at_most=4, specials=(PAD, UNKNOWN)).tokens == (PAD, UNKNOWN, "b", "c")
    assert words("one text alone").tokens == (UNKNOWN, "alone", "one", "text")


@pytest.mark.parametrize("how", [{"at_least": 0}, {"at_most": 1}])
def test_words_refuses(how):
    with pytest.raises(ValueError, match="expected at_least > 0 and at_most > 1 specials"):
        words(HINDI, **how)


def test_no_word_is_frequent_enough():
    with pytest.raises(InputError, match="expected some text"):
        words(["a b c"], at_least=2)


# What was split before.


def test_tokens_keep_their_number():
    sentences = [["@user", "New York", ":)"], ["don't", "@user"]]
    vocabulary = tokens(sentences)
    assert vocabulary.tokens == (UNKNOWN, "@user", ":)", "New York", "don't")
    assert vocabulary.encode(["New York", "York", "@user"]).tolist() == [3, 0, 1]
    assert vocabulary.encode([]).shape == (0,) and vocabulary.decode([3, 1]) == "New York @user"
    assert tokens([[WHOLE]]).encode([SPLIT, WHOLE]).tolist() == [1, 1]
    tags = tokens([["O", "B-person", "O"]], specials=())
    assert tags.encode(["B-person", "O"]).tolist() == [1, 0]
    with pytest.raises(InputError, match="expected one of 2 tokens, got 'I-person', number 1 of all"):
        tags.encode(["O", "I-person"])


def test_tokens_and_text_are_not_confused():
    with pytest.raises(TypeError, match="expected a list of str, got 'O'"):
        tokens([["O"]]).encode("O")
    with pytest.raises(TypeError, match=r"expected a str, got \['O'\]"):
        words("O").encode(["O"])
    with pytest.raises(TypeError, match="expected sequences of str, got 'O'"):
        tokens(["O"])


# Subwords.


def test_subwords_join_what_is_frequent():
    vocabulary = made("subwords")
    pieces = [vocabulary.tokens[n] for n in vocabulary.encode("आप पढ़ रहे हैं")]
    assert "".join(pieces) == nfc("आप पढ़ रहे हैं") and len(pieces) < len("".join(pieces)) and " हैं" in pieces
    assert vocabulary.size == 390 and vocabulary.tokens[:256] == vocabularies.BYTES
    assert not any(" " in piece[1:] for piece in vocabulary.tokens)


def test_no_sign_stands_apart_from_its_word():
    """With GPT-2's pattern every vowel sign begins a piece of its own."""
    text = "हिन्दी " * 50
    vocabulary = subwords([text], 300)
    assert [vocabulary.tokens[n] for n in vocabulary.encode("हिन्दी हिन्दी")] == ["हिन्दी", " हिन्दी"]


def test_spaces_are_cut_the_same_in_learning_and_after():
    vocabulary = subwords(["x     y"], 400)
    assert "  " in vocabulary.tokens
    assert [vocabulary.tokens[n] for n in vocabulary.encode("x  y")] == ["x", " ", " y"]


@pytest.mark.parametrize("seed", range(10))
def test_subwords_give_back_any_text(seed):
    vocabulary = made("subwords", specials=(PAD,))
    text = nfc(random_text(seed) + random_text(seed, "日本<0x41>\x00 \r\n▁Ġ🙂"))
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_subwords_of_half_a_character():
    vocabulary = made("subwords")
    assert vocabulary.decode(vocabulary.encode("a日b")[:-2]) == "a\ufffd"


@pytest.mark.parametrize("size", [0, 256, 290])
def test_subwords_have_room_for_every_character(size):
    least = 256 + 1 + len(set(nfc("".join(HINDI))))
    with pytest.raises(InputError, match=rf"^subwords: expected a size of at least {least}, .*, got {size}$"):
        subwords(HINDI, size, specials=(PAD,))
    assert subwords(HINDI, least, specials=(PAD,)).size == least
    assert subwords(["ab ab"], 5000).size < 300  # there is no more to join


def test_what_utf8_cannot_spell():
    with pytest.raises(InputError, match=r"^text: expected what UTF-8 can spell, got a lone surrogate"):
        made("subwords").encode("a\ud800")
