r"""Synthetic catchments: a rainfall-runoff model with a snow and a soil store, whose parameters are known.

All fluxes are in mm a day and all stores in mm. A day goes from (S, W) to (S', W'), in this order:

    snowfall, rain     F = P · (1 − T) / 2, the factor kept within 0 and 1;   R = P − F
    melt               M = min(S + F, d · max(T, 0));   S' = S + F − M
    quick runoff       Q₁ = (R + M) · (W / C)^β
    spill              Q₂ = max(W + R + M − Q₁ − C, 0)
    evapotranspiration E = min(V, PET · min(V / (0.7 C), 1)),   V = W + R + M − Q₁ − Q₂
    drainage           Q₃ = (V − E) / k;   W' = V − E − Q₃
    discharge          Q = Q₁ + Q₂ + Q₃

Between −1 and 1 °C a part of the precipitation is snow. The degree-day snow store and (W / C)^β are those of HBV
(Bergström 1976), E is HBV's with its limit at 0.7 C, and the drainage is a linear reservoir. What enters leaves or
stays: ΣP = ΣE + ΣQ + Δ(S + W), which a test checks to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lstmjax.forecast.series import SeriesError, SeriesSet
from lstmjax.hydrology.basins import basins_from_arrays

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LIMIT = 0.7
"""Fill of the soil store, as a fraction of its capacity, from which on evapotranspiration is not limited by it."""


class BucketParams(NamedTuple):
    """The parameters of S catchments, each `[S]`."""

    degree_day: np.ndarray
    """d, mm of melt for each °C and day."""
    capacity: np.ndarray
    """C of the soil store, mm."""
    shape: np.ndarray
    """β: how fast the part of the water that runs off grows as the soil fills."""
    residence: np.ndarray
    """k of the drainage, days."""


class Water(NamedTuple):
    """What a bucket model computes, each `[S, T]`; stores are those at the end of a day."""

    discharge: np.ndarray  # Q, mm/day
    evapotranspiration: np.ndarray  # E, mm/day
    snow: np.ndarray  # S, mm
    soil: np.ndarray  # W, mm


def bucket(
    precipitation: ArrayLike,
    temperature: ArrayLike,
    potential: ArrayLike,
    params: BucketParams,
    state: tuple[ArrayLike, ArrayLike] | None = None,
) -> Water:
    """Run the bucket model of the module's docstring, in float64.

    Args:
        precipitation: P, mm/day, `[S, T]`.
        temperature: T, °C, `[S, T]`.
        potential: PET, mm/day, `[S, T]`.
        params: of the catchments.
        state: (snow, soil) before the first day, mm, each `[S]`; None: no snow, and a soil that is half full.

    Raises:
        SeriesError: the shapes differ, or a value is missing or negative where it must not be.
    """
    p, t, pet = (np.asarray(values, np.float64) for values in (precipitation, temperature, potential))
    parameters = BucketParams(*(np.asarray(values, np.float64) for values in params))
    _check(p, t, pet, parameters)
    d, capacity, beta, k = parameters
    snow, soil = (np.zeros(len(p)), capacity / 2) if state is None else (np.asarray(s, np.float64) for s in state)
    water = Water(*(np.zeros(p.shape) for _ in Water._fields))
    for day in range(p.shape[1]):
        snowfall = p[:, day] * np.clip((1.0 - t[:, day]) / 2.0, 0.0, 1.0)
        melt = np.minimum(snow + snowfall, d * np.maximum(t[:, day], 0.0))
        snow = snow + snowfall - melt
        arriving = p[:, day] - snowfall + melt
        quick = arriving * (soil / capacity) ** beta
        spill = np.maximum(soil + arriving - quick - capacity, 0.0)
        filled = soil + arriving - quick - spill
        evaporated = np.minimum(filled, pet[:, day] * np.minimum(filled / (LIMIT * capacity), 1.0))
        drained = (filled - evaporated) / k
        soil = filled - evaporated - drained
        for name, values in zip(Water._fields, (quick + spill + drained, evaporated, snow, soil), strict=True):
            getattr(water, name)[:, day] = values
    return water


def _check(p: np.ndarray, t: np.ndarray, pet: np.ndarray, params: BucketParams) -> None:
    if not p.ndim == 2 or not p.shape == t.shape == pet.shape:
        raise SeriesError(
            f"precipitation is {list(p.shape)}, temperature {list(t.shape)}, potential {list(pet.shape)}; they should "
            "have one shape [S, T], catchments and days."
        )
    for name, values, least in (("precipitation", p, 0.0), ("temperature", t, -np.inf), ("potential", pet, 0.0)):
        wrong = ~(values >= least) | ~np.isfinite(values)
        if wrong.any():
            s, day = np.argwhere(wrong)[0]
            raise SeriesError(f"{name} is {values[s, day]:g} in catchment {s} on day {day}, expected finite numbers"
                              f"{'' if np.isinf(least) else ' from 0 on'}.")  # fmt: skip
    for name, least in (("degree_day", 0.0), ("capacity", 1e-9), ("shape", 0.0), ("residence", 1.0)):
        values = getattr(params, name)
        if values.shape != p.shape[:1] or not (np.isfinite(values) & (values >= least)).all():
            raise SeriesError(
                f"params.{name} is {values.tolist()}, expected a number of at least {least:g} for each of {len(p)} "
                "catchments."
            )


ATTRIBUTES = ("degree_day", "log_capacity", "shape", "log_residence", "mean_temperature", "mean_precipitation")
"""Static attributes of the synthetic catchments: their parameters, and what their weather is like."""

FORCING = ("precipitation", "temperature", "potential_evapotranspiration")
"""Meteorological forcing of the synthetic catchments: mm/day, °C, mm/day."""


def weather(
    rng: np.random.Generator, days: int, mean_temperature: np.ndarray, mean_precipitation: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw daily precipitation, temperature and potential evapotranspiration of S catchments, each `[S, days]`.

    Days are wet or dry by a Markov chain (a wet day follows a wet one with 0.65, a dry one with 0.25), wet days have
    gamma distributed depths; the temperature is a sine of the year, coldest in January, plus AR(1) noise. PET has the
    form of Oudin et al. (2005, eq. 3), R · max(T + 5, 0) / 100, with a sine of the year for the radiation R in mm/day.
    """
    count = len(mean_temperature)
    year = -np.cos(2 * np.pi * (np.arange(days) - 15) / 365.2425)
    wet, noise = np.zeros((count, days), bool), np.zeros((count, days))
    uniform, normal = rng.random((count, days)), rng.normal(0.0, 1.0, (count, days))
    for day in range(days):
        before = wet[:, day - 1] if day else np.zeros(count, bool)
        wet[:, day] = uniform[:, day] < np.where(before, 0.65, 0.25)
        noise[:, day] = 0.8 * (noise[:, day - 1] if day else 0.0) + 2.0 * normal[:, day]
    depth = rng.gamma(0.8, 1.0 / 0.8, (count, days))
    precipitation = np.where(wet, depth, 0.0) * mean_precipitation[:, None] * (0.6 / 0.25)  # 0.25 / 0.6 are wet
    temperature = mean_temperature[:, None] + 11.0 * year + noise
    potential = (10.0 + 6.0 * year) * np.maximum(temperature + 5.0, 0.0) / 100.0
    return precipitation, temperature, potential


def synthetic_basins(
    count: int = 10, *, years: int = 20, seed: int = 0, start: str = "1990-01-01"
) -> tuple[SeriesSet, Water]:
    """Return catchments with discharge, forcing and attributes, and the water in them, for tests and lessons.

    Args:
        count: S, catchments.
        years: of 365 days.
        seed: of the parameters and the weather.
        start: the first day.

    Returns:
        The basins, with discharge in mm/day, `FORCING` and `ATTRIBUTES`; and the water in them, day by day.

    >>> basins, water = synthetic_basins(3, years=2)
    >>> len(basins), water.snow.shape
    (3, (3, 730))
    """
    rng = np.random.default_rng(seed)

    def spread(low: float, high: float) -> np.ndarray:
        """Spread numbers evenly between two, in random order, so that no two parameters go together."""
        return rng.permutation(np.linspace(low, high, count))

    params = BucketParams(spread(2.0, 5.0), np.exp(spread(4.2, 5.7)), spread(1.0, 4.0), np.exp(spread(2.5, 4.6)))
    mean_temperature, mean_precipitation = spread(0.0, 12.0), spread(2.0, 5.0)
    forcing = weather(rng, 365 * years, mean_temperature, mean_precipitation)
    water = bucket(*forcing, params)
    attributes = (
        params.degree_day, np.log(params.capacity), params.shape, np.log(params.residence), mean_temperature,
        mean_precipitation,
    )  # fmt: skip
    basins = basins_from_arrays(
        water.discharge, np.stack(forcing, -1), np.stack(attributes, -1), start=start,
        names=[f"basin-{s}" for s in range(count)], forcing_names=FORCING, attribute_names=ATTRIBUTES,
    )  # fmt: skip
    return basins, water
