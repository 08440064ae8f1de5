"""Folders of forecasts and of regional models that are not complete: what marks them, and how they are continued."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lstmjax.errors import ConfigError
from lstmjax.forecast.series import SeriesSet
from lstmjax.runs import UNFINISHED, folder_lock
from lstmjax.writing import write_text


class Interrupted(Exception):
    """A command was stopped by Ctrl-C, and what it had finished is in its folder."""

    signum = signal.SIGINT


@contextmanager
def unfinished(folder: Path, series: SeriesSet, command: str, *, resume: bool) -> Iterator[None]:
    """Mark a folder as not complete, and lock it, until the block has come to its end.

    Args:
        folder: of the run.
        series: all that the run reads.
        command: "forecast" or "hydrology".
        resume: the folder is that of a run which was stopped; its series must be the same.

    Raises:
        ConfigError: there is nothing to continue, or the series are others.
        RunError: another process works in the folder.
        Interrupted: Ctrl-C; the message has the command that continues the run.
    """
    mark, checksum = folder / UNFINISHED, checksum_of(series)
    with folder_lock(folder):
        if not resume:
            write_text(mark, json.dumps({"command": command, "data": checksum}) + "\n")
        elif not mark.is_file():
            raise ConfigError(
                f"{folder}: has no {UNFINISHED}, so that there is nothing to continue: it is complete, or was stopped "
                "by an earlier version of lstmjax. Begin anew in another folder."
            )
        elif _noted(mark) != checksum:
            raise ConfigError(
                f"{folder}: the data have changed since it was stopped, so that its networks would not have learnt "
                "from the same. Bring the data back, or begin anew in another folder."
            )
        try:
            yield
        except KeyboardInterrupt:
            raise Interrupted(f"stopped; continue by: {remedy(folder, command)}") from None
        mark.unlink()


def _noted(mark: Path) -> str:
    """Return the checksum of the data of a run that was stopped."""
    try:
        return str(json.loads(mark.read_text(encoding="utf-8"))["data"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{mark}: is damaged ({error}); begin anew in another folder.") from None


def remedy(folder: Path, command: str) -> str:
    """Return the command that continues a run."""
    return f"lstmjax {command} --resume {folder}"


def is_unfinished(folder: Path) -> bool:
    """Return whether a run was stopped, or is still going on."""
    return (folder / UNFINISHED).is_file()


def checksum_of(series: SeriesSet) -> str:
    """Return a checksum of series: of their names, times and numbers; of mapped ones, the name of their folder."""
    if series.folder is not None:
        return series.folder.name  # changes with the files and with the configuration of the data
    about = [series.names, series.past_names, series.known_names, series.number_names, series.levels, series.season]
    checksum = hashlib.sha256(json.dumps(about).encode())
    for name in ("starts", "ends", "target", "times", "past", "known", "numbers", "categories"):
        values = getattr(series, name)
        if values is not None:
            checksum.update(np.ascontiguousarray(values).tobytes())
    return checksum.hexdigest()
