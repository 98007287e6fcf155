"""How far a run is: a bar on a terminal, one line a minute anywhere else."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")

# Seconds between two looks. Between them nothing is formatted, so that noting a loss does not wait for the device.
TERMINAL, LOG = 0.5, 60.0


@runtime_checkable
class Stream(Protocol):
    """As much of a text file as is needed here."""

    def write(self, text: str, /) -> Any: ...
    def flush(self) -> Any: ...
    def isatty(self) -> bool: ...


class Progress:
    """Counts to `total` steps: `with Progress(300, "lstm") as progress: ...; progress.step(loss=loss)`.

    `stream` is standard error as it is on entry. `clock` gives seconds; only tests pass another.
    """

    def __init__(
        self, total: int, label: str, *, stream: Stream | None = None, clock: Callable[[], float] = time.monotonic
    ):
        self._total, self._label, self._stream, self._clock = total, label, stream, clock
        self._count, self._values, self._bar = 0, {}, None

    def __enter__(self) -> "Progress":
        self._stream = self._stream or sys.stderr
        self._seen_at, self._seen_count = self._clock(), 0
        if self._stream.isatty():
            self._bar = _bar(self._total, self._label, self._stream)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._show_bar()
            self._bar.close()

    def note(self, **values: Any) -> None:
        """Values to show at the next look; each stays until it is noted again."""
        self._values |= values

    def skip(self, count: int) -> None:
        """So many steps were done before: they say nothing of the rate."""
        self._count += count
        self._seen_count += count
        if self._bar is not None:
            self._bar.n += count
            self._bar.initial += count
            self._bar.last_print_n += count

    def step(self, **values: Any) -> None:
        """One step more is done."""
        self.note(**values)
        self._count += 1
        elapsed = self._clock() - self._seen_at
        if elapsed < (LOG if self._bar is None else TERMINAL):
            return
        if self._bar is None:
            print(self._line(elapsed), file=self._stream, flush=True)
        else:
            self._show_bar()
        self._seen_at, self._seen_count = self._clock(), self._count

    def _line(self, elapsed: float) -> str:
        # The rate since the last line: one since the beginning would carry the compilation along for ever.
        rate = (self._count - self._seen_count) / elapsed
        left = max(0, self._total - self._count) / rate
        parts = [f"{self._label} {self._count}/{self._total} steps", *self._noted()]
        return ", ".join(
            [*parts, f"{rate:.0f} steps/s" if rate >= 100 else f"{rate:.3g} steps/s", f"{_hms(left)} left"]
        )

    def _noted(self) -> list[str]:
        return [f"{name} {_text(value)}" for name, value in self._values.items()]

    def _show_bar(self) -> None:
        self._bar.set_postfix_str(", ".join(self._noted()), refresh=False)
        self._bar.update(self._count - self._bar.n)
        self._bar.refresh()


class track(Generic[Item]):
    """The items of `iterable`, each a step; in lower case as `range` is.

    steps = track(range(300), 300, "lstm")
    for step in steps:
        ...
        steps.note(loss=loss)
    """

    def __init__(self, iterable: Iterable[Item], total: int, label: str, stream: Stream | None = None, **options: Any):
        self._iterable = iterable
        self._progress = Progress(total, label, stream=stream, **options)
        self.note = self._progress.note

    def __iter__(self) -> Iterator[Item]:
        with self._progress as progress:
            for item in self._iterable:
                yield item
                progress.step()


def _bar(total: int, label: str, stream: Stream) -> Any:
    from tqdm import tqdm

    class Bar(tqdm):
        monitor_interval = 0  # no watching thread: `step` decides when to draw

    # Of a file at a time, the bar is drawn when asked, whatever tqdm's own clock says.
    return Bar(total=total, desc=label, file=stream, unit="step", mininterval=0, miniters=1, dynamic_ncols=True)


def _text(value: Any) -> str:
    if isinstance(value, (str, int)):
        return str(value)
    return f"{float(value):.4g}"


def _hms(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
