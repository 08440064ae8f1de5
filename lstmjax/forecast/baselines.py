"""Forecasts that every network is to be compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import numpy as np

from lstmjax.arguments import check_function, check_positive, one_of
from lstmjax.forecast.arguments import as_numbers, check_mapping
from lstmjax.forecast.origins import known_row, latest_known
from lstmjax.forecast.series import SeriesSet

Baseline = Callable[[np.ndarray, int, int], np.ndarray]
"""(history [T], horizon, season) -> forecast [H]."""


def naive(history: np.ndarray, horizon: int, season: int = 1) -> np.ndarray:
    """Repeat the last target."""
    del season
    return np.full(_horizon(horizon), _known(_history(history))[-1])


def seasonal_naive(history: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """Repeat the last season; a missing target is taken from the season before, or is the last one known."""
    y, horizon = _history(history), _horizon(horizon)
    check_positive("season", season)
    if len(y) < season:
        return naive(y, horizon)
    # a row for each season, the last one ending with the history; its columns are the steps of a season
    padded = np.concatenate([np.full(-len(y) % season, np.nan), y]).reshape(-1, season)
    known = ~np.isnan(padded)
    latest = np.where(known, np.arange(len(padded))[:, None], 0).max(0)
    last = np.where(known.any(0), padded[latest, np.arange(season)], _known(y)[-1])
    return last[np.arange(horizon) % season]


def drift(history: np.ndarray, horizon: int, season: int = 1) -> np.ndarray:
    """Go on along the line from the first to the last target."""
    del season
    y, horizon = _history(history), _horizon(horizon)
    (known,) = np.nonzero(~np.isnan(y))
    _check_some(len(known) > 0)
    first, last = known[0], known[-1]
    slope = 0.0 if first == last else (y[last] - y[first]) / (last - first)
    return y[last] + slope * (len(y) - 1 - last + np.arange(1, horizon + 1))


def _history(history: Any) -> np.ndarray:
    y = as_numbers("history", history)
    if y.ndim != 1:
        raise ValueError(f"history is {list(y.shape)}, expected [T], the targets of one series.")
    return y


def _horizon(horizon: int) -> int:
    check_positive("horizon", horizon)
    return int(horizon)


def _known(y: np.ndarray) -> np.ndarray:
    y = y[~np.isnan(y)]
    _check_some(len(y) > 0)
    return y


def _check_some(some: bool) -> None:
    if not some:
        raise ValueError("history has no targets; a forecast needs at least one.")


def _naive_at(series: SeriesSet, which: np.ndarray, origins: np.ndarray, horizon: int, season: int) -> np.ndarray:
    del season
    return np.repeat(series.target[latest_known(series, which, origins)][:, None], horizon, 1)


def _seasonal_naive_at(
    series: SeriesSet, which: np.ndarray, origins: np.ndarray, horizon: int, season: int
) -> np.ndarray:
    first = series.starts[which][:, None]
    begin = first + origins[:, None]
    rows = known_row(series.target, begin - season + np.arange(min(season, horizon)), -season, first, begin - 1)
    known = (rows >= 0) & (origins >= season)[:, None]
    values = np.where(known, series.target[rows], _naive_at(series, which, origins, 1, 1))
    return values[:, np.arange(horizon) % season]


def _drift_at(series: SeriesSet, which: np.ndarray, origins: np.ndarray, horizon: int, season: int) -> np.ndarray:
    del season
    begin, y = series.starts[which], series.target
    last = latest_known(series, which, origins)
    first = known_row(y, begin, 1, begin, last)
    slope = (y[last] - y[first]) / np.maximum(last - first, 1)  # 0 where there is one target
    ahead = (begin + origins - 1 - last)[:, None] + np.arange(1, horizon + 1)
    return y[last][:, None] + slope[:, None] * ahead


AT_ORIGINS: tuple[tuple[Baseline, Callable[[SeriesSet, np.ndarray, np.ndarray, int, int], np.ndarray]], ...] = (
    (naive, _naive_at),
    (seasonal_naive, _seasonal_naive_at),
    (drift, _drift_at),
)
"""What a baseline returns for many origins at once: (series, which [N], origins [N], horizon, season) -> `[N, H]`."""


def at_origins(
    name: str, baseline: Baseline, series: SeriesSet, which: np.ndarray, origins: np.ndarray, horizon: int, season: int
) -> np.ndarray:
    """Return the forecasts of a baseline from N origins, `[N, H]`: what it returns for the history before each.

    Raises:
        ValueError: it returns neither a number nor one for each step of the horizon; the message has its name.
    """
    for row, together in AT_ORIGINS:
        if row is baseline:
            _check_some(bool((latest_known(series, which, origins) >= 0).all()))
            return together(series, which, origins, horizon, season)
    forecasts = np.empty((len(which), horizon))
    for row, (s, origin) in enumerate(zip(which, origins, strict=True)):
        history = series.history(s, origin).copy()  # a baseline may fill its gaps in place
        values = np.asarray(baseline(history, horizon, season), np.float64)
        if values.shape not in ((), (1,), (horizon,)):
            raise ValueError(
                f"baselines[{name!r}] returns {list(values.shape)} for series {series.names[s]!r}, expected "
                f"[{horizon}], a number for each step of the horizon, or one number for all of them."
            )
        forecasts[row] = values
    return forecasts


def check_baselines(baselines: Mapping[str, Baseline]) -> None:
    """Refuse what is no table of baselines, and the name of the network among them."""
    check_mapping("baselines", baselines, "functions of (history, horizon, season) by name")
    for name, baseline in baselines.items():
        check_function(f"baselines[{name!r}]", baseline, "of (history [T], horizon, season)")
    if "network" in baselines:
        raise ValueError("baselines has the name 'network', which the forecaster itself has; take another one.")


BASELINES: MappingProxyType[str, Baseline] = MappingProxyType(
    {"naive": naive, "seasonal naive": seasonal_naive, "drift": drift}
)
"""By name: what costs nothing. ETS and ARIMA come from statsforecast, where it is installed; see `STATISTICAL`."""


def statistical(name: str, history: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """Return the forecast of AutoETS or AutoARIMA of the package statsforecast.

    Args:
        name: "ETS" or "ARIMA".
        history: targets `[T]`; gaps are filled along lines, as neither method knows gaps.
        horizon: H.
        season: m; with fewer than two seasons of history none is fitted.

    Raises:
        ImportError: statsforecast is not installed.
    """
    one_of("name", name, ("ETS", "ARIMA"))
    y, horizon = _history(history), _horizon(horizon)
    check_positive("season", season)
    try:
        from statsforecast import models
    except ImportError:
        raise ImportError(f"{name} needs statsforecast: pip install 'lstmjax[forecast]'") from None
    (known,) = np.nonzero(~np.isnan(y))
    if len(known) < FEWEST:
        return naive(y, horizon)
    y = np.interp(np.arange(known[0], len(y)), known, y[known])
    model = {"ETS": models.AutoETS, "ARIMA": models.AutoARIMA}[name](
        season_length=season if len(y) > 2 * season else 1, alias=name
    )
    return np.asarray(model.forecast(y=y, h=horizon)["mean"], np.float64)


FEWEST = 10
"""Targets that ETS and ARIMA need; for fewer, their forecast is the last target."""
STATISTICAL: MappingProxyType[str, Baseline] = MappingProxyType(
    {"ETS": partial(statistical, "ETS"), "ARIMA": partial(statistical, "ARIMA")}
)
"""By name: methods that are fitted to each series alone. ARIMA takes seconds for some hundred steps."""


def has_statistical() -> bool:
    """Return whether statsforecast is installed."""
    return find_spec("statsforecast") is not None
