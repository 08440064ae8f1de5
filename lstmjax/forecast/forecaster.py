"""A forecaster: fitted on a set of series, it samples their future."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.errors import UserError
from lstmjax.forecast.design import Design
from lstmjax.forecast.metrics import median
from lstmjax.forecast.network import ForecastParams, Normal, sample
from lstmjax.forecast.origins import check_future, checked_pieces, references
from lstmjax.forecast.series import SeriesError, SeriesSet
from lstmjax.forecast.spread import respread
from lstmjax.forecast.windows import Table, cut, on_device
from lstmjax.types import Array


class NotFiniteError(UserError, FloatingPointError):
    """A loss is not finite, or a forecast is not a number."""


class Forecast(NamedTuple):
    """Samples of the future of S series at their origins."""

    samples: np.ndarray
    """float32 `[S, samples, H]`, in units of the targets; float64 under the scaling "standard"."""
    origins: np.ndarray
    """int64 `[S]`, the first step of the forecast, counted from the beginning of the series."""
    names: tuple[str, ...]
    has_mean: bool = True
    """Whether the distribution has a mean: Student's t of logarithms has none."""

    @property
    def mean(self) -> np.ndarray:
        """The mean of the samples, `[S, H]`; NaN where the distribution has none."""
        return self.samples.mean(1) if self.has_mean else np.full_like(self.samples[:, 0], np.nan)

    @property
    def median(self) -> np.ndarray:
        """The median of the samples, `[S, H]`."""
        return median(self.samples, 1)

    def quantiles(self, levels: Sequence[float]) -> np.ndarray:
        """Return quantiles of the samples, `[S, H, Q]`."""
        return np.moveaxis(np.quantile(self.samples, np.asarray(levels), axis=1), 0, -1)


@dataclass(frozen=True)
class Forecaster:
    """A fitted network, and what it needs beside its parameters."""

    params: ForecastParams
    design: Design
    normal: Normal
    levels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Name and values of each static category."""
    losses: tuple[float, ...] = ()
    """Mean negative log density of each chunk of training steps."""
    columns: tuple[tuple[str, ...], ...] | None = None
    """Names of the past, the known and the static numbers in the training; None: not recorded (older files)."""
    spread: float = 1.0
    """Factor of the distance of samples from their median; see `fit_calibrated`."""

    def matched(self, series: SeriesSet) -> SeriesSet:
        """Return the series with their categories numbered as in the training.

        A value of a category that no training series had gets the embedding that stands for all of these; see
        `Training.unseen`.

        Raises:
            SeriesError: other covariates or categories than in the training, or in another order.

        Warns:
            UserWarning: a series has a value of a category that no training series had.
        """
        for part, (mean, _), has in (
            ("past covariates", self.normal.past, series.past),
            ("known covariates", self.normal.known, series.known),
            ("static numbers", self.normal.numbers, series.numbers),
        ):
            if has.shape[1] != len(mean):
                raise SeriesError(
                    f"the series have {has.shape[1]} {part}, but the network was fitted with {len(mean)}. Pass series "
                    "with the covariates of the training, calendar features among them."
                )
        names = columns_of(series)
        if self.columns is not None and names != self.columns:
            shown = (", ".join(name for part in of for name in part) for of in (names, self.columns))
            raise SeriesError(
                "the series have the covariates {}, but the network was fitted with {}, in this order.".format(*shown)
            )
        if [name for name, _ in series.levels] != [name for name, _ in self.levels]:
            shown = (", ".join(name for name, _ in of) or "none" for of in (series.levels, self.levels))
            raise SeriesError(
                "the series have the categories {}, but the network was fitted with {}, in this order.".format(*shown)
            )
        if series.levels == self.levels:
            return series
        columns = []
        for k, ((name, values), (_, learnt)) in enumerate(zip(series.levels, self.levels, strict=True)):
            numbers = [learnt.index(value) if value in learnt else len(learnt) for value in values]
            columns.append(np.asarray(numbers, np.int64)[series.categories[:, k]])
            new = np.flatnonzero(columns[-1] == len(learnt))
            if len(new):
                value, are = values[series.categories[new[0], k]], "is" if len(new) == 1 else "are"
                warnings.warn(
                    f"no series of the training had {name} {value!r}, as {series.names[new[0]]!r} has; "
                    f"{len(new)} of {len(series)} series {are} forecast with the embedding of an unknown {name}.",
                    stacklevel=2,
                )
        return replace(series, categories=np.stack(columns, 1), levels=self.levels)

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
        """Sample the horizon of each series.

        Args:
            series: with the covariates that the network was fitted with. Known covariates are needed for the horizon,
                as rows behind the last target.
            origins: whole numbers `[S]`, the first step to forecast of each; None: the one behind the last target.
                Targets from there on are not read.
            which: whole numbers `[S]`, the series to forecast, any of them more than once; None: each once.
            samples: how many to draw.
            seed: of the draws. These depend on the place of a series among the others and on batch_size, too: a part
                of the series has other draws of the same distribution.
            batch_size: series that are sampled together, at most.

        Raises:
            SeriesError: other covariates than in the training, known ones that are missing in the horizon, or an
                origin without a target in its context.
            NotFiniteError: a forecast is not a number.
        """
        design = self.design
        if samples < 1:
            raise ValueError(f"samples is {samples}, expected at least 1.")
        which = np.arange(len(series)) if which is None else np.asarray(which)
        origins = series.lengths[which] if origins is None else np.asarray(origins)
        if origins.dtype.kind not in "iu":
            raise SeriesError(f"origins has the dtype {origins.dtype}, expected whole numbers: steps of each series.")
        if origins.shape != (len(which),):
            raise SeriesError(f"origins is {list(origins.shape)}, expected one for each of {len(which)} series.")
        origins = origins.astype(np.int64)
        series = self.matched(series)
        table = None
        if series.folder is None:
            series = series.extended(design.horizon)
            check_future(series, which, origins, design)
            table = on_device(series, design)
        batches = max(-(-len(which) // batch_size), 1)
        size = -(-len(which) // batches)  # batches of one size, so that one program serves all
        keys = _batch_keys(jax.random.key(seed), batches)
        parts = []
        for start, key in zip(range(0, len(which), size), keys, strict=True):
            # the last batch repeats its last series
            chosen = np.minimum(np.arange(start, start + size), len(which) - 1)
            numbers, at = which[chosen], origins[chosen]
            batch_table = table
            if batch_table is None:
                batch_table, at = checked_pieces(series, numbers, at, design)
                numbers = np.arange(size)
            drawn = _forecast(
                self.params, batch_table, np.asarray(numbers, np.int32), np.asarray(at, np.int32), key,
                self.normal, design=design, samples=samples,
            )  # fmt: skip
            parts.append(np.asarray(drawn)[: len(which) - start])
        drawn = np.swapaxes(parts[0] if len(parts) == 1 else np.concatenate(parts), 1, 2)
        drawn = respread(drawn, self.spread, design)
        wrong = np.any(np.isnan(drawn), axis=(1, 2))
        if wrong.any():
            s = int(np.argmax(wrong))
            before = series.history(which[s], origins[s])
            raise NotFiniteError(
                f"the forecast of series {series.names[which[s]]!r} is not a number; its targets go from "
                f"{np.nanmin(before):g} to {np.nanmax(before):g}. Bring them to units in which squares fit float32, or "
                "take another scaling."
            )
        if design.scale.differences:
            drawn = drawn + references(series, which, origins)[:, None, None]
        return Forecast(drawn, origins, tuple(series.names[s] for s in which), design.has_mean)


def columns_of(series: SeriesSet) -> tuple[tuple[str, ...], ...]:
    """Return the names of the past covariates, the known ones and the static numbers."""
    return series.past_names, series.known_names, series.number_names


@partial(jax.jit, static_argnames=("design", "samples"))
def _forecast(
    params: ForecastParams,
    table: Table,
    which: Array,
    origins: Array,
    key: Array,
    normal: Normal,
    *,
    design: Design,
    samples: int,
) -> Array:
    """Return samples `[B, H, samples]`: those of a step side by side, as medians and quantiles read them."""
    return jnp.moveaxis(sample(params, cut(table, which, origins, design), design, normal, key, samples), 0, -1)


@partial(jax.jit, static_argnums=1)
def _batch_keys(key: Array, batches: int) -> tuple[Array, ...]:
    return tuple(jax.random.split(key, batches))
