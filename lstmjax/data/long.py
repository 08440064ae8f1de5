"""Turn a long table, with a row for each step, into sequences."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmjax import claims
from lstmjax.data.columns import Source, codes_of, features_of, numbers_of, one_hot, words_of
from lstmjax.data.form import Form, Table, optional
from lstmjax.data.ragged import Ragged
from lstmjax.data.sequences import DataError, Sequences


def from_long(source: Source, form: Form, *, labels: bool) -> Table:
    """Return the sequences of a long table, in the order of their first rows.

    Args:
        source: the rows, in any order.
        form: what the columns are, with the categories of training.
        labels: whether targets are required; False: they are not read.

    Raises:
        DataError: a column is missing or wrong; the message names the row, the column and the remedy.
    """
    columns = form.columns
    if not source.table.num_rows:
        raise DataError(f"{source.name}: has no rows")
    sequence, names = codes_of(words_of(source, columns.sequence, "data.columns.sequence"))
    time = _times(source, form)
    order = np.lexsort((np.arange(len(sequence)), time, sequence))
    lengths = np.bincount(sequence).astype(np.int32)
    first = np.cumsum(lengths, dtype=np.int64) - lengths
    _check_times(source, form, names, order, first, lengths, time)
    x, features = features_in(source, form, features_of(source, form))
    x = x[order]
    rows = _Rows(source, names, order, first, lengths)
    y = None
    if labels:
        targets = [target_of(source, name) for name in columns.target]
        if columns.target_of == "sequence":
            targets = [rows.constant(name, column) for name, column in zip(columns.target, targets, strict=True)]
            y = targets[0] if len(targets) == 1 else np.stack([column.astype(object) for column in targets], axis=1)
        else:
            y = rows.padded([column[order] for column in targets])
    weight = None
    if columns.weight is not None and labels:
        weight = rows.constant(columns.weight, numbers_of(source, columns.weight, "data.columns.weight", missing=False))
        check_weights(source, columns.weight, weight, names)
    group = None
    if columns.group is not None and (labels or columns.group in source.names):
        group = rows.constant(columns.group, words_of(source, columns.group, "data.columns.group"))
    begin = end = None
    if columns.time is not None:
        begin, end = time[order[first]], time[order[first + lengths - 1]]
    if (lengths == lengths[0]).all():
        data = Sequences(x.reshape(len(names), -1, len(features)), y, None, tuple(names), features, weight)
    else:
        data = Sequences(Ragged(x, lengths, int(np.max(lengths))), y, lengths, tuple(names), features, weight)
    return Table(data, group, begin, end)


def features_in(source: Source, form: Form, names: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the features of all rows, float32 `[rows, I]` with NaN where they are missing, and their names."""
    missing, known = form.missing != "error", dict(form.categories)
    parts, features = [], []
    for name in names:
        if name in form.columns.categorical:
            parts.append(one_hot(source, name, known[name], missing=missing))
            features += [f"{name}={word}" for word in known[name]]
        else:
            parts.append(numbers_of(source, name, "data.columns.features", missing=missing)[:, None])
            features.append(name)
    try:
        claims.check_memory(8 * source.table.num_rows * len(features), "what the file holds", "give less of it")
    except claims.ClaimError as error:
        raise DataError(f"{source.name}: {error}") from None
    return np.concatenate(parts, axis=1), tuple(features)


def target_of(source: Source, name: str) -> np.ndarray:
    """Return a target as the file has it: numbers, or words as objects.

    Raises:
        DataError: a cell is empty.
    """
    arrow = optional("pyarrow", source.name)
    column = source.column(name, "data.columns.target")
    if arrow.types.is_boolean(column.type):
        column = column.cast(arrow.int64())
    if not (arrow.types.is_integer(column.type) or arrow.types.is_floating(column.type)):
        return words_of(source, name, "data.columns.target")
    values = column.to_numpy(zero_copy_only=False)
    absent = np.asarray(column.is_null()) | (np.isnan(values) if values.dtype.kind == "f" else False)
    if absent.any():
        raise DataError(
            f"{source.place(int(np.argmax(absent)))}: column {name!r} is empty, and labels are never filled in; fill "
            "the cell or remove the sequence"
        )
    return values


def check_weights(source: Source, name: str, weight: np.ndarray, names: list[str]) -> None:
    """Refuse weights that are not above 0: a batch of them would have no mean."""
    if (wrong := np.flatnonzero(weight <= 0)).size:
        n = int(wrong[0])
        raise DataError(
            f"{source.name}: column {name!r} is {weight[n]:g} for sequence {names[n]!r}, expected a number above 0; "
            "remove the sequence"
        )


class _Rows:
    """The rows of a table by sequence and time."""

    def __init__(self, source: Source, names: list[str], order: np.ndarray, first: np.ndarray, lengths: np.ndarray):
        self.source, self.names = source, names
        self.order, self.first, self.lengths = order, first, lengths

    def constant(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return the value of each sequence `[N]`; refuse a column that changes within one."""
        ordered = values[self.order]
        of_sequence = ordered[self.first]
        changed = ordered != np.repeat(of_sequence, self.lengths)
        if changed.any():
            at = int(changed.argmax())
            n = int(np.searchsorted(self.first, at, side="right")) - 1
            raise DataError(
                f"{self.source.place(int(self.order[at]))}: column {name!r} is {_shown(ordered[at])}, but sequence "
                f"{self.names[n]!r} began with {_shown(of_sequence[n])}; give a sequence one value, or for labels of "
                "every step set data.columns.target_of: step"
            )
        return of_sequence

    def padded(self, columns: list[np.ndarray]) -> np.ndarray:
        """Return the targets of all steps: `[N, T]` words or whole numbers, `[N, T, O]` numbers."""
        count, longest = len(self.lengths), int(self.lengths.max())
        try:
            claims.check_memory(8 * count * longest * len(columns), "a label for each step, padded", "give less of it")
        except claims.ClaimError as error:
            raise DataError(f"{self.source.name}: {error}") from None
        valid = np.arange(longest) < self.lengths[:, None]
        numeric = all(column.dtype.kind == "f" for column in columns)
        if len(columns) == 1 and not numeric:
            (column,) = columns
            y = np.full((count, longest), "" if column.dtype == object else 0, column.dtype)
            y[valid] = column
            return y
        y = np.zeros((count, longest, len(columns)), np.float64)
        try:
            y[valid] = np.stack([column.astype(np.float64) for column in columns], axis=1)
        except ValueError as error:
            raise DataError(f"{self.source.name}: several targets are numbers, but {error}") from None
        return y


def _shown(value: Any) -> str:
    return repr(value[:40]) if isinstance(value, str) else f"{value:g}"


def _times(source: Source, form: Form) -> np.ndarray:
    """Return what orders the rows: steps as int64, times as int64 nanoseconds or numbers."""
    arrow, columns = optional("pyarrow", source.name), form.columns
    if columns.time is None:
        steps = source.column(columns.step, "data.columns.step (or a time by data.columns.time)")
        values = _ordered(source, columns.step, steps)
        if not arrow.types.is_integer(steps.type):
            if not (np.issubdtype(values.dtype, np.floating) and (values == np.rint(values)).all()):
                raise DataError(
                    f"{source.name}: column {columns.step!r} is {steps.type}, expected the numbers of steps; if it is "
                    f"a time, set data.columns.time: {columns.step}"
                )
            values = values.astype(np.int64)
        return values
    return _ordered(source, columns.time, source.column(columns.time, "data.columns.time"))


def _ordered(source: Source, name: str, column: Any) -> np.ndarray:
    arrow = optional("pyarrow", source.name)
    if arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type):
        try:
            column = column.cast(arrow.timestamp("ns"))
        except arrow.ArrowInvalid:
            raise DataError(
                f"{source.name}: column {name!r} holds words such as {column[0].as_py()!r}, expected numbers or times "
                "such as 2026-03-01 12:00:00"
            ) from None
    if column.null_count:
        row = int(np.argmax(np.asarray(column.is_null())))
        raise DataError(f"{source.place(row)}: column {name!r} is empty; fill the cell or remove the row")
    if arrow.types.is_date(column.type) or arrow.types.is_timestamp(column.type):
        return column.cast(arrow.timestamp("ns", getattr(column.type, "tz", None))).to_numpy(zero_copy_only=False)
    if arrow.types.is_temporal(column.type):
        return column.cast(arrow.int64()).to_numpy(zero_copy_only=False)
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "iuf" or (values.dtype.kind == "f" and not np.isfinite(values).all()):
        raise DataError(f"{source.name}: column {name!r} is {column.type}, expected finite numbers or times")
    return values


def _check_times(
    source: Source,
    form: Form,
    names: list[str],
    order: np.ndarray,
    first: np.ndarray,
    lengths: np.ndarray,
    time: np.ndarray,
) -> None:
    """Refuse steps with gaps and times that are there twice."""
    columns, ordered = form.columns, time[order]
    of_sequence = np.repeat(np.arange(len(names)), lengths)
    if columns.time is not None:
        twice = np.flatnonzero((ordered[1:] == ordered[:-1]) & (of_sequence[1:] == of_sequence[:-1]))
        if len(twice):
            at = int(twice[0]) + 1
            raise DataError(
                f"{source.place(int(order[at]))}: column {columns.time!r}: sequence {names[of_sequence[at]]!r} has the "
                f"time {ordered[at]} twice; remove one of the rows, or give the sequences different names"
            )
        return
    begin = int(ordered.min())
    if begin not in (0, 1):
        raise DataError(
            f"{source.name}: column {columns.step!r}: the first step is {begin}, expected 0 or 1; number the steps of "
            f"each sequence anew, or set data.columns.time: {columns.step}"
        )
    expected = np.arange(len(order)) - np.repeat(first, lengths) + begin
    if (wrong := np.flatnonzero(ordered != expected)).size:
        at = int(wrong[0])
        name, row = names[of_sequence[at]], int(order[at])
        if ordered[at] == expected[at] - 1 and at > first[of_sequence[at]]:
            raise DataError(
                f"{source.place(row)}: column {columns.step!r}: sequence {name!r} has step {ordered[at]} twice; remove "
                "one, or give the sequences different names"
            )
        raise DataError(
            f"{source.place(row)}: column {columns.step!r} is {ordered[at]}, but step {expected[at]} of sequence "
            f"{name!r} is missing; number the steps without gaps, or set data.columns.time: {columns.step}"
        )
