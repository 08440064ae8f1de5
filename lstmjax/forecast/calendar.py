"""Times of steps: their frequency, and calendar features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

COUNT = "1"
"""The unit of times that are whole numbers."""
BUSINESS_DAY = "B"
"""The unit of days from Monday to Friday."""


class Frequency(NamedTuple):
    """The distance between two steps: a number of calendar units."""

    every: int
    unit: str
    """A unit of `numpy.datetime64`, "Y", "M", "D", "h", "m" or "s"; COUNT or BUSINESS_DAY."""
    at_end: bool = False
    """Whether each month, quarter or year is dated by the last day of a month, which has no fixed number."""

    def __str__(self) -> str:
        """Return it in words: "month", "3 months", "10" for whole numbers."""
        if self.unit == COUNT:
            return "step" if self.every == 1 else f"{self.every}"
        word = WORDS[self.unit]
        return word if self.every == 1 else f"{self.every} {word}s"

    @property
    def season(self) -> int:
        """Steps in the season that this frequency usually has: a year of months or quarters, a week of days, a day."""
        return SEASONS.get((self.every, self.unit), 1)

    def after(self, time: Any, steps: int) -> np.ndarray:
        """Return the times of the next steps, `[steps]`; of a date, or of a whole number."""
        counts = self.every * np.arange(1, steps + 1)
        if self.unit == COUNT:
            return time + counts
        if self.unit == BUSINESS_DAY:
            day = time.astype("datetime64[D]")
            return (np.busday_offset(day, counts) + (time - day)).astype(time.dtype)
        if self.unit not in "YM":
            in_units = time.astype(f"datetime64[{self.unit}]")
            return (plus(in_units, counts) + (time - in_units)).astype(time.dtype)
        months = plus(time.astype("datetime64[M]"), counts * (12 if self.unit == "Y" else 1))
        last = _days_in(months) - 1
        # the 31st of a month with 30 days is its 30th, not the first day of the next month
        day = last if self.at_end else np.minimum(_day_within(time), last)
        return (plus(months.astype("datetime64[D]"), day) + (time - time.astype("datetime64[D]"))).astype(time.dtype)


WORDS = MappingProxyType(
    {
        "Y": "year",
        "M": "month",
        "D": "day",
        "h": "hour",
        "m": "minute",
        "s": "second",
        COUNT: "step",
        BUSINESS_DAY: "business day",
    }
)
SEASONS = MappingProxyType(
    {
        (1, "M"): 12,
        (3, "M"): 4,
        (1, "D"): 7,
        (1, BUSINESS_DAY): 5,
        (7, "D"): 52,
        (1, "h"): 24,
        (30, "m"): 48,
        (15, "m"): 96,
    }
)


def plus(times: np.ndarray | np.datetime64, counts: np.ndarray | int) -> np.ndarray:
    """Return times plus numbers of their unit, typed: NumPy 2.5 deprecates bare whole numbers beside dates."""
    return times + np.asarray(counts).astype(times.dtype.str.replace("M8", "m8"))


def frequency_of(times: np.ndarray) -> Frequency | None:
    """Return the frequency of increasing times `[T]`: the most usual distance; None if there is only one
    step, or if steps are shorter than a second.

    Months, quarters and years are recognised whether they are dated by their first day, their last or any other.
    """
    if len(times) < 2:
        return None
    months = np.diff(times.astype("datetime64[M]").astype(np.int64))
    days = np.diff(times.astype("datetime64[D]").astype(np.int64))
    if np.min(days) >= 28 and np.min(months) >= 1 and np.median(days) >= 28 and _dated_alike(times):
        count = _most_usual(months)
        at_end = bool(np.all(_day_within(times) == _days_in(times) - 1))
        every, unit = (count // 12, "Y") if count % 12 == 0 else (count, "M")
        return Frequency(every, unit, at_end)
    seconds = _most_usual(np.diff(times.astype("datetime64[s]").astype(np.int64)))
    if seconds == 0:
        return None
    for unit, size in (("D", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds % size == 0:
            return Frequency(seconds // size, unit)
    raise AssertionError("a second is a second")


def of_business_days(times: np.ndarray) -> bool:
    """Return whether times are of Mondays to Fridays, all at one time of the day, over more than two weeks."""
    days = times.astype("datetime64[D]")
    hours = times - days
    return bool(np.is_busday(days).all() and (hours == hours[0]).all() and np.ptp(days) > np.timedelta64(14, "D"))


def steps_between(times: np.ndarray, frequency: Frequency) -> np.ndarray:
    """Return how many steps lie between the first time and each, `[T]`; not whole where a time does not fit."""
    if frequency.unit == COUNT:
        return (times - times[0]) / frequency.every
    if frequency.unit == BUSINESS_DAY:
        days = times.astype("datetime64[D]")
        return np.busday_count(days[0], days).astype(np.float64)
    if frequency.unit in "YM":
        months = times.astype("datetime64[M]").astype(np.int64)
        return (months - months[0]) / (frequency.every * (12 if frequency.unit == "Y" else 1))
    seconds = times.astype("datetime64[s]").astype(np.int64)
    return (seconds - seconds[0]) / (frequency.every * {"D": 86400, "h": 3600, "m": 60, "s": 1}[frequency.unit])


def shown_time(time: np.datetime64 | np.integer) -> str:
    """Return a time without the parts that are zero: 2001-12-01, 2001-12-01T06:00; a number as it is.

    >>> shown_time(np.datetime64("2001-12-01T06:00:00"))
    '2001-12-01T06:00'
    """
    for unit in ("D", "m", "s"):
        if isinstance(time, np.datetime64) and time == time.astype(f"datetime64[{unit}]"):
            return str(time.astype(f"datetime64[{unit}]"))
    return str(time)


def _dated_alike(times: np.ndarray) -> bool:
    """Return whether all times have one day of the month, or its last one where a month is shorter."""
    within = _day_within(times)
    last = _days_in(times) - 1
    return bool(np.all(within == np.minimum(within.max(), last)) or np.all(within == last))


def _day_within(times: np.ndarray | np.datetime64) -> np.ndarray:
    """Return the day within its month of each time, from 0."""
    days = times.astype("datetime64[D]")
    return (days - days.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64)


def _days_in(times: np.ndarray) -> np.ndarray:
    """Return how many days the month of each time has."""
    months = times.astype("datetime64[M]")
    return (plus(months, 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)


def _most_usual(distances: np.ndarray) -> int:
    values, counts = np.unique(distances, return_counts=True)
    return int(values[np.argmax(counts)])


def _cycle(position: np.ndarray, period: float) -> np.ndarray:
    angle = 2 * np.pi * position / period
    return np.stack([np.sin(angle), np.cos(angle)], -1)


def _month(times: np.ndarray) -> np.ndarray:
    return _cycle(times.astype("datetime64[M]").astype(np.int64) % 12, 12)


def _day_of_year(times: np.ndarray) -> np.ndarray:
    days = times.astype("datetime64[D]")
    return _cycle((days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64), 365.2425)


def _day_of_week(times: np.ndarray) -> np.ndarray:
    return _cycle((times.astype("datetime64[D]").astype(np.int64) + 3) % 7, 7)  # 1970-01-01 was a Thursday; Monday is 0


def _hour(times: np.ndarray) -> np.ndarray:
    seconds = (times.astype("datetime64[s]") - times.astype("datetime64[D]")).astype(np.int64)
    return _cycle(seconds, 86400)


FEATURES: MappingProxyType[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {"month": _month, "day_of_year": _day_of_year, "day_of_week": _day_of_week, "hour": _hour}
)
"""Calendar features, each as a sine and a cosine, so that the end of a cycle is next to its beginning."""


def features_of(times: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return calendar features of times `[N]`: columns `[N, 2 · names]`, and what they are called."""
    unknown = [name for name in names if name not in FEATURES]
    if unknown:
        raise ValueError(f"calendar has {unknown[0]!r}, expected some of {', '.join(FEATURES)}.")
    columns = [FEATURES[name](times) for name in names]
    labels = tuple(f"{name}_{part}" for name in names for part in ("sin", "cos"))
    return np.concatenate(columns, 1) if columns else np.zeros((len(times), 0)), labels
