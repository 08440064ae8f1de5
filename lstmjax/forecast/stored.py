"""Series that are larger than the memory: written piece by piece into a folder, and mapped from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.arguments import check_function, described
from lstmjax.data.blocks import complete_rows, rows_of_file
from lstmjax.data.form import Form, optional
from lstmjax.data.sequences import DataError
from lstmjax.forecast.arguments import as_path, check_column, check_is
from lstmjax.forecast.calendar import Frequency
from lstmjax.forecast.frame import table_files
from lstmjax.forecast.series import SeriesError, SeriesSet

VERSION = 1
ROWS = ("target", "past", "known", "times")
"""Fields with an entry for each row, each in a file of 8 bytes a number."""
SERIES = ("starts", "ends", "numbers", "categories")
"""Fields with an entry for each series, in one NPZ file."""
SHARED = ("season", "frequency", "past_names", "known_names", "number_names")
"""Fields that all parts have alike."""


def read_parts(path: str | Path, read: Callable[[Any], SeriesSet], series: str = "series") -> Iterator[SeriesSet]:
    """Yield the series of a long table in parts, with no more in the memory than 65,536 rows and one series.

    The rows of a series stand together, within a file and from one file to the next in the order of their names.

    Args:
        path: CSV, Parquet or Arrow file, or a folder of them.
        read: makes series of a table of PyArrow, such as `lambda table: from_frame(table, series="shop")`; it is
            called with complete series.
        series: the column that says which series a row belongs to.

    Raises:
        SeriesError: a file is not readable, or has no such column.
    """
    path = as_path("path", path)
    check_function("read", read, "of a table of PyArrow, which returns series")
    check_column("series", series)
    arrow = optional("pyarrow", str(path))
    left = None
    try:
        for file in table_files(path):
            for rows in rows_of_file(file, Form()):
                if series not in rows.column_names:
                    raise SeriesError(f"{file}: has no column {series!r}; it has {', '.join(rows.column_names)}.")
                rows = rows if left is None else arrow.concat_tables([left, rows], promote_options="permissive")
                complete = complete_rows(rows[series], str(file))
                left = rows.slice(complete)
                if complete:
                    yield read(rows.slice(0, complete))
    except DataError as error:
        raise SeriesError(f"{error}") from None
    except arrow.ArrowException as error:
        raise SeriesError(f"{path}: the columns of one file do not go on those of another: {error}") from None
    if left is not None and left.num_rows:
        yield read(left)


def store_series(parts: Iterable[SeriesSet], folder: str | Path) -> SeriesSet:
    """Write series into a new folder, part by part, and return them mapped from it; see `open_series`.

    What a mapped set cannot get without a copy in the memory is made before, in each part: future rows by
    `SeriesSet.extended`, calendar features by `SeriesSet.with_calendar`.

    Args:
        parts: series with the same covariates, frequency and season; each series in one part.
        folder: new; it has its name when it is complete.

    Raises:
        SeriesError: the folder is there already, parts differ, a series is in two of them, or there is no part.
    """
    folder = as_path("folder", folder)
    if isinstance(parts, SeriesSet) or not hasattr(parts, "__iter__"):
        hint = " Pass [parts]." if isinstance(parts, SeriesSet) else ""
        raise TypeError(f"parts is {described(parts)}, expected sets of series, such as read_parts yields.{hint}")
    if folder.exists():
        raise SeriesError(f"{folder}: is there already; open it by open_series, or name a new folder.")
    draft = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
    try:
        draft.mkdir(parents=True)
        _write(parts, draft)
        draft.rename(folder)
    except OSError as error:
        raise SeriesError(f"{folder}: cannot be written ({error.strerror or error}).") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return open_series(folder)


def open_series(folder: str | Path) -> SeriesSet:
    """Map the series that `store_series` has written into a folder; rows are read from the disk as they are needed.

    Raises:
        SeriesError: the folder holds no series, or is damaged.
    """
    folder = as_path("folder", folder)
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        if about["version"] != VERSION:
            raise ValueError(f"version {about['version']}, expected {VERSION}")
        with np.load(folder / "series.npz") as file:
            small: dict[str, Any] = {name: file[name] for name in SERIES}
        count = int(small["starts"][-1])
        rows: dict[str, Any] = {
            name: _mapped(folder / name, np.dtype(kind), (count, *more)) for name, kind, more in about["rows"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SeriesError(f"{folder}: holds no series ({error}); store_series writes such a folder.") from None
    frequency = about["frequency"]
    return SeriesSet(
        names=tuple(about["names"]),
        season=about["season"],
        frequency=None if frequency is None else Frequency(*frequency),
        past_names=tuple(about["past_names"]),
        known_names=tuple(about["known_names"]),
        number_names=tuple(about["number_names"]),
        levels=tuple((name, tuple(values)) for name, values in about["levels"]),
        folder=folder,
        **small,
        **rows,
    )


def _mapped(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if path.stat().st_size != size:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, expected {size}")
    return np.memmap(path, dtype, "r", shape=shape) if size else np.zeros(shape, dtype)


def _write(parts: Iterable[SeriesSet], draft: Path) -> None:
    names: dict[str, None] = {}
    small: dict[str, list[np.ndarray]] = {name: [] for name in SERIES}
    words: dict[str, dict[str, int]] = {}
    first, count = None, 0
    for k, part in enumerate(parts):
        check_is(f"parts[{k}]", part, SeriesSet, "from_arrays and from_frame make one.")
        first = part if first is None else first
        _check_alike(part, first)
        for name in part.names:
            if name in names:
                raise SeriesError(
                    f"series {name!r} is in two parts, but the rows of a series stand together; sort the table by its "
                    "series first."
                )
            names[name] = None
        for name in ROWS:
            values = getattr(part, name)
            if values is not None:
                with (draft / name).open("ab") as file:
                    file.write(np.ascontiguousarray(values).tobytes())
        small["starts"].append(part.starts[:-1] + count)
        small["ends"].append(part.ends + count)
        small["numbers"].append(part.numbers)
        small["categories"].append(_recoded(part, words))
        count += int(part.starts[-1])
    if first is None:
        raise SeriesError("parts is empty; at least one set of series is needed.")
    arrays = {name: np.concatenate(values) for name, values in small.items()}
    arrays["starts"] = np.append(arrays["starts"], count)
    levels = []
    for k, (name, known) in enumerate(words.items()):
        ordered = sorted(known)
        places = np.argsort([known[value] for value in ordered])  # of each number in the sorted values
        arrays["categories"][:, k] = places[arrays["categories"][:, k]]
        levels.append((name, ordered))
    np.savez(draft / "series.npz", allow_pickle=False, **arrays)
    rows = [(name, getattr(first, name)) for name in ROWS]
    about = {name: getattr(first, name) for name in SHARED} | {
        "version": VERSION,
        "names": list(names),
        "levels": levels,
        "rows": [(name, of.dtype.str, of.shape[1:]) for name, of in rows if of is not None],
    }
    (draft / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _recoded(part: SeriesSet, words: dict[str, dict[str, int]]) -> np.ndarray:
    """Return the categories of a part by numbers that all parts share, in the order in which values came."""
    columns = np.empty_like(part.categories)
    for k, (name, values) in enumerate(part.levels):
        known = words.setdefault(name, {})
        numbers = [known.setdefault(value, len(known)) for value in values]
        columns[:, k] = np.asarray(numbers, np.int64)[part.categories[:, k]]
    return columns


def _check_alike(part: SeriesSet, first: SeriesSet) -> None:
    kind = lambda series: None if series.times is None else series.times.dtype
    pairs = [(name.replace("_", " "), getattr(part, name), getattr(first, name)) for name in SHARED]
    pairs += [("kind of times", kind(part), kind(first))]
    pairs += [("categories", [name for name, _ in part.levels], [name for name, _ in first.levels])]
    for what, has, expected in pairs:
        if has != expected:
            shown = [str(value) if isinstance(value, Frequency) else repr(value) for value in (has, expected)]
            raise SeriesError(
                f"the part with series {part.names[0]!r} has the {what} {shown[0]}, but that with "
                f"{first.names[0]!r} has {shown[1]}. All series of a set have the same."
            )
