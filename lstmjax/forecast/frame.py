"""Series from a long table: a row for each series and time. Any data frame by narwhals; CSV, Parquet, Arrow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.arguments import check_positive
from lstmjax.data.form import Form, optional
from lstmjax.data.sequences import DataError
from lstmjax.data.tables import open_table
from lstmjax.forecast.arguments import as_names, as_path, check_column, check_is
from lstmjax.forecast.calendar import (
    BUSINESS_DAY,
    COUNT,
    Frequency,
    frequency_of,
    of_business_days,
    shown_time,
    steps_between,
)
from lstmjax.forecast.columns import is_missing, numbered, numbers_of, times_of
from lstmjax.forecast.series import SeriesError, SeriesSet

KINDS = (".csv", ".parquet", ".arrow", ".feather")
LARGEST_GAP = 100_000
"""Steps that a gap may have before a time is taken for a mistake."""


def from_frame(
    frame: Any,
    *,
    target: str = "target",
    series: str | None = "series",
    time: str = "time",
    past: Sequence[str] = (),
    known: Sequence[str] = (),
    numbers: Sequence[str] = (),
    categories: Sequence[str] = (),
    season: int | None = None,
) -> SeriesSet:
    """Read series from a long table, with a row for each series and time, in any order.

    Steps that are missing between two times of a series become gaps, with NaN as their target and covariates. Rows
    behind the last target of a series are its future: their known covariates are used in forecasts.

    Args:
        frame: a data frame that narwhals knows (pandas, Polars, PyArrow, Modin, …).
        target: the column to forecast; empty or NaN where it is missing.
        series: the column that says which series a row belongs to; None: all are one series.
        time: dates, times, or whole numbers that count steps.
        past: covariates that are known up to the origin of a forecast.
        known: covariates that are known in the future, too: prices, holidays, plans.
        numbers: static numbers, the same in all rows of a series.
        categories: static categories, the same in all rows of a series; a missing one is a category too, "".
        season: m, steps in a season; None: the usual one of the frequency (12 for months), 1 if there is none.

    Raises:
        SeriesError: a column is not there or not of its kind, a time is given twice or does not fit the frequency, a
            static column changes within a series.
    """
    for name, column in (("target", target), ("time", time), *([] if series is None else [("series", series)])):
        check_column(name, column)
    past, known = as_names("past", past), as_names("known", known)
    numbers, categories = as_names("numbers", numbers), as_names("categories", categories)
    if season is not None:
        check_positive("season", season)
    table = _as_table(frame)
    wanted = [time, target, *([series] if series else []), *past, *known, *numbers, *categories]
    for name in wanted:
        if name not in table.columns:
            near = get_close_matches(name, table.columns, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            if name == time and _has_index(frame):
                hint = " Is it the index? Then pass frame.reset_index()."
            raise SeriesError(f"the table has no column {name!r}; it has {', '.join(map(repr, table.columns))}.{hint}")
    if len(set(wanted)) < len(wanted):
        twice = next(name for name in wanted if wanted.count(name) > 1)
        raise SeriesError(f"column {twice!r} is asked for twice: as which of series, time, target or a covariate?")
    if len(table) == 0:
        raise SeriesError("the table has no rows.")
    times = times_of(table[time], time)
    names, which = (target,), np.zeros(len(table), np.int64)
    if series:
        names, which = numbered(table[series].to_list(), series)
    order = np.lexsort((times, which))
    times, which = times[order], which[order]
    columns = {name: numbers_of(table[name], name)[order] for name in (target, *past, *known, *numbers)}
    text = {
        name: np.asarray(["" if is_missing(v) else str(v) for v in table[name].to_list()])[order] for name in categories
    }
    bounds = np.concatenate([[0], np.cumsum(np.bincount(which))])
    _check_once(times, which, names)
    frequency = _shared_frequency(times, bounds)
    steps = [_steps(times[a:b], frequency, names[s]) for s, (a, b) in enumerate(itertools.pairwise(bounds))]
    starts = np.concatenate([[0], np.cumsum([at[-1] + 1 for at in steps])])
    rows = np.concatenate([at + start for at, start in zip(steps, starts[:-1], strict=True)])

    def spread(column: np.ndarray) -> np.ndarray:
        out = np.full(starts[-1], np.nan)
        out[rows] = column
        return out

    targets = spread(columns[target])
    static = {
        name: _constant(values, bounds, names, name)
        for name, values in (columns | text).items()
        if name in (*numbers, *categories)
    }
    levels, codes = [], []
    for name in categories:
        values, index = np.unique(static[name], return_inverse=True)
        levels.append((name, tuple(str(v) for v in values)))
        codes.append(index)
    return SeriesSet(
        names=names,
        target=targets,
        starts=starts,
        ends=_ends(targets, starts, names),
        season=season or frequency.season,
        times=_all_times(times, bounds, steps, frequency),
        frequency=frequency,
        past=np.stack([spread(columns[name]) for name in past], 1) if past else np.zeros((len(targets), 0)),
        known=np.stack([spread(columns[name]) for name in known], 1) if known else np.zeros((len(targets), 0)),
        numbers=np.stack([static[name] for name in numbers], 1) if numbers else np.zeros((len(names), 0)),
        categories=np.stack(codes, 1) if categories else np.zeros((len(names), 0), np.int64),
        past_names=tuple(past),
        known_names=tuple(known),
        number_names=tuple(numbers),
        levels=tuple(levels),
    )


def read_table(path: str | Path) -> Any:
    """Read a CSV, Parquet or Arrow (Feather) file into a table of PyArrow; or a folder of them, one below the other.

    Raises:
        SeriesError: no such file, of no kind that is known, or not readable; files of a folder with other columns.
    """
    path = as_path("path", path)
    if path.is_dir():
        return _read_folder(path)
    table_files(path)
    try:
        return open_table(path, Form()).table
    except DataError as error:
        raise SeriesError(f"{error}") from None


def table_files(path: Path) -> list[Path]:
    """Return the files of a table, which is one file or a folder of them.

    Raises:
        SeriesError: no such file, none of a kind that is known.
    """
    if path.is_dir():
        paths = sorted(file for file in path.rglob("*") if file.suffix.lower() in KINDS and file.is_file())
        if not paths:
            raise SeriesError(f"{path}: has no file that ends in {', '.join(KINDS)}.")
        return paths
    if path.suffix.lower() not in KINDS:
        raise SeriesError(f"{path}: is no table; expected a file that ends in {', '.join(KINDS)}, or a folder of them.")
    if not path.is_file():
        raise SeriesError(f"{path}: there is no such file.")
    return [path]


def _read_folder(folder: Path) -> Any:
    arrow = optional("pyarrow", str(folder))
    paths = table_files(folder)
    tables = [read_table(path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if set(table.column_names) != set(tables[0].column_names):
            raise SeriesError(
                f"{path}: has the columns {', '.join(table.column_names)}, but {paths[0].name} has "
                f"{', '.join(tables[0].column_names)}. The tables of a folder have the same columns."
            )
    try:
        # a column of whole numbers in one file and of others in the next is one of numbers
        return arrow.concat_tables(tables, promote_options="permissive")
    except arrow.ArrowTypeError as error:
        raise SeriesError(f"{folder}: a column has other types in other files: {error}") from None


def gaps(series: SeriesSet) -> dict[str, int]:
    """Return how many targets each series lacks between its first and its last one; only those that lack some."""
    check_is("series", series, SeriesSet, "from_arrays and from_frame make one.")
    counts = {}
    for s, name in enumerate(series.names):
        missing = int(np.isnan(series.history(s)).sum())
        if missing:
            counts[name] = missing
    return counts


def _as_table(frame: Any) -> Any:
    """Return a data frame behind the interface of narwhals."""
    narwhals = optional("narwhals", "a data frame")
    if isinstance(frame, dict | np.ndarray):
        raise SeriesError(
            f"frame is a {type(frame).__name__}, expected a data frame of pandas, Polars or PyArrow, such as "
            "pandas.DataFrame(frame), with names of columns. Plain arrays are read by from_arrays."
        )
    try:
        table = narwhals.from_native(frame)
    except TypeError:
        raise SeriesError(f"frame is a {type(frame).__name__}, expected a data frame that narwhals knows.") from None
    except narwhals.exceptions.DuplicateError as error:
        raise SeriesError(f"the table has two columns of one name: {error}") from None
    if isinstance(table, narwhals.LazyFrame):
        raise SeriesError("frame is lazy: its rows are not there yet. Pass frame.collect().")
    return table


def _has_index(frame: Any) -> bool:
    """Return whether a data frame has an index beside its columns, which may hold the times."""
    return hasattr(frame, "reset_index")


def _check_once(times: np.ndarray, which: np.ndarray, names: tuple[str, ...]) -> None:
    """Refuse two rows for one time of one series; rows are sorted."""
    twice = (np.diff(which) == 0) & (times[1:] == times[:-1])
    if twice.any():
        row = int(twice.argmax())
        raise SeriesError(
            f"series {names[which[row]]!r} has two rows for {shown_time(times[row])}. Each series and time needs one "
            "row; is the column that tells series apart the right one?"
        )


def _shared_frequency(times: np.ndarray, bounds: np.ndarray) -> Frequency:
    """Return the frequency of all series: of dates that of the longest one, of whole numbers what divides all steps."""
    if times.dtype.kind == "i":
        inner = np.delete(np.diff(times), bounds[1:-1] - 1)
        return Frequency(math.gcd(*np.unique(inner).tolist()) or 1, COUNT)
    longest = int(np.argmax(np.diff(bounds)))
    found = frequency_of(times[bounds[longest] : bounds[longest + 1]])
    if found is None and np.diff(bounds)[longest] > 1:
        raise SeriesError(
            "the steps of the series are shorter than a second, the shortest that is known; number the steps instead."
        )
    if found is None:
        raise SeriesError("no series has two times, so that the frequency cannot be told; number the steps instead.")
    if found == Frequency(1, "D") and of_business_days(times):
        return Frequency(1, BUSINESS_DAY)
    return found


def _steps(times: np.ndarray, frequency: Frequency, name: str) -> np.ndarray:
    """Return the step of each time, from 0."""
    steps = steps_between(times, frequency)
    if (np.diff(steps) == 0).any():
        row = int((np.diff(steps) == 0).argmax())
        raise SeriesError(
            f"series {name!r} has two rows for one step of a {frequency}: {shown_time(times[row])} and "
            f"{shown_time(times[row + 1])}. Bring all times to one frequency first."
        )
    if (steps % 1 != 0).any():
        row = int((steps % 1 != 0).argmax())
        raise SeriesError(
            f"series {name!r} has the time {shown_time(times[row])}, which is not a whole number of steps of a "
            f"{frequency} after {shown_time(times[0])}. Bring all times to one frequency first."
        )
    if len(steps) > 1 and np.diff(steps).max() > LARGEST_GAP:
        row = int(np.argmax(np.diff(steps)))
        raise SeriesError(
            f"series {name!r} has a gap of {int(np.diff(steps).max())} steps of a {frequency} after "
            f"{shown_time(times[row])}; is a time wrong?"
        )
    return steps.astype(np.int64)


def _all_times(times: np.ndarray, bounds: np.ndarray, steps: list[np.ndarray], frequency: Frequency) -> np.ndarray:
    parts = []
    for a, at in zip(bounds, steps, strict=False):
        parts += [times[a : a + 1], frequency.after(times[a], int(at[-1]))]
    return np.concatenate(parts)


def _ends(targets: np.ndarray, starts: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    ends = []
    for s, (a, b) in enumerate(itertools.pairwise(starts)):
        (known,) = np.nonzero(~np.isnan(targets[a:b]))
        if not len(known):
            raise SeriesError(f"series {names[s]!r} has no target at all; leave it out.")
        ends.append(a + known[-1] + 1)
    return np.asarray(ends)


def _constant(values: np.ndarray, bounds: np.ndarray, names: tuple[str, ...], column: str) -> np.ndarray:
    for s, (a, b) in enumerate(itertools.pairwise(bounds)):
        if (values[a:b] != values[a]).any() and not (values.dtype.kind == "f" and np.isnan(values[a:b]).all()):
            other = values[a:b][values[a:b] != values[a]][0]
            raise SeriesError(
                f"column {column!r} is static, but series {names[s]!r} has both {values[a]} and {other} there; "
                "make it a past or a known covariate."
            )
    return values[bounds[:-1]]
