"""Optional packages, and writing a file in one go; `lstmjax.claims` guards reading a file that others wrote."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import lstmjax
from lstmjax import writing
from lstmjax.frameworks.base.layouts import ConvertError

REMEDIES = MappingProxyType({"torch": "pip install torch"})


def optional(module: str) -> Any:
    """Import a module of an optional package, and return it.

    Raises:
        ConvertError: the package is not installed; the message says how to install it.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError:
        remedy = REMEDIES.get(package, f"pip install '{_distribution()}[convert]'")
        raise ConvertError(f"such files need {package}, which is not installed: {remedy}") from None


def _distribution() -> str:
    """Return what pip installs: the checkout that this runs from, or the package."""
    return "." if (Path(lstmjax.__file__).parent.parent / "pyproject.toml").is_file() else "lstmjax"


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which replaces `path` in one go if all went well: a kill leaves the old file or none.

    Raises:
        ConvertError: its folder does not exist, or `path` is a folder.
        WriteError: it cannot be written, because the disk is full or for another such reason.
    """
    if path.is_dir() or not path.parent.is_dir():
        fault = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise ConvertError(f"{path}: {fault}")
    with writing.draft(path) as place:
        yield place
