"""The functions behind `lstmjax verify`; a fault in a file is reported in one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np

from lstmjax import claims
from lstmjax.convert.find import find
from lstmjax.convert.options import ReadOptions, Selection, selected
from lstmjax.errors import UserError, message_of
from lstmjax.keywords import takes
from lstmjax.published import find_cell
from lstmjax.replica.against import grid
from lstmjax.replica.progress import Progress
from lstmjax.replica.report import Report
from lstmjax.replica.theirs import model_of_file
from lstmjax.replica.verdict import Verdict, verify


class VerifyError(UserError):
    """Files or options that cannot be verified."""


@takes(ReadOptions, Selection, find)
def verify_files(
    weights: Path, xs: Path, lengths: Path | None = None, outputs: Path | None = None, **options: Unpack[ReadOptions]
) -> Verdict:
    """Return the verdict on a weights file: run by its framework, or against outputs that were recorded.

    Args:
        weights: the weights, of a framework or ours.
        xs: an NPY file of inputs, `[B, T, I]` or `[T, I]`.
        lengths: an NPY file of valid steps, `[B]`.
        outputs: an NPY file of recorded outputs; None: the weights are run by their framework.
        cell, merge: how the weights are run; None: as the file states, else the vanilla cell, and the merge with
            which the layers fit each other.
        form, prefix, names, head, extra: what to read of the file, as for `load_weights`.

    Raises:
        UserError: a file cannot be read, or what is in it does not fit.
    """
    inputs = _array(xs)
    valid = None if lengths is None else _array(lengths)
    recorded = None if outputs is None else _array(outputs)
    try:
        if recorded is None:
            return verify(weights, inputs, lengths=valid, **options)
        row = None if options["cell"] is None else find_cell(options["cell"])
        model = model_of_file(weights, selected(options), row, options["merge"]).model
        return verify(recorded, inputs, params=model, lengths=valid)
    except ModuleNotFoundError as error:
        raise VerifyError(f"{weights}: to read it, {error.name} must be installed") from None
    except (ValueError, TypeError) as error:
        raise VerifyError(message_of(error)) from None


def verify_grid(
    against: str | None, cases: int | None, seed: int, dtypes: str | None, *, exhaustive: bool = False
) -> Report:
    """Return the report of `grid`, and show its progress on stderr.

    Args:
        against, dtypes: names, separated by commas; None: all frameworks, and as for `grid`.
        cases, seed, exhaustive: as for `grid`.

    Raises:
        UserError: an unknown name, or no network.
    """

    def split(names: str) -> Sequence[str]:
        return [name.strip() for name in names.split(",") if name.strip()]

    frameworks = None if against is None else split(against)
    kinds = None if dtypes is None else split(dtypes)
    try:
        with Progress() as progress:
            return grid(frameworks, cases=cases, seed=seed, dtypes=kinds, exhaustive=exhaustive, tell=progress)
    except ValueError as error:
        raise VerifyError(message_of(error)) from None


def _array(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            a = claims.read_npy(file, path.stat().st_size)
    except FileNotFoundError:
        raise VerifyError(f"{path}: no such file") from None
    except MemoryError:
        raise VerifyError(f"{path}: {claims.NO_MEMORY}") from None
    except Exception as error:  # over damaged bytes NumPy raises whatever its layers raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise VerifyError(f"{path}: cannot be read as NPY ({reason}); write it by np.save") from None
    if not isinstance(a, np.ndarray) or a.dtype.kind not in "fiub":
        raise VerifyError(f"{path}: holds no array of numbers; write one by np.save")
    return a
