"""What to read of a weights file and how it is run: keywords that all functions which read one share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

from lstmjax.cells import Cell


class Selection(NamedTuple):
    """What to read of a weights file: `FileOptions` with their defaults."""

    form: str | None = None
    prefix: str | None = None
    names: Sequence[str] | None = None
    head: str | None = None
    extra: str = "refuse"


class FileOptions(TypedDict, total=False):
    """What to read of a weights file."""

    form: str | None
    """Whose names the arrays have: a name in `convert.LAYOUTS`; None: they are recognised."""
    prefix: str | None
    """What the names of the LSTM's arrays begin with, if there are several LSTMs."""
    names: Sequence[str] | None
    """Names of the LSTM's layers, from the bottom up, if the file does not store their order."""
    head: str | None
    """Name of the Dense layer that is the head; None: the only one that fits."""
    extra: str
    """"refuse" what is neither LSTM nor head, or "drop" it."""


class ReadOptions(FileOptions, total=False):
    """What to read of a weights file, and how to run what it does not say itself."""

    cell: Cell | str | None
    """The cell of bare weights, a name in `CELLS` or a `Cell`; None: as the file states, else the vanilla cell."""
    merge: str | None
    """How the directions of a pair are joined, "concat" or "sum"; None: as the file states, else what fits."""


def selected(options: FileOptions) -> Selection:
    """Return what to read of a file, from options that `takes` has completed."""
    return Selection(options["form"], options["prefix"], options["names"], options["head"], options["extra"])
