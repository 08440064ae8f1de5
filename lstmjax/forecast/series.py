"""Many time series as flat arrays, and how they are read from a long table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmjax.arguments import as_whole, check_positive, described
from lstmjax.errors import UserError
from lstmjax.forecast.arguments import (
    as_names,
    as_numbers,
    as_whole_numbers,
    check_mapping,
    check_steps,
    has_entries,
    listed,
)
from lstmjax.forecast.calendar import Frequency, features_of, frequency_of, plus

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


BLOCK = 2**20
"""Rows of a set that are looked at together."""


class SeriesError(UserError, ValueError):
    """A table is not a set of time series."""


@dataclass(frozen=True)
class SeriesSet:
    """S time series, one after the other in flat arrays with N rows in all.

    Series s has the rows starts[s] to starts[s + 1]; its targets end before ends[s]. Rows from there on are the future:
    they have known covariates, and no target.
    """

    names: tuple[str, ...]
    target: np.ndarray
    """float64 `[N]`; NaN where a target is missing."""
    starts: np.ndarray
    """int64 `[S + 1]`."""
    ends: np.ndarray
    """int64 `[S]`, rows; one behind the last target of each series."""
    season: int = 1
    """m, steps in a season; 1: none."""
    times: np.ndarray | None = None
    """datetime64 or int64 `[N]`; None: steps are counted from 0."""
    frequency: Frequency | None = None
    past: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """float64 `[N, P]`, covariates that are known up to the origin; NaN where missing."""
    known: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """float64 `[N, K]`, covariates that are known in the future, too."""
    numbers: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """float64 `[S, A]`, static numbers."""
    categories: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    """int64 `[S, C]`, static categories, numbered from 0."""
    past_names: tuple[str, ...] = ()
    known_names: tuple[str, ...] = ()
    number_names: tuple[str, ...] = ()
    levels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Name and values of each category, in the order of their numbers."""
    units: tuple[tuple[str, str], ...] = ()
    """Name and unit of the columns whose file says it."""
    folder: Path | None = None
    """Where the arrays with rows are mapped from; None: they are in the memory. See `stored.open_series`."""

    def __post_init__(self) -> None:
        rows, series = len(self.target), len(self.names)
        empty = {"past": (rows, 0), "known": (rows, 0), "numbers": (series, 0), "categories": (series, 0)}
        for name, shape in empty.items():
            if getattr(self, name).shape == (0, 0):
                object.__setattr__(self, name, np.zeros(shape, getattr(self, name).dtype))

    def __len__(self) -> int:
        """Return S, the number of series."""
        return len(self.names)

    @property
    def lengths(self) -> np.ndarray:
        """Steps from the first to the last target of each series, `[S]`."""
        return self.ends - self.starts[:-1]

    def history(self, s: int, before: int | None = None) -> np.ndarray:
        """Return the targets of series s, up to `before` steps from its beginning."""
        if not 0 <= as_whole("s", s) < len(self):
            raise ValueError(f"s is {s}, expected 0 to {len(self) - 1}: there are {len(self)} series.")
        size = self.starts[s + 1] - self.starts[s]
        if before is not None and not 0 <= as_whole("before", before) <= size:
            raise ValueError(f"before is {before}, expected 0 to {size}, the steps of series {self.names[s]!r}.")
        stop = self.ends[s] if before is None else self.starts[s] + before
        return self.target[self.starts[s] : stop]

    def cut(self, steps: int) -> SeriesSet:
        """Return the series without their last `steps` targets, which become future rows."""
        check_steps("steps", steps)
        ends = np.maximum(self.ends - steps, self.starts[:-1])
        target = self.target.copy() if self.folder is None else _copy_on_disk(self.target, self.folder)
        for end, stop in zip(ends, self.starts[1:], strict=True):
            target[end:stop] = np.nan
        return replace(self, target=target, ends=ends)

    def extended(self, steps: int) -> SeriesSet:
        """Return the series with at least `steps` future rows each; new rows have no covariates but calendar ones."""
        check_steps("steps", steps)
        sizes = np.diff(self.starts)
        added = np.maximum(steps - (self.starts[1:] - self.ends), 0)
        starts = np.concatenate([[0], np.cumsum(sizes + added)])
        rows = np.concatenate([np.arange(n) + start for n, start in zip(sizes, starts[:-1], strict=True)])

        def spread(values: np.ndarray, empty: Any) -> np.ndarray:
            out = np.full((starts[-1], *values.shape[1:]), empty, values.dtype)
            out[rows] = values
            return out

        times = None
        if self.times is not None and self.frequency is not None:
            times = spread(self.times, self.times[0] if len(self.times) else 0)  # those of new rows follow
            for s in range(len(self)):
                stop = starts[s] + sizes[s]
                times[stop : starts[s + 1]] = self.frequency.after(self.times[self.starts[s + 1] - 1], added[s])
        return replace(
            self,
            target=spread(self.target, np.nan),
            past=spread(self.past, np.nan),
            known=spread(self.known, np.nan),
            times=times,
            starts=starts,
            ends=self.ends - self.starts[:-1] + starts[:-1],
            folder=None,
        )

    def with_calendar(self, names: Sequence[str]) -> SeriesSet:
        """Return the series with calendar features among the known covariates; see `calendar.FEATURES`."""
        names = as_names("names", names)
        if self.times is None or self.times.dtype.kind != "M":
            raise SeriesError("calendar features need dates; the series count steps. Leave calendar out.")
        columns, labels = features_of(self.times, names)
        return replace(self, known=np.concatenate([self.known, columns], 1), known_names=(*self.known_names, *labels))

    def subset(self, which: ArrayLike, begin: np.ndarray | None = None, stop: np.ndarray | None = None) -> SeriesSet:
        """Return some of the series, by their numbers; of each the rows from `begin` on before `stop`, None: all."""
        which = as_whole_numbers("which", which, "the series to return")
        outside = (which < -len(self)) | (which >= len(self))
        if outside.any():
            raise ValueError(f"which has {which[outside][0]}, but there are {len(self)} series, numbered from 0.")
        begin = self.starts[:-1][which] if begin is None else begin
        stop = self.starts[1:][which] if stop is None else stop
        rows = [np.arange(a, b) for a, b in zip(begin, stop, strict=True)]
        starts = np.concatenate([[0], np.cumsum([len(r) for r in rows])])
        at = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        return replace(
            self,
            names=tuple(self.names[s] for s in which),
            target=self.target[at],
            times=None if self.times is None else self.times[at],
            past=self.past[at],
            known=self.known[at],
            numbers=self.numbers[which],
            categories=self.categories[which],
            starts=starts,
            ends=np.clip(self.ends[which], begin, stop) - begin + starts[:-1],
            folder=None,
        )

    def blocks(self) -> Iterator[SeriesSet]:
        """Yield the series in their order, without copies: of `BLOCK` rows at most, or one longer series, at once."""
        a = 0
        while a < len(self):
            b = max(int(np.searchsorted(self.starts, self.starts[a] + BLOCK, "right")) - 1, a + 1)
            rows = slice(self.starts[a], self.starts[b])
            yield replace(
                self,
                names=self.names[a:b],
                target=self.target[rows],
                times=None if self.times is None else self.times[rows],
                past=self.past[rows],
                known=self.known[rows],
                numbers=self.numbers[a:b],
                categories=self.categories[a:b],
                starts=self.starts[a : b + 1] - self.starts[a],
                ends=self.ends[a:b] - self.starts[a],
                folder=None,
            )
            a = b


def _copy_on_disk(values: np.ndarray, folder: Path) -> np.ndarray:
    """Return a copy that may be changed, mapped from a file in `folder` that vanishes with it."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:  # the map keeps it open
            copy = np.memmap(file, values.dtype, "w+", shape=values.shape)
    except OSError as error:
        raise SeriesError(
            f"{folder}: a copy of the targets cannot be written there ({error.strerror or error}); copy the folder to "
            "where there is room."
        ) from None
    for start in range(0, len(values), BLOCK):
        copy[start : start + BLOCK] = values[start : start + BLOCK]
    return copy


def from_arrays(
    targets: Sequence[ArrayLike],
    *,
    season: int = 1,
    names: Sequence[str] | None = None,
    start: Sequence[Any] = (),
    past: Mapping[str, Sequence[ArrayLike]] | None = None,
    known: Mapping[str, Sequence[ArrayLike]] | None = None,
    numbers: Mapping[str, ArrayLike] | None = None,
    categories: Mapping[str, Sequence[Any]] | None = None,
) -> SeriesSet:
    """Return series of plain arrays, each `[T]` with a T of its own.

    Args:
        targets: the series; NaN where a target is missing.
        season: m, steps in a season.
        names: one for each; None: their numbers.
        start: date of the first step of each, as `numpy.datetime64` in the unit of a step ("1996-01" for months);
            empty: steps are counted.
        past: covariates that are known up to the origin, by name: an array `[T]` for each series.
        known: covariates that are known in the future, too, by name: an array `[T + F]` for each series, with F steps
            behind its last target; F is the same for all covariates.
        numbers: static numbers, by name: `[S]`.
        categories: static categories, by name: a value for each series.

    >>> series = from_arrays([[1.0, 2.0, 3.0], [5.0, 4.0]], season=2, known={"price": [[3, 3, 4, 4], [2, 1]]})
    >>> len(series), series.lengths, series.known[:, 0]
    (2, array([3, 2]), array([3., 3., 4., 4., 2., 1.]))
    """
    check_positive("season", season)
    for name, columns in (("past", past), ("known", known), ("numbers", numbers), ("categories", categories)):
        if columns is not None:
            check_mapping(name, columns, "the values of each series by name")
    targets, names = listed(targets), listed(names)
    if not has_entries(targets):
        raise TypeError(f"targets is {described(targets)}, expected a list with an array [T] for each series.")
    if names is not None and not has_entries(names):
        raise TypeError(f"names is {described(names)}, expected a name for each series.")
    arrays = [as_numbers(f"targets[{s}]", target) for s, target in enumerate(targets)]
    for s, array in enumerate(arrays):
        if array.ndim != 1 or len(array) == 0:
            raise SeriesError(f"targets[{s}] is {list(array.shape)}, expected [T] with at least one step.")
        if np.isinf(array).any():
            raise SeriesError(
                f"targets[{s}] is infinite at step {np.argmax(np.isinf(array))}; missing targets are NaN."
            )
    if not arrays:
        raise SeriesError("targets is empty; at least one series is needed.")
    labels = tuple(map(str, range(len(arrays)))) if names is None else tuple(names)
    if len(labels) != len(arrays):
        raise SeriesError(f"names has {len(labels)} entries, but there are {len(arrays)} series.")
    lengths = np.asarray([len(array) for array in arrays])
    sizes = lengths
    for name, columns in (known or {}).items():
        _check_one_each(columns, f"known[{name!r}]", len(arrays))
        sizes = np.maximum(lengths, [np.size(as_numbers(f"known[{name!r}]", column)) for column in columns])
        break
    starts = np.concatenate([[0], np.cumsum(sizes)])

    def joined(columns: Sequence[ArrayLike], what: str, expected: np.ndarray) -> np.ndarray:
        _check_one_each(columns, what, len(arrays))
        out = np.full(starts[-1], np.nan)
        for s, column in enumerate(columns):
            values = as_numbers(f"{what}[{s}]", column)
            if values.shape != (expected[s],) or np.isinf(values).any():
                has = "infinite values" if values.shape == (expected[s],) else f"the shape {list(values.shape)}"
                raise SeriesError(f"{what}[{s}] has {has}, expected {expected[s]} steps, NaN where missing.")
            out[starts[s] : starts[s] + expected[s]] = values
        return out

    times, frequency = None, None
    if not has_entries(start):
        raise TypeError(f"start is {described(start)}, expected a date for each series, or [] to count steps.")
    if len(start):
        if len(start) != len(arrays):
            raise SeriesError(f"start has {len(start)} entries, but there are {len(arrays)} series.")
        first = [_day(f"start[{s}]", day) for s, day in enumerate(start)]
        times = np.concatenate([plus(day, np.arange(size)) for day, size in zip(first, sizes, strict=True)])
        frequency = frequency_of(times[: sizes[0]])
    levels, codes = [], []
    for name, values in (categories or {}).items():
        _check_one_each(values, f"categories[{name!r}]", len(arrays))
        unique, index = np.unique([str(value) for value in values], return_inverse=True)
        levels.append((name, tuple(str(value) for value in unique)))
        codes.append(index)
    static = [as_numbers(f"numbers[{name!r}]", values) for name, values in (numbers or {}).items()]
    for name, array in zip(numbers or {}, static, strict=True):
        if array.shape != (len(arrays),):
            raise SeriesError(f"numbers[{name!r}] is {list(array.shape)}, expected [{len(arrays)}], one a series.")
    before = [joined(columns, f"past[{name!r}]", lengths) for name, columns in (past or {}).items()]
    ahead = [joined(columns, f"known[{name!r}]", sizes) for name, columns in (known or {}).items()]
    return SeriesSet(
        names=labels,
        target=joined(arrays, "targets", lengths),
        starts=starts,
        ends=starts[:-1] + lengths,
        season=season,
        times=times,
        frequency=frequency,
        past=np.stack(before, 1) if before else np.zeros((0, 0)),
        known=np.stack(ahead, 1) if ahead else np.zeros((0, 0)),
        numbers=np.stack(static, 1) if static else np.zeros((0, 0)),
        categories=np.stack(codes, 1) if codes else np.zeros((0, 0), np.int64),
        past_names=tuple(past or ()),
        known_names=tuple(known or ()),
        number_names=tuple(numbers or ()),
        levels=tuple(levels),
    )


def _day(name: str, value: Any) -> np.datetime64:
    """Return the first step of a series."""
    try:
        day = np.datetime64(value)
    except (TypeError, ValueError):
        day = np.datetime64("NaT", "D")
    if np.isnat(day):
        raise SeriesError(f"{name} is {described(value)}, expected a date in the unit of a step, such as '1996-01'.")
    return day


def _check_one_each(columns: Sequence[Any], what: str, count: int) -> None:
    if not has_entries(columns):
        raise SeriesError(f"{what} is {described(columns)}, expected an entry for each of {count} series.")
    if len(columns) != count:
        raise SeriesError(f"{what} has {len(columns)} entries, but there are {count} series.")
