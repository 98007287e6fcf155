"""Rows of results, written twice: to the run's metrics.jsonl, and for TensorBoard (by tensorboardX, no TensorFlow)."""

import time
from collections.abc import Mapping
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from rnnlab.errors import InputError
from rnnlab.runs import Run

FLUSHED = 5.0  # seconds after which a reader may see what was written


class Events:
    """Rows of a run, and their numbers as scalars in tensorboard/PART; a journal of `rnnlab.train.fit`.

    Close it, or use `with`. After a resumption TensorBoard shows the new events in the place of those that came after
    the checkpoint. Events are written by the caller's own thread: tensorboardX's SummaryWriter has one of its own,
    which a full disk ends, and whoever adds to its queue then waits for ever.
    """

    def __init__(self, run: Run, part: str = ""):
        self._run, self._folder = run, run.path / "tensorboard" / part
        self._writer: EventsWriter | None = None
        self._step, self._flushed = 0, time.monotonic()

    def row(self, kind: str, step: int, **values: Any) -> None:
        """One row {"kind", "step", ...} of `Run.metrics`; each of its numbers is the scalar KIND/NAME."""
        self._run.metrics(kind=kind, step=step, **values)
        self._step = max(self._step, step)
        numbers = {name: float(value) for name, value in values.items() if _is_number(value)}
        scalars = [Summary.Value(tag=f"{kind}/{name}", simple_value=value) for name, value in numbers.items()]
        self._write(Event(step=step, summary=Summary(value=scalars)))

    def mark(self) -> dict[str, Any]:
        """Where rows and events stand; JSON takes it."""
        self._flush()
        return {"step": self._step, "run": self._run.mark()}

    def cut(self, mark: Mapping[str, Any] | None = None) -> None:
        """Takes away what came after the mark; see `Run.cut`."""
        self._run.cut(mark["run"] if mark else None)
        self._step = mark["step"] if mark else 0
        if self._folder.exists():
            # TensorBoard drops, of the files before, the events from this step on.
            self._write(Event(step=self._step + 1, session_log=SessionLog(status=SessionLog.START)))

    def close(self) -> None:
        """Writes what is left to be written."""
        with self._run.refusing():
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        try:
            self.close()
        except InputError:
            if kind is None:  # an error that is under way says more than a second one
                raise

    def _write(self, event: Event) -> None:
        with self._run.refusing():
            if self._writer is None:
                # Two processes may begin in the same second, and TensorBoard reads files in the order of their names.
                count = len(list(self._folder.glob("*tfevents*"))) if self._folder.exists() else 0
                self._folder.mkdir(parents=True, exist_ok=True)
                self._writer = EventsWriter(str(self._folder / "events"), f".{count:04}")
            event.wall_time = time.time()
            self._writer.write_event(event)
        if time.monotonic() - self._flushed > FLUSHED:
            self._flush()

    def _flush(self) -> None:
        self._flushed = time.monotonic()
        with self._run.refusing():
            if self._writer is not None:
                self._writer.flush()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or getattr(value, "ndim", None) == 0
