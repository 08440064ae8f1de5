"""Logarithms of gamma functions and of ratios without the cancellation that costs float32 its digits.

The densities of counts and of Student's t are differences of log-gamma functions: of numbers as large as 10¹⁰, where
the result is of size 1. Here the large parts of Stirling's formula are cancelled on paper, and only what is small is
computed (Loader 2000, "Fast and accurate computation of binomial probabilities").
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma

from lstmjax.types import Array

SERIES_FROM = 4.0
"""Where the series below are as good as float64 needs here (3e-11), and the differences still are."""
HALF_LOG_2_PI = 0.9189385332046728
COEFFICIENTS = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
"""Of x⁻¹, x⁻³, x⁻⁵, …: B₂ₖ / (2k (2k − 1))."""
SMALL = 0.25
"""Size of x − 1 below which log x − (x − 1) is summed as a series."""


@jax.custom_jvp
def stirling_error(x: Array) -> Array:
    """Return what Stirling's formula lacks, for x > 0:

    log Γ(x) − ((x − 1/2) log x − x + 1/2 log 2π)
    """
    far = jnp.maximum(x, SERIES_FROM)
    near = jnp.minimum(x, SERIES_FROM)
    # of x + 1, as the logarithm of Γ(x) has no digits for small x
    direct = jax.lax.lgamma(near + 1.0) - (near + 0.5) * jnp.log(near) + near - HALF_LOG_2_PI
    return jnp.where(x < SERIES_FROM, direct, _polynomial(1.0 / far**2, COEFFICIENTS) / far)


@stirling_error.defjvp
def _stirling_error_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (slope,) = primals, tangents
    return stirling_error(x), stirling_error_slope(x) * slope


def stirling_error_slope(x: Array) -> Array:
    """Return the derivative of `stirling_error`: ψ(x) − log x + 1 / 2x."""
    far = jnp.maximum(x, SERIES_FROM)
    near = jnp.minimum(x, SERIES_FROM)
    direct = digamma(near) - jnp.log(near) + 0.5 / near
    slopes = [-(2 * k + 1) * c for k, c in enumerate(COEFFICIENTS)]
    return jnp.where(x < SERIES_FROM, direct, _polynomial(1.0 / far**2, slopes) / far**2)


@jax.custom_jvp
def log_minus(ratio: Array, distance: Array) -> Array:
    """Return log x − (x − 1) from x, `ratio`, and x − 1, `distance`, each without the rounding of the other.

    The derivative is with respect to `distance`.
    """
    small = jnp.clip(distance, -SMALL, SMALL)
    v = small / (2.0 + small)
    # log(1 + d) = 2 artanh v, and 2 v − d = −d v
    series = -small * v + 2.0 * v**3 * _polynomial(v**2, [1 / (2 * k + 3) for k in range(9)])
    large = jnp.where(jnp.abs(distance) < SMALL, 1.0, ratio)
    return jnp.where(jnp.abs(distance) < SMALL, series, jnp.log(large) - distance)


@log_minus.defjvp
def _log_minus_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    ratio, distance = primals
    return log_minus(ratio, distance), -distance / ratio * tangents[1]


def _polynomial(x: Array, coefficients: list[float] | tuple[float, ...]) -> Array:
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total
