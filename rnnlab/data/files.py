"""Published files: found in a mirror or downloaded, and never used before their contents were checked."""

import contextlib
import fcntl
import gzip
import hashlib
import http.client
import os
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, NoReturn

from rnnlab.errors import InputError
from rnnlab.progress import Progress

MIRROR, ROOT = "RNNLAB_DATA_MIRROR", "RNNLAB_DATA"
BLOCK = 1 << 20
# Seconds without a byte before a server is given up.
PATIENCE = 30.0

Contents = Callable[[Path], Iterator[bytes]]


def plain(path: Path) -> Iterator[bytes]:
    """The file's own bytes."""
    with open(path, "rb") as file:
        yield from iter(lambda: file.read(BLOCK), b"")


def gunzipped(path: Path) -> Iterator[bytes]:
    """What a gzip file holds, whoever compressed it."""
    with gzip.open(path, "rb") as file:
        yield from iter(lambda: file.read(BLOCK), b"")


def members(ending: str) -> Contents:
    """The members of a tar archive whose names end so: a line `sha256  name` each, by name, without their folders."""

    def contents(path: Path) -> Iterator[bytes]:
        found = ((name, hashlib.sha256(raw).hexdigest()) for name, raw in untarred(path, ending))
        yield from (f"{total}  {name}\n".encode() for name, total in sorted(found))

    return contents


class Published(NamedTuple):
    """A file that others publish.

    name:      its path below the mirror
    address:   where it is downloaded from
    sha256:    of its contents, so that an archive that was packed again is the same file
    contents:  path -> the bytes that are hashed: `plain`, `gunzipped`, `members(...)`
    elsewhere: folders that may hold it besides the mirror
    """

    name: str
    address: str
    sha256: str
    contents: Contents = plain
    elsewhere: tuple[str, ...] = ()


def root() -> Path:
    """Where downloads and prepared sets go: $RNNLAB_DATA, or rnnlab/data in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(ROOT) or Path(cache) / "rnnlab" / "data").expanduser().absolute()


def find(*published: Published) -> tuple[Path, ...]:
    """Paths of files whose contents are right: from the mirror, from before, or downloaded now.

    Raises InputError with one line for a file that is damaged, truncated or another, and for files that are neither
    in the mirror nor reachable: it says which ones to put where.
    """
    found = [_local(file) for file in published]
    missing = [file for file, path in zip(published, found, strict=True) if path is None]
    for done, file in enumerate(missing):
        try:
            download(file, root() / "downloads")
        except urllib.error.URLError as error:
            _refuse_missing(missing[done:], error)
    return tuple(path or root() / "downloads" / file.name for file, path in zip(published, found, strict=True))


def check(file: Published, path: Path) -> None:
    """Raises InputError unless the contents of `path` are those of `file`."""
    total = hashlib.sha256()
    try:
        for block in file.contents(path):
            total.update(block)
    except OSError as error:
        if error.strerror:  # the operating system's; gzip's own kind of OSError has none
            raise InputError(f"{path}: expected a readable file, given {error.strerror}") from None
        _refuse_damaged(file, path, error)
    except (EOFError, zlib.error, tarfile.TarError) as error:
        _refuse_damaged(file, path, error)
    if total.hexdigest() != file.sha256:
        given = f"{total.hexdigest()}, {path.stat().st_size} bytes in all"
        raise InputError(f"{path}: expected contents with SHA-256 {file.sha256}, given {given} (damaged, or another)")


def untarred(path: Path, ending: str) -> Iterator[tuple[str, bytes]]:
    """Name without folders and bytes of the archive's files whose names end so, in the archive's order."""
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(ending):
                yield PurePosixPath(member.name).name, archive.extractfile(member).read()


def download(file: Published, folder: Path) -> Path:
    """Downloads into NAME.part, going on where an earlier try ended, and renames it once its contents are right.

    Raises InputError for what the server or the disk refuses, for a transfer that stopped (what came is kept), and for
    wrong contents (which are not); URLError where nothing answers.
    """
    path, part = folder / file.name, folder / f"{file.name}.part"
    with _answering(part):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(part):
            if path.exists():  # another process has just brought it
                return path
            resumed = _transfer(file, part)
            try:
                check(file, part)
            except InputError:
                part.unlink()
                if not resumed:
                    raise
                # Its beginning may be of another version: once more, from the start.
                _transfer(file, part)
                check(file, part)
            os.replace(part, path)
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time, the others wait; the lock is a hidden file beside `path` and goes with its process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as file:
        # Some network filesystems have no locks; two processes at once then do the work twice, each by itself.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _local(file: Published) -> Path | None:
    mirror = os.environ.get(MIRROR)
    if mirror and not Path(mirror).is_dir():
        raise InputError(f"{MIRROR}: expected a folder, given {mirror}")
    folders = [*([mirror] if mirror else []), *file.elsewhere, root() / "downloads"]
    for path in (Path(folder) / file.name for folder in folders):
        if path.exists():
            check(file, path)
            return path.absolute()
    return None


def _transfer(file: Published, part: Path) -> bool:
    """Fetches what `part` lacks; whether it held something that was kept."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(file.address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        error.close()
        if have and error.code == 416:  # nothing is left to send: whole already, or too long
            return True
        raise InputError(
            f"{file.name}: expected the file at {file.address}, given HTTP {error.code} {error.reason}; or put it "
            f"{_place()}"
        ) from None
    with response:
        # A server without ranges sends all of it, with status 200.
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-") and response.status == 206
        have = have if resumed else 0
        left = response.headers.get("Content-Length")
        size = None if left is None else have + int(left)
        with open(part, "ab" if resumed else "wb") as out:
            have = _copy(response, out, file, have, size)
    if size is not None and have < size:
        raise InputError(f"{file.name}: expected {size} bytes from {file.address}, given {have}; run again to go on")
    return resumed


def _copy(source: http.client.HTTPResponse, out: IO[bytes], file: Published, have: int, size: int | None) -> int:
    with Progress(-(-(size or have) // BLOCK), f"downloading {file.name} in MiB") as progress:
        for _ in range(have // BLOCK):
            progress.step()
        while block := source.read(BLOCK):
            out.write(block)
            have += len(block)
            progress.step()
    return have


@contextlib.contextmanager
def _answering(part: Path) -> Iterator[None]:
    try:
        yield
    except urllib.error.URLError:
        raise
    except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{part.stem}: expected all of it, given {reason}; what came is kept, run again") from None
    except OSError as error:
        raise InputError(f"{error.filename or part}: {error.strerror or error}") from None


def _refuse_damaged(file: Published, path: Path, error: Exception) -> NoReturn:
    what = " ".join(str(error).split()) or type(error).__name__
    given = f"{path.stat().st_size} bytes that are damaged or truncated ({what})"
    raise InputError(f"{path}: expected contents with SHA-256 {file.sha256}, given {given}") from None


def _place() -> str:
    where = os.environ.get(MIRROR)
    return f"in {where}" if where else f"in a folder that {MIRROR} names"


def _refuse_missing(missing: list[Published], error: urllib.error.URLError) -> NoReturn:
    names = " and ".join(file.name for file in missing)
    reason = " ".join(str(error.reason).split())
    addresses = " and ".join(file.address for file in missing)
    given = f"given no such file and no network ({reason})"
    raise InputError(f"expected {names} {_place()}, {given}: put it there, from {addresses}") from None
