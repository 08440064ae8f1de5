"""Words of variable length in an HDF5 file, read from its bytes: the HDF5 library would take any length on trust.

An attribute of one word holds its length, and where in the file it stands: the address of a collection of objects
("global heap"), and a number in it. Source: HDF5 File Format Specification 3.0, III.E, IV.A.2.d, IV.A.2.m. Files
of other sizes than 8 bytes for lengths and addresses are refused.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from lstmjax.convert.layouts import ConvertError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
VARIABLE = 9  # the class of a datatype of variable length


def words_of(path: Path, name: str) -> str:
    """Return the word that is called `name` in a file.

    Raises:
        ConvertError: it cannot be found, is damaged, or two of that name differ.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:8] != SIGNATURE or not _has_wide_numbers(data):
            raise ConvertError(f"its {name} cannot be read: the file is no HDF5 file, or one of another layout")
        found = {_word(data, name, *place) for place in _places(data, name.encode())}
    if len(found) != 1:
        raise ConvertError(f"its {name} cannot be read: the file holds {len(found)} of that name")
    return found.pop().decode()


def _has_wide_numbers(data: mmap.mmap) -> bool:
    version = data[8]
    sizes = data[13:15] if version < 2 else data[9:11]
    return sizes == b"\x08\x08"


def _places(data: mmap.mmap, name: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield length, address and number of each attribute of this name that is one word of variable length."""
    at = data.find(name + b"\0")
    while at >= 0:
        for version, before, aligned in ((1, 8, 8), (2, 8, 1), (3, 9, 1)):
            start = at - before
            if start < 0 or data[start] != version:
                continue
            name_size, type_size, space_size = struct.unpack_from("<HHH", data, start + 2)
            if name_size != len(name) + 1:
                continue
            kind = at + _padded(name_size, aligned)
            value = kind + _padded(type_size, aligned) + _padded(space_size, aligned)
            if value + 16 <= len(data) and data[kind] & 15 == VARIABLE:
                yield struct.unpack_from("<IQI", data, value)
        at = data.find(name + b"\0", at + 1)


def _padded(size: int, to: int) -> int:
    return -(-size // to) * to


def _word(data: mmap.mmap, name: str, length: int, address: int, number: int) -> bytes:
    """Return an object of a collection, if it is as long as the attribute says."""
    if address + 16 > len(data) or data[address : address + 4] != b"GCOL":
        raise ConvertError(f"its {name} cannot be read: it is said to stand where nothing is")
    end = min(len(data), address + struct.unpack_from("<Q", data, address + 8)[0])
    at = address + 16
    while at + 16 <= end:
        index, size = struct.unpack_from("<H6xQ", data, at)
        if index == number and index:
            if size != length or at + 16 + size > end:
                raise ConvertError(f"its {name} claims {length:,} bytes, but {size:,} are stored")
            return bytes(data[at + 16 : at + 16 + size]).rstrip(b"\0")
        if not index:
            break
        at += 16 + _padded(size, 8)
    raise ConvertError(f"its {name} cannot be read: it is said to stand where nothing is")
