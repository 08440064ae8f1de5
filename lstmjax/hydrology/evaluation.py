"""How good simulations are, by basin and pooled, beside what costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lstmjax.forecast.metrics import kge, nse
from lstmjax.forecast.series import SeriesError, SeriesSet
from lstmjax.hydrology.basins import Period, by_basin, days_of, within


@dataclass(frozen=True)
class Scores:
    """NSE and KGE of M simulations in S basins.

    Both are not defined where the discharge does not vary in the period (a dry river, a single day, no day at all):
    NaN for every simulation, and the basin is left out of the medians. Where it varies, a simulation that is NaN on a
    day with a discharge has NaN, and so has its median: it is not measured on the basins that suit it.
    """

    simulations: tuple[str, ...]
    basins: tuple[str, ...]
    nse: np.ndarray
    """`[M, S]`."""
    kge: np.ndarray
    """`[M, S]`, the version of 2009."""
    pooled_nse: np.ndarray
    """`[M]`, over the days of all basins together: one that only knows the basins' means is above 0 here."""
    pooled_kge: np.ndarray
    """`[M]`."""

    varying: np.ndarray
    """Basins whose discharge varies in the period, bool `[S]`."""

    def median(self, measure: str = "nse") -> dict[str, float]:
        """Return the median over the basins whose discharge varies, of each simulation by its name.

        NaN if there is no such basin, or if the simulation is NaN in one of them.
        """
        return dict(zip(self.simulations, self._over_basins(np.median, measure), strict=True))

    def _over_basins(self, statistic: Callable[..., np.ndarray], measure: str) -> list[float]:
        values = getattr(self, measure)[:, self.varying]
        if values.size == 0:
            return [np.nan] * len(self.simulations)
        return [np.nan if np.isnan(row).any() else float(statistic(row)) for row in values]

    def __str__(self) -> str:
        """Return a table: median, worst and pooled values of each simulation, and which basins are left out."""
        wide = max(map(len, self.simulations), default=0)
        lines = [f"{'':{wide}}  median NSE   worst  pooled  median KGE   worst  pooled"]
        columns = (
            self._over_basins(np.median, "nse"), self._over_basins(np.min, "nse"), self.pooled_nse,
            self._over_basins(np.median, "kge"), self._over_basins(np.min, "kge"), self.pooled_kge,
        )  # fmt: skip
        for name, *values in zip(self.simulations, *columns, strict=True):
            widths = (10, 6, 6, 10, 6, 6)
            shown = (f"{value:{width}.3f}" for value, width in zip(values, widths, strict=True))
            lines.append(f"{name:{wide}}  {'  '.join(shown)}")
        if not self.varying.all():
            out = [name for name, varies in zip(self.basins, self.varying, strict=True) if not varies]
            lines.append(f"left out, as their discharge does not vary in the period: {', '.join(out)}")
        return "\n".join(lines)


def score(basins: SeriesSet, period: Period, simulations: Mapping[str, np.ndarray]) -> Scores:
    """Measure simulations in a period.

    Args:
        basins: with the discharges.
        period: first and last day, behind the training.
        simulations: by name, each `[N]`, mm/day: a number for each row of the basins. Days without a discharge are
            left out; a simulation that is NaN on a day with one makes the score of its basin NaN, and its median.

    Raises:
        SeriesError: a simulation has another length.
    """
    rows = within(basins, period)
    for name, values in simulations.items():
        if np.shape(values) != basins.target.shape:
            raise SeriesError(
                f"the simulation {name!r} is {list(np.shape(values))}, expected [{len(basins.target)}], a number for "
                "each row of the basins. Of an ensemble pass its mean, or each of its members by a name of its own."
            )
    observed = np.where(rows, basins.target, np.nan)
    tables: dict[str, np.ndarray] = {}
    for measure, function in (("nse", nse), ("kge", _kge)):
        tables[measure] = np.array(
            [
                [
                    _measured(function, y, f)
                    for y, f in zip(by_basin(basins, observed), by_basin(basins, np.asarray(values)), strict=True)
                ]
                for values in simulations.values()
            ]
        ).reshape(len(simulations), len(basins))
        tables[f"pooled_{measure}"] = np.array(
            [_measured(function, observed, np.asarray(values)) for values in simulations.values()]
        )
    varying = np.array([_varies(y[~np.isnan(y)]) for y in by_basin(basins, observed)])
    return Scores(tuple(simulations), basins.names, varying=varying, **tables)


def _varies(values: np.ndarray) -> bool:
    return bool(values.size) and values.min() < values.max()


def _measured(function: Callable[..., np.ndarray], observed: np.ndarray, simulated: np.ndarray) -> float:
    known = ~np.isnan(observed)
    observed, simulated = observed[known], simulated[known]
    if not _varies(observed) or np.isnan(simulated).any():
        return np.nan
    return float(function(observed, simulated))


def _kge(observed: np.ndarray, simulated: np.ndarray) -> np.ndarray:
    """Return KGE, with a correlation of 0 for a constant simulation, whose own is not defined.

    So the mean of the observations has 1 − √2, the benchmark of Knoben et al. (2019, Hydrol. Earth Syst. Sci. 23,
    4323).
    """
    if _varies(simulated):
        return kge(observed, simulated)
    with np.errstate(divide="ignore"):
        bias = simulated.mean() / observed.mean()
    return 1 - np.sqrt(2 + (bias - 1) ** 2)


def baselines(basins: SeriesSet, training: Period) -> dict[str, np.ndarray]:
    """Return simulations that cost nothing, each `[N]`, mm/day.

    "mean" is the mean discharge of each basin in the training period, "climatology" its mean on each day of the year
    (over 15 days around it). "persistence" is the discharge of the day before: it reads the gauge up to yesterday,
    which a simulation never does, so that it is no rival in an ungauged basin.

    Raises:
        SeriesError: a basin has no discharge in the training period.
    """
    learnt = within(basins, training) & ~np.isnan(basins.target)
    out = {name: np.full(len(basins.target), np.nan) for name in ("mean", "climatology", "persistence")}
    for s in range(len(basins)):
        rows = slice(basins.starts[s], basins.starts[s + 1])
        known, discharge = learnt[rows], basins.target[rows]
        if not known.any():
            raise SeriesError(f"basin {basins.names[s]!r} has no discharge between {training[0]} and {training[1]}.")
        out["mean"][rows] = discharge[known].mean()
        day = _day_of_year(days_of(basins, s))
        total = np.bincount(day[known], discharge[known], minlength=366)
        count = np.bincount(day[known], minlength=366)
        around = np.arange(366)[:, None] + np.arange(-7, 8)
        counts = count[around % 366].sum(1)
        means = np.where(counts > 0, total[around % 366].sum(1) / np.maximum(counts, 1), discharge[known].mean())
        out["climatology"][rows] = means[day]
        out["persistence"][rows] = _latest_before(discharge)
    return out


def _day_of_year(days: np.ndarray) -> np.ndarray:
    """Return the day of the year, from 0 on."""
    return (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)


def _latest_before(discharge: np.ndarray) -> np.ndarray:
    """Return the latest discharge before each day, `[T]`; NaN before the first one."""
    at = np.maximum.accumulate(np.where(np.isnan(discharge), -1, np.arange(len(discharge))))
    before = np.concatenate([[-1], at[:-1]])
    return np.where(before >= 0, discharge[before], np.nan)
