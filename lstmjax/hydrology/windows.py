"""Windows of days, by index: what may be drawn, and how one is cut on the device. The data are never copied."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from lstmjax.forecast.series import SeriesError, SeriesSet
from lstmjax.forecast.windows import Table
from lstmjax.hydrology.basins import Period, within
from lstmjax.hydrology.design import Design
from lstmjax.types import Array


class Window(NamedTuple):
    """The last `window` days up to a day, of B basins."""

    forcing: Array  # [B, window, F], as it is
    attributes: Array  # [B, A], as they are
    discharge: Array  # [B, predict], NaN where it is not known


def cut(table: Table, basin: Array, day: Array, design: Design) -> Window:
    """Cut B windows out of the arrays of all basins.

    Args:
        table: the basins on the device.
        basin: int32 `[B]`, their numbers.
        day: int32 `[B]`, the last day of each window, counted from the first of its basin.
        design: of the model. The windows must lie within their basins, as `windows_of` chooses them.
    """
    rows = (table.starts[basin] + day)[:, None] + jnp.arange(1 - design.window, 1)[None]
    return Window(table.known[rows], table.numbers[basin], table.target[rows[:, -design.predict :]])


def windows_of(basins: SeriesSet, design: Design, period: Period) -> dict[str, np.ndarray]:
    """Return the windows that can be learnt from: "basin" and "day" of each, int32.

    They end within the period. A window is left out if it would begin before its basin, if a forcing is missing in it,
    or if none of the discharges that it predicts is known.

    Raises:
        SeriesError: there is none.
    """
    complete = _running(np.isnan(basins.known).any(1), design.window) == 0
    to_learn = _running(~np.isnan(basins.target), design.predict) > 0
    basin = np.repeat(np.arange(len(basins)), np.diff(basins.starts))
    day = np.arange(len(basins.target)) - basins.starts[basin]
    usable = complete & to_learn & (day >= design.window - 1) & within(basins, period)
    if not usable.any():
        raise SeriesError(
            f"no window of {design.window} days without missing forcing ends with a known discharge. Shorten window, "
            "fill the forcing, or choose another period."
        )
    return {"basin": basin[usable].astype(np.int32), "day": day[usable].astype(np.int32)}


def _running(flags: np.ndarray, days: int) -> np.ndarray:
    """Return how many of the last `days` flags are True, at each row, `[N]`; rows before the first count as False."""
    total = np.concatenate([np.zeros(days, np.int64), np.cumsum(flags)])
    return total[days:] - total[:-days]
