"""How a process begins and how it ends: what must be set before Python starts, and what a signal does.

Begins: `restart` replaces the process by itself, once, with the settings that are only read as a process starts.

Ends: SIGINT and SIGTERM. Python runs a signal's handler between two of its own instructions, so one that comes while
XLA compiles for a minute is heard a minute later. A `Stop` therefore has two ears: the handler, and a thread that the
signal wakes at once. What they do depends on where the program stands:

    anywhere             the handler raises `Stopped` there, and the program unwinds
    in `deferred()`      the handler only notes it; whoever deferred it saves first, and stops then
    in `allowed()`       within the latter: a wait, a compilation. All that matters is saved, so `Stopped` is raised

The thread ends the process by itself where the program does not answer: after `SHORT` seconds where the handler could
not run and nothing is deferred (a compilation), after `LONG` where it was noted and nothing came of it, and at the
second Ctrl-C. It calls what `before_end` registered, newest first (a save under way is finished, the run is marked).
"""

import contextlib
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rnnlab.errors import InputError

HUGE_PAGES = "glibc.malloc.hugetlb"
HOST_DEVICES = "--xla_force_host_platform_device_count"
RESTARTED = "RNNLAB_RESTARTED"

# 75 is EX_TEMPFAIL: start it again. A batch system puts such a job back into its queue.
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 75}
SHORT, LONG = 2.0, 20.0


def restart(argv: Sequence[str]) -> None:
    """Replaces this process by itself with what `argv` needs set; does nothing where it is, or with --norestart.

    Huge pages (Linux; not with --nohuge_pages): XLA on CPU takes its buffers from malloc and gives them back after each
    call, so that with small pages a training step spends a quarter of its time in page faults.

    One thread for OpenBLAS, which solves and decomposes for JAX on a CPU, unless the environment says otherwise: its
    threads spin after each call, and a training step with one solve took up to five times as long.

    --devices=N: XLA shows the CPU as N devices. Raises InputError where N is no number, or where XLA_FLAGS already asks
    for fewer.
    """
    words = {argument.lstrip("-").lower() for argument in argv if argument.startswith("-")}
    again = os.environ.get(RESTARTED, "").split(" ")[0] == str(os.getpid())
    if again or {"norestart", "restart=false"} & words:
        return
    pages = sys.platform == "linux" and not {"nohuge_pages", "huge_pages=false"} & words
    new = _settings(os.environ, _devices(argv), pages)
    if not new:
        return
    said = " ".join(f"{name}={value}" for name, value in new.items())
    # The number that a process keeps through exec tells it from a child, which inherits the rest.
    os.environ.update(new, **{RESTARTED: f"{os.getpid()} {said}"})
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def restarted() -> str:
    """The settings that this process gave itself as it began again, NAME=value with spaces between; "" for none."""
    number, _, said = os.environ.get(RESTARTED, "").partition(" ")
    return said if number == str(os.getpid()) else ""


def huge_pages() -> bool:
    """Whether glibc was told, when this process began, to put large buffers on huge pages."""
    return HUGE_PAGES in os.environ.get("GLIBC_TUNABLES", "")


def _settings(environment: Mapping[str, str], devices: int | None, pages: bool) -> dict[str, str]:
    """What is not yet as it should be in the environment."""
    new = {}
    if pages and HUGE_PAGES not in (others := environment.get("GLIBC_TUNABLES", "")):
        new["GLIBC_TUNABLES"] = f"{others}:{HUGE_PAGES}=1" if others else f"{HUGE_PAGES}=1"
    flags = environment.get("XLA_FLAGS", "")
    asked = re.findall(rf"{HOST_DEVICES}=(\d+)", flags)
    if devices is not None and asked and int(asked[-1]) < devices:
        raise InputError(f"flag --devices={devices}: expected at most the {asked[-1]} that XLA_FLAGS asks for")
    if devices is not None and devices > 1 and not asked:
        new["XLA_FLAGS"] = f"{flags} {HOST_DEVICES}={devices}".strip()
    # Alone it is not worth a second start: half a second.
    return new | ({} if not new or "OPENBLAS_NUM_THREADS" in environment else {"OPENBLAS_NUM_THREADS": "1"})


def _devices(argv: Sequence[str]) -> int | None:
    for place, argument in enumerate(argv):
        name, given, value = argument.partition("=")
        if name in ("-devices", "--devices"):
            value = value if given else "".join(argv[place + 1 : place + 2])
            if not re.fullmatch(r"0*[1-9]\d{0,3}", value):
                raise InputError(f"flag --devices={value}: expected an integer from 1 to 9999")
            return int(value)
    return None


class Stopped(KeyboardInterrupt):
    """SIGINT or SIGTERM: raised where the program stood, or where it had saved what it was doing."""


class Stop:
    """Whether this process was asked to stop; `with Stop() as stop` listens for SIGINT and SIGTERM until its end.

    Listens only in the main thread, and not for a signal that whoever started us ignores (nohup, a shell's
    background). Not entered, it is never asked. `say` is told the signal before the process is ended here.
    """

    def __init__(self, say: Callable[[int], None] = lambda number: None):
        self.asked: int | None = None
        self._say, self._last = say, []
        self._deferred = self._answered = False
        self._moved = time.monotonic()

    def __enter__(self) -> "Stop":
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in STATUS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        if self._before:
            self._ear, self._mouth = os.pipe()
            os.set_blocking(self._mouth, False)
            self._fd_before = signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            signal.set_wakeup_fd(self._fd_before)
            os.close(self._mouth)
            self._thread.join()
            os.close(self._ear)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """A signal within is only noted; raises `Stopped` at the end of the block if there was one."""
        with self._moving(deferred=True):
            yield
        self._check()

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Within `deferred`: a stop may happen here, for nothing would be lost; raises `Stopped` if there was one."""
        with self._moving(deferred=False):
            self._check()
            yield

    @contextlib.contextmanager
    def before_end(self, action: Callable[[], Any]) -> Iterator[None]:
        """`action` is called, by another thread, should the process be ended within this block."""
        self._last.append(action)
        try:
            yield
        finally:
            self._last.remove(action)

    @contextlib.contextmanager
    def _moving(self, deferred: bool) -> Iterator[None]:
        before, self._deferred, self._moved = self._deferred, deferred, time.monotonic()
        try:
            yield
        finally:
            self._deferred, self._moved = before, time.monotonic()

    def _check(self) -> None:
        if self.asked is not None and not self._deferred:
            self._answered = True
            raise Stopped(signal.Signals(self.asked).name)

    def _handle(self, number: int, _: Any) -> None:
        # Kept: a compiled program that calls back turns any exception into one of its own.
        self.asked = self.asked or number
        if not self._answered:  # what cleans up after the first one is not to be interrupted by a second
            self._check()

    def _listen(self) -> None:
        heard: list[int] = []
        while True:
            if select.select([self._ear], [], [], 0.05 if heard else None)[0]:
                read = os.read(self._ear, 64)
                if not read:
                    return
                new = [number for number in read if number in self._before]
                self._moved = time.monotonic() if new and not heard else self._moved
                heard += new
            if not heard:
                continue
            patience = LONG if self._deferred or self._answered else SHORT
            if signal.SIGINT in heard[1:]:
                self._end(heard[0], SHORT)
            if time.monotonic() - self._moved > patience:
                self._end(heard[0], LONG)

    def _end(self, number: int, seconds: float) -> None:
        def last() -> None:
            for action in reversed(self._last):
                with contextlib.suppress(Exception):
                    action()

        # In a thread of its own, for a disk that does not answer must not keep the process.
        thread = threading.Thread(target=last, daemon=True)
        thread.start()
        thread.join(seconds)
        self._say(number)
        os._exit(STATUS[number])
