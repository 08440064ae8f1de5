"""Calibrate the spread of forecasts at origins of the past, by networks that have not learnt from what came."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from lstmjax.arguments import check_counts
from lstmjax.forecast.arguments import as_seeds, check_called, check_is, check_mapping, check_share
from lstmjax.forecast.design import Design
from lstmjax.forecast.ensemble import Ensemble
from lstmjax.forecast.fitting import Training, check_fit, fit_forecaster
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
        check_share("level", self.level)


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
    return fit_ensemble(series, design, training, calibration, seeds=(seed,), on_chunk=on_chunk).forecasters[0]


def fit_ensemble(
    series: SeriesSet,
    design: Design,
    training: Training | None = None,
    calibration: Calibration | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    fitted: Mapping[int, Forecaster] | None = None,
    on_chunk: Callable[[int, float], None] | None = None,
    on_forecaster: Callable[[int, Forecaster], None] | None = None,
) -> Ensemble:
    """Fit a network for each seed, and calibrate the spread of each and of all of them together.

    Networks that differ have a pool of samples that is wider than they are, and calibrating each of them leaves it too
    wide. The factor of the ensemble is therefore that of the pooled samples at the origins of the past
    (conformal prediction of the mixture), and that of each network is its factor alone, as by `fit_calibrated`.

    Args:
        series, design, training, calibration: as for `fit_calibrated`. Without a calibration all factors are 1.
        seeds: different whole numbers, one for each network.
        fitted: networks that an earlier call, with the same arguments, has fitted to the whole of the series, by their
            seeds; only their factor together is computed again.
        on_chunk: called with the number of steps done, over all networks, and the mean loss of the last ones.
        on_forecaster: called with the seed and the network when one is fitted.

    Raises:
        SeriesError: as `fit_calibrated`.
        TypeError, ValueError: another argument is not as it is described here.
    """
    seeds = as_seeds(seeds)
    training = Training() if training is None else training
    check_fit(series, design, training, on_chunk)
    check_called("on_forecaster", on_forecaster, "(seed, forecaster)")
    if calibration is not None:
        check_is("calibration", calibration, Calibration, "Pass Calibration(), or None for none.")
    fitted = {} if fitted is None else fitted
    check_mapping("fitted", fitted, "a Forecaster by seed")
    for seed, forecaster in fitted.items():
        check_is(f"fitted[{seed!r}]", forecaster, Forecaster, "fit_forecaster returns one.")
    fits = fits_of(seeds, calibration, fitted)
    scored = held_back(series, design, calibration)
    targets = [opened(target, design) for _, target in scored]
    done = 0

    def fit(known: SeriesSet, seed: int) -> Forecaster:
        nonlocal done
        before, done = done, done + training.steps
        call = None if on_chunk is None else lambda steps, loss: on_chunk(before + steps, loss)
        return fit_forecaster(known, design, training, seed=seed, on_chunk=call)

    def factor(drawn: list[np.ndarray]) -> float:
        if calibration is None:
            return 1.0
        return spread_factor(np.concatenate(drawn), np.concatenate(targets), calibration.level)

    forecasters = []
    drawn: list[list[np.ndarray]] = []  # of each network, at each origin
    for seed, needed in fits.items():
        drawn.append([
            opened(fit(known, seed).forecast(known, samples=SAMPLES, seed=seed).samples, design)
            for known, _ in scored[:needed.origins]
        ])  # fmt: skip
        if not needed.network:
            forecasters.append(fitted[seed])
            continue
        spread = factor(drawn[-1])  # before the last fit, which would be lost if there is no factor
        forecasters.append(replace(fit(series, seed), spread=spread))
        if on_forecaster is not None:
            on_forecaster(seed, forecasters[-1])
    if len(forecasters) == 1:
        return Ensemble(tuple(forecasters), forecasters[0].spread)
    return Ensemble(tuple(forecasters), factor([np.concatenate(parts, 1) for parts in zip(*drawn, strict=True)]))


class Fits(NamedTuple):
    """What `fit_ensemble` fits for a seed."""

    origins: int
    """Networks that only calibrate, at origins of the past."""
    network: bool
    """Whether the network itself is fitted, to the whole of the series."""


def fits_of(seeds: Sequence[int], calibration: Calibration | None, fitted: Container[int]) -> dict[int, Fits]:
    """Return what `fit_ensemble` fits for each seed.

    Args:
        seeds, calibration: as for `fit_ensemble`.
        fitted: seeds whose networks are there. One network alone has its factor already; several have each their own,
            and that of all of them together is not known.
    """
    alone = len(seeds) == 1 and seeds[0] in fitted
    origins = 0 if calibration is None or alone else calibration.origins
    return {seed: Fits(origins, seed not in fitted) for seed in seeds}


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
