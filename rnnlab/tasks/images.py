"""Real images read as sequences, by pixels or by rows, and the class that is asked when all were read."""

import hashlib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, Key, Shaped, UInt8

from rnnlab.data import columns, published
from rnnlab.errors import InputError
from rnnlab.progress import track
from rnnlab.tasks.task import A_CLASS, Example, Task, asked_last

Order = Callable[[Shaped[Array, "H W C"]], Shaped[Array, "T D"]]
Filler = Callable[[Key[Array, ""], int, int], Float[Array, "T D"]]

# The permutation that most code shares: NumPy's RandomState, whose numbers are the same for ever, with this seed.
PERMUTATION = 92916
# A name of our own: MNIST without its training files.
TEST_ALONE = "mnist_test"


class Item(NamedTuple):
    """One image [H, W] or [H, W, C] and its class [], or N of them [N, ...]."""

    image: UInt8[np.ndarray, "..."]
    label: Int[np.ndarray, "..."]


class ImageSet(NamedTuple):
    """pool: by split. classes: C names. origin: in words. hashes: SHA-256 of the published splits it was made from."""

    pool: dict[str, Item]
    classes: tuple[str, ...]
    origin: str
    hashes: dict[str, str]


def pixels(image: Shaped[Array, "H W C"]) -> Shaped[Array, "H*W C"]:
    """An Order: pixel by pixel, along the rows (Le, Jaitly & Hinton 2015, section 4.2)."""
    return image.reshape(-1, image.shape[-1])


def rows(image: Shaped[Array, "H W C"]) -> Shaped[Array, "H W*C"]:
    """An Order: a row a step."""
    return image.reshape(image.shape[0], -1)


def permuted(seed: int = PERMUTATION) -> Order:
    """An Order: the pixels in one random order, the same for all images, seeds and runs (the same, section 4.2).

    With the default it is that of the code of scoRNN (Helfrich, Willmott & Ye 2018) and expRNN (Lezcano-Casado &
    Martinez-Rubio 2019); coRNN's and LEM's draw others.
    """

    def order(image: Shaped[Array, "H W C"]) -> Shaped[Array, "H*W C"]:
        listed = pixels(image)
        return listed[permutation(seed, len(listed))]

    return order


@cache
def permutation(seed: int, count: int) -> Integer[np.ndarray, "N"]:
    """Which pixel is read at each step: the one at step t is pixel permutation[t]."""
    drawn = np.random.RandomState(seed).permutation(count)
    drawn.setflags(write=False)
    return drawn


ORDERS: dict[str, Order] = {"pixels": pixels, "rows": rows, "permuted": permuted()}


def silence(key: Key[Array, ""], steps: int, width: int) -> Float[Array, "T D"]:
    """A Filler: zeros."""
    return jnp.zeros((steps, width), jnp.float32)


def noise(key: Key[Array, ""], steps: int, width: int) -> Float[Array, "T D"]:
    """A Filler: N(0, 1), each example's own (noise-padded images; Chang, Chen, Haber & Chi 2019)."""
    return jax.random.normal(key, (steps, width), jnp.float32)


def same_noise(seed: int = 0) -> Filler:
    """A Filler: N(0, 1), drawn once for all examples, as the code of coRNN and LEM does. It is another task than
    `noise`, for a model may learn what is always the same."""
    return lambda key, steps, width: noise(jax.random.key(seed), steps, width)


FILLERS: dict[str, Filler] = {"silence": silence, "noise": noise, "same_noise": same_noise()}


def open_images(name: str) -> ImageSet:
    """A published set with the columns `image` and `label`: mnist, fashion_mnist, or one of TFDS as tfds:cifar10.

    Validation is a tenth of each class of the training split, which is never trained on; the test split is the
    official one. Within a class the images are ranked by their SHA-256, so that the cut is the same on every machine,
    does not look at the order of the files (MNIST's are ordered by writer), and keeps equal images together.

    `mnist_test` is the 10,000 test images of MNIST alone, cut 8 : 1 : 1 in the same way, for machines that have no
    more: results on it are not comparable with published ones.

    Raises InputError for what cannot be opened, and for columns that are no images and labels. Decodes every example,
    100 us each; the set is then in memory, as bytes.
    """
    if name == TEST_ALONE:
        return _cut_from_test()
    try:
        train, classes = _read(name, "train")
    except InputError as error:
        hint = f"; {TEST_ALONE} needs the test files alone" if name == "mnist" else ""
        raise InputError(f"{error}{hint}") from None
    test, _ = _read(name, "test")
    kept = tenths(train.items) == 0
    pool = {"train": _where(train.items, ~kept), "validation": _where(train.items, kept), "test": test.items}
    counts = f"{len(pool['train'].label):,} and {kept.sum():,} of the official training split to train and to choose"
    origin = f"{_kind(train)}: {name} {train.version}, {counts}, its test split of {len(test.items.label):,}"
    hashes = {f"{name} train": train.sha256, f"{name} test": test.sha256}
    return ImageSet(pool, classes, f"{origin} ({train.licence})", hashes)


def images(given: ImageSet, order: Order = pixels, filler: Filler = silence) -> Task:
    """Images of C classes, read in some order, then something to be ignored; at the last step the class is asked
    (Le, Jaitly & Hinton 2015, section 4.2). length: the steps after the image, at least 0.

    Values are scaled to [0, 1], as in the code of coRNN, LEM and expRNN; images are bytes until they are drawn. A grey
    image is read in H W steps of 1 or H steps of W, one in colour in H W steps of 3 or H steps of 3 W.

    Who always says the shares of the classes in the training split needs their entropy, ln C where the classes are
    equally frequent as Fashion-MNIST's are, and is right where the most frequent comes: 1/C there, 0.112 for MNIST's
    digits. (Of the split that was trained on; those of the others differ by chance.)

    >>> import jax, numpy as np
    >>> few = Item(np.arange(24, dtype=np.uint8).reshape(4, 2, 3), np.asarray([0, 1, 1, 0], np.int32))
    >>> given = ImageSet(dict.fromkeys(("train", "validation", "test"), few), ("a", "b"), "real: not really", {})
    >>> example = images(given, rows).draw(jax.random.key(0), 2, 2, Item(few.image[1], few.label[1]))
    >>> (example.inputs * 255).round().tolist()
    [[6.0, 7.0, 8.0], [9.0, 10.0, 11.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    >>> example.targets.tolist(), example.asked.tolist()
    ([0, 0, 0, 1], [False, False, False, True])
    >>> images(given).steps(0), round(images(given).chance(0), 4), images(given).guess(0)  # ln 2, and one half
    (6, 0.6931, 0.5)
    """
    _, height, width, *channels = given.pool["train"].image.shape
    steps, features = jax.eval_shape(order, jax.ShapeDtypeStruct((height, width, *(channels or (1,))), jnp.uint8)).shape
    shares = np.bincount(given.pool["train"].label, minlength=len(given.classes)) / len(given.pool["train"].label)
    entropy = float(-np.sum(shares * np.log(np.where(shares, shares, 1))))

    def draw(key: Key[Array, ""], length: Int[Array, ""] | int, bound: int, item: Item) -> Example:
        image, label = map(jnp.asarray, item)
        read = order(image.reshape(height, width, -1)).astype(jnp.float32) / 255
        inputs = jnp.concatenate([read, filler(key, bound, features)])
        return asked_last(inputs, label.astype(jnp.int32), steps + length)

    return Task(
        inputs=features, outputs=len(given.classes), draw=draw, steps=lambda length: steps + length,
        lag=lambda length: steps + length - 1, chance=lambda length: entropy, guess=lambda length: float(shares.max()),
        answer=A_CLASS, shortest=0, origin=given.origin, pool=given.pool, hashes=given.hashes,
    )  # fmt: skip


def tenths(items: Item) -> Integer[np.ndarray, "N"]:
    """Of each image, which tenth of its class it belongs to, by rank of its SHA-256: 0 .. 9, the same for equal images
    of a class, for ever and in any order."""
    digests = [hashlib.sha256(image.tobytes()).digest()[:8] for image in items.image]
    numbers = np.frombuffer(b"".join(digests), ">u8")
    found = np.empty(len(numbers), np.int64)
    for label in np.unique(items.label):
        mine = items.label == label
        ordered = np.sort(numbers[mine])
        found[mine] = np.searchsorted(ordered, numbers[mine], "left") * 10 // len(ordered)
    return found


class _Split(NamedTuple):
    """A published split, decoded."""

    items: Item
    version: str
    licence: str
    sha256: str
    origin: str


def _read(name: str, split: str) -> tuple[_Split, tuple[str, ...]]:
    """A split and the names of its classes."""
    found = published.open(name, split)
    # From an iterator, which decodes many records at a time, in half the time of one by one.
    each = track(iter(found.examples), found.count, f"reading {name} {split}")
    fixed = columns.decode(iter(each), sequences={}, fixed={"image": np.asarray, "label": np.asarray}).fixed
    image, label = fixed["image"], fixed["label"]
    if image.dtype != np.uint8 or image.ndim not in (3, 4) or label.ndim != 1 or "label" not in found.classes:
        given = f"{image.dtype} {list(image.shape[1:])} and {label.dtype} {list(label.shape[1:])}"
        raise InputError(f"{name}: expected images of bytes [H, W] or [H, W, C] and a class each, got {given}")
    items = Item(image, label.astype(np.int32))
    return _Split(items, found.version, found.licence, found.sha256, found.origin), found.classes["label"]


def _cut_from_test() -> ImageSet:
    whole, classes = _read("mnist", "test")
    tenth = tenths(whole.items)
    parts = {"train": tenth > 1, "validation": tenth == 1, "test": tenth == 0}
    pool = {split: _where(whole.items, which) for split, which in parts.items()}
    counts = ", ".join(f"{len(items.label):,}" for items in pool.values())
    cut = f"cut into {counts} to train, to choose and to test: not the official split, not comparable with published"
    origin = f"{_kind(whole)}: the {len(tenth):,} test images of mnist {whole.version} alone, {cut} ({whole.licence})"
    return ImageSet(pool, classes, origin, {"mnist test": whole.sha256})


def _where(items: Item, which: Shaped[np.ndarray, "N"]) -> Item:
    return Item(items.image[which], items.label[which])


def _kind(split: _Split) -> str:
    return "real" if split.origin == "real" else split.origin
