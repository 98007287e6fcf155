"""Images read as sequences: what is cut from what, orders, what follows, chance, and epochs of row numbers."""

import doctest
import gzip
import hashlib
import importlib
import json
import math
import os
import struct
from itertools import islice
from pathlib import Path
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments._published import PUBLISHED, beside
from rnnlab.data.sources import SOURCES
from rnnlab.data.sources.source import About, Source
from rnnlab.errors import InputError
from rnnlab.tasks import draw_batch
from rnnlab.tasks.epochs import epochs
from rnnlab.tasks.images import (
    FILLERS,
    ORDERS,
    ImageSet,
    Item,
    images,
    open_images,
    permutation,
    permuted,
    pixels,
    rows,
    same_noise,
    tenths,
)

SEED = int.from_bytes(os.urandom(4), "big")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
NOWHERE = "http://127.0.0.1:9/"
# Images of a class in the training split of `fashion_mnist` below, so that tenths do not come out even.
COUNTS = [7, 10, 11, 20, 5, 9, 30, 12, 1, 15]


def drawn(counts: list[int], seed: int) -> Item:
    """Random images in random order, so many of each class."""
    rng = np.random.default_rng([SEED, seed])
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.uint8)
    return Item(rng.integers(0, 256, (len(labels), 28, 28)).astype(np.uint8), labels)


def publish(folder: Path, name: str, splits: dict[str, Item]) -> dict[str, tuple]:
    """The idx files of a data set called `name`, written; what FILES becomes. Other splits are out of reach."""
    files = {}
    for split, pair in SOURCES[name].FILES.items():
        files[split] = tuple(file._replace(address=NOWHERE + file.name, elsewhere=()) for file in pair)
        for at, array in enumerate(splits.get(split, ())):
            raw = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
            path = folder / files[split][at].name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(raw))
            made = files[split][at]._replace(sha256=hashlib.sha256(raw).hexdigest())
            files[split] = (*files[split][:at], made, *files[split][at + 1 :])
    return files


RAW = {"train": drawn(COUNTS, 0), "test": drawn([4] * 10, 1)}
DIGITS = drawn([20] * 9 + [40], 2)


class Opened(NamedTuple):
    """What was found where there are a small Fashion-MNIST, and of MNIST the test files alone."""

    fashion: ImageSet
    digits: ImageSet
    refusal: str


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    place = tmp_path_factory.mktemp("images")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RNNLAB_DATA_MIRROR", str(place / "mirror"))
        patched.setenv("RNNLAB_DATA", str(place / "home"))
        for name, splits in (("fashion_mnist", RAW), ("mnist", {"test": DIGITS})):
            patched.setattr(SOURCES[name], "FILES", publish(place / "mirror", name, splits))
        with pytest.raises(InputError) as caught:
            open_images("mnist")
        return Opened(open_images("fashion_mnist"), open_images("mnist_test"), str(caught.value))


@pytest.fixture
def fashion(opened):
    return opened.fashion


def small(shape: tuple[int, ...], counts=(3, 1, 2)) -> ImageSet:
    """A set in memory, its splits all the same."""
    rng = np.random.default_rng([SEED, 3])
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
    items = Item(rng.integers(0, 256, (len(labels), *shape)).astype(np.uint8), labels)
    pool = dict.fromkeys(("train", "validation", "test"), items)
    return ImageSet(pool, tuple(f"class {n}" for n in range(len(counts))), "real: not really", {})


def known(items: Item) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(items.image, items.label, strict=True)}


def test_validation_is_a_tenth_of_each_class_of_the_training_split(fashion):
    train, validation, test = (fashion.pool[split] for split in ("train", "validation", "test"))
    assert known(train) | known(validation) == known(RAW["train"]) and not known(train) & known(validation)
    assert len(train.label) + len(validation.label) == sum(COUNTS)
    assert np.bincount(validation.label, minlength=10).tolist() == [math.ceil(count / 10) for count in COUNTS]
    assert np.array_equal(test.image, RAW["test"].image) and np.array_equal(test.label, RAW["test"].label)
    for items in fashion.pool.values():
        assert (items.image.dtype, items.label.dtype) == (np.uint8, np.int32)
    # Brute force: of a class, those whose SHA-256 comes first.
    mine = sorted(RAW["train"].image[RAW["train"].label == 6], key=lambda image: hashlib.sha256(image).digest())
    assert {image.tobytes() for image in mine[:3]} == {i.tobytes() for i in validation.image[validation.label == 6]}


def test_what_a_set_is_made_of_is_said(fashion):
    kept = sum(math.ceil(count / 10) for count in COUNTS)
    assert fashion.origin == (
        f"real: fashion_mnist 1.0.0, {sum(COUNTS) - kept} and {kept} of the official training split to train and to "
        "choose, its test split of 40 (MIT)"
    )
    assert set(fashion.hashes) == {"fashion_mnist train", "fashion_mnist test"}
    assert len({total for total in fashion.hashes.values() if len(total) == 64}) == 2
    assert fashion.classes[:2] == ("T-shirt/top", "Trouser") and images(fashion).origin == fashion.origin


def test_a_tenth_is_the_image_s_own_and_not_its_place_s():
    items = RAW["train"]
    order = np.random.default_rng(SEED).permutation(len(items.label))
    assert np.array_equal(tenths(Item(items.image[order], items.label[order])), tenths(items)[order])
    found = tenths(items)[items.label == 3]
    assert np.bincount(found).tolist() == [2] * 10
    twice = Item(np.concatenate([items.image] * 2), np.concatenate([items.label] * 2))
    first, second = np.split(tenths(twice), 2)
    assert np.array_equal(first, second)


def test_mnist_without_its_training_files_names_what_there_is(opened):
    assert "train-images-idx3-ubyte.gz" in opened.refusal and "\n" not in opened.refusal
    assert opened.refusal.endswith("; mnist_test needs the test files alone")
    found = opened.digits
    parts = [known(found.pool[split]) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [176, 22, 22] and set.union(*parts) == known(DIGITS)
    assert np.bincount(found.pool["test"].label).tolist() == [2] * 9 + [4]
    assert "not the official split, not comparable" in found.origin and "176, 22, 22" in found.origin
    assert set(found.hashes) == {"mnist test"} and found.classes == tuple("0123456789")


class Pictures(Source):
    """Something that is no set of images and classes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First."}
    ABOUT = About("Numbers.", "https://localhost", "none", "nobody")
    FILES = ()
    IMAGE, COLUMN = np.float32, "image"

    def features(self):
        label = tfds.features.ClassLabel(names=("a", "b"))
        return {self.COLUMN: tfds.features.Tensor(shape=(2, 2), dtype=self.IMAGE), "label": label}

    def read(self):
        examples = [{self.COLUMN: np.zeros((2, 2), self.IMAGE), "label": np.int64(0)}]
        return {"train": examples, "test": examples}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({}, r"pictures: expected images of bytes .*, got float32 \[2, 2\]"),
        ({"COLUMN": "picture"}, "expected a column 'image', got label, picture"),
    ],
)
def test_what_holds_no_images_and_classes_is_refused(tmp_path, monkeypatch, made, said):
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path))
    monkeypatch.setitem(SOURCES, "pictures", type("Pictures", (Pictures,), made))
    with pytest.raises(InputError, match=said):
        open_images("pictures")


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 3)])
def test_orders_read_the_same_values(shape):
    given = small(shape)
    item = Item(*(leaf[0] for leaf in given.pool["train"]))
    read = {}
    for name, order in ORDERS.items():
        task = images(given, order)
        example = task.draw(jax.random.key(SEED), 0, 0, item)
        read[name] = np.asarray(example.inputs)
        assert example.inputs.dtype == jnp.float32 and task.inputs == example.inputs.shape[1]
        assert (task.steps(0), task.lag(0)) == (len(example.inputs), len(example.inputs) - 1)
    channels = shape[2] if len(shape) == 3 else 1
    for y in range(4):
        for x in range(3):
            value = np.atleast_1d(item.image[y, x]).astype(np.float32) / np.float32(255)
            assert np.allclose(read["pixels"][3 * y + x], value, rtol=1e-6)
            assert np.array_equal(read["rows"][y, channels * x : channels * (x + 1)], read["pixels"][3 * y + x])
    sorted_again = np.empty_like(read["permuted"])
    sorted_again[permutation(92916, 12)] = read["permuted"]
    assert np.array_equal(sorted_again, read["pixels"]) and not np.array_equal(read["permuted"], read["pixels"])


def test_the_permutation_is_one_for_ever():
    assert permutation(92916, 784)[:8].tolist() == [319, 576, 323, 107, 355, 716, 197, 20]
    assert sorted(permutation(92916, 784).tolist()) == list(range(784))
    assert not np.array_equal(permutation(92916, 784), permutation(92917, 784))
    image = jnp.arange(12).reshape(4, 3, 1)
    assert np.array_equal(permuted()(image)[:, 0], permutation(92916, 12))
    assert np.array_equal(permuted(5)(image)[:, 0], permutation(5, 12))


@pytest.mark.parametrize("filler", sorted(FILLERS))
def test_what_follows_an_image_is_ignored_and_then_the_class_is_asked(filler):
    given = small((3, 2))
    items = given.pool["train"]
    task = images(given, rows, FILLERS[filler])
    batch = jax.jit(lambda key: draw_batch(task, key, 0, 6, 5, shortest=0, items=items))(jax.random.key(SEED))
    assert batch.inputs.shape == (8, 6, 2) and batch.inputs.dtype == jnp.float32
    assert batch.targets.shape == batch.scored.shape == batch.asked.shape == (8, 6)
    assert (batch.targets.dtype, batch.lengths.dtype, batch.asked.dtype) == (jnp.int32, jnp.int32, jnp.bool_)
    assert set(batch.lengths.tolist()) <= set(range(3, 9))
    for row, length in enumerate(batch.lengths.tolist()):
        image = items.image[row].astype(np.float32) / np.float32(255)
        assert np.allclose(batch.inputs[:3, row], image, rtol=1e-6)
        between = np.asarray(batch.inputs[3:length, row])
        assert (between == 0).all() if filler == "silence" else (between != 0).all()
        assert not batch.inputs[length:, row].any()
        asked = np.arange(8) == length - 1
        assert np.array_equal(batch.asked[:, row], asked) and np.array_equal(batch.scored[:, row], asked)
        assert np.array_equal(batch.targets[:, row], np.where(asked, items.label[row], 0))


def test_noise_is_each_example_s_own_or_one_for_all():
    given = small((3, 2))
    item = Item(*(leaf[0] for leaf in given.pool["train"]))

    def after(filler, key, bound=400):
        return np.asarray(images(given, rows, filler).draw(jax.random.key(key), bound, bound, item).inputs[3:])

    own, other = after(FILLERS["noise"], 1), after(FILLERS["noise"], 2)
    assert not np.array_equal(own, other) and np.array_equal(own, after(FILLERS["noise"], 1))
    assert abs(own.mean()) < 0.2 and abs(own.std() - 1) < 0.15
    assert np.array_equal(own[:7], after(FILLERS["noise"], 1, 7))  # a step's noise does not hang on the bound
    same = after(FILLERS["same_noise"], 1)
    assert np.array_equal(same, after(FILLERS["same_noise"], 2)) and abs(same.std() - 1) < 0.15
    assert not np.array_equal(same, after(same_noise(1), 1))


def test_chance_is_what_the_best_constant_predictor_reaches():
    given = small((3, 2), counts=(5, 1, 2))
    task, labels = images(given), given.pool["train"].label

    def reached(logits):
        return float(np.mean([task.answer.loss(jnp.asarray(logits), jnp.asarray(label)) for label in labels]))

    best = np.log(np.bincount(labels) / len(labels))
    assert abs(task.chance(3) - reached(best)) < 1e-12
    rng = np.random.default_rng(SEED)
    assert all(reached(best + rng.normal(0, 0.3, 3)) > task.chance(3) for _ in range(5))
    assert task.guess(3) == max(np.mean(labels == k) for k in range(3)) == 5 / 8
    balanced = images(small((3, 2), counts=(2, 2, 2, 2)))
    assert balanced.chance(0) == math.log(4) and balanced.guess(0) == 1 / 4
    # A class that never comes is no division by zero.
    assert abs(images(small((3, 2), counts=(2, 0, 2))).chance(0) - math.log(2)) < 1e-15


def test_examples_come_once_an_epoch():
    each = list(islice(epochs(10, 3, [SEED, 5]), 7))
    assert [position for position, _ in each] == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]
    numbers = np.stack([rows for _, rows in each])
    assert numbers.shape == (7, 2, 3) and numbers.dtype == np.int32
    for seed in range(2):
        for epoch in range(2):
            seen = numbers[3 * epoch : 3 * epoch + 3, seed].ravel()
            assert len(set(seen.tolist())) == 9 and set(seen.tolist()) <= set(range(10))
    assert not np.array_equal(numbers[:3, 0], numbers[:3, 1]) and not np.array_equal(numbers[:3], numbers[3:6])
    # A seed's own do not hang on which others run beside it.
    alone = np.stack([rows for _, rows in islice(epochs(10, 3, [5]), 7)])
    assert np.array_equal(alone[:, 0], numbers[:, 1])


def test_epochs_go_on_from_any_position():
    whole = list(islice(epochs(11, 3, [1, 2], (0, 0)), 9))
    for at in range(8):
        position = json.loads(json.dumps(whole[at][0]))
        resumed = list(islice(epochs(11, 3, [1, 2], position), 8 - at))
        assert [p for p, _ in resumed] == [p for p, _ in whole[at + 1 :]]
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(resumed, whole[at + 1 :], strict=True))
    assert len(set(np.concatenate([rows[0] for _, rows in islice(epochs(12, 3, [1]), 4)]).tolist())) == 12


def test_epochs_refuse_what_there_is_none_of():
    with pytest.raises(InputError, match="batches of 1 to 10 examples, which there are, got 11"):
        epochs(10, 11, [0])
    for position in ((0, 3), (-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="less than its 3 batches"):
            epochs(10, 3, [0], position)


@pytest.mark.parametrize("name", ["images", "epochs"])
def test_worked_examples_are_true(name):
    found = doctest.testmod(importlib.import_module(f"rnnlab.tasks.{name}"))
    assert found.attempted and not found.failed


def test_published_rows_are_of_tasks_that_there_are():
    for row in PUBLISHED:
        assert row.order in ORDERS and row.filler in FILLERS and row.images in ("mnist", "tfds:cifar10")
        assert set(row.seen) <= set(row._fields) and 50 < row.accuracy < 100 and row.source
    assert {row.model for row in beside("permuted", "silence")} >= {"IRNN", "LMU", "coRNN", "LEM", "uRNN", "expRNN"}
    assert [row.model for row in beside("rows", "noise")] == ["coRNN", "LEM"] and not beside("rows", "silence")


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.exists(), reason=f"{DEBIAN} is not there")
def test_fashion_mnist_is_cut_as_ever(prepared):
    found = open_images("fashion_mnist")
    for split, each in (("train", 5400), ("validation", 600), ("test", 1000)):
        assert np.bincount(found.pool[split].label).tolist() == [each] * 10
    total = hashlib.sha256(found.pool["validation"].image.tobytes()).hexdigest()
    assert total[:12] == "ca03e4bfd791"
    assert not known(found.pool["validation"]) & (known(found.pool["train"]) | known(found.pool["test"]))
    task = images(found, rows)
    assert abs(task.chance(0) - math.log(10)) < 1e-12 and (task.inputs, task.outputs, task.steps(0)) == (28, 10, 28)


@pytest.mark.slow
def test_the_real_test_images_of_mnist_are_cut_as_ever(prepared):
    if not os.environ.get("RNNLAB_DATA_MIRROR"):
        pytest.skip("RNNLAB_DATA_MIRROR names no folder with the published files")
    found = open_images("mnist_test")
    assert [len(items.label) for items in found.pool.values()] == [7997, 999, 1004]
    # Read as rows and as pixels it is the same image.
    item = Item(*(leaf[0] for leaf in found.pool["test"]))
    by_row, by_pixel = (images(found, order).draw(jax.random.key(0), 0, 0, item).inputs for order in (rows, pixels))
    assert np.array_equal(by_row.reshape(-1, 1), by_pixel) and abs(by_row.max() - 1) < 1e-6
    assert 2.29 < images(found).chance(0) < math.log(10)
