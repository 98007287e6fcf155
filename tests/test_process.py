"""A process begins again with its settings, once; and ends as a signal asks, wherever it stands."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rnnlab import process
from rnnlab.errors import InputError

ROOT = Path(process.__file__).parents[1]
linux = pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting, and Linux's mutexes")


def program(code, *argv, **changes):
    """The finished process of a program, in an environment without the settings but with `changes`."""
    known = ("GLIBC_TUNABLES", "OPENBLAS_NUM_THREADS", "XLA_FLAGS", process.RESTARTED)
    environment = {name: value for name, value in os.environ.items() if name not in known} | changes
    command = [sys.executable, "-c", "import os, sys\nfrom rnnlab import process\n" + code, *argv]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=ROOT)


# Beginning again.

SHOWN = """
began = os.getpid()
process.restart(sys.argv[1:])
for name in ("GLIBC_TUNABLES", "OPENBLAS_NUM_THREADS", "XLA_FLAGS"):
    print(os.environ.get(name))
print(process.restarted())
import subprocess
subprocess.run([sys.executable, "-c", "from rnnlab import process; print(repr(process.restarted()))"])
"""


@linux
def test_a_process_begins_again_once_with_all_that_is_asked_for():
    found = program(SHOWN, "toy", "--devices=3", GLIBC_TUNABLES="glibc.malloc.check=0", XLA_FLAGS="--xla_a=1")
    pages, devices = "glibc.malloc.check=0:glibc.malloc.hugetlb=1", f"--xla_a=1 {process.HOST_DEVICES}=3"
    # The settings, as set; the words of its own; none of them a child's.
    said = f"GLIBC_TUNABLES={pages} XLA_FLAGS={devices} OPENBLAS_NUM_THREADS=1"
    assert found.stdout.splitlines() == [pages, "1", devices, said, "''"], found.stderr


@linux
@pytest.mark.parametrize(
    ("argv", "changes", "expected"),
    [
        (["--norestart", "--devices=3"], {}, ["None", "None", "None", ""]),
        (["--restart=false", "--devices=3"], {}, ["None", "None", "None", ""]),
        (["--nohuge_pages"], {}, ["None", "None", "None", ""]),
        (["--nohuge_pages", "--devices=1"], {}, ["None", "None", "None", ""]),
        (
            ["--huge_pages=false", "-devices", "2"],
            {"OPENBLAS_NUM_THREADS": "4"},
            ["None", "4", f"{process.HOST_DEVICES}=2", f"XLA_FLAGS={process.HOST_DEVICES}=2"],
        ),
        (
            ["--nohuge_pages", "--devices=2"],
            {"XLA_FLAGS": f"{process.HOST_DEVICES}=4"},
            ["None", "None", f"{process.HOST_DEVICES}=4", ""],
        ),
    ],
)
def test_what_is_not_asked_for_or_there_is_left(argv, changes, expected):
    found = program(SHOWN, *argv, **changes)
    assert found.stdout.splitlines() == [*expected, "''"], found.stderr


@linux
def test_a_setting_that_does_not_last_is_not_set_for_ever():
    lost = "os.environ.pop('GLIBC_TUNABLES', None)\n"  # as for a program with more rights than its user
    found = program(lost + SHOWN)
    assert found.returncode == 0 and found.stdout.splitlines()[0] == "None"


@pytest.mark.parametrize("value", ["abc", "0", "-1", "", "2.0", "1e9", "99999"])
def test_devices_that_are_no_number(value):
    with pytest.raises(InputError, match=f"^flag --devices={value}: expected an integer from 1 to 9999$"):
        process.restart([f"--devices={value}"])
    with pytest.raises(InputError, match="flag --devices=: expected an integer"):
        process.restart(["--devices"])


def test_more_devices_than_the_environment_asks_for(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--xla_a=1 {process.HOST_DEVICES}=2")
    with pytest.raises(InputError, match="flag --devices=4: expected at most the 2 that XLA_FLAGS asks for"):
        process.restart(["--devices=4"])


def test_launch_py_says_what_it_set_and_refuses_in_one_line(tmp_path):
    def launch(*argv):
        command = [sys.executable, ROOT / "launch.py", *argv, f"--runs={tmp_path}"]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    refused = launch("cells", "--devices=many")
    line = "error: flag --devices=many: expected an integer from 1 to 9999\n"
    assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", line)
    mistyped = launch("cells", "--stepz=3")
    assert mistyped.returncode == 2 and mistyped.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# Signals, heard by the handler.


def kill(number=signal.SIGTERM):
    os.kill(os.getpid(), number)
    time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_raised_where_the_program_stands(number):
    before = [signal.getsignal(one) for one in process.STATUS]
    with process.Stop() as stop:
        with pytest.raises(process.Stopped, match=signal.Signals(number).name):
            kill(number)
        assert stop.asked == number
    assert [signal.getsignal(one) for one in process.STATUS] == before
    assert signal.set_wakeup_fd(-1) == -1 and "signals" not in [one.name for one in threading.enumerate()]


def test_deferred_to_the_end_of_the_block():
    done = []
    with process.Stop() as stop, pytest.raises(process.Stopped), stop.deferred():
        kill()
        done.append("saved")
    assert done == ["saved"]


def test_allowed_within_a_deferred_block():
    seen = []
    with process.Stop() as stop, pytest.raises(process.Stopped), stop.deferred():
        with pytest.raises(process.Stopped), stop.allowed():
            seen.append("waiting")
            kill()
            seen.append("never")
        seen.append("saving")
        kill()  # deferred again
        seen.append("saved")
        with stop.allowed():
            seen.append("never: it was asked already")
    assert seen == ["waiting", "saving", "saved"] and stop.asked == signal.SIGTERM


def test_an_error_is_not_hidden_by_a_stop():
    with process.Stop() as stop, pytest.raises(ZeroDivisionError), stop.deferred():
        kill()
        raise ZeroDivisionError


def test_a_second_one_does_not_interrupt_what_cleans_up():
    done = []
    with process.Stop() as stop:
        try:
            kill()
        except process.Stopped:
            try:
                kill()
                done.append("clean")
            except process.Stopped:  # which would end pytest too
                done.append("interrupted")
    assert done == ["clean"] and stop.asked == signal.SIGTERM


def test_ignored_by_whoever_started_us_is_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with process.Stop() as stop:
            kill()
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN and stop.asked is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_another_thread_and_not_entered_it_is_never_asked():
    seen = []

    def work():
        with process.Stop() as stop, stop.deferred(), stop.allowed():
            seen.append(stop.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with process.Stop().deferred():
        seen.append("done")
    assert seen == [None, "done"]


# Signals, heard by the thread: the main one is where no handler runs, as in a compilation.

STUCK = """
import ctypes, threading, time, signal
def stuck():
    print("stuck", flush=True)
    lock = ctypes.create_string_buffer(64)
    for _ in "ab":
        ctypes.CDLL(None).pthread_mutex_lock(lock)
process.SHORT, process.LONG = {short}, {long}
def say(number): print("said", signal.Signals(number).name, file=sys.stderr, flush=True)
with process.Stop(say) as stop, stop.before_end(lambda: print("first")), stop.before_end(lambda: print("last", flush=True)):
    {where}
"""  # noqa: E501


def start(where, short=0.2, long=60):
    code = "import os, sys\nfrom rnnlab import process\n" + STUCK.format(where=where, short=short, long=long)
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout.readline() == "stuck\n"
    return child


def ended(child, *numbers):
    for number in numbers:
        time.sleep(0.5)  # it says so just before it is stuck
        child.send_signal(number)
    out, err = child.communicate(timeout=30)
    return child.returncode, out.split(), err


@linux
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_ended_where_no_handler_runs(number, status):
    assert ended(start("stuck()"), number) == (status, ["last", "first"], f"said {number.name}\n")


@linux
@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ("with stop.deferred(): stuck()", [signal.SIGTERM, signal.SIGINT]),
        ("with stop.deferred():\n        print('stuck', flush=True); time.sleep(60)", [signal.SIGINT, signal.SIGINT]),
    ],
)
def test_a_second_interrupt_is_heard_at_once(where, numbers):
    status, out, _ = ended(start(where), *numbers)
    assert status == process.STATUS[numbers[0]] and out == ["last", "first"]


@linux
def test_patience_ends():
    assert ended(start("with stop.deferred(): stuck()", long=0.2), signal.SIGTERM)[:2] == (75, ["last", "first"])


@linux
def test_a_block_that_is_deferred_gets_its_time():
    code = "with stop.deferred():\n        print('stuck', flush=True)\n"
    code += "        while stop.asked is None: time.sleep(0.01)\n"
    code += "        time.sleep(0.6); print('saved')"
    status, out, err = ended(start(code), signal.SIGTERM)
    assert out == ["saved"] and "Stopped" in err and status not in (0, 75)  # nobody catches it here


@linux
def test_the_last_action_may_hang_or_fail():
    where = "with stop.before_end(lambda: 1 / 0), stop.before_end(lambda: time.sleep(99)): stuck()"
    assert ended(start(where, long=0.3), signal.SIGTERM) == (75, [], "said SIGTERM\n")
