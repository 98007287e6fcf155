"""What a finished run of `name_tags` says of a reader's texts."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import _name_tags_data as data
from experiments import _training
from experiments._name_tags_programs import HEADS, SCORES, Ask, Said, asking, tagger
from experiments._name_tags_scores import entities
from rnnlab import cli
from rnnlab.cells import own
from rnnlab.errors import InputError
from rnnlab.predictions import Answer, Predictor
from rnnlab.types import PyTree

BEST = "best"


@dataclasses.dataclass(frozen=True)
class Predicting:
    head: str = cli.flag(BEST, "whom to ask; best: of all the best on validation", choices=(BEST, *HEADS))


class Asked(NamedTuple):
    """The model of a run with the best validation, and what it reads and says. seen: prints of training's sentences."""

    name: str
    params: PyTree
    ask: Ask
    encoder: data.Encoder
    tags: tuple[str, ...]
    seen: frozenset[int]


def predictor(run: Any, how: Predicting) -> Predictor:
    """For every text one answer: a line a word, then the entities."""
    asked = _asked(run, how)

    def answer(text: str) -> Iterator[Answer]:
        row = _row(asked, text)
        yield Answer(_shown(row), row)

    return answer


def _asked(run: Any, how: Predicting) -> Asked:
    from experiments.name_tags import Config

    config, score = Config(**run.config), SCORES[run.config["chosen_by"]]
    heads = run.config["head"] if how.head == BEST else [how.head]
    rows = [row for row in run.rows() if row["kind"] == "chosen" and row["head"] in heads]
    if not rows:
        raise InputError(f"head: expected one of {', '.join(run.config['head'])}, which were trained, got {how.head}")
    [known] = [row for row in run.rows() if row["kind"] == "data"]
    best = min(rows, key=score)
    vocabularies = (_training.kept_vocabulary(run, name) for name in ("words", "characters"))
    encoder = data.Encoder(*vocabularies, config.longest)
    [cell] = [name for name in config.cell if own.label(name) == best["cell"]]
    model = tagger(config, best["head"], cell, encoder, known["tags"])
    part = f"{best['head']}_{best['cell']}_seed{best['seed']}"
    params = _training.best(run, model.init, part)
    seen = frozenset(run.load("training")["sentences"].tolist())
    name = f"{best['head']}, {best['cell']}, seed {best['seed']}"
    return Asked(name, params, asking(model, rows=1), encoder, tuple(known["tags"]), seen)


def _row(asked: Asked, text: str) -> dict[str, Any]:
    """What docs/name_tags.md says of the keys."""
    places = data.words_in(text)
    words = [one.word for one in places]
    if not words:
        said = Said(np.zeros(0, int), np.zeros((0, len(asked.tags))), np.zeros(0))
    else:
        sentence = data.Sentence(words, np.zeros(len(words), np.int32))
        [said] = asked.ask(asked.params, data.column_store([sentence], asked.encoder))
    encoded = asked.encoder.encode(words)
    tags = [asked.tags[n] for n in said.tags]
    return {
        "text": text,
        "model": asked.name,
        "seen_in_training": bool(words) and data.print_of(words) in asked.seen,
        "words": words,
        "ones": [int(tag != "O") for tag in tags],
        "tags": tags,
        "chance": said.chances[np.arange(len(words)), said.tags].tolist(),
        "chance_of_1": (1 - said.chances[:, 0]).tolist(),
        "entities": [_entity(text, places, *one) for one in entities(tags)],
        "unknown_words": int((encoded["words"] == 0).sum()),
        "unknown_characters": int((encoded["characters"] == asked.encoder.unknown_character).sum()),
    }


def _entity(text: str, places: Sequence[data.Word], kind: str, begin: int, end: int) -> dict[str, Any]:
    span = [places[begin].begin, places[end - 1].end]
    return {"type": kind, "text": text[slice(*span)], "words": [begin, end], "characters": span}


def _shown(row: dict[str, Any]) -> str:
    """For people."""
    if not row["words"]:
        return "(no words)\n\n"
    width = min(30, max(len(_plain(word)) for word in row["words"]))
    lines = [
        f"{_plain(word):<{width}}  {one}  {tag:<{max(map(len, row['tags']))}}  P {chance:.2f}".rstrip()
        for word, one, tag, chance in zip(row["words"], row["ones"], row["tags"], row["chance"], strict=True)
    ]
    found = "; ".join(f"{one['type']}: {_plain(one['text'])}" for one in row["entities"]) or "none"
    seen = "seen in training" if row["seen_in_training"] else "unseen"
    words, letters = row["unknown_words"], row["unknown_characters"]
    unknown = f"{words} of {len(row['words'])} words are unknown" + (f", {letters} characters" if letters else "")
    return "\n".join([*lines, f"entities: {found}", f"({seen}; {unknown}; {row['model']})"]) + "\n\n"


def _plain(text: str) -> str:
    """Without what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)
