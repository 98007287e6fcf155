"""Tatoeba: English sentences and their Hindi translations, by volunteers."""

from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from rnnlab.data.files import Published
from rnnlab.data.sources.lines import decoded, fields, lines, split_of
from rnnlab.data.sources.source import About, Source, Splits


class Tatoeba(Source):
    """`english`, `hindi`, and the `attribution` that the licence asks for; a sentence may have several translations.

    No split is official: 8 : 1 : 1 by the hash of the English sentence, so that none is in two splits.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    ABOUT = About(
        "Pairs of an English sentence and a Hindi translation of the Tatoeba project, as selected by "
        "manythings.org/anki (hin-eng.zip).",
        "https://www.manythings.org/anki/",
        "CC BY 2.0 FR, attribution in each example",
        "Tatoeba (https://tatoeba.org), by way of Charles Kelly's https://www.manythings.org/anki/",
    )
    # manythings.org replaces its file now and then and serves browsers only: the address is a copy of this release.
    FILES = (
        Published(
            "hin.txt",
            "https://raw.githubusercontent.com/DebanshuCS/Deep_Learning_Seq2Seq/"
            "2b4cb35d7e5904f96ff10360615010054239ecd2/hin.txt",
            "c6b356d3c056f9a3283ad3d8dbf4bdba4bc3d672ba4dd37640217665c15dfc15",
        ),
    )

    def features(self) -> dict[str, Any]:
        return {name: tfds.features.Text() for name in ("english", "hindi", "attribution")}

    def read(self, path: Path) -> Splits:
        splits = {"train": [], "validation": [], "test": []}
        for pair in pairs(path):
            splits[split_of(pair["english"])].append(pair)
        return splits


def pairs(path: Path) -> list[dict[str, str]]:
    """Examples from lines `English TAB Hindi TAB attribution` after one of headings."""
    numbered = list(lines(decoded(path.read_bytes(), str(path))))[1:]
    rows = (fields(line, 3, str(path), number) for number, line in numbered)
    return [dict(zip(("english", "hindi", "attribution"), row, strict=True)) for row in rows]
