"""Read the long CSV format: a row for each step, `sequence,step,feature...,label`."""

from __future__ import annotations

import csv
import re
from array import array
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lstmjax import claims
from lstmjax.data.ragged import Ragged
from lstmjax.data.sequences import DataError, Sequences, lost_in_words, plain_number, warn_lost
from lstmjax.encodings import NOT_UTF8, check_text

WHOLE_NUMBER = re.compile(r"[-+]?[0-9]+")
FORMAT = "expected the columns sequence, step, one or more features, label"
BLOCK = 8192  # rows whose cells are in memory as text at once
FARTHEST = 2**62  # no file has as many steps


class Row(NamedTuple):
    """One step of one sequence, as text."""

    line: int
    step: int
    cells: list[str]
    sequence: str
    label: str


class Columns:
    """What has been read of a file: numbers, without the text of the cells, which takes many times the memory."""

    def __init__(self) -> None:
        self.numbers: list[np.ndarray] = []  # blocks [rows, I]
        self.line, self.step = array("q"), array("q")
        self.sequence, self.label = array("q"), array("q")  # numbers of names and labels, in the order of appearance
        self.names: dict[str, int] = {}
        self.labels: dict[str, int] = {}
        self.lost: list[tuple[str, str, float]] = []  # the first cell that float32 cannot represent
        self.lost_count = 0

    def append(self, path: Path, features: tuple[str, ...], rows: list[Row]) -> None:
        """Add a block of rows."""
        self.numbers.append(_numbers(path, features, rows, self))
        for row in rows:
            self.line.append(row.line)
            self.step.append(row.step)
            self.sequence.append(self.names.setdefault(row.sequence, len(self.names)))
            self.label.append(self.labels.setdefault(row.label, len(self.labels)))
        # The numbers will be copied once, into the order of the sequences.
        claims.check_memory(len(self.line) * (4 * len(features) + 64), "what the file holds", "give less of it")


def read_csv(path: Path, *, labels: bool = True) -> Sequences:
    """Read the sequences of a long CSV file, in the order of their first rows.

    The first line names the columns: `sequence` (any name), `step` (0, 1, 2, ... or 1, 2, 3, ...),
    the features, and `label`, the same in all rows of a sequence. Sequences may differ in length.

    Args:
        path: the file, UTF-8.
        labels: whether the column `label` is required; False: it is ignored.

    Returns:
        x `[N, T, I]`, y `[N]` as strings, lengths `[N]`. If all lengths are equal, lengths is None; otherwise x is a
        `Ragged`, in the memory of the steps that the file has.

    Raises:
        DataError: the content is wrong; the message names the file, the line, the column and the remedy.
    """
    columns = Columns()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            check_text(path, DataError)
            lines = csv.reader(file, strict=True)
            header = [word.strip() for word in next(lines, [])]
            features = _check_header(path, header, labels)
            rows = (
                _row(path, lines.line_num, header, features, cells, labels)
                for cells in lines
                if any(cell.strip() for cell in cells)
            )
            while block := list(islice(rows, BLOCK)):
                columns.append(path, features, block)
    except UnicodeDecodeError:
        raise DataError(f"{path}: {NOT_UTF8}; save it as CSV UTF-8") from None
    except claims.ClaimError as error:
        raise DataError(f"{path}: {error}") from None
    except (csv.Error, OSError) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}); write it as UTF-8 with commas") from None
    if not columns.names:
        raise DataError(f"{path}: has no rows below the first line")
    return _in_order(path, features, columns, labels)


def _in_order(path: Path, features: tuple[str, ...], columns: Columns, labels: bool) -> Sequences:
    """Return the sequences, with the steps of each in their order."""
    sequence, step, label, line = (
        np.frombuffer(column, np.int64) for column in (columns.sequence, columns.step, columns.label, columns.line)
    )
    order = np.lexsort((line, step, sequence))
    lengths = np.bincount(sequence).astype(np.int32)
    first = np.cumsum(lengths, dtype=np.int64) - lengths  # the place of each sequence's first row
    _check_order(path, columns, order, first, lengths, labels)
    if columns.lost_count:
        warn_lost(*columns.lost[0], columns.lost_count)
    numbers = np.concatenate(columns.numbers)
    columns.numbers.clear()
    flat = numbers[order]
    y = None
    if labels:
        # As objects: an array of NumPy's strings would pad every label to the longest one.
        y = np.array(list(columns.labels), object)[label[order[first]]]
    names = tuple(columns.names)
    if (lengths == lengths[0]).all():
        return Sequences(flat.reshape(len(names), -1, len(features)), y, None, names, features)
    return Sequences(Ragged(flat, lengths, int(np.max(lengths))), y, lengths, names, features)


def _check_header(path: Path, header: list[str], labels: bool) -> tuple[str, ...]:
    for other, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and other in header[0]:
            raise DataError(
                f"{path}:1: the columns are separated by {word}; write it with commas, and numbers with dots"
            )
    for column in ("sequence", "step", *(("label",) if labels else ())):
        if column not in header:
            near = get_close_matches(column, header, 1)
            hint = f" (is {near[0]!r} meant?)" if near else ""
            raise DataError(f"{path}:1: no column {column!r}{hint}; {FORMAT}")
    if twice := [word for n, word in enumerate(header) if word and word in header[:n]]:
        raise DataError(f"{path}:1: column {twice[0]!r} appears twice; rename one of them")
    features = tuple(word for word in header if word not in ("sequence", "step", "label", ""))
    if not features:
        raise DataError(f"{path}:1: no feature columns; {FORMAT}")
    return features


def _row(path: Path, line: int, header: list[str], features: tuple[str, ...], cells: list[str], labels: bool) -> Row:
    if len(cells) != len(header):
        raise DataError(
            f"{path}:{line}: {len(cells)} cells, but the first line names {len(header)} columns; "
            "a cell is missing or too many"
        )
    named = {}
    for n, (column, cell) in enumerate(zip(header, cells, strict=True), 1):
        if column:
            named[column] = cell.strip()
        elif cell.strip():  # spreadsheets write empty columns as commas at the end of each line
            raise DataError(
                f"{path}:1: column {n} has no name, but line {line} has {cell.strip()[:40]!r} in it; {FORMAT}"
            )
    for column, cell in named.items():
        if not cell and (labels or column != "label"):
            way = ", or say by data.missing how to fill it" if column in features else ""
            raise DataError(f"{path}:{line}: column {column!r} is empty; fill the cell or remove the sequence{way}")
    try:
        if not WHOLE_NUMBER.fullmatch(named["step"]):
            raise ValueError
        step = int(named["step"])
    except ValueError:  # `int` also refuses thousands of digits
        raise DataError(
            f"{path}:{line}: column 'step' is {named['step'][:40]!r}, expected a whole number in digits 0 to 9"
        ) from None
    if abs(step) > FARTHEST:
        raise DataError(
            f"{path}:{line}: column 'step' is {named['step'][:40]!r}; number the steps of each sequence from 0 or 1, "
            "without gaps"
        )
    return Row(line, step, [named[f] for f in features], named["sequence"], named.get("label", "") if labels else "")


def _check_order(
    path: Path, columns: Columns, order: np.ndarray, first: np.ndarray, lengths: np.ndarray, labels: bool
) -> None:
    """Refuse gaps, repeated steps and a label that changes.

    Args:
        path: the file.
        columns: its rows.
        order: the rows by sequence and step.
        first: places in `order` at which sequences begin.
        lengths: number of rows of each sequence.
        labels: whether labels are checked.
    """
    begin = min(columns.step)
    if begin not in (0, 1):
        raise DataError(f"{path}: the first step is {begin}, expected 0 or 1; number the steps of each sequence anew")
    beginning = np.repeat(first, lengths)  # for each row the place of its sequence's first row
    expected = np.arange(len(order)) - beginning + begin
    wrong = np.frombuffer(columns.step, np.int64)[order] != expected
    if labels:
        label = np.frombuffer(columns.label, np.int64)[order]
        wrong |= label != label[beginning]
    if not wrong.any():
        return
    at = int(wrong.argmax())  # all rows of the sequence before it are right
    row, before = int(order[at]), int(order[beginning[at]])
    name = list(columns.names)[columns.sequence[row]]
    line, step, next_step = columns.line[row], columns.step[row], int(expected[at])
    if step == next_step - 1 and row != before:
        raise DataError(
            f"{path}:{line}: column 'step': sequence {name!r} has step {step} twice; remove one, or give the sequences "
            "different names"
        )
    if step != next_step:
        raise DataError(
            f"{path}:{line}: column 'step' is {step}, but step {next_step} of sequence {name!r} is missing; number the "
            "steps without gaps"
        )
    words = list(columns.labels)
    raise DataError(
        f"{path}:{line}: column 'label' is {words[columns.label[row]]!r}, but sequence {name!r} began with "
        f"{words[columns.label[before]]!r}; give a sequence one label, or use an NPZ file with y [sequences, steps]"
    )


def _numbers(path: Path, features: tuple[str, ...], rows: list[Row], columns: Columns) -> np.ndarray:
    """Return the features of a block of rows, `[rows, I]`; note cells that float32 cannot represent in `columns`."""
    try:
        exact = np.array([row.cells for row in rows], np.float64)
    except ValueError:
        exact = np.array([[_number(cell) for cell in row.cells] for row in rows])  # NaN where a cell is no number
    with np.errstate(over="ignore"):
        numbers = exact.astype(np.float32)
    wrong = ~np.isfinite(numbers)
    suspect = any("_" in cell or not cell.isascii() for row in rows for cell in row.cells)
    if suspect:
        wrong |= np.array([[not plain_number(cell) for cell in row.cells] for row in rows])
    if wrong.any():
        t, i = np.argwhere(wrong)[0]
        row, cell = rows[t], rows[t].cells[i]
        large = plain_number(cell) and np.isfinite(exact[t, i])
        remedy = "give it in other units" if large else "fill the cell or remove the sequence"
        if cell.lower() == "nan":
            remedy += ", or say by data.missing how to fill it"
        elif not plain_number(cell):
            remedy += ", or name the column in data.columns.categorical"
        if not plain_number(cell) and np.isfinite(exact[t, i]):
            remedy = f"write {exact[t, i]:.17g}, in digits 0 to 9"
        raise DataError(
            f"{path}:{row.line}: column {features[i]!r} is {cell!r}, expected a finite number"
            f"{' that float32 holds' if large else ''}; {remedy}"
        )
    lost = np.argwhere(lost_in_words(np.array([row.cells for row in rows], object), exact, numbers))
    if len(lost) and not columns.lost_count:
        t, i = lost[0]
        columns.lost.append((f"{path}:{rows[t].line}: column {features[i]!r}", rows[t].cells[i], numbers[t, i]))
    columns.lost_count += len(lost)
    return numbers


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
