"""Basins as a `SeriesSet`: discharge is the target, forcing the known covariates, attributes the static numbers.

Attributes that are words (a land cover) are its static categories. Networks see each as columns of 0 and 1 (`encoded`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lstmjax.forecast.calendar import Frequency, shown_time
from lstmjax.forecast.series import SeriesError, SeriesSet, from_arrays

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Period = tuple[str, str]
"""First and last day, both included: ("1990-01-01", "1999-12-31")."""

CODES = (-999.0, -9999.0, -99999.0)
"""What many files have in the place of a value that is missing."""

MM_A_DAY = (
    "mm", "mm/d", "mm/day", "mmd-1", "mmday-1", "mm/24h", "mmperday", "kg/m2/d", "kg/m2/day", "kgm-2d-1", "kgm-2day-1",
)  # fmt: skip
"""Units that are mm/day, in small letters and without spaces, brackets and signs of a power."""

Levels = tuple[tuple[str, tuple[str, ...]], ...]
"""Name and values of each category."""


def basins_from_arrays(
    discharge: Sequence[ArrayLike] | np.ndarray,
    forcing: Sequence[ArrayLike] | np.ndarray,
    attributes: ArrayLike,
    *,
    start: str | Sequence[str],
    names: Sequence[str] | None = None,
    forcing_names: Sequence[str] | None = None,
    attribute_names: Sequence[str] | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    units: Mapping[str, str] | None = None,
) -> SeriesSet:
    """Return S basins with daily data.

    Args:
        discharge: of each basin `[T]`, with a T of its own, in mm/day; NaN where it was not measured.
        forcing: of each basin `[T, F]`; NaN where it is missing.
        attributes: static, `[S, A]`.
        start: the first day, "1990-01-01", of all basins or of each.
        names, forcing_names, attribute_names: S, F and A of them; None: numbers.
        categories: static attributes that are words, by name, each `[S]`: {"land_cover": ["forest", "crops"]}; "" is
            for a basin without one. Networks see a column of 0 and 1 for each word.
        units: of forcing, by name, as far as they are known: a mass that is not in mm/day is refused.

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
    basin = np.repeat(np.arange(count), np.diff(series.starts))
    _refuse_codes("the discharge", series.target[:, None], series.names, basin)
    _refuse_codes("the forcing", columns, series.names, basin)
    _refuse_codes("the attributes", numbers, series.names, np.arange(count))
    codes, levels = _numbered(categories or {}, count)
    return replace(
        series, known=columns, numbers=numbers, categories=codes, levels=levels, frequency=Frequency(1, "D"),
        known_names=_named("forcing_names", forcing_names, columns.shape[1]),
        number_names=_named("attribute_names", attribute_names, numbers.shape[1]), units=tuple((units or {}).items()),
    )  # fmt: skip


def is_mm_a_day(unit: str) -> bool:
    """Return whether a unit is mm/day, however it is spelt: "mm d-1", "[mm/day]", "kg m^-2 day^-1"."""
    return "".join(letter for letter in unit.lower() if letter not in " ^*()[]·.").replace("−", "-") in MM_A_DAY


def unit_of(basins: SeriesSet, column: str) -> str | None:
    """Return the unit of a column, by its file or else in its name, such as "prcp(mm/day)"; None: unknown."""
    in_name = re.search(r"[(\[]([^()\[\]]+)[)\]]\s*$", column)
    return dict(basins.units).get(column) or (in_name.group(1) if in_name else None)


def _refuse_codes(what: str, columns: np.ndarray, names: Sequence[str], basin: np.ndarray) -> None:
    """Refuse numbers that stand for missing values: they would be learnt, and rule every mean."""
    coded = np.isin(columns, CODES) | (np.abs(columns) > 1e15)  # NetCDF fills by 9.97e36, CF by 1e20
    if coded.any():
        row, column = np.argwhere(coded)[0]
        raise SeriesError(
            f"{what} of basin {names[basin[row]]!r} holds {columns[row, column]:g} (column {column}, {coded.sum()} "
            "such values in all), which stands for a value that is missing; pass NaN."
        )


def _named(argument: str, names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    labels = tuple(map(str, range(count))) if names is None else tuple(names)
    if len(labels) != count or len(set(labels)) != count:
        raise SeriesError(f"{argument} is {labels}, expected {count} different names, one for each column.")
    return labels


def _numbered(categories: Mapping[str, Sequence[str]], count: int) -> tuple[np.ndarray, Levels]:
    """Return the numbers of words, int32 `[S, C]`, and the words of each category in alphabetical order."""
    codes, levels = np.zeros((count, len(categories)), np.int32), []
    for k, (name, words) in enumerate(categories.items()):
        labels = [str(word).strip() for word in words]
        if len(labels) != count:
            raise SeriesError(
                f"the category {name!r} has {len(labels)} values, expected one for each of {count} basins."
            )
        values = tuple(sorted(set(labels)))
        codes[:, k] = [values.index(label) for label in labels]
        levels.append((name, values))
    return codes, tuple(levels)


def levels_of(basins: SeriesSet) -> Levels:
    """Return the words of each category that some of these basins have."""
    return tuple(
        (name, tuple(values[n] for n in np.unique(basins.categories[:, k])))
        for k, (name, values) in enumerate(basins.levels)
    )


def encoded(basins: SeriesSet, levels: Levels) -> SeriesSet:
    """Return the basins with their categories as attributes of 0 and 1, one for each word: "land_cover=forest".

    Args:
        basins: with the categories of levels.
        levels: the words that a network has learnt, in the order of the columns.

    Raises:
        SeriesError: the basins have other categories, or one of them has a word that is not among the levels.
    """
    names = tuple(name for name, _ in basins.levels)
    expected = tuple(name for name, _ in levels)
    if names != expected:
        raise SeriesError(
            f"the basins have the categories {', '.join(names) or 'none'}, but the model was fitted with "
            f"{', '.join(expected) or 'none'}, in this order."
        )
    columns, labels = [basins.numbers], list(basins.number_names)
    for k, (name, values) in enumerate(levels):
        words = [basins.levels[k][1][code] for code in basins.categories[:, k]]
        for basin, word in zip(basins.names, words, strict=True):
            if word not in values:
                raise SeriesError(
                    f"basin {basin!r} has the {name} {word!r}, which no basin of the training has; those have "
                    f"{', '.join(map(repr, values))}. Leave the basin or the category out."
                )
        columns.append(np.array([[float(word == value) for value in values] for word in words]))
        labels += [f"{name}={value}" for value in values]
    return replace(
        basins, numbers=np.concatenate(columns, 1), number_names=tuple(labels), levels=(),
        categories=np.zeros((len(basins), 0), basins.categories.dtype),
    )  # fmt: skip


def until(basins: SeriesSet, last: str) -> Period:
    """Return the period from the first day of any basin to `last`."""
    assert basins.times is not None
    return str(basins.times.min().astype("datetime64[D]")), last


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


def without_days(basins: SeriesSet, period: Period) -> str | None:
    """Return words that say which part of a period lies outside of the data of all basins; None if none does."""
    assert basins.times is not None
    days = basins.times.astype("datetime64[D]")
    first, last = (np.datetime64(day, "D") for day in period)
    if first >= days.min() and last <= days.max():
        return None
    return f"{first} to {last}, but the data go from {days.min()} to {days.max()}"


def shorter_records(basins: SeriesSet, period: Period) -> str | None:
    """Return words that say how many basins have no days at the beginning or the end of a period; None if all have."""
    assert basins.times is not None
    days = basins.times.astype("datetime64[D]")
    first, last = (np.datetime64(day, "D") for day in period)
    begins, ends = days[basins.starts[:-1]], days[basins.starts[1:] - 1]
    late, early = int(np.argmax(begins)), int(np.argmin(ends))
    words = []
    if begins[late] > first:
        words.append(f"{(begins > first).sum()} of {len(basins)} basins begin later, {basins.names[late]!r} on "
                     f"{begins[late]}")  # fmt: skip
    if ends[early] < last:
        words.append(
            f"{(ends < last).sum()} of {len(basins)} basins end earlier, {basins.names[early]!r} on {ends[early]}"
        )
    return "; ".join(words) or None


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
