"""Fashion-MNIST: articles of clothing, in MNIST's format."""

from typing import ClassVar

import tensorflow_datasets as tfds

from rnnlab.data.sources.mnist import Mnist, idx_files
from rnnlab.data.sources.source import About


class FashionMnist(Mnist):
    """`image` [28, 28] uint8 and `label`; the official 60,000 and 10,000, in the files' order, split by split.

    The files are called as MNIST's are, so that they lie in a folder `fashion-mnist` of the mirror, or where Debian's
    package dataset-fashion-mnist puts them.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    ABOUT = About(
        "Zalando's article images, 28 x 28 pixels in grey, in 10 classes.",
        "https://github.com/zalandoresearch/fashion-mnist",
        "MIT",
        "@article{xiao2017fashion, author={Han Xiao and Kashif Rasul and Roland Vollgraf}, title={Fashion-{MNIST}: a "
        "Novel Image Dataset for Benchmarking Machine Learning Algorithms}, journal={arXiv:1708.07747}, year={2017}}",
    )
    FILES: ClassVar = idx_files(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        folder="fashion-mnist/",
        elsewhere=("/usr/share/datasets",),
        train=(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        test=(
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    )
    CLASSES = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip
