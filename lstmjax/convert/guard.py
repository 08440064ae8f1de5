"""Writing a file in one go, and optional packages; what keeps reading a stranger's file safe is in `lstmjax.claims`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lstmjax import writing
from lstmjax.convert.layouts import ConvertError

REMEDIES = MappingProxyType({"torch": "pip install torch"})


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
