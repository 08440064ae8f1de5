"""How calls are timed: all of them warmed up, taking turns, in another order each round."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

SAMPLE = 2e-3  # seconds: what is shorter is called several times for one number
SHORT = 2e-2  # seconds: below that a turn begins with a call that is not timed, since threads of the one before linger
LONG = 0.2  # seconds
LEAST, MOST = 5, 200  # rounds


def take_turns(
    calls: Mapping[str, Callable[[], Any]], *, seconds: float = 5.0, rounds: int | None = None, seed: int = 0
) -> dict[str, np.ndarray]:
    """Gives the seconds of each call in each round.

    Args:
        calls: by name; each comes back when all is computed.
        seconds: about how long all rounds take; at least 5 rounds and at most 200.
        rounds: exactly so many instead.
        seed: of the order, which is drawn anew for each round.

    Returns:
        An array `[rounds]` for each name: the numbers of one place belong to one round.
    """
    if not calls:
        return {}
    once = {name: _warm(call) for name, call in calls.items()}
    repeats = {name: max(1, math.ceil(SAMPLE / max(taken, 1e-9))) for name, taken in once.items()}
    cost = sum(taken * (repeats[name] + (taken < SHORT)) for name, taken in once.items())
    count = min(MOST, max(LEAST, round(seconds / cost))) if rounds is None else rounds
    order, shuffle = list(calls), random.Random(seed).shuffle
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(count):
        shuffle(order)
        for name in order:
            if once[name] < SHORT:
                calls[name]()
            found[name].append(_elapsed(calls[name], repeats[name]))
    return {name: np.array(values) for name, values in found.items()}


def _warm(call: Callable[[], Any]) -> float:
    """Gives about how long a call takes that has run before; a long one is not run again to know."""
    first = _elapsed(call, 1)
    return first if first > LONG else _elapsed(call, 1)


def _elapsed(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
