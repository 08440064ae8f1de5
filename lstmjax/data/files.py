"""Reads the user's own files: NPZ and NPY by NumPy, the long CSV format in `table.py`."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

import numpy as np

from lstmjax.data.sequences import DataError, Sequences
from lstmjax.data.table import read_csv

KEYS = ("x", "y", "lengths")


def read_npz(path: Path, *, labels: bool = True) -> Sequences:
    """Gives the sequences of an NPZ file with x `[N, T, I]`, y `[N, ...]` and, if ragged, lengths `[N]`.

    Args:
        labels: whether y must be there; without, it is not looked at.

    Raises:
        DataError: what is missing or wrong, and where.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise DataError(f"{path}: cannot be read as NPZ ({_first_line(error)}); write it by np.savez") from None
    for key in arrays:
        if key not in KEYS:
            near = get_close_matches(key, KEYS, 1)
            raise DataError(
                f"{path}: unknown array {key!r}; "
                + (f"did you mean {near[0]!r}?" if near else "expected x, y and, for ragged data, lengths")
            )
    for key in ("x", "y") if labels else ("x",):
        if key not in arrays:
            raise DataError(
                f"{path}: no array {key!r}; expected x [sequences, steps, features], y [sequences] and, for ragged "
                "data, lengths [sequences]"
            )
    return check(Sequences(arrays["x"], arrays.get("y") if labels else None, arrays.get("lengths")), path)


def read_npy(path: Path, *, labels: bool = True) -> Sequences:
    """Gives the sequences of an NPY file, x `[N, T, I]` or one sequence `[T, I]`; for prediction only."""
    if labels:
        raise DataError(f"{path}: an NPY file has no labels; write an NPZ file by np.savez(path, x=x, y=y)")
    try:
        x = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as NPY ({_first_line(error)}); write it by np.save") from None
    return check(Sequences(x[None] if x.ndim == 2 else x), path)


READERS: MappingProxyType[str, Callable[..., Sequences]] = MappingProxyType(
    {".npz": read_npz, ".npy": read_npy, ".csv": read_csv}
)
"""How each kind of file is read, by the end of its name."""


def read(path: str | Path, *, labels: bool = True) -> Sequences:
    """Gives the sequences of a file, NPZ, NPY or CSV by the end of its name.

    Raises:
        DataError: no such file, another kind of file, or what is wrong in it.
    """
    path = Path(path)
    if path.suffix.lower() not in READERS:
        raise DataError(f"{path}: unknown kind of file; expected a name that ends in {', '.join(READERS)}")
    if not path.is_file():
        raise DataError(f"{path}: no such file; relative paths are read from the folder in which the command runs")
    return READERS[path.suffix.lower()](path, labels=labels)


def check(data: Sequences, name: str | Path) -> Sequences:
    """Gives the sequences back, x as float32 and lengths as int32, if they fit each other.

    Raises:
        DataError: ranks, sizes, dtypes, lengths outside 1 to T, numbers that are not finite.
    """
    x, y, lengths = data.x, data.y, data.lengths
    if x.ndim != 3:
        raise DataError(f"{name}: x has shape {x.shape}, expected [sequences, steps, features]")
    if 0 in x.shape:
        raise DataError(f"{name}: x has shape {x.shape}, so there is nothing in it")
    if not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer) or x.dtype == bool):
        raise DataError(f"{name}: x is {x.dtype}, expected numbers")
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
    data = data._replace(x=x.astype(np.float32), lengths=lengths)
    _check_finite("x", data.x, data, name)
    if y is not None and np.issubdtype(y.dtype, np.floating):
        _check_finite("y", y, data, name)
    if lengths is not None:  # what stands behind the end is nobody's, not even the checksum's
        data = data._replace(x=np.where(data.valid()[..., None], data.x, np.float32(0)))
    return data


def _check_finite(key: str, values: np.ndarray, data: Sequences, name: str | Path) -> None:
    """Refuses missing values, but not behind the end of a sequence."""
    wrong = ~np.isfinite(values)
    if values.shape[:2] == data.x.shape[:2] and values.ndim == 3:
        wrong &= data.valid()[..., None]
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0].tolist())
        place = ", ".join(map(str, at))
        raise DataError(f"{name}: {key}[{place}] is {values[at]}; fill or remove missing values ({wrong.sum()} in all)")


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0] or type(error).__name__
