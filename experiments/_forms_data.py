"""What each form of `forms` learns: words in, and at some steps something to be said, scored or not."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Int

from experiments._lecture import NAMES, REVIEW
from experiments._sentiment_data import opened, spelled
from rnnlab.data import batches, published
from rnnlab.data.columns import Columns, decode
from rnnlab.data.plans import bounds_for, in_order
from rnnlab.data.vocabularies import END, UNKNOWN, Vocabulary, tokens
from rnnlab.data.words import split_words
from rnnlab.errors import InputError

FORMS = ("many_to_many", "many_to_one", "one_to_many")
SILENT = -1  # a step at which nothing is to be said


class Said(NamedTuple):
    """words: what is read, [T]. answers: [T], what is to be said at each step, SILENT for nothing; tags, a class at the
    last step, or the word that follows."""

    words: tuple[str, ...]
    answers: tuple[int | str, ...]


class Steps(NamedTuple):
    """B examples. ids: [T, B]. lengths: [B]; 0 is an empty row. answers: [T, B], SILENT where nothing is scored."""

    ids: Int[Array, "T B"]
    lengths: Int[Array, " B"]
    answers: Int[Array, "T B"]

    @property
    def scored(self) -> Bool[Array, "T B"]:
        return (self.answers != SILENT) & (np.arange(len(self.ids))[:, None] < self.lengths)


AXES = Steps(ids=1, lengths=0, answers=1)  # of rows, for `rnnlab.train.step`


class Task(NamedTuple):
    """What one form learns. source, origin: of its data, for people. splits: train, validation, test. example: whose
    terms are shown. longer: examples left out for their length."""

    form: str
    source: str
    origin: str
    splits: dict[str, list[Said]]
    example: Said
    longer: int


class Inputs(NamedTuple):
    tasks: dict[str, Task]
    own: dict[str, str]

    @property
    def hashes(self) -> dict[str, str]:
        return {f"{form}: {task.source}": _digest(task) for form, task in self.tasks.items()} | self.own


def tasks_of(tags: str, file: str, length: int) -> dict[str, Task]:
    """By form. tags: what the tagger learns, `lecture` or `wnut17`. file: the others' texts, as `sentiment` takes them.
    length: most words of an example that is learnt."""
    reviews = opened(file, {})
    read = {
        split: [(tuple(one.words), one.label) for one in some] for split, some in reviews.splits.items()
    }  # the split by a hash of the id, without texts that stand in two splits
    source = f"{reviews.name}, by the hash of the id"
    words = split_words(spelled(REVIEW[0]))
    classes = {split: [verdict(*one) for one in some] for split, some in read.items()}
    rest = {split: [continued(found) for found, _ in some] for split, some in read.items()}
    tagged, of, origin = TAGS[tags]()
    given = (
        ("many_to_many", of, origin, tagged, tag(*NAMES[1])),
        ("many_to_one", source, reviews.origin, classes, verdict(words, REVIEW[1])),
        ("one_to_many", source, reviews.origin, rest, None),
    )
    return {one[0]: _task(*one, length) for one in given}


def _task(form: str, source: str, origin: str, splits: dict[str, list[Said]], example: Any, length: int) -> Task:
    kept = {split: [one for one in some if 0 < len(one.words) <= length] for split, some in splits.items()}
    for split, some in kept.items():
        if not some:
            raise InputError(f"length: expected texts of at most {length} words in {split} of {source}, got none")
    longer = sum(map(len, splits.values())) - sum(map(len, kept.values()))
    # The generator's: a sentence that was never trained on, the first of about the lecture's lengths.
    chosen = example or next((one for one in kept["test"] if 6 <= len(one.words) <= 10), kept["test"][0])
    return Task(form, source, origin, kept, chosen, longer)


def tag(text: str, tags: Sequence[int]) -> Said:
    return Said(tuple(spelled(text).split()), tuple(tags))


def verdict(words: Sequence[str], label: int) -> Said:
    """Many to one: all is read, and then the class said."""
    return Said(tuple(words), (*(SILENT for _ in words[1:]), label))


def continued(words: Sequence[str]) -> Said:
    """One to many: the first word is given, and each word after it is both what is said and what is read next."""
    return Said(tuple(words), (*words[1:], END))


def _lecture() -> tuple[dict[str, list[Said]], str, str]:
    every = [tag(*one) for one in NAMES]
    return {split: every for split in ("train", "validation", "test")}, "the lecture's three sentences", "rule-made"


def _wnut17() -> tuple[dict[str, list[Said]], str, str]:
    sets = {split: published.open("wnut17", split) for split in ("train", "validation", "test")}
    outside = sets["train"].classes["tags"].index("O")
    found = {
        split: [
            Said(tuple(map(spelled, one["tokens"])), tuple(int(tag != outside) for tag in one["tags"]))
            for one in some.examples
        ]
        for split, some in sets.items()
    }
    return found, f"wnut17 {sets['train'].version}, official splits", sets["train"].origin


TAGS = {"lecture": _lecture, "wnut17": _wnut17}


def _digest(task: Task) -> str:
    line = json.dumps([task.splits, task.example], ensure_ascii=False)
    return hashlib.sha256(line.encode("utf-8", "surrogatepass")).hexdigest()


def vocabulary_of(task: Task, at_most: int) -> Vocabulary:
    """Of a form's own training texts; ids 0 and 1 are UNKNOWN and END."""
    specials = (UNKNOWN, END)
    every = (one.words for one in task.splits["train"])
    return tokens(every, specials=specials, at_most=max(at_most, len(specials) + 1))


def outputs_of(form: str, vocabulary: Vocabulary) -> int:
    """C: two tags, two classes, or every word."""
    return vocabulary.size if form == "one_to_many" else 2


def encoded(said: Said, vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    """ids and answers, [T] both; a word that is to be said and is not known is UNKNOWN."""
    answers = [vocabulary.special(END) if a == END else a for a in said.answers]
    words = [(n, a) for n, a in enumerate(answers) if isinstance(a, str)]
    found = dict(zip([n for n, _ in words], vocabulary.encode([a for _, a in words]).tolist(), strict=True))
    return {
        "ids": vocabulary.encode(list(said.words)),
        "answers": np.array([found.get(n, a) for n, a in enumerate(answers)], np.int32),
    }


def columns_of(some: Sequence[Said], vocabulary: Vocabulary) -> Columns:
    names = {name: np.asarray for name in ("ids", "answers")}
    return decode([encoded(one, vocabulary) for one in some], sequences=names, fixed={}, label="encoding")


def training(columns: Columns, size: int) -> Callable[[Any], Iterator[tuple[Any, Steps]]]:
    """Batches for a recipe, in another order every epoch; of one shape, or little would be computed and much compiled.

    Where there are fewer examples than a batch has rows, its other rows are empty.
    """
    source = batches.bucketed(columns, bounds_for(columns.lengths, 1, size), size)

    def batches_of(position: Any) -> Iterator[tuple[Any, Steps]]:
        for after, batch in batches.stream(source, position):
            yield after, steps_of(batch)

    return batches_of


def evaluation(columns: Columns, size: int) -> list[Steps]:
    """Every example once."""
    epoch = batches.bucketed(columns, bounds_for(columns.lengths, 1, size), size, order=in_order)(0, 0)
    return [steps_of(epoch.batch(index)) for index in range(epoch.count)]


def steps_of(batch: batches.Batch) -> Steps:
    return Steps(batch.sequences["ids"], batch.lengths["ids"], batch.sequences["answers"])
