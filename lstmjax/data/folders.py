"""Read a folder with a file for each sequence, and text, of which each character is a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmjax import claims
from lstmjax.data.columns import Source, categories_of, listed, words_of
from lstmjax.data.form import Form, Table, optional
from lstmjax.data.long import from_long
from lstmjax.data.sequences import DataError
from lstmjax.data.tables import open_table
from lstmjax.encodings import NOT_UTF8, check_text

KINDS = (".csv", ".parquet", ".arrow", ".feather", ".npy", ".txt")
FILE = "file"  # column of the table of labels with the names of the files
CHARACTER = "character"  # name of the feature of a text
MOST = 1_000_000  # files


def read_folder(path: Path, form: Form, *, labels: bool, table: Path | None = None) -> Table:
    """Read a folder with a file for each sequence, in the order of their names.

    A file is a table with a row for each step (CSV, Parquet, Arrow), an array `[steps, features]` (NPY), or a text. Its
    label is the name of the folder it is in, or stands in a table with the columns `file` and `label`.

    Args:
        path: the folder.
        form: what the columns are.
        labels: whether labels are required.
        table: CSV, Parquet or Arrow file with the labels, and with groups or weights if the form names such columns.

    Raises:
        DataError: there is no file to read, one cannot be read, or one has no label.
    """
    folder = open_folder(path, form, labels=labels, table=table)
    parts: list[Any] = []
    for file in folder.files:
        parts.append(rows_of(folder, file, parts[0].column_names if parts else None))
    source = Source(frame_of(folder, parts), str(path))
    form = folder.form
    if not form.categories:
        form = form.model_copy(update={"categories": categories_of(source, form)})
    return from_long(source, form, labels=labels)._replace(notes=folder.notes, categories=form.categories)


class Folder(NamedTuple):
    """The files of a folder, a sequence each, and what belongs to each of them."""

    path: Path
    files: list[Path]
    others: list[str]  # names of files of other kinds
    form: Form
    values: dict[str, list[Any]]  # label, group and weight of each file, by column

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the log."""
        if not self.others:
            return ()
        return (f"left out of {self.path.name}, as files of other kinds: {listed(self.others)}",)

    def name(self, file: Path) -> str:
        """Return the name of a sequence."""
        return file.relative_to(self.path).as_posix()


def open_folder(path: Path, form: Form, *, labels: bool, table: Path | None) -> Folder:
    """Return what is known of a folder before its files are read; arguments and errors are those of `read_folder`."""
    optional("pyarrow", f"{path}: a folder of files")
    files, others = _files(path, table)
    kinds = {file.suffix.lower() for file in files}
    if ".txt" in kinds and len(kinds) > 1:
        raise DataError(f"{path}: has texts and files of other kinds; put them into folders of their own")
    form = for_text(form) if kinds == {".txt"} else form
    names = [file.relative_to(path).as_posix() for file in files]
    return Folder(path, files, others, form, _labels(path, form, names, table, labels=labels))


def rows_of(folder: Folder, file: Path, names: list[str] | None) -> Any:
    """Return the steps of a file as an Arrow table.

    Args:
        folder: the folder.
        file: the file.
        names: the columns of the first file; None: it is the first one.
    """
    rows = _rows(file, folder.form)
    if not rows.num_rows:
        raise DataError(f"{file}: has no steps; remove the file")
    if names is not None and rows.column_names != names:
        raise DataError(
            f"{file}: has the columns {listed(rows.column_names)}, but {folder.files[0].name} has {listed(names)}; "
            "give all files the same columns in the same order"
        )
    return rows


def frame_of(folder: Folder, parts: Sequence[Any], first: int = 0, schema: Any = None) -> Any:
    """Return the steps of successive files as one Arrow table, with what belongs to each file.

    Args:
        folder: the folder.
        parts: the rows of the files.
        first: number of the first one of them in the folder.
        schema: types of the columns over all files; None: these are all.
    """
    arrow, columns = optional("pyarrow", "a folder"), folder.form.columns
    try:
        frame = arrow.concat_tables(
            [*parts, *(() if schema is None else (schema.empty_table(),))], promote_options="permissive"
        )
    except (arrow.ArrowInvalid, arrow.ArrowTypeError) as error:
        raise _unlike(folder, error) from None
    counts = [rows.num_rows for rows in parts]
    files = slice(first, first + len(parts))
    of_files = [columns.sequence, columns.group, columns.weight]
    if columns.target_of == "sequence":
        of_files += columns.target
    for column in of_files:
        if column in frame.column_names:
            frame = frame.drop_columns([column])
    frame = frame.append_column(
        columns.sequence, _repeated([folder.name(file) for file in folder.files[files]], counts)
    )
    if columns.time is None and columns.step not in frame.column_names:
        frame = frame.append_column(columns.step, arrow.array(np.concatenate([np.arange(n) for n in counts])))
    for column, values in folder.values.items():
        frame = frame.append_column(column, _repeated(values[files], counts))
    return frame


def merged_schema(folder: Folder, known: Any, more: Any) -> Any:
    """Return the types of the columns that hold those of all files so far; `known` is None before the first one."""
    arrow = optional("pyarrow", "a folder")
    if known is None:
        return more
    try:
        return arrow.unify_schemas([known, more], promote_options="permissive")
    except (arrow.ArrowInvalid, arrow.ArrowTypeError) as error:
        raise _unlike(folder, error) from None


def _unlike(folder: Folder, error: Exception) -> DataError:
    return DataError(f"{folder.path}: the files do not fit each other ({str(error).splitlines()[0]})")


def read_lines(path: Path, form: Form, *, labels: bool) -> Table:
    """Read a text with a sequence in each line: its label, a tab, and the characters. Empty lines are left out.

    Without labels, what stands before the first tab of a line is not read either.
    """
    optional("pyarrow", f"{path}: a text")
    lines = [*text_lines(path, labels=labels)]
    if not lines:
        raise DataError(f"{path}: has no lines")
    form = for_text(form)
    source = frame_of_lines(path, lines, form, labels=labels)
    if not form.categories:
        form = form.model_copy(update={"categories": categories_of(source, form)})
    return from_long(source, form, labels=labels)._replace(categories=form.categories)


class Line(NamedTuple):
    """A line of a text that is not empty."""

    number: int  # from 1 on
    label: str
    text: str


def text_lines(path: Path, *, labels: bool) -> Iterator[Line]:
    """Yield the lines of a text, as `read_lines` reads them."""
    check_text(path, DataError)
    try:
        with path.open(encoding="utf-8-sig") as file:
            for n, line in enumerate(file, 1):
                if not line.strip():
                    continue
                before, tab, after = line.removesuffix("\n").partition("\t")
                if labels and not (tab and before.strip()):
                    raise DataError(f"{path}:{n}: has no label; write the label, a tab, and the text")
                text = after if tab else before
                if not text:
                    raise DataError(f"{path}:{n}: has no text after the tab; remove the line")
                yield Line(n, before.strip(), text)
    except UnicodeDecodeError:
        raise DataError(f"{path}: {NOT_UTF8}; save it as text in UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def frame_of_lines(path: Path, lines: Sequence[Line], form: Form, *, labels: bool, skipped: int = 0) -> Source:
    """Return lines of a text as a long table, with a row for each character.

    Args:
        path: the file, for messages.
        lines: the lines.
        form: that of a text.
        labels: whether the labels are read.
        skipped: characters before these lines.
    """
    arrow = optional("pyarrow", f"{path}: a text")
    counts = [len(line.text) for line in lines]
    columns = {
        form.columns.sequence: _repeated([f"line {line.number}" for line in lines], counts),
        form.columns.step: arrow.array(np.concatenate([np.arange(n) for n in counts])),
        CHARACTER: arrow.array([character for line in lines for character in line.text]),
    }
    if labels:
        columns[form.columns.target[0]] = _repeated([line.label for line in lines], counts)
    return Source(arrow.table(columns), str(path), skipped=skipped)


def for_text(form: Form) -> Form:
    """Return the form with the character of each step as its only feature."""
    columns = form.columns.model_copy(update={"features": (CHARACTER,), "categorical": (CHARACTER,), "time": None})
    return form.model_copy(update={"columns": columns})


def _files(path: Path, table: Path | None) -> tuple[list[Path], list[str]]:
    """Return the files of a folder, in the order of their names, and the names of those that are of no known kind."""
    files: list[Path] = []
    others: list[Path] = []
    for file in sorted(path.rglob("*")):
        if any(part.startswith(".") for part in file.relative_to(path).parts) or not file.is_file():
            continue
        if table is not None and table.exists() and file.samefile(table):
            continue
        (files if file.suffix.lower() in KINDS else others).append(file)
        if len(files) > MOST:
            raise DataError(f"{path}: has more than {MOST:,} files; put them into one Parquet file")
    if not files:
        raise DataError(f"{path}: has no file that ends in {', '.join(KINDS)}")
    return files, [file.relative_to(path).as_posix() for file in others]


def _rows(file: Path, form: Form) -> Any:
    """Return the steps of one file as an Arrow table."""
    arrow = optional("pyarrow", str(file))
    if file.suffix.lower() == ".txt":
        return arrow.table({CHARACTER: arrow.array(list(_text(file)), arrow.string())})
    if file.suffix.lower() != ".npy":
        return open_table(file, form).table
    try:
        with file.open("rb") as opened:
            values = claims.read_npy(opened, file.stat().st_size)
    except (claims.ClaimError, OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as NPY ({error}); write it by np.save") from None
    if isinstance(values, claims.NotAnArray) or values.ndim not in (1, 2) or values.dtype.kind not in "biuf":
        raise DataError(f"{file}: expected an array of numbers [steps, features], as np.save writes it")
    values = values[:, None] if values.ndim == 1 else values
    return arrow.table({f"feature {n}": np.ascontiguousarray(values[:, n]) for n in range(values.shape[1])})


def _labels(path: Path, form: Form, names: list[str], table: Path | None, *, labels: bool) -> dict[str, list[Any]]:
    """Return the label of each file, and its group and weight if there are such columns, by column."""
    columns = form.columns
    of_steps = columns.target_of == "step"
    if table is None:
        if not labels:
            return {}
        if columns.group is not None or columns.weight is not None:
            raise DataError(f"{path}: groups and weights of files stand in a table; name it by data.table")
        if of_steps:
            return {}
        folders = [name.rpartition("/")[0] for name in names]
        if not all(folders) or len(columns.target) > 1:
            bare = next((name for name, folder in zip(names, folders, strict=True) if not folder), names[0])
            raise DataError(
                f"{path}: what is the label of {bare}? Put the files of each class into a folder of its name, or give "
                f"a table with the columns {FILE!r} and {', '.join(map(repr, columns.target))} by data.table"
            )
        return {columns.target[0]: folders}
    source = open_table(table, form)
    rows: dict[str, int] = {}
    for row, name in enumerate(words_of(source, FILE, "its own name")):
        if name in rows:
            raise DataError(f"{source.place(row)}: file {name!r} appears twice; remove one of the rows")
        rows[name] = row
    lacking = [name for name in names if name not in rows]
    if lacking and labels:
        raise DataError(f"{table}: no row for file {lacking[0]!r} ({len(lacking)} such files in all); add it")
    if lacking:
        return {}
    needed = [columns.group]
    if labels:
        needed += [columns.weight, *(() if of_steps else columns.target)]
    return {
        name: source.column(name, "data.columns").take([rows[file] for file in names]).to_pylist()
        for name in needed
        if name is not None and (labels or name in source.names)
    }


def _repeated(values: list[Any], counts: list[int]) -> Any:
    arrow = optional("pyarrow", "a folder")
    return arrow.array(values).take(arrow.array(np.repeat(np.arange(len(values)), counts)))


def _text(path: Path) -> str:
    check_text(path, DataError)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: {NOT_UTF8}; save it as text in UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
