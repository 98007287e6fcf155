import hashlib
from typing import NamedTuple

import pytest

from rnnlab.data import published, text
from rnnlab.errors import InputError


def test_a_file_is_read_with_its_hash_and_without_its_byte_order_mark(tmp_path):
    raw = b"\xef\xbb\xbf" + "straße\n".encode()
    (tmp_path / "book.txt").write_bytes(raw)
    found = text.read(tmp_path / "book.txt")
    assert found == text.Text("straße\n", "book.txt", hashlib.sha256(raw).hexdigest(), "the reader's own")


@pytest.mark.parametrize(
    ("raw", "words"),
    [(b"", "empty"), (b" \n\t", "empty"), (b"fine \xff\xfe", "byte 0xff at offset 5"), (None, "No such file")],
)
def test_what_is_no_text_is_refused_by_name(tmp_path, raw, words):
    path = tmp_path / "given.txt"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(InputError, match=words) as caught:
        text.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_is_no_text(tmp_path):
    with pytest.raises(InputError, match="directory"):
        text.read(tmp_path)


def test_the_split_is_in_order_and_loses_nothing():
    train, test = text.split("abcdefghijklmnopqrst", 0.1)
    assert train + test == "abcdefghijklmnopqrst" and test == "st"


def test_the_embedded_text_is_prose_of_a_useful_size():
    found = text.python_reference()
    assert len(found.content) > 300_000 and " the " in found.content
    assert found.sha256 == hashlib.sha256(found.content.encode()).hexdigest()


class Set(NamedTuple):
    examples: list
    version: str = "1.2.3"
    origin: str = "real"


def test_a_published_set_is_its_texts_in_their_order(monkeypatch):
    asked = []
    examples = [{"text": "eins\nzwei", "label": 0}, {"text": "drei", "label": 1}]
    monkeypatch.setattr(published, "open", lambda *names: asked.append(names) or Set(examples))
    found = text.published("verses")
    assert asked == [("verses", "train")]
    content = "eins\nzwei\ndrei"
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    assert found == text.Text(content, "verses 1.2.3 (train)", sha256, "real")


def test_a_set_without_text_is_refused_with_what_it_has(monkeypatch):
    monkeypatch.setattr(published, "open", lambda *names: Set([{"tokens": ["a"], "tags": [0]}]))
    with pytest.raises(InputError, match="column 'text' of strings, got wnut17 with tags, tokens"):
        text.published("wnut17")
