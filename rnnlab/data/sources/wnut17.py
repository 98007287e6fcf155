"""WNUT-17: novel and emerging entities in noisy text, as BIO tags."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from rnnlab.data.files import Published
from rnnlab.data.sources.lines import decoded, fields, lines
from rnnlab.data.sources.source import About, Source, Splits
from rnnlab.errors import InputError

TYPES = ("corporation", "creative-work", "group", "location", "person", "product")
TAGS = ("O", *(f"{prefix}-{kind}" for kind in TYPES for prefix in "BI"))
PLACE = "https://raw.githubusercontent.com/leondz/emerging_entities_17/master/"


class Wnut17(Source):
    """`tokens`, and a `tag` each; the official training, development (`validation`) and test sentences."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    ABOUT = About(
        "Sentences from Twitter, Reddit, YouTube and StackExchange with entities of six types; those of the "
        "development and test sets are rare or new.",
        "https://github.com/leondz/emerging_entities_17",
        "CC BY 4.0",
        "@inproceedings{derczynski2017results, author={Leon Derczynski and Eric Nichols and Marieke van Erp and "
        "Nut Limsopatham}, title={Results of the {WNUT2017} Shared Task on Novel and Emerging Entity Recognition}, "
        "booktitle={Proceedings of the 3rd Workshop on Noisy User-generated Text}, pages={140--147}, year={2017}}",
    )
    FILES = tuple(
        Published(name, PLACE + name, sha256)
        for name, sha256 in (
            ("wnut17train.conll", "731820e13f71af324c6b55a1575ec2ce59fbaa2a0806f8f0400b98d56cd6a7a5"),
            ("emerging.dev.conll", "e053b752b8155113ca66e7db08af5f2f5f43ab993694e4774f1ec5bad42312d8"),
            ("emerging.test.annotated", "2aa79b764e56ec9264a1b30fdd9b70195bd00ff400b62edd8f399d5f13c178f0"),
        )
    )

    def features(self) -> dict[str, Any]:
        return {
            "tokens": tfds.features.Sequence(tfds.features.Text()),
            "tags": tfds.features.Sequence(tfds.features.ClassLabel(names=TAGS)),
        }

    def read(self, *paths: Path) -> Splits:
        return {split: conll(path, TAGS) for split, path in zip(("train", "validation", "test"), paths, strict=True)}


def conll(path: Path, tags: tuple[str, ...]) -> list[dict[str, Any]]:
    """Sentences of `token TAB tag` lines, as tokens and tag ids [T] int64; a line without a token separates them."""
    sentences, tokens, ids = [], [], []
    for number, line in [*lines(decoded(path.read_bytes(), str(path))), (0, "")]:
        if line.strip():
            token, tag = fields(line, 2, str(path), number)
            if tag not in tags:
                raise InputError(f"{path}, line {number}: expected one of {', '.join(tags)}, given {tag!r}")
            tokens.append(token)
            ids.append(tags.index(tag))
        elif tokens:
            sentences.append({"tokens": tokens, "tags": np.array(ids, np.int64)})
            tokens, ids = [], []
    return sentences
