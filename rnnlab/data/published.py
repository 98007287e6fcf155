"""Published data sets opened by name: rnnlab's own, or one of TFDS as `tfds:NAME`.

    from rnnlab.data import published
    tweets = published.open("wnut17", "train")
    tweets.count, tweets.examples[0]["tokens"]

What is prepared lies below `files.root()`, and is there whole or not at all.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from rnnlab.data import files
from rnnlab.errors import InputError
from rnnlab.flags import nearest
from rnnlab.progress import track

# Written last into what is prepared: a folder without it is not whole.
CONTENT = "content.json"
CHUNK = 256
STOCK = "tfds:"

Builder = Any  # a tfds.core.DatasetBuilder; TFDS takes half a second to import, and is imported on use


class DataSet(NamedTuple):
    """One split of a published data set.

    examples: random access to decoded examples, each a dict of NumPy arrays, strings and lists of strings
    sha256:   of the decoded examples, in their order
    classes:  the names behind the ids of each column that has some
    origin:   "real": made by people, not by a program; "TFDS" for a stock one, which may be either
    """

    examples: Sequence[dict[str, Any]]
    name: str
    version: str
    split: str
    count: int
    sha256: str
    classes: dict[str, tuple[str, ...]]
    citation: str
    licence: str
    origin: str


class Examples(Sequence):
    """A TFDS data source whose text is str and whose numbers are NumPy's, of the types that the features say."""

    def __init__(self, builder: Builder, split: str):
        self._source, self._folder = builder.as_data_source(split), Path(builder.data_path)
        self._decoders = {name: _decoder(feature) for name, feature in builder.info.features.items()}

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, number: Any) -> dict[str, Any]:
        place = range(len(self))[number]  # IndexError here, before TFDS sees a negative or a too large one
        with self._readable():
            record = self._source[place]
        return self._decoded(record)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # Many records at a time take less each; one alone takes longer that way.
        for first in range(0, len(self), CHUNK):
            with self._readable():
                records = self._source.__getitems__(list(range(first, min(first + CHUNK, len(self)))))
            yield from map(self._decoded, records)

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # ArrayRecord's, for a file that is damaged, truncated or gone
            _refuse_prepared(self._folder, error)

    def _decoded(self, example: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._decoders[name](value) for name, value in example.items()}


def open(name: str, split: str) -> DataSet:
    """The data set `name`, prepared on first use; `split` may be sliced as TFDS does: "train[:10%]".

    Raises InputError with one line: a name or split that there is none of (with the nearest), files that are missing
    or damaged, no network, no room, a builder that needs the extra [tf].
    """
    if name.startswith(STOCK):
        from rnnlab.data import stock

        make, home = stock.builder(name.removeprefix(STOCK)), files.root() / "tfds"
    else:
        make, home = _own(name, split), files.root()
    builder, content = _prepared(name, make, home)
    examples = _examples(name, builder, split, content)
    whole = content.get(split, {})
    return DataSet(
        examples=examples,
        name=name,
        version=str(builder.version),
        split=split,
        count=len(examples),
        sha256=whole.get("sha256") or digest(examples),
        classes=_classes(builder.info.features),
        citation=builder.info.citation,
        licence=builder.info.redistribution_info.license.strip() or "see the citation",
        origin="TFDS" if name.startswith(STOCK) else "real",
    )


def digest(examples: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of decoded examples: of names, types, shapes and values, in their order."""
    total = hashlib.sha256()
    for example in examples:
        line = json.dumps(example, sort_keys=True, ensure_ascii=False, default=_line) + "\n"
        total.update(line.encode("utf-8", "surrogatepass"))
    return total.hexdigest()


def _own(name: str, split: str) -> Callable[[Path], Builder]:
    from rnnlab.data.sources import SOURCES

    if name not in SOURCES:
        raise InputError(f"no data set is called {name!r}{nearest(name, list(SOURCES))} (TFDS's own are tfds:NAME)")
    source = SOURCES[name]
    configs = [config.name for config in source.BUILDER_CONFIGS]
    options = {"file_format": "array_record"}
    if configs:
        (wanted,) = re.findall(r"^\w*", split)
        if wanted not in configs:
            raise InputError(f"{name}: no split is called {wanted!r}{nearest(wanted, configs)}")
        options["config"] = wanted
    return lambda home: source(data_dir=str(home), **options)


def _prepared(name: str, make: Callable[[Path], Builder], home: Path) -> tuple[Builder, dict[str, Any]]:
    """The builder of what is prepared, and count and SHA-256 by split."""
    with _refusing(name):
        builder = make(home)
        folder = Path(builder.data_path)
        if not (folder / CONTENT).exists():
            with files.locked(folder):
                if not (folder / CONTENT).exists():  # no other process has just prepared it
                    _prepare(name, make, folder, home / ".preparing" / folder.relative_to(home))
            builder = make(home)
        try:
            return builder, json.loads((folder / CONTENT).read_text(encoding="utf-8"))
        except ValueError:
            _refuse_prepared(folder, f"no JSON in {CONTENT}")


def _prepare(name: str, make: Callable[[Path], Builder], folder: Path, work: Path) -> None:
    """Everything happens in `work`; what an earlier process left there when it was killed is removed."""
    shutil.rmtree(work, ignore_errors=True)
    if folder.exists():
        raise InputError(f"{folder}: expected {CONTENT} in a prepared data set, given none; remove the folder")
    try:
        builder = make(work)
        with _quiet(name):
            builder.download_and_prepare(file_format="array_record", download_dir=str(files.root() / "downloads"))
        _describe(name, builder)
        os.replace(builder.data_path, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _describe(name: str, builder: Builder) -> None:
    """Reads back all that was written, which also shows that it can be read."""
    content = {}
    for split, info in builder.info.splits.items():
        examples = Examples(builder, split)
        sha256 = digest(track(examples, len(examples), f"checking {name} {split}"))
        content[split] = {"count": info.num_examples, "sha256": sha256}
    (Path(builder.data_path) / CONTENT).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _examples(name: str, builder: Builder, split: str, content: Mapping[str, Any]) -> Examples:
    try:
        examples = Examples(builder, split)
    except ValueError as error:
        if split in content:
            _refuse_prepared(Path(builder.data_path), error)
        wrong = split.partition("[")[0]
        shape = "" if wrong not in content else "; a slice is written train[:10%] or train[100:200]"
        raise InputError(f"{name}: no split is called {split!r}{shape or nearest(wrong, list(content))}") from None
    except Exception as error:
        _refuse_prepared(Path(builder.data_path), error)
    if split in content and len(examples) != content[split]["count"]:
        _refuse_prepared(Path(builder.data_path), f"{len(examples)} of {content[split]['count']} examples")
    return examples


def _refuse_prepared(folder: Path, given: Any) -> NoReturn:
    problem = (str(given).strip() or type(given).__name__).splitlines()[0]
    raise InputError(f"{folder}: expected a prepared data set, given {problem}; remove the folder") from None


@contextlib.contextmanager
def _refusing(name: str) -> Iterator[None]:
    """One line for what the system refuses, as ArrayRecord says it too, and for all that a stock builder raises."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{name}: {error.filename or files.root()}: {error.strerror or error}") from None
    except Exception as error:
        if name.startswith(STOCK) and isinstance(error, ImportError):
            from rnnlab.data import stock

            raise InputError(stock.lacking(name.removeprefix(STOCK), error)) from None
        if not isinstance(error, RuntimeError) and not name.startswith(STOCK):
            raise
        said = (str(error).strip() or "no message").splitlines()[0]
        if os.strerror(errno.ENOSPC) in said:  # ArrayRecord's way to say so
            raise InputError(f"{name}: {files.root()}: {os.strerror(errno.ENOSPC)}") from None
        raise InputError(f"{name} could not be prepared: {type(error).__name__}: {said}") from error


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """TFDS prints to standard output, and draws its bars into logs; a stock set's are welcome on a terminal."""
    import tensorflow_datasets as tfds

    if not (name.startswith(STOCK) and sys.stderr.isatty()):
        tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


def _decoder(feature: Any) -> Callable[[Any], Any]:
    import tensorflow_datasets as tfds

    inner = feature.feature if isinstance(feature, tfds.features.Sequence) else None
    if isinstance(feature, tfds.features.Text):
        return _text
    if isinstance(inner, tfds.features.Text):
        return lambda values: [_text(value) for value in values]
    numbers = (tfds.features.ClassLabel, tfds.features.Scalar, tfds.features.Tensor)
    if type(feature) in numbers or (type(inner) in numbers and inner.shape == ()):
        return lambda value: np.asarray(value, feature.np_dtype if inner is None else inner.np_dtype)
    return lambda value: value


def _text(value: bytes | str) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _classes(features: Any) -> dict[str, tuple[str, ...]]:
    inner = {name: getattr(feature, "feature", feature) for name, feature in features.items()}
    return {name: tuple(one.names) for name, one in inner.items() if getattr(one, "names", None)}


def _line(value: Any) -> Any:
    """What JSON has no word for."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    array = np.asarray(value)
    return {"type": array.dtype.str, "shape": array.shape, "bytes": array.tobytes().hex()}
