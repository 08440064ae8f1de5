"""Backtests: forecasts from many origins of the past, and measures of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lstmjax.forecast import metrics
from lstmjax.forecast.baselines import BASELINES, Baseline, at_origins
from lstmjax.forecast.ensemble import Ensemble
from lstmjax.forecast.forecaster import Forecaster
from lstmjax.forecast.origins import warn_of_left_out, without_context
from lstmjax.forecast.series import SeriesError, SeriesSet

LEVELS = (0.1, 0.5, 0.9)
"""Quantiles whose pinball loss is measured; the outer two are an interval of 80%."""


class Backtest(NamedTuple):
    """Forecasts from R origins of S series."""

    samples: np.ndarray
    """float32 `[R, S, samples, H]`."""
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

    def _points(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return median and mean, each `[R, S, H]`, of the network and of each baseline."""
        median = metrics.median(self.samples, 2)
        mean = self.samples.mean(2, dtype=np.float64) if self.has_mean else median
        return {"network": (median, mean)} | {name: (of, of) for name, of in self.baselines.items()}

    def _each(self) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
        """Return each measure `[R, S]` of the network and of each baseline, and which of them count."""
        table = {name: self._of(*points) for name, points in self._points().items()}
        table["network"] |= self._of_distribution()
        return table

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

    def _of_distribution(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        known = self._known
        quantiles = np.moveaxis(np.quantile(self.samples, LEVELS, axis=2), 0, -1)
        pinball = metrics.pinball(self.target, quantiles, LEVELS)
        crps = {"crps": (metrics.crps(self.target, self.samples), known)} if self.has_mean else {}
        coverage = metrics.coverage(self.target, quantiles[..., 0], quantiles[..., 2])
        losses = {f"pinball_{level:g}": (pinball[..., k], known) for k, level in enumerate(LEVELS)}
        return crps | {"coverage_80": (coverage, known)} | losses


@dataclass(frozen=True)
class Rolling:
    """Origins of a backtest, counted back from the end of each series."""

    origins: int = 1
    """R, how many."""
    stride: int = 1
    """Steps between two of them."""

    def of(self, series: SeriesSet, horizon: int) -> np.ndarray:
        """Return the origins `[R, S]`, the earliest first; the last has its whole horizon in the data."""
        if self.origins < 1 or self.stride < 1:
            raise ValueError(f"origins is {self.origins} and stride {self.stride}, expected at least 1 each.")
        back = horizon + self.stride * np.arange(self.origins)[::-1]
        at = series.lengths - back[:, None]
        if (at < 1).any():
            row, s = np.argwhere(at < 1)[0]
            raise SeriesError(
                f"series {series.names[s]!r} has {series.lengths[s]} targets, too few for an origin {back[row]} steps "
                f"before its end: {self.origins} origins, {self.stride} apart, with a horizon of {horizon}. Leave the "
                "series out with SeriesSet.subset, or take fewer origins."
            )
        return at


def backtest(
    forecaster: Forecaster | Ensemble,
    series: SeriesSet,
    rolling: Rolling | None = None,
    *,
    samples: int = 200,
    seed: int = 0,
    batch_size: int = 256,
    refit: Callable[[SeriesSet], Forecaster | Ensemble] | None = None,
    baselines: Mapping[str, Baseline] = BASELINES,
) -> Backtest:
    """Forecast from several origins of each series, and compare with what came.

    Args:
        forecaster: a network or an ensemble, fitted on targets before the first origin only.
        series: with all of their targets.
        rolling: the origins; None: one, a horizon before the end.
        samples, seed, batch_size: as for `Forecaster.forecast`; an ensemble draws `samples` of each network. Without
            refitting, one compiled program samples from all origins.
        refit: fits a forecaster to what is known at an origin; it is called for each but the first, and what it
            returns has the design of `forecaster`, and as many networks. None: the one that is given forecasts from
            all origins.
        baselines: what to compare with, such as `{**BASELINES, **STATISTICAL}`.

    Raises:
        SeriesError: a series is too short, or no origin has a target in its context.

    Warns:
        UserWarning: some origins have no target in their context, such as those behind a long gap; they are left out
            (`Backtest.left_out`).
    """
    rolling = rolling or Rolling()
    design = forecaster.design
    origins = rolling.of(series, design.horizon)
    _check_names(baselines)
    left_out = without_context(series, origins, design.context)
    warn_of_left_out(left_out, series, origins, design.context)
    networks = len(forecaster.forecasters) if isinstance(forecaster, Ensemble) else 1
    # the samples of a step side by side, as medians read them
    drawn = np.full((*origins.shape, design.horizon, networks * samples), np.nan, np.float32).swapaxes(2, 3)

    def forecast(rows: np.ndarray, which: np.ndarray, forecaster: Forecaster | Ensemble) -> None:
        nonlocal drawn
        chosen = forecaster.forecast(
            series, which=which, origins=origins[rows, which], samples=samples, seed=seed, batch_size=batch_size
        ).samples
        drawn = drawn.astype(chosen.dtype, copy=False)
        drawn[rows, which] = chosen

    if refit is None:
        rows, which = np.nonzero(~left_out)
        forecast(rows, which, forecaster)
    else:
        for row, at in enumerate(origins):
            if row:
                forecaster = refit(series.cut(int(series.lengths[0] - at[0])))
            (which,) = np.nonzero(~left_out[row])
            if len(which):
                forecast(np.full(len(which), row), which, forecaster)
    return compare(drawn, series, origins, design.season, baselines, has_mean=design.has_mean, left_out=left_out)


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
    _check_names(baselines)
    horizon = samples.shape[-1]
    target = np.full((*origins.shape, horizon), np.nan)
    forecasts = {name: np.full(target.shape, np.nan) for name in baselines}
    measured = np.ones(origins.shape, bool) if left_out is None else ~left_out
    rows, which = np.nonzero(measured)
    at = origins[rows, which]
    steps = (series.starts[which] + at)[:, None] + np.arange(horizon)
    inside = steps < series.starts[which + 1][:, None]
    target[rows, which] = np.where(inside, series.target[np.where(inside, steps, 0)], np.nan)
    for name, baseline in baselines.items():
        forecasts[name][rows, which] = at_origins(name, baseline, series, which, at, horizon, season)
    scales, squared = (np.where(measured, errors, np.nan) for errors in _naive_errors(series, origins, season))
    return Backtest(samples, target, origins, scales, squared, forecasts, has_mean, left_out)


def _check_names(baselines: Mapping[str, Baseline]) -> None:
    if "network" in baselines:
        raise ValueError("baselines has the name 'network', which the forecaster itself has; take another one.")


def _naive_errors(series: SeriesSet, origins: np.ndarray, season: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `metrics.naive_error` and `metrics.naive_squared_error` of the targets before each origin, `[R, S]`."""
    metrics.check_season(season)
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
