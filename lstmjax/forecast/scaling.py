"""Scales of series, from what is known at the origin of a forecast only: a table.

A forecaster sees z = (transform(y) − location) / scale, with location and scale of the context of each window. What
lies behind the origin never enters.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from lstmjax.types import Array

RELATIVE = 1e-3
"""Smallest scale, as a fraction of the largest size in the context; of a constant series, which has no deviation."""
ROUNDING = 1e-13
"""Deviation, as a fraction of the size of the targets, up to which a series is constant: float64 computed it so."""


class Scaling(NamedTuple):
    """A row of `SCALINGS`."""

    name: str
    transform: Callable[[Array], Array]
    inverse: Callable[[Array], Array]
    log_slope: Callable[[Array], Array]
    """log of the transform's derivative at y, which turns a density of the transformed target into one of y."""
    statistics: Callable[[Array, Array, Array], tuple[Array, Array]]
    """(transformed context [..., C], known [..., C], size [...]) -> (location, scale), each `[...]`; 0 and 1 where
    nothing is. The size is that of the last target, from which differences are taken."""
    smallest: float = -jnp.inf
    """Targets must be larger."""
    logarithmic: bool = False
    """Whether a target is the exponential of what the network sees."""
    unit: Callable[[np.ndarray], float] | None = None
    """(targets before scaling) -> how large the unit of a scale of 1 is, in units of the targets; None: their own
    deviation, which is never too coarse."""
    differences: bool = False
    """Whether targets are differences from the last one of the context, with 48 bits of float64: location and
    samples are then, too. Otherwise a deviation of 1 at a level of 10⁹ would be lost in float32."""


def _identity(y: Array) -> Array:
    return y


def _zeros(y: Array) -> Array:
    return jnp.zeros_like(y)


def _mean_of(values: Array, known: Array) -> Array:
    count = jnp.sum(known, -1)
    return jnp.sum(jnp.where(known, values, 0.0), -1) / jnp.maximum(count, 1).astype(values.dtype)


def _bounded(scale: Array, values: Array, known: Array) -> Array:
    largest = jnp.max(jnp.where(known, jnp.abs(values), 0.0), -1)
    scale = jnp.maximum(scale, RELATIVE * largest)
    return jnp.where(scale > 0, scale, 1.0)  # nothing but zeros


def mean_size(values: Array, known: Array, size: Array) -> tuple[Array, Array]:
    """Return location 0 and the mean size of the context (DeepAR: Salinas et al. 2020, section 3.3)."""
    del size
    scale = _bounded(_mean_of(jnp.abs(values), known), values, known)
    return jnp.zeros_like(scale), scale


def standard(values: Array, known: Array, size: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation of the context; the scale of a constant one is a part of its size."""
    location = _mean_of(values, known)
    errors = jnp.where(known, values - location[..., None], 0.0)
    largest = jnp.max(jnp.abs(errors), -1)
    unit = jnp.where(largest > 0, largest, 1.0)  # squares of small and of large numbers do not fit float32
    deviation = unit * jnp.sqrt(_mean_of((errors / unit[..., None]) ** 2, known))
    constant = jnp.where(size > 0, RELATIVE * size, 1.0)
    return location, jnp.where(deviation > ROUNDING * size, deviation, constant)


def none(values: Array, known: Array, size: Array) -> tuple[Array, Array]:
    """Return location 0 and scale 1."""
    del known, size
    location = jnp.zeros(values.shape[:-1], values.dtype)
    return location, location + 1.0


def centred(values: Array, known: Array, size: Array) -> tuple[Array, Array]:
    """Return the mean of the context, and scale 1: for logarithms, whose differences are relative already."""
    del size
    location = _mean_of(values, known)
    return location, jnp.ones_like(location)


def _minus_log(y: Array) -> Array:
    return -jnp.log(y)


def _minus_log1p(y: Array) -> Array:
    return -jnp.log1p(y)


def _mean_size_of(y: np.ndarray) -> float:
    return float(np.mean(np.abs(y)))


def _size_of(y: np.ndarray) -> float:
    return float(np.median(y))  # a step of 1 in the logarithm is about one of the size of the target


def _size_above_minus_1(y: np.ndarray) -> float:
    return 1.0 + float(np.median(y))


def _one(y: np.ndarray) -> float:
    del y
    return 1.0


SCALINGS = MappingProxyType(
    {
        row.name: row
        for row in (
            Scaling("mean", _identity, _identity, _zeros, mean_size, unit=_mean_size_of),
            Scaling("standard", _identity, _identity, _zeros, standard, differences=True),
            Scaling("log", jnp.log, jnp.exp, _minus_log, centred, 0.0, True, _size_of),
            Scaling("log1p", jnp.log1p, jnp.expm1, _minus_log1p, centred, -1.0, True, _size_above_minus_1),
            Scaling("none", _identity, _identity, _zeros, none, unit=_one),
        )
    }
)
"""How targets are scaled, by name."""
