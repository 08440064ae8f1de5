"""Prepare the next batches in a thread while the device computes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property

from lstmjax.data.sequences import Sequences

AHEAD = 2  # batches that are prepared before they are asked for


class Ahead:
    """A function (seed, step) → batch that prepares the batches of the next steps in a thread.

    A batch depends on (seed, step) alone, so nothing has to be stored to go on elsewhere: a step that was not expected
    is drawn at once. An error is raised where its batch is asked for.

    >>> draw = Ahead(lambda *, seed, step: (seed, step))
    >>> [draw(seed=3, step=step) for step in (0, 1, 2, 9, 10)]
    [(3, 0), (3, 1), (3, 2), (3, 9), (3, 10)]
    """

    def __init__(self, draw: Callable[..., Sequences], *, ahead: int = AHEAD):
        self._draw, self._ahead = draw, ahead
        self._pending: dict[tuple[int, int], Future[Sequences]] = {}

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="lstmjax-batches")

    def __call__(self, *, seed: int, step: int) -> Sequences:
        """Return the batch of a step."""
        pending = self._pending.pop((seed, step), None)
        coming = [(seed, step + n) for n in range(1, self._ahead + 1)]
        for key in [key for key in self._pending if key not in coming]:
            self._pending.pop(key).cancel()
        batch = self._draw(seed=seed, step=step) if pending is None else pending.result()
        for key in coming:
            if key not in self._pending:
                self._pending[key] = self._thread.submit(self._draw, seed=key[0], step=key[1])
        return batch
