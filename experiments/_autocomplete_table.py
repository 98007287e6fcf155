"""The table of `autocomplete`, from its stored rows."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from experiments._autocomplete_counts import NAMES
from experiments._autocomplete_text import REPLIES
from rnnlab import report
from rnnlab.cells import own


def table(config: Any, run) -> str:
    """The scores; the prompts; what the numbers are."""
    rows = run.rows()
    return "\n\n".join([scores(config, rows), prompts(config, rows), notes(config, run, rows)])


def of(rows: Sequence[Mapping[str, Any]], kind: str, **wanted: Any) -> list[Mapping[str, Any]]:
    """The rows of a kind with these values."""
    wanted = {"kind": kind, **wanted}
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]


def sets_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The test sets, in their order."""
    return list(dict.fromkeys(row["set"] for row in of(rows, "test")))


def models_of(config: Any) -> list[str]:
    return [*NAMES, *config.cell]


def scores(config: Any, rows: list[dict]) -> str:
    header = ["held-out text", "model", "top-1 %", "top-5 %", "perplexity", "saved %, 1 word", "3 words", "parameters"]
    lines = []
    for name in sets_of(rows):
        for model in models_of(config):
            found = of(rows, "test", set=name, model=model)
            chosen = of(rows, "chosen", cell=model)
            percent = [
                report.spread([100 * row[field] for row in found], 1) for field in ("top1", "top5", "saved1", "saved3")
            ]
            perplexity = report.spread([row["perplexity"] for row in found], 1)
            first = set_label(rows, name) if model == NAMES[0] else ""
            size = f"{chosen[0]['parameters']:,}" if chosen else ""
            lines.append([first, own.label(model), *percent[:2], perplexity, *percent[2:], size])
    return report.table(header, lines)


def set_label(rows: list[dict], name: str) -> str:
    """A test set with where it comes from."""
    kind = "generated" if name == REPLIES else of(rows, "origin", name=name)[0]["origin"]
    return f"{name} ({kind})"


def prompts(config: Any, rows: list[dict]) -> str:
    """Each prompt with what follows it, and whether both stand in the training text."""
    header = ["demonstration", "model", "standing", "P of it, %", "likeliest in", "likeliest phrase (best seed)"]
    lines = []
    for sentence in of(rows, "sentence"):
        for cell in config.cell:
            found = of(rows, "prompt", prompt=sentence["prompt"], cell=cell)
            [best] = [row for row in found if row["seed"] == best_seed(rows, cell)]
            share = report.spread([100 * row["expected_probability"] for row in found], 1)
            likeliest = sum(row["phrases"][:1] == [row["expected"]] for row in found)
            words = f"{sentence['prompt']} -> {sentence['expected']}"
            said = f"{phrase_label(best['phrases'][0])} {100 * best['phrase_probabilities'][0]:.1f} %"
            standing = standing_of(sentence)
            lines.append([words, own.label(cell), standing, share, f"{likeliest} of {len(found)} seeds", said])
    return report.table(header, lines)


def standing_of(sentence: Mapping[str, Any]) -> str:
    """Whether prompt and continuation stand in the training text, one after the other."""
    if sentence["seen"]:
        return f"seen in training ({sentence['seen']} sentences)"
    return "unseen" if not sentence["prompt_seen"] else f"unseen (its prompt {sentence['prompt_seen']} times)"


def phrase_label(phrase: str) -> str:
    return phrase or "(end)"


def best_seed(rows: list[dict], cell: str) -> int:
    """By validation."""
    return min(of(rows, "chosen", cell=cell), key=lambda row: row["loss"])["seed"]


def notes(config: Any, run, rows: list[dict]) -> str:
    [text] = of(rows, "text")
    origins = "; ".join(
        f"{row['name']} ({row['origin']}), {row['sentences']:,} sentences"
        + (f" of which {row['distinct']:,} differ" if row["distinct"] < row["sentences"] else "")
        + f", {row['words']:,} words and marks"
        for row in of(rows, "origin")
    )
    cut = sum(row["cut"] for row in of(rows, "origin"))
    sizes = "; ".join(
        f"{name}: {row['words']:,} words after the first of a sentence, {row['unknown']:.1%} of them unknown, "
        f"{row['characters']:,} characters"
        for name in sets_of(rows)
        for row in of(rows, "test", set=name, model=NAMES[0])
    )
    tuned = ", ".join(f"{row['model']} {row['strength']:g}" for row in of(rows, "baseline") if row["strength"])
    said = [
        f"trained on: {origins}. All in lower case. V={text['vocabulary']:,}, words that occur {config.at_least} times "
        f"at least; {text['unknown']:.1%} of the training words are unknown."
        + (f" {cut} pieces are parts of longer sentences." if cut else ""),
        f"replies: made by rule of {text['train_templates']} templates for training, {text['validation_templates']} "
        f"for validation ({text['validation_replies']:,} replies, all different) and {text['test_templates']} for the "
        f"test ({text['test_replies']:,}); no template and no name of a person, firm or product is in two parts. Of "
        f"the runs of four words in the test replies {text['shared_runs']:.1%} stand somewhere in the training text.",
        f"held out, looked at once: {sizes}. An unknown word is a miss.",
        "top-1, top-5: words after the first that were the likeliest word, or among five. perplexity: of all words, "
        "marks and ends, an unknown word being <unknown>. saved: 1 - keystrokes / characters, where the keyboard "
        "offers the likeliest word, or three, of those that begin with the letters typed, and taking one costs a key, "
        "its space included (keystroke savings; Trnka & McCoy 2008).",
        f"unigram, bigram, trigram: counted on the same words, each smoothed by the one before; prior counts chosen on "
        f"the validation replies: {tuned}. The network's checkpoint is chosen there too: the best of "
        f"{config.measurements + 1}.",
        "demonstrations: no score rests on them. seen in training: prompt and continuation stand there one after the "
        "other; looked up, not assumed. P: of the whole continuation, given that no unknown word comes.",
        f"±: standard deviation over {seeds_of(config)}. {layers_of(config)}, B={config.batch}, {config.steps} steps.",
        f"machine: {report.machine(run.provenance)}; float32.",
    ]
    return "\n".join(textwrap.fill(one, 118) for one in said)


def layers_of(config: Any) -> str:
    return f"L={config.layers}, H={config.hidden}, readout {config.readout}, dropout {config.dropout:g}"


def seeds_of(config: Any) -> str:
    last = config.seed + config.seeds - 1
    return f"seed {config.seed}" if config.seeds == 1 else f"seeds {config.seed} to {last}"
