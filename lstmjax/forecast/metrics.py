"""Measures of forecasts and simulations, on arrays.

Targets are `[..., H]`, H steps of the horizon (or of a simulation); every measure averages over the last axis and
leaves out steps whose target is NaN. A series without any target has NaN, and so has one whose forecast is NaN where
there is a target: a forecast that is missing is not a good one. All are computed in float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lstmjax.arguments import check_positive
from lstmjax.forecast.arguments import as_levels, as_numbers

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def median(samples: np.ndarray, axis: int) -> np.ndarray:
    """Return what `numpy.median` returns, five times as fast for many sets of some hundred samples."""
    values = np.sort(samples, axis)
    count = values.shape[axis]
    low, high, last = (np.take(values, k, axis) for k in ((count - 1) // 2, count // 2, count - 1))
    middle = low if count % 2 else np.mean([low, high], 0, dtype=values.dtype)
    return np.where(np.isnan(last), last, middle)  # NaN is sorted to the end


def naive_error(history: ArrayLike, season: int = 1) -> np.ndarray:
    """Return the mean absolute error of the seasonal naive forecast within the history: the denominator of MASE.

        1 / (n − m) Σ_{t > m} |y_t − y_{t−m}|                                  (Hyndman & Koehler 2006)

    Args:
        history: `[..., T]`, the targets before the origin; NaN where there is none (also to pad short series).
        season: m, steps in a season; 1: the naive forecast.

    Returns:
        `[...]`; NaN where no two targets are a season apart. It is 0 for a history that repeats itself.
    """
    return _mean(np.abs(_seasonal_differences(history, season)))


def naive_squared_error(history: ArrayLike, season: int = 1) -> np.ndarray:
    """Return the mean squared error of the seasonal naive forecast within the history: the denominator of RMSSE."""
    return _mean(_seasonal_differences(history, season) ** 2)


def mae(target: ArrayLike, forecast: ArrayLike) -> np.ndarray:
    """Return the mean absolute error, `[...]`."""
    return _over(target, np.abs(_errors(target, forecast)))


def rmse(target: ArrayLike, forecast: ArrayLike) -> np.ndarray:
    """Return the root of the mean squared error, `[...]`."""
    return np.sqrt(_over(target, _errors(target, forecast) ** 2))


def mase(target: ArrayLike, forecast: ArrayLike, scale: ArrayLike) -> np.ndarray:
    """Return the mean absolute scaled error, `[...]` (Hyndman & Koehler 2006).

    Args:
        target, forecast: `[..., H]`.
        scale: `[...]`, the `naive_error` of each history. Where it is 0 the result is infinite, or NaN for a forecast
            without error.
    """
    error = mae(target, forecast)
    with np.errstate(divide="ignore", invalid="ignore"):
        return error / _scale(scale, error)


def rmsse(target: ArrayLike, forecast: ArrayLike, scale: ArrayLike) -> np.ndarray:
    """Return the root mean squared scaled error, `[...]`, the measure of the M5 competition.

    Args:
        target, forecast: `[..., H]`.
        scale: `[...]`, the `naive_squared_error` of each history.
    """
    error = _over(target, _errors(target, forecast) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(error / _scale(scale, error))


def smape(target: ArrayLike, forecast: ArrayLike) -> np.ndarray:
    """Return the symmetric mean absolute percentage error as a fraction of 2, `[...]`.

        mean 2 |y − ŷ| / (|y| + |ŷ|),   0 where both are 0

    The competitions print it times 100. Some libraries leave out the 2.
    """
    y, f = _pair(target, forecast)
    size = np.abs(y) + np.abs(f)
    error = 2 * np.abs(y - f)
    return _over(y, np.where(size == 0, 0.0, error / np.where(size == 0, 1.0, size)))


def wape(target: ArrayLike, forecast: ArrayLike) -> np.ndarray:
    """Return the weighted absolute percentage error Σ|y − ŷ| / Σ|y|, `[...]`; also called ND, normalised deviation."""
    y, f = _pair(target, forecast)
    known = ~np.isnan(y)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sum(np.where(known, np.abs(y - f), 0.0), -1) / np.sum(np.where(known, np.abs(y), 0.0), -1)


def pinball(target: ArrayLike, quantiles: ArrayLike, levels: ArrayLike) -> np.ndarray:
    """Return the pinball loss of each quantile, `[..., Q]`.

        max(q (y − ŷ), (q − 1) (y − ŷ))                                         (Koenker & Bassett 1978)

    Args:
        target: `[..., H]`.
        quantiles: `[..., H, Q]`.
        levels: `[Q]`, between 0 and 1.
    """
    y, forecast, q = as_numbers("target", target), as_numbers("quantiles", quantiles), as_levels("levels", levels)
    if not y.ndim or forecast.shape != (*y.shape, len(q)):
        raise ValueError(
            f"target is {list(y.shape)}, quantiles {list(forecast.shape)} and levels {list(q.shape)}, expected "
            "[..., H], [..., H, Q] and [Q]."
        )
    errors = y[..., None] - forecast
    losses = np.moveaxis(np.maximum(q * errors, (q - 1) * errors), -1, -2)
    return _over(y[..., None, :], losses)


def coverage(target: ArrayLike, low: ArrayLike, high: ArrayLike) -> np.ndarray:
    """Return the fraction of targets within an interval, ends included, `[...]`."""
    y, low = _pair(target, low, "low")
    _, high = _pair(target, high, "high")
    inside = ((low <= y) & (y <= high)).astype(np.float64)
    return _over(y, np.where(np.isnan(low) | np.isnan(high), np.nan, inside))


def crps(target: ArrayLike, samples: ArrayLike) -> np.ndarray:
    """Return the continuous ranked probability score of samples, by their empirical distribution, `[...]`.

        mean_i |x_i − y| − 1/2 mean_ij |x_i − x_j|                              (Gneiting & Raftery 2007, eq. 21)

    Args:
        target: `[..., H]`.
        samples: `[..., N, H]`.
    """
    y, x = as_numbers("target", target), as_numbers("samples", samples)
    check_samples(x, y)
    x = np.sort(x, -2)
    n = x.shape[-2]
    # Σ_ij |x_i − x_j| = 2 Σ_i (2i − n − 1) x_(i) for sorted samples, i from 1
    weights = (2 * np.arange(1, n + 1) - n - 1)[:, None]
    spread = np.sum(weights * x, -2) / n**2
    return _over(y, np.mean(np.abs(x - y[..., None, :]), -2) - spread)


def nse(target: ArrayLike, simulation: ArrayLike) -> np.ndarray:
    """Return the Nash–Sutcliffe efficiency, `[...]`: 1 is perfect, 0 is as good as the mean (Nash & Sutcliffe 1970).

    1 − Σ (y − ŷ)² / Σ (y − ȳ)²
    """
    y, f = _pair(target, simulation, "simulation")
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - _over(y, (y - f) ** 2) / _variance(y)


def kge(target: ArrayLike, simulation: ArrayLike, version: int = 2009) -> np.ndarray:
    """Return the Kling–Gupta efficiency, `[...]`.

        1 − √((r − 1)² + (β − 1)² + (v − 1)²),   β = μ_s / μ_o

    r is the correlation, and v compares the spread: σ_s / σ_o in 2009 (Gupta et al. 2009, eq. 9), and the ratio of the
    coefficients of variation in 2012 (Kling et al. 2012, eq. 2).

    Args:
        target: `[..., H]`, observed.
        simulation: `[..., H]`.
        version: 2009 or 2012.
    """
    if version not in (2009, 2012):
        raise ValueError(f"version is {version!r}, expected 2009 (Gupta et al.) or 2012 (Kling et al.).")
    y, s = _pair(target, simulation, "simulation")
    missing = (np.isnan(s) & ~np.isnan(y)).any(-1, keepdims=True)
    s = np.where(np.isnan(y) | missing, np.nan, s)
    mean_y, mean_s = _mean(y), _mean(s)
    deviation_y, deviation_s = np.sqrt(_variance(y)), np.sqrt(_variance(s))
    with np.errstate(divide="ignore", invalid="ignore"):
        r = _mean((y - mean_y[..., None]) * (s - mean_s[..., None])) / (deviation_y * deviation_s)
        beta = mean_s / mean_y
        spread = deviation_s / deviation_y
        if version == 2012:
            spread = spread / beta
        return 1 - np.sqrt((r - 1) ** 2 + (beta - 1) ** 2 + (spread - 1) ** 2)


def check_samples(samples: np.ndarray, target: np.ndarray) -> None:
    """Refuse samples that are not `[..., N, H]`, with at least one for each target `[..., H]`."""
    if samples.ndim < 2 or samples.shape[:-2] + samples.shape[-1:] != target.shape or not samples.shape[-2]:
        raise ValueError(
            f"samples is {list(samples.shape)} and target {list(target.shape)}, expected [..., samples, H] and "
            "[..., H], with a sample at least."
        )


def _scale(scale: ArrayLike, errors: np.ndarray) -> np.ndarray:
    """Return scales of errors `[...]`, one for each or for several of them."""
    divisor = as_numbers("scale", scale)
    try:
        fits = np.broadcast_shapes(divisor.shape, errors.shape) == errors.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"scale is {list(divisor.shape)}, expected {list(errors.shape)}: that of each history, without the steps H."
        )
    return divisor


def _seasonal_differences(history: ArrayLike, season: int) -> np.ndarray:
    check_positive("season", season)
    y = as_numbers("history", history)
    if not y.ndim:
        raise ValueError("history is a number, expected [..., T], the targets before the origin.")
    if y.shape[-1] <= season:
        return np.full((*y.shape[:-1], 1), np.nan)
    return y[..., season:] - y[..., :-season]


def _pair(target: ArrayLike, forecast: ArrayLike, name: str = "forecast") -> tuple[np.ndarray, np.ndarray]:
    y, f = as_numbers("target", target), as_numbers(name, forecast)
    if not y.ndim:
        raise ValueError("target is a number, expected [..., H], a number for each step of the horizon.")
    if y.shape != f.shape:
        raise ValueError(
            f"target is {list(y.shape)} and {name} {list(f.shape)}, expected one shape [..., H]. For samples or "
            "quantiles take their mean or median first."
        )
    return y, f


def _errors(target: ArrayLike, forecast: ArrayLike) -> np.ndarray:
    y, f = _pair(target, forecast)
    return y - f


def _over(target: ArrayLike, values: np.ndarray) -> np.ndarray:
    """Return the mean of values where there is a target, over the last axis; NaN where there is none at all."""
    known = ~np.isnan(np.asarray(target, np.float64))
    count = np.sum(known, -1)
    total = np.sum(np.where(known, values, 0.0), -1)
    return np.where(count == 0, np.nan, total / np.maximum(count, 1))


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of what is not NaN; NaN where nothing is."""
    return _over(values, values)


def _variance(values: np.ndarray) -> np.ndarray:
    return _mean((values - _mean(values)[..., None]) ** 2)
