"""Which processes train together, and the process that watches over one of them. JAX is not imported here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import NamedTuple

from lstmjax.errors import ConfigError
from lstmjax.signals import SAVING

LOST = 75
"""What a process exits with when another one is lost: EX_TEMPFAIL of sysexits.h, "try again"."""
WATCHED = "LSTMJAX_WATCHED"  # set in the environment of a process that another one watches over
NAMES = {"coordinator": "LSTMJAX_COORDINATOR", "processes": "LSTMJAX_PROCESSES", "process": "LSTMJAX_PROCESS"}


class Hosts(NamedTuple):
    """The processes of a training, and which of them this one is."""

    coordinator: str | None  # HOST:PORT of process 0; None: as SLURM says
    processes: int
    process: int


def hosts_of(
    coordinator: str | None,
    processes: str | int | None,
    process: str | int | None,
    environment: Mapping[str, str] = os.environ,
) -> Hosts | None:
    """Return the processes of a training; None: this one is alone.

    Without options they are taken from LSTMJAX_COORDINATOR, LSTMJAX_PROCESSES and LSTMJAX_PROCESS, and without these
    from SLURM, where `srun` started several tasks.

    Args:
        coordinator: HOST:PORT of process 0.
        processes: their number.
        process: number of this one, from 0 on.
        environment: variables of the environment.

    Raises:
        ConfigError: a part is missing, or they do not fit together.

    >>> hosts_of("node7:8476", 2, 1), hosts_of(None, None, None, {})
    (Hosts(coordinator='node7:8476', processes=2, process=1), None)
    """
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    words = {name: f"--{name}" for name in given}
    if all(value is None for value in given.values()):
        given = {name: environment.get(variable) for name, variable in NAMES.items()}
        words = NAMES
        if all(value is None for value in given.values()):
            return _of_slurm(environment)
    missing = [words[name] for name, value in given.items() if value is None]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; several processes need "
            f"{', '.join(words.values())}, such as node7:8476, 2 and, on the second one, 1"
        )
    address = str(given["coordinator"])
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{words['coordinator']} is {address!r}; it should be HOST:PORT of process 0, as node7:8476")
    numbers = {}
    for name in ("processes", "process"):
        text = str(given[name])
        if not text.isdecimal():
            raise ConfigError(f"{words[name]} is {text!r}; it should be a whole number")
        numbers[name] = int(text)
    if not 0 <= numbers["process"] < numbers["processes"]:
        raise ConfigError(
            f"{words['process']} is {numbers['process']} of {numbers['processes']} processes; it should be from 0 to "
            f"{numbers['processes'] - 1}"
        )
    return None if numbers["processes"] == 1 else Hosts(address, numbers["processes"], numbers["process"])


def _of_slurm(environment: Mapping[str, str]) -> Hosts | None:
    """Return the tasks of a step of SLURM. A script of sbatch is no step, and trains alone."""
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if "SLURM_STEP_NODELIST" not in environment or not tasks.isdecimal() or int(tasks) < 2:
        return None
    return Hosts(None, int(tasks), int(environment.get("SLURM_PROCID", "0")))


def is_watched() -> bool:
    """Return whether another process watches over this one."""
    return WATCHED in os.environ


def watch(words: Sequence[str]) -> int:
    """Run the command in a process of its own, and return its exit code; signals are passed on.

    JAX' runtime ends a process by SIGABRT when it loses another one, which no handler in Python can prevent: that
    becomes `LOST`. If this process is killed, the other one is, too (on Linux).
    """
    command = [sys.executable, "-m", "lstmjax", *words]
    child = subprocess.Popen(
        command, env=os.environ | {WATCHED: str(os.getpid())}, start_new_session=True, preexec_fn=_end_with_parent
    )

    def pass_on(signum: int, frame: FrameType | None) -> None:
        child.send_signal(signum)

    for number in SAVING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    code = child.wait()
    if code == -signal.SIGABRT:
        print("lstmjax: another process of this training is lost", file=sys.stderr, flush=True)
        return LOST
    return 128 - code if code < 0 else code


def _end_with_parent() -> None:
    if sys.platform == "linux":
        import ctypes

        death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(death_signal, signal.SIGKILL)
