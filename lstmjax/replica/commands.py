"""What `lstmjax verify` does, as functions; what is wrong with a file is said in one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lstmjax import claims
from lstmjax.errors import UserError, message_of
from lstmjax.published import find_cell
from lstmjax.replica.against import grid
from lstmjax.replica.report import Report
from lstmjax.replica.theirs import File, model_of_file
from lstmjax.replica.verdict import Verdict, verify


class VerifyError(UserError):
    """What cannot be verified."""


def verify_files(
    weights: Path,
    xs: Path,
    lengths: Path | None = None,
    outputs: Path | None = None,
    *,
    cell: str | None = None,
    merge: str | None = None,
    form: str | None = None,
    prefix: str | None = None,
    names: Sequence[str] | None = None,
    head: str | None = None,
    extra: str = "refuse",
) -> Verdict:
    """Return the verdict on a weights file: run by its framework, or against outputs that were recorded.

    Args:
        weights: the weights, of a framework or ours.
        xs: an NPY file of inputs, `[B, T, I]` or `[T, I]`.
        lengths: an NPY file of valid steps, `[B]`.
        outputs: an NPY file of recorded outputs.
        cell, merge: how the weights are run; None: as the file states, else the vanilla cell, and the merge with
            which the layers fit each other.
        form, prefix, names, head, extra: what to read of the file, as for `load_weights`.

    Raises:
        UserError: a file cannot be read, or what is in it does not fit.
    """
    inputs = _array(xs)
    file = File(weights, form=form, prefix=prefix, names=names, head=head, extra=extra)
    valid, recorded = (None if path is None else _array(path) for path in (lengths, outputs))
    try:
        if recorded is None:
            return verify(file, inputs, lengths=valid, cell=cell, merge=merge)
        row = None if cell is None else find_cell(cell)
        model = model_of_file(file, row, merge).model
        return verify(recorded, inputs, params=model, lengths=valid)
    except ModuleNotFoundError as error:
        raise VerifyError(f"{weights}: to read it, {error.name} must be installed") from None
    except (ValueError, TypeError) as error:
        raise VerifyError(message_of(error)) from None


def verify_grid(against: str | None, cases: int, seed: int, dtypes: str) -> Report:
    """Gives the report of `grid`; names are separated by commas, and progress is told on stderr.

    Raises:
        UserError: an unknown name, or no network.
    """

    def names(words: str) -> Sequence[str]:
        return [word.strip() for word in words.split(",") if word.strip()]

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    chosen = None if against is None else names(against)
    try:
        return grid(chosen, cases=cases, seed=seed, dtypes=names(dtypes), tell=tell)
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
