"""The table of `forms`, from its stored rows and arrays."""

import textwrap
from typing import Any

from experiments._forms_data import FORMS
from experiments._gradient_table import seeds_of
from rnnlab import report
from rnnlab.cells import own

NAMES = {
    "many_to_many": "many to many (tagger)",
    "many_to_one": "many to one (classifier)",
    "one_to_many": "one to many (generator)",
}
HEADER = (
    "form", "terms", "right", "guessed", "nats a term", "guessed", "total before", "total after", "sum's gap",
    "grad's gap",
)  # fmt: skip


def table(config: Any, run) -> str:
    """A line a form; what each sum is made of; then what the numbers are."""
    rows = run.rows()
    data = {row["form"]: row for row in rows if row["kind"] == "data"}
    lines = [line(rows, data[form], form) for form in FORMS]
    sums = [one for form in FORMS for one in summed(config, rows, data[form], form)]
    return "\n\n".join([report.table(HEADER, lines), "\n".join(sums), notes(config, run, rows, data)])


def terms(rows: list[dict], form: str, when: str) -> list[dict]:
    """Of the example, one row a seed."""
    return [row for row in rows if (row["kind"], row.get("form"), row.get("when")) == ("terms", form, when)]


def line(rows: list[dict], data: dict[str, Any], form: str) -> list[str]:
    tests = [row for row in rows if (row["kind"], row.get("form")) == ("test", form)]
    before, after = (terms(rows, form, when) for when in ("before", "after"))
    share = lambda values: report.interval([100 * v for v in values], 1, low=0, high=100) + " %"  # noqa: E731
    return [
        NAMES[form] + ("" if data["held_out"] else "*"),
        f"{tests[0]['asked']:,}",
        share([row["accuracy"] for row in tests]),
        f"{data['accuracy_guessed']:.1%}",
        report.interval([row["step_loss"] for row in tests], 3, low=0),
        f"{data['step_loss_guessed']:.3f}",
        report.spread([row["total"] for row in before], 2),
        report.spread([row["total"] for row in after], 2),
        f"{max(row['apart'] for row in before + after):.0e}",
        f"{max(row['gap'] for row in before + after):.0e}",
    ]


def summed(config: Any, rows: list[dict], data: dict[str, Any], form: str) -> list[str]:
    """loss 1 + loss 2 + ... = total of the first seed, before and after training, wrapped."""
    said = "seen in training" if data["seen"] else "unseen"
    lines = [f"{NAMES[form]}, {' '.join(data['words'])!r}, {said}; seed {config.seed}:"]
    for when in ("before", "after"):
        row = terms(rows, form, when)[0]
        parts = [
            f"{loss:.4f} ({answer})"
            for loss, answer in zip(row["losses"], data["answers"], strict=True)
            if answer != "-1"
        ]
        whole = f"{when:>6}: " + " + ".join(parts) + f" = {row['total']:.4f}"
        lines.append(textwrap.fill(whole, 118, initial_indent="  ", subsequent_indent=" " * 10))
    return lines


def notes(config: Any, run, rows: list[dict], data: dict[str, dict]) -> str:
    every = [row for row in rows if row["kind"] == "terms"]
    zero = sum(row["pairs"] for row in every if row["ahead_zero"])
    parameters = {row["form"]: row["parameters"] for row in rows if row["kind"] == "chosen"}
    shapes = ", ".join(f"{parameters[form]:,} {NAMES[form]}" for form in FORMS)
    said = [
        f"one network: {config.layers} layer(s) of {config.hidden} units of {own.label(config.cell)}, embeddings of "
        f"{config.embedding}, a readout of every step; the stack's parameters have the same shapes in every form. "
        f"Parameters in all: {shapes}.",
        *(
            f"{NAMES[form]}: {row['origin']}, {row['source']}; train {row['train']:,}, validation "
            f"{row['validation']:,}, test {row['test']:,} examples of at most {config.length} words ({row['longer']:,} "
            f"longer ones left out); {row['vocabulary']:,} words known."
            + ("" if row["held_out"] else " *: these are training and test at once, a demonstration of what is learnt.")
            for form, row in data.items()
        ),
        "right, nats a term: of the test split, looked at once, by the parameters of the lowest validation loss; mean "
        f"over {seeds_of(config)} and its 95 % interval (Student's t over seeds). guessed: the training answers' "
        "frequencies. A word that the generator does not know counts as one word, the unknown.",
        "total before, after: of the example, loss 1 + loss 2 + ..., in nats (± over seeds). sum's gap: between the "
        "terms' sum and the total, computed by itself, as a share of it; grad's gap: between the sum over terms of "
        "their gradients with respect to a carry and that of the total, as vectors, as a share of the largest. The "
        f"worst of all seeds. Gradients of a term with respect to later carries: exactly 0 in {zero:,} of "
        f"{sum(row['pairs'] for row in every):,} pairs.",
        f"training: {config.steps:,} steps of {config.batch} examples at most, {config.optimiser} at "
        f"{config.learning_rate:g}, clipped at {config.clip:g}; the mean over examples of their totals is minimised. "
        "The generator reads the words that it should have said (teacher forcing).",
        f"machine: {report.machine(run.provenance)}; float32.",
    ]
    return "\n".join(textwrap.fill(one, 118) for one in said)
