"""Which words are names, and of what: is a whole path of tags better than one tag at a time?

A bidirectional network reads the words of a sentence (each by an embedding, the spelling and the shape) and tags every
one, typed (B-person, I-person, O) and so 1 or 0, a part of an entity or not. Two heads make tags of the same scores:
softmax, word by word, and a linear-chain CRF (Lafferty, McCallum & Pereira 2001; Huang, Xu & Yu 2015; Lample et al.
2016). On WNUT-17, novel and emerging entities in noisy text (Derczynski et al. 2017), with its official splits: the
entity F1 on validation chooses the stopping point, and the test split is looked at once.

    python launch.py name_tags
    python launch.py name_tags --cell=lstm,gru --head=crf
    python launch.py name_tags --preset=lecture     # three sentences, learned by heart
    python launch.py name_tags --data=own --train_file=a.conll --validation_file=b.conll --test_file=c.conll
    python launch.py predict RUN --text="Rudolph Smith bought 1000 shares of tesla Inc. in March 2020"

Takes about 12 minutes on two cores, the lecture's preset 1. Without pre-trained vectors or lists of names expect, on
validation, entity F1 of 23 to 29 % by either head, where the most frequent tag of each word has 14.8 %; the shared
task's systems, which used some of those, reached 26 to 42 % on test.
"""

import dataclasses
import sys
from typing import Any, NamedTuple

import numpy as np

from experiments import _name_tags_data as data
from experiments import _name_tags_figure, _name_tags_predict, _name_tags_table, _training
from experiments._name_tags_programs import HEADS, SCORES, bounds_of, programs
from experiments._name_tags_scores import most_frequent, scores
from rnnlab import cli
from rnnlab.cells import CELLS, own
from rnnlab.errors import InputError
from rnnlab.types import PyTree

RESUMES = True
DATA = ("wnut17", "lecture", "own")


@dataclasses.dataclass(frozen=True)
class Config(_training.Config):
    head: tuple[str, ...] = cli.flag(("softmax", "crf"), "what makes tags of the scores", choices=tuple(HEADS))
    cell: tuple[str, ...] = cli.flag(("lstm",), f"cells, each both ways: {', '.join(CELLS)}, or FILE.py:FACTORY")
    layers: int = cli.flag(1, "bidirectional layers, L", low=1)
    hidden: int = cli.flag(100, "hidden units of each direction, H", low=1)
    embedding: int = cli.flag(64, "features of an embedded word", low=1)
    filters: int = cli.flag(48, "features of a word's spelling", low=1)
    longest: int = cli.flag(20, "characters of a word that are read; of a longer one its beginning and end", low=2)
    dropout: float = cli.flag(0.4, "rate at which features are dropped between layers", low=0.0, high=0.95)
    forgotten: float = cli.flag(0.5, "a: in training a word seen n times is unknown at the rate a / (a + n)", low=0.0)
    buckets: int = cli.flag(2, "lengths that sentences are padded to in training", low=1)
    batch: int = cli.flag(16, "sentences in a training step, B", low=1)
    steps: int = cli.flag(1600, "training steps", low=1)
    learning_rate: float = cli.flag(5e-3, "its highest step size", low=0.0)
    measurements: int = cli.flag(16, "validations, evenly over training; the best one is kept", low=1)
    chosen_by: str = cli.flag("f1", "what of the validation chooses the stopping point", choices=tuple(SCORES))
    data: str = cli.flag("wnut17", "what to learn; own: the three files", choices=DATA)
    train_file: str = cli.flag("", "with --data=own: a line TOKEN TAB TAG a word, an empty one between sentences")
    validation_file: str = cli.flag("", "with --data=own: the same, to choose the stopping point")
    test_file: str = cli.flag("", "with --data=own: the same, looked at once")

    @property
    def files(self) -> dict[str, str]:
        """By flag."""
        return {f"{split}_file": getattr(self, f"{split}_file") for split in data.SPLITS}


PRESETS = {
    "lecture": dict(
        data="lecture", batch=3, steps=150, measurements=15, hidden=16, embedding=16, filters=8, dropout=0.0,
        forgotten=0.0, buckets=1, learning_rate=1e-2, chosen_by="loss",
    ),
}  # fmt: skip
Predicting, predictor = _name_tags_predict.Predicting, _name_tags_predict.predictor


class Inputs(NamedTuple):
    """counts: how often the training split has each word, [V]. own: a reader's cells' files and hashes."""

    corpus: data.Corpus
    encoder: data.Encoder
    counts: np.ndarray
    own: dict[str, str]

    @property
    def hashes(self) -> dict[str, str]:
        return self.corpus.hashes | self.own


def inputs(config: Config) -> Inputs:
    """The sentences, and vocabularies from the training split alone."""
    _training.check(config)
    own.check(config.cell)
    given = {name: path for name, path in config.files.items() if path}
    if config.data == "own" and len(given) < len(config.files):
        missing = ", ".join(f"--{name}" for name in config.files if name not in given)
        raise InputError(f"data: expected three files for --data=own, got none for {missing}")
    if config.data != "own" and given:
        raise InputError(f"data: expected --data=own beside --{next(iter(given))}, got {config.data}")
    corpus = {"wnut17": data.wnut17, "lecture": data.lecture}.get(
        config.data, lambda: data.files(list(config.files.values()))
    )()
    encoder, counts = data.encoder(corpus.train, config.longest)
    return Inputs(corpus, encoder, counts, own.sources(config.cell))


def run(config: Config, given: Inputs, run: Any) -> None:
    """Rows: `data`, `baseline` and its `type`s; those of `_training.every`; then of each head, cell and seed a `test`,
    its `type`s, and a `sentence` for each of the lecture's."""
    corpus, encoder = given.corpus, given.encoder
    if not run.has("data"):
        with run.part("data"):
            _keep(config, run, given)
            baseline = most_frequent(corpus.train)
            held = scores(corpus.validation, [baseline(one.words) for one in corpus.validation], corpus.tags)
            said = [baseline(one.words) for one in corpus.test]
            _scored(run, corpus, said, kind="baseline", head="baseline", validation_f1=held["f1"])
    made = {one.recipe.name: one for one in programs(config, given)}
    test, shown = data.column_store(corpus.test, encoder), data.shown(corpus)
    asked = data.column_store([one.sentence for one in shown], encoder)

    def finish(recipe: _training.Recipe, seed: int, params: PyTree) -> None:
        said = {**recipe.facts, "seed": seed}
        ask = made[recipe.name].ask
        _scored(run, corpus, [one.tags for one in ask(params, test)], kind="test", **said)
        for one, found in zip(shown, ask(params, asked), strict=True):
            run.metrics(kind="sentence", **said, **data.described(one, found, encoder, corpus.tags))

    _training.every(config, [one.recipe for one in made.values()], given.hashes, run, finish)


def _keep(config: Config, run: Any, given: Inputs) -> None:
    """What the models are asked with later, and what the data are."""
    corpus, encoder = given.corpus, given.encoder
    _training.keep_vocabulary(run, "words", encoder.words)
    _training.keep_vocabulary(run, "characters", encoder.spelling)
    run.arrays("training", sentences=np.array(sorted({data.print_of(one.words) for one in corpus.train}), np.uint64))
    counts = {split: getattr(corpus, split) for split in data.SPLITS}
    words = [word for one in corpus.test for word in one.words]
    run.metrics(
        kind="data", name=corpus.name, origin=corpus.origin, held_out=corpus.held_out, tags=list(corpus.tags),
        bounds=bounds_of(corpus.train, config), words=encoder.words.size, characters=encoder.spelling.size,
        **{split: len(of) for split, of in counts.items()},
        **{f"{split}_words": sum(len(one.words) for one in of) for split, of in counts.items()},
        test_unknown=float((encoder.words.encode([data.normal(word) for word in words]) == 0).mean()),
        longer=sum(len(word) > encoder.longest for word in words),
    )  # fmt: skip


def _scored(run: Any, corpus: data.Corpus, said: list[np.ndarray], kind: str, **facts: Any) -> None:
    found = scores(corpus.test, said, corpus.tags)
    by_type = found.pop("by_type")
    run.metrics(kind=kind, **facts, **found)
    for name, one in by_type.items():
        numbers = {what: getattr(one, what) for what in ("precision", "recall", "f1")}
        run.metrics(kind="type", **facts, type=name, **numbers, **one._asdict())


def table(run: Any) -> str:
    """Entities, surface forms and words, over seeds; by type; the lecture's sentences; what the numbers are."""
    return _name_tags_table.table(Config(**run.config), run)


def figure(run: Any):
    """Learning curves, types, gradient norms; the lecture's sentences."""
    return _name_tags_figure.figure(Config(**run.config), run)


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
