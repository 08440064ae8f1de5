"""Show the progress of a grid: a bar with the time left on a terminal, else a line before each network."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

from lstmjax.replica.against import Doing


class Progress:
    """Shows on stderr which run a grid begins, and for how long it will go on.

        with Progress() as progress:
            grid(tell=progress)

    Time is estimated from the layers that ran before, since most of it goes into compiling them.
    """

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._network = 0
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, doing: Doing) -> None:
        """Show a run that begins."""
        if self._bar is None:
            # None: only on a terminal
            self._bar = tqdm(
                total=doing.of, unit="layer", disable=None, dynamic_ncols=True, leave=False, file=sys.stderr
            )
        if self._bar.disable:
            self._say(doing)
            return
        text = f"network {doing.network} of {doing.networks} ({doing.case}), {doing.dtype}, {doing.peer}"
        self._bar.set_description(text, refresh=False)
        self._bar.update(doing.done - self._bar.n)
        self._bar.refresh()

    def _say(self, doing: Doing) -> None:
        """Print a line if a network begins."""
        if doing.network == self._network:
            return
        self._network = doing.network
        left = ""
        if doing.done:
            seconds = (time.monotonic() - self._start) / doing.done * (doing.of - doing.done)
            left = f", about {seconds:.0f} s left"
        line = f"network {doing.network} of {doing.networks}: {doing.case}{left}"
        print(line, file=sys.stderr, flush=True)
