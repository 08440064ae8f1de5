"""Files that claim more than they hold: claims are checked against bytes, and memory wanted against memory available.

One place for weights and for data. No JAX here, so that a file is refused before it is loaded.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from lstmjax.errors import UserError

FREE, RATIO = 2**26, 50  # weights hardly compress: to a half where many are zero, never to a fiftieth
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy, Keras and PyTorch write; the others expand more
NO_ARRAY = "no array"
MAGIC = b"\x93NUMPY"  # what an NPY file begins with
NO_MEMORY = "there is not enough memory for it; give less of it, or use a computer with more"
GROUPS = Path("/sys/fs/cgroup")
LIMITS = (  # of a container, what is used of it, and of what: cgroups of version 2 and 1
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


class ClaimError(UserError):
    """A file that claims to hold what it does not, or more than there is memory for."""


class NotAnArray(NamedTuple):
    """What stands in a file in the place of an array, and is not read; `kind` says what it is."""

    kind: str


def available() -> int:
    """Return the bytes of memory that are free for this process: of the machine, or of its container."""
    import psutil  # what reads no file does not need it

    free = psutil.virtual_memory().available
    for limit, used, parts in LIMITS:
        try:
            limited, taken = (int((GROUPS / name).read_text()) for name in (limit, used))
            stat = dict(line.split() for line in (GROUPS / parts).read_text().splitlines())
        except (OSError, ValueError):  # no container, or one without a limit ("max")
            continue
        cache = sum(int(stat.get(name, 0)) for name in ("active_file", "inactive_file"))  # is given up when needed
        free = min(free, limited - taken + cache)
    return max(free, 0)


def words(count: int) -> str:
    """Return a number of bytes in words.

    >>> words(1500), words(16_000_000_000_000)
    ('1.5 kB', '16 TB')
    """
    units = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
    power = min((len(str(count)) - 1) // 3, len(units) - 1)
    return f"{count / 1000**power:.3g} {units[power]}"


def check_claim(claimed: int, stored: int, *, free: int | None = None) -> None:
    """Refuse what claims to be far larger than the bytes that are there, before memory is taken for it.

    Args:
        claimed: bytes that the arrays would take.
        stored: bytes of the file.
        free: bytes that any file may claim; None: `FREE`.
    """
    if claimed > (FREE if free is None else free) + RATIO * stored:
        raise ClaimError(
            f"claims to hold {claimed:,} bytes of arrays in {stored:,}; it is damaged, or made to exhaust the memory"
        )


def check_memory(wanted: int, what: str, remedy: str) -> None:
    """Refuse what takes more memory than is available; `what` takes it, and `remedy` says how to need less."""
    free = available()
    if wanted > free:
        raise ClaimError(f"{what} takes {words(wanted)} of memory, and {words(free)} are available; {remedy}")


@contextmanager
def archive(file: Path | IO[bytes], stored: int, *, free: int | None = None) -> Iterator[zipfile.ZipFile]:
    """Open a ZIP archive whose parts, unpacked, are no larger than they may be; see `check_claim`."""
    with zipfile.ZipFile(file) as opened:
        members = opened.infolist()
        if any(member.compress_type not in PACKED for member in members):
            raise ClaimError("is packed by other means than deflate, which is not read")
        unpacked = sum(member.file_size for member in members)
        check_claim(unpacked, stored, free=free)
        check_memory(unpacked, "the unpacked archive", "give less of it")
        yield opened


def read_npz(path: Path, *, free: int | None = None) -> dict[str, np.ndarray | NotAnArray]:
    """Read the arrays of an NPZ file by their names, each checked against the bytes that are there.

    Raises:
        ClaimError: an array claims more bytes than there are.
        Exception: NumPy's and the archive's, of many kinds, where the file is damaged.
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
    """Read the array of an NPY file of `stored` bytes, if its header claims no more than follows it.

    Raises:
        ClaimError: the header claims more bytes than there are, or a shape that is none.
    """
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in headers:
        raise ClaimError(f"is of version {version} of the NPY format, expected 1.0 or 2.0")
    shape, by_columns, dtype = headers[version](file)
    if dtype.hasobject:
        return NotAnArray(str(dtype))
    if any(isinstance(size, bool) or size < 0 for size in shape):
        raise ClaimError(f"claims to have the shape {shape}, which is none")
    claimed = math.prod(shape) * max(dtype.itemsize, 1)  # words of no letters take no bytes, and memory later
    if claimed > stored:
        raise ClaimError(f"claims to have {claimed:,} bytes in {stored:,}")
    content = bytearray(math.prod(shape) * dtype.itemsize)
    if _fill(file, content) < len(content):
        raise ClaimError(f"claims to have {claimed:,} bytes, and ends before")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")


def _fill(file: IO[bytes], content: bytearray) -> int:
    """Read from a file until the buffer is full or the file ends; return how many bytes were read."""
    view, count = memoryview(content), 0
    while count < len(view):
        part = file.read(min(len(view) - count, 2**24))
        if not part:
            break
        view[count : count + len(part)] = part
        count += len(part)
    return count
