"""Read the user's data files: NPZ and NPY here, tables in `tables.py`, folders in `folders.py`."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

import numpy as np

from lstmjax import claims
from lstmjax.data.folders import read_folder, read_lines
from lstmjax.data.form import Form, Table
from lstmjax.data.sequences import (
    FREE,
    DataError,
    Sequences,
    lost_digits,
    lost_in_words,
    merged,
    plain_number,
    warn_lost,
)
from lstmjax.data.tables import read_table

KEYS = ("x", "y", "lengths")
PICKLED = "Object arrays cannot be loaded"


def read_npz(path: Path, *, labels: bool = True, missing: bool = False) -> Sequences:
    """Read the sequences of an NPZ file with x `[N, T, I]`, y `[N, ...]` and, if ragged, lengths `[N]`.

    Args:
        path: the file.
        labels: whether y is required; False: y is ignored.
        missing: whether x may hold NaN.

    Raises:
        DataError: something is missing or wrong; the message says what and where.
    """
    if (kind := _kind(path)) != ".npz":
        hint = "one array, as np.save writes it; name it .npy, or" if kind else "no archive of arrays;"
        raise DataError(f"{path}: cannot be read as NPZ (it is {hint} write it by np.savez)")
    with _reading(path, "NPZ", "np.savez"):
        members = claims.read_npz(path, free=FREE)
    arrays: dict[str, np.ndarray] = {}
    for key, array in members.items():
        if isinstance(array, claims.NotAnArray) and array.kind == claims.NO_ARRAY:
            raise DataError(f"{path}: {key!r} in it is no array; write it by np.savez, with x, y and lengths only")
        if isinstance(array, claims.NotAnArray):
            raise DataError(f"{path}: cannot be read as NPZ ({PICKLED}); write it by np.savez")
        if key not in KEYS:
            near = get_close_matches(key, KEYS, 1)
            raise DataError(
                f"{path}: unknown array {key!r}; "
                + (f"did you mean {near[0]!r}?" if near else "expected x, y and, for ragged data, lengths")
            )
        arrays[key] = array
    for key in ("x", "y") if labels else ("x",):
        if key not in arrays:
            raise DataError(
                f"{path}: no array {key!r}; expected x [sequences, steps, features], y [sequences] and, for ragged "
                "data, lengths [sequences]"
            )
    with _reading(path, "NPZ", "np.savez"):
        claims.check_claim(4 * arrays["x"].size, path.stat().st_size, free=FREE)  # as float32
    data = Sequences(arrays["x"], arrays.get("y") if labels else None, arrays.get("lengths"))
    return check(data, path, missing=missing)


def read_npy(path: Path, *, labels: bool = True, missing: bool = False) -> Sequences:
    """Read the sequences of an NPY file, x `[N, T, I]` or a single `[T, I]`; for prediction only."""
    if labels:
        raise DataError(f"{path}: an NPY file has no labels; write an NPZ file by np.savez(path, x=x, y=y)")
    if (kind := _kind(path)) != ".npy":
        hint = "an archive, as np.savez writes it; name it .npz, or" if kind else "no array;"
        raise DataError(f"{path}: cannot be read as NPY (it is {hint} write it by np.save)")
    with _reading(path, "NPY", "np.save"), path.open("rb") as file:
        x = claims.read_npy(file, path.stat().st_size)
    if isinstance(x, claims.NotAnArray):
        raise DataError(f"{path}: cannot be read as NPY ({PICKLED}); write it by np.save")
    return check(Sequences(x[None] if x.ndim == 2 else x), path, missing=missing)


@contextmanager
def _reading(path: Path, kind: str, writer: str) -> Iterator[None]:
    """Turn any error while reading into a `DataError` that names the file and how to write it."""
    try:
        yield
    except claims.ClaimError as error:
        raise DataError(
            f"{path}: cannot be read as {kind} ({error}); write it by {writer}, uncompressed, and not larger than the "
            "memory"
        ) from None
    except MemoryError:
        raise DataError(f"{path}: {claims.NO_MEMORY}") from None
    except Exception as error:  # damaged bytes make NumPy and zlib raise exceptions of any type
        raise DataError(f"{path}: cannot be read as {kind} ({_first_line(error)}); write it by {writer}") from None


Reader = Callable[[Path, Form, bool], Table]


def _table_of_array(reader: Callable[..., Sequences]) -> Reader:
    def read_array(path: Path, form: Form, labels: bool) -> Table:
        if not form.model_copy(update={"missing": "error", "fill": None, "masked": ()}).is_plain:
            raise DataError(
                f"{path}: data.columns and data.layout are for tables, but an {path.suffix.lower()[1:].upper()} file "
                "has arrays without names; remove them"
            )
        return Table(reader(path, labels=labels, missing=form.missing != "error"))

    return read_array


def _read_table(path: Path, form: Form, labels: bool) -> Table:
    return read_table(path, form, labels=labels)


def _read_lines(path: Path, form: Form, labels: bool) -> Table:
    return read_lines(path, form, labels=labels)


READERS: MappingProxyType[str, Reader] = MappingProxyType(
    {
        ".npz": _table_of_array(read_npz),
        ".npy": _table_of_array(read_npy),
        ".csv": _read_table,
        ".parquet": _read_table,
        ".arrow": _read_table,
        ".feather": _read_table,
        ".txt": _read_lines,
    }
)
"""The function that reads each kind of file, by the end of its name."""


def read(path: str | Path, *, labels: bool = True) -> Sequences:
    """Read the sequences of a file (NPZ, NPY, CSV, Parquet, Arrow or text, by the end of its name), or of a folder.

    Raises:
        DataError: no such file, another kind of file, or its content is wrong.
    """
    return read_as(path, Form(), labels=labels).data


def read_as(path: str | Path, form: Form, *, labels: bool = True, table: str | Path | None = None) -> Table:
    """Read the sequences of a file or a folder in a form; missing values are NaN, if it allows them.

    Args:
        path: the file or folder.
        form: what the columns of tables are, and whether values may be missing.
        labels: whether labels are required; False: they are not read.
        table: for a folder, the table with the label of each file.

    Raises:
        DataError: no such file, another kind of file, or its content is wrong.
    """
    path = Path(path)
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError as error:  # a name that is too long
        raise DataError(f"{str(path)[:80]}…: cannot be read ({error.strerror})") from None
    try:
        if is_folder:
            return read_folder(path, form, labels=labels, table=None if table is None else Path(table))
        if path.suffix.lower() not in READERS:
            raise DataError(
                f"{path}: unknown kind of file; expected a name that ends in {', '.join(READERS)}, or a folder"
            )
        if not is_file:
            raise DataError(f"{path}: no such file; relative paths are read from the folder in which the command runs")
        if table is not None:
            raise DataError(
                f"{path}: is a file, but data.table is for a folder with a file for each sequence; remove it"
            )
        return READERS[path.suffix.lower()](path, form, labels)
    except MemoryError:
        raise DataError(f"{path}: {claims.NO_MEMORY}") from None


def check(data: Sequences, name: str | Path, *, missing: bool = False) -> Sequences:
    """Return the sequences with x as float32 and lengths as int32, if x, y and lengths fit each other.

    Args:
        data: the arrays of a file.
        name: of the file, for messages.
        missing: whether x may hold NaN.

    Raises:
        DataError: wrong ranks, sizes or dtypes, lengths outside 1 to T, or numbers that are not finite.
    """
    x, y, lengths = data.array, data.y, data.lengths
    if x.ndim != 3:
        raise DataError(f"{name}: x has shape {x.shape}, expected [sequences, steps, features]")
    if 0 in x.shape:
        raise DataError(f"{name}: x has shape {x.shape}, so there is nothing in it")
    if not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer) or x.dtype == bool):
        raise DataError(f"{name}: x is {x.dtype}, expected numbers")
    _check_size(x.size, name)
    if y is not None and (y.ndim == 0 or len(y) != len(x)):
        raise DataError(f"{name}: y has shape {y.shape}, but x has {len(x)} sequences; give one label for each")
    if lengths is not None:
        if lengths.shape != x.shape[:1] or not np.issubdtype(lengths.dtype, np.integer):
            raise DataError(
                f"{name}: lengths is {lengths.dtype} {lengths.shape}, expected {len(x)} whole numbers, one a sequence"
            )
        if (wrong := np.flatnonzero((lengths < 1) | (lengths > x.shape[1]))).size:
            raise DataError(
                f"{name}: lengths[{wrong[0]}] is {lengths[wrong[0]]}, expected 1 to T = {x.shape[1]}; "
                "remove empty sequences"
            )
        lengths = lengths.astype(np.int32)
    data = data._replace(lengths=lengths)
    data = data._replace(x=finite("x", x, data, name, missing=missing))
    if y is not None and np.issubdtype(y.dtype, np.floating):
        finite("y", y, data, name)
    if lengths is not None:  # padding must not affect anything, the checksum included
        data = data._replace(x=np.where(data.valid()[..., None], data.x, np.float32(0)))
    return data


def finite(key: str, values: np.ndarray, data: Sequences, name: str | Path, *, missing: bool = False) -> np.ndarray:
    """Return values as float32; refuse those that are not finite, except after the end of a sequence.

    Args:
        key: "x" or "y", for messages.
        values: numbers, or strings of numbers.
        data: the sequences to which they belong.
        name: of the file, for messages.
        missing: whether values may be NaN.

    Raises:
        DataError: a value is missing or too large; the message says where.
        ValueError: a string is not a number.
    """
    if values.dtype.kind in "UO":
        invalid = [word for word in values.ravel().tolist() if not plain_number(word)]
        if invalid:
            raise ValueError(f"could not convert string to float: {invalid[0]!r}")
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = values.astype(np.float32)
    wrong = ~np.isfinite(numbers)
    per_step = values.shape[:2] == data.x.shape[:2] and values.ndim == 3
    if per_step:
        wrong &= data.valid()[..., None]
    if missing:
        wrong &= ~np.isnan(numbers)
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0].tolist())
        place = ", ".join(map(str, at))
        large = math.isfinite(float(values[at]))
        what = "too large for float32; give it in other units" if large else "fill or remove missing values"
        if np.isnan(numbers[at]) and key == "x":
            what += ", or say how to fill them by data.missing"
        raise DataError(f"{name}: {key}[{place}] is {values[at]}; {what} ({wrong.sum()} in all)")
    in_words = values.dtype.kind in "UO"
    if in_words or (values.dtype.kind in "iuf" and values.dtype.itemsize >= 4 and values.dtype != np.float32):
        lost = lost_in_words(values, values.astype(np.float64), numbers) if in_words else lost_digits(values, numbers)
        if per_step:
            lost &= data.valid()[..., None]
        if lost.any():
            at = tuple(np.argwhere(lost)[0].tolist())
            warn_lost(f"{name}: {key}[{', '.join(map(str, at))}]", values[at], numbers[at], int(lost.sum()))
    if values.dtype.kind == "f" and values.dtype.itemsize > 4:
        _warn_merged(key, values, numbers, data.valid()[..., None] if per_step else np.ones((), bool), name)
    return numbers


def _warn_merged(key: str, values: np.ndarray, numbers: np.ndarray, valid: np.ndarray, name: str | Path) -> None:
    """Warn of features whose large values float32 does not keep apart."""
    single = values.ndim == 1
    if single:
        values, numbers = values[:, None], numbers[:, None]
    for feature, different, kept in merged(values, numbers, np.broadcast_to(valid, values.shape)):
        place = key if single else f"{key}[..., {feature}]"
        warnings.warn(
            f"{name}: {place} has {different:,} different values of 2^53 and more in size, of which float32 keeps "
            f"{kept:,} apart; subtract a constant, or give it in other units",
            stacklevel=3,
        )


def _check_size(numbers: int, name: str | Path) -> None:
    """Refuse arrays that do not fit into the memory as float32."""
    try:
        claims.check_memory(4 * numbers, "x as float32", "give fewer or shorter sequences")
    except claims.ClaimError as error:
        raise DataError(f"{name}: {error}") from None


def _kind(path: Path) -> str:
    """Return the kind of a file by its content: ".npz", ".npy" or ""."""
    try:
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                return ".npy"
            return ".npz" if zipfile.is_zipfile(file) else ""
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _first_line(error: Exception) -> str:
    """Return the first line of an error, without NumPy's advice to load pickles, which can run any code."""
    line = str(error).split("\n")[0].replace(" when allow_pickle=False", "")
    return line.partition(" max_header_size")[0] if "pickle" in line else line or type(error).__name__
