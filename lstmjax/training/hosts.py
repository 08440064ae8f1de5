"""Several processes that train together, on one host or several: what the first one says, and how they leave."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from lstmjax.config import ConfigError
from lstmjax.errors import UserError
from lstmjax.launch import Hosts
from lstmjax.training.shards import on_one_device
from lstmjax.types import PyTree

HEARTBEAT = 20  # seconds without a word after which a process counts as lost
LEAVING = 10  # seconds that processes wait for one another at the end
CONNECTING = 300  # seconds that they wait for one another at the beginning
SIGNS = re.compile(
    r"gloo|nccl|coordination|connection|socket|heartbeat|barrier|UNAVAILABLE|ABORTED|DEADLINE_EXCEEDED", re.IGNORECASE
)
"""What stands in the errors of JAX, Gloo and NCCL when a process is lost."""


def join(hosts: Hosts) -> None:
    """Connect with the other processes; before JAX is used.

    Raises:
        ConfigError: they cannot be reached.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    known: dict[str, Any] = {
        "coordinator_address": hosts.coordinator,
        "num_processes": hosts.processes,
        "process_id": hosts.process,
    }
    if hosts.coordinator is None:
        known = {"cluster_detection_method": "slurm"}
    else:
        known |= {"cluster_detection_method": "deactivate"}
    try:
        jax.distributed.initialize(
            **known,
            initialization_timeout=CONNECTING,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=LEAVING,
        )
    except RuntimeError as error:
        raise ConfigError(
            f"process {hosts.process} of {hosts.processes} cannot reach the others by {hosts.coordinator} "
            f"({str(error).splitlines()[0]}); start all of them within {CONNECTING} s, with the same --coordinator, an "
            "address of process 0 that all can reach"
        ) from None


def several() -> bool:
    """Return whether several processes train together."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Return whether this process writes the run folder."""
    return jax.process_index() == 0


def from_first(compute: Callable[[], Any]) -> Any:
    """Return in every process what the first one computes, as JSON; there alone it is computed.

    Raises:
        UserError: the first process raised it.
    """
    if not several():
        return compute()
    answer: dict[str, Any] = {}
    failure = None
    if is_first():
        try:
            answer = {"value": compute()}
        except UserError as error:
            failure, answer = error, {"error": str(error), "code": error.code}
    answer = json.loads(_broadcast(json.dumps(answer).encode()))
    if failure is not None:
        raise failure
    if "error" in answer:
        error = UserError(f"process 0: {answer['error']}")
        error.code = answer["code"]
        raise error
    return answer["value"]


def _broadcast(text: bytes) -> bytes:
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    letters = np.zeros(length, np.uint8)
    if is_first():
        letters = np.frombuffer(text, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(letters)).tobytes()


def tree_from_first(tree: PyTree) -> PyTree:
    """Return the arrays of the first process in every process."""
    if not several():
        return tree
    return multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, on_one_device(tree)))


def check_same(number: int, what: str) -> None:
    """Refuse processes that would train on something else than the first one.

    Args:
        number: a checksum.
        what: of what, in words.

    Raises:
        ConfigError: in every process, if one of them differs.
    """
    if not several():
        return
    numbers = np.asarray(multihost_utils.process_allgather(np.uint32(number & 0xFFFFFFFF)))
    others = np.flatnonzero(numbers != numbers[0]).tolist()
    if others:
        raise ConfigError(f"process {others[0]} has another {what} than process 0; give all of them the same")


@contextmanager
def opened_by_first(block: Callable[[], AbstractContextManager[Any]], path: Callable[[Any], Path]) -> Iterator[Any]:
    """Enter a block in the first process; yield what it yields, and in other processes the path alone.

    Args:
        block: what the first process enters.
        path: of what the block yields.

    Raises:
        UserError: in every process, if the first one cannot enter.
    """
    if not several():
        with block() as entered:
            yield entered
        return
    held: list[AbstractContextManager[Any]] = []

    def enter() -> str:
        held.append(block())
        held.append(held[0].__enter__())
        return str(path(held[1]))

    place = Path(from_first(enter))
    try:
        yield held[1] if held else place
    finally:
        if held:
            held[0].__exit__(*sys.exc_info())


def noted_by_jax() -> tuple[int, ...]:
    """Return the signals that JAX notes itself, where several processes must agree when to stop."""
    return (signal.SIGTERM,) if several() else ()


def stopping(signum: int | None, step: int) -> bool:
    """Return whether all processes stop after this step, as one of them got a signal: the same answer in each.

    JAX notes SIGTERM and agrees on the step; another signal is turned into that one.
    """
    if signum not in (None, signal.SIGTERM):
        os.kill(os.getpid(), signal.SIGTERM)
    return bool(multihost_utils.reached_preemption_sync_point(step))


def is_loss(error: BaseException) -> bool:
    """Return whether an error says that another process is lost."""
    return several() and isinstance(error, RuntimeError | ValueError) and SIGNS.search(str(error)) is not None


def reason_of_loss(error: BaseException) -> str:
    """Return the words of such an error that tell the reason."""
    text = " ".join(str(error).split())
    match = SIGNS.search(text)
    return text[match.start() if match else 0 :][:120]


def leave(code: int) -> int:
    """End this process, with the others if all is well; else at once, as waiting for a lost process takes minutes."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    if code != 0:
        os._exit(code)
    jax.distributed.shutdown()
    return code
