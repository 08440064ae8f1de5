"""Basins as a `SeriesSet`: discharge is the target, forcing the known covariates, attributes the static numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lstmjax.forecast.calendar import Frequency, shown_time
from lstmjax.forecast.series import SeriesError, SeriesSet, from_arrays

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Period = tuple[str, str]
"""First and last day, both included: ("1990-01-01", "1999-12-31")."""


def basins_from_arrays(
    discharge: Sequence[ArrayLike] | np.ndarray,
    forcing: Sequence[ArrayLike] | np.ndarray,
    attributes: ArrayLike,
    *,
    start: str | Sequence[str],
    names: Sequence[str] | None = None,
    forcing_names: Sequence[str] | None = None,
    attribute_names: Sequence[str] | None = None,
) -> SeriesSet:
    """Return S basins with daily data.

    Args:
        discharge: of each basin `[T]`, with a T of its own, in mm/day; NaN where it was not measured.
        forcing: of each basin `[T, F]`; NaN where it is missing.
        attributes: static, `[S, A]`.
        start: the first day, "1990-01-01", of all basins or of each.
        names, forcing_names, attribute_names: S, F and A of them; None: numbers.

    Raises:
        SeriesError: sizes that do not fit, or infinite values.

    >>> basins = basins_from_arrays([[1.0, 2.0, 1.5]], [[[0.0], [7.0], [0.0]]], [[310.0]], start="2000-01-01")
    >>> basins.times.astype("datetime64[D]")[-1]
    np.datetime64('2000-01-03')
    """
    starts = [start] * len(discharge) if isinstance(start, str) else list(start)
    series = from_arrays(list(discharge), names=names, start=[np.datetime64(day, "D") for day in starts])
    count = len(series)
    blocks = [np.asarray(block, np.float64) for block in forcing]
    if len(blocks) != count:
        raise SeriesError(f"forcing has {len(blocks)} entries, but there are {count} basins.")
    for s, block in enumerate(blocks):
        if block.ndim != 2 or len(block) != series.lengths[s] or block.shape[1] != blocks[0].shape[1]:
            raise SeriesError(
                f"forcing[{s}] is {list(block.shape)}, expected [T, F] = [{series.lengths[s]}, "
                f"{blocks[0].shape[-1]}]: a row for each day of discharge, and the same columns in every basin."
            )
    columns = np.concatenate(blocks)
    numbers = np.asarray(attributes, np.float64)
    if numbers.ndim != 2 or len(numbers) != count:
        raise SeriesError(f"attributes is {list(numbers.shape)}, expected [S, A] with S = {count} basins.")
    for name, values in (("forcing", columns), ("attributes", numbers)):
        if np.isinf(values).any():
            raise SeriesError(f"{name} holds infinity; missing values are NaN.")
    return replace(
        series, known=columns, numbers=numbers, frequency=Frequency(1, "D"),
        known_names=_named("forcing_names", forcing_names, columns.shape[1]),
        number_names=_named("attribute_names", attribute_names, numbers.shape[1]),
    )  # fmt: skip


def _named(argument: str, names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    labels = tuple(map(str, range(count))) if names is None else tuple(names)
    if len(labels) != count or len(set(labels)) != count:
        raise SeriesError(f"{argument} is {labels}, expected {count} different names, one for each column.")
    return labels


def within(basins: SeriesSet, period: Period) -> np.ndarray:
    """Return which rows of basins lie within a period, bool `[N]`.

    Raises:
        SeriesError: the basins have no dates, the period ends before it begins, or no basin has a day of it.
    """
    if basins.times is None:
        raise SeriesError("the basins have no dates, so that no period can be cut out; pass start=.")
    try:
        first, last = (np.datetime64(day, "D") for day in period)
    except ValueError as error:
        raise SeriesError(
            f"the period is {period!r}, expected two days, ('1990-01-01', '1999-12-31'): {error}."
        ) from None
    if not first <= last:
        raise SeriesError(f"the period begins on {first} and ends on {last}, before that.")
    days = basins.times.astype("datetime64[D]")
    rows = (days >= first) & (days <= last)
    if not rows.any():
        raise SeriesError(
            f"no basin has a day between {first} and {last}: the data go from {shown_time(days.min())} to "
            f"{shown_time(days.max())}."
        )
    return rows


def masked_outside(basins: SeriesSet, period: Period) -> SeriesSet:
    """Return the basins with no discharge outside of a period: NaN, as if it had not been measured."""
    return replace(basins, target=np.where(within(basins, period), basins.target, np.nan))


def during(basins: SeriesSet, period: Period) -> SeriesSet:
    """Return the basins with their days in a period only.

    Raises:
        SeriesError: a basin has no day in it.
    """
    rows = within(basins, period)
    sizes = np.add.reduceat(rows, basins.starts[:-1])
    if not sizes.all():
        raise SeriesError(
            f"basin {basins.names[int(np.argmin(sizes))]!r} has no day between {period[0]} and {period[1]}; leave it "
            "out with basins.subset(...)."
        )
    starts = np.concatenate([[0], np.cumsum(sizes)])
    assert basins.times is not None
    return replace(
        basins, target=basins.target[rows], times=basins.times[rows], past=basins.past[rows], known=basins.known[rows],
        starts=starts, ends=starts[1:].copy(),
    )  # fmt: skip


def by_basin(basins: SeriesSet, values: np.ndarray) -> list[np.ndarray]:
    """Split values `[N, ...]` of all rows into one array for each basin, `[T, ...]`."""
    return np.split(values, basins.starts[1:-1])


def days_of(basins: SeriesSet, s: int) -> np.ndarray:
    """Return the dates of basin s, datetime64[D] `[T]`."""
    assert basins.times is not None
    return basins.times[basins.starts[s] : basins.starts[s + 1]].astype("datetime64[D]")
