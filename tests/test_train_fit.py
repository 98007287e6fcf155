"""The loop: what it yields and saves and in which order, with a step of one line and with a real folder."""

import itertools
import json
import os
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import runs
from rnnlab.errors import InputError
from rnnlab.process import Stop, Stopped
from rnnlab.progress import Progress
from rnnlab.train.checkpoints import Checkpoints, Restored
from rnnlab.train.fit import Final, Step, fit


@flax.struct.dataclass
class State:
    params: Any


class Metrics(NamedTuple):
    loss: Any
    finite: Any


def step(state, batch):
    """x -> 2 x + batch, mod 1009: any step that is left out or made twice changes all that follow."""
    new = (2 * state.params + batch) % 1009
    return State(new), Metrics(new.astype(float), np.isfinite(new))


def batches(position):
    """2, 3, 5, 8, ... after [0]."""
    for number in itertools.count(position[0]):
        yield [number + 1], np.asarray(number**2 % 7 + 1)


def expected(steps, state=3):
    losses = []
    for _, batch in itertools.islice(batches([0]), steps):
        state = (2 * state + int(batch)) % 1009
        losses.append(float(state))
    return losses


class Kept(Checkpoints):
    """Checkpoints in memory, which write down what is asked of them."""

    def __init__(self, log):
        self.folder, self.log, self.kept = Path("kept"), log, {}

    def save(self, step, state, position, mark=None):
        self.log.append(f"save {step}")
        self.kept[step] = Restored(step, state, json.loads(json.dumps(position)), mark)

    def restore(self, template):
        return self.kept[max(self.kept)] if self.kept else None

    def score(self, step, value):
        self.log.append(f"score {step} {value}")

    def wait(self):
        self.log.append("wait")


class Rows:
    """A journal in memory."""

    def __init__(self):
        self.rows = []

    def mark(self):
        return len(self.rows)

    def cut(self, mark=None):
        del self.rows[mark or 0 :]


def losses(seen):
    return [float(one.metrics.loss) for one in seen if isinstance(one, Step)]


def first():
    return State(np.asarray(3))


def test_every_step_once_and_the_state_at_the_end():
    seen = list(fit(step, first(), batches, position=[0], steps=20))
    assert losses(seen) == expected(20) and [one.step for one in seen] == [*range(1, 21), 20]
    assert isinstance(seen[-1], Final) and seen[-1].state.params == expected(20)[-1]
    assert 0 <= seen[-1].waiting <= 1 and seen[-1].seconds > 0 and np.isnan(seen[-1].padding)


def logged(kept, log, **options):
    """A run whose rows go to the log in the order in which they are yielded."""
    options = {"position": [0], "steps": 7, "checkpoints": kept, "every": 3} | options
    seen = []
    for one in fit(step, first(), batches, **options):
        log.append(f"{type(one).__name__.lower()} {one.step}")
        seen.append(one)
    return seen


def test_the_order_of_rows_saves_and_evaluations():
    log = []

    def evaluate(state):
        log.append("evaluate")
        return {"loss": float(state.params)}

    logged(Kept(log), log, evaluate=evaluate, evaluate_at=range(0, 99, 4))
    x = [3.0, *expected(7)]
    # Before the first call (a compilation) and every evaluation the state is saved, and its row is out before that.
    assert log == [
        "save 0", "evaluate", f"score 0 {x[0]}", "validation 0", "step 1", "step 2", "step 3", "save 3", "step 4",
        "save 4", "evaluate", f"score 4 {x[4]}", "validation 4", "step 5", "step 6", "save 6", "step 7", "save 7",
        "evaluate", f"score 7 {x[7]}", "validation 7", "wait", "final 7",
    ]  # fmt: skip


def test_a_step_is_dispatched_before_the_metrics_of_the_last_are_read():
    log = []

    class Late(float):
        def __array__(self, *_, **__):
            log.append(f"read {int(self)}")
            return np.asarray(float(self))

    def counted(state, batch):
        log.append(f"dispatch {state.params + 1}")
        return State(state.params + 1), Metrics(np.zeros(()), Late(state.params + 1))

    def same_batches(position):
        return (([n], np.zeros(2)) for n in itertools.count())

    list(fit(counted, State(0), same_batches, position=[0], steps=4))
    assert log == ["dispatch 1", "dispatch 2", "read 1", "dispatch 3", "read 2", "dispatch 4", "read 3", "read 4"]


def test_a_new_shape_is_met_with_all_saved():
    """A recompilation may take minutes: a stop there has nothing to save."""
    log = []

    def shaped(position):
        return (([n + 1], np.zeros(2 + n // 2)) for n in itertools.count(position[0]))

    def counted(state, batch):
        log.append(f"dispatch {batch.shape[0]}")
        return State(state.params + 1), Metrics(np.zeros(()), np.True_)

    for one in fit(counted, State(0), shaped, position=[0], steps=5, checkpoints=Kept(log), every=100):
        log.append(f"row {one.step}")
    assert log == [
        "save 0", "dispatch 2", "dispatch 2", "row 1", "row 2", "save 2", "dispatch 3", "dispatch 3", "row 3", "row 4",
        "save 4", "dispatch 4", "row 5", "save 5", "wait", "row 5",
    ]  # fmt: skip


def test_saved_by_the_clock():
    log = []
    logged(Kept(log), log, every=1000, seconds=0.0)
    assert [line for line in log if line.startswith("save")] == [f"save {n}" for n in range(8)]


def test_resumed_it_goes_on(capsys):
    log, rows = [], Rows()
    kept = Kept(log)
    seen = []
    for one in fit(step, first(), batches, position=[0], steps=20, checkpoints=kept, journal=rows, every=6):
        seen.append(one)
        rows.rows.append(float(one.metrics.loss))
        if len(seen) == 15:
            break  # as if killed: rows after the last checkpoint are there, too many of them
    assert len(rows.rows) == 15 and max(kept.kept) == 12
    for one in fit(step, State(np.asarray(0)), batches, position=[0], steps=20, checkpoints=kept, journal=rows):
        if isinstance(one, Step):
            rows.rows.append(float(one.metrics.loss))
    assert rows.rows == expected(20) and one.state.params == expected(20)[-1]
    assert capsys.readouterr().err == "kept: resumed at step 12\n"
    again = list(fit(step, first(), batches, position=[0], steps=20, checkpoints=kept, journal=rows))
    assert [type(one) for one in again] == [Final] and again[0].state.params == expected(20)[-1]
    assert rows.rows == expected(20)


def test_without_a_checkpoint_it_begins_at_the_beginning():
    rows = Rows()
    rows.rows = ["from before"]
    list(fit(step, first(), batches, position=[0], steps=2, checkpoints=Kept([]), journal=rows))
    assert rows.rows == []


def broken(at):
    def stepped(state, batch):
        state, metrics = step(state, batch)
        count = len(stepped.calls)
        stepped.calls.append(count)
        return state, metrics._replace(loss=np.nan, finite=np.False_) if count + 1 == at else metrics

    stepped.calls = []
    return stepped


def test_what_is_not_finite_stops_with_its_place():
    kept = Kept([])
    message = (
        r"^training: expected finite numbers, given loss nan at step 6, layer 2, timestep 3; the last good checkpoint "
        r"is kept/3$"
    )
    options = {"checkpoints": kept, "every": 3, "describe": lambda metrics: "layer 2, timestep 3"}
    seen = []
    with pytest.raises(InputError, match=message):
        seen.extend(fit(broken(6), first(), batches, position=[0], steps=20, **options))
    assert max(kept.kept) == 3  # step 6 is one of the third: not saved
    with pytest.raises(InputError, match=r"at step 6; no checkpoint was kept$"):
        list(fit(broken(6), first(), batches, position=[0], steps=20))
    with pytest.raises(InputError, match=r"loss \[1.0, nan\] at step 1"):  # several seeds in one step
        list(fit(lambda s, b: (s, Metrics(np.array([1, np.nan]), np.array([True, False]))), first(), batches,
                 position=[0], steps=2))  # fmt: skip
    with pytest.raises(InputError, match=r"at step 1, seed number 1 of 2, loss nan; no checkpoint"):
        list(fit(lambda s, b: (s, Metrics(np.array([1, np.nan]), np.array([True, False]))), first(), batches,
                 position=[0], steps=2, describe=lambda metrics: f"loss {metrics.loss}"))  # fmt: skip


def test_a_checkpoint_beyond_the_steps_is_refused():
    kept = Kept([])
    list(fit(step, first(), batches, position=[0], steps=9, checkpoints=kept))
    with pytest.raises(InputError, match=r"^kept: expected at most 5 steps, given a checkpoint of step 9$"):
        list(fit(step, first(), batches, position=[0], steps=5, checkpoints=kept))


def test_batches_that_end_too_soon_are_our_error():
    with pytest.raises(ValueError, match="fit: expected batches for 9 steps, got 4"):
        list(fit(step, first(), lambda position: itertools.islice(batches(position), 4), position=[0], steps=9))


def test_progress_and_padding(capsys):
    progress = Progress(9, "toy", clock=itertools.count(0.0, 100.0).__next__)
    kept = Kept([])
    with progress:
        list(fit(step, first(), batches, position=[0], steps=4, progress=progress, checkpoints=kept))
        *_, last = fit(step, first(), batches, position=[0], steps=9, progress=progress, checkpoints=kept,
                       padding=lambda batch: (int(batch), 10))  # fmt: skip
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].startswith(f"toy 1/9 steps, loss {expected(1)[0]:.4g}")
    assert shown[-1].startswith(f"toy 13/9 steps, loss {expected(9)[-1]:.4g}")  # 4, 4 that were made before, and 5
    assert last.padding == pytest.approx(1 - sum(int(batch) for _, batch in itertools.islice(batches([4]), 5)) / 50)


def test_the_share_of_waiting():
    def slow(position):
        for found in batches(position):
            time.sleep(0.01)
            yield found

    def sleepy(state, batch):
        time.sleep(0.03)
        return step(state, batch)

    *_, last = fit(sleepy, first(), slow, position=[0], steps=10)
    assert 0.02 < last.waiting < 0.9  # of 0.25, on a machine that may do something else in between


def test_the_iterator_is_closed():
    closed = []

    class Opened:
        """As one with a thread behind it."""

        def __init__(self, position):
            self.found = batches(position)

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.found)

        def close(self):
            closed.append("closed")

    list(fit(step, first(), Opened, position=[0], steps=3))
    with pytest.raises(InputError):
        list(fit(broken(2), first(), Opened, position=[0], steps=3))
    training = fit(step, first(), Opened, position=[0], steps=3)
    next(training)
    training.close()
    assert len(closed) == 3


# Stopped.


def kill(number=signal.SIGTERM):
    os.kill(os.getpid(), number)
    time.sleep(0.01)


def stopping(where):
    """Step, batches and evaluation that are stopped in one of them, about the fourth step."""
    calls = itertools.count(1)

    def counted(state, batch):
        if next(calls) == 4 and where == "step":
            kill()
        return step(state, batch)

    def streamed(position):
        for number, found in enumerate(batches(position), position[0]):
            if where == "data" and number == 4:
                kill()
            yield found

    def evaluate(state):
        if where == "evaluation":
            kill()
        return {"loss": 1.0}

    return counted, streamed, evaluate


@pytest.mark.parametrize("where", ["step", "data", "evaluation", "row"])
def test_stopped_and_resumed_it_is_as_if_it_had_not_been(where):
    kept, rows = Kept([]), Rows()
    options = {
        "position": [0],
        "steps": 9,
        "checkpoints": kept,
        "journal": rows,
        "every": 100,
        "evaluate_at": range(0, 99, 5),
    }

    def write(training):
        for one in training:
            if isinstance(one, Step):
                rows.rows.append(float(one.metrics.loss))
                if where == "row" and one.step == 4:
                    kill()

    with Stop() as stop:
        counted, streamed, evaluate = stopping(where)
        if where == "evaluation":
            options["evaluate"] = evaluate
        with pytest.raises(Stopped):
            write(fit(counted, first(), streamed, stop=stop, **options))
    reached = {"evaluation": 0, "step": 4, "data": 4, "row": 5}[where]
    assert max(kept.kept) == len(rows.rows) == reached
    assert where == "evaluation" or kept.log[-1] == "wait"
    options.pop("evaluate", None)
    write(fit(step, first(), batches, **options))
    assert rows.rows == expected(9)


def test_a_stop_before_the_first_step_has_nothing_to_save():
    log = []

    def stopped(state, batch):
        kill()
        return step(state, batch)

    with Stop() as stop, pytest.raises(Stopped):
        list(fit(stopped, first(), batches, position=[0], steps=3, checkpoints=Kept(log), stop=stop))
    assert log == ["save 0"]


# With a real folder, a compiled step that uses its state up, and a real run.


@pytest.mark.faults
def test_a_run_and_its_folder(tmp_path):
    @flax.struct.dataclass
    class Real:
        params: Any
        step: Any
        key: Any

    @jax.jit
    def update(state, batch):
        noise = jax.random.uniform(jax.random.fold_in(state.key, state.step))
        w = state.params["w"] * 0.9 + jnp.mean(batch) * noise
        return Real({"w": w}, state.step + 1, state.key), Metrics(w.sum(), jnp.isfinite(w).all())

    donating = jax.jit(update, donate_argnums=0)

    def rows(position):
        for number in itertools.count(position[0]):
            yield [number + 1], np.random.default_rng(number).normal(size=4)

    def start():
        return Real({"w": jnp.arange(3.0)}, jnp.int32(0), jax.random.key(1))

    def trained(path, steps, stop_at=None):
        asked = ("toy", {"steps": 11}, {})
        run = runs.begin(path, *asked, device="d", resume=True)
        with run, Checkpoints(path / "checkpoints", {"steps": 11}) as kept:
            options = {"position": [0], "steps": steps, "checkpoints": kept, "journal": run, "every": 4}
            for one in fit(donating, start(), rows, **options):
                if isinstance(one, Step):
                    run.metrics(step=one.step, loss=one.metrics.loss)
                    run.record("loss", np.asarray(one.metrics.loss))
                    if one.step == stop_at:
                        raise ZeroDivisionError
        return one.state

    whole = trained(tmp_path / "a", 11)
    with pytest.raises(ZeroDivisionError):
        trained(tmp_path / "b", 11, stop_at=7)
    again = trained(tmp_path / "b", 11)
    assert np.asarray(whole.params["w"]).tobytes() == np.asarray(again.params["w"]).tobytes()
    for name in ("metrics.jsonl", "series/loss.bin"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert runs.Run(tmp_path / "b").series("loss").shape == (11,)
