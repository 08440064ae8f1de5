"""What the numbers of a head mean: a table of distributions.

A row turns the head's outputs, `[..., W]` real numbers, into the parameters of a distribution of one target, in units
of the target's scale: y = location + scale · z. All are differentiable, and finite for finite outputs: scales are
bounded below by `SMALLEST`, so that a long run of zeros cannot drive a density to infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy import stats
from jax.scipy.special import digamma, logsumexp

from lstmjax.forecast.stirling import HALF_LOG_2_PI, log_minus, stirling_error, stirling_error_slope
from lstmjax.types import Array

SMALLEST = 1e-3
"""Smallest scale parameter, in units of the target's scale."""
LARGEST_COUNT = 2.0**24
"""Rate up to which counts are Poisson's, and normal above: there float32 holds no odd numbers any more."""
COMPONENTS = 3
"""Asymmetric Laplacians in a mixture, as in Klotz et al. 2022."""
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Levels of the quantile head."""


class Likelihood(NamedTuple):
    """A row of `LIKELIHOODS`.

    `outputs` is always `[..., width]`, and `scale` and `y` broadcast against `[...]`. The location has been subtracted
    from y already.
    """

    name: str
    width: int
    """W, outputs of the head for each target."""
    log_prob: Callable[[Array, Array, Array], Array]
    """(outputs, y, scale) -> log density of y; for rows that are no distribution, minus the loss."""
    sample: Callable[[Array, Array, Array], Array]
    """(key, outputs, scale) -> one sample for each output."""
    mean: Callable[[Array, Array], Array]
    """(outputs, scale) -> mean (for the quantile head, the median)."""
    bias: tuple[float, ...]
    """Initial bias of the head, so that training begins with a distribution of the data's width."""
    location: tuple[int, ...] = (0,)
    """Outputs that move the distribution along y / scale, to which a seasonal value may be added."""
    support: str = "real"
    """"real"; "positive": y > 0; "count": y = 0, 1, 2, …"""
    exponential_has_mean: bool = True
    """Whether exp(y) has a mean: not where the tails are those of a power of y."""


def _positive(raw: Array) -> Array:
    return jax.nn.softplus(raw) + SMALLEST


# Gaussian: z ~ N(μ, σ²)


def _gaussian_log_prob(outputs: Array, y: Array, scale: Array) -> Array:
    return stats.norm.logpdf(y / scale, outputs[..., 0], _positive(outputs[..., 1])) - jnp.log(scale)


def _gaussian_sample(key: Array, outputs: Array, scale: Array) -> Array:
    noise = jax.random.normal(key, outputs.shape[:-1], outputs.dtype)
    return scale * (outputs[..., 0] + _positive(outputs[..., 1]) * noise)


# Student's t: heavier tails, ν > 2 degrees of freedom so that the variance exists


def _degrees(raw: Array) -> Array:
    return 2.0 + _positive(raw)


def _student_log_prob(outputs: Array, y: Array, scale: Array) -> Array:
    nu, sigma = _degrees(outputs[..., 2]), _positive(outputs[..., 1])
    z = (y / scale - outputs[..., 0]) / sigma
    half, ratio = 0.5 * nu, 0.5 / (0.5 * nu)
    # log Γ((ν + 1) / 2) − log Γ(ν / 2) − 1/2 log(ν / 2), each of which is large where ν is
    gammas = stirling_error(half + 0.5) - stirling_error(half) + half * log_minus(1.0 + ratio, ratio)
    return gammas - HALF_LOG_2_PI - _tail(z, nu) - jnp.log(sigma) - jnp.log(scale)


def _tail(z: Array, nu: Array) -> Array:
    """Return (ν + 1) / 2 · log(1 + z² / ν); for small z² / ν as z² / 2 and what differs from it."""
    size = jnp.abs(z) / jnp.sqrt(nu)
    inner = size < 1.0
    near = jnp.where(inner, z, 0.0)
    w = near**2 / nu
    central = 0.5 * near**2 * (1.0 + 1.0 / nu) + 0.5 * (nu + 1.0) * log_minus(1.0 + w, w)
    far = jnp.where(inner, 1.0, size)  # its square may not fit float32
    outer = 0.5 * (nu + 1.0) * (2.0 * jnp.log(far) + jnp.log1p(1.0 / far / far))
    return jnp.where(inner, central, outer)


def _student_sample(key: Array, outputs: Array, scale: Array) -> Array:
    # √(ν (U^(−2/ν) − 1)) cos 2πV has Student's t distribution (Bailey 1994): no rejection, as jax.random.t has
    nu = _degrees(outputs[..., 2])
    radius_key, angle_key = jax.random.split(key)
    u = jax.random.uniform(radius_key, nu.shape, nu.dtype, jnp.finfo(nu.dtype).tiny, 1.0)
    angle = jax.random.uniform(angle_key, nu.shape, nu.dtype, 0.0, 2.0 * jnp.pi)
    noise = jnp.sqrt(nu * jnp.expm1(-2.0 / nu * jnp.log(u))) * jnp.cos(angle)
    return scale * (outputs[..., 0] + _positive(outputs[..., 1]) * noise)


# Log-normal: log z ~ N(μ, σ²)


def _log_normal_log_prob(outputs: Array, y: Array, scale: Array) -> Array:
    positive = jnp.where(y > 0, y, 1.0)  # the density at 0 and below is 0; no infinity may reach the gradient
    # a quotient beyond float32 would have an infinite logarithm; two logarithms have fewer digits
    ratio = positive / scale
    fits = (ratio > jnp.finfo(ratio.dtype).tiny) & (ratio < jnp.inf)
    logs = jnp.where(fits, jnp.log(jnp.where(fits, ratio, 1.0)), jnp.log(positive) - jnp.log(scale))
    density = stats.norm.logpdf(logs, outputs[..., 0], _positive(outputs[..., 1])) - jnp.log(positive)
    return jnp.where(y > 0, density, -jnp.inf)


def _log_normal_sample(key: Array, outputs: Array, scale: Array) -> Array:
    noise = jax.random.normal(key, outputs.shape[:-1], outputs.dtype)
    return scale * jnp.exp(outputs[..., 0] + _positive(outputs[..., 1]) * noise)


def _log_normal_mean(outputs: Array, scale: Array) -> Array:
    return scale * jnp.exp(outputs[..., 0] + 0.5 * _positive(outputs[..., 1]) ** 2)


# Negative binomial with mean μ and variance μ + α μ² (Salinas et al. 2020, section 3.1): μ = scale · softplus(o₀),
# α = softplus(o₁) / √scale. As Gamma and Poisson: shape r = 1 / α, p = r / (r + μ).


def _mean_and_shape(outputs: Array, scale: Array) -> tuple[Array, Array]:
    mu = scale * _positive(outputs[..., 0])
    return mu, jnp.sqrt(scale) / _positive(outputs[..., 1])


def _negative_binomial_log_prob(outputs: Array, y: Array, scale: Array) -> Array:
    return negative_binomial(y, *_mean_and_shape(outputs, scale))


@jax.custom_jvp
def negative_binomial(y: Array, mu: Array, r: Array) -> Array:
    """Return the log density of counts y, with mean μ and shape r (variance μ + μ² / r).

        log Γ(y + r) − log Γ(r) − log Γ(y + 1) − r log(1 + μ / r) − y log(1 + r / μ)

    The large parts of the log-gamma functions and of the two last terms are cancelled on paper (Loader 2000): what is
    left are Stirling's errors and two deviances, each of which is small where y is near μ.
    """
    count = jnp.where(y > 0, y, 1.0)
    total = count + r
    # the means of r and of y, if r + y were shared out by the odds r : μ, as ratios to r and y
    of_shape = total / (r + mu)
    of_count = total / count / (1.0 + r / mu)
    distance = (count - mu) / (r + mu)
    deviance = -r * log_minus(of_shape, distance) - count * log_minus(of_count, (mu - count) / count / (1.0 + mu / r))
    errors = stirling_error(total) - stirling_error(r) - stirling_error(count)
    density = errors - deviance - HALF_LOG_2_PI - 0.5 * (jnp.log1p(count / r) + jnp.log(count))
    return jnp.where(y > 0, density, -r * jnp.log1p(mu / r))


@negative_binomial.defjvp
def _negative_binomial_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    y, mu, r = primals
    by_y = digamma(y + r) - digamma(y + 1.0) - jnp.log1p(r / mu)
    by_mu = (y - mu) / mu / (1.0 + mu / r)
    # ψ(y + r) − ψ(r) − log(1 + μ / r) + (μ − y) / (r + μ)
    slopes = stirling_error_slope(y + r) - stirling_error_slope(r)
    by_r = log_minus((y + r) / (mu + r), (y - mu) / (mu + r)) + 0.5 * (y / r) / (r + y) + slopes
    return negative_binomial(y, mu, r), by_y * tangents[0] + by_mu * tangents[1] + by_r * tangents[2]


def _negative_binomial_sample(key: Array, outputs: Array, scale: Array) -> Array:
    mu, r = _mean_and_shape(outputs, scale)
    shape_key, count_key = jax.random.split(key)
    rate = mu / r * jax.random.gamma(shape_key, r, outputs.shape[:-1], outputs.dtype)
    count = jax.random.poisson(count_key, jnp.minimum(rate, LARGEST_COUNT), outputs.shape[:-1]).astype(outputs.dtype)
    # a sampler of int32 would end at 2³¹
    noise = jax.random.normal(jax.random.fold_in(count_key, 1), rate.shape, rate.dtype)
    return jnp.where(rate < LARGEST_COUNT, count, jnp.round(rate + jnp.sqrt(rate) * noise))


def _negative_binomial_mean(outputs: Array, scale: Array) -> Array:
    return _mean_and_shape(outputs, scale)[0]


# Mixture of asymmetric Laplacians, CMAL (Klotz et al. 2022, eq. 4): component k has location m, scale b, asymmetry τ.
#     p(z) = τ (1 − τ) / b · exp(−(z − m) (τ − 1{z < m}) / b)


class Mixture(NamedTuple):
    """Parameters of a mixture of asymmetric Laplacians, each `[..., K]`."""

    location: Array
    scale: Array
    asymmetry: Array  # τ, the slope above the location, in units of 1 / scale
    other: Array  # 1 − τ, the slope below it, with all of its digits
    log_weight: Array


def _mixture(outputs: Array) -> Mixture:
    location, scale, asymmetry, weight = jnp.split(outputs, 4, -1)
    tau, other = (jnp.clip(jax.nn.sigmoid(raw), SMALLEST, 1 - SMALLEST) for raw in (asymmetry, -asymmetry))
    return Mixture(location, _positive(scale), tau, other, jax.nn.log_softmax(weight))


def _mixture_log_prob(outputs: Array, y: Array, scale: Array) -> Array:
    m, b, tau, other, log_weight = _mixture(outputs)
    distance = (y / scale)[..., None] - m
    density = jnp.log(tau) + jnp.log(other) - jnp.log(b) - jnp.maximum(tau * distance, -other * distance) / b
    return logsumexp(density + log_weight, axis=-1) - jnp.log(scale)


def _mixture_sample(key: Array, outputs: Array, scale: Array) -> Array:
    mixture = _mixture(outputs)
    which, where = jax.random.split(key)
    k = jax.random.categorical(which, mixture.log_weight)[..., None]
    m, b, tau, other = (jnp.take_along_axis(part, k, -1)[..., 0] for part in mixture[:4])
    u = jax.random.uniform(where, m.shape, m.dtype, jnp.finfo(m.dtype).tiny, 1.0)
    below = m + b / other * jnp.log(jnp.minimum(u / tau, 1.0))
    above = m - b / tau * jnp.log(jnp.minimum((1.0 - u) / other, 1.0))
    return scale * jnp.where(u < tau, below, above)


def _mixture_mean(outputs: Array, scale: Array) -> Array:
    m, b, tau, other, log_weight = _mixture(outputs)
    return scale * jnp.sum(jnp.exp(log_weight) * (m + b * (other - tau) / (tau * other)), -1)


# Quantiles that cannot cross: the median, and positive steps away from it


def quantiles_of(outputs: Array, scale: Array) -> Array:
    """Return the quantiles of the head "quantiles" at `LEVELS`, `[..., Q]`; they increase."""
    middle = LEVELS.index(0.5)
    steps = _positive(outputs)
    below = outputs[..., middle, None] - jnp.cumsum(steps[..., :middle][..., ::-1], -1)[..., ::-1]
    above = outputs[..., middle, None] + jnp.cumsum(steps[..., middle + 1 :], -1)
    return jnp.concatenate([below, outputs[..., middle, None], above], -1) * jnp.expand_dims(scale, -1)


def _quantile_log_prob(outputs: Array, y: Array, scale: Array) -> Array:
    quantiles = quantiles_of(outputs, scale)
    levels = jnp.broadcast_to(jnp.asarray(LEVELS, outputs.dtype), quantiles.shape)
    errors = jnp.expand_dims(y, -1) - quantiles
    return -2.0 * jnp.mean(jnp.maximum(levels * errors, (levels - 1.0) * errors), -1) / scale


def _quantile_sample(key: Array, outputs: Array, scale: Array) -> Array:
    quantiles = quantiles_of(outputs, jnp.broadcast_to(scale, outputs.shape[:-1]))
    u = jax.random.uniform(key, quantiles.shape[:-1], quantiles.dtype)
    levels = jnp.asarray(LEVELS, quantiles.dtype)
    # Linear between two levels; beyond the last ones the slope goes on.
    k = jnp.clip(jnp.searchsorted(levels, u) - 1, 0, len(LEVELS) - 2)
    low, high = (jnp.take_along_axis(quantiles, (k + i)[..., None], -1)[..., 0] for i in (0, 1))
    return low + (high - low) * (u - levels[k]) / (levels[k + 1] - levels[k])


def _median(outputs: Array, scale: Array) -> Array:
    return scale * outputs[..., LEVELS.index(0.5)]


# A point: the absolute error, so that the forecast is a median


def _point_log_prob(outputs: Array, y: Array, scale: Array) -> Array:
    return -jnp.abs(y / scale - outputs[..., 0])


def _first(outputs: Array, scale: Array) -> Array:
    return scale * outputs[..., 0]


def _point_sample(key: Array, outputs: Array, scale: Array) -> Array:
    del key
    return _first(outputs, scale)


LIKELIHOODS = MappingProxyType(
    {
        row.name: row
        for row in (
            Likelihood("gaussian", 2, _gaussian_log_prob, _gaussian_sample, _first, (0.0, 0.0)),
            Likelihood(
                "student_t", 3, _student_log_prob, _student_sample, _first, (0.0, 0.0, 1.0), exponential_has_mean=False
            ),
            Likelihood(
                "log_normal", 2, _log_normal_log_prob, _log_normal_sample, _log_normal_mean, (0.0, 0.0), (), "positive"
            ),
            Likelihood(
                "negative_binomial",
                2,
                _negative_binomial_log_prob,
                _negative_binomial_sample,
                _negative_binomial_mean,
                (0.5, 0.5),
                (),
                "count",
            ),
            Likelihood(
                "mixture",
                4 * COMPONENTS,
                _mixture_log_prob,
                _mixture_sample,
                _mixture_mean,
                (-0.5, 0.0, 0.5) + (0.0,) * (3 * COMPONENTS),
                tuple(range(COMPONENTS)),
            ),
            Likelihood(
                "quantiles",
                len(LEVELS),
                _quantile_log_prob,
                _quantile_sample,
                _median,
                (0.0,) * len(LEVELS),
                (LEVELS.index(0.5),),
            ),
            Likelihood("point", 1, _point_log_prob, _point_sample, _first, (0.0,)),
        )
    }
)
"""The heads of a forecaster, by name."""
