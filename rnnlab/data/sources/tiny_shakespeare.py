"""Tiny Shakespeare: a million characters of his plays, in time order."""

from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from rnnlab.data.files import Published
from rnnlab.data.sources.lines import decoded
from rnnlab.data.sources.source import About, Source, Splits


class TinyShakespeare(Source):
    """One example a split: the text, cut at 90 and 95 % of its characters. Nothing is shuffled across the cuts."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    ABOUT = About(
        "40,000 lines of plays by Shakespeare, for character-level language models.",
        "https://github.com/karpathy/char-rnn",
        "public domain",
        "@misc{karpathy2015charrnn, author={Andrej Karpathy}, title={char-rnn}, year={2015}, "
        "howpublished={https://github.com/karpathy/char-rnn}}",
    )
    FILES = (
        Published(
            "tinyshakespeare.txt",
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ),
    )

    def features(self) -> dict[str, Any]:
        return {"text": tfds.features.Text()}

    def read(self, path: Path) -> Splits:
        text = decoded(path.read_bytes(), str(path))
        first, second = len(text) * 90 // 100, len(text) * 95 // 100
        parts = {"train": text[:first], "validation": text[first:second], "test": text[second:]}
        return {split: [{"text": part}] for split, part in parts.items()}
