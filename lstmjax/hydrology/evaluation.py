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
    """NSE and KGE of M simulations in S basins; NaN where a basin has no discharge in the period."""

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

    def median(self, measure: str = "nse") -> dict[str, float]:
        """Return the median over the basins of each simulation, by its name."""
        values = getattr(self, measure)
        return {name: float(np.nanmedian(row)) for name, row in zip(self.simulations, values, strict=True)}

    def __str__(self) -> str:
        """Return a table: median, worst and pooled values of each simulation."""
        wide = max(map(len, self.simulations))
        lines = [f"{'':{wide}}  median NSE   worst  pooled  median KGE   worst  pooled"]
        for m, name in enumerate(self.simulations):
            values = (np.nanmedian(self.nse[m]), np.nanmin(self.nse[m]), self.pooled_nse[m],
                      np.nanmedian(self.kge[m]), np.nanmin(self.kge[m]), self.pooled_kge[m])  # fmt: skip
            widths = (10, 6, 6, 10, 6, 6)
            shown = (f"{value:{width}.3f}" for value, width in zip(values, widths, strict=True))
            lines.append(f"{name:{wide}}  {'  '.join(shown)}")
        return "\n".join(lines)


def score(basins: SeriesSet, period: Period, simulations: Mapping[str, np.ndarray]) -> Scores:
    """Measure simulations in a period.

    Args:
        basins: with the discharges.
        period: first and last day, behind the training.
        simulations: by name, each `[N]`, mm/day: a number for each row of the basins. Days without a discharge are
            left out; a simulation that is NaN on a day with one makes the score of its basin NaN.

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
    tables = {
        measure: np.array(
            [
                [
                    _measured(function, y, f)
                    for y, f in zip(by_basin(basins, observed), by_basin(basins, np.asarray(values)), strict=True)
                ]
                for values in simulations.values()
            ]
        )
        for measure, function in (("nse", nse), ("kge", kge))
    }
    pooled = {
        measure: np.array([_measured(function, observed, np.asarray(values)) for values in simulations.values()])
        for measure, function in (("nse", nse), ("kge", kge))
    }
    return Scores(tuple(simulations), basins.names, tables["nse"], tables["kge"], pooled["nse"], pooled["kge"])


def _measured(function: Callable[..., np.ndarray], observed: np.ndarray, simulated: np.ndarray) -> float:
    known = ~np.isnan(observed)
    simulated = simulated[known]
    if np.isnan(simulated).any():
        return np.nan
    return float(function(observed[known], simulated))


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
