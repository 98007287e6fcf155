"""Lines in a log and a bar on a terminal, by a clock that the test turns."""

import io
import subprocess
import sys

import pytest

from rnnlab.progress import Progress, track


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Unformatted:
    """A number whose reading is counted, as that of an array on a device would cost a wait."""

    def __init__(self):
        self.read = 0

    def __float__(self):
        self.read += 1
        return 2.3104


def test_a_log_gets_one_line_a_minute():
    clock, stream = Clock(), io.StringIO()
    steps = track(range(300), 300, "lstm", stream=stream, clock=clock)
    for step in steps:
        clock.now += 0.5
        steps.note(loss=1.0 + step, cell="gru")
    lines = stream.getvalue().splitlines()
    assert lines == [
        "lstm 120/300 steps, loss 120, cell gru, 2 steps/s, 1:30 left",
        "lstm 240/300 steps, loss 240, cell gru, 2 steps/s, 0:30 left",
    ]


@pytest.mark.parametrize("make", [io.StringIO, Terminal])
def test_steps_done_before_count_but_say_nothing_of_the_rate(make):
    clock, stream = Clock(), make()
    with Progress(300, "lstm", stream=stream, clock=clock) as progress:
        progress.skip(240)
        for _ in range(20):
            clock.now += 3.0
            progress.step()
    if make is Terminal:
        assert "260/300" in stream.getvalue()
    else:
        assert stream.getvalue().splitlines() == ["lstm 260/300 steps, 0.333 steps/s, 2:00 left"]


def test_a_short_run_leaves_a_log_alone():
    stream = io.StringIO()
    assert list(track(iter("abc"), 3, "short", stream=stream)) == ["a", "b", "c"]
    assert stream.getvalue() == ""


def test_the_rate_forgets_the_compilation():
    clock, stream = Clock(), io.StringIO()
    with Progress(3601 + 120, "cell", stream=stream, clock=clock) as progress:
        clock.now += 300
        progress.step(loss=2.3104)
        for _ in range(120):
            clock.now += 0.5
            progress.step()
    first, second = stream.getvalue().splitlines()
    assert first == "cell 1/3721 steps, loss 2.31, 0.00333 steps/s, 310:00:00 left"
    assert second == "cell 121/3721 steps, loss 2.31, 2 steps/s, 30:00 left"


def test_fast_steps_and_more_than_announced():
    clock, stream = Clock(), io.StringIO()
    with Progress(10_000, "fast", stream=stream, clock=clock) as progress:
        for _ in range(12_345):
            progress.step()
        clock.now += 61.7
        progress.step()
    assert stream.getvalue() == "fast 12346/10000 steps, 200 steps/s, 0:00 left\n"


@pytest.mark.parametrize(("stream", "seconds"), [(io.StringIO(), 60.0), (Terminal(), 0.5)])
def test_a_value_is_read_only_when_it_is_shown(stream, seconds):
    clock, loss = Clock(), Unformatted()
    with Progress(10, "lazy", stream=stream, clock=clock) as progress:
        before = loss.read
        for _ in range(5):
            clock.now += seconds / 8
            progress.step(loss=loss)
        assert loss.read == before
        clock.now += seconds
        progress.step()
        assert loss.read == 1
    assert "loss 2.31" in stream.getvalue()


def test_a_terminal_gets_a_bar():
    clock, stream = Clock(), Terminal()
    steps = track(range(4), 4, "gru", stream=stream, clock=clock)
    for step in steps:
        clock.now += 1.0
        steps.note(loss=0.25 * step)
    text = stream.getvalue()
    assert text.endswith("\n") and "\n" not in text[:-1]
    shown = text.split("\r")
    assert any("2/4" in one and "loss 0.25" in one for one in shown)
    assert "gru: 100%" in shown[-1] and "4/4" in shown[-1] and "loss 0.75" in shown[-1] and "step/s" in shown[-1]


def test_a_bar_that_is_interrupted_closes_its_line():
    stream = Terminal()

    def interrupted():
        for step in track(range(4), 4, "gru", stream=stream):
            if step == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert stream.getvalue().endswith("\n")


def test_standard_error_is_looked_up_on_use(capsys):
    clock = Clock()
    for _ in track(range(1), 1, "late", clock=clock):
        clock.now += 60
    assert capsys.readouterr().err == "late 1/1 steps, 0.0167 steps/s, 0:00 left\n"


def test_no_jax():
    program = "import sys, rnnlab.progress, rnnlab.errors; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
