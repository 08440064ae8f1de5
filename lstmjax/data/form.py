"""How the files of a run are read: what its columns are, its categories, and what missing values become."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from lstmjax.config import Columns, Data, Section
from lstmjax.data.sequences import DataError, Sequences


class Form(Section):
    """How files are read; what training has learned of them is kept with the run."""

    columns: Columns = Columns()
    """What the columns of a table are."""
    layout: Literal["auto", "long", "wide"] = "auto"
    """Whether a row is a step or a sequence."""
    missing: Literal["error", "mask", "forward", "mean"] = "error"
    """What becomes of missing values."""
    categories: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Each categorical column with its categories, those of the source."""
    fill: tuple[float, ...] | None = None
    """What a missing value of each feature becomes: the mean over the training part; None: not known yet."""
    masked: tuple[int, ...] = ()
    """Features for which a further feature says where they are missing."""

    @property
    def is_plain(self) -> bool:
        """Whether nothing differs from what is read without any option."""
        return self.model_copy(update={"fill": None}) == Form()


def form_of(data: Data) -> Form:
    """Return how the files of a configuration are read, before anything is known of them."""
    return Form(columns=data.columns, layout=data.layout, missing=data.missing)


class Table(NamedTuple):
    """The sequences of a file, and what their parts are split by."""

    data: Sequences  # missing values are NaN, if the form allows them
    group: np.ndarray | None = None  # [N] str objects
    begin: np.ndarray | None = None  # [N] time of the first step: datetime64[ns] or float64
    end: np.ndarray | None = None  # [N] time of the last step
    notes: tuple[str, ...] = ()  # lines for the log
    categories: tuple[tuple[str, tuple[str, ...]], ...] = ()  # as in `Form`

    def take(self, rows: np.ndarray) -> Sequences:
        """Return some of the sequences."""
        return self.data.take(rows)


def optional(package: str, what: str) -> Any:
    """Import a module of the extra `data`.

    Raises:
        DataError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        import lstmjax

        checkout = (Path(lstmjax.__file__).parent.parent / "pyproject.toml").is_file()
        name = "." if checkout else "lstmjax"
        raise DataError(f"{what} needs {package.partition('.')[0]}: pip install '{name}[data]'") from None
