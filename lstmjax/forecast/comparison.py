"""Forecasts beside what came: their measures, and those of baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lstmjax.arguments import check_positive, described
from lstmjax.forecast import metrics
from lstmjax.forecast.arguments import as_array, as_flag, check_is
from lstmjax.forecast.baselines import BASELINES, Baseline, at_origins, check_baselines
from lstmjax.forecast.series import SeriesSet

LEVELS = (0.1, 0.5, 0.9)
"""Quantiles whose pinball loss is measured; the outer two are an interval of 80%."""
BLOCK = 2**22
"""Samples that are summarised together."""


class Summary(NamedTuple):
    """What the measures need to know of samples; NaN where nothing is forecast."""

    median: np.ndarray
    """float64 `[R, S, H]`."""
    mean: np.ndarray
    """float64 `[R, S, H]`; the median where the distribution has no mean."""
    quantiles: np.ndarray
    """float64 `[R, S, H, 3]`, at `LEVELS`."""
    crps: np.ndarray
    """float64 `[R, S]`; NaN where the distribution has no mean."""

    @classmethod
    def empty(cls, target: np.ndarray) -> Summary:
        """Return one without forecasts of targets `[R, S, H]`."""
        sizes = target.shape, target.shape, (*target.shape, len(LEVELS)), target.shape[:-1]
        return cls(*(np.full(size, np.nan) for size in sizes))

    def put(self, at: Any, samples: np.ndarray, target: np.ndarray, has_mean: bool) -> None:
        """Write that of samples `[..., samples, H]` of targets `[..., H]` into the places `at` of `[R, S]`."""
        self.median[at] = metrics.median(samples, -2)
        self.mean[at] = samples.mean(-2, dtype=np.float64) if has_mean else self.median[at]
        self.quantiles[at] = np.moveaxis(np.quantile(samples, LEVELS, axis=-2), 0, -1)
        if has_mean:
            self.crps[at] = metrics.crps(target, samples)


class Backtest(NamedTuple):
    """Forecasts from R origins of S series."""

    samples: np.ndarray
    """float32 `[R, S, samples, H]`; `[R, S, 0, H]` if they are not kept."""
    target: np.ndarray
    """float64 `[R, S, H]`; NaN where there is none."""
    origins: np.ndarray
    """int64 `[R, S]`, the first forecast step of each series."""
    scales: np.ndarray
    """float64 `[R, S]`, the mean absolute error of the seasonal naive forecast before each origin."""
    squared_scales: np.ndarray
    """float64 `[R, S]`, the mean squared error of it."""
    baselines: dict[str, np.ndarray]
    """float64 `[R, S, H]` by name."""
    has_mean: bool = True
    """Whether the distribution has a mean: Student's t of logarithms has none."""
    left_out: np.ndarray | None = None
    """bool `[R, S]`: there is no target in the context, nothing to forecast from, and so neither forecast nor target;
    None: nowhere."""
    summary: Summary | None = None
    """Of samples that are not kept; None: of `samples`."""

    def measures(self) -> dict[str, dict[str, float]]:
        """Return each measure of the network and of each baseline, averaged over series and origins.

        Point measures are those of the median of the samples, but for rmse and rmsse, which are those of their mean.
        Where the distribution has no mean, these are those of the median, too; crps, which is infinite, is left out.
        Forecasts without targets are left out; series whose scale is 0 or unknown, of mase and rmsse; those whose
        targets are all 0, of wape. A forecast that is NaN is not left out: its measure is NaN. "forecasts" is how many
        are measured.
        """
        return {
            name: {"forecasts": float(self._known.sum())}
            | {measure: _average(values, counted) for measure, (values, counted) in measures.items()}
            for name, measures in self._each().items()
        }

    def per_series(self) -> dict[str, dict[str, np.ndarray]]:
        """Return the same measures for each series, `[S]`, averaged over its origins; NaN where none counts."""
        return {
            name: {"forecasts": self._known.sum(0).astype(np.float64)}
            | {
                measure: np.asarray([_average(values[:, s], counted[:, s]) for s in range(values.shape[1])])
                for measure, (values, counted) in measures.items()
            }
            for name, measures in self._each().items()
        }

    def pooled(self) -> dict[str, dict[str, float]]:
        """Return measures over all targets of all series and origins together, as if they were one series.

        mae, rmse, wape (Σ|y − ŷ| / Σ|y|; also called ND), nrmse (rmse / mean |y|) and smape; of the network also crps,
        coverage_80 and the pinball losses, each the mean over targets. Large series count more than small ones.
        """
        known = self._known
        counts = (~np.isnan(self.target)).sum(-1)[known]
        size = np.nansum(np.abs(self.target[known]))
        total = lambda values: float(np.sum(values[known] * counts)) if known.any() else float("nan")
        table = {}
        for name, measures in self._each().items():
            each = {measure: values for measure, (values, _) in measures.items()}
            rmse = float(np.sqrt(total(each["rmse"] ** 2) / max(counts.sum(), 1)))
            table[name] = {
                measure: total(values) / max(counts.sum(), 1)
                for measure, values in each.items()
                if measure not in ("mase", "rmsse", "wape", "rmse")
            } | {
                "rmse": rmse,
                "wape": total(each["mae"]) / size if size > 0 else float("nan"),
                "nrmse": rmse / (size / counts.sum()) if size > 0 else float("nan"),
            }
        return table

    @property
    def _known(self) -> np.ndarray:
        """Which forecasts `[R, S]` have targets."""
        return ~np.isnan(self.target).all(-1)

    def _summary(self) -> Summary:
        if self.summary is not None and not self.samples.shape[2]:
            return self.summary
        summary = Summary.empty(self.target)
        block = max(BLOCK // max(self.samples.shape[2] * self.samples.shape[3], 1), 1)
        for row in range(len(self.samples)):  # a sorted copy, and one in float64, of a block alone
            for start in range(0, self.samples.shape[1], block):
                at = (row, slice(start, start + block))
                summary.put(at, self.samples[at], self.target[at], self.has_mean)
        return summary

    def _each(self) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
        """Return each measure `[R, S]` of the network and of each baseline, and which of them count."""
        summary = self._summary()
        table = {"network": self._of(summary.median, summary.mean) | self._of_distribution(summary)}
        return table | {name: self._of(values, values) for name, values in self.baselines.items()}

    def _of(self, median: np.ndarray, mean: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        y, known = self.target, self._known
        sized = known & (np.nansum(np.abs(y), -1) > 0)
        return {
            "mase": (metrics.mase(y, median, self.scales), known & (self.scales > 0)),
            "smape": (metrics.smape(y, median), known),
            "wape": (metrics.wape(y, median), sized),
            "mae": (metrics.mae(y, median), known),
            "rmse": (metrics.rmse(y, mean), known),
            "rmsse": (metrics.rmsse(y, mean, self.squared_scales), known & (self.squared_scales > 0)),
        }

    def _of_distribution(self, summary: Summary) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        known, quantiles = self._known, summary.quantiles
        pinball = metrics.pinball(self.target, quantiles, LEVELS)
        crps = {"crps": (summary.crps, known)} if self.has_mean else {}
        coverage = metrics.coverage(self.target, quantiles[..., 0], quantiles[..., 2])
        losses = {f"pinball_{level:g}": (pinball[..., k], known) for k, level in enumerate(LEVELS)}
        return crps | {"coverage_80": (coverage, known)} | losses


def compare(
    samples: np.ndarray,
    series: SeriesSet,
    origins: np.ndarray,
    season: int,
    baselines: Mapping[str, Baseline] = BASELINES,
    *,
    has_mean: bool = True,
    left_out: np.ndarray | None = None,
) -> Backtest:
    """Put samples `[R, S, samples, H]` beside the targets and the baselines of the same origins.

    `has_mean=False` says that they are of a distribution without a mean, such as `Design.has_mean` tells; `left_out`
    `[R, S]`, which forecasts are not to be measured.
    """
    check_is("series", series, SeriesSet, "from_arrays and from_frame make one.")
    check_baselines(baselines)
    check_positive("season", season)
    has_mean = as_flag("has_mean", has_mean)
    samples, origins = _compared_shapes(samples, series, origins, left_out)
    horizon = samples.shape[-1]
    measured = np.ones(origins.shape, bool) if left_out is None else ~left_out
    target = targets_of(series, origins, measured, horizon)
    forecasts = {name: np.full(target.shape, np.nan) for name in baselines}
    rows, which = np.nonzero(measured)
    at = origins[rows, which]
    for name, baseline in baselines.items():
        forecasts[name][rows, which] = at_origins(name, baseline, series, which, at, horizon, season)
    scales, squared = (np.where(measured, errors, np.nan) for errors in _naive_errors(series, origins, season))
    return Backtest(samples, target, origins, scales, squared, forecasts, has_mean, left_out)


def _compared_shapes(
    samples: np.ndarray, series: SeriesSet, origins: np.ndarray, left_out: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return samples and origins as arrays; refuse those that do not fit the series and each other."""
    samples, at = (as_array(name, value) for name, value in (("samples", samples), ("origins", origins)))
    if at.dtype.kind not in "iu" or at.ndim != 2 or at.shape[1] != len(series):
        raise ValueError(
            f"origins is {list(at.shape)} and {at.dtype}, expected whole numbers [R, S] with S = {len(series)} series."
        )
    sizes = np.diff(series.starts)
    outside = (at < 1) | (at > sizes)
    if outside.any():
        row, s = np.argwhere(outside)[0]
        raise ValueError(
            f"origins has {at[row, s]} for series {series.names[s]!r}, expected 1 to {sizes[s]}: steps before it."
        )
    if samples.dtype.kind != "f" or samples.ndim != 4 or samples.shape[:2] != at.shape or not samples.shape[3]:
        raise ValueError(
            f"samples is {list(samples.shape)} and {samples.dtype}, expected floating-point numbers [R, S, samples, H] "
            f"with R, S = {at.shape[0]}, {at.shape[1]}, as origins has."
        )
    if left_out is not None and _kind_and_shape(left_out) != ("b", at.shape):
        raise ValueError(f"left_out is {described(left_out)}, expected an array of bool {list(at.shape)}, or None.")
    return samples, at


def _kind_and_shape(value: Any) -> tuple[str, tuple[int, ...]]:
    array = np.asarray(value, None if hasattr(value, "dtype") else object)
    return array.dtype.kind, array.shape


def targets_of(series: SeriesSet, origins: np.ndarray, measured: np.ndarray, horizon: int) -> np.ndarray:
    """Return what came behind origins `[R, S]`, `[R, S, H]`; NaN where there is none, or nothing is measured."""
    target = np.full((*origins.shape, horizon), np.nan)
    rows, which = np.nonzero(measured)
    steps = (series.starts[which] + origins[rows, which])[:, None] + np.arange(horizon)
    inside = steps < series.starts[which + 1][:, None]
    target[rows, which] = np.where(inside, series.target[np.where(inside, steps, 0)], np.nan)
    return target


def _naive_errors(series: SeriesSet, origins: np.ndarray, season: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `metrics.naive_error` and `metrics.naive_squared_error` of the targets before each origin, `[R, S]`."""
    parts: list[list[np.ndarray]] = []
    done = 0
    for block in series.blocks():
        at = origins[:, done : done + len(block)]
        done += len(block)
        y = block.target
        differences = np.zeros(len(y) + 1)  # one more, as the end of the last sum
        differences[season:-1] = y[season:] - y[:-season] if season < len(y) else 0.0
        first = np.minimum(block.starts[:-1] + season, block.starts[1:])  # the first that has one a season before it
        known = ~np.isnan(differences)
        count = _sums(known.astype(np.float64), first, block.starts[:-1] + at)
        errors = np.where(known, differences, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            parts.append([_sums(e, first, block.starts[:-1] + at) / count for e in (np.abs(errors), errors**2)])
    absolute, squared = (np.concatenate(blocks, 1) for blocks in zip(*parts, strict=True))
    return absolute, squared


def _sums(values: np.ndarray, first: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Return the sums of values `[N]` from first `[S]` up to each of stops `[R, S]`, `[R, S]`; 0 where none is."""
    bounds = np.stack([np.broadcast_to(first, stops.shape), np.maximum(stops, first)], -1)
    return np.stack([np.add.reduceat(values, row.ravel())[::2] for row in bounds]) * (stops > first)


def _average(values: np.ndarray, counted: np.ndarray) -> float:
    return float(values[counted].mean()) if counted.any() else float("nan")
