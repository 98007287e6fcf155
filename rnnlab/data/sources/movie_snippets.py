"""Movie review snippets with the mean of twenty people's ratings."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from rnnlab.data.files import Published, members, untarred
from rnnlab.data.sources.lines import decoded, fields, lines, split_of
from rnnlab.data.sources.source import About, Source, Splits
from rnnlab.errors import InputError

MEMBER = "movieReviewSnippets_GroundTruth.txt"


class MovieSnippets(Source):
    """`id`, `text`, mean `rating` in [-4, 4], and its `sign`, -1, 0 or 1.

    No split is official: 8 : 1 : 1 by the hash of the text, so that a text that comes twice is in one split only.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    ABOUT = About(
        "Sentence-level snippets of movie reviews, each rated for sentiment by 20 people; the mean is given.",
        "https://github.com/cjhutto/vaderSentiment",
        "MIT",
        "@inproceedings{hutto2014vader, author={C.J. Hutto and Eric Gilbert}, title={{VADER}: A Parsimonious "
        "Rule-based Model for Sentiment Analysis of Social Media Text}, booktitle={Eighth International Conference on "
        "Weblogs and Social Media (ICWSM-14)}, address={Ann Arbor, MI}, year={2014}}",
    )
    FILES = (
        Published(
            "hutto_ICWSM_2014.tar.gz",
            "https://raw.githubusercontent.com/cjhutto/vaderSentiment/master/additional_resources/hutto_ICWSM_2014.tar.gz",
            "c951ce1594b19a7f7f1c7eec1aba1a780456ddec435ed3e3f87dd7696b674725",
            members(MEMBER),
        ),
    )

    def features(self) -> dict[str, Any]:
        return {"id": np.int32, "text": tfds.features.Text(), "rating": np.float32, "sign": np.int32}

    def read(self, path: Path) -> Splits:
        (raw,) = (raw for _, raw in untarred(path, MEMBER))
        splits = {"train": [], "validation": [], "test": []}
        for example in rated(raw, f"{path}, {MEMBER}"):
            splits[split_of(example["text"])].append(example)
        return splits


def rated(raw: bytes, name: str) -> list[dict[str, Any]]:
    """Examples from lines `id TAB mean rating TAB text`. InputError for a line that is none."""
    examples = []
    for number, line in lines(decoded(raw, name)):
        key, given, text = fields(line.removesuffix("\r"), 3, name, number)
        try:
            value = float(given)
            example = {"id": np.int32(key), "text": text, "rating": np.float32(value), "sign": np.int32(np.sign(value))}
        except (ValueError, OverflowError):
            raise InputError(f"{name}, line {number}: expected a number and a rating, given {line[:60]!r}") from None
        if not -4 <= value <= 4:
            raise InputError(f"{name}, line {number}: expected a rating from -4 to 4, given {given}")
        examples.append(example)
    return examples
