"""Networks of one design that forecast together: their samples are pooled, and share one spread."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lstmjax.forecast.design import Design
from lstmjax.forecast.forecaster import Forecast, Forecaster
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
        if not self.forecasters:
            raise ValueError("forecasters is empty, expected at least one network.")
        for k, forecaster in enumerate(self.forecasters):
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
        parts = [
            replace(forecaster, spread=1.0).forecast(
                series, origins=origins, which=which, samples=samples, seed=seed + k, batch_size=batch_size
            )
            for k, forecaster in enumerate(self.forecasters)
        ]
        spreads = [forecaster.spread for forecaster in self.forecasters]
        drawn = pooled([part.samples for part in parts], spreads, self.spread, self.design)
        return parts[0]._replace(samples=drawn)
