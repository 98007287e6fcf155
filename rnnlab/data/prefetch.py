"""Batches made on a thread while the device works on the ones before, and the time spent waiting for them."""

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from rnnlab.data.batches import Batch, Padding, padding

Item = TypeVar("Item")

# Seconds. How often one who waits looks whether to go on, and how long an end waits for an item under way.
LOOK, FAREWELL = 0.05, 1.0


def nothing() -> None:
    """Goes on waiting."""


class Prefetched(Generic[Item]):
    """The items of an iterable, up to `ahead` of them made before they are asked for; an iterator, to be closed.

    with Prefetched(stream(source, state)) as batches:
        for position, batch in batches: ...

    Each item is what the iterable gave, so a position that comes with a batch is that batch's own, however far the
    thread has read. What the iterable raises is raised here, after the items before it. `poll` is called while an item
    is waited for, every 50 ms; what it raises ends the waiting, and the item is not lost.

    Closing, the end of `with`, and the loss of the last reference end the thread and close the iterable. They wait
    at most a second for an item under way: a thread that hangs in a read ends with it, and holds up no exit.
    """

    def __init__(
        self,
        items: Iterable[Item],
        *,
        ahead: int = 2,
        poll: Callable[[], None] = nothing,
        clock: Callable[[], float] = time.perf_counter,
    ):
        if ahead < 1:
            raise ValueError(f"Prefetched: expected to be at least 1 item ahead, got {ahead}")
        self._shelf, self._poll, self._clock = _Shelf(ahead), poll, clock
        self._began: float | None = None
        self._waited, self._elapsed, self._padding = 0.0, 0.0, Padding(0, 0)
        # The thread knows the shelf and not this object, which can so be collected while the thread is waiting.
        self._thread = threading.Thread(target=_fill, args=(self._shelf, iter(items)), daemon=True, name="prefetch")
        self._thread.start()
        self._end = weakref.finalize(self, self._shelf.stop)

    @property
    def waited(self) -> float:
        """Seconds spent waiting for items."""
        return self._waited

    @property
    def elapsed(self) -> float:
        """Seconds from when the first item was asked for until the last was given."""
        return self._elapsed

    @property
    def waiting(self) -> float:
        """The share of `elapsed` that was spent waiting; 0 before the first item."""
        return self._waited / self._elapsed if self._elapsed else 0.0

    @property
    def padding(self) -> float:
        """The share of padding in the batches given so far, where items are (position, Batch); else 0."""
        return self._padding.share

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        asked = self._clock()
        self._began = asked if self._began is None else self._began
        try:
            item = self._shelf.take(self._poll)
        finally:
            now = self._clock()
            self._waited += now - asked
            self._elapsed = now - self._began
        self._count(item)
        return item

    def close(self) -> None:
        """Ends the thread; items not yet given are dropped."""
        self._end()
        self._thread.join(FAREWELL)

    def __enter__(self) -> "Prefetched[Item]":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _count(self, item: Any) -> None:
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Batch):
            self._padding = self._padding.plus(padding(item[1]))


class _Shelf:
    """What one thread puts and another takes: at most `room` items, then the end or an error."""

    def __init__(self, room: int):
        self.room, self.items, self.changed = room, deque(), threading.Condition()
        self.stopped, self.ended, self.error = False, False, None

    def put(self, item: Any) -> None:
        with self.changed:
            self.items.append(item)
            self.changed.notify_all()

    def has_room(self) -> bool:
        """Waits for room; False once nobody wants more."""
        with self.changed:
            self.changed.wait_for(lambda: self.stopped or len(self.items) < self.room)
            return not self.stopped

    def end(self, error: BaseException | None) -> None:
        with self.changed:
            self.ended, self.error = True, error
            self.changed.notify_all()

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.items.clear()
            self.changed.notify_all()

    def take(self, poll: Callable[[], None]) -> Any:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.items or self.ended or self.stopped, LOOK)
                if self.items:
                    item = self.items.popleft()
                    self.changed.notify_all()
                    return item
                if self.ended or self.stopped:
                    error, self.error = self.error, None
                    raise error or StopIteration
            poll()


def _fill(shelf: _Shelf, items: Iterator[Any]) -> None:
    error = None
    try:
        while shelf.has_room():
            try:
                item = next(items)
            except StopIteration:
                break
            shelf.put(item)
            del item  # or the last batch stays in memory for as long as there is no room
        if hasattr(items, "close"):
            items.close()
    except BaseException as raised:  # whatever it is, it belongs to the one who waits
        error = raised
    shelf.end(error)
