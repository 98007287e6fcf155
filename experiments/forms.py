"""One network in three forms, tagger, classifier, generator: what does each step's loss send back to each step?

Many to many, many to one, one to many: the same cells of the same shapes; the form is only at which steps something is
said and scored. The total is loss 1 + loss 2 + ... (backpropagation through time), shown term by term for an example of
each form, with the exact gradient that each term sends to each timestep, before and after training.

    python launch.py forms
    python launch.py forms --cell=gru --hidden=32 --tags=wnut17
    python launch.py predict runs/forms-* --text="Dhaval loves pizza" --form=many_to_many

About a minute on two idle cores. Expect the sums to hold to rounding (1e-6 of the total), and no term to send anything
to a carry that comes after it.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from experiments import _forms_figure, _forms_table, _training
from experiments._forms_data import FORMS, TAGS, Inputs, Task, columns_of, spelled, tasks_of, vocabulary_of
from experiments._forms_programs import alone, network, recipe, scored, terms_of
from rnnlab import cli
from rnnlab.cells import CELLS, own
from rnnlab.data.vocabularies import END, UNKNOWN
from rnnlab.data.words import join_words, split_words
from rnnlab.predictions import Answer, Predictor

RESUMES = True
SHORTEST = 16  # steps that a text which is asked for is padded to at least; then to powers of two


@dataclasses.dataclass(frozen=True)
class Config(_training.Config):
    cell: str = cli.flag("lstm", f"the cell of all three: {', '.join(CELLS)}, or your own, FILE.py:FACTORY")
    layers: int = cli.flag(1, "cells stacked, L", low=1)
    hidden: int = cli.flag(64, "hidden units of each layer, H", low=1)
    embedding: int = cli.flag(32, "features of an embedded word, E", low=1)
    tags: str = cli.flag("lecture", "what the tagger learns: the lecture's sentences, or WNUT-17", choices=tuple(TAGS))
    file: str = cli.flag("", "the others' texts: a UTF-8 file of lines RATING TAB TEXT; by default movie snippets")
    length: int = cli.flag(16, "most words of an example that is learnt, T", low=2)
    words: int = cli.flag(2000, "words that a form knows at most, the most frequent of its training texts", low=1)
    steps: int = cli.flag(300, "training steps", low=1)
    learning_rate: float = cli.flag(5e-3, "Adam's highest step size", low=0.0)
    written: int = cli.flag(20, "words that the generator writes at most", low=1, high=1000)


def inputs(config: Config) -> Inputs:
    """The three tasks, checked against the configuration."""
    _training.check(config)
    own.check([config.cell])
    return Inputs(tasks_of(config.tags, config.file, config.length), own.sources([config.cell]))


def run(config: Config, given: Inputs, run) -> None:
    """Rows: a form's `data`; of each form and seed `train`, `validation`, `chosen`, `test`, and `terms` of its example
    `before` and `after` training, whose norms are arrays: FORM_seedN_before, FORM_seedN_after."""
    vocabularies = {form: vocabulary_of(task, config.words) for form, task in given.tasks.items()}
    if not run.has("data"):
        with run.part("data"):
            for form, task in given.tasks.items():
                _training.keep_vocabulary(run, form, vocabularies[form])
                run.metrics(kind="data", form=form, **_facts(task, vocabularies[form]))
    programs = {form: terms_of(network(config, form, vocabularies[form])) for form in FORMS}

    def finish(recipe: _training.Recipe, seed: int, params: Any) -> None:
        task, vocabulary = given.tasks[recipe.name], vocabularies[recipe.name]
        test = scored(network(config, recipe.name, vocabulary), columns_of(task.splits["test"], vocabulary))
        run.metrics(kind="test", **recipe.facts, seed=seed, **test(params))
        first = jax.jit(recipe.init)(jax.random.key(seed))
        for when, these in (("before", first), ("after", params)):
            _terms(programs[recipe.name], task, vocabulary, these, recipe, seed, when, run)

    recipes = [recipe(config, given.tasks[form], form, vocabularies[form]) for form in FORMS]
    _training.every(config, recipes, given.hashes, run, finish)


def _facts(task: Task, vocabulary: Any) -> dict[str, Any]:
    """What a form learns from, and what guessing reaches on its test: the commonest answer of the training texts, and
    nats a step of their frequencies, one added to each."""
    sizes = {split: len(some) for split, some in task.splits.items()}
    train, test = (columns_of(task.splits[split], vocabulary).sequences["answers"].flat for split in ("train", "test"))
    train, test = train[train >= 0], test[test >= 0]
    count = vocabulary.size if task.form == "one_to_many" else 2
    counts = np.bincount(train, minlength=count) + 1.0
    guess = dict(accuracy_guessed=float(np.mean(test == counts.argmax())))
    guess |= dict(step_loss_guessed=float(-np.log(counts / counts.sum())[test].mean()))
    held_out = task.splits["test"] != task.splits["train"]
    seen = task.example in task.splits["train"]
    return dict(
        source=task.source, origin=task.origin, **sizes, longer=task.longer, vocabulary=vocabulary.size,
        held_out=held_out, words=task.example.words, answers=[str(a) for a in task.example.answers], seen=seen, **guess,
    )  # fmt: skip


def _terms(program: Callable, task: Task, vocabulary: Any, params: Any, recipe: Any, seed: int, when: str, run) -> None:
    found = jax.device_get(program(params, alone(task.example, vocabulary)))
    later, earlier = np.tril_indices(len(found.losses), -1)
    ahead = found.norms[:, earlier, later]  # of a loss with respect to a carry that comes after it
    # A total may be 0, where everything is answered beyond float32's doubts: then the terms are too.
    apart = abs(float(found.losses.sum(dtype=np.float64)) - float(found.total)) / max(float(found.total), 1e-30)
    run.metrics(
        kind="terms", **recipe.facts, seed=seed, when=when, losses=found.losses.astype(float).tolist(),
        total=found.total, apart=apart,
        gap=found.gap, ahead_zero=bool(np.all(ahead == -np.inf)), pairs=len(later) * len(found.norms),
    )  # fmt: skip
    run.arrays(f"{recipe.part(seed)}_{when}", norms=found.norms, of_total=found.of_total)


@dataclasses.dataclass(frozen=True)
class Predicting:
    form: str = cli.flag("all", "which form is asked", choices=("all", *FORMS))


def predictor(run, how: Predicting) -> Predictor:
    """Text -> a tag of every word, a class of the whole, and what the generator writes after its first word."""
    config = Config(**run.config)
    asked = {form: _ask(config, form, run) for form in FORMS if how.form in ("all", form)}

    def predict(text: str) -> Iterator[Answer]:
        row: dict[str, Any] = {"text": text, "words": _words(text)}
        for ask in asked.values():
            row |= ask(row["words"])
        yield Answer(_shown(row), row)

    return predict


def _words(text: str) -> list[str]:
    return split_words(spelled(text))


def _ask(config: Config, form: str, run) -> Callable[[list[str]], dict[str, Any]]:
    """words -> this form's part of the row."""
    vocabulary = _training.kept_vocabulary(run, form)
    found, net = recipe(config, None, form, vocabulary), network(config, form, vocabulary)
    params = _training.best(run, found.init, found.part(_training.best_of(run, form=form)["seed"]))
    read = jax.jit(lambda ids, length: jax.nn.softmax(net.logits(params, ids, lengths=length)[0][:, 0]))
    write = jax.jit(lambda first: net.greedy(params, first, config.written, vocabulary.special(UNKNOWN)))

    def probabilities(ids: np.ndarray) -> np.ndarray:
        length = max(SHORTEST, 1 << max(len(ids) - 1, 0).bit_length())
        padded = np.pad(ids, (0, length - len(ids)))[:, None]
        return np.asarray(read(padded, np.array([len(ids)], np.int32)), np.float64)[: len(ids), 1]

    def ask(words: list[str]) -> dict[str, Any]:
        ids = vocabulary.encode(words if form != "one_to_many" else words[:1])
        unknown = {f"unknown_{form}": int((ids == vocabulary.special(UNKNOWN)).sum())}
        if form == "many_to_many":
            said = probabilities(ids) if len(ids) else np.zeros(0)
            return {"tags": (said > 0.5).astype(int).tolist(), "tag_probabilities": said.tolist()} | unknown
        if form == "many_to_one":
            positive = float(probabilities(ids)[-1]) if len(ids) else None
            label = None if positive is None else "positive" if positive > 0.5 else "negative"
            return {"label": label, "positive": positive} | unknown
        said = np.asarray(write(ids[:, None])).tolist() if len(ids) else []
        end = vocabulary.special(END)
        kept = said[: said.index(end)] if end in said else said
        return {"first": words[:1], "written": [vocabulary.tokens[n] for n in kept], "ended": end in said} | unknown

    return ask


def _shown(row: dict[str, Any], most: int = 40) -> str:
    """For people: a line a form."""
    if not row["words"]:
        return "(no words)\n"
    lines = []

    def line(form: str, said: str, of: int) -> None:
        unknown = row[f"unknown_{form}"]
        lines.append(f"{form.replace('_', ' ')}: {said}" + (f"  ({unknown} of {of} words unknown)" if unknown else ""))

    if "tags" in row:
        pairs = [f"{word}/{tag}" for word, tag in zip(row["words"], row["tags"], strict=True)]
        more = f" ... and {len(pairs) - most} more" if len(pairs) > most else ""
        line("many_to_many", " ".join(pairs[:most]) + more, len(pairs))
    if "label" in row:
        sure = max(row["positive"], 1 - row["positive"])
        line("many_to_one", f"{row['label']} ({sure:.1%})", len(row["words"]))
    if "written" in row:
        end = "" if row["ended"] else " ..."
        line("one_to_many", f"{row['first'][0]} -> {join_words(row['written'])}{end}", 1)
    return "\n".join(lines) + "\n"


def table(run) -> str:
    """A line a form, over seeds; the sums term by term; then what the numbers are."""
    return _forms_table.table(Config(**run.config), run)


def figure(run):
    """A column a form: what is read and said, the loss terms, and what each sends to each step."""
    return _forms_figure.figure(Config(**run.config), run)


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
