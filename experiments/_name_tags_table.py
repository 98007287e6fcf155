"""The table of `name_tags`, from its stored rows."""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from rnnlab import report


class Published(NamedTuple):
    """A system of the shared task on the same test split, its F1 of entities and of surface forms in percent, and
    where the numbers were read; an empty source: repeated from memory of Derczynski et al. 2017, and not checked."""

    system: str
    entity: float
    surface: float
    source: str


PUBLISHED = (
    Published("UH-RiTUAL", 41.86, 40.24, "Aguilar et al. 2017, abstract"),
    Published("SpinningBytes", 40.78, 39.33, "von Däniken & Cieliebak 2017, abstract"),
    Published("SJTU-Adapt", 40.42, 37.62, ""),
    Published("Arcada", 39.98, 37.77, "Jansson & Liu 2017, abstract"),
    Published("FLYTXT", 38.55, 36.31, "Sikdar & Gambäck 2017, abstract"),
    Published("MIC-CIS", 37.06, 34.25, ""),
    Published("Drexel-CCI", 26.30, 25.26, ""),
)
SCORES = ("f1", "precision", "recall", "surface_f1", "accuracy", "one_f1")


def table(config: Any, run: Any) -> str:
    """What was scored on test; by type; the shown sentences; what the numbers are."""
    rows = run.rows()
    [data] = [row for row in rows if row["kind"] == "data"]
    parts = [overall(config, rows, data), types(rows), sentences(rows, data)]
    if config.data == "wnut17":
        parts.insert(1, published())
    return "\n\n".join([*parts, notes(config, run, rows, data)])


def models(rows: Sequence[dict]) -> list[tuple[str, str]]:
    """Heads and cells that were trained, in their order."""
    return list(dict.fromkeys((row["head"], row["cell"]) for row in rows if row["kind"] == "test"))


def of(rows: Sequence[dict], kind: str, **facts: Any) -> list[dict]:
    return [row for row in rows if row["kind"] == kind and all(row.get(name) == v for name, v in facts.items())]


def name_of(rows: Sequence[dict], head: str, cell: str) -> str:
    """The cell is said only where there are several."""
    return head if len({one for _, one in models(rows)}) == 1 else f"{head}, {cell}"


def overall(config: Any, rows: Sequence[dict], data: dict) -> str:
    where = "test" if data["held_out"] else "training"
    header = [f"{where}, %", "entity F1", "precision", "recall", "surface F1", "0/1 right", "F1 of 1"]
    header += ["validation F1" if data["held_out"] else "F1 at stop", "nats/word", "at step", "parameters"]
    lines = []
    for head, cell in models(rows):
        tests, chosen = (of(rows, kind, head=head, cell=cell) for kind in ("test", "chosen"))
        lines.append(
            [
                name_of(rows, head, cell),
                *(percent(tests, what) for what in SCORES),
                percent(chosen, "f1"),
                report.spread([row["loss"] for row in chosen], 3 if data["held_out"] else 5),
                " ".join(str(row["step"]) for row in chosen),
                f"{chosen[0]['parameters']:,}",
            ]
        )
    baseline = of(rows, "baseline")
    counted = (percent(baseline, what) for what in (*SCORES, "validation_f1"))
    lines.append(["most frequent tag", *counted, "", "", ""])
    return report.table(header, lines)


def percent(rows: Sequence[dict], what: str) -> str:
    return report.spread([100 * row[what] for row in rows], 1)


def published() -> str:
    header = ["the shared task's systems on this test split", "entity F1", "surface F1", "read in"]
    lines = [
        [one.system, f"{one.entity:.2f}", f"{one.surface:.2f}", one.source or "not checked: from memory"]
        for one in PUBLISHED
    ]
    return report.table(header, lines)


def types(rows: Sequence[dict]) -> str:
    """Entity F1 type by type."""
    baseline = of(rows, "type", head="baseline")
    header = ["entity F1 by type, %", "in test", *(name_of(rows, *one) for one in models(rows)), "most frequent tag"]
    lines = []
    for one in baseline:
        found = [percent(of(rows, "type", head=h, cell=c, type=one["type"]), "f1") for h, c in models(rows)]
        lines.append([one["type"], str(one["asked"]), *found, percent([one], "f1")])
    return report.table(header, lines)


def sentences(rows: Sequence[dict], data: dict) -> str:
    """The lecture's sentences, as the first seed tags them; where its 0 and 1 were learned, term by term."""
    blocks = []
    for head, cell in models(rows):
        every = of(rows, "sentence", head=head, cell=cell)
        first = [row for row in every if row["seed"] == every[0]["seed"]]
        title = f"{name_of(rows, head, cell)}, seed {every[0]['seed']}: words with 0/1 and P(1)"
        begun = of(rows, "validation", head=head, cell=cell, seed=every[0]["seed"], step=0)[0].get("terms", [])
        lines = []
        for row in first:
            count = len(row.get("terms", ()))
            lines.append(_sentence(row, every, begun[:count]))
            begun = begun[count:]
        blocks.append("\n".join([title, *lines]))
    return "\n\n".join(blocks)


def _sentence(row: dict, every: Sequence[dict], begun: Sequence[float]) -> str:
    """begun: its terms before training."""
    words = [f"{w} {one} ({p:.2f})" for w, one, p in zip(row["words"], row["ones"], row["chance_of_1"], strict=True)]
    typed = [f"{w}/{tag}" for w, tag in zip(row["words"], row["tags"], strict=True) if tag != "O"]
    seen = "seen in training" if row["seen"] else f"unseen; {row['known']} of {len(row['words'])} words known"
    lines = ["   ".join(words), f"[{seen}] typed: {' '.join(typed) or 'no entity'}"]
    if "answer" in row:
        same = [one for one in every if one["text"] == row["text"]]
        right = sum(one["ones"] == one["answer"] for one in same)
        lines[1] += f"; the lecture says {' '.join(map(str, row['answer']))}: all right in {right} of {len(same)} seeds"
    if "terms" in row:
        lines += [f"loss before training: {_summed(begun)}", f"loss after training:  {_summed(row['terms'])}"]
    return "\n".join(_wrapped(line) for line in lines)


def _summed(terms: Sequence[float]) -> str:
    """loss 1 + loss 2 + ... = total, in nats."""
    return " + ".join(f"{term:.4f}" for term in terms) + f" = {sum(terms):.4f} nats"


def _wrapped(line: str) -> str:
    return textwrap.fill(line, 118, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def notes(config: Any, run: Any, rows: Sequence[dict], data: dict) -> str:
    seeds = f"{config.seeds} seeds from {config.seed}" if config.seeds > 1 else f"seed {config.seed}"
    clipped = [row["clipped"] for row in rows if row["kind"] == "train"]
    said = [*(_held_out if data["held_out"] else _by_heart)(config, data)]
    said += [
        "entity: type and both ends right (seqeval); surface: each pair of words and type counts once, as the shared "
        "task's wnuteval.py has it; 0/1: 1 is every tag but O. Most frequent tag: of each word in training, O of a new "
        "one.",
        f"training: {config.steps} steps of {config.batch} sentences, {config.layers} x {config.hidden} units each "
        f"way; {sum(clipped) / len(clipped):.1%} of the steps were clipped, at a norm of {config.clip:g}. "
        f"±: standard deviation over {seeds}.",
        f"machine: {report.machine(run.provenance)}; float32.",
    ]
    return "\n".join(textwrap.fill(one, 118) for one in said)


def _held_out(config: Any, data: dict) -> list[str]:
    chooser = {"f1": "highest entity F1", "loss": "lowest loss"}[config.chosen_by]
    return [
        f"data: {data['name']} ({data['origin']}), {data['train']:,} / {data['validation']:,} / {data['test']:,} "
        f"sentences of {data['train_words']:,} / {data['validation_words']:,} / {data['test_words']:,} words; the "
        f"vocabulary ({data['words']:,} words, {data['characters']} characters) is of training alone, and "
        f"{data['test_unknown']:.1%} of the words in test are unknown; {data['longer']} there have more than the "
        f"{config.longest} characters that are read. The {chooser} on validation chose the stopping point; test was "
        "looked at once, after that.",
        "No pre-trained embeddings, no gazetteers, no other data"
        + ("; the published systems used some of these. " if config.data == "wnut17" else ". ")
        + "The lecture's sentences are demonstrations: seen or unseen was found out by looking in the training split.",
    ]


def _by_heart(config: Any, data: dict) -> list[str]:
    return [
        f"data: {data['name']} ({data['origin']}), {data['train']} sentences of {data['train_words']} words, and no "
        "other: learned by heart. Accuracy on training data is no accuracy on new text.",
        "1 is the tag I-name. A term of softmax is -ln P(tag); of crf -ln P(tag | the tags before). Their sum is the "
        "sentence's loss.",
    ]
