"""The machine of a measurement: device, versions, threads, memory, and the speed of its matrix products."""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lstmjax.backends import native_library
from lstmjax.frameworks.base.running import cpus

DISTRIBUTIONS = (
    "lstmjax", "jax", "jaxlib", "numpy", "flax", "dm-haiku", "equinox", "keras", "torch", "onnxruntime",
)  # fmt: skip
PROBED = {"cpu": 2048, "gpu": 8192, "tpu": 8192}
TRIES = 9


@dataclass(frozen=True)
class Machine:
    """The facts without which times mean nothing."""

    date: str
    platform: str  # "cpu", "gpu" or "tpu"
    device: str
    cpu: str
    cpus: int  # threads of XLA, PyTorch and ONNX Runtime alike
    python: str
    versions: Mapping[str, str]
    environment: Mapping[str, str]  # variables that change speed, those that are set
    load: float | None  # mean number of processes ready to run in the minute before
    peak: float  # GFLOP/s of the machine's matrix products in this dtype, measured in this run
    kernel: str = ""  # which native kernel there is, or why there is none, in words; "": not on record

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        settings = ", ".join(f"{name}={value}" for name, value in self.environment.items()) or "none"
        where = self.cpu if self.platform == "cpu" else f"{self.device}, {self.cpu}"
        lines = (
            f"{where}; {self.cpus} threads for XLA, PyTorch and ONNX Runtime alike",
            f"Python {self.python}, {versions}",
            f"environment: {settings}; load before: {self.load}; {self.date}",
            f"matrix products: {self.peak:.0f} GFLOP/s (the best of {TRIES} products of square matrices)",
            *([self.kernel] if self.kernel else []),
        )
        return "\n".join(lines)


def look(dtype: str) -> Machine:
    """Return the facts of this machine; the peak is measured in this dtype."""
    versions = {}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    variables = ("XLA_FLAGS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "XLA_PYTHON_CLIENT_PREALLOCATE")
    return Machine(
        date=datetime.now(UTC).isoformat(timespec="minutes"),
        platform=jax.default_backend(),
        device=jax.devices()[0].device_kind,
        cpu=_cpu(),
        cpus=cpus(),
        python=platform.python_version(),
        versions=versions,
        environment={name: os.environ[name] for name in variables if name in os.environ},
        load=round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        peak=peak(dtype, PROBED[jax.default_backend()]),
        kernel=_kernel(),
    )


@functools.cache
def peak(dtype: str, size: int) -> float:
    """Return the GFLOP/s of the quickest of a few products of square matrices of this size, measured once a process."""
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    multiply = jax.jit(lambda a: jax.numpy.matmul(a, a, precision="highest"))
    jax.block_until_ready(multiply(a))
    seconds = []
    for _ in range(TRIES):
        start = time.perf_counter()
        jax.block_until_ready(multiply(a))
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / float(np.min(seconds)) / 1e9


def resident(call: Callable[[], Any]) -> tuple[Any, int | None]:
    """Return the result of a call, and the bytes by which this process grew at most meanwhile; None if unknown.

    Memory that an allocator still holds from before does not count, so that it is a lower bound.
    """
    before = _status("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the highest value
    except OSError:
        before = None
    result = call()
    highest = _status("VmHWM")
    return result, None if before is None or highest is None else max(0, highest - before)


def _kernel() -> str:
    library = native_library.load()
    return library.reason or f"native kernel for {library.instruction_set}"


def _status(name: str) -> int | None:
    """Return an entry of /proc/self/status, in bytes; None if there is none."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
