"""What the command line prints: lines of its results, and messages, warnings and logs on stderr."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from types import TracebackType
from typing import Any

from lstmjax.signals import interruptible
from lstmjax.writing import named


def print_lines(lines: Iterable[str], flush: bool = False) -> None:
    """Print lines as they come. The work of a command happens here, as its lines are generated."""
    with interruptible():
        for line in lines:
            with named("standard output"):
                print(line, flush=flush)


def say(message: str) -> None:
    """Print a message as a line on stderr, if there is one."""
    with suppress(OSError, ValueError, AttributeError):  # the terminal may be gone, or the stream closed or None
        print(f"lstmjax: {message}", file=sys.stderr, flush=True)


@contextmanager
def suppress_output(quiet: bool) -> Iterator[None]:
    """Print nothing to standard output."""
    if not quiet:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print each warning as a line, without file and line number."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


class _Log(logging.Handler):
    """Print what is logged as warnings are printed."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {record.getMessage()}")


def print_log() -> None:
    """Print what the library logs as lines of the command, whatever handlers other libraries set up."""
    log = logging.getLogger("lstmjax")
    log.addHandler(_Log(logging.WARNING))
    log.propagate = False


def without_late_callbacks(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught exception, except for those in threads of orbax after a failed save."""
    if not (kind is RuntimeError and str(error) == "Event loop is closed"):
        sys.__excepthook__(kind, error, trace)


def drop_output(code: int) -> int:
    """Discard the buffer of stdout, which would fail again at exit, and return `code`."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
