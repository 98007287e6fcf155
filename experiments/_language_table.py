"""The table of `language_model`, from its stored rows."""

import math
import textwrap
from typing import Any

from rnnlab import report
from rnnlab.cells import own

WIDTH = 118


def table(config: Any, run) -> str:
    rows = run.rows()
    [data] = [row for row in rows if row["kind"] == "data"]
    header = ["model", "parameters", "nats", "bits", "perplexity", "best step", "ninth tenth, nats"]
    lines = [baseline(name, data[key]) for name, key in baselines(config)]
    lines += [model(rows, own.label(cell)) for cell in config.cell]
    written = "\n".join(sample(config, row) for row in rows if row["kind"] == "written" and row["text"])
    return "\n\n".join(filter(None, [report.table(header, lines), written, notes(config, run, rows, data)]))


def baselines(config: Any) -> list[tuple[str, str]]:
    return [("unigram", "unigram"), ("bigram", "bigram"), (f"Kneser-Ney {config.order}-gram", "kneser_ney")]


def baseline(name: str, nats: float) -> list[str]:
    return [name, "", f"{nats:.3f}", f"{nats / math.log(2):.3f}", f"{math.exp(nats):.2f}", "", ""]


def model(rows: list[dict], cell: str) -> list[str]:
    test, chosen = ([row for row in rows if row["kind"] == kind and row["cell"] == cell] for kind in ("test", "chosen"))
    nats = [row["loss"] for row in test]
    return [
        cell,
        f"{chosen[0]['parameters']:,}",
        report.interval(nats, 3, low=0),
        report.interval([loss / math.log(2) for loss in nats], 3, low=0),
        report.interval([math.exp(loss) for loss in nats], 2, low=1),
        ", ".join(f"{row['step']:,}" for row in chosen),
        report.spread([row["loss"] for row in chosen], 3),
    ]


def sample(config: Any, row: dict[str, Any]) -> str:
    head = f"written by {row['cell']}, seed {row['seed']}, at temperature {row['temperature']:g} (nothing picked out):"
    lines = [part for line in row["text"].splitlines() for part in textwrap.wrap(line, WIDTH) or [""]]
    return "\n".join([head, *(f"  | {line}".rstrip() for line in lines)])


def notes(config: Any, run, rows: list[dict], data: dict[str, Any]) -> str:
    unit = config.level.removesuffix("s")
    unknown = f" {data['unknown']:.2%} of the last tenth are none of them: one id, UNKNOWN." if data["unknown"] else ""
    spaces = "; spaces and line ends are not predicted" if config.level == "words" else ""
    said = [
        f"nats, bits, perplexity: of the {data['test']:,} {config.level} of the last tenth but the first, looked at "
        f"once; {over_seeds(config)}. best step: of the "
        f"lowest loss on the ninth tenth ({data['validation']:,} {config.level}) among {config.measurements} "
        f"evaluations. Models read a tenth as up to 32 rows from zero states. Baselines are counted on the same eight "
        f"tenths ({data['train']:,} {config.level}).",
        f"data: {data['origin']} text, {data['name']}; V={data['vocabulary']:,} {config.level} that occur "
        f"{config.at_least} times or more in training{spaces}.{unknown}",
        f"training: {config.steps:,} steps of {config.batch} rows of {config.length} {config.level} "
        f"({config.steps * config.batch * config.length / data['train']:.1f} epochs), gradient cut between them, "
        f"{config.optimiser} at {config.learning_rate:g} ({config.schedule}), clipped at {config.clip:g}; "
        f"{config.layers} layer(s) of {config.hidden} units, E={config.embedding or config.hidden}, {config.readout} "
        f"readout, dropout {config.dropout:g} for whole rows, {config.weight_dropout:g} of recurrent weights. "
        f"{minutes(run)}",
        f"machine: {report.machine(run.provenance)}; {config.devices} device(s); float32. Loss in nats a {unit}.",
    ]
    return "\n".join(textwrap.fill(one, WIDTH) for one in said)


def minutes(run) -> str:
    """What the training of each seed took; of a run that was resumed, its last part."""
    taken = [row["seconds"] / 60 for row in run.rows("timings")]
    return f"Training alone took {min(taken):.1f} to {max(taken):.1f} minutes a seed." if taken else ""


def seeds_of(config: Any) -> str:
    last = config.seed + config.seeds - 1
    return f"seed {config.seed}" if config.seeds == 1 else f"seeds {config.seed} to {last}"


def over_seeds(config: Any) -> str:
    several = f"mean over {seeds_of(config)} and its 95 % interval (Student's t over the seeds)"
    return several if config.seeds > 1 else f"{seeds_of(config)} alone"
