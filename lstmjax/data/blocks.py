"""Read tables, folders and texts in blocks of complete sequences, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.data.columns import Source, categories_of, category
from lstmjax.data.folders import (
    Line,
    for_text,
    frame_of,
    frame_of_lines,
    merged_schema,
    open_folder,
    rows_of,
    text_lines,
)
from lstmjax.data.form import Form, Table, optional
from lstmjax.data.long import from_long
from lstmjax.data.sequences import DataError
from lstmjax.data.tables import as_read, csv_options, from_table
from lstmjax.data.wide import is_wide

ROWS = 2**16  # of a table that are in the memory at once, beside those of one sequence


def blocks_of(path: Path, form: Form) -> Iterator[tuple[Table, Form]]:
    """Yield the sequences of a table in blocks, each with the form that has the categories of the whole file.

    Args:
        path: CSV, Parquet or Arrow file. In a long table the rows of a sequence stand together.
        form: what the columns are.

    Raises:
        DataError: the content is wrong, or the rows of a sequence do not stand together.
    """
    if form.columns.categorical and not form.categories:
        form = form.model_copy(update={"categories": _categories(path, form)})
    first_line = 2 if path.suffix.lower() == ".csv" else None
    arrow = optional("pyarrow", str(path))
    seen: set[str] = set()
    open_rows, skipped, wide, begin = None, 0, None, None
    for rows in rows_of_file(path, form):
        if wide is None:
            wide = is_wide(Source(rows, str(path), first_line), form)
        if wide:
            yield from_table(Source(rows, str(path), first_line, skipped), form, labels=True), form
            skipped += rows.num_rows
            continue
        rows = rows if open_rows is None else arrow.concat_tables([open_rows, rows])
        column = Source(rows, str(path), first_line, skipped).column(form.columns.sequence, "data.columns.sequence")
        complete = complete_rows(column, str(path))
        open_rows = rows.slice(complete)
        if complete:
            table, begin = _block(Source(rows.slice(0, complete), str(path), first_line, skipped), form, seen, begin)
            yield table, form
            skipped += complete
    if open_rows is not None and open_rows.num_rows:
        yield _block(Source(open_rows, str(path), first_line, skipped), form, seen, begin)[0], form


def blocks_of_folder(path: Path, form: Form, table: Path | None) -> Iterator[tuple[Table, Form]]:
    """Yield the sequences of a folder in blocks, as `blocks_of` does those of a table; its files are read twice.

    Args:
        path: the folder.
        form: what the columns are.
        table: as for `read_folder`.

    Raises:
        DataError: as of `read_folder`.
    """
    folder = open_folder(path, form, labels=True, table=table)
    form, schema = folder.form, None
    words: dict[str, set[str]] = {name: set() for name in form.columns.categorical}
    for file in folder.files:
        rows = rows_of(folder, file, None if schema is None else schema.names)
        schema = merged_schema(folder, schema, rows.schema)
        _add_categories(words, Source(rows, str(file)), form)
    form = form.model_copy(update={"categories": form.categories or _listed(words)})
    parts: list[Any] = []
    size, first, skipped, begin, notes = 0, 0, 0, None, folder.notes
    for n, file in enumerate(folder.files, 1):
        parts.append(rows_of(folder, file, None))
        size += parts[-1].num_rows
        if size < ROWS and n < len(folder.files):
            continue
        source = Source(frame_of(folder, parts, first, schema), str(path), skipped=skipped)
        begin = _same_begin(source, form, begin)
        yield from_long(source, form, labels=True)._replace(notes=notes), form
        parts, size, first, skipped, notes = [], 0, n, skipped + size, ()


def blocks_of_lines(path: Path, form: Form) -> Iterator[tuple[Table, Form]]:
    """Yield the sequences of a text with one in each line, in blocks; it is read twice.

    Raises:
        DataError: as of `read_lines`.
    """
    form = for_text(form)
    characters = {character for line in text_lines(path, labels=True) for character in line.text}
    if not form.categories:
        form = form.model_copy(update={"categories": _listed({form.columns.features[0]: characters})})
    lines: list[Line] = []
    size, skipped = 0, 0
    for line in text_lines(path, labels=True):
        lines.append(line)
        size += len(line.text)
        if size >= ROWS:
            source = frame_of_lines(path, lines, form, labels=True, skipped=skipped)
            yield from_long(source, form, labels=True), form
            lines, size, skipped = [], 0, skipped + size
    if lines:
        yield from_long(frame_of_lines(path, lines, form, labels=True, skipped=skipped), form, labels=True), form


def _same_begin(source: Source, form: Form, begin: int | None) -> int | None:
    """Return the number of the first step, which is the same in all blocks; None: they are ordered by a time."""
    if form.columns.time is not None:
        return begin
    first = int(np.asarray(source.column(form.columns.step, "data.columns.step")).min())
    if begin is not None and first != begin:
        raise DataError(
            f"{source.name}: the steps of some sequences begin with {begin}, those of others with {first}; number "
            "them alike"
        )
    return first


def _block(source: Source, form: Form, seen: set[str], begin: int | None) -> tuple[Table, int | None]:
    """Return the sequences of a block, and the number of their first step."""
    column = source.column(form.columns.sequence, "data.columns.sequence").unique()
    names = {category(name) for name in column.to_pylist() if name is not None}
    if again := sorted(names & seen):
        raise DataError(
            f"{source.name}: the rows of sequence {again[0]!r} do not stand together, so that the file cannot be "
            f"streamed; sort it by {form.columns.sequence!r}, or set data.stream: false"
        )
    seen |= names
    table = from_table(source, form, labels=True)
    return table, _same_begin(source, form, begin)


def complete_rows(column: Any, name: str) -> int:
    """Return how many rows there are before the last sequence, which may go on in the next block.

    Args:
        column: of Arrow, the sequence of each row.
        name: of the file, for messages.
    """
    last = column[len(column) - 1]
    compute = optional("pyarrow.compute", name)
    other = np.asarray(compute.fill_null(compute.not_equal(column, last), True))
    different = np.flatnonzero(other)
    return int(different[-1]) + 1 if len(different) else 0


def rows_of_file(path: Path, form: Form) -> Iterator[Any]:
    """Yield the rows of a file as Arrow tables of at most `ROWS` rows."""
    arrow, kind = optional("pyarrow", str(path)), path.suffix.lower()
    try:
        if kind == ".parquet":
            with optional("pyarrow.parquet", str(path)).ParquetFile(path) as file:
                for batch in file.iter_batches(ROWS):
                    yield arrow.Table.from_batches([batch])
        elif kind == ".csv":
            reader = optional("pyarrow.csv", str(path))
            with reader.open_csv(path, convert_options=csv_options(form)) as file:
                for batch in file:
                    yield as_read(arrow.Table.from_batches([batch]), path)
        else:
            with arrow.OSFile(str(path)) as opened, arrow.ipc.open_file(opened) as file:
                for n in range(file.num_record_batches):
                    batch = file.get_batch(n)
                    for start in range(0, batch.num_rows, ROWS):
                        yield arrow.Table.from_batches([batch.slice(start, ROWS)])
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0][:200]}); write it anew") from None


def _categories(path: Path, form: Form) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the categories of the whole file, which is read once more for them."""
    words: dict[str, set[str]] = {name: set() for name in form.columns.categorical}
    for rows in rows_of_file(path, form):
        _add_categories(words, Source(rows, str(path)), form)
    return _listed(words)


def _add_categories(words: dict[str, set[str]], source: Source, form: Form) -> None:
    for name, more in categories_of(source, form):
        words[name] |= set(more)


def _listed(words: dict[str, set[str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((name, tuple(sorted(several))) for name, several in words.items())
