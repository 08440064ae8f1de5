"""Handle signals: end the process at once, or note the signal until the state is saved.

JAX is not imported here, as the handlers must be set before anything large is imported: a KeyboardInterrupt
that is raised while modules load, or in a callback of JAX, is lost or ends in a traceback.
"""

from __future__ import annotations

import _thread
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SAVING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name))
"""The signals after which training saves; a closed terminal sends SIGHUP, Ctrl-\\ sends SIGQUIT."""

AGAIN = 0.02  # seconds until a lost interrupt is sent again


class Stop:
    """The signal that came inside `noted`; None: no signal yet."""

    def __init__(self) -> None:
        self.signum: int | None = None


@contextmanager
def noted(leave: tuple[int, ...] = ()) -> Iterator[Stop]:
    """Note the first signal of `SAVING` without acting on it; a second signal acts as usual.

    In other threads than the main one nothing is noted, as Python delivers signals to the main thread.

    Args:
        leave: signals whose handlers stay, as others note them.
    """
    stop = Stop()
    if not _in_main_thread():
        yield stop
        return

    def note(signum: int, frame: FrameType | None) -> None:
        stop.signum = signum
        _restore(before)

    # Under nohup SIGHUP is ignored, and must remain so.
    hangup = getattr(signal, "SIGHUP", None)
    taken = [n for n in SAVING if n not in leave and (n != hangup or signal.getsignal(n) is not signal.SIG_IGN)]
    before: dict[int, Any] = {number: signal.signal(number, note) for number in taken}
    try:
        yield stop
    finally:
        _restore(before)


def stopped(words: Sequence[str]) -> str:
    """Return what is said of a command that SIGINT ends; one that continues a run can be given again."""
    resumes = any(word.partition("=")[0] == "--resume" for word in words)
    return f"stopped; continue by: lstmjax {shlex.join(words)}" if resumes else "stopped"


def quit_on_interrupt(words: Sequence[str] = ()) -> dict[int, Any]:
    """Make SIGINT end the process with one line, and return the previous handler.

    Args:
        words: the command that would be ended, without its name.
    """
    if not _in_main_thread():
        return {}

    def quit_now(signum: int, frame: FrameType | None) -> None:
        with suppress(OSError):  # the terminal may be gone
            os.write(2, f"lstmjax: {stopped(words)}\n".encode(errors="backslashreplace"))
        os._exit(128 + signum)

    return {signal.SIGINT: signal.signal(signal.SIGINT, quit_now)}


@contextmanager
def quitting(words: Sequence[str]) -> Iterator[None]:
    """Make SIGINT end the process with one line, while nothing is being written that could be lost."""
    before = quit_on_interrupt(words)
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt at SIGINT, and once more if it is lost in a callback that swallows exceptions."""
    if not _in_main_thread():
        yield
        return

    def again(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            threading.Timer(AGAIN, _interrupt).start()  # later, since now it would be lost in the same callback
        else:
            hook(unraisable)

    hook = sys.unraisablehook
    before: dict[int, Any] = {signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler)}
    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        _restore(before)


def _interrupt() -> None:
    if hasattr(signal, "pthread_kill"):  # a real signal also interrupts a blocking call
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set from Python


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
