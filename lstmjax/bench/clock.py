"""The timing of calls: warmed up, taking turns, in another order each round."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

SAMPLE = 2e-3  # seconds: a shorter call is repeated for each number
SHORT = 2e-2  # seconds: before a shorter call, untimed ones run
SETTLE = 1e-2  # seconds of them
NAP = 1e-2  # seconds: a system counts what a thread computes at its ticks, up to 4 ms apart
AWAKE = 1e-3  # seconds of a nap for which a thread computed
PATIENCE = 0.2  # seconds
LEAST, MOST = 5, 200  # rounds


def take_turns(
    calls: Mapping[str, Callable[[], Any]], *, seconds: float = 5.0, rounds: int | None = None, seed: int = 0
) -> dict[str, np.ndarray]:
    """Time each call in each round.

    Args:
        calls: by name; each returns when its result is computed.
        seconds: about how long all rounds take; at least 5 rounds and at most 200.
        rounds: an exact number instead.
        seed: of the order, which is drawn again for each round.

    Returns:
        Seconds `[rounds]` by name; the n-th numbers of all names belong to the same round.
    """
    if not calls:
        return {}
    estimates, pauses = {}, 0.0
    for name, call in calls.items():
        estimates[name] = _warm(call)
        pauses += _rest()
    repeats = {name: max(1, math.ceil(SAMPLE / max(estimate, 1e-9))) for name, estimate in estimates.items()}
    untimed = sum(max(estimate, SETTLE) for estimate in estimates.values() if estimate < SHORT)
    cost = pauses + untimed + sum(estimate * repeats[name] for name, estimate in estimates.items())
    count = min(MOST, max(LEAST, round(seconds / cost))) if rounds is None else rounds
    order, shuffle = list(calls), random.Random(seed).shuffle
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(count):
        shuffle(order)
        for name in order:
            _rest()
            if estimates[name] < SHORT:
                _settle(calls[name])
            times[name].append(_elapsed(calls[name], repeats[name]))
    return {name: np.array(values) for name, values in times.items()}


def _warm(call: Callable[[], Any]) -> float:
    """Run a call, which may compile it, and return about how long it takes after that."""
    call()
    return _elapsed(call, 1)


def _rest() -> float:
    """Wait until no thread of this process computes, and return how long that took.

    After a call the threads of PyTorch spin for 9 ms and those of ONNX Runtime for 40, in case another comes, and
    whoever is timed meanwhile has a processor less.
    """
    start = time.perf_counter()
    while time.perf_counter() - start < PATIENCE:
        before = time.process_time()
        time.sleep(NAP)
        if time.process_time() - before < AWAKE:
            break
    return time.perf_counter() - start


def _settle(call: Callable[[], Any]) -> None:
    end = time.perf_counter() + SETTLE
    while time.perf_counter() < end:
        call()


def _elapsed(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
