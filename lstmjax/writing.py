"""Write files completely or not at all, and name the file in errors. JAX is not imported here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lstmjax.errors import UserError


class WriteError(UserError):
    """A file or stream cannot be written; the message says why."""

    code = 1

    def __init__(self, path: str | Path, reason: str):
        super().__init__(f"{path}: cannot be written ({reason}); make room there, or write to another place")
        self.reason = reason


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Turn an OSError while a file is written into a `WriteError` with the file's name and a remedy.

    Args:
        path: the file, or the name of the stream.

    Raises:
        WriteError: the disk is full, the folder is read-only, or the like.
    """
    try:
        yield
    except WriteError as error:  # of a draft within a draft
        raise WriteError(path, error.reason) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise WriteError(path, reason_of(error)) from None


def reason_of(error: BaseException) -> str:
    """Return the reason of an error in a few words."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return getattr(error, "strerror", None) or lines[0][:200]


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Yield a path to write to; its file replaces `path` when the block ends, so that no half-written file remains.

    Only writing belongs in the block: libraries report a full disk by exceptions of any type, which all become
    `WriteError`.

    Raises:
        WriteError: the file cannot be written; an existing file at `path` stays as it was.
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
    """Write a text file through `draft`."""
    with draft(path) as place:
        place.write_text(text, encoding="utf-8")


def _flush_to_disk(place: Path) -> None:
    """Wait until the bytes are on the disk: some file systems report a full disk only then."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
