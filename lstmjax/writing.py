"""Files are written whole or not at all, and what keeps them from being written is told by name. No JAX here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lstmjax.errors import UserError


class WriteError(UserError):
    """A file, or what else is written to, that cannot be written, and why."""

    code = 1

    def __init__(self, path: str | Path, reason: str):
        super().__init__(f"{path}: cannot be written ({reason}); make room there, or write to another place")
        self.reason = reason


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Turn what goes wrong while a file is written into one line with its name and the remedy.

    Args:
        path: the file, or what else is written to.

    Raises:
        WriteError: the disk is full, the folder may not be written to, or a library could not write.
    """
    try:
        yield
    except WriteError as error:  # of a draft inside of a draft
        raise WriteError(path, error.reason) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise WriteError(path, reason_of(error)) from None


def reason_of(error: BaseException) -> str:
    """Return why something could not be written, in a few words."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return getattr(error, "strerror", None) or lines[0][:200]


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Give a place to write to, which becomes `path` in one go: a kill or a full disk leaves the old file or none.

    Nothing but writing belongs into the block: other libraries' words on a full disk are of no common type.

    Raises:
        WriteError: it cannot be written.
    """
    place = path.with_name(path.name + ".new")
    try:
        with named(path):
            yield place
            _flush_to_disk(place)
            place.replace(path)
    except (ValueError, TypeError, MemoryError, BrokenPipeError):  # UserError is a ValueError
        raise
    except Exception as error:  # of HDF5, PyTorch or safetensors
        raise WriteError(path, reason_of(error)) from None
    finally:
        with suppress(OSError):
            place.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file through a `draft`."""
    with draft(path) as place:
        place.write_text(text, encoding="utf-8")


def _flush_to_disk(place: Path) -> None:
    """Wait until the bytes are on the disk: some file systems tell of a full disk only then."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
