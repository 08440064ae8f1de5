"""What an origin of a forecast needs: a target in its context, and what is known of its horizon."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lstmjax.forecast.calendar import shown_time
from lstmjax.forecast.design import Design
from lstmjax.forecast.series import SeriesError, SeriesSet
from lstmjax.forecast.windows import Table, check_series, pieces_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def without_context(series: SeriesSet, origins: np.ndarray, context: int) -> np.ndarray:
    """Return which origins `[R, S]` have no target in the `context` steps before them, bool."""
    missing, done = [], 0
    for block in series.blocks():
        known = np.concatenate([[0], np.cumsum(~np.isnan(block.target))])
        at = block.starts[:-1] + origins[:, done : done + len(block)]
        missing.append(known[at] == known[np.maximum(at - context, block.starts[:-1])])
        done += len(block)
    return np.concatenate(missing, 1)


def warn_of_left_out(
    left_out: np.ndarray, series: SeriesSet, origins: np.ndarray, context: int, *, stacklevel: int = 3
) -> None:
    """Warn of origins that are left out; refuse if none is left."""
    if not left_out.any():
        return
    row, s = np.argwhere(left_out)[0]
    origin = int(origins[row, s])
    when = f"step {origin}" if series.times is None else shown_time(series.times[series.starts[s] + origin])
    words = (
        f"{left_out.sum()} of {left_out.size} forecasts of the backtest, of {left_out.any(0).sum()} series, have no "
        f"target in the {context} steps before their origin, such as that of {series.names[s]!r} from {when} on; "
    )
    if left_out.all():
        raise SeriesError(words + "nothing is left to measure. Take another origin, or a longer context.")
    warnings.warn(words + "they are left out of the measures, and so are their baselines.", stacklevel=stacklevel)


def references(series: SeriesSet, which: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """Return the last target before each origin, float64 `[S]`; an origin whose context has none is refused before."""
    return series.target[latest_known(series, which, origins)]


def latest_known(series: SeriesSet, which: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """Return the row of the last target before each origin, int64 like them; -1 where there is none."""
    first = series.starts[which]
    return known_row(series.target, first + origins - 1, -1, first, series.starts[-1] - 1)


def known_row(target: np.ndarray, rows: np.ndarray, step: int, first: np.ndarray, last: ArrayLike) -> np.ndarray:
    """Return for each row the first of rows, rows + step, … that has a target, from `first` to `last`; -1: none has."""
    rows, first, last = (np.array(values) for values in np.broadcast_arrays(rows, first, last))
    rows[(rows < first) | (rows > last)] = -1
    while True:
        missing = rows >= 0
        missing[missing] = np.isnan(target[rows[missing]])
        if not missing.any():
            return rows
        moved = rows[missing] + step
        rows[missing] = np.where((moved < first[missing]) | (moved > last[missing]), -1, moved)


def check_future(series: SeriesSet, which: np.ndarray, origins: np.ndarray, design: Design) -> None:
    """Refuse origins without targets before them, and missing known covariates in the horizon."""
    # each series has its own message; a look at all of them together says whether there is one
    size = series.starts[which + 1] - series.starts[which]
    fits = (origins >= 1) & (origins <= size - design.horizon)
    if fits.all():
        begin = series.starts[which] + origins
        fits = latest_known(series, which, origins) >= np.maximum(begin - design.context, series.starts[which])
        if series.known.shape[1]:
            rows = begin[:, None] + np.arange(design.horizon)
            fits &= ~np.isnan(series.known[rows]).any((1, 2))
    for s, origin in zip(which[~fits], origins[~fits], strict=True):
        if not 1 <= origin <= series.starts[s + 1] - series.starts[s] - design.horizon:
            raise SeriesError(
                f"origins has {origin} for series {series.names[s]!r}, expected 1 to "
                f"{series.starts[s + 1] - series.starts[s] - design.horizon}: a target before it, and its horizon of "
                f"{design.horizon} steps within the rows of the series."
            )
        begin = series.starts[s] + origin
        context = series.target[max(begin - design.context, series.starts[s]) : begin]
        if np.isnan(context).all():
            raise SeriesError(
                f"series {series.names[s]!r} has no target in the {len(context)} steps before step {origin}, the "
                "origin, so that nothing says how large its targets are. Leave it out with SeriesSet.subset, or "
                f"forecast from another origin (origins=); the network reads a context of {design.context} steps."
            )
        horizon = series.known[begin : begin + design.horizon]
        if np.isnan(horizon).any():
            step, column = np.argwhere(np.isnan(horizon))[0]
            raise SeriesError(
                f"series {series.names[s]!r} has no {series.known_names[column]!r} {step + 1} steps ahead of the "
                f"origin, but the network needs it for {design.horizon} steps. Add rows with known covariates behind "
                "the last target, or make it a past covariate."
            )


def only_read(series: SeriesSet, which: np.ndarray, origins: np.ndarray, design: Design) -> SeriesSet:
    """Return the series with NaN in the place of what no forecast from these origins reads.

    That is what came, and what lies before the windows: whatever stands there is neither checked nor computed with.
    Known covariates of the horizons are read.

    Args:
        series: with the rows of the horizons.
        which, origins: whole numbers `[N]`.
        design: of the forecaster.
    """
    rows = series.starts[which] + origins
    first = np.maximum(rows - design.reach - design.context, series.starts[which])

    def hidden(values: np.ndarray, stop: np.ndarray) -> np.ndarray:
        windows = np.zeros(len(values) + 1, np.int64)
        np.add.at(windows, first, 1)
        np.add.at(windows, stop, -1)
        read = np.cumsum(windows[:-1]) > 0
        return np.where(read if values.ndim == 1 else read[:, None], values, np.nan)

    return replace(
        series,
        target=hidden(series.target, rows),
        past=hidden(series.past, rows),
        known=hidden(series.known, rows + design.horizon),
    )


def checked_pieces(
    series: SeriesSet, which: np.ndarray, origins: np.ndarray, design: Design
) -> tuple[Table, np.ndarray]:
    """Gather the rows of B windows, as `pieces_of` does, and check them; other rows of the series are not read.

    Args:
        series: mapped from a folder.
        which, origins: whole numbers `[B]`.
        design: of the forecaster.

    Raises:
        SeriesError: what `check_future` and `check_series` refuse.
    """
    first, stop = series.starts[which], series.starts[which + 1]
    begin = np.clip(first + origins - design.reach - design.context, first, stop)
    near = series.subset(which, begin, np.clip(first + origins + design.horizon, begin, stop))
    near = near.extended(design.horizon)
    numbers, at = np.arange(len(which)), first + origins - begin
    try:
        check_future(near, numbers, at, design)
        near = only_read(near, numbers, at, design)
        check_series(near, design)
    except SeriesError:  # to be said of the complete series, whose steps have other numbers
        complete = series.subset(which).extended(design.horizon)
        check_future(complete, numbers, origins, design)
        check_series(only_read(complete, numbers, origins, design), design)
        raise
    return pieces_of(near, numbers, at, design)


def check_origins(series: SeriesSet, design: Design, origins: np.ndarray) -> None:
    """Refuse, before anything is fitted, what would end a backtest from origins `[R, S]`.

    Origins without a target in their context are passed over if there are others: a backtest leaves them out.

    Raises:
        SeriesError: targets that the design cannot scale or model, known covariates that are missing in a horizon, or
            no target in any context.
    """
    check_series(series, design)
    left_out = without_context(series, origins, design.context)
    if left_out.all():
        warn_of_left_out(left_out, series, origins, design.context)
    for row, out in zip(origins, left_out, strict=True):
        (which,) = np.nonzero(~out)
        check_future(series, which, row[which], design)
