"""Free Spoken Digits: six people saying the digits, 8 kHz."""

import io
import re
import wave
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from rnnlab.data.files import Published, members, untarred
from rnnlab.data.sources.source import About, Source, Splits
from rnnlab.errors import InputError

RATE = 8000
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


class SpokenDigits(Source):
    """`audio` [T] int16 at 8 kHz, `digit`, `speaker`, and the `index` of the recording, 0 to 49.

    Officially, indices 0 to 4 are the test set. In order of index, then speaker, then digit: `train[:10%]` is a
    balanced part of the training set.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release, of version 1.0.10 of the recordings."}
    ABOUT = About(
        "3,000 recordings of the digits 0 to 9 in English, by 6 speakers, 50 times each, trimmed of silence.",
        "https://github.com/Jakobovski/free-spoken-digit-dataset",
        "CC BY-SA 4.0",
        "@misc{jackson2018fsdd, author={Zohar Jackson and C{\\'e}sar Souza and Jason Flaks and Yuxin Pan and Hereman "
        "Nicolas and Adhish Thite}, title={Free Spoken Digit Dataset, v1.0.10}, doi={10.5281/zenodo.1342401}, "
        "howpublished={https://github.com/Jakobovski/free-spoken-digit-dataset}}",
    )
    FILES = (
        Published(
            "free-spoken-digit-dataset-1.0.10.tar.gz",
            "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
            "1801eae019c063377d98f831d3f93574f259475df7332bb0e3d1b080fb5e6959",
            members(".wav"),
        ),
    )

    def features(self) -> dict[str, Any]:
        return {
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes"),
            "digit": tfds.features.ClassLabel(num_classes=10),
            "speaker": tfds.features.ClassLabel(names=SPEAKERS),
            "index": np.int32,
        }

    def read(self, path: Path) -> Splits:
        examples = [recording(name, raw) for name, raw in untarred(path, ".wav")]
        examples.sort(key=lambda one: (one["index"], one["speaker"], one["digit"]))
        test = [one for one in examples if one["index"] < 5]
        return {"train": examples[len(test) :], "test": test}


def recording(name: str, raw: bytes) -> dict[str, Any]:
    """The example in a WAV file called DIGIT_SPEAKER_INDEX.wav. InputError unless it is 8 kHz, mono and 16 bits."""
    named = re.fullmatch(r"(\d)_([a-z]+)_(\d+)\.wav", name)
    if named is None or named[2] not in SPEAKERS:
        raise InputError(f"recording: expected a name like 7_{SPEAKERS[0]}_32.wav, given {name}")
    try:
        with wave.open(io.BytesIO(raw)) as file:
            kind = (file.getframerate(), file.getnchannels(), 8 * file.getsampwidth())
            frames, count = file.readframes(file.getnframes()), file.getnframes()
    except (wave.Error, EOFError) as error:
        raise InputError(f"{name}: expected a WAV file, given {len(raw)} bytes ({error or 'truncated'})") from None
    if kind != (RATE, 1, 16) or len(frames) != 2 * count:
        given = f"{kind[0]} Hz, {kind[1]} channels, {kind[2]} bits, {len(frames)} bytes for {count} samples"
        raise InputError(f"{name}: expected {RATE} Hz, 1 channel, 16 bits and all samples, given {given}")
    audio = np.frombuffer(frames, "<i2").astype(np.int16)
    return {
        "audio": audio,
        "digit": np.int64(named[1]),
        "speaker": np.int64(SPEAKERS.index(named[2])),
        "index": np.int32(named[3]),
    }
