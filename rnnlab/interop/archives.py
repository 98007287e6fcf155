"""Archives of named arrays, .npz and .safetensors. Nothing is ever unpickled: a pickle runs what code it likes."""

import os
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

SAVE = "save as .safetensors or .npz"
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")
# What a format holds. NumPy writes bfloat16 as two bytes of nothing in particular, and says no word of it.
INTEGERS = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
COMMON = ["bool", *INTEGERS, "float16", "float32", "float64"]
TYPES = {".npz": [*COMMON, "complex64", "complex128"], ".safetensors": [*COMMON, "bfloat16"]}


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Every array of a .npz or .safetensors file by its name.

    Raises ValueError for another kind of file, a pickle in one, and one that is broken; ImportError where the package
    safetensors is needed and missing; OSError where the file cannot be read.
    """
    path = Path(path)
    return _read_safetensors(path) if _kind(path) == ".safetensors" else _read_npz(path)


def write(path: str | Path, arrays: Mapping[str, Any]) -> None:
    """Named arrays (NumPy's or JAX's) as a .npz or .safetensors file, whole or not at all.

    A file of that name stays what it was until the new one is on the disk. Text goes into .npz only, bfloat16 into
    .safetensors only.

    Raises ValueError for another kind of file, and for arrays that it cannot hold; ImportError where the package
    safetensors is needed and missing.
    """
    path = Path(path)
    kind = _kind(path)
    save = _write_npz if kind == ".npz" else _safetensors(path).numpy.save_file
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.name not in TYPES[kind] and (kind, array.dtype.kind) != (".npz", "U"):
            raise ValueError(f"{path}: expected {name} of a type that {kind} can hold, got {array.dtype}")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        save(arrays, temporary)
        temporary.chmod(mode)  # safetensors makes a file that its owner alone can read
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _kind(path: Path) -> str:
    if path.suffix in TYPES:
        return path.suffix
    why = "a pickle, which can run any code and is never read" if path.suffix in PICKLES else path.suffix or "no suffix"
    raise ValueError(f"{path}: expected .npz or .safetensors, got {why}; {SAVE}")


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy"): _member(archive, name) for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ValueError(f"{path}: expected plain arrays, got: {error}; {SAVE}") from error


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    if not name.endswith(".npy"):
        raise ValueError(f"{name} is no array")
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _write_npz(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """As np.savez, which has no way to write an array named `file`, and adds a suffix."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    safetensors = _safetensors(path)
    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: expected a safetensors file, got: {error}; {SAVE}") from error


def _safetensors(path: Path) -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(f"{path}: needs the package safetensors; pip install 'rnnlab[interop]'") from error
    return safetensors
