"""The spread of samples around their median, and the factor by which it should be larger or smaller."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmjax.arguments import described
from lstmjax.forecast.arguments import as_numbers, check_factor, check_share
from lstmjax.forecast.design import Design
from lstmjax.forecast.metrics import check_samples
from lstmjax.forecast.scaling import SCALINGS, Scaling
from lstmjax.forecast.series import SeriesError


def spread_factor(samples: np.ndarray, target: np.ndarray, level: float = 0.8) -> float:
    """Return the factor of the spread at which central intervals cover a share `level` of the targets.

    The score of a target y is its distance from the median, in half-widths of the interval on its side:

        (y − q½) / (q₊ − q½)  above the median,  (q½ − y) / (q½ − q₋)  below it

    The factor is the ⌈(n + 1) level⌉-th smallest of n scores: conformal quantile regression in its multiplicative form
    (Romano et al. 2019; Kivaranovic et al. 2020). All series and steps are pooled.

    Args:
        samples: `[..., samples, H]`, forecasts that have not seen the targets.
        target: `[..., H]`; NaN where there is none.
        level: share of the targets that the interval is to cover.

    Raises:
        ValueError: no targets, or a level that is no share.
        SeriesError: intervals without width, or medians that are the targets.
    """
    check_share("level", level)
    y, samples = as_numbers("target", target), as_numbers("samples", samples)
    check_samples(samples, y)
    low, middle, high = np.quantile(samples, [(1 - level) / 2, 0.5, (1 + level) / 2], axis=-2)
    distance = np.abs(y - middle)
    width = np.where(y > middle, high - middle, middle - low)
    beyond = np.where(distance > 0, np.inf, 0.0)  # of an interval without width
    scores = np.where(width > 0, distance / np.where(width > 0, width, 1.0), beyond)[~np.isnan(y)]
    if not len(scores):
        raise ValueError("target is NaN everywhere; a spread needs targets to be compared with.")
    factor = float(np.sort(scores)[min(math.ceil((len(scores) + 1) * level), len(scores)) - 1])
    if not 0.0 < factor < math.inf:
        raise SeriesError(
            f"the factor of the spread is {factor:g}: "
            + ("the intervals have no width. " if factor else "the medians are the targets. ")
            + "Calibrate samples of a distribution, at origins with targets."
        )
    return factor


def scaled_spread(samples: np.ndarray, factor: float) -> np.ndarray:
    """Return samples `[..., samples, H]` with their distances from the median of each step multiplied by a factor.

    The order of the samples at each step stays, so that paths keep the dependence between their steps.

    >>> scaled_spread(np.asarray([[[1.0], [3.0], [9.0]]]), 0.5).ravel()
    array([2., 3., 6.])
    """
    check_factor("factor", factor)
    samples = np.asarray(samples)
    if samples.ndim < 2 or samples.dtype.kind != "f":
        raise ValueError(f"samples is {described(samples)}, expected floating-point numbers [..., samples, H].")
    middle = np.median(samples, axis=-2, keepdims=True)
    return middle + (samples - middle) * samples.dtype.type(factor)


def respread(samples: np.ndarray, factor: float, design: Design) -> np.ndarray:
    """Return forecasts `[..., samples, H]` of a design with their spread scaled where any real number would be one."""
    return samples if factor == 1.0 else closed(scaled_spread(opened(samples, design), factor), design)


def pooled(parts: Sequence[np.ndarray], spreads: Sequence[float], spread: float | None, design: Design) -> np.ndarray:
    """Return the samples of several networks together, `[..., all samples, H]`, and scale their spread.

    Args:
        parts: samples of each network, `[..., samples, H]`, none of them scaled.
        spreads: the factor of each network alone.
        spread: the factor of all samples together; None: the samples of each network are scaled by its factor.
        design: of the networks.
    """
    if spread is not None:
        return respread(_together(parts), spread, design)
    return _together([respread(part, factor, design) for part, factor in zip(parts, spreads, strict=True)])


def _together(parts: Sequence[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, -2)  # which would copy one part, too


def opened(targets: Any, design: Design) -> np.ndarray:
    """Return targets or samples where any real number would be one, as logarithms if they are positive."""
    return np.asarray(_opening(design).transform(targets))


def closed(values: Any, design: Design) -> np.ndarray:
    """Undo `opened`."""
    return np.asarray(_opening(design).inverse(values))


def _opening(design: Design) -> Scaling:
    return SCALINGS["log"] if design.head.support == "positive" else design.scale
