"""The timing of calls: warmed up, taking turns, in another order each round."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

SAMPLE = 2e-2  # seconds: a shorter call is repeated for each number
SETTLE = 6e-2  # seconds of calls before each number, untimed, one at least
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
    estimates = {name: _warm(call) for name, call in calls.items()}
    repeats = {name: max(1, math.ceil(SAMPLE / max(estimate, 1e-9))) for name, estimate in estimates.items()}
    untimed = sum(max(estimate, SETTLE) for estimate in estimates.values())
    cost = untimed + sum(estimate * repeats[name] for name, estimate in estimates.items())
    count = min(MOST, max(LEAST, round(seconds / cost))) if rounds is None else rounds
    order, shuffle = list(calls), random.Random(seed).shuffle
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(count):
        shuffle(order)
        for name in order:
            _settle(calls[name])
            times[name].append(_elapsed(calls[name], repeats[name]))
    return {name: np.array(values) for name, values in times.items()}


def _warm(call: Callable[[], Any]) -> float:
    """Run a call, which may compile it, and return about how long it takes after that."""
    call()
    return _elapsed(call, 1)


def _settle(call: Callable[[], Any]) -> None:
    """Run what is timed next as it runs in a loop of its own.

    After a call of others, their threads still spin, for 9 ms those of PyTorch and for 40 those of ONNX Runtime, and
    memory is where they left it.
    """
    end = time.perf_counter() + SETTLE
    call()
    while time.perf_counter() < end:
        call()


def _elapsed(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
