"""Sequences on the disk, indexed as if they were in the memory: only what an index asks for is read."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.data.ragged import Ragged
from lstmjax.data.sequences import DataError


class Steps:
    """All steps of a file of float32 numbers, `[steps, width]`, read by `os.pread`: pages of a map would stay resident.

    Args:
        path: the file.
        count: number of steps.
        width: numbers in each step.
        shown: numbers in each step after the changes of `OnDisk`.
    """

    def __init__(self, path: Path, count: int, width: int, shown: int | None = None):
        self.path, self.count, self.width, self.shown = path, count, width, shown or width

    @property
    def shape(self) -> tuple[int, int]:
        return self.count, self.shown

    ndim, dtype = 2, np.dtype(np.float32)

    @property
    def nbytes(self) -> int:
        return 4 * self.count * self.shown

    def __len__(self) -> int:
        return self.count

    @cached_property
    def _descriptor(self) -> int:
        try:
            return os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror or error}); remove its folder") from None

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the steps from start to stop as they are in the file, `[steps, width]`."""
        size, place = 4 * self.width * (stop - start), 4 * self.width * start
        content = bytearray(size)
        view, count = memoryview(content), 0
        while count < size:
            read = os.preadv(self._descriptor, [view[count:]], place + count)
            if not read:
                raise DataError(f"{self.path}: ends before step {stop:,}; remove its folder, and it is written anew")
            count += read
        return np.frombuffer(content, np.float32).reshape(-1, self.width)

    def __del__(self) -> None:
        if "_descriptor" in self.__dict__:
            os.close(self._descriptor)


@dataclass(frozen=True, eq=False)
class OnDisk(Ragged):
    """Like `Ragged`, with the steps in a file; changes are applied to what is read.

    Args:
        flat: the file.
        lengths: T_n, `[N]`.
        longest: T, at least the longest length.
        places: of the first step of each sequence in the file, `[N]`.
        checksum: of the file.
        changes: functions of the steps of some sequences, `[steps, I]`, and the places at which these begin.
    """

    flat: Any
    places: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    checksum: int = 0
    changes: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = ()

    @property
    def starts(self) -> np.ndarray:
        """The place of each sequence's first step in the file, `[N]`."""
        return self.places

    def take(self, rows: Any) -> OnDisk:
        """Return some of the sequences; nothing is read."""
        chosen = self.numbers[rows]
        return replace(self, lengths=self.lengths[chosen], places=self.places[chosen])

    def map(self, change: Callable[..., np.ndarray], *, starts: bool = False) -> OnDisk:
        """Return the same sequences with other steps; the change is applied when they are read."""
        both = change if starts else lambda flat, places: change(flat)
        width = both(np.zeros((1, self.flat.shown), np.float32), np.zeros(1, np.int64)).shape[-1]
        steps = Steps(self.flat.path, self.flat.count, self.flat.width, width)
        return replace(self, flat=steps, changes=(*self.changes, both))

    def pieces(self, steps: int) -> Iterator[np.ndarray]:
        """Yield the steps of all sequences in their order, at most `steps` of them at once, or one long sequence."""
        total = np.cumsum(self.lengths, dtype=np.int64)
        start = 0
        while start < len(total):
            before = int(total[start - 1]) if start else 0
            end = max(int(np.searchsorted(total, before + steps, side="right")), start + 1)
            yield self._read(np.arange(start, end), self.longest)
            start = end

    def _read(self, rows: np.ndarray, width: int) -> np.ndarray:
        """Return the first steps of some sequences, one after the other, with the changes applied."""
        lengths = np.minimum(self.lengths[rows], width).astype(np.int64)
        places = self.places[rows]
        ends = places + lengths
        # Sequences that follow each other in the file are read at once.
        cuts = [0, *(np.flatnonzero(places[1:] != ends[:-1]) + 1).tolist(), len(rows)]
        runs = [self.flat.read(int(places[a]), int(ends[b - 1])) for a, b in itertools.pairwise(cuts) if b > a]
        flat = runs[0] if len(runs) == 1 else np.concatenate(runs)
        starts = np.cumsum(lengths) - lengths
        for change in self.changes:
            flat = change(flat, starts)
        return flat

    def _padded(self, rows: np.ndarray, width: int) -> np.ndarray:
        padded = np.zeros((len(rows), width, self.flat.shown), np.float32)
        lengths = np.minimum(self.lengths[rows], width)
        padded[np.arange(width) < lengths[:, None]] = self._read(rows, width)
        return padded
