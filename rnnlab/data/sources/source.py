"""What every data set has: a builder of TensorFlow Datasets that needs no TensorFlow."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import tensorflow_datasets as tfds

from rnnlab.data import files
from rnnlab.progress import track

Splits = Mapping[str, Sequence[dict[str, Any]]]


class About(NamedTuple):
    """description: what it is. homepage: who publishes it. licence: its name. citation: BibTeX, or whom to thank."""

    description: str
    homepage: str
    licence: str
    citation: str


class Source(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A published data set: files, how they are read, and who made them.

    A subclass gives VERSION, RELEASE_NOTES, ABOUT, FILES, `features` and `read`. It is not entered into TFDS's own
    list of names, so that `tfds:mnist` stays TFDS's. One whose files come split by split has BUILDER_CONFIGS, one of
    each split's name, and FILES by that name: a split is then prepared without the files of the others.
    """

    ABOUT: ClassVar[About]
    FILES: ClassVar[Any]

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(skip_registration=True, **options)

    def features(self) -> dict[str, Any]:
        """TFDS features by column; none that need TensorFlow (Audio, Video, Image)."""
        raise NotImplementedError

    def read(self, *paths: Path) -> Splits:
        """Examples by split, from the paths of FILES, already checked. Raises InputError for what cannot be read."""
        raise NotImplementedError

    def files(self) -> tuple[files.Published, ...]:
        """The files that this builder, in its configuration, is made from."""
        return self.FILES[self.builder_config.name] if self.BUILDER_CONFIGS else self.FILES

    def _info(self) -> tfds.core.DatasetInfo:
        # Not shuffled: records in the order of the file, the same in every preparation.
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.ABOUT.description,
            features=tfds.features.FeaturesDict(self.features()),
            homepage=self.ABOUT.homepage,
            license=self.ABOUT.licence,
            citation=self.ABOUT.citation,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        # Everything is read and checked before the first record is written.
        splits = self.read(*files.find(*self.files()))
        return {split: self._generate_examples(examples) for split, examples in splits.items()}

    def _generate_examples(self, examples: Sequence[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(track(examples, len(examples), f"preparing {self.name}"))
