"""MNIST: handwritten digits, in the idx format."""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from rnnlab.data.files import Published, gunzipped
from rnnlab.data.sources.source import About, Source, Splits
from rnnlab.errors import InputError

# Images, then labels.
NAMES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def idx_files(
    place: str, *, folder: str = "", elsewhere: tuple[str, ...] = (), **sums: tuple[str, str]
) -> dict[str, tuple[Published, ...]]:
    """The files of each split: published at `place`, in this folder of a mirror, with these sums of their contents."""
    return {
        split: tuple(
            Published(folder + name, place + name, sha256, gunzipped, elsewhere)
            for name, sha256 in zip(NAMES[split], pair, strict=True)
        )
        for split, pair in sums.items()
    }


class Mnist(Source):
    """`image` [28, 28] uint8 and `label`; the official 60,000 and 10,000, in the files' order, split by split."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name=split, description=f"only {split}") for split in NAMES]
    ABOUT = About(
        "Handwritten digits, 28 x 28 pixels, centred.",
        "http://yann.lecun.com/exdb/mnist/",
        "CC BY-SA 3.0",
        "@article{lecun1998gradient, author={Yann LeCun and L{\\'e}on Bottou and Yoshua Bengio and Patrick Haffner}, "
        "title={Gradient-based learning applied to document recognition}, journal={Proceedings of the IEEE}, "
        "volume={86}, number={11}, pages={2278--2324}, year={1998}}",
    )
    FILES: ClassVar = idx_files(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        train=(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        test=(
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    )
    CLASSES = tuple("0123456789")

    def features(self) -> dict[str, Any]:
        return {
            # As bytes: the default, a list of 784 integers, takes twice as long to write and to read.
            "image": tfds.features.Tensor(shape=(28, 28), dtype=np.uint8, encoding="bytes"),
            "label": tfds.features.ClassLabel(names=self.CLASSES),
        }

    def read(self, images: Path, labels: Path) -> Splits:
        pixels, ids = idx(images, 3), idx(labels, 1)
        if len(pixels) != len(ids):
            raise InputError(f"{labels}: expected a label for each of {len(pixels)} images, given {len(ids)}")
        examples = [{"image": image, "label": label} for image, label in zip(pixels, ids.astype(np.int64), strict=True)]
        return {self.builder_config.name: examples}


def idx(path: Path, rank: int) -> np.ndarray:
    """The uint8 array of so many axes in a gzipped idx file. InputError unless header and size agree."""
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: expected a gzipped idx file, given {error}") from None
    start = 4 + 4 * rank
    magic = bytes([0, 0, 8, rank])  # 8: unsigned bytes
    if raw[:4] != magic or len(raw) < start:
        raise InputError(f"{path}: expected an idx file that begins {magic.hex()}, given {raw[:4].hex() or 'nothing'}")
    shape = struct.unpack(f">{rank}I", raw[4:start])
    if len(raw) - start != np.prod(shape):
        raise InputError(f"{path}: expected {shape} bytes after the header, given {len(raw) - start}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
