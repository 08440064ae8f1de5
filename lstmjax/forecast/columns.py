"""The columns of a long table as arrays: times, numbers, and which series a row belongs to; each by narwhals."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from lstmjax.data.form import optional
from lstmjax.forecast.series import SeriesError

OFFSET = re.compile(r"\d{2}:\d{2}.*(Z|[+-]\d{2}:?(\d{2})?)$")
"""The end of a time that has an offset from UTC: 12:00:00Z, 12:00+01:00."""


def times_of(column: Any, name: str) -> np.ndarray:
    """Return times as datetime64, or whole numbers.

    Times with a zone or an offset are those on the clock there if they are days, and in UTC if they are shorter: days
    have 23 or 25 hours where the clocks change, and hours are there twice.
    """
    zone = getattr(column.dtype, "time_zone", None)
    if zone is not None:
        local = column.dt.replace_time_zone(None).to_numpy().astype("datetime64[us]")
        utc = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).to_numpy().astype("datetime64[us]")
        times = _of_zone(local, utc)
    elif column.dtype.is_numeric():
        return _counts(numbers_of(column, name), name)
    elif column.dtype.is_temporal() and "duration" not in str(column.dtype).lower():
        times = column.to_numpy().astype("datetime64[us]")
    else:
        times = _parsed(["" if is_missing(value) else str(value) for value in column.to_list()], name)
    if np.isnat(times).any():
        raise SeriesError(f"column {name!r} has no time in row {int(np.argmax(np.isnat(times))) + 1}.")
    return times


def _of_zone(local: np.ndarray, utc: np.ndarray) -> np.ndarray:
    """Return times on the clock if all have one time of the day, in UTC if not."""
    known = local[~np.isnat(local)]
    within = known - known.astype("datetime64[D]")
    return local if len(known) and (within == within[0]).all() else utc


def _counts(values: np.ndarray, name: str) -> np.ndarray:
    """Return numbers as int64; refuse what counts no steps."""
    if np.isnan(values).any():
        raise SeriesError(f"column {name!r} has no time in row {int(np.argmax(np.isnan(values))) + 1}.")
    broken = (values != np.round(values)) | (np.abs(values) > 2**53)
    if broken.any():
        raise SeriesError(
            f"column {name!r} has {values[broken][0]}, expected dates, or whole numbers that count steps."
        )
    counts = values.astype(np.int64)
    _check_counts(counts, name)
    return counts


def _parsed(words: list[str], name: str) -> np.ndarray:
    """Return times that are written as in ISO 8601; those with an offset as `_of_zone` has them."""
    if any(OFFSET.search(word) for word in words):
        moments = [_moment(word, name) for word in words]
        local = np.asarray([moment.replace(tzinfo=None) for moment in moments], "datetime64[us]")
        utc = np.asarray([moment.astimezone(UTC).replace(tzinfo=None) for moment in moments], "datetime64[us]")
        return _of_zone(local, utc)
    return np.asarray([_time(word, name) for word in words]).astype("datetime64[us]")


def _moment(word: str, column: str) -> datetime:
    try:
        moment = datetime.fromisoformat(word)
    except ValueError:
        raise _no_time(word, column) from None
    if moment.tzinfo is None:
        raise SeriesError(
            f"column {column!r} has {word!r}, without the offset from UTC that other rows have. Write all or none."
        )
    return moment


def _time(word: str, column: str) -> np.datetime64:
    # NumPy reads 202401 as a year, too
    if word.isdigit() and len(word) > 4:
        raise _no_time(word, column)
    try:
        return np.datetime64(word) if word else np.datetime64("NaT")
    except ValueError:
        raise _no_time(word, column) from None


def _no_time(word: str, column: str) -> SeriesError:
    return SeriesError(
        f"column {column!r} has {word!r}, expected dates as in ISO 8601 (2024-03-31, 2024-03-31T12:00) or "
        "whole numbers that count steps."
    )


def _check_counts(values: np.ndarray, column: str) -> None:
    """Refuse whole numbers that spell months or days: as counts they would have a gap after each year or month."""
    months, days = (values, 1) if values.max() < 10**6 else (values // 100, values % 100)
    years, month = months // 100, months % 100
    spelt = (years >= 1800) & (years <= 2200) & (month >= 1) & (month <= 12) & (days >= 1) & (days <= 31)
    if spelt.all() and len(np.unique(months if values.max() >= 10**6 else years)) > 1:
        raise SeriesError(
            f"column {column!r} has {values[0]}, which spells a date, but whole numbers count steps. Write it as in "
            "ISO 8601: 2024-03 or 2024-03-31."
        )


def numbered(labels: list[Any], column: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the series in their order, and the number of that of each row, `[N]`."""
    first: dict[Any, int] = {}
    rows = np.fromiter((first.setdefault(label, len(first)) for label in labels), np.int64, len(labels))
    for label, number in first.items():
        if is_missing(label):
            row = int(np.argmax(rows == number)) + 1
            raise SeriesError(f"column {column!r} has no series in row {row}. Name it, or leave the row out.")
    unique, place = np.unique([str(label) for label in first], return_inverse=True)
    return tuple(str(name) for name in unique), place[rows]


def is_missing(value: Any) -> bool:
    """Return whether a value of a column stands for none: None, NaN, NaT or pandas.NA."""
    # NaN and NaT differ from themselves; pandas.NA compares as itself
    return value is None or type(value).__name__ == "NAType" or value != value


def numbers_of(column: Any, name: str) -> np.ndarray:
    """Return a column in float64, NaN where a value is missing."""
    if column.dtype.is_float() or column.dtype.is_integer():
        # at once: a list of Python's numbers takes ten times the memory
        values = np.asarray(column.cast(_float64()).to_numpy(), np.float64)
    else:
        items = [np.nan if is_missing(value) else value for value in column.to_list()]
        for item in items:
            if not isinstance(item, Real | Decimal):
                raise SeriesError(
                    f"column {name!r} has {item!r}, expected numbers. Convert numbers that are text before; text that "
                    "is the same in all rows of a series goes into categories."
                )
        values = np.asarray(items, np.float64)
    if np.isinf(values).any():
        raise SeriesError(f"column {name!r} is infinite in row {int(np.argmax(np.isinf(values))) + 1}.")
    return values


def _float64() -> Any:
    return optional("narwhals", "a data frame").Float64
