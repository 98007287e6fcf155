"""Items made ahead on a thread: the same, in order, with their errors; and no thread is left, however it ends."""

import gc
import itertools
import os
import signal
import threading
import time

import numpy as np
import pytest

from rnnlab.data.batches import Batch, Padding, State, contiguous, padding, stream
from rnnlab.data.prefetch import Prefetched


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    assert not threads()
    yield
    until = time.monotonic() + 2
    while threads() and time.monotonic() < until:
        time.sleep(0.01)
    assert not threads()


def wait_for(condition):
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


@pytest.mark.parametrize("ahead", [1, 3, 50])
def test_the_same_items_in_order(ahead):
    items = np.random.default_rng(ahead).integers(0, 99, 20).tolist()
    with Prefetched(items, ahead=ahead) as prefetched:
        assert list(prefetched) == items
        assert list(prefetched) == []


def test_positions_are_those_of_the_batches_given():
    source = contiguous(np.random.default_rng(0).integers(0, 9, 400), 4, 5)
    plain = list(stream(source, State(0, 0, 0), epochs=2))
    with Prefetched(stream(source, State(0, 0, 0)), ahead=4) as prefetched:
        for expected, (position, batch) in zip(plain, prefetched, strict=False):
            assert position == expected[0]
            np.testing.assert_array_equal(batch.sequences["ids"], expected[1].sequences["ids"])
    position, expected = plain[7][0], plain[8]
    with Prefetched(stream(source, position), ahead=4) as prefetched:
        after, batch = next(prefetched)
    assert after == expected[0] and np.array_equal(batch.sequences["ids"], expected[1].sequences["ids"])


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_no_more_than_so_many_are_made_ahead(ahead):
    made = []
    with Prefetched((made.append(n) or n for n in itertools.count()), ahead=ahead) as prefetched:
        for given in range(1, 5):
            assert next(prefetched) == given - 1
            wait_for(lambda given=given: len(made) >= given + ahead)
            time.sleep(0.01)
            assert len(made) == given + ahead


def test_an_item_is_made_on_another_thread():
    with Prefetched(threading.get_ident() for _ in range(2)) as prefetched:
        assert threading.get_ident() not in list(prefetched)


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield from range(3)
        raise OSError("the disk is gone")

    with Prefetched(items(), ahead=2) as prefetched:
        assert list(itertools.islice(prefetched, 3)) == [0, 1, 2]
        with pytest.raises(OSError, match="the disk is gone") as raised:
            next(prefetched)
        assert "items" in {entry.name for entry in raised.traceback}
        with pytest.raises(StopIteration):
            next(prefetched)


def endless(closed):
    try:
        yield from itertools.count()
    finally:
        closed.append(True)


def test_closed_early_nothing_is_left():
    closed = []
    with Prefetched(endless(closed), ahead=2) as prefetched:
        next(prefetched)
    assert not threads() and closed == [True]
    assert list(prefetched) == []
    prefetched.close()


class Reader:
    """An iterator that holds something open."""

    def __init__(self):
        self.closed = []

    def __iter__(self):
        return self

    def __next__(self):
        return len(self.closed)

    def close(self):
        self.closed.append(threading.current_thread().name)


def test_what_holds_something_open_is_closed_by_the_thread_that_read_it():
    reader = Reader()
    with Prefetched(reader) as prefetched:
        assert next(prefetched) == 0
    assert reader.closed == ["prefetch"]


def test_closed_by_an_error_of_the_consumer():
    closed = []
    with pytest.raises(ZeroDivisionError), Prefetched(endless(closed)) as prefetched:
        next(prefetched) / 0
    assert not threads() and closed == [True]


def test_forgotten_without_a_word():
    closed = []
    prefetched = Prefetched(endless(closed))
    next(prefetched)
    del prefetched
    gc.collect()
    wait_for(lambda: closed and not threads())


@pytest.mark.faults
def test_a_source_that_hangs_holds_up_no_end():
    hang = threading.Event()

    def items():
        yield 0
        hang.wait()

    began = time.monotonic()
    with Prefetched(items()) as prefetched:
        next(prefetched)
    assert time.monotonic() - began < 2 and list(prefetched) == []
    hang.set()


def test_poll_is_asked_while_waiting_and_ends_it_without_loss():
    ready, calls = threading.Event(), []

    def items():
        ready.wait()
        yield "item"

    def poll():
        calls.append(time.monotonic())
        if len(calls) == 4:
            raise SystemExit(75)

    with Prefetched(items(), poll=poll) as prefetched:
        began = time.monotonic()
        with pytest.raises(SystemExit):
            next(prefetched)
        assert np.diff([began, *calls]).min() > 0.02 and time.monotonic() - began < 20
        ready.set()
        assert next(prefetched) == "item"


def test_interrupted_while_waiting():
    ready, began = threading.Event(), time.monotonic()

    def items():
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
        ready.wait(30)
        yield

    with pytest.raises(KeyboardInterrupt), Prefetched(items()) as prefetched:
        try:
            next(prefetched)
        finally:
            ready.set()
    assert time.monotonic() - began < 20


class Clock:
    """Seconds that pass only where the test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_the_share_of_waiting_is_that_of_the_clock():
    clock, gate = Clock(), threading.Semaphore(0)

    def items():
        for n in range(3):
            gate.acquire()
            yield n

    def poll():
        clock.now += 2.0  # waited for
        gate.release()

    with Prefetched(items(), poll=poll, clock=clock) as prefetched:
        assert prefetched.waiting == 0
        for _ in range(3):
            before = clock.now
            next(prefetched)
            assert clock.now > before
            clock.now += 6.0  # spent on a step
        waited = clock.now - 100 - 3 * 6
        assert prefetched.waited == waited and prefetched.elapsed == waited + 2 * 6
        assert prefetched.waiting == waited / (waited + 12)


def test_what_was_made_in_time_is_not_waited_for():
    made = []
    with Prefetched((made.append(n) or n for n in range(20)), ahead=2) as prefetched:
        for n in range(20):
            wait_for(lambda n=n: len(made) > n)
            time.sleep(0.02)
            next(prefetched)
        assert 0 < prefetched.waiting < 0.5


def test_padding_is_of_the_batches_given():
    rng = np.random.default_rng(1)
    pairs = []
    for n in range(6):
        lengths = rng.integers(0, 7, 3).astype(np.int32)
        pairs.append((State(0, 0, n), Batch({"x": np.zeros((7, 3))}, {}, {"x": lengths}, np.arange(3, dtype=np.int32))))
    with Prefetched(iter(pairs), ahead=4) as prefetched:
        assert prefetched.padding == 0
        total = Padding(0, 0)
        for _, batch in itertools.islice(prefetched, 4):
            total = total.plus(padding(batch))
        assert prefetched.padding == total.share > 0


def test_at_least_one_ahead():
    with pytest.raises(ValueError, match="at least 1 item ahead, got 0"):
        Prefetched([1], ahead=0)
