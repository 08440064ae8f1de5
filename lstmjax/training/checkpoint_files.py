"""The files of a checkpoint: their checksums, and reading them without a word from orbax."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lstmjax.sums import broken_seal, file_sums, sealed

SUMS = ".sums"
NEEDED = re.compile(r"state/(_METADATA|manifest\.ocdbt|d/.*)|metrics/metrics|about/metadata")
"""The files that reading a checkpoint needs; orbax writes others that it only needs while writing."""


class Damaged(Exception):
    """The bytes of a checkpoint are not what was saved, or it has been deleted."""


def sums_path(folder: Path, step: int) -> Path:
    """Return the file in a folder of checkpoints that holds the checksums of one checkpoint's files."""
    return folder / SUMS / f"{step}.json"


def write_sums(folder: Path, step: int) -> None:
    """Save the checksum of each file. If a kill prevents it, the checksums of the arrays still protect the content."""
    path = sums_path(folder, step)
    path.parent.mkdir(exist_ok=True)
    draft = path.parent / "new"
    draft.write_text(json.dumps(sealed({"files": file_sums(folder / str(step))})), encoding="utf-8")
    draft.replace(path)


def check_files(folder: Path, step: int, part: str) -> None:
    """Compare the files of a checkpoint with their checksums, as far as there are any.

    Args:
        folder: folder of checkpoints.
        step: which checkpoint.
        part: "state/", "about/" or "metrics/"; of its files, those that reading needs are compared.

    Raises:
        Damaged: a file is missing or differs from what was saved.
    """
    try:
        tree = json.loads(sums_path(folder, step).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    if not isinstance(tree, dict) or broken_seal(tree):
        return  # the checksums themselves are damaged
    files = tree.get("files", tree)
    expected = {name: crc for name, crc in files.items() if name.startswith(part) and NEEDED.fullmatch(name)}
    try:
        actual = file_sums(folder / str(step), expected)
    except OSError as error:
        raise Damaged(short_reason(error)) from None
    for name, crc in expected.items():
        if name not in actual:
            raise Damaged(f"{name} is missing")
        if actual[name] != crc:
            raise Damaged(f"{name} is not what was saved")


@contextmanager
def unchanging(folder: Path, growing: bool) -> Iterator[Path]:
    """Yield a folder whose files stay until they are read: a copy if `growing`, as another process may delete them.

    Readers of orbax run on in threads after a file has vanished, and print what they miss.
    """
    if not growing:
        yield folder
        return
    with TemporaryDirectory() as place:
        yield Path(shutil.copytree(folder, Path(place) / "state", ignore=shutil.ignore_patterns("ocdbt.process_*")))


@contextmanager
def silent() -> Iterator[None]:
    """Mute what orbax logs about missing or damaged files, which we report in one line."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(max(level, logging.CRITICAL))
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def short_reason(error: Exception) -> str:
    """Return the reason of an error in one line of at most 200 characters."""
    if system := re.search(r"([^:\[\]]+) \[os_error_code", str(error)):  # the system's error within tensorstore's pages
        return system[1].strip()
    text = getattr(error, "strerror", None) or str(error).strip().split("\n")[0]
    return (text or type(error).__name__)[:200]
