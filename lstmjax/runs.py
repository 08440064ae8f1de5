"""A run's folder: config.yaml, data.json, metrics.jsonl, curves.png, result.json, checkpoints/."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lstmjax.config import Config, dump_config, load_config
from lstmjax.data import About
from lstmjax.errors import UserError

try:
    import fcntl
except ImportError:  # not on Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]


class RunError(UserError):
    """A run folder that cannot be used as asked."""


class RunFolder:
    """The files of a run. `create` makes a new folder, `open` takes one that is there."""

    def __init__(self, path: Path, config: Config):
        self.path, self.config = path.absolute(), config
        self.metrics, self.curves = self.path / "metrics.jsonl", self.path / "curves.png"
        self.checkpoints = self.path / "checkpoints"

    @classmethod
    def create(cls, path: str | Path, config: Config) -> RunFolder:
        """Gives a new run folder with its config.yaml.

        Raises:
            RunError: the folder is there already and not empty, or cannot be made.
        """
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                ours = (path / "config.yaml").is_file()
                hint = f"continue it by --resume {path}, or " if ours else ""
                raise RunError(f"{path}: is there already and not empty; {hint}give another --run-dir")
            _replace(path / "config.yaml", dump_config(config))
        except FileExistsError:
            raise RunError(f"{path}: is a file; give another --run-dir") from None
        except OSError as error:
            raise RunError(f"{path}: cannot be made ({error.strerror or error}); give another --run-dir") from None
        return cls(path, config)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Gives the run folder that is there.

        Raises:
            RunError: it is none.
        """
        path = Path(path)
        if not (path / "config.yaml").is_file():
            what = "has no config.yaml, so it is no run folder" if path.is_dir() else "no such run folder"
            raise RunError(f"{path}: {what}; lstmjax train makes one and says where")
        return cls(path, load_config(path / "config.yaml"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for the one process that trains in it, until the block or the process ends.

        Raises:
            RunError: another process holds it.
        """
        with (self.path / "config.yaml").open("r+b") as file:
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"{self.path}: another process is training in this folder; wait for it, or stop it first"
                ) from None
            except OSError:
                pass  # a file system without locks
            yield

    def write_about(self, about: About) -> None:
        """Keeps what predicting needs to know of the data."""
        _replace(self.path / "data.json", about.model_dump_json(indent=1) + "\n")

    def read_about(self) -> About:
        """Gives what `write_about` kept.

        Raises:
            RunError: it is missing or damaged.
        """
        path = self.path / "data.json"
        try:
            return About.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            reason = "missing" if isinstance(error, OSError) else "damaged"
            raise RunError(f"{path}: is {reason}; the run stopped before its first step, or was changed") from None

    def append(self, record: dict[str, Any]) -> None:
        """Adds a line to metrics.jsonl, on the disk before this returns."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> list[dict[str, Any]]:
        """Gives the whole lines of metrics.jsonl; a line cut off by a kill is none.

        Raises:
            RunError: a line is something else.
        """
        if not self.metrics.exists():
            return []
        *lines, _cut = self.metrics.read_text(encoding="utf-8", errors="replace").split("\n")
        records = []
        for n, line in enumerate(lines, 1):
            try:
                records.append(json.loads(line))
                int(records[-1]["step"])
            except (ValueError, TypeError, KeyError, RecursionError):
                raise RunError(f"{self.metrics}:{n}: is no line that training wrote; remove it") from None
        return records

    def forget_after(self, step: int) -> None:
        """Removes the lines of metrics.jsonl behind a step, as training goes on from there."""
        kept = [record for record in self.records() if record["step"] <= step]
        _replace(self.metrics, "".join(json.dumps(record) + "\n" for record in kept))

    def write_result(self, result: dict[str, Any]) -> None:
        """Keeps how the run ended."""
        _replace(self.path / "result.json", json.dumps(result, indent=1, allow_nan=False) + "\n")

    def read_result(self) -> dict[str, Any] | None:
        """Gives how the run ended, or None if it has not, or if the file is damaged: it can be computed again."""
        try:
            result = json.loads((self.path / "result.json").read_text(encoding="utf-8"))
            whole = isinstance(result["validation"], dict) and isinstance(result["test"], dict | None)
        except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return result if whole and "step" in result else None


def default_folder(name: str) -> Path:
    """Gives a folder under runs/ that is not there yet, by name and time."""
    stem = Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    path, n = stem, 1
    while path.exists():
        n += 1
        path = stem.with_name(f"{stem.name}-{n}")
    return path


def _replace(path: Path, text: str) -> None:
    """Writes a file so that a kill leaves the old one or the new one."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
