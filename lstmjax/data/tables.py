"""Read tables: CSV, Parquet and Arrow files, and data frames of any kind."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lstmjax import claims
from lstmjax.config import Columns
from lstmjax.data.columns import Source, categories_of
from lstmjax.data.form import Form, Table, optional
from lstmjax.data.long import from_long
from lstmjax.data.missing import filled, fitted
from lstmjax.data.sequences import DataError, Sequences
from lstmjax.data.table import read_csv
from lstmjax.data.wide import from_wide, is_wide, numbered
from lstmjax.encodings import NOT_UTF8, check_text


def sequences_from(
    frame: Any, columns: Columns | None = None, *, missing: str = "error", like: Form | None = None, labels: bool = True
) -> tuple[Sequences, Form]:
    """Return the sequences of a data frame, and the form that other frames are read by.

    The frame is a table of pandas, Polars, PyArrow, Modin, cuDF or any other kind that narwhals knows, long (a row for
    each step) or wide (a row for each sequence).

    Args:
        frame: the rows.
        columns: what the columns are; None: `sequence`, `step`, features and `label`.
        missing: "error": missing values are refused; "mean", "forward" or "mask": see `data.missing`. The means are
            those of this frame, or of the frame that `like` came from.
        like: the form of the training data, for a frame of validation or test data; instead of the two above.
        labels: whether targets are required; False: they are not read.

    Returns:
        x `[N, T, I]`, a `Ragged` where the lengths differ; y `[N]`, `[N, O]` or `[N, T]`; and the form.

    Raises:
        DataError: a column is missing or wrong; the message names the row, the column and the remedy.

    >>> import pyarrow
    >>> columns = {"id": ["u", "u", "v"], "step": [0, 1, 0], "a": [1.0, 2.0, 3.0], "label": ["x", "x", "y"]}
    >>> data, _ = sequences_from(pyarrow.table(columns), Columns(sequence="id"))
    >>> data.x.shape, data.y.tolist(), data.lengths.tolist()
    ((2, 2, 1), ['x', 'y'], [2, 1])
    """
    if like is None:
        like = Form.model_validate({"columns": columns or Columns(), "missing": missing})
    elif columns is not None or missing != "error":
        raise DataError("like has its columns and its treatment of missing values; leave columns and missing out")
    source = Source(arrow_table(frame), "the frame")
    if not like.categories:
        like = like.model_copy(update={"categories": categories_of(source, like)})
    data = from_table(source, like, labels=labels).data
    if like.fill is None:
        like = fitted(like, data, (data,))
    return filled(data, like, "the frame"), like


def arrow_table(frame: Any) -> Any:
    """Return a data frame of any kind as an Arrow table."""
    arrow = optional("pyarrow", "a data frame")
    if isinstance(frame, arrow.Table):
        return frame
    narwhals = optional("narwhals", "a data frame")
    try:
        native = narwhals.from_native(frame)
    except TypeError:
        raise DataError(
            f"frame is a {type(frame).__name__}, expected a data frame, such as one of pandas, Polars or PyArrow"
        ) from None
    if isinstance(native, narwhals.LazyFrame):
        native = native.collect()
    return native.to_arrow()


def from_table(source: Source, form: Form, *, labels: bool) -> Table:
    """Return the sequences of a table, long or wide."""
    if labels:  # first, or a target with another name would be taken for a feature
        for name in form.columns.target:
            source.column(name, "data.columns.target")
    if is_wide(source, form):
        return from_wide(source, form, labels=labels)
    return from_long(source, form, labels=labels)


def open_table(path: Path, form: Form) -> Source:
    """Read a CSV, Parquet or Arrow file as a table.

    Raises:
        DataError: it cannot be read; the message says why.
    """
    arrow = optional("pyarrow", f"{path}: such a file")
    kind = path.suffix.lower()
    if kind == ".csv":
        return _open_csv(path, form)
    try:
        if kind == ".parquet":
            schema = optional("pyarrow.parquet", str(path)).read_metadata(path)
            size = sum(schema.row_group(n).total_byte_size for n in range(schema.num_row_groups))
            claims.check_memory(2 * size, "what the file holds", "give less of it")
            table = optional("pyarrow.parquet", str(path)).ParquetFile(path).read()
        else:
            claims.check_memory(2 * path.stat().st_size, "what the file holds", "give less of it")
            table = optional("pyarrow.feather", str(path)).read_table(path, memory_map=False)
    except claims.ClaimError as error:
        raise DataError(f"{path}: {error}") from None
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as {KINDS[kind]} ({_first_line(error)}); write it anew") from None
    return Source(table, str(path))


KINDS = {".parquet": "Parquet", ".arrow": "Arrow", ".feather": "Feather"}


def read_table(path: Path, form: Form, *, labels: bool) -> Table:
    """Read the sequences of a CSV, Parquet or Arrow file."""
    if path.suffix.lower() == ".csv" and form.is_plain and not _is_wide_csv(path, form):
        return Table(read_csv(path, labels=labels))
    source = open_table(path, form)
    if not form.categories:
        form = form.model_copy(update={"categories": categories_of(source, form)})
    return from_table(source, form, labels=labels)._replace(categories=form.categories)


def _is_wide_csv(path: Path, form: Form) -> bool:
    """Return whether the first line of a CSV names numbered columns and no sequence or step."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = [word.strip() for word in next(csv.reader(file), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return False  # as the reader of long tables will say
    if "step" in header:
        return False
    groups = numbered(tuple(name for name in header if name not in ("sequence", *form.columns.target, "")))
    return groups is not None and len(next(iter(groups.values()))) > 1


def csv_options(form: Form) -> Any:
    """Return how the cells of a CSV file are read: names, labels and categories as words, whatever they look like."""
    columns = form.columns
    arrow, reader = optional("pyarrow", "a CSV file"), optional("pyarrow.csv", "a CSV file")
    as_words = {columns.sequence, *columns.target, *columns.categorical}
    if columns.group is not None:
        as_words.add(columns.group)
    types = {name: arrow.string() for name in sorted(as_words)}
    return reader.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=MISSING)


def as_read(table: Any, path: Path) -> Any:
    """Return the rows of a CSV file with the names of columns as our own reader takes them.

    Raises:
        DataError: the cells are separated otherwise than by commas, or a column has values but no name.
    """
    names = [name.strip() for name in table.column_names]
    table = table.rename_columns(names)
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        word = "semicolons" if ";" in names[0] else "tabs"
        raise DataError(f"{path}:1: the columns are separated by {word}; write it with commas, and numbers with dots")
    kept = [n for n, name in enumerate(names) if name or table.column(n).null_count < table.num_rows]
    table = table.select(kept)
    if "" in table.column_names:
        raise DataError(f"{path}:1: column {names.index('') + 1} has no name, but there are values in it; name it")
    return table


def _open_csv(path: Path, form: Form) -> Source:
    arrow, reader = optional("pyarrow", str(path)), optional("pyarrow.csv", str(path))
    check_text(path, DataError)
    try:
        claims.check_memory(3 * path.stat().st_size, "what the file holds", "give less of it")
        table = reader.read_csv(path, convert_options=csv_options(form))
    except claims.ClaimError as error:
        raise DataError(f"{path}: {error}") from None
    except (arrow.ArrowException, OSError) as error:
        text = _first_line(error)
        if "UTF8" in text or "UTF-8" in text:
            raise DataError(f"{path}: {NOT_UTF8}; save it as CSV UTF-8") from None
        raise DataError(f"{path}: cannot be read as CSV ({text}); write it as UTF-8 with commas") from None
    return Source(as_read(table, path), str(path), first_line=2)


MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "null", "NULL", "None"]
"""What a cell of a CSV file holds where a value is missing."""


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0][:200] or type(error).__name__
