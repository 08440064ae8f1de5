"""Show the progress of training: a line at each validation and, on a terminal, a bar."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from lstmjax.training.hooks import Training

LINES = 10  # of a run, at most
REFRESH = 0.2  # seconds; reading the loss more often would make the device wait for the host


class Tolerant:
    """A stream that may be missing or break, so that a closed terminal or pipe does not stop training.

    >>> Tolerant(None).write("to nobody")
    """

    def __init__(self, stream: Any):
        self._stream = io.StringIO() if stream is None else stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: closed
            self._stream = io.StringIO()

    def flush(self) -> None:
        """Do nothing, as each `write` flushes."""


class Progress:
    """Prints at most ten lines over a run; on a terminal also a bar with loss, metric, speed and remaining time.

    Args:
        total: number of steps of the run.
        start: number of steps done before.
        metrics: names of the metrics beside the loss.
        quiet: show nothing at all.
        counts: whether a validation may get a line. Those whose network is not saved cannot become the best one, and a
            line with a better number than that of the best one would mislead.
    """

    def __init__(
        self,
        total: int,
        start: int = 0,
        *,
        metrics: Sequence[str] = ("accuracy",),
        quiet: bool = False,
        counts: Callable[[Training], bool] = lambda training: True,
    ):
        self._counts, self._line = counts, start  # the step of the latest line
        self._metrics, self._quiet, self._total = tuple(metrics), quiet, total
        self._out = Tolerant(sys.stdout)
        self._bar = tqdm(
            total=total, initial=start, unit="step", disable=True if quiet else None, dynamic_ncols=True, leave=False,
            file=Tolerant(sys.stderr),
        )  # fmt: skip
        self._shown = {"val": "?"}  # first, because a narrow terminal cuts off the end
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def step(self, values: Callable[[], dict[str, float]]) -> None:
        """Count a step.

        Args:
            values: returns the loss and the metric by name; called a few times a second only, as it waits for them.
        """
        self._bar.update()
        if not self._bar.disable and time.monotonic() >= self._next:
            self._next = time.monotonic() + REFRESH
            self._shown |= {name: f"{value:.4f}" for name, value in values().items()}
            self._bar.set_postfix(self._shown, refresh=False)

    def on_evaluate(self, training: Training) -> None:
        """Print the line of an evaluation, if it is time for one."""
        record = training.record
        assert record is not None
        self._show(record["validation"])
        last = training.step == training.steps or training.reason is not None
        due = training.step - self._line >= self._total / LINES
        if last or (due and self._counts(training)):
            self._line = training.step
            self.validated(record, training.seconds_left)

    def on_step(self, training: Training) -> None:
        """Count a step."""
        self.step(lambda: training.batch)

    def on_end(self, training: Training) -> None:
        """Say why training was stopped."""
        if training.reason is not None:
            self.say(f"stopped at step {training.step}: {training.reason}")

    def validated(self, record: dict[str, Any], seconds: float | None = None) -> None:
        """Print the line of a validation.

        Args:
            record: its line of metrics.jsonl.
            seconds: until the end; None: by the steps that are left, at the speed of the record.
        """
        train, validation = record["train"], record["validation"]
        self._show(validation)
        if seconds is None:
            seconds = (self._total - record["step"]) / max(record["steps_per_second"], 1e-9)
        measured = "  ".join(f"{name} {train[name]:.4f}" for name in ("loss", *self._metrics) if name in train)
        validated = "  ".join(f"{name} {validation[name]:.4f}" for name in self._metrics)
        skipped = record.get("skipped", 0)
        self.say(
            f"step {record['step']}/{self._total}  {measured}  validation {validated}  "
            f"{record['steps_per_second']:.0f} steps/s  {seconds:.0f} s left"
            + (f"  skipped {skipped} batches" if skipped else "")
        )

    def _show(self, validation: dict[str, float]) -> None:
        """Show the metrics of validation in the bar: the first one as "val", the others by their names."""
        self._shown["val"] = f"{validation[self._metrics[0]]:.4f}"
        for name in self._metrics[1:]:
            self._shown[f"val {name}"] = f"{validation[name]:.4f}"

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if not self._quiet:
            self._bar.clear()
            self._out.write(f"{line}\n")
            self._bar.refresh()
