"""Refuse files whose headers claim more than the file holds, or more than fits into the memory.

Files of weights and of data are both checked here. JAX is not imported, so that a file is refused before JAX is loaded.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from lstmjax.errors import UserError

FREE, RATIO = 2**26, 50  # weights hardly compress: to half their size if many are zero, never to a fiftieth
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy, Keras and PyTorch write; others expand far more
NO_ARRAY = "no array"
MAGIC = b"\x93NUMPY"  # what an NPY file begins with
NO_MEMORY = "there is not enough memory for it; give less of it, or use a computer with more"
GROUPS = Path("/sys/fs/cgroup")
LIMITS = (  # files with a container's limit, its use and the parts of that: cgroups version 2 and 1
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


class ClaimError(UserError):
    """A file claims to hold more than it does, or more than fits into the memory."""


class NotAnArray(NamedTuple):
    """An entry of a file that is not an array, and is not read; `kind` says what it is."""

    kind: str


def available() -> int:
    """Return the bytes of free memory, of the machine or of the container if that has less."""
    import psutil  # here, as only reading files needs it

    free = psutil.virtual_memory().available
    for limit, used, parts in LIMITS:
        try:
            limited, taken = (int((GROUPS / name).read_text()) for name in (limit, used))
            stat = dict(line.split() for line in (GROUPS / parts).read_text().splitlines())
        except (OSError, ValueError):  # no container, or no limit ("max")
            continue
        cache = sum(
            int(stat.get(name, 0)) for name in ("active_file", "inactive_file")
        )  # the kernel frees it on demand
        free = min(free, limited - taken + cache)
    return max(free, 0)


def counted(number: int, noun: str, separator: str = "") -> str:
    """Return a number of things, in words; the separator stands between thousands.

    >>> counted(1, "sequence"), counted(1200, "sequence"), counted(1200, "step", ",")
    ('1 sequence', '1200 sequences', '1,200 steps')
    """
    return f"{number:{separator}} {noun}{'' if number == 1 else 's'}"


def words(count: int) -> str:
    """Return a number of bytes as text with a unit.

    >>> words(1500), words(16_000_000_000_000)
    ('1.5 kB', '16 TB')
    """
    units = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
    power = min((len(str(count)) - 1) // 3, len(units) - 1)
    return f"{count / 1000**power:.3g} {units[power]}"


def check_claim(claimed: int, stored: int, *, free: int | None = None) -> None:
    """Refuse a claim that is far larger than the file, before memory is allocated for it.

    Args:
        claimed: size in bytes of the arrays, by the file's headers.
        stored: size in bytes of the file.
        free: bytes that any file may claim; None: `FREE`.

    Raises:
        ClaimError: the claim is larger than `free` and 50 times the file.
    """
    if claimed > (FREE if free is None else free) + RATIO * stored:
        raise ClaimError(
            f"claims to hold {claimed:,} bytes of arrays in {stored:,}; it is damaged, or made to exhaust the memory"
        )


def check_memory(needed: int, what: str, remedy: str) -> None:
    """Refuse what needs more memory than is available.

    Args:
        needed: bytes.
        what: what needs them, for the message.
        remedy: how to need less, for the message.

    Raises:
        ClaimError: there is less memory than that.
    """
    free = available()
    if needed > free:
        raise ClaimError(f"{what} takes {words(needed)} of memory, and {words(free)} are available; {remedy}")


@contextmanager
def archive(file: Path | IO[bytes], stored: int, *, free: int | None = None) -> Iterator[zipfile.ZipFile]:
    """Open a ZIP archive after checking the size of its unpacked members; see `check_claim`."""
    with zipfile.ZipFile(file) as opened:
        members = opened.infolist()
        if any(member.compress_type not in PACKED for member in members):
            raise ClaimError("is compressed by another method than deflate, which is not supported")
        unpacked = sum(member.file_size for member in members)
        check_claim(unpacked, stored, free=free)
        check_memory(unpacked, "the unpacked archive", "give less of it")
        yield opened


def read_npz(path: Path, *, free: int | None = None) -> dict[str, np.ndarray | NotAnArray]:
    """Read the arrays of an NPZ file by name, checking the claim of each header first.

    Raises:
        ClaimError: an array claims more bytes than the file holds.
        Exception: of many types, from NumPy and zipfile, if the file is damaged.
    """
    with archive(path, path.stat().st_size, free=free) as parts:
        arrays: dict[str, np.ndarray | NotAnArray] = {}
        for member in parts.infolist():
            name = member.filename.removesuffix(".npy")
            with parts.open(member) as file:
                is_array = file.read(len(MAGIC)) == MAGIC
            if not is_array:
                arrays[name] = NotAnArray(NO_ARRAY)
                continue
            try:
                with parts.open(member) as file:
                    arrays[name] = read_npy(file, member.file_size)
            except ClaimError as error:
                raise ClaimError(f"{name!r} {error}") from None
    return arrays


def read_npy(file: IO[bytes], stored: int) -> np.ndarray | NotAnArray:
    """Read the array of an NPY file of `stored` bytes, after checking the claim of its header.

    Raises:
        ClaimError: the header claims more bytes than the file holds, or an impossible shape.
    """
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in headers:
        raise ClaimError(f"is of version {version} of the NPY format, expected 1.0 or 2.0")
    try:
        shape, column_major, dtype = headers[version](file)
    except (ValueError, SyntaxError, TypeError, RecursionError, tokenize.TokenError) as error:
        if "max_header_size" in str(error) or "EOF:" in str(error):  # NumPy's words say what it is
            raise
        raise ClaimError("has a header that states no shape and dtype") from None
    if dtype.hasobject:
        return NotAnArray(str(dtype))
    if any(isinstance(size, bool) or size < 0 for size in shape):
        raise ClaimError(f"claims to have the shape {shape}, which is impossible")
    claimed = math.prod(shape) * max(dtype.itemsize, 1)  # strings of length 0 take no bytes here, but memory later
    if claimed > stored:
        raise ClaimError(f"claims to have {claimed:,} bytes in {stored:,}")
    content = bytearray(math.prod(shape) * dtype.itemsize)
    if _fill(file, content) < len(content):
        raise ClaimError(f"claims to have {claimed:,} bytes, and ends before")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if column_major else "C")


def _fill(file: IO[bytes], content: bytearray) -> int:
    """Fill a buffer from a file, and return the number of bytes read."""
    view, count = memoryview(content), 0
    while count < len(view):
        part = file.read(min(len(view) - count, 2**24))
        if not part:
            break
        view[count : count + len(part)] = part
        count += len(part)
    return count
