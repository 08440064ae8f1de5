"""Arrays of different lengths without padding: what sequences of a file are stored as."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lstmjax import claims


@dataclass(frozen=True, eq=False)
class Ragged:
    """N arrays `[T_n, ...]` end to end, indexed as if each were padded with zeros to T: as an array `[N, T, ...]`.

    Only what an index asks for is padded, so the memory is that of the valid steps. Rows are indexed as in NumPy, steps
    and features by whole numbers and slices.

    Args:
        flat: all steps, `[T_0 + T_1 + ..., ...]`.
        lengths: T_n, `[N]`.
        longest: T, at least the longest length.

    >>> two = Ragged(np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([3, 1]), 3)
    >>> two.shape, two[1, :2].tolist(), two[[1, 0], :, 0].tolist()
    ((2, 3, 1), [[4.0], [0.0]], [[4.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    """

    flat: np.ndarray
    lengths: np.ndarray
    longest: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape with padding."""
        return len(self.lengths), self.longest, *self.flat.shape[1:]

    @property
    def ndim(self) -> int:
        return self.flat.ndim + 1

    @property
    def dtype(self) -> np.dtype:
        return self.flat.dtype

    @cached_property
    def starts(self) -> np.ndarray:
        """The place of each sequence's first step in `flat`, `[N]`."""
        return np.cumsum(self.lengths, dtype=np.int64) - self.lengths

    @cached_property
    def numbers(self) -> np.ndarray:
        """The numbers 0 to N - 1, which any kind of index is applied to."""
        return np.arange(len(self.lengths))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, *others = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(other, int | np.integer | slice) for other in others):
            raise IndexError("steps and features of ragged data are indexed by whole numbers and slices only.")
        chosen = np.asarray(self.numbers[rows])
        width = self.longest
        if others and isinstance(others[0], slice) and others[0].step in (None, 1):
            width = others[0].indices(self.longest)[1]  # no more steps than the slice needs
        padded = self._padded(np.atleast_1d(chosen), width)
        return padded[(slice(None) if chosen.ndim else 0, *others)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all of it, padded.

        Raises:
            ClaimError: this does not fit into the memory.
        """
        size = math.prod(self.shape) * self.dtype.itemsize
        claims.check_memory(size, f"{len(self):,} sequences padded to {self.longest:,} steps", "give less")
        return self[:].astype(dtype or self.dtype, copy=False)

    def take(self, rows: Any) -> Ragged:
        """Return some of the sequences; `rows` is a slice or an array of indices."""
        chosen = self.numbers[rows]
        lengths = self.lengths[chosen]
        after = np.cumsum(lengths, dtype=np.int64)
        # For each step of the result, its place in `flat`.
        places = np.arange(lengths.sum()) + np.repeat(self.starts[chosen] - (after - lengths), lengths)
        return Ragged(self.flat[places], lengths, self.longest)

    def pieces(self, steps: int) -> Iterator[np.ndarray]:
        """Yield the steps of all sequences in their order, at most `steps` of them at once."""
        for start in range(0, len(self.flat), steps):
            yield self.flat[start : start + steps]

    def map(self, change: Callable[..., np.ndarray], *, starts: bool = False) -> Ragged:
        """Return the same sequences with other steps: `change` of `flat`, or of `flat` and `starts`."""
        flat = change(self.flat, self.starts) if starts else change(self.flat)
        return Ragged(flat, self.lengths, self.longest)

    def _padded(self, rows: np.ndarray, width: int) -> np.ndarray:
        nothing: Any = "" if self.dtype == object else 0
        padded = np.full((len(rows), width, *self.flat.shape[1:]), nothing, self.dtype)
        starts = self.starts[rows]
        for place, (start, length) in enumerate(zip(starts.tolist(), self.lengths[rows].tolist(), strict=True)):
            steps = min(length, width)
            padded[place, :steps] = self.flat[start : start + steps]
        return padded
