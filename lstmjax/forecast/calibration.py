"""Calibrate the spread of forecasts at origins of the past, by networks that have not learnt from what came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lstmjax.arguments import check_counts
from lstmjax.forecast.design import Design
from lstmjax.forecast.fitting import Training, fit_forecaster
from lstmjax.forecast.forecaster import Forecaster
from lstmjax.forecast.origins import check_future
from lstmjax.forecast.series import SeriesError, SeriesSet
from lstmjax.forecast.spread import opened, spread_factor

SAMPLES = 200
"""Samples of each series, whose quantiles are compared with the targets."""


@dataclass(frozen=True)
class Calibration:
    """How the spread of forecasts is calibrated."""

    origins: int = 1
    """Origins of the past, a horizon apart, the last one a horizon before the end of each series. A network is fitted
    for each, to what is known there."""
    level: float = 0.8
    """Share of the targets that the central interval of this level is to cover there."""

    def __post_init__(self) -> None:
        check_counts(self, "origins")
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"level is {self.level!r}, expected a share above 0 and below 1, such as 0.8.")


def fit_calibrated(
    series: SeriesSet,
    design: Design,
    training: Training | None = None,
    calibration: Calibration | None = None,
    *,
    seed: int = 0,
    on_chunk: Callable[[int, float], None] | None = None,
) -> Forecaster:
    """Fit one network to all series, and calibrate the spread of its forecasts.

    The same design is fitted to what was known at origins of the past as well. The factor at which the intervals of
    those networks cover what came (`spread_factor`) becomes the `spread` of the forecaster. The medians stay as they
    are, and so does the log density.

    Args:
        series: the training part; nothing else is looked at.
        design: of the network.
        training: how it is fitted.
        calibration: at how many origins, for which interval; None: none, as `fit_forecaster`.
        seed: of all of the networks.
        on_chunk: called with the number of steps done, over all networks, and the mean loss of the last ones.

    Raises:
        SeriesError: the design has no spread of real numbers, the series are too short, or there is no target or no
            known covariate behind the origins.
    """
    training = training or Training()
    scored = held_back(series, design, calibration)

    def shifted(fits: int) -> Callable[[int, float], None]:
        def call(steps: int, loss: float) -> None:
            if on_chunk is not None:
                on_chunk(fits * training.steps + steps, loss)

        return call

    drawn, targets = [], []
    for fits, (known, target) in enumerate(scored):
        network = fit_forecaster(known, design, training, seed=seed, on_chunk=shifted(fits))
        drawn.append(opened(network.forecast(known, samples=SAMPLES, seed=seed).samples, design))
        targets.append(opened(target, design))
    spread = 1.0
    if calibration is not None:  # before the last fit, which would be lost if there is no factor
        spread = spread_factor(np.concatenate(drawn), np.concatenate(targets), calibration.level)
    forecaster = fit_forecaster(series, design, training, seed=seed, on_chunk=shifted(len(scored)))
    return replace(forecaster, spread=spread)


def held_back(series: SeriesSet, design: Design, calibration: Calibration | None) -> list[tuple[SeriesSet, np.ndarray]]:
    """Return what was known at each origin of a calibration, and the targets that came, the last origin first.

    Series with less than two seasons, or without a target in the context, before an origin are left out there.

    Returns:
        for each origin the series, and float64 `[S, H]`, NaN where there is no target.

    Raises:
        SeriesError: as `fit_calibrated`.
    """
    if calibration is None:
        return []
    if design.likelihood == "point" or design.head.support == "count":
        raise SeriesError(
            f"likelihood {design.likelihood!r} has no spread that can be scaled: calibration is for distributions of "
            "real or positive numbers. Leave calibration out, or pass likelihood='student_t'."
        )
    scored = [_at(series, design, back * design.horizon) for back in range(1, calibration.origins + 1)]
    if all(np.isnan(target).all() for _, target in scored):
        raise SeriesError(
            f"there is no target in the last {calibration.origins * design.horizon} steps of the training part, so "
            "that forecasts of them cannot be calibrated. Take more origins for calibration, or leave it out."
        )
    return scored


def _at(series: SeriesSet, design: Design, back: int) -> tuple[SeriesSet, np.ndarray]:
    """Return what was known `back` steps before the end of each series, and the targets of the horizon from there."""
    origins = series.lengths - back
    usable = [
        origin > 2 * design.season and not np.isnan(series.history(s, origin)[-design.context :]).all()
        for s, origin in enumerate(origins)
    ]
    which = np.flatnonzero(usable)
    if not len(which):
        raise SeriesError(
            f"no series has more than {2 * design.season} steps before an origin {back} steps before the end of the "
            "training part, so that forecasts from there cannot be calibrated. Take fewer origins for calibration, or "
            "leave it out."
        )
    chosen = series if len(which) == len(series) else series.subset(which)  # mapped series stay mapped
    target = [chosen.history(s, int(origin) + design.horizon) for s, origin in enumerate(origins[which])]
    known = chosen.cut(back)
    check_future(known, np.arange(len(known)), known.lengths, design)
    return known, np.stack([history[-design.horizon :] for history in target])
