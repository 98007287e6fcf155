"""TFDS's own data sets, and what their builders need: most of them TensorFlow, by the extra [tf]."""

import importlib.util
import inspect
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rnnlab.errors import InputError
from rnnlab.flags import nearest

EXTRA = "needs the extra [tf]: pip install 'rnnlab[tf]'"
# What TFDS cannot do without TensorFlow, as a builder's source says it: better told before a download than after.
NEEDS_TENSORFLOW = re.compile(r"\btf\.|iter_archive|features\.(Audio|Image|LabeledImage|Video)")
EXTRACTS, ARCHIVE = re.compile("extract"), re.compile(r"\.(gz|tgz|zip|tar|bz2|xz)\b")
ADDRESS = re.compile(r"https?://[^\s\"']+\.\w+")
PATIENCE = 10.0


def builder(name: str) -> Callable[[Path], Any]:
    """`home -> builder` for NAME, NAME/CONFIG or NAME:VERSION of TFDS, or of a builder that was imported before.

    Raises InputError for what there is none of, with the nearest name, and where it needs the extra [tf]. What it
    makes raises InputError in preparation too, before TFDS tries for minutes to reach a server that does not answer.
    """
    import tensorflow_datasets as tfds

    def make(home: Path) -> Any:
        try:
            made = tfds.builder(name, data_dir=str(home), file_format="array_record")
        except tfds.core.DatasetNotFoundError:
            raise InputError(_unknown(name)) from None
        except (AssertionError, ValueError, TypeError) as error:
            # After the name and the arguments, which TFDS puts before every reason.
            reason = str(error).rpartition('}": ')[2].strip() or type(error).__name__
            raise InputError(f"tfds:{name}: {reason.splitlines()[0]}") from None
        if not Path(made.data_path).exists():
            _check_preparable(name, made)
        return made

    return make


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed; it is not imported."""
    try:
        return importlib.util.find_spec("tensorflow") is not None
    except ValueError:  # None stands in sys.modules, so that nothing can import it
        return False


def _unknown(name: str) -> str:
    import tensorflow_datasets as tfds

    stem = re.split(r"[/:]", name)[0]
    package = Path(tfds.__file__).parent
    places = (f"url_checksums/{stem}.txt", f"*/{stem}.py", f"*/{stem}/__init__.py")
    # Without h5py, which TensorFlow brings along, TFDS knows nothing of the builders in these places.
    if re.fullmatch(r"\w+", stem) and any(any(package.glob(place)) for place in places):
        return f"tfds:{name}: its builder {EXTRA}"
    return f"tfds:{name}: TFDS has no such data set{nearest(stem, tfds.list_builders(with_community_datasets=False))}"


def lacking(name: str, error: ImportError) -> str:
    """What to install for a builder that cannot import something."""
    said = " ".join(str(error).split())
    return f"tfds:{name}: its builder {EXTRA}" if not has_tensorflow() else f"tfds:{name}: its builder lacks {said}"


def _check_preparable(name: str, made: Any) -> None:
    module = sys.modules[type(made).__module__]
    source = inspect.getsource(module) if module.__name__.startswith("tensorflow_datasets.") else ""
    # Older builders keep no list of their addresses.
    addresses = list(made.url_infos or ADDRESS.findall(source))
    archives = any(map(ARCHIVE.search, addresses))
    if not has_tensorflow() and (NEEDS_TENSORFLOW.search(source) or (archives and EXTRACTS.search(source))):
        raise InputError(f"tfds:{name}: its builder {EXTRA}")
    _check_network(name, addresses[:3], made.data_path)


def _check_network(name: str, addresses: Sequence[str], folder: Any) -> None:
    """Refuses only where none of them answers: those found in a source may be of a page that is gone."""
    for address in addresses:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE).close()
            return
        except urllib.error.HTTPError as error:
            error.close()  # an answer all the same; TFDS says what is wrong with it
            return
        except OSError as error:
            reason = " ".join(str(getattr(error, "reason", error)).split())
    if addresses:
        put = f"prepare it where there is one and copy it to {folder}"
        raise InputError(f"tfds:{name}: no network ({reason}), expected {addresses[-1]}; {put}")
