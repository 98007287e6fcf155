"""Published files from a mirror and from a server on this machine that answers as well, or as badly, as it is told."""

import gzip
import hashlib
import http.server
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from rnnlab.data import files
from rnnlab.errors import InputError

SEED = int.from_bytes(os.urandom(4), "big")


def noise(size: int) -> bytes:
    return np.random.default_rng([SEED, size]).bytes(size)


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` at every path. ranges: whether it knows them; cut: bytes after which it hangs up; pause: seconds
    between blocks."""

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.cut, self.status, self.pause = content, True, None, None, 0.0
        self.asked = []

    def published(self, name: str = "some.bin", **options) -> files.Published:
        address = f"http://127.0.0.1:{self.server_port}/{name}"
        return files.Published(name, address, hashlib.sha256(self.content).hexdigest(), **options)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        first = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges else 0
        if server.status or (first and first >= len(server.content)):
            self.send_error(server.status or 416)
            return
        body = server.content[first:]
        self.send_response(206 if asked and server.ranges else 200)
        self.send_header("Content-Length", str(len(body)))
        if asked and server.ranges:
            self.send_header("Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        body = body[: server.cut]
        for start in range(0, len(body), 100_000):
            time.sleep(server.pause)
            self.wfile.write(body[start : start + 100_000])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server(noise(3_300_000))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path / "home"))
    monkeypatch.delenv("RNNLAB_DATA_MIRROR", raising=False)
    return tmp_path / "home"


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("RNNLAB_DATA_MIRROR", str(tmp_path / "mirror"))
    return tmp_path / "mirror"


def refused(*published: files.Published) -> str:
    with pytest.raises(InputError) as caught:
        files.find(*published)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_what_the_mirror_has_is_not_downloaded(server, mirror):
    (mirror / "some.bin").write_bytes(server.content)
    assert files.find(server.published()) == (mirror / "some.bin",)
    assert server.asked == []


def test_what_it_lacks_is_downloaded_once(server, mirror, home):
    for _ in range(2):
        (path,) = files.find(server.published())
        assert path == home / "downloads/some.bin" and path.read_bytes() == server.content
    assert server.asked == [None] and not list(home.rglob("*.part")) and not list(mirror.iterdir())


@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_goes_on_where_it_stopped(server, home, ranges):
    server.cut = 1_234_567
    said = refused(server.published())
    assert "expected 3300000 bytes" in said and "given 1234567" in said and "run again" in said
    part = home / "downloads/some.bin.part"
    assert part.read_bytes() == server.content[: server.cut] and not part.with_suffix("").exists()
    server.cut, server.ranges = None, ranges
    (path,) = files.find(server.published())
    assert path.read_bytes() == server.content and not part.exists()
    assert server.asked == [None, "bytes=1234567-"]


def test_a_part_that_is_whole_is_taken(server, home):
    (home / "downloads").mkdir(parents=True)
    (home / "downloads/some.bin.part").write_bytes(server.content)
    (path,) = files.find(server.published())
    assert path.read_bytes() == server.content and server.asked == ["bytes=3300000-"]


@pytest.mark.parametrize("size", [1_000, 5_000_000])
def test_a_part_of_another_version_begins_anew(server, home, size):
    (home / "downloads").mkdir(parents=True)
    (home / "downloads/some.bin.part").write_bytes(noise(size))
    (path,) = files.find(server.published())
    assert path.read_bytes() == server.content and server.asked == [f"bytes={size}-", None]


def test_wrong_contents_are_refused_and_not_kept(server, home):
    published = server.published()
    server.content = server.content[:-1] + bytes([server.content[-1] ^ 1])
    said = refused(published)
    assert published.sha256 in said and hashlib.sha256(server.content).hexdigest() in said
    assert not [path for path in home.rglob("some.bin*")]


def test_an_error_of_the_server_is_named(server, home):
    server.status = 404
    published = server.published()
    said = refused(published)
    assert published.address in said and "404 Not Found" in said and not list(home.rglob("some.bin*"))


@pytest.mark.parametrize("mirrored", [True, False])
def test_no_network_and_no_mirror_says_what_to_put_where(mirrored, tmp_path, monkeypatch):
    where = tmp_path / "mirror"
    if mirrored:
        where.mkdir()
        monkeypatch.setenv("RNNLAB_DATA_MIRROR", str(where))
    place = f"http://127.0.0.1:{closed_port()}/"
    both = [files.Published(name, place + name, "0" * 64) for name in ("one.txt", "two.gz")]
    said = refused(*both)
    assert "one.txt and two.gz" in said and all(one.address in said for one in both) and "refused" in said
    assert (str(where) in said) if mirrored else ("RNNLAB_DATA_MIRROR" in said)


def test_a_mirror_that_is_no_folder_is_refused(tmp_path, monkeypatch, server):
    (tmp_path / "file").touch()
    for given in ("file", "nowhere"):
        monkeypatch.setenv("RNNLAB_DATA_MIRROR", str(tmp_path / given))
        assert refused(server.published()) == f"RNNLAB_DATA_MIRROR: expected a folder, given {tmp_path / given}"
    assert server.asked == []


def test_a_home_that_cannot_be_written_is_refused(tmp_path, monkeypatch, server):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path / "file"))
    assert f"{tmp_path / 'file'}" in refused(server.published())


def test_another_folder_may_hold_it(server, mirror, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "some.bin").write_bytes(server.content)
    assert files.find(server.published(elsewhere=(str(folder),))) == (folder / "some.bin",)


def tar(path: Path, content: dict[str, bytes], level: int) -> None:
    with tarfile.open(path, "w:gz", compresslevel=level) as archive:
        for name, raw in content.items():
            one = tarfile.TarInfo(name)
            one.size = len(raw)
            archive.addfile(one, io.BytesIO(raw))


def published_tar(content: dict[str, bytes]) -> files.Published:
    lines = sorted((name.split("/")[-1], hashlib.sha256(raw).hexdigest()) for name, raw in content.items())
    total = hashlib.sha256("".join(f"{sha256}  {name}\n" for name, sha256 in lines).encode()).hexdigest()
    return files.Published("a.tar.gz", f"http://127.0.0.1:{closed_port()}/", total, files.members(".wav"))


def test_an_archive_packed_again_is_the_same_file(mirror):
    content = {f"sounds/{n}.wav": noise(1000 + n) for n in range(5)}
    for level, folder in ((1, "sounds"), (9, "other")):
        packed = {f"{folder}/{name.split('/')[1]}": raw for name, raw in reversed(content.items())}
        tar(mirror / "a.tar.gz", packed | {"README": noise(level)}, level)
        (path,) = files.find(published_tar(content))
        assert dict(files.untarred(path, ".wav")) == {name.split("/")[1]: raw for name, raw in content.items()}


@pytest.mark.parametrize("wrong", ["changed", "renamed", "missing", "added"])
def test_an_archive_with_another_member_is_not(mirror, wrong):
    content = {f"{n}.wav": noise(1000 + n) for n in range(5)}
    other = dict(content)
    raw = other.pop("3.wav")
    other |= {"changed": {"3.wav": raw[:-1] + b"!"}, "renamed": {"7.wav": raw}, "missing": {}}.get(wrong, content)
    other |= {"9.wav": b""} if wrong == "added" else {}
    tar(mirror / "a.tar.gz", other, 6)
    assert published_tar(content).sha256 in refused(published_tar(content))


@pytest.mark.parametrize("contents", [files.plain, files.gunzipped, files.members(".wav")])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "longer", "folder"])
def test_a_damaged_file_is_refused_with_its_name(mirror, contents, damage):
    raw = noise(50_000)
    path = mirror / "damaged"
    if contents is files.plain:
        path.write_bytes(raw)
    elif contents is files.gunzipped:
        path.write_bytes(gzip.compress(raw))
    else:
        tar(path, {"one.wav": raw}, 6)
    total = hashlib.sha256(b"".join(contents(path))).hexdigest()
    published = files.Published("damaged", f"http://127.0.0.1:{closed_port()}/", total, contents)
    assert files.find(published) == (path,)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 16
    broken = {"truncated": whole[:-1000], "flipped": bytes(flipped), "empty": b"", "longer": whole + b"more"}
    path.unlink()
    path.mkdir() if damage == "folder" else path.write_bytes(broken[damage])
    if damage == "longer" and contents is not files.plain and contents is not files.gunzipped:
        assert files.find(published) == (path,)  # tar ends where its end is marked; the members are right
        return
    said = refused(published)
    assert said.startswith(f"{path}: expected ") and "given " in said
    assert damage == "folder" or total in said


def test_where_things_go(monkeypatch, tmp_path):
    monkeypatch.setenv("RNNLAB_DATA", "relative")
    assert files.root() == Path.cwd() / "relative"
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("RNNLAB_DATA", "~/sets")
    assert files.root() == tmp_path / "user/sets"
    monkeypatch.delenv("RNNLAB_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.root() == tmp_path / "rnnlab/data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.root() == tmp_path / "user/.cache/rnnlab/data"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_progress_is_shown_on_a_terminal_only(server, monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    files.find(server.published())
    assert ("downloading some.bin" in stream.getvalue()) == stream.isatty()
    assert not stream.isatty() or "4/4" in stream.getvalue()


def test_two_at_once_download_once(server):
    server.pause = 0.002
    found = []
    threads = [threading.Thread(target=lambda: found.append(files.find(server.published()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 3 and server.asked == [None]


@pytest.mark.faults
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_a_download_and_started_again(server, home, how):
    server.pause = 0.02
    published = server.published()
    program = f"from rnnlab.data import files; files.find(files.Published(*{tuple(published[:3])!r}))"
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    part = home / "downloads/some.bin.part"
    while not (part.exists() and part.stat().st_size > 1_000_000):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(how)
    assert process.wait() != 0
    had = part.stat().st_size
    assert 0 < had < len(server.content) and not part.with_suffix("").exists()
    server.pause = 0.0
    (path,) = files.find(published)
    assert path.read_bytes() == server.content and server.asked == [None, f"bytes={had}-"]
