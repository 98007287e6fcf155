"""Published results on images read as sequences, to stand beside ours: accuracies on the official test splits, in %.

`seen` names what was read in a paper's text, in published code or in its logs (parameters: counted from the code); all
else in a row is from memory, and a table that prints it has to say so.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """One published result.

    images, order, filler: as the flags of `sequential_images` name them
    units:    hidden units. parameters: those that are trained, the readout's with them. None where we do not know
    accuracy: %, on all test images
    data:     how many images trained and how many chose, and what else differs from ours
    source:   where it stands
    seen:     the fields that were read there
    """

    images: str
    order: str
    filler: str
    model: str
    units: int | None
    parameters: int | None
    epochs: int | None
    accuracy: float
    data: str
    source: str
    seen: tuple[str, ...]


ALL = ("units", "parameters", "epochs", "accuracy", "data")
CHOSE = "57,000 trained, 3,000 chose"
BY_TEST = "60,000 trained, none chose: the code prints the epoch that is best on the test split"
ONE_NOISE = "one draw of noise for all images, 1,000 steps in all"

ARJOVSKY = "Arjovsky, Shah & Bengio 2016, section 5.3"
LE = "Le, Jaitly & Hinton 2015, section 4.2"
VOELKER = "Voelker, Kajic & Eliasmith 2019, and its notebook psMNIST-standard"
LEZCANO = "Lezcano-Casado & Martinez-Rubio 2019, and its code, 2_mnist.py"
CORNN = "Rusch & Mishra 2021, and its code and logs"
LEM = "Rusch, Mishra, Erichson & Mahoney 2022, and its code and logs"

# fmt: off
PUBLISHED = (
    Published("mnist", "pixels", "silence", "IRNN", 100, None, None, 97.0, "", LE, ("accuracy",)),
    Published("mnist", "permuted", "silence", "IRNN", 100, None, None, 82.0, "", LE, ("accuracy",)),
    Published("mnist", "pixels", "silence", "LSTM", 128, None, None, 98.2, "", ARJOVSKY, ()),
    Published("mnist", "permuted", "silence", "LSTM", 128, None, None, 88.0, "", ARJOVSKY, ()),
    Published("mnist", "pixels", "silence", "uRNN", 512, None, None, 95.1, "", ARJOVSKY, ()),
    Published("mnist", "permuted", "silence", "uRNN", 512, None, None, 91.4, "", ARJOVSKY, ()),
    Published("mnist", "pixels", "silence", "expRNN", 512, None, 70, 98.7, BY_TEST, LEZCANO, ("epochs", "data")),
    Published("mnist", "permuted", "silence", "expRNN", 512, None, 70, 96.6, f"{BY_TEST}; our permutation",
              LEZCANO, ("epochs", "data")),
    Published("mnist", "permuted", "silence", "LMU", 212, 102_027, 10, 97.15,
              "50,000 trained, 10,000 chose; another permutation; 256 units of memory besides", VOELKER, ALL),
    Published("mnist", "pixels", "silence", "coRNN", 256, 134_154, 120, 99.4, "57,000 trained, none chose",
              CORNN, ALL),
    Published("mnist", "permuted", "silence", "coRNN", 256, 134_154, 120, 97.34, f"{CHOSE}; another permutation",
              CORNN, ALL),
    Published("mnist", "pixels", "silence", "LEM", 128, 68_362, 120, 99.5, CHOSE, LEM, ALL),
    Published("mnist", "permuted", "silence", "LEM", 128, 68_362, 120, 96.6, f"{CHOSE}; another permutation", LEM, ALL),
    Published("tfds:cifar10", "rows", "same_noise", "coRNN", 128, 46_474, 120, 59.0,
              f"47,000 trained, 3,000 chose; {ONE_NOISE}; its code's page says 58.2", CORNN, ALL),
    Published("tfds:cifar10", "rows", "same_noise", "LEM", 128, 117_002, 120, 60.5,
              f"48,000 trained, 2,000 chose; {ONE_NOISE}", LEM, ALL),
)
# fmt: on


def beside(order: str, filler: str) -> tuple[Published, ...]:
    """The results to print beside ours: of this order, with nothing after the image or with noise, whatever the images
    and whichever the noise. Those of other images are no yardstick; a table says which they are of."""
    after = filler != "silence"
    return tuple(row for row in PUBLISHED if row.order == order and (row.filler != "silence") == after)
