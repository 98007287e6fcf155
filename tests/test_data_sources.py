"""Real data sets prepared from the mirror, what is refused, and what is left behind when preparing is cut short."""

import gzip
import io
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds

from rnnlab.data import files, published, stock
from rnnlab.data.sources import SOURCES, lines, mnist, movie_snippets, spoken_digits, tatoeba, wnut17
from rnnlab.data.sources.source import About, Source
from rnnlab.errors import InputError

ROOT = Path(__file__).parent.parent
SEED = int.from_bytes(os.urandom(4), "big")
# Examples, and the first twelve digits of their SHA-256: it moves when the decoding does, and then so must VERSION.
KNOWN = {
    ("tiny_shakespeare", "train"): (1, "6ee6ece66438"),
    ("tiny_shakespeare", "validation"): (1, "347984b4f5fa"),
    ("tiny_shakespeare", "test"): (1, "8bb5783ca08b"),
    ("tatoeba", "train"): (2373, "20c1d57ca366"),
    ("tatoeba", "validation"): (296, "b557fd65556f"),
    ("tatoeba", "test"): (280, "89144adad828"),
    ("wnut17", "train"): (3394, "b770f872703c"),
    ("wnut17", "validation"): (1009, "ae0f8be57989"),
    ("wnut17", "test"): (1287, "8c4e1b7a8dab"),
    ("movie_snippets", "train"): (8510, "339e5037c122"),
    ("movie_snippets", "validation"): (1017, "ef05a558b33a"),
    ("movie_snippets", "test"): (1078, "c7eaf681f54b"),
    ("spoken_digits", "train"): (2700, "0b6c910e8793"),
    ("spoken_digits", "test"): (300, "092081f7874b"),
    ("mnist", "test"): (10000, "1ed7f4472d6e"),
}
# Examples of Toy's training split.
COUNT = 40
QUICK = ("tiny_shakespeare",)


@pytest.fixture(autouse=True)
def without_tensorflow(monkeypatch):
    """As where it is not installed."""
    monkeypatch.setattr(stock, "has_tensorflow", lambda: False)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A home that the whole file shares: each data set is prepared in it once."""
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def mirror():
    if not os.environ.get("RNNLAB_DATA_MIRROR"):
        pytest.skip("RNNLAB_DATA_MIRROR names no folder with the published files")
    return Path(os.environ["RNNLAB_DATA_MIRROR"])


@pytest.fixture
def opened(mirror, prepared, monkeypatch):
    monkeypatch.setenv("RNNLAB_DATA", str(prepared))
    return published.open


def refused(name: str, split: str) -> str:
    with pytest.raises(InputError) as caught:
        published.open(name, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left(home: Path) -> list[Path]:
    """What there is besides locks and folders."""
    return [path for path in home.rglob("*") if path.is_file() and not path.name.endswith(".lock")]


class Toy(Source):
    """A small data set of rows drawn from a seed, as somebody would add it."""

    VERSION = tfds.core.Version("1.2.3")
    RELEASE_NOTES: ClassVar = {"1.2.3": "First."}
    ABOUT = About("Numbers.", "https://localhost", "none", "nobody")
    FILES = ()
    PAUSE = 0.0

    def features(self):
        return {
            "row": tfds.features.Tensor(shape=(None, 3), dtype=np.float32),
            "ids": tfds.features.Tensor(shape=(None,), dtype=np.int16),
            "words": tfds.features.Sequence(tfds.features.Text()),
            "kind": tfds.features.ClassLabel(names=("odd", "even")),
            "tags": tfds.features.Sequence(tfds.features.ClassLabel(names=("x", "y", "z"))),
            "score": np.float32,
            "text": tfds.features.Text(),
        }

    def read(self):
        return {"train": Slow(rows(COUNT), self.PAUSE), "test": rows(7)}


class Slow(list):
    def __init__(self, items: list, pause: float):
        super().__init__(items)
        self.pause = pause

    def __iter__(self):
        for item in super().__iter__():
            time.sleep(self.pause)
            yield item


def rows(count: int) -> list[dict]:
    rng = np.random.default_rng([SEED, count])
    return [
        {
            "row": rng.normal(size=(length, 3)).astype(np.float32),
            "ids": rng.integers(-9, 9, length).astype(np.int16),
            "words": ["नम\u200dस्ते", "", "a\tb"][: rng.integers(4)],
            "kind": np.int64(rng.integers(2)),
            "tags": rng.integers(0, 3, length),
            "score": np.float32(rng.normal()),
            "text": "line\u2028one\n" * length,
        }
        for length in rng.integers(0, 5, count)
    ]


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(SOURCES, "toy", Toy)
    return "toy"


def same(found: dict, given: dict) -> bool:
    arrays = [name for name, value in given.items() if not isinstance(value, (str, list))]
    return found.keys() == given.keys() and all(
        found[name].dtype == given[name].dtype and np.array_equal(found[name], given[name])
        if name in arrays
        else found[name] == given[name]
        for name in given
    )


def test_examples_come_back_as_they_were_given(toy, home):
    for split, count in (("train", COUNT), ("test", 7)):
        found = published.open(toy, split)
        assert found.count == len(found.examples) == count and found.sha256 == published.digest(rows(count))
        assert all(map(same, found.examples, rows(count)))
    assert found.classes == {"kind": ("odd", "even"), "tags": ("x", "y", "z")}
    assert (found.name, found.version, found.split, found.origin) == ("toy", "1.2.3", "test", "real")
    assert (found.licence, found.citation) == ("none", "nobody")
    assert (home / "toy/1.2.3/content.json").exists() and not list(home.glob(".preparing/*/*"))


def test_access_is_random(toy, home):
    examples = published.open(toy, "train").examples
    assert same(examples[-1], rows(COUNT)[-1]) and same(examples[np.int32(17)], rows(COUNT)[17])
    for wrong in (COUNT, -COUNT - 1):
        with pytest.raises(IndexError):
            examples[wrong]


def test_a_slice_has_a_hash_of_its_own(toy, home):
    part = published.open(toy, "train[10:20]")
    assert part.count == 10 and part.sha256 == published.digest(rows(COUNT)[10:20])
    assert published.open(toy, "train[:10%]+test").count == COUNT // 10 + 7


@pytest.mark.parametrize("name", ["row", "ids", "words", "kind", "score", "text"])
def test_the_hash_depends_on_every_column(name):
    given = {"row": np.zeros((2, 3)), "ids": np.arange(3), "words": ["a", "b"], "kind": 1, "score": 0.5, "text": "ab"}
    changed = {"row": np.zeros((3, 2)), "ids": np.arange(3).astype(np.uint64), "words": ["ab", ""], "kind": 2}
    other = given | {name: (changed | {"score": 0.25, "text": ["ab"]})[name]}
    assert published.digest([given]) != published.digest([other])
    assert published.digest([given, other]) != published.digest([other, given])


def test_what_there_is_none_of_is_refused_with_the_nearest(toy, home):
    assert "'wnut'; did you mean wnut17?" in refused("wnut", "train")
    assert "expected one of tiny_shakespeare" in refused("zzz", "train")
    assert "'trian'; did you mean train?" in refused(toy, "trian")
    assert "a slice is written train[:10%]" in refused(toy, "train[:x]")
    assert "'tset'; did you mean test?" in refused("mnist", "tset")
    assert not left(home / "mnist")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone", "unfinished", "garbled", "miscounted"])
def test_a_damaged_prepared_set_is_refused_with_its_folder(toy, home, damage):
    published.open(toy, "train")
    (path,) = (home / "toy/1.2.3").glob("*train*")
    if damage == "truncated":
        os.truncate(path, path.stat().st_size - 30_000)
    elif damage == "flipped":
        path.write_bytes(path.read_bytes().replace(b"\x00" * 8, b"\xff" * 8))
    elif damage in ("garbled", "miscounted"):
        content = home / "toy/1.2.3/content.json"
        content.write_text(content.read_text().replace(f": {COUNT}", ": 39") if damage == "miscounted" else "{")
    else:
        (path if damage == "gone" else home / "toy/1.2.3/content.json").unlink()
    with pytest.raises(InputError, match=f"{home / 'toy/1.2.3'}: expected .*; remove the folder") as caught:
        list(published.open(toy, "train").examples)
    assert "\n" not in str(caught.value)
    shutil.rmtree(home / "toy/1.2.3")
    assert published.open(toy, "train").sha256 == published.digest(rows(COUNT))


class Interrupted(Toy):
    def read(self):
        def examples():
            yield from rows(COUNT)[:30]
            raise self.ERROR

        return {"test": rows(7), "train": type("Bad", (list,), {"__iter__": lambda _: examples()})(rows(COUNT))}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("first\nsecond"), OSError(28, "No space left")])
def test_nothing_is_left_of_a_preparation_that_failed(toy, home, monkeypatch, error):
    monkeypatch.setattr(Interrupted, "ERROR", error, raising=False)
    monkeypatch.setitem(SOURCES, toy, Interrupted)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            published.open(toy, "test")
    else:
        said = refused(toy, "test")
        assert "No space left" in said or said.startswith("toy could not be prepared: RuntimeError: ")
    assert not left(home)
    monkeypatch.setitem(SOURCES, toy, Toy)
    assert published.open(toy, "train").count == COUNT


def test_what_a_killed_process_left_is_not_taken_over(toy, home, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Toy, "read", lambda self: {"train": rows(3), "test": rows(2)})
        published.open(toy, "train")
    (home / ".preparing/toy/1.2.3/toy").mkdir(parents=True)
    (home / "toy/1.2.3").rename(home / ".preparing/toy/1.2.3/toy/1.2.3")
    assert published.open(toy, "train").sha256 == published.digest(rows(COUNT))


def test_a_broken_file_in_the_mirror_prepares_nothing(mirror, home, tmp_path, monkeypatch):
    monkeypatch.setenv("RNNLAB_DATA_MIRROR", str(tmp_path))
    raw = (mirror / "hin.txt").read_bytes()
    (tmp_path / "hin.txt").write_bytes(raw.replace("वाह".encode(), b"\xff\xfe", 1))
    said = refused("tatoeba", "train")
    assert said.startswith(f"{tmp_path / 'hin.txt'}: expected contents with SHA-256 c6b356d3c056") and not left(home)
    raw = (mirror / "t10k-images-idx3-ubyte.gz").read_bytes()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(raw[: len(raw) // 2])
    said = refused("mnist", "test")
    assert "t10k-images-idx3-ubyte.gz: expected " in said and "truncated" in said and not left(home)


def test_a_split_without_its_files_is_refused_by_their_names(mirror, home, monkeypatch):
    monkeypatch.setattr(mnist.Mnist, "FILES", unreachable(mnist.Mnist.FILES))
    said = refused("mnist", "train")
    assert "train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz" in said and str(mirror) in said
    assert not left(home)


def unreachable(published_files: dict) -> dict:
    """The same files where nothing answers."""
    nowhere = "http://127.0.0.1:9/"
    return {split: tuple(f._replace(address=nowhere + f.name) for f in fs) for split, fs in published_files.items()}


@pytest.mark.parametrize(
    ("name", "split"), [pytest.param(*key, marks=[] if key[0] in QUICK else pytest.mark.slow) for key in KNOWN]
)
def test_counts_and_contents_are_the_published_ones(opened, name, split):
    found = opened(name, split)
    assert (found.count, found.sha256[:12]) == KNOWN[name, split]
    assert found.licence and found.citation and found.version == "1.0.0" and found.origin == "real"
    assert published.digest(found.examples) == found.sha256


def test_a_second_preparation_gives_the_same_records(toy, home, tmp_path, monkeypatch):
    first = published.open(toy, "train")
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path / "second"))
    assert published.open(toy, "train")._replace(examples=0) == first._replace(examples=0)
    contents = [json.loads((place / "toy/1.2.3/content.json").read_text()) for place in (home, tmp_path / "second")]
    assert contents[0] == contents[1] and contents[0]["test"]["count"] == 7


def test_tiny_shakespeare_is_cut_in_time_order(opened, mirror):
    parts = [opened("tiny_shakespeare", split).examples[0]["text"] for split in ("train", "validation", "test")]
    whole = (mirror / "tinyshakespeare.txt").read_text()
    assert "".join(parts) == whole and [len(part) for part in parts] == [1003854, 55770, 55770]
    assert parts[0].startswith("First Citizen:\nBefore we proceed any further, hear me speak.")


def test_tatoeba_has_no_english_sentence_in_two_splits(mirror, tmp_path):
    sets = tatoeba.Tatoeba(data_dir=str(tmp_path)).read(*files.find(*tatoeba.Tatoeba.FILES))
    english = {split: {one["english"] for one in examples} for split, examples in sets.items()}
    assert len(set.union(*english.values())) == sum(map(len, english.values())) == 2714
    assert sum(map(len, sets.values())) == 2949
    assert sets["train"][0]["hindi"] == "वाह!" and "#52027 (Zifre)" in sets["train"][0]["attribution"]


@pytest.mark.slow
def test_wnut17_keeps_tokens_and_tags_together(opened, capsys):
    page = (ROOT / "docs/data.md").read_text()
    exec(re.search(r"```python\n(.*?)```", page, flags=re.DOTALL)[1], {})
    assert capsys.readouterr().out == "3394 ['@paulwalk', 'It', \"'s\"] ('O', 'B-corporation', 'I-corporation')\n"
    train = opened("wnut17", "train")
    first, names = train.examples[0], train.classes["tags"]
    assert names[0] == "O" and len(names) == 13
    tagged = [f"{token}/{names[tag]}" for token, tag in zip(first["tokens"], first["tags"], strict=True)]
    assert tagged[14:19] == ["Empire/B-location", "State/I-location", "Building/I-location", "=/O", "ESB/B-location"]
    tags = np.concatenate([one["tags"] for one in train.examples])
    assert len(tags) == 62730 and np.sum(tags == names.index("B-person")) == 660
    assert opened("wnut17", "test").examples[-1]["tokens"][-1]


@pytest.mark.slow
def test_movie_snippets_have_ratings_and_their_signs(opened):
    sets = [list(opened("movie_snippets", split).examples) for split in ("train", "validation", "test")]
    texts = [{one["text"] for one in examples} for examples in sets]
    every = [one for examples in sets for one in examples]
    assert len(set.union(*texts)) == sum(map(len, texts)) == 10603  # two texts come twice, each in one split
    assert sorted(int(one["id"]) for one in every) == list(range(1, 10606))
    assert all(-4 <= one["rating"] <= 4 and one["sign"] == np.sign(one["rating"]) for one in every)
    assert sum(one["sign"] == 1 for one in every) == 5242 and not any("\r" in one["text"] for one in every)
    third = next(one for one in every if one["id"] == 3)
    assert third["text"] == "Effective but too tepid biopic" and third["rating"] == np.float32(-0.6)


@pytest.mark.slow
def test_spoken_digits_are_split_as_their_makers_say(opened, mirror):
    train, test = (list(opened("spoken_digits", split).examples) for split in ("train", "test"))
    assert {int(one["index"]) for one in test} == set(range(5))
    assert {int(one["index"]) for one in train} == set(range(5, 50))
    tenth = opened("spoken_digits", "train[:300]").examples
    assert np.bincount([one["digit"] for one in tenth]).tolist() == [30] * 10
    (path,) = files.find(*SOURCES["spoken_digits"].FILES)
    raw = dict(files.untarred(path, ".wav"))["7_theo_3.wav"]
    found = next(one for one in test if (one["digit"], one["speaker"], one["index"]) == (7, 4, 3))
    assert found["audio"].dtype == np.int16 and found["audio"].tobytes() == raw[-2 * len(found["audio"]) :]


@pytest.mark.slow
def test_mnist_has_its_ten_thousand_test_images(opened):
    found = opened("mnist", "test")
    assert np.bincount([one["label"] for one in found.examples]).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    first = found.examples[0]
    assert first["label"] == 7 and first["image"].shape == (28, 28) and first["image"][7, 6] == 84


def test_fashion_mnist_is_not_taken_for_mnist(mirror, home, tmp_path, monkeypatch):
    """Their files have the same names; MNIST's lie in the mirror itself, Fashion-MNIST's in a folder of it."""
    rng = np.random.default_rng(SEED)
    images, labels = rng.integers(0, 256, (12, 28, 28)).astype(np.uint8), rng.integers(0, 10, 12).astype(np.uint8)
    folder = tmp_path / "debian/fashion-mnist"
    folder.mkdir(parents=True)
    made = []
    for array, file in zip((images, labels), SOURCES["fashion_mnist"].FILES["test"], strict=True):
        path = folder / Path(file.name).name
        path.write_bytes(gzip.compress(idx(array)))
        total = published.hashlib.sha256(idx(array)).hexdigest()
        made.append(file._replace(elsewhere=(str(tmp_path / "debian"),), sha256=total))
    monkeypatch.setattr(SOURCES["fashion_mnist"], "FILES", {"test": tuple(made)})
    found = published.open("fashion_mnist", "test")
    assert np.array_equal([one["image"] for one in found.examples], images)
    assert np.array_equal([one["label"] for one in found.examples], labels)
    assert found.classes["label"][0] == "T-shirt/top"


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "given nothing"),
        (b"\x00\x00\x08\x01" + b"\x00" * 12, "begins 00000803, given 00000801"),
        (idx(np.ones((2, 3, 4), np.uint8))[:-1], "given 23"),
        (idx(np.ones((2, 3, 4), np.uint8)) + b"x", "given 25"),
        (None, "gzip"),
    ],
)
def test_what_is_no_idx_file_is_refused(tmp_path, raw, said):
    path = tmp_path / "images.gz"
    path.write_bytes(b"not gzip" if raw is None else gzip.compress(raw))
    with pytest.raises(InputError, match=said) as caught:
        mnist.idx(path, 3)
    assert str(path) in str(caught.value)
    path.write_bytes(gzip.compress(idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))))
    assert np.array_equal(mnist.idx(path, 3).ravel(), np.arange(24))


@pytest.mark.parametrize(
    ("line", "said"),
    [("token O", "expected 2 fields between tabs, given 'token O'"), ("token\tB-animal", "given 'B-animal'")],
)
def test_a_line_that_is_no_tagged_token_is_refused(tmp_path, line, said):
    path = tmp_path / "some.conll"
    path.write_text(f"a\tO\nb\tB-person\n\t\nc\u2028d\tO\n\n\n{line}\n")
    with pytest.raises(InputError, match=rf"{path}, line 7: .*{said}"):
        wnut17.conll(path, wnut17.TAGS)
    path.write_text(path.read_text().replace(line, ""))
    first, second = wnut17.conll(path, wnut17.TAGS)
    assert first["tokens"] == ["a", "b"] and second["tokens"] == ["c\u2028d"]
    assert first["tags"].tolist() == [0, wnut17.TAGS.index("B-person")]


def test_lines_that_are_no_examples_are_refused(tmp_path):
    for raw, said in ((b"1\t2.0\tfine\n2\tx\tbad", "line 2: expected a number"), (b"1\t4.5\tbad", "from -4 to 4")):
        with pytest.raises(InputError, match=said):
            movie_snippets.rated(raw, "ratings")
    path = tmp_path / "hin.txt"
    path.write_bytes("Eng\tHin\tOth\nWow!\tवाह!\tby\n".encode() + b"Two\tfields\n")
    with pytest.raises(InputError, match=rf"{path}, line 3: expected 3 fields between tabs, given 'Two"):
        tatoeba.pairs(path)
    path.write_bytes(b"Eng\tHin\tOth\nno \xff\tx\ty\n")
    with pytest.raises(InputError, match=rf"{path}: expected UTF-8, given byte 0xff at offset 15"):
        tatoeba.pairs(path)


def wav(rate: int, channels: int, width: int, frames: bytes) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(frames)
    return out.getvalue()


def test_a_recording_is_8_khz_mono_and_whole():
    audio = np.random.default_rng(SEED).integers(-(2**15), 2**15, 40).astype(np.int16)
    good = wav(8000, 1, 2, audio.astype("<i2").tobytes())
    found = spoken_digits.recording("7_theo_32.wav", good)
    assert np.array_equal(found["audio"], audio)
    assert (found["digit"], found["speaker"], found["index"]) == (7, spoken_digits.SPEAKERS.index("theo"), 32)
    for name, raw, said in (
        ("7_theo_32.wav", wav(16000, 1, 2, bytes(8)), "given 16000 Hz"),
        ("7_theo_32.wav", wav(8000, 2, 2, bytes(8)), "2 channels"),
        ("7_theo_32.wav", wav(8000, 1, 1, bytes(8)), "8 bits"),
        ("7_theo_32.wav", good[:-3], "for 40 samples"),
        ("7_theo_32.wav", good[:20], "expected a WAV file, given 20 bytes"),
        ("7_nobody_32.wav", good, "expected a name like"),
    ):
        with pytest.raises(InputError, match=said):
            spoken_digits.recording(name, raw)


def test_a_tenth_is_a_tenth():
    parts = [lines.split_of(f"{SEED} {n}") for n in range(5000)]
    assert all(abs(parts.count(name) - 500) < 120 for name in ("validation", "test"))
    assert lines.split_of("Jump.") == "validation" and lines.split_of("Get out!") == "test"


class StockToy(tfds.core.GeneratorBasedBuilder):
    """A builder that TFDS knows by name, as its own."""

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar = {"2.0.0": "First."}

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({"text": tfds.features.Text(), "label": np.int64}),
            license="some",
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield from ((str(n), {"text": f"text {n}", "label": n}) for n in range(20))


def test_a_builder_of_tfds_is_opened_by_its_name(home, capfd):
    found = published.open("tfds:stock_toy", "train")
    assert sorted((one["text"], int(one["label"])) for one in found.examples) == sorted(
        (f"text {n}", n) for n in range(20)
    )
    assert (found.name, found.version, found.count, found.licence) == ("tfds:stock_toy", "2.0.0", 20, "some")
    assert found.origin == "TFDS"
    assert published.open("tfds:stock_toy", "train")._replace(examples=0) == found._replace(examples=0)
    assert found.sha256 == published.digest(found.examples) and (home / "tfds/stock_toy/2.0.0").is_dir()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["imdb_reviews", "mnist", "lm1b", "conll2003", "ucf101/ucf101_1", "glue/cola"])
def test_a_stock_name_says_that_it_needs_the_extra(home, name):
    said = refused(f"tfds:{name}", "train")
    assert said == f"tfds:{name}: its builder needs the extra [tf]: pip install 'rnnlab[tf]'" and not left(home)


def test_a_stock_name_that_there_is_none_of(home):
    assert "did you mean imdb_reviews?" in refused("tfds:imdb_review", "train")
    assert "no such data set" in refused("tfds:../mnist", "train") or "failed" in refused("tfds:../mnist", "train")
    said = "tfds:stock_toy:9.9.9: Dataset stock_toy cannot be loaded at version 9.9.9, only: 2.0.0."
    assert refused("tfds:stock_toy:9.9.9", "train") == said
    assert "no split is called 'tran'; did you mean train?" in refused("tfds:stock_toy", "tran")


def test_a_builder_that_cannot_import_something_says_so(home, monkeypatch):
    def importing(*_, **options):
        raise ModuleNotFoundError("No module named 'nothing'")

    monkeypatch.setattr(StockToy, "_generate_examples", importing)
    assert "needs the extra [tf]" in refused("tfds:stock_toy", "train")
    monkeypatch.setattr(stock, "has_tensorflow", lambda: True)
    assert refused("tfds:stock_toy", "train").endswith("its builder lacks No module named 'nothing'")
    monkeypatch.setattr(tfds, "builder", importing)
    assert "its builder lacks" in refused("tfds:stock_toy", "train")
    assert not left(home)


def test_with_tensorflow_it_is_the_network_that_counts(home, monkeypatch):
    asked = []

    def unreachable(name, addresses, folder):
        asked.extend(addresses)
        raise InputError("no network")

    monkeypatch.setattr(stock, "has_tensorflow", lambda: True)
    monkeypatch.setattr(stock, "_check_network", unreachable)
    assert refused("tfds:imdb_reviews", "train") == "no network"
    assert asked == ["http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"]


def test_a_stock_name_without_network_takes_no_minutes(home, monkeypatch):
    monkeypatch.setattr(StockToy, "url_infos", {"http://127.0.0.1:9/some.txt": None})
    began = time.monotonic()
    said = refused("tfds:stock_toy", "train")
    assert said.startswith("tfds:stock_toy: no network (") and "http://127.0.0.1:9/some.txt" in said
    assert str(home / "tfds/stock_toy/2.0.0") in said and time.monotonic() - began < 5


def test_the_names_are_known_without_importing_tfds():
    code = "import sys, rnnlab.data.published; sys.exit('tensorflow_datasets' in sys.modules or 'jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# Prepares Toy slowly in a process of its own.
PROGRAM = """
import sys
import tests.test_data_sources as test
test.SEED, test.Toy.PAUSE = int(sys.argv[1]), float(sys.argv[2])
test.SOURCES["toy"] = test.Toy
print(test.published.open("toy", "train").sha256)
"""


def started(pause: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(SEED), str(pause)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.faults
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_in_preparation_and_started_again(toy, home, how):
    with started(0.05) as process:
        while not list(home.glob(".preparing/toy/1.2.3/toy/*")) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(np.random.default_rng().uniform(0, 1))
        process.send_signal(how)
    assert process.returncode == -how and list(home.glob(".preparing/toy/1.2.3/toy/*"))
    assert not (home / "toy/1.2.3").exists()
    assert published.open(toy, "train").sha256 == published.digest(rows(COUNT))
    assert not list(home.glob(".preparing/*/*")) and not list(home.rglob("incomplete*"))


@pytest.mark.faults
def test_two_processes_prepare_the_same_set(home):
    processes = [started(0.002) for _ in range(3)]
    said = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert said == {published.digest(rows(COUNT))} and not list(home.rglob("incomplete*"))


@pytest.mark.faults
def test_a_full_disk_is_one_line(toy, home, monkeypatch):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        said = refused(toy, "train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "File too large" in said and not left(home)


def test_the_page_is_right(toy, home):
    """Its code runs, and its counts are those that are tested here."""
    page = (ROOT / "docs/data.md").read_text()
    _, own = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(own, names := {})
    assert SOURCES.pop("haiku") is names["Haiku"]
    (home / "downloads").mkdir(parents=True)
    poems = "\n\n".join(f"poem {n}" for n in range(25)).encode()
    (home / "downloads/haiku.txt").write_bytes(poems)
    sha256 = published.hashlib.sha256(poems).hexdigest()
    SOURCES["toy"] = type("Haiku", (names["Haiku"],), {"FILES": (names["Published"]("haiku.txt", "", sha256),)})
    assert published.open("toy", "train").examples[0] == {"text": "poem 10"}
    for (name, split), (count, _) in KNOWN.items():
        (row,) = re.findall(rf"^\| `{name}` \|.*$", page, flags=re.MULTILINE)
        assert f"{split} ({count:,}" in row
