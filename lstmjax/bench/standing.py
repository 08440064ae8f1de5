"""Who is ahead: ratios within the rounds, compared with the noise of one program timed twice. Pure NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lstmjax.bench.results import Comparison, Row
from lstmjax.frameworks.base.timing import JAX_PEER

TOLERATED = 0.05
"""By what share of its time a competitor may be slower without a loss."""

LOUD = 0.1
"""The noise above which there is no verdict."""


class Ratio(NamedTuple):
    """The time of another competitor over ours: above 1 we are ahead."""

    name: str  # the other
    median: float  # of the ratios within each round, so that a machine of two speeds does not matter
    low: float  # their quartiles
    high: float
    of_medians: float  # the ratio of the two medians over all rounds


class Standing(NamedTuple):
    """A backend of lstmjax against the best peer on JAX at one point."""

    name: str
    best: Ratio | None  # None: there is nobody to compare with
    noise: float
    """NaN if it is not known."""

    @property
    def noisy(self) -> bool:
        """Whether one program differs so much from itself that nothing can be said."""
        return self.noise > LOUD

    @property
    def loss(self) -> bool:
        """Whether it is slower than the best peer by more than 5% and more than the noise, which is not too large."""
        if self.best is None or self.noisy:
            return False
        return 1 / self.best.median > 1 + max(TOLERATED, self.noise)


def ratio(other: Row, ours: Row) -> Ratio:
    """Return the time of another competitor as a multiple of ours."""
    a, b = np.array(other.seconds), np.array(ours.seconds)
    low, middle, high = np.quantile(a / b, (0.25, 0.5, 0.75)).tolist()
    return Ratio(other.name, middle, low, high, float(np.median(a) / np.median(b)))


def noise(comparison: Comparison) -> float:
    """Return by what share two copies of one program seem to differ: 0.04 is 4%; NaN if there are no two.

    The larger of the distance of their median ratio from 1, and of twice its standard error (1.25 standard deviations
    over √rounds, the deviation estimated from the quartiles), since two copies may agree by luck.
    """
    timed = comparison.timed()
    first = next((name for name in timed if f"{name} again" in timed), None)
    if first is None:
        return math.nan
    copies = ratio(timed[f"{first} again"], timed[first])
    deviation = (copies.high - copies.low) / 1.35
    return max(abs(copies.median - 1), 2 * 1.25 * deviation / len(timed[first].seconds) ** 0.5)


def noise_in_words(comparison: Comparison) -> str:
    """Return the noise as a text; a dash if nobody was timed twice."""
    value = noise(comparison)
    return "–" if math.isnan(value) else f"{value:.1%}"


def judge(comparison: Comparison, name: str) -> Standing | None:
    """Return the standing of a backend of lstmjax, or None if it was not timed."""
    timed = comparison.timed()
    if name not in timed:
        return None
    peers = [ratio(row, timed[name]) for row in timed.values() if row.kind == JAX_PEER]
    return Standing(name, min(peers, key=lambda peer: peer.median, default=None), noise(comparison))


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean of positive numbers; NaN of none.

    >>> geometric_mean([1.0, 4.0])
    2.0
    """
    logs = np.log(list(values))
    return float(np.exp(logs.mean())) if logs.size else float("nan")
