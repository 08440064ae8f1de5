"""Checksums of arrays, of files, and inside JSON objects."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def array_sum(array: np.ndarray) -> int:
    """Return the checksum of the dtype, shape and bytes of an array."""
    head = json.dumps([str(array.dtype), array.shape]).encode()
    return zlib.crc32(np.ascontiguousarray(array).tobytes(), zlib.crc32(head))


def file_sums(folder: Path, names: Iterable[str] | None = None) -> dict[str, int]:
    """Return the checksums of the files in a folder, by their path in it.

    Args:
        folder: the folder; files in its subfolders count, too.
        names: paths of the files; missing ones are left out. None: all files.
    """
    paths = folder.rglob("*") if names is None else (folder / name for name in names)
    files = sorted(path for path in paths if path.is_file())
    return {path.relative_to(folder).as_posix(): zlib.crc32(path.read_bytes()) for path in files}


def sealed(tree: dict[str, Any], free: str = "") -> dict[str, Any]:
    """Return a JSON object with a checksum of its content added as "check".

    Args:
        tree: the object.
        free: a key that the checksum leaves out, as its value differs between identical runs.

    >>> broken_seal(sealed({"step": 3})), broken_seal(sealed({"step": 3}) | {"step": 4}), broken_seal({"step": 3})
    (False, True, False)
    """
    return tree | {"check": _content_sum(tree, free)}


def broken_seal(tree: dict[str, Any], free: str = "") -> bool:
    """Return whether the content of an object contradicts its checksum; without a checksum the answer is False."""
    return "check" in tree and tree["check"] != _content_sum(tree, free)


def _content_sum(tree: dict[str, Any], free: str) -> int:
    content = {key: value for key, value in tree.items() if key not in ("check", free)}
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
