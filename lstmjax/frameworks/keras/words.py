"""Words of variable length in an HDF5 file, read from its bytes: the HDF5 library would trust any length.

An attribute that is a word stores its length and its place in the file: the address of a collection of objects
("global heap"), and a number in it. Source: HDF5 File Format Specification 3.0, III.E, IV.A.2.d, IV.A.2.m. Files
whose lengths and addresses are not of 8 bytes are refused.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lstmjax.frameworks.base.guard import optional
from lstmjax.frameworks.base.layouts import ConvertError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
VARIABLE = 9  # the class of a datatype of variable length


def words_of(path: Path, name: str) -> str:
    """Return the word that is the attribute `name` of a file.

    Raises:
        ConvertError: there is no such attribute, it is damaged, or two of that name differ.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:8] != SIGNATURE or not _has_wide_numbers(data):
            raise ConvertError(f"its {name} cannot be read: the file is no HDF5 file, or one of another layout")
        places = [descriptors for _, descriptors in _places(data, name.encode())]
        words = {_word(data, name, *descriptors[0]) for descriptors in places if len(descriptors) == 1}
    if len(words) != 1:
        raise ConvertError(f"its {name} cannot be read: the file holds {len(words)} of that name")
    return words.pop().decode()


def check_words(path: Path) -> None:
    """Refuse a file in which a word of variable length, in any attribute, does not have the length that is stated.

    Call it before a program reads the file by the HDF5 library.

    Raises:
        ConvertError: it names the attribute.
    """
    h5py = optional("h5py")
    counts: Counter[str] = Counter()

    def count(item: Any) -> None:
        for name in item.attrs:
            attribute = item.attrs.get_id(name)
            if attribute.dtype.kind == "O":
                counts[name] += 1

    with h5py.File(path, "r") as file:
        count(file)
        file.visititems(lambda _, item: count(item))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for name, expected in counts.items():
            places = list(_places(data, name.encode()))
            if len({place[0] for place in places}) < expected:
                raise ConvertError(f"its {name} cannot be read: {expected} of that name are said to be in the file")
            for _, descriptors in places:
                for length, address, number in descriptors:
                    if length:
                        _word(data, name, length, address, number)


def _has_wide_numbers(data: mmap.mmap) -> bool:
    version = data[8]
    sizes = data[13:15] if version < 2 else data[9:11]
    return sizes == b"\x08\x08"


def _places(data: mmap.mmap, name: bytes) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
    """Yield the place of each attribute of this name, and of each of its words the length, address and number."""
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
            space = kind + _padded(type_size, aligned)
            value = space + _padded(space_size, aligned)
            if value + 16 > len(data) or data[kind] & 15 != VARIABLE:
                continue
            count = _count(data, space)
            if 0 < count <= (len(data) - value) // 16:
                yield at, [struct.unpack_from("<IQI", data, value + 16 * n) for n in range(count)]
        at = data.find(name + b"\0", at + 1)


def _count(data: mmap.mmap, space: int) -> int:
    """Return how many elements a dataspace has."""
    version, rank = data[space], data[space + 1]
    first = space + (8 if version == 1 else 4)
    if first + 8 * rank > len(data):
        return 0
    return math.prod(struct.unpack_from(f"<{rank}Q", data, first))


def _padded(size: int, to: int) -> int:
    return -(-size // to) * to


def _word(data: mmap.mmap, name: str, length: int, address: int, number: int) -> bytes:
    """Return a word of a collection, or refuse one that has another length than its attribute states."""
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
