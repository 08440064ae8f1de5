"""The folder of a run: config.yaml, data.json, metrics.jsonl, curves.png, result.json, checkpoints/."""

from __future__ import annotations

import json
import logging
import math
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lstmjax.config import Config, dump_config, load_config
from lstmjax.data import About
from lstmjax.errors import UserError
from lstmjax.sums import broken_seal, sealed
from lstmjax.writing import named, write_text

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("lstmjax")
SPEED = "steps_per_second"
SEEDS = "seeds.json"
"""File of a folder with a run for each of several seeds."""
UNFINISHED = "unfinished.json"
"""File of a folder of forecasts or of a regional model that is not complete."""
REMNANTS = {".lock", "config.yaml.new"}
"""Files that a killed process may leave in a folder that holds no run yet."""


class RunError(UserError):
    """A run folder cannot be used."""


class RunFolder:
    """The files of a run. `create` makes a new folder, `open` opens an existing one."""

    def __init__(self, path: Path, config: Config):
        self.path, self.config = path.absolute(), config
        self.metrics, self.curves = self.path / "metrics.jsonl", self.path / "curves.png"
        self.checkpoints = self.path / "checkpoints"

    @classmethod
    @contextmanager
    def create(cls, path: str | Path | None, config: Config, name: str = "train") -> Iterator[RunFolder]:
        """Create a run folder with its config.yaml, and lock it until the block or the process ends.

        Args:
            path: a folder that is new or empty; None: a new one under runs/, named by `name` and the time.
            config: configuration of the run.
            name: beginning of the folder's name under runs/.

        Raises:
            RunError: the folder is not empty, cannot be created, or is locked by another process.
        """
        path = _new_folder(name) if path is None else Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise RunError(f"{path}: is a file; give another --run-dir") from None
        except OSError as error:
            raise RunError(f"{path}: cannot be made ({error.strerror or error}); give another --run-dir") from None
        with _lock(path):  # before looking whether it is empty, as another process may be creating a run, too
            if {entry.name for entry in path.iterdir()} - REMNANTS:
                is_run = (path / "config.yaml").is_file()
                hint = f"continue it by --resume {path}, or " if is_run else ""
                raise RunError(f"{path}: exists and is not empty; {hint}give another --run-dir")
            write_text(path / "config.yaml", dump_config(config))
            yield cls(path, config)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open an existing run folder.

        Raises:
            RunError: there is no such folder, or it is not a run folder.
        """
        path = Path(path)
        if not path.is_dir():
            raise RunError(f"{path}: no such run folder; lstmjax train creates one and prints its path")
        if not (path / "config.yaml").is_file():
            if _is_locked(path):
                raise RunError(f"{path}: the run has only begun, and its config.yaml is not written yet; wait for it")
            if (path / "checkpoints").is_dir():
                raise RunError(f"{path}: its config.yaml is missing; put it back, all values as they were")
            hint = ""
            if not {entry.name for entry in path.iterdir()} - REMNANTS:
                hint = f"; if a run was stopped as it began, start it anew: lstmjax train CONFIG --run-dir {path}"
            raise RunError(
                f"{path}: has no config.yaml, so it is not a run folder; lstmjax train creates one and prints its path"
                + hint
            )
        return cls(path, load_config(path / "config.yaml", of_run=True))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder for training, until the block or the process ends.

        Raises:
            RunError: another process has locked it.
        """
        with _lock(self.path):
            yield

    def is_trained(self) -> bool:
        """Return whether a process is training in the folder."""
        return _is_locked(self.path)

    def write_about(self, about: About) -> None:
        """Write what predicting needs to know of the data to data.json."""
        write_text(self.path / "data.json", about.model_dump_json(indent=1) + "\n")

    def write_split(self, split: dict[str, Any] | None) -> None:
        """Write which sequences are in which part to split.json; None: the source brings its parts."""
        if split is not None:
            write_text(self.path / "split.json", json.dumps(split, indent=1, ensure_ascii=False) + "\n")

    def read_about(self) -> About:
        """Read what `write_about` wrote.

        Raises:
            RunError: data.json is missing or damaged.
        """
        path = self.path / "data.json"
        try:
            return About.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if self.is_trained():
                raise RunError(f"{path}: is not written yet, as the run has only begun; wait for it") from None
            reason = "is missing"
        except OSError as error:
            reason = f"cannot be read ({error.strerror or error})"
        except (ValidationError, UnicodeDecodeError):
            reason = "is damaged"
        raise RunError(f"{path}: {reason}; put it back, or write it anew from the data: {self.remedy}")

    @property
    def remedy(self) -> str:
        """The command that continues the run, and rewrites the files that can be computed again."""
        return f"lstmjax train --resume {self.path}"

    def note_divergence(self, reason: str | None) -> None:
        """Write why training ended at NaN or infinity to diverged.txt, or remove the file if there is no reason."""
        path = self.path / "diverged.txt"
        with suppress(OSError, UserError):  # the error itself is more important
            if reason is None:
                path.unlink(missing_ok=True)
            else:
                write_text(path, reason + "\n")

    def divergence(self) -> str | None:
        """Return why training ended at NaN or infinity, or None if it did not."""
        try:
            return (self.path / "diverged.txt").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None

    def append(self, record: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl, and wait until it is on the disk."""
        with named(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())

    def records(self, metric: str) -> list[dict[str, Any]]:
        """Read the lines of metrics.jsonl, except for a last line that a kill has cut off.

        Args:
            metric: name of the metric beside the loss that chooses the network.

        Raises:
            RunError: a line is not one that training wrote.
        """
        try:
            text = self.metrics.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(f"{self.metrics}: cannot be read ({error.strerror or error})") from None
        *lines, _cut = text.split("\n")
        records: list[dict[str, Any]] = []
        for n, line in enumerate(lines, 1):
            record: Any = None
            with suppress(ValueError, RecursionError):
                record = json.loads(line)
            if not _is_record(record, metric):
                raise RunError(f"{self.metrics}:{n}: is not a line that training wrote; remove it")
            records.append({key: value for key, value in record.items() if key != "check"})
        return records

    def forget_after(self, step: int, metric: str) -> list[int]:
        """Remove the lines of metrics.jsonl after a step, from which training continues.

        Returns:
            The steps of the remaining lines.
        """
        records = [record for record in self.records(metric) if record["step"] <= step]
        write_text(self.metrics, "".join(map(_line, records)))
        return [record["step"] for record in records]

    def write_result(self, result: dict[str, Any]) -> None:
        """Write the result of the run to result.json, with a checksum."""
        json.dumps(result, allow_nan=False)  # raises for NaN and infinity
        write_text(self.path / "result.json", json.dumps(sealed(result), indent=1) + "\n")

    def read_result(self, metric: str) -> dict[str, Any] | None:
        """Read the result of the run; None: the run has not ended, or the file is damaged, which is warned of.

        Args:
            metric: name of the metric beside the loss that chooses the network.
        """
        path = self.path / "result.json"
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError):
            result = None
        if not _is_result(result, metric):
            log.warning("%s: is damaged, and left out; it is computed again by %s", path, self.remedy)
            return None
        return result


def about_sum(about: About) -> int:
    """Return the checksum of what a run knows of its data.

    Defaults are left out, so that a field that is added later changes no checksum.
    """
    return zlib.crc32(about.model_dump_json(exclude_defaults=True).encode())


def _line(record: dict[str, Any]) -> str:
    return json.dumps(sealed(record, free=SPEED), allow_nan=False) + "\n"


def _is_record(record: Any, metric: str) -> bool:
    return (
        isinstance(record, dict)
        and not broken_seal(record, free=SPEED)
        and _is_step(record.get("step"))
        and _is_number(record.get(SPEED))
        and _is_measured(record.get("train"))
        and _is_measured(record.get("validation"), metric)
    )


def _is_result(result: Any, metric: str) -> bool:
    return (
        isinstance(result, dict)
        and not broken_seal(result)
        and _is_step(result.get("step"))
        and _is_step(result.get("parameters"))
        and _is_measured(result.get("validation"), metric)
        and "test" in result
        and (result["test"] is None or _is_measured(result["test"], metric))
    )


def _is_measured(values: Any, metric: str = "loss") -> bool:
    return isinstance(values, dict) and {"loss", metric} <= values.keys() and all(map(_is_number, values.values()))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _new_folder(name: str) -> Path:
    """Create a folder under runs/, named by `name` and the time; a number is added if the name is taken."""
    stem = Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    path, n = stem, 1
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            if not path.parent.is_dir():
                raise RunError(f"{path.parent}: is a file; give a folder by --run-dir") from None
            n += 1
            path = stem.with_name(f"{stem.name}-{n}")
        except OSError as error:
            raise RunError(f"{path}: cannot be made ({error.strerror or error}); give a --run-dir") from None


def new_folder(path: Path | None, name: str) -> Path:
    """Return a folder that is new or empty, made if it is not there; None: a new one under runs/.

    Raises:
        RunError: the folder is not empty, or cannot be made.
    """
    if path is None:
        return _new_folder(name)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path}: cannot be made ({error.strerror or error}); give another --run-dir") from None
    if any(path.iterdir()):
        hint = f"continue it by --resume {path}, or " if (path / UNFINISHED).is_file() else ""
        raise RunError(f"{path}: exists and is not empty; {hint}give another --run-dir")
    return path


@contextmanager
def _lock(folder: Path, shared: bool = False) -> Iterator[None]:
    """Lock a folder until the block or the process ends.

    The folder itself is locked rather than a file, as files are replaced by new ones of the same name. Where folders
    cannot be locked, as on NFS, the file .lock in it is.

    Args:
        folder: folder to lock.
        shared: take a shared lock, to see whether another process has locked the folder.

    Raises:
        RunError: another process has locked the folder.
    """
    descriptors: list[int] = []
    try:
        for path, flags in ((folder, os.O_RDONLY), (folder / ".lock", os.O_RDWR | os.O_CREAT)):
            if fcntl is None or (shared and path != folder and not path.exists()):
                break
            try:
                descriptors.append(os.open(path, flags, 0o666))
                _flock(descriptors[-1], fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
                break
            except BlockingIOError:
                raise RunError(
                    f"{folder.absolute()}: another process is training in this folder; wait for it, or stop it first"
                ) from None
            except OSError:
                continue  # a file system without locks of this kind
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def folder_lock(folder: Path) -> AbstractContextManager[None]:
    """Lock a folder that holds runs until the block or the process ends; see `RunFolder.locked`."""
    return _lock(folder)


def _is_locked(folder: Path) -> bool:
    try:
        with _lock(folder, shared=True):
            return False
    except RunError:
        return True


def _flock(descriptor: int, kind: int) -> None:
    """Lock without waiting, but try again while other processes hold a shared lock, which takes them no time."""
    for attempt in range(1, 6):
        try:
            return fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt == 5 or kind == fcntl.LOCK_SH:
                raise
            time.sleep(0.02)
    return None
