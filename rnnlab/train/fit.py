"""The training loop: a generator, which dispatches a step before it reads the metrics of the one before.

It knows nothing of models: a step is `(state, batch) -> (state, metrics)`. Whoever runs it writes down what it yields.
What it holds to, so that a run that was stopped at any moment and started again gives the same bits:

    a state is saved once the metrics of its step were read and found finite and yielded: the rows are there
    before anything that may hold the main thread for long (the compilation of a step for a new shape of batch, an
    evaluation) the state is saved, so that a stop there has nothing to save
    a stop while data is waited for or a step runs is noted, the state is saved, and then `Stopped` is raised
"""

import sys
import time
from collections.abc import Callable, Container, Generator, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from rnnlab.errors import InputError
from rnnlab.process import Stop, Stopped
from rnnlab.progress import Progress
from rnnlab.train.checkpoints import Checkpoints
from rnnlab.types import PyTree


class Step(NamedTuple):
    """step: how many were made. metrics: its own, on the host."""

    step: int
    metrics: PyTree


class Validation(NamedTuple):
    """result: what `evaluate` said of the state after `step` steps."""

    step: int
    result: Mapping[str, Any]


class Final(NamedTuple):
    """state: after the last step. seconds: that training took in this process, without compilation and evaluation.
    waiting, padding: the share of them in which input was waited for, and that of padding in batches (NaN: no step was
    made, or padding not asked for)."""

    step: int
    state: PyTree
    seconds: float
    waiting: float
    padding: float


Seen = Step | Validation | Final


@runtime_checkable
class Journal(Protocol):
    """What rows are written to: `rnnlab.runs.Run`, `rnnlab.train.events.Events`."""

    def mark(self) -> Any: ...
    def cut(self, mark: Any = None) -> None: ...


def loss_of(result: Mapping[str, Any]) -> float:
    return float(result["loss"])


def fit(
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    state: PyTree,
    batches: Callable[[Any], Iterator[tuple[Any, PyTree]]],
    *,
    position: Any,
    steps: int,
    checkpoints: Checkpoints | None = None,
    journal: Journal | None = None,
    every: int = 1000,
    seconds: float | int = 600.0,
    evaluate: Callable[[PyTree], Mapping[str, Any]] | None = None,
    evaluate_at: Container[int] = range(0),
    score: Callable[[Mapping[str, Any]], float] = loss_of,
    describe: Callable[[PyTree], str | None] = lambda metrics: None,
    padding: Callable[[PyTree], tuple[int, int]] | None = None,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> Generator[Seen, None, None]:
    """Trains to `steps` steps and yields a `Step` for each, a `Validation` for each evaluation, and a `Final`.

    Goes on from the newest of `checkpoints`, if there is one; steps that were made before are not yielded again.

    step:        metrics have fields `loss` [] and `finite` [], a bool. Its state is used up by it, if it likes
    state:       before the first step; what is restored has its shapes, types and shardings
    batches:     position -> (position after this batch, batch), for ever or as long as `steps` needs
    position:    of the first batch, as JSON takes it; after a resumption `batches` gets it from JSON, a tuple as list
    journal:     where the caller writes rows: its mark is saved, and on a resumption what came after it is cut off
    every:       steps between two checkpoints at the most; seconds: the same by the clock. There is one of the first
                 state and one of the last, too
    evaluate:    state -> numbers by name, after the steps in `evaluate_at` (a range, a set) and after the last;
                 `score` of them, the lower the better, says which checkpoint is the best
    describe:    metrics of a step that is not finite -> where that began, in words
    padding:     batch -> (steps that hold data, all of them), `rnnlab.data.batches.padding`
    stop:        how the process is asked to end
    progress:    entered by the caller, and told each step and its loss

    Raises InputError for a loss or gradient that is not finite: names step, place and last good checkpoint. Raises
    ValueError where the batches end before the steps do.
    """
    stop = stop or Stop()
    rules = _Rules(
        step, batches, steps, checkpoints, journal, every, seconds, evaluate, evaluate_at, score, describe, padding,
        stop, progress,
    )  # fmt: skip
    with stop.deferred(), stop.before_end(checkpoints.wait if checkpoints else lambda: None):
        yield from _Training(rules, state, position).run()


class _Rules(NamedTuple):
    step: Callable
    batches: Callable
    steps: int
    checkpoints: Checkpoints | None
    journal: Journal | None
    every: int
    seconds: float | int
    evaluate: Callable | None
    evaluate_at: Container[int]
    score: Callable
    describe: Callable
    padding: Callable | None
    stop: Stop
    progress: Progress | None


class _Training:
    """Where training stands: `now` steps were dispatched, the metrics of the last may not have been read."""

    def __init__(self, rules: _Rules, state: PyTree, position: Any):
        self.rules, self.state, self.position = rules, state, position
        self.now, self.unread = 0, None
        self.saved, self.saved_at = None, time.monotonic()
        self.shapes: set = set()
        self.seconds = self.waited = 0.0
        self.filled = np.zeros(2, int)

    def run(self) -> Iterator[Seen]:
        rules = self.rules
        self.resume()
        yield from self.validate()
        source = rules.batches(self.position)
        try:
            while self.now < rules.steps:
                began = time.monotonic()
                position, batch = yield from self.next_batch(source)
                self.waited += time.monotonic() - began
                yield from self.advance(position, batch)
                self.seconds += time.monotonic() - began
                if self.due():
                    began = time.monotonic()
                    yield from self.rest()
                    self.seconds += time.monotonic() - began
                    self.save()
                    yield from self.validate()
        finally:
            getattr(source, "close", lambda: None)()
        if rules.checkpoints:
            rules.checkpoints.wait()
        yield self.final()

    def final(self) -> Final:
        steps, slots = self.filled.tolist()
        waiting = self.waited / self.seconds if self.seconds > 0 else float("nan")
        return Final(self.now, self.state, self.seconds, waiting, 1 - steps / slots if slots else float("nan"))

    def resume(self) -> None:
        rules = self.rules
        found = rules.checkpoints.restore(self.state) if rules.checkpoints else None
        if found and found.step > rules.steps:
            raise InputError(
                f"{rules.checkpoints.folder}: expected at most {rules.steps} steps, given a checkpoint of step "
                f"{found.step}"
            )
        if rules.journal:
            rules.journal.cut(found.mark if found else None)
        if found is None:
            self.save()
            return
        self.now, self.state, self.position, self.saved = found.step, found.state, found.position, found.step
        if rules.progress:
            rules.progress.skip(self.now)
        if 0 < self.now < rules.steps:
            print(f"{rules.checkpoints.folder}: resumed at step {self.now}", file=sys.stderr, flush=True)

    def next_batch(self, source: Iterator) -> Generator[Seen, None, tuple[Any, PyTree]]:
        try:
            with self.rules.stop.allowed():
                found = next(source, None)
        except Stopped:
            yield from self.rest()
            self.save()
            if self.rules.checkpoints:
                self.rules.checkpoints.wait()
            raise
        if found is None:
            raise ValueError(f"fit: expected batches for {self.rules.steps} steps, got {self.now}")
        return found

    def advance(self, position: Any, batch: PyTree) -> Iterator[Seen]:
        """Dispatches a step, then reads the metrics of the one before."""
        shape = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(batch))
        before = self.unread
        if shape in self.shapes:
            state, metrics = self.rules.step(self.state, batch)
        else:
            yield from self.rest()
            self.save()
            before, began = None, time.monotonic()
            with self.rules.stop.allowed():
                state, metrics = self.rules.step(self.state, batch)
            self.shapes.add(shape)
            self.seconds -= time.monotonic() - began
        self.now, self.state, self.position, self.unread = self.now + 1, state, position, metrics
        if self.rules.padding:
            self.filled += np.asarray(self.rules.padding(batch))
        if before is not None:
            yield self.read(self.now - 1, before)

    def rest(self) -> Iterator[Seen]:
        """Reads the metrics of the last step that was dispatched."""
        if self.unread is not None:
            metrics, self.unread = self.unread, None
            yield self.read(self.now, metrics)

    def read(self, number: int, metrics: PyTree) -> Step:
        rules, metrics = self.rules, jax.device_get(metrics)
        if not np.all(metrics.finite):
            place = self.described(metrics)
            last = (
                f"the last good checkpoint is {rules.checkpoints.folder / str(self.saved)}"
                if self.saved is not None
                else ""
            )
            raise InputError(
                f"training: expected finite numbers, given loss {np.asarray(metrics.loss).tolist()} at step {number}"
                f"{f', {place}' if place else ''}; {last or 'no checkpoint was kept'}"
            )
        if rules.progress:
            rules.progress.step(loss=float(np.mean(metrics.loss)))
        return Step(number, metrics)

    def described(self, metrics: PyTree) -> str | None:
        """Where it began, of the first of several seeds that is not finite."""
        if not np.ndim(metrics.finite):
            return self.rules.describe(metrics)
        seed = int(np.argmin(metrics.finite))
        place = self.rules.describe(jax.tree.map(lambda leaf: leaf[seed], metrics))
        return f"seed number {seed} of {len(metrics.finite)}{f', {place}' if place else ''}"

    def due(self) -> bool:
        rules, old = self.rules, time.monotonic() - self.saved_at > self.rules.seconds
        return self.now == rules.steps or self.now % rules.every == 0 or old or self.evaluates()

    def evaluates(self) -> bool:
        rules = self.rules
        return rules.evaluate is not None and (self.now in rules.evaluate_at or self.now == rules.steps)

    def save(self) -> None:
        rules = self.rules
        if rules.checkpoints and self.saved != self.now:
            mark = rules.journal.mark() if rules.journal else None
            rules.checkpoints.save(self.now, self.state, self.position, mark)
            self.saved, self.saved_at = self.now, time.monotonic()

    def validate(self) -> Iterator[Validation]:
        rules = self.rules
        if not self.evaluates():
            return
        with rules.stop.allowed():
            result = rules.evaluate(self.state)
        if rules.checkpoints:
            rules.checkpoints.score(self.now, rules.score(result))
        yield Validation(self.now, result)
