"""Read the long CSV format: a row for each step, `sequence,step,feature...,label`."""

from __future__ import annotations

import csv
import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lstmjax import claims
from lstmjax.data.sequences import FREE, DataError, Sequences, lost_in_words, plain_number, warn_lost
from lstmjax.encodings import NOT_UTF8, check_text

WHOLE_NUMBER = re.compile(r"[-+]?[0-9]+")
FORMAT = "expected the columns sequence, step, one or more features, label"


class Row(NamedTuple):
    """One step of one sequence."""

    line: int
    step: int
    cells: list[str]
    label: str


def read_csv(path: Path, *, labels: bool = True) -> Sequences:
    """Read the sequences of a long CSV file, in the order of their first rows.

    The first line names the columns: `sequence` (any name), `step` (0, 1, 2, ... or 1, 2, 3, ...),
    the features, and `label`, the same in all rows of a sequence. Sequences may differ in length.

    Args:
        path: the file, UTF-8.
        labels: whether the column `label` is required; False: it is ignored.

    Returns:
        x `[N, T, I]` padded with zeros, y `[N]` as strings, lengths `[N]` or None if all are equal.

    Raises:
        DataError: the content is wrong; the message names the file, the line, the column and the remedy.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            check_text(path, DataError)
            lines = csv.reader(file, strict=True)
            header = [word.strip() for word in next(lines, [])]
            features = _check_header(path, header, labels)
            sequences: dict[str, list[Row]] = {}
            for cells in lines:
                if any(cell.strip() for cell in cells):
                    name, row = _row(path, lines.line_num, header, features, cells, labels)
                    sequences.setdefault(name, []).append(row)
    except UnicodeDecodeError:
        raise DataError(f"{path}: {NOT_UTF8}; save it as CSV UTF-8") from None
    except (csv.Error, OSError) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}); write it as UTF-8 with commas") from None
    if not sequences:
        raise DataError(f"{path}: has no rows below the first line")
    first = min(row.step for rows in sequences.values() for row in rows)
    for name, rows in sequences.items():
        _check_sequence(path, name, rows, first, labels)

    lengths = np.array([len(rows) for rows in sequences.values()], np.int32)
    longest = max(len(rows) for rows in sequences.values())
    _check_padded(path, sequences, longest, len(features))
    x = np.zeros((len(sequences), longest, len(features)), np.float32)
    lost: list[tuple[str, str, float]] = []
    for n, rows in enumerate(sequences.values()):
        x[n, : len(rows)] = _numbers(path, features, rows, lost)
    if lost:
        warn_lost(*lost[0], len(lost))
    # As objects: an array of NumPy's strings would pad every label to the longest one.
    y = np.array([rows[0].label for rows in sequences.values()], object) if labels else None
    ragged = None if (lengths == lengths[0]).all() else lengths
    return Sequences(x, y, ragged, tuple(sequences), features)


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


def _row(
    path: Path, line: int, header: list[str], features: tuple[str, ...], cells: list[str], labels: bool
) -> tuple[str, Row]:
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
            raise DataError(f"{path}:{line}: column {column!r} is empty; fill the cell or remove the sequence")
    try:
        if not WHOLE_NUMBER.fullmatch(named["step"]):
            raise ValueError
        step = int(named["step"])
    except ValueError:  # `int` also refuses thousands of digits
        raise DataError(
            f"{path}:{line}: column 'step' is {named['step'][:40]!r}, expected a whole number in digits 0 to 9"
        ) from None
    return named["sequence"], Row(line, step, [named[f] for f in features], sys.intern(named.get("label", "")))


def _check_sequence(path: Path, name: str, rows: list[Row], first: int, labels: bool) -> None:
    """Sort the rows by step; refuse gaps, repeated steps and a label that changes."""
    rows.sort(key=lambda row: (row.step, row.line))
    if first not in (0, 1):
        raise DataError(f"{path}: the first step is {first}, expected 0 or 1; number the steps of each sequence anew")
    expected = first
    for row in rows:
        if row.step == expected - 1 and row is not rows[0]:
            raise DataError(
                f"{path}:{row.line}: column 'step': sequence {name!r} has step {row.step} twice; remove one, or give "
                "the sequences different names"
            )
        if row.step != expected:
            raise DataError(
                f"{path}:{row.line}: column 'step' is {row.step}, but step {expected} of sequence {name!r} is missing; "
                "number the steps without gaps"
            )
        if labels and row.label != rows[0].label:
            raise DataError(
                f"{path}:{row.line}: column 'label' is {row.label!r}, but sequence {name!r} began with "
                f"{rows[0].label!r}; give a sequence one label, or use an NPZ file with y [sequences, steps]"
            )
        expected += 1


def _check_padded(path: Path, sequences: dict[str, list[Row]], steps: int, features: int) -> None:
    """Refuse sequences of such different lengths that padding them to the longest would exhaust the memory."""
    needed = len(sequences) * steps * features * 4
    try:
        claims.check_claim(needed, path.stat().st_size, free=FREE)
        claims.check_memory(needed, "x", "give less")
    except claims.ClaimError:
        longest = max(sequences, key=lambda name: len(sequences[name]))
        raise DataError(
            f"{path}: {len(sequences):,} sequences, padded to the {steps:,} steps of sequence {longest!r}, take "
            f"{claims.words(needed)} of memory; cut long sequences into pieces of similar length, or leave them out"
        ) from None


def _numbers(path: Path, features: tuple[str, ...], rows: list[Row], lost: list[tuple[str, str, float]]) -> np.ndarray:
    """Return the features of a sequence, `[T, I]`; append cells that float32 cannot represent to `lost`."""
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
        if not plain_number(cell) and np.isfinite(exact[t, i]):
            remedy = f"write {exact[t, i]:.17g}, in digits 0 to 9"
        raise DataError(
            f"{path}:{row.line}: column {features[i]!r} is {cell!r}, expected a finite number"
            f"{' that float32 holds' if large else ''}; {remedy}"
        )
    words = np.array([row.cells for row in rows], object)
    for t, i in np.argwhere(lost_in_words(words, exact, numbers)):
        lost.append((f"{path}:{rows[t].line}: column {features[i]!r}", rows[t].cells[i], numbers[t, i]))
    return numbers


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
