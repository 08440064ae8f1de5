"""Checksums: of arrays, of files, and of JSON objects that carry their own."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def array_sum(array: np.ndarray) -> int:
    """Return the checksum of an array: dtype, shape and bytes."""
    head = json.dumps([str(array.dtype), array.shape]).encode()
    return zlib.crc32(np.ascontiguousarray(array).tobytes(), zlib.crc32(head))


def file_sums(folder: Path, names: Iterable[str] | None = None) -> dict[str, int]:
    """Return the checksum of files in a folder, by their path in it.

    Args:
        folder: where they lie, in folders of it, too.
        names: which of them; those that are not there are left out. None: all.
    """
    paths = folder.rglob("*") if names is None else (folder / name for name in names)
    files = sorted(path for path in paths if path.is_file())
    return {path.relative_to(folder).as_posix(): zlib.crc32(path.read_bytes()) for path in files}


def sealed(tree: dict[str, Any], free: str = "") -> dict[str, Any]:
    """Return a JSON object with the checksum of its content under "check".

    Args:
        tree: the object.
        free: a key that the checksum leaves out, as it differs between runs that are the same.

    >>> broken_seal(sealed({"step": 3})), broken_seal(sealed({"step": 3}) | {"step": 4}), broken_seal({"step": 3})
    (False, True, False)
    """
    return tree | {"check": _content_sum(tree, free)}


def broken_seal(tree: dict[str, Any], free: str = "") -> bool:
    """Return whether the content of an object is not what it was sealed with; without a seal it cannot be told."""
    return "check" in tree and tree["check"] != _content_sum(tree, free)


def _content_sum(tree: dict[str, Any], free: str) -> int:
    content = {key: value for key, value in tree.items() if key not in ("check", free)}
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
