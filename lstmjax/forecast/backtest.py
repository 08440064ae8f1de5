"""Backtests: forecasts from many origins of the past."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lstmjax.arguments import check_positive, described
from lstmjax.forecast.arguments import as_flag, check_called, check_is
from lstmjax.forecast.baselines import BASELINES, Baseline, check_baselines
from lstmjax.forecast.comparison import Backtest, Summary, compare, targets_of
from lstmjax.forecast.ensemble import Ensemble
from lstmjax.forecast.forecaster import Forecaster
from lstmjax.forecast.origins import warn_of_left_out, without_context
from lstmjax.forecast.series import SeriesError, SeriesSet
from lstmjax.forecast.spread import respread
from lstmjax.forecast.windows import check_within_float32


@dataclass(frozen=True)
class Rolling:
    """Origins of a backtest, counted back from the end of each series."""

    origins: int = 1
    """R, how many."""
    stride: int = 1
    """Steps between two of them."""

    def __post_init__(self) -> None:
        check_positive("origins", self.origins)
        check_positive("stride", self.stride)

    def of(self, series: SeriesSet, horizon: int) -> np.ndarray:
        """Return the origins `[R, S]`, the earliest first; the last has its whole horizon in the data."""
        check_is("series", series, SeriesSet, "from_arrays and from_frame make one.")
        check_positive("horizon", horizon)
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
    keep_samples: bool = True,
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
        keep_samples: False: only what the measures need of them is kept, so that a batch of forecasts is in the memory
            at once. The measures are the same.

    Raises:
        SeriesError: a series is too short, no origin has a target in its context, or what came is not within float32.
        TypeError, ValueError: another argument is not as it is described here.

    Warns:
        UserWarning: some origins have no target in their context, such as those behind a long gap; they are left out
            (`Backtest.left_out`).
    """
    plan = _planned(forecaster, series, rolling, refit, baselines)
    if not as_flag("keep_samples", keep_samples):
        return _summarised(plan, samples, seed, batch_size, members=False)[0]
    check_positive("samples", samples)
    networks = len(plan.ensemble.forecasters)
    # the samples of a step side by side, as medians read them
    drawn = np.full((*plan.target.shape, networks * samples), np.nan, np.float32).swapaxes(2, 3)
    for at, ensemble, parts in plan.batches(samples, seed, batch_size):
        chosen = ensemble.pooled(parts)
        drawn = drawn.astype(chosen.dtype, copy=False)
        drawn[at] = chosen
    return plan.compared(drawn)


def backtest_members(
    ensemble: Ensemble,
    series: SeriesSet,
    rolling: Rolling | None = None,
    *,
    samples: int = 200,
    seed: int = 0,
    batch_size: int = 256,
    refit: Callable[[SeriesSet], Ensemble] | None = None,
    baselines: Mapping[str, Baseline] = BASELINES,
) -> tuple[Backtest, list[Backtest]]:
    """Backtest an ensemble and each of its networks alone, by the same draws; no samples are kept.

    Args:
        ensemble: the networks.
        series, rolling, samples, seed, batch_size, refit, baselines: as for `backtest`.

    Returns:
        Those of the ensemble, and those of each network with the spread that it has alone.
    """
    plan = _planned(ensemble, series, rolling, refit, baselines)
    together, *members = _summarised(plan, samples, seed, batch_size, members=True)
    return together, members


@dataclass(frozen=True)
class _Plan:
    """A backtest before anything is sampled."""

    ensemble: Ensemble
    series: SeriesSet
    origins: np.ndarray  # [R, S]
    left_out: np.ndarray  # bool [R, S]
    target: np.ndarray  # [R, S, H]
    refit: Callable[[SeriesSet], Forecaster | Ensemble] | None
    baselines: Mapping[str, Baseline]

    def batches(
        self, samples: int, seed: int, batch_size: int
    ) -> Iterator[tuple[tuple[np.ndarray, np.ndarray], Ensemble, list[np.ndarray]]]:
        """Yield batches: their places in `[R, S]`, who forecasts, and the samples of each network, not scaled."""
        for ensemble, rows, which in self._forecasts():
            batches = ensemble.batches(
                self.series, which, self.origins[rows, which], samples=samples, seed=seed, batch_size=batch_size
            )
            for place, parts in batches:
                yield (rows[place], which[place]), ensemble, parts

    def _forecasts(self) -> Iterator[tuple[Ensemble, np.ndarray, np.ndarray]]:
        """Yield who forecasts, and from which origins and series."""
        ensemble = self.ensemble
        if self.refit is None:
            rows, which = np.nonzero(~self.left_out)
            yield ensemble, rows, which
            return
        for row, at in enumerate(self.origins):
            if row:
                known = self.series.cut(int(self.series.lengths[0] - at[0]))
                ensemble = _as_ensemble(self.refit(known), "refit returns")
                self._check_refitted(ensemble)
            (which,) = np.nonzero(~self.left_out[row])
            if len(which):
                yield ensemble, np.full(len(which), row), which

    def _check_refitted(self, ensemble: Ensemble) -> None:
        """Refuse networks of another number or design than the first ones."""
        count, expected = len(ensemble.forecasters), len(self.ensemble.forecasters)
        if count != expected:
            raise ValueError(f"refit returns {count} networks, expected {expected}, as many as forecaster has.")
        if ensemble.design != self.ensemble.design:
            raise ValueError(
                f"refit returns networks of {ensemble.design}, expected the design of forecaster, "
                f"{self.ensemble.design}."
            )

    def compared(self, drawn: np.ndarray) -> Backtest:
        """Return what `compare` returns for samples."""
        design = self.ensemble.design
        return compare(
            drawn, self.series, self.origins, design.season, self.baselines, has_mean=design.has_mean,
            left_out=self.left_out,
        )  # fmt: skip


def _planned(
    forecaster: Forecaster | Ensemble,
    series: SeriesSet,
    rolling: Rolling | None,
    refit: Callable[[SeriesSet], Forecaster | Ensemble] | None,
    baselines: Mapping[str, Baseline],
) -> _Plan:
    ensemble = _as_ensemble(forecaster, "forecaster is")
    check_is("series", series, SeriesSet, "from_arrays and from_frame make one.")
    rolling = Rolling() if rolling is None else rolling
    check_is("rolling", rolling, Rolling, "Pass Rolling(origins, stride), or None for one origin.")
    check_called("refit", refit, "of the series that are known, which returns a forecaster")
    check_baselines(baselines)
    design = ensemble.design
    origins = rolling.of(series, design.horizon)
    left_out = without_context(series, origins, design.context)
    warn_of_left_out(left_out, series, origins, design.context, stacklevel=4)
    target = targets_of(series, origins, ~left_out, design.horizon)
    check_within_float32(target)
    return _Plan(ensemble, series, origins, left_out, target, refit, baselines)


def _as_ensemble(forecaster: Forecaster | Ensemble, where: str) -> Ensemble:
    """Return a network as an ensemble of one."""
    if isinstance(forecaster, Forecaster):
        return Ensemble((forecaster,), forecaster.spread)
    if not isinstance(forecaster, Ensemble):
        raise TypeError(f"{where} {described(forecaster)}, expected a Forecaster or an Ensemble.")
    return forecaster


def _summarised(plan: _Plan, samples: int, seed: int, batch_size: int, *, members: bool) -> list[Backtest]:
    """Sample batch by batch, and keep what measures need: of all networks together and, for members, of each."""
    has_mean = plan.ensemble.design.has_mean
    count = len(plan.ensemble.forecasters) if members else 0
    summaries = [Summary.empty(plan.target) for _ in range(1 + count)]
    for at, ensemble, parts in plan.batches(samples, seed, batch_size):
        target = plan.target[at]
        summaries[0].put(at, ensemble.pooled(parts), target, has_mean)
        for k in range(count):
            forecaster = ensemble.forecasters[k]
            alone = respread(parts[k], forecaster.spread, forecaster.design)
            summaries[1 + k].put(at, alone, target, has_mean)
    compared = plan.compared(np.full((*plan.origins.shape, 0, plan.target.shape[-1]), np.nan, np.float32))
    return [compared._replace(summary=summary) for summary in summaries]
