"""A forecaster: fitted on a set of series, it samples their future."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.arguments import check_positive
from lstmjax.errors import UserError
from lstmjax.forecast.arguments import array_or_objects, as_levels, as_seed, as_which, check_factor, check_is
from lstmjax.forecast.design import Design
from lstmjax.forecast.metrics import median
from lstmjax.forecast.network import ForecastParams, Normal, sample
from lstmjax.forecast.origins import check_future, checked_pieces, only_read, references
from lstmjax.forecast.series import SeriesError, SeriesSet
from lstmjax.forecast.spread import respread
from lstmjax.forecast.windows import Table, cut, on_device
from lstmjax.types import Array

Levels = tuple[tuple[str, tuple[str, ...]], ...]
"""Name and values of each static category."""


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
        """Return quantiles of the samples, `[S, H, Q]`, at levels `[Q]` from 0 to 1."""
        return np.moveaxis(np.quantile(self.samples, as_levels("levels", levels), axis=1), 0, -1)


@dataclass(frozen=True)
class Forecaster:
    """A fitted network, and what it needs beside its parameters."""

    params: ForecastParams
    design: Design
    normal: Normal
    levels: Levels = ()
    """Name and values of each static category."""
    losses: tuple[float, ...] = ()
    """Mean negative log density of each chunk of training steps."""
    columns: tuple[tuple[str, ...], ...] | None = None
    """Names of the past, the known and the static numbers in the training; None: not recorded (older files)."""
    spread: float = 1.0
    """Factor of the distance of samples from their median; see `fit_calibrated`."""

    def __post_init__(self) -> None:
        check_is("design", self.design, Design, "Pass Design(horizon=..., context=...).")
        check_factor("spread", self.spread)

    def matched(self, series: SeriesSet) -> SeriesSet:
        """Return the series with their categories numbered as in the training.

        A value of a category that no training series had gets the embedding that stands for all of these; see
        `Training.unseen`.

        Raises:
            SeriesError: other covariates or categories than in the training, or in another order.

        Warns:
            UserWarning: a series has a value of a category that no training series had.
        """
        check_is("series", series, SeriesSet, "from_arrays and from_frame make one.")
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
            TypeError, ValueError: another argument is not as it is described here.
        """
        which, origins = places(series, which, origins)
        batches = sampled((self,), series, which, origins, samples=samples, seed=seed, batch_size=batch_size)
        parts = []
        for at, (drawn,) in batches:
            parts.append(respread(drawn, self.spread, self.design))
            check_forecasts(parts[-1], series, which[at], origins[at])
        return Forecast(joined_batches(parts), origins, tuple(series.names[s] for s in which), self.design.has_mean)


def places(series: SeriesSet, which: np.ndarray | None, origins: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the series to forecast and the origins, int64 `[N]` both; see `Forecaster.forecast`."""
    check_is("series", series, SeriesSet, "from_arrays and from_frame make one.")
    which = np.arange(len(series)) if which is None else as_which(which, len(series))
    if origins is None:
        return which, series.lengths[which]
    origins = array_or_objects(origins)
    if origins.dtype.kind not in "iu":
        raise SeriesError(f"origins has the dtype {origins.dtype}, expected whole numbers: steps of each series.")
    if origins.shape != (len(which),):
        raise SeriesError(f"origins is {list(origins.shape)}, expected one for each of {len(which)} series.")
    return which, origins.astype(np.int64)


def sampled(
    forecasters: Sequence[Forecaster],
    series: SeriesSet,
    which: np.ndarray,
    origins: np.ndarray,
    *,
    samples: int,
    seed: int,
    batch_size: int,
) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Sample the horizons of N forecasts batch by batch, so that no more than a batch of each network is held.

    Args:
        forecasters: networks of one design.
        series, samples, batch_size: as for `Forecaster.forecast`.
        which, origins: int64 `[N]`.
        seed: of the draws of the first network; that of the next one is higher by 1.

    Yields:
        Which of the N forecasts a batch has, and the samples `[B, samples, H]` of each network, whose spread is not
        scaled.
    """
    check_positive("samples", samples)
    samples = int(samples)  # an array that is a number would not be hashable
    check_positive("batch_size", batch_size)
    seeds = [as_seed("seed", seed) + k for k in range(len(forecasters))]
    design = forecasters[0].design
    matched = {forecaster.levels: forecaster.matched(series) for forecaster in forecasters}  # mostly all have the same
    tables: dict[Levels, Table] = {}
    if series.folder is None:
        for levels, of in matched.items():
            matched[levels] = of.extended(design.horizon)
            check_future(matched[levels], which, origins, design)
            tables[levels] = on_device(only_read(matched[levels], which, origins, design), design)
    batches = -(-len(which) // batch_size)
    size = -(-len(which) // batches)  # batches of one size, so that one program serves all
    keys = [_batch_keys(jax.random.key(number), batches) for number in seeds]
    for batch, start in enumerate(range(0, len(which), size)):
        # the last batch repeats its last series
        chosen = np.minimum(np.arange(start, start + size), len(which) - 1)
        numbers, at = which[chosen], origins[chosen]
        if series.folder is not None:
            for levels, of in matched.items():
                tables[levels], at = checked_pieces(of, which[chosen], origins[chosen], design)
            numbers = np.arange(size)
        place = slice(start, min(start + size, len(which)))
        differs_from = references(series, which[place], origins[place]) if design.scale.differences else None
        parts = []
        for forecaster, network_keys in zip(forecasters, keys, strict=True):
            drawn = _forecast(
                forecaster.params, tables[forecaster.levels], np.asarray(numbers, np.int32), np.asarray(at, np.int32),
                network_keys[batch], forecaster.normal, design=design, samples=samples,
            )  # fmt: skip
            part = np.swapaxes(np.asarray(drawn)[: len(which) - start], 1, 2)
            check_forecasts(part, series, which[place], origins[place])
            parts.append(part if differs_from is None else part + differs_from[:, None, None])
        yield place, parts


def check_forecasts(drawn: np.ndarray, series: SeriesSet, which: np.ndarray, origins: np.ndarray) -> None:
    """Refuse samples `[N, samples, H]` that are not numbers."""
    wrong = np.any(np.isnan(drawn), axis=(1, 2))
    if wrong.any():
        s = int(np.argmax(wrong))
        before = series.history(which[s], origins[s])
        raise NotFiniteError(
            f"the forecast of series {series.names[which[s]]!r} is not a number; its targets go from "
            f"{np.nanmin(before):g} to {np.nanmax(before):g}. Bring them to units in which squares fit float32, or "
            "take another scaling."
        )


def joined_batches(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the samples of batches, `[B, samples, H]` each, together; those of a step stay side by side."""
    if len(parts) == 1:
        return parts[0]
    return np.swapaxes(np.concatenate([np.swapaxes(part, 1, 2) for part in parts]), 1, 2)


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
