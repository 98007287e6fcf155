"""Which cell can say what an image was after it has read it row by row, or pixel by pixel?

Real images read as sequences: by rows (28 steps), by pixels (784) or by pixels in one fixed permutation (Le, Jaitly &
Hinton 2015), then silence or noise for --length steps; the class is asked at the last one. A tenth of each class of the
training split is held out for validation; the official test split is looked at once.

    python launch.py sequential_images                                    # Fashion-MNIST by rows
    python launch.py sequential_images --images=mnist_test                # where MNIST's training files are not at hand
    python launch.py sequential_images --filler=noise --length=100        # noise-padded rows
    python launch.py sequential_images --preset=sequential_mnist          # published scale: days on two cores
"""

import dataclasses
import sys

from experiments import _benchmark
from experiments._published import Published, beside
from rnnlab import cli
from rnnlab.tasks import Task
from rnnlab.tasks.images import FILLERS, ORDERS, PERMUTATION, images, open_images, permuted


@dataclasses.dataclass(frozen=True)
class Config(_benchmark.Config):
    images: str = cli.flag(
        "fashion_mnist", "fashion_mnist, mnist, mnist_test (its test images alone), tfds:cifar10, ..."
    )
    order: str = cli.flag("rows", "how an image is read", choices=tuple(ORDERS))
    permutation: int = cli.flag(PERMUTATION, "seed of the one permutation of --order=permuted", low=0, high=2**32 - 1)
    filler: str = cli.flag("silence", "what follows the image", choices=tuple(FILLERS))
    length: int = cli.flag(0, "steps after the image", low=0)
    test_length: tuple[int, ...] = cli.flag((0, 28), "the same in a test", low=0)
    batch: int = cli.flag(128, "images in a training step, B", low=1)
    steps: int = cli.flag(844, "training steps; 421 are an epoch of 54,000 images", low=1)
    measurements: int = cli.flag(4, "validations, evenly over training", low=1)
    examples: int = cli.flag(2000, "images in a validation", low=1)
    tested: int = cli.flag(10_000, "test images of each length", low=1)


_MNIST = dict(images="mnist", hidden=128, batch=128, steps=42_100, examples=6000, test_length=(0,))
PRESETS = {
    "sequential_mnist": dict(order="pixels", **_MNIST),
    "permuted_mnist": dict(order="permuted", **_MNIST),
    "noise_padded_cifar10": dict(
        images="tfds:cifar10", filler="same_noise", length=968, test_length=(968,), hidden=128, batch=100, steps=54_000
    ),
}


def task(config: Config) -> Task:
    order = permuted(config.permutation) if config.order == "permuted" else ORDERS[config.order]
    return images(open_images(config.images), order, FILLERS[config.filler])


def said(config: Config, rows: list[dict]) -> list[str]:
    """Others' results, and what differs."""
    others = beside(config.order, config.filler)
    if not others:
        return ["published: nothing in this order of reading is known to us."]
    head = (
        "published, accuracy in % on other data than these unless the name is the same; * from memory, all else seen "
        "in the source. They differ from ours in units, data and epochs, as said:"
    )
    return [head, *map(published, others)]


def published(row: Published) -> str:
    def mark(field: str, value: object, words: str) -> str:
        return "" if value in (None, "") else f", {words.format(value)}{'' if field in row.seen else '*'}"

    star = "" if "accuracy" in row.seen else "*"
    return (
        f"  {row.images} {row.order}: {row.model} {row.accuracy:g}{star}{mark('units', row.units, '{} units')}"
        f"{mark('parameters', row.parameters, '{:,} parameters')}{mark('epochs', row.epochs, '{} epochs')}"
        f"{mark('data', row.data, '{}')} ({row.source})"
    )


benchmark = _benchmark.Benchmark("Images read as sequences", Config, task, said=said)
inputs, run, table, figure = benchmark.inputs, benchmark.run, benchmark.table, benchmark.figure
RESUMES = True


if __name__ == "__main__":
    sys.exit(cli.main(sys.modules[__name__], sys.argv[1:]))
