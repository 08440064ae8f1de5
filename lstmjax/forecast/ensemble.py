"""Networks of one design that forecast together: their samples are pooled, and share one spread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lstmjax.arguments import described
from lstmjax.forecast.arguments import check_factor, check_is, has_entries
from lstmjax.forecast.design import Design
from lstmjax.forecast.forecaster import Forecast, Forecaster, joined_batches, places, sampled
from lstmjax.forecast.series import SeriesSet
from lstmjax.forecast.spread import pooled


@dataclass(frozen=True)
class Ensemble:
    """Networks of one design; what they forecast is the mixture of their distributions."""

    forecasters: tuple[Forecaster, ...]
    """At least one, of the same design."""
    spread: float | None = None
    """Factor of the distance of the pooled samples from their median; see `fit_ensemble`. None: the samples of each
    network have the spread of that network, so that the pool of networks that differ is wider than they are."""

    def __post_init__(self) -> None:
        if not has_entries(self.forecasters):
            raise TypeError(f"forecasters is {described(self.forecasters)}, expected a tuple of Forecaster.")
        if not len(self.forecasters):
            raise ValueError("forecasters is empty, expected at least one network.")
        if self.spread is not None:
            check_factor("spread", self.spread)
        for k, forecaster in enumerate(self.forecasters):
            check_is(f"forecasters[{k}]", forecaster, Forecaster, "fit_forecaster returns one.")
            if forecaster.design != self.design:
                raise ValueError(
                    f"forecasters has networks of different designs: number {k} has {forecaster.design}, and number 0 "
                    f"{self.design}. Pool the samples of different designs by np.concatenate(..., axis=1)."
                )

    @property
    def design(self) -> Design:
        """What is fixed about the networks."""
        return self.forecasters[0].design

    def forecast(
        self,
        series: SeriesSet,
        *,
        origins: np.ndarray | None = None,
        which: np.ndarray | None = None,
        samples: int = 200,
        seed: int = 0,
        batch_size: int = 256,
    ) -> Forecast:
        """Sample the horizon of each series by each network.

        Args:
            series, origins, which, batch_size: as for `Forecaster.forecast`.
            samples: how many to draw of each network, so that the forecast has as many times the number of networks.
            seed: of the draws of the first network; that of the next one is higher by 1.

        Raises:
            SeriesError, NotFiniteError: as `Forecaster.forecast`.
        """
        which, origins = places(series, which, origins)
        batches = self.batches(series, which, origins, samples=samples, seed=seed, batch_size=batch_size)
        drawn = joined_batches([self.pooled(parts) for _, parts in batches])
        return Forecast(drawn, origins, tuple(series.names[s] for s in which), self.design.has_mean)

    def batches(
        self, series: SeriesSet, which: np.ndarray, origins: np.ndarray, *, samples: int, seed: int, batch_size: int
    ) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """Sample batch by batch; see `sampled`."""
        return sampled(self.forecasters, series, which, origins, samples=samples, seed=seed, batch_size=batch_size)

    def pooled(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the samples of all networks together, `[N, all samples, H]`, with their spread scaled.

        Args:
            parts: samples of each network, `[N, samples, H]`, none of them scaled.
        """
        return pooled(parts, [forecaster.spread for forecaster in self.forecasters], self.spread, self.design)
