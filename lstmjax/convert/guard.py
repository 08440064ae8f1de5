"""What keeps reading a stranger's file safe, and writing one whole: claims, archives, drafts, optional packages."""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from lstmjax import writing
from lstmjax.convert.layouts import ConvertError

FREE, RATIO = 2**26, 50  # weights hardly compress: to a half where many are zero, never to a fiftieth
REMEDIES = MappingProxyType({"torch": "pip install torch"})
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy, Keras and PyTorch write; the others expand more


def optional(module: str) -> Any:
    """Gives a module of an optional package.

    Raises:
        ConvertError: it is not installed; the message says how it is.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError:
        remedy = REMEDIES.get(package, "pip install 'lstmjax[convert]'")
        raise ConvertError(f"such files need {package}, which is not installed: {remedy}") from None


def check_claim(claimed: int, stored: int) -> None:
    """Refuses what claims to be far larger than the bytes that are there, before memory is taken for it.

    Args:
        claimed: bytes that the arrays would take.
        stored: bytes of the file.
    """
    if claimed > FREE + RATIO * stored:
        raise ConvertError(
            f"claims to hold {claimed:,} bytes of arrays in {stored:,}; it is damaged, or made to exhaust the memory"
        )


@contextmanager
def archive(file: Path | IO[bytes], stored: int) -> Iterator[zipfile.ZipFile]:
    """Gives a ZIP archive whose parts, unpacked, are no larger than they may be; see `check_claim`."""
    with zipfile.ZipFile(file) as found:
        members = found.infolist()
        if any(member.compress_type not in PACKED for member in members):
            raise ConvertError("is packed by other means than deflate, which is not read")
        check_claim(sum(member.file_size for member in members), stored)
        yield found


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Gives a place to write to, which becomes `path` in one go if all went well: a kill leaves the old file or none.

    Raises:
        ConvertError: there is no folder for it, or a folder in its place.
        WriteError: it cannot be written, as the disk is full.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise ConvertError(f"{path}: is a folder" if path.is_dir() else f"{path}: there is no folder {path.parent}")
    with writing.draft(path) as place:
        yield place
