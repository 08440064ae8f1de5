"""What a user sees while training: a bar on a terminal, else a line at each validation."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

REFRESH = 0.2  # seconds; reading the loss more often would make the device wait for us


class Progress:
    """A bar with loss, metric, steps per second and time left, on a terminal; lines elsewhere.

    Args:
        total: steps of the whole run.
        start: steps that were done before.
        metric: name of what is reported beside the loss.
        quiet: show nothing at all.
    """

    def __init__(self, total: int, start: int = 0, *, metric: str = "accuracy", quiet: bool = False):
        self._metric, self._quiet, self._total = metric, quiet, total
        self._bar = tqdm(
            total=total, initial=start, unit="step", disable=True if quiet else None, dynamic_ncols=True, leave=False
        )
        self._shown: dict[str, str] = {}
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def step(self, now: Callable[[], dict[str, float]]) -> None:
        """Counts a step; `now` gives the loss and the metric, and is called a few times a second only."""
        self._bar.update()
        if not self._bar.disable and time.monotonic() >= self._next:
            self._next = time.monotonic() + REFRESH
            self._shown |= {name: f"{value:.4f}" for name, value in now().items()}
            self._bar.set_postfix(self._shown, refresh=False)

    def validated(self, record: dict[str, Any]) -> None:
        """Shows a line of metrics.jsonl."""
        train, validation, metric = record["train"], record["validation"], self._metric
        self._shown["validation"] = f"{validation[metric]:.4f}"
        if self._bar.disable and not self._quiet:
            print(
                f"step {record['step']}/{self._total}  loss {train['loss']:.4f}  {metric} {train[metric]:.4f}  "
                f"validation {metric} {validation[metric]:.4f}  {record['steps_per_second']:.0f} steps/s  "
                f"{(self._total - record['step']) / max(record['steps_per_second'], 1e-9):.0f} s left",
                flush=True,
            )

    def say(self, line: str) -> None:
        """Prints a line beside the bar."""
        if not self._quiet:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()
