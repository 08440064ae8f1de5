"""Check the columns of a table, and turn them into numbers, words and categories; all messages name row and column."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from lstmjax.data.form import Form, optional
from lstmjax.data.sequences import DataError, lost_digits, merged, warn_lost

SHOWN = 40


class Source:
    """An Arrow table with its name, for messages.

    Args:
        table: the rows.
        name: of the file, for messages.
        first_line: line of the file in which row 0 stands; None: rows have no lines, and are counted from 0.
        skipped: rows of the file before this table, which is a part of it.
    """

    def __init__(self, table: Any, name: str, first_line: int | None = None, skipped: int = 0):
        self.table, self.name, self.first_line, self.skipped = table, name, first_line, skipped

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return list(self.table.column_names)

    def place(self, row: int) -> str:
        """Return where a row is, for a message."""
        row += self.skipped
        return f"{self.name}:{row + self.first_line}" if self.first_line is not None else f"{self.name}: row {row}"

    def column(self, name: str, key: str) -> Any:
        """Return a column as one Arrow array.

        Raises:
            DataError: there is none of this name; `key` is the key of the configuration that names it.
        """
        if name not in self.names:
            near = get_close_matches(name, self.names, 1)
            hint = f" (is {near[0]!r} meant?)" if near else ""
            raise DataError(
                f"{self.name}: no column {name!r}{hint}; name it by {key}. The columns are {listed(self.names)}"
            )
        arrow = optional("pyarrow", self.name)
        column = self.table.column(name)
        if isinstance(column, arrow.ChunkedArray):
            column = arrow.concat_arrays(column.chunks) if column.num_chunks else arrow.array([], column.type)
        return column.dictionary_decode() if arrow.types.is_dictionary(column.type) else column


def listed(names: Sequence[str]) -> str:
    """Return names as text, at most a dozen of them."""
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more


def features_of(source: Source, form: Form) -> tuple[str, ...]:
    """Return the columns that are features, in their order.

    Raises:
        DataError: a column is there twice, or there are no features.
    """
    names = source.names
    if twice := [word for n, word in enumerate(names) if word in names[:n]]:
        raise DataError(f"{source.name}: column {twice[0]!r} appears twice; rename one of them")
    columns = form.columns
    if columns.features:
        for name in columns.features:
            source.column(name, "data.columns.features")
        return columns.features
    used = {columns.sequence, columns.time, columns.step, *columns.target, columns.weight, *columns.ignore}
    if columns.group is not None and columns.group not in columns.categorical:
        used.add(columns.group)
    features = tuple(name for name in names if name not in used and name)
    if not features:
        raise DataError(
            f"{source.name}: no feature columns beside {listed([n for n in names if n in used])}; name them by "
            "data.columns.features"
        )
    return features


def words_of(source: Source, name: str, key: str) -> np.ndarray:
    """Return a column as words, `[rows]` of str objects.

    Raises:
        DataError: a cell is empty.
    """
    arrow, column = optional("pyarrow", source.name), source.column(name, key)
    if column.null_count:
        row = int(np.flatnonzero(np.asarray(column.is_null()))[0])
        raise DataError(f"{source.place(row)}: column {name!r} is empty; fill the cell or remove the sequence")
    if arrow.types.is_floating(column.type):
        values = column.to_numpy(zero_copy_only=False)
        if (wrong := np.flatnonzero(~np.isfinite(values))).size:
            raise DataError(f"{source.place(int(wrong[0]))}: column {name!r} is {values[wrong[0]]}; fill the cell")
        if (values == np.rint(values)).all() and (np.abs(values) < 2**53).all():  # whole numbers in a column with gaps
            return np.array([str(int(value)) for value in values.tolist()], object)
    return np.array([str(value) for value in column.to_pylist()], object)


def codes_of(words: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the number of each word, `[rows]`, and the different words in the order in which they appear."""
    different: dict[str, int] = {}
    codes = np.fromiter((different.setdefault(word, len(different)) for word in words), np.int64, len(words))
    return codes, list(different)


def numbers_of(source: Source, name: str, key: str, *, missing: bool) -> np.ndarray:
    """Return a column as float32 `[rows]`; missing values are NaN.

    Args:
        source: the table.
        name: of the column.
        key: of the configuration that names such columns, for messages.
        missing: whether values may be missing.

    Raises:
        DataError: the column holds words or times, infinity, what float32 does not hold, or a missing value.
    """
    arrow, column = optional("pyarrow", source.name), source.column(name, key)
    kind = column.type
    if arrow.types.is_boolean(kind) or arrow.types.is_null(kind) or arrow.types.is_decimal(kind):
        column, kind = column.cast(arrow.float64()), arrow.float64()
    if not (arrow.types.is_integer(kind) or arrow.types.is_floating(kind)):
        raise DataError(_no_number(source, name, column))
    absent = np.asarray(column.is_null())
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = values.astype(np.float32)
    exact = values.astype(np.float64)
    absent = absent | np.isnan(exact)
    if not missing and absent.any():
        row = int(absent.argmax())
        raise DataError(
            f"{source.place(row)}: column {name!r} is missing ({int(absent.sum())} such cells in all); fill them, or "
            "say how by data.missing: mask, forward or mean"
        )
    if (wrong := np.flatnonzero(~np.isfinite(numbers) & ~absent)).size:
        value = values[wrong[0]]
        remedy = "give it in other units" if np.isfinite(exact[wrong[0]]) else "empty the cell, or remove the sequence"
        raise DataError(
            f"{source.place(int(wrong[0]))}: column {name!r} is {value}, expected a finite number that float32 holds; "
            f"{remedy}"
        )
    _warn(source, name, values, exact, numbers, ~absent)
    numbers[absent] = np.nan
    return numbers


def one_hot(source: Source, name: str, categories: Sequence[str], *, missing: bool) -> np.ndarray:
    """Return a categorical column as float32 `[rows, categories]`; a missing value is NaN in all of them.

    Raises:
        DataError: a category was not there in training, or a cell is empty.
    """
    column = source.column(name, "data.columns.categorical")
    absent = np.asarray(column.is_null())
    if absent.any() and not missing:
        raise DataError(
            f"{source.place(int(np.argmax(absent)))}: column {name!r} is missing ({int(absent.sum())} such cells in "
            "all); fill them, or say how by data.missing: mask, forward or mean"
        )
    place = {word: n for n, word in enumerate(categories)}
    words = column.to_pylist()
    codes = np.array([0 if word is None else place.get(category(word), -1) for word in words], np.int64)
    if (codes < 0).any():
        row = int(np.argmax(codes < 0))
        word = category(words[row])
        near = get_close_matches(word, categories, 1)
        hint = f" (is {near[0]!r} meant?)" if near else ""
        raise DataError(
            f"{source.place(row)}: column {name!r} is {word[:SHOWN]!r}, which is none of the {len(categories)} "
            f"categories in training{hint}: {listed(categories)}"
        )
    numbers = np.eye(len(categories), dtype=np.float32)[codes]
    numbers[absent] = np.nan
    return numbers


def categories_of(source: Source, form: Form) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return each categorical column with its categories, in alphabetical order."""
    found = []
    for name in form.columns.categorical:
        column = source.column(name, "data.columns.categorical")
        words = sorted({category(word) for word in column.unique().to_pylist() if word is not None})
        if len(words) > 10_000:
            raise DataError(
                f"{source.name}: column {name!r} has {len(words):,} categories, each of which would be a feature; is "
                "it a name? Leave it out by data.columns.ignore"
            )
        found.append((name, tuple(words)))
    return tuple(found)


def category(value: Any) -> str:
    """Return a category as text: whole numbers without a point, whatever type the file gives them."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _no_number(source: Source, name: str, column: Any) -> str:
    arrow = optional("pyarrow", source.name)
    if arrow.types.is_temporal(column.type):
        return (
            f"{source.name}: column {name!r} holds times ({column.type}), expected numbers; name it by "
            "data.columns.time, or leave it out by data.columns.ignore"
        )
    if not (arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type)):
        return f"{source.name}: column {name!r} is {column.type}, expected numbers; leave it out by data.columns.ignore"
    words = column.to_pylist()
    rows = [row for row, word in enumerate(words) if word is not None and not _is_number(word)] or [0]
    return (
        f"{source.place(rows[0])}: column {name!r} is {str(words[rows[0]])[:SHOWN]!r}, expected a number ({len(rows)} "
        "such cells in all); name it by data.columns.categorical, leave it out by data.columns.ignore, or mend the cell"
    )


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _warn(
    source: Source, name: str, values: np.ndarray, exact: np.ndarray, numbers: np.ndarray, valid: np.ndarray
) -> None:
    """Warn of whole numbers that lose digits in float32, and of large ones that it does not keep apart."""
    import warnings

    if values.dtype.itemsize >= 4 and values.dtype != np.float32:
        lost = np.flatnonzero(lost_digits(values, numbers) & valid)
        if len(lost):
            row = int(lost[0])
            warn_lost(f"{source.place(row)}: column {name!r}", values[row], numbers[row], len(lost))
    for _, different, kept in merged(exact[:, None], numbers[:, None], valid[:, None]):
        warnings.warn(
            f"{source.name}: column {name!r} has {different:,} different values of 2^53 and more in size, of which "
            f"float32 keeps {kept:,} apart; subtract a constant, or give it in other units",
            stacklevel=2,
        )
