"""Windows of series, cut on the device as they are needed: no copies of the data."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.arguments import one_of
from lstmjax.forecast.design import Design
from lstmjax.forecast.likelihoods import SMALLEST
from lstmjax.forecast.series import SeriesError, SeriesSet
from lstmjax.types import Array

SMALLEST_CHANGE = 1e-3
"""Of a constant series, in units of the scale, so that its logarithm is finite."""
LOG_USUAL = -2.0
"""log of a usual change from step to step, in units of the scale: in the middle of monthly and quarterly series."""


class Table(NamedTuple):
    """A `SeriesSet` on the device, in float32; missing values are NaN."""

    target: Array  # [N]
    past: Array  # [N, P]
    known: Array  # [N, K]
    numbers: Array  # [S, A]
    categories: Array  # int32 [S, C]
    starts: Array  # int32 [S + 1]
    rest: Array | None = None  # [N], what float32 lacks of the targets; None: not needed


class Window(NamedTuple):
    """Parts of B series around their origins; reach, C and H steps of each.

    Targets are transformed and scaled; what is missing, or lies before the beginning of a series, is 0.
    """

    target: Array  # [B, reach + C + H]
    observed: Array  # bool, the same: there is a target
    past: Array  # [B, reach + C, P]; what is known of the future only has no rows for the horizon
    past_observed: Array  # bool, the same
    known: Array  # [B, reach + C + H, K]
    known_observed: Array  # bool, the same
    inside: Array  # bool [B, reach + C + H]: a row of the series
    numbers: Array  # [B, A]
    categories: Array  # int32 [B, C]
    reference: Array  # [B], the last target of the context, if targets are differences from it; 0 if not
    location: Array  # [B], less the reference
    scale: Array  # [B]
    pattern: Array  # [B, reach + C + H], of a season, in units of the scale; 0 without seasonal adjustment
    raw: Array  # [B, H] targets of the horizon as they are, NaN where missing
    volatility: Array  # [B, 2] of the last season and of the context, or [B, 0]


def on_device(series: SeriesSet, design: Design) -> Table:
    """Return the arrays of a set of series; refuse targets that the design cannot scale or model."""
    check_targets(series, design)
    table = table_of(series)
    return table._replace(rest=jnp.asarray(_rest(series.target))) if design.scale.differences else table


def pieces_of(series: SeriesSet, which: np.ndarray, origins: np.ndarray, design: Design) -> tuple[Table, np.ndarray]:
    """Gather the rows of B windows from series that stay on the host, so that `cut` makes the same windows of them.

    Targets are not checked; see `check_series`.

    Args:
        series: in the memory or mapped.
        which, origins: whole numbers `[B]`, as for `cut`.
        design: of the forecaster.

    Returns:
        A table in which each window is a series, with as many rows for each set of B windows, and the origins
        `[B]` within these.
    """
    before = design.reach + design.context
    first, stop = series.starts[which], series.starts[which + 1]
    begin = np.maximum(first + origins - before, first)
    sizes = np.minimum(first + origins + design.horizon, stop) - begin
    starts = np.concatenate([[0], np.cumsum(sizes)])
    rows = np.repeat(begin - starts[:-1], sizes) + np.arange(starts[-1])
    padding = len(which) * (before + design.horizon) - len(rows)  # one size, so that one program serves all

    def gathered(values: np.ndarray) -> np.ndarray:
        return np.pad(values[rows], [(0, padding), *[(0, 0)] * (values.ndim - 1)])

    target = gathered(series.target)
    table = _table(
        target, gathered(series.past), gathered(series.known), series.numbers[which], series.categories[which], starts
    )
    if design.scale.differences:
        table = table._replace(rest=jnp.asarray(_rest(target)))
    return table, (first + origins - begin).astype(np.int32)


def _rest(target: np.ndarray) -> np.ndarray:
    """Return what float32 lacks of targets."""
    return (target - target.astype(np.float32).astype(np.float64)).astype(np.float32)


def check_series(series: SeriesSet, design: Design) -> None:
    """Refuse targets that the design cannot scale or model, and numbers that float32 cannot hold."""
    for block in series.blocks():
        check_targets(block, design)
        check_sizes(block)


def check_sizes(series: SeriesSet) -> None:
    """Refuse numbers that float32 cannot hold, which would become infinite or zero."""
    for what, values in (
        ("targets", series.target),
        ("past covariates", series.past),
        ("known covariates", series.known),
        ("static numbers", series.numbers),
    ):
        check_within_float32(values, what)


def check_within_float32(values: np.ndarray, what: str = "targets") -> None:
    """Refuse numbers that float32 cannot hold; `what` they are is for the message."""
    limits = np.finfo(np.float32)
    size = np.abs(values)
    outside = (size > limits.max) | ((size > 0) & (size < limits.tiny))
    if outside.any():
        raise SeriesError(
            f"the {what} have {values[outside][0]:g}, but float32 holds sizes of {limits.tiny:.2g} to "
            f"{limits.max:.2g}. Pass them in another unit."
        )


def table_of(series: SeriesSet) -> Table:
    """Return the arrays of a set of series on the device, whatever is made of them."""
    if len(series.target) >= 2**31:
        raise SeriesError(
            f"the series have {len(series.target)} steps in all, more than 2147483647; pass fewer series."
        )
    check_sizes(series)
    return _table(series.target, series.past, series.known, series.numbers, series.categories, series.starts)


def _table(
    target: np.ndarray, past: np.ndarray, known: np.ndarray, numbers: np.ndarray, categories: np.ndarray,
    starts: np.ndarray,
) -> Table:  # fmt: skip
    floats = (a.astype(np.float32) for a in (target, past, known, numbers))
    whole = (a.astype(np.int32) for a in (categories, starts))
    return Table(*jax.device_put((*floats, *whole)))  # one call for all of them takes half the time


def check_targets(series: SeriesSet, design: Design) -> None:
    """Refuse targets outside of what the scaling and the likelihood are defined for."""
    target, smallest = series.target, design.scale.smallest
    support = design.head.support
    # a scaled count is not whole; the negative binomial only needs y >= 0, but for other numbers it is no likelihood
    rules = (
        (f"scaling {design.scaling!r} is for targets above {smallest:g}", target <= smallest, "Pass scaling='mean'."),
        (
            f"likelihood {design.likelihood!r} is for targets above 0",
            (target <= 0) & (support == "positive"),
            "Pass likelihood='student_t' or, for counts, 'negative_binomial'.",
        ),
        (
            f"likelihood {design.likelihood!r} is for counts: 0, 1, 2, …",
            ((target < 0) | (target != np.round(target))) & ~np.isnan(target) & (support == "count"),
            "Pass likelihood='student_t'.",
        ),
    )
    for rule, bad, remedy in rules:
        if bad.any():
            row = int(np.argmax(bad))
            s = int(np.searchsorted(series.starts, row, "right")) - 1
            raise SeriesError(
                f"series {series.names[s]!r} has the target {target[row]:g} at step {row - series.starts[s]}, but "
                f"{rule}. {remedy}"
            )


def coarse(series: SeriesSet, design: Design) -> str | None:
    """Return a warning if the scaling of a design is too coarse for some series; None if for none.

    The scale of a distribution is bounded below by `SMALLEST` in units of the scaling. A series that varies less, such
    as one of level 10⁹ and deviation 1 where targets are scaled by their mean, would get intervals as wide as that.
    """
    if design.scale.unit is None or design.head.support == "count":
        return None
    found = []
    for s in range(len(series)):
        y = series.history(s)[-design.context :]
        y = y[~np.isnan(y)]
        if len(y) < 2:
            continue
        deviation, unit = float(np.std(y - y[0])), design.scale.unit(y)
        if 0 < deviation < SMALLEST * unit:
            found.append((series.names[s], deviation, unit))
    if not found:
        return None
    name, deviation, unit = found[0]
    remedy = "Bring the targets to another unit, or subtract their level."
    if design.head.support == "real":
        remedy = "Pass scaling='standard', which is computed in float64."
    return (
        f"scaling {design.scaling!r} is too coarse for {len(found)} of {len(series)} series, such as {name!r}, whose "
        f"deviation is {deviation:.3g} where the smallest that can be forecast is {SMALLEST * unit:.3g}: their "
        f"forecasts will be too coarse, and intervals too wide. {remedy}"
    )


def cut(table: Table, which: Array, origins: Array, design: Design) -> Window:
    """Cut a window out of each of B series.

    Args:
        table: the series.
        which: int32 `[B]`, their numbers.
        origins: int32 `[B]`, the first step to forecast, counted from the beginning of each series.
        design: of the forecaster.
    """
    before = design.reach + design.context
    steps = jnp.arange(-before, design.horizon)[None]
    first, stop = table.starts[which], table.starts[which + 1]
    rows = (first + origins)[:, None] + steps
    inside = (rows >= first[:, None]) & (rows < stop[:, None])
    rows = jnp.where(inside, rows, 0)
    raw = jnp.where(inside, table.target[rows], jnp.nan)
    observed = ~jnp.isnan(raw)
    in_context = observed & (steps >= -design.context) & (steps < 0)
    reference, targets = jnp.zeros_like(raw[:, 0]), raw
    if design.scale.differences:
        assert table.rest is not None
        reference = latest(raw, in_context)
        rest = table.rest[rows]
        # the difference of two floats that are near each other is exact, so that the first part loses nothing
        targets = (raw - reference[:, None]) + (rest - latest(rest, in_context)[:, None])
    # the double where keeps the gradient and the transform away from NaN and from 0 outside of its domain
    values = design.scale.transform(jnp.where(observed, targets, 1.0))
    location, scale = design.scale.statistics(values, in_context, jnp.abs(reference))
    scaled = jnp.where(observed, (values - location[:, None]) / scale[:, None], 0.0)
    pattern = jnp.zeros_like(scaled)
    if design.seasonal_adjustment:
        one_season = seasonal_pattern(scaled[:, :before], observed[:, :before], design.season)
        pattern = one_season[:, (jnp.arange(-before, design.horizon) % design.season)]
    target = jnp.where(observed, scaled - pattern, 0.0)
    past, past_observed = _filled(table.past[rows[:, :before]], inside[:, :before])
    known, known_observed = _filled(table.known[rows], inside)
    return Window(
        target,
        observed,
        past,
        past_observed,
        known,
        known_observed,
        inside,
        table.numbers[which],
        table.categories[which],
        reference,
        location,
        scale,
        pattern,
        raw[:, before:],
        volatility_of(target[:, :before], observed[:, :before], design),
    )


def volatility_of(target: Array, observed: Array, design: Design) -> Array:
    """Return how much the targets before an origin change from step to step, `[B, 2]`; `[B, 0]` by other designs.

    This is the log of the root mean square of the changes, in units of the scale, over the last season (a quarter of
    the context where there is none) and over the context, less `LOG_USUAL`; 0 where no change is known.

    Args:
        target: scaled, without the seasonal pattern, `[B, T]`.
        observed: bool `[B, T]`.
        design: of the forecaster.
    """
    if not design.volatility:
        return target[:, :0]
    change = target[:, 1:] - target[:, :-1]
    known = observed[:, 1:] & observed[:, :-1]
    recent = design.season if design.season > 1 else -(-design.context // 4)
    logs = []
    for steps in (recent, design.context):
        count = jnp.sum(known[:, -steps:], -1)
        power = jnp.sum(jnp.where(known, change**2, 0.0)[:, -steps:], -1) / jnp.maximum(count, 1).astype(target.dtype)
        logs.append(jnp.where(count > 0, 0.5 * jnp.log(power + SMALLEST_CHANGE**2) - LOG_USUAL, 0.0))
    return jnp.stack(logs, -1)


def seasonal_pattern(values: Array, observed: Array, season: int) -> Array:
    """Return the seasonal pattern of what lies before an origin, by classical decomposition, with mean 0.

    The deviations from the centred moving average of a season are averaged over the seasons, and shrunk towards 0 by
    how much they differ between them: what repeats itself badly is no pattern (James & Stein 1961, positive part).

    Args:
        values: `[B, T]`, 0 where nothing is observed.
        observed: bool `[B, T]`.
        season: m.

    Returns:
        `[B, m]`, for the origin and the m − 1 steps behind it.
    """
    steps = values.shape[1]
    half = season // 2
    weights = jnp.ones(2 * half + 1, values.dtype)
    if season % 2 == 0:
        weights = weights.at[jnp.asarray([0, -1])].set(0.5)
    near = np.arange(steps - 2 * half)[:, None] + np.arange(2 * half + 1)  # [T − 2 half, 2 half + 1]
    level = values[:, near] @ weights / season
    known = jnp.all(observed[:, near], -1)
    deviation = jnp.where(known, values[:, half : steps - half] - level, 0.0)
    # phase 0 is that of the origin, which is step T
    phases = jnp.asarray(np.eye(season)[(np.arange(half, steps - half) - steps) % season], values.dtype)  # [., m]
    count = known.astype(values.dtype) @ phases
    mean = deviation @ phases / jnp.maximum(count, 1.0)
    rest = jnp.where(known, deviation - mean @ phases.T, 0.0)
    total = jnp.sum(count, -1)
    noise = jnp.sum(rest**2, -1) / jnp.maximum(total - season, 1.0)
    power = jnp.mean(mean**2, -1)
    shrink = jnp.maximum(1.0 - noise / jnp.maximum(total / season, 1.0) / jnp.maximum(power, 1e-12), 0.0)
    shrink = jnp.where(total > season, shrink, 0.0)  # one season cannot show that it repeats itself
    return shrink[:, None] * (mean - jnp.mean(mean, -1, keepdims=True))


def latest(values: Array, observed: Array) -> Array:
    """Return the last observed value of `[B, T]`; 0 where there is none."""
    steps = jnp.arange(values.shape[1])
    at = jnp.max(jnp.where(observed, steps[None], 0), 1)
    return jnp.where(jnp.any(observed, 1), jnp.take_along_axis(values, at[:, None], 1)[:, 0], 0.0)


def _filled(values: Array, inside: Array) -> tuple[Array, Array]:
    observed = inside[..., None] & ~jnp.isnan(values)
    return jnp.where(observed, values, 0.0), observed


class Origins(NamedTuple):
    """Windows that may be drawn: for each series the first and the last origin, and how often it is drawn."""

    first: Array  # int32 [S]
    last: Array  # int32 [S], included
    log_weight: Array  # [S]


def _by_size(series: SeriesSet, windows: np.ndarray) -> np.ndarray:
    sizes = np.asarray([np.nanmean(np.abs(series.history(s))) if n else 0 for s, n in enumerate(series.lengths)])
    if not np.nansum(sizes):
        return windows
    # a series of zeros is drawn, too, if rarely
    return windows * np.maximum(np.nan_to_num(sizes), 1e-3 * np.nanmax(sizes))


WEIGHTS: MappingProxyType[str, Callable[[SeriesSet, np.ndarray], np.ndarray]] = MappingProxyType(
    {
        "windows": lambda series, windows: windows.astype(np.float64),
        "series": lambda series, windows: np.ones(len(series)),
        "size": _by_size,
    }
)
"""(series, windows of each) -> how often each series is drawn: every window alike; every series alike; windows by the
mean size of their series, as large ones are few (Salinas et al. 2020, section 3.3)."""


def check_weights(weights: str) -> None:
    """Refuse a name that is not in `WEIGHTS`."""
    one_of("weights", weights, tuple(WEIGHTS))


def training_origins(series: SeriesSet, design: Design, weights: str = "windows") -> Origins:
    """Return the origins to train on: all whose horizon has at least one target, after at least one season.

    Args:
        series: the training part.
        design: of the forecaster.
        weights: a name in `WEIGHTS`.
    """
    check_weights(weights)
    lengths = series.lengths
    first = np.minimum(design.season + 1, lengths - 1)
    last = np.maximum(lengths - (design.horizon if design.form == "handoff" else 1), first)
    usable = np.asarray([np.count_nonzero(~np.isnan(series.history(s))) for s in range(len(series))]) >= 2
    if not usable.any():
        raise SeriesError("no series has two targets or more, so that there is nothing to learn from.")
    weight = np.where(usable, WEIGHTS[weights](series, last - first + 1), 0.0)
    with np.errstate(divide="ignore"):
        log_weight = np.log(weight) - np.log(weight.max())
    return Origins(jnp.asarray(first, jnp.int32), jnp.asarray(last, jnp.int32), jnp.asarray(log_weight, jnp.float32))


def draw(key: Array, origins: Origins, batch_size: int) -> tuple[Array, Array]:
    """Draw the series and the origin of each of B windows, int32 `[B]` both."""
    series_key, origin_key = jax.random.split(key)
    which = jax.random.categorical(series_key, origins.log_weight, shape=(batch_size,)).astype(jnp.int32)
    return which, jax.random.randint(origin_key, (batch_size,), origins.first[which], origins.last[which] + 1)
