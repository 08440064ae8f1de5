"""Scales of series, from what is known at the origin of a forecast only: a table.

A forecaster sees z = (transform(y) − location) / scale, with location and scale of the context of each window. What
lies behind the origin never enters.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

import jax.numpy as jnp

from lstmjax.types import Array

RELATIVE = 1e-3
"""Smallest scale, as a fraction of the largest size in the context: a constant series has no standard deviation."""


class Scaling(NamedTuple):
    """A row of `SCALINGS`."""

    name: str
    transform: Callable[[Array], Array]
    inverse: Callable[[Array], Array]
    log_slope: Callable[[Array], Array]
    """log of the transform's derivative at y, which turns a density of the transformed target into one of y."""
    statistics: Callable[[Array, Array], tuple[Array, Array]]
    """(transformed context [..., C], known [..., C]) -> (location, scale), each `[...]`; 0 and 1 where nothing is."""
    smallest: float = -jnp.inf
    """Targets must be larger."""
    logarithmic: bool = False
    """Whether a target is the exponential of what the network sees."""


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


def mean_size(values: Array, known: Array) -> tuple[Array, Array]:
    """Return location 0 and the mean size of the context (DeepAR: Salinas et al. 2020, section 3.3)."""
    scale = _bounded(_mean_of(jnp.abs(values), known), values, known)
    return jnp.zeros_like(scale), scale


def standard(values: Array, known: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation of the context."""
    location = _mean_of(values, known)
    deviation = jnp.sqrt(_mean_of((values - location[..., None]) ** 2, known))
    return location, _bounded(deviation, values, known)


def none(values: Array, known: Array) -> tuple[Array, Array]:
    """Return location 0 and scale 1."""
    location = jnp.zeros(values.shape[:-1], values.dtype)
    return location, location + 1.0


def centred(values: Array, known: Array) -> tuple[Array, Array]:
    """Return the mean of the context, and scale 1: for logarithms, whose differences are relative already."""
    location = _mean_of(values, known)
    return location, jnp.ones_like(location)


def _minus_log(y: Array) -> Array:
    return -jnp.log(y)


def _minus_log1p(y: Array) -> Array:
    return -jnp.log1p(y)


SCALINGS = MappingProxyType(
    {
        row.name: row
        for row in (
            Scaling("mean", _identity, _identity, _zeros, mean_size),
            Scaling("standard", _identity, _identity, _zeros, standard),
            Scaling("log", jnp.log, jnp.exp, _minus_log, centred, 0.0, True),
            Scaling("log1p", jnp.log1p, jnp.expm1, _minus_log1p, centred, -1.0, True),
            Scaling("none", _identity, _identity, _zeros, none),
        )
    }
)
"""How targets are scaled, by name."""
