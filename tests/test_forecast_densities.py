"""Densities in float32 against SciPy in float64, value and gradient, over grids as wide as data are."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from scipy import stats as scipy_stats

from lstmjax.forecast.likelihoods import COMPONENTS, LEVELS, LIKELIHOODS, SMALLEST, negative_binomial, quantiles_of
from lstmjax.forecast.stirling import log_minus, stirling_error, stirling_error_slope

COUNTS = [0, 1, 2, 3, 7, 50, 1000, 200_000, 1e6, 3e7, 1e9]
DISPERSIONS = [1e-6, 1e-4, 1e-2, 0.3, 1, 3, 100, 1e4, 1e6]
MEANS = [1e-6, 0.01, 1, 5, 40, 900, 1.01e6, 1e9]
SCALES = [1e-30, 1e-12, 1e-3, 1.0, 7e4, 1e12, 1e30]
Z = [0.0, 1e-4, -0.3, 1.7, -20.0, 300.0, 1e5]
VALUE_AND_SLOPES = {name: jax.jit(jax.value_and_grad(row.log_prob)) for name, row in LIKELIHOODS.items()}


def softplus(x):
    return np.logaddexp(0.0, np.float64(x)) + SMALLEST


def close(ours, expected, size=1.0, tolerance=3e-6):
    """Compare, relative to the value or to `size`, whichever is larger."""
    ours, expected = np.asarray(ours, np.float64), np.asarray(expected)
    np.testing.assert_array_less(np.abs(ours - expected) / np.maximum(size, np.abs(expected)), tolerance)


def test_counts_to_a_thousand_millions_have_the_density_of_scipy():
    grid = [
        (y, mu, 1 / alpha)
        for y, alpha in itertools.product(COUNTS, DISPERSIONS)
        for mu in [*MEANS, *([0.999 * y, y, 1.01 * y] if y else [])]
    ]
    y, mu, r = np.asarray(grid, np.float32).T
    value, (by_mu, by_r) = jax.jit(jax.vmap(jax.value_and_grad(negative_binomial, (1, 2))))(y, mu, r)
    y64, mu64, r64 = (part.astype(np.float64) for part in (y, mu, r))
    choose = special.gammaln(y64 + r64) - special.gammaln(r64) - special.gammaln(y64 + 1)
    close(value, choose - r64 * np.log1p(mu64 / r64) - y64 * np.log1p(r64 / mu64), tolerance=1e-5)
    # where its p and 1 − p have all digits in float64
    plain = (mu64 / r64 > 1e-3) & (mu64 / r64 < 1e3) & (y64 < 1e6)
    expected = scipy_stats.nbinom(r64, r64 / (r64 + mu64)).logpmf(y64)
    close(np.asarray(value)[plain], expected[plain])
    # by the logarithms of the parameters, as the outputs of a head are
    close(mu * by_mu, (y64 - mu64) / (1 + mu64 / r64))
    slope = special.digamma(y64 + r64) - special.digamma(r64) - np.log1p(mu64 / r64) + (mu64 - y64) / (r64 + mu64)
    close(r * by_r, r64 * slope)


@pytest.mark.parametrize("nu", [2.001, 3, 10, 100, 1e4, 1e6, 1e9])
def test_students_t_has_the_density_of_scipy_for_all_degrees_of_freedom(nu):
    """The row has ν = 2 + softplus(o₂) + SMALLEST, which is o₂ + 2.001 for all but small ones."""
    raw = np.float32(nu - 2.001) if nu > 20 else np.float32(np.log(np.expm1(max(nu - 2.001, 1e-3))))
    degrees = 2 + softplus(raw)
    for z in [0.0, 1e-3, 0.7, 3.0, 30.0, 1e4, 1e12, 1e25]:
        outputs = np.asarray([0.0, 0.3, raw], np.float32)
        value, slopes = VALUE_AND_SLOPES["student_t"](outputs, np.float32(z), np.float32(1.0))
        sigma, z64 = softplus(np.float32(0.3)), np.float64(np.float32(z))
        frozen = scipy_stats.t(degrees, 0, sigma)
        close(value, frozen.logpdf(z64))
        w = z64 / sigma / np.sqrt(degrees)
        by_sigma = -1 + (degrees + 1) * w**2 / (1 + w**2)
        close(slopes[1] * sigma / special.expit(0.3), by_sigma)
        half = degrees / 2
        # terms of up to 20, whose difference may be of size 1/ν²: by series where float64 has no digits left
        gammas = special.digamma(half + 0.5) - special.digamma(half) - 1 / degrees
        tail = np.log1p(w**2) - (degrees + 1) / degrees * w**2 / (1 + w**2)
        close(slopes[2], special.expit(np.float64(raw)) / 2 * (gammas - tail), size=1e-6 + 1e-1 / degrees)


@pytest.mark.parametrize("scale", SCALES)
def test_other_heads_are_those_of_scipy_at_all_scales(scale):
    """Also in far tails, with the gradients finite; log-normal at targets of 10⁻⁷ to 10⁸ scales."""
    scale = np.float32(scale)
    outputs = {
        "gaussian": [0.4, -0.2],
        "log_normal": [0.4, -0.2],
        "mixture": [-0.5, 0.3, 1.5, 0.2, -1.0, 1.0, 0.5, -4.0, 6.0, 0.1, -2.0, 1.0],
        "quantiles": [0.1, -0.4, 0.6, 0.9, -0.3],
        "point": [0.6],
    }
    for name, z in itertools.product(outputs, Z):
        out = np.asarray(outputs[name], np.float32)
        z = 1e3 * abs(z) + 1e-7 if name == "log_normal" else z
        y = scale * np.float32(z)
        value, slopes = VALUE_AND_SLOPES[name](out, y, scale)
        assert np.isfinite(slopes).all(), (name, z)
        o, y64, s64 = out.astype(np.float64), np.float64(y), np.float64(scale)
        size = max(abs(np.log(z)), abs(np.log(s64))) ** 2 if name == "log_normal" else 1.0
        close(value, EXPECTED[name](o, y64, s64), size=max(size, 1.0))


def mixture_of(o, y, scale):
    """Return the density by SciPy's asymmetric Laplacians, whose κ² is τ / (1 − τ)."""
    m, b, tau, weight = np.split(o, 4)
    tau = np.clip(special.expit(tau), SMALLEST, 1 - SMALLEST)
    kappa = np.sqrt(tau / (1 - tau))
    parts = [
        scipy_stats.laplace_asymmetric(kappa[k], scale * m[k], scale * kappa[k] * softplus(b[k]) / tau[k]).logpdf(y)
        for k in range(COMPONENTS)
    ]
    return special.logsumexp(parts + special.log_softmax(weight))


def pinball_of(o, y, scale):
    steps = softplus(o)
    at = [o[2] - steps[1] - steps[0], o[2] - steps[1], o[2], o[2] + steps[3], o[2] + steps[3] + steps[4]]
    return -2 * np.mean([max(q * (y / scale - x), (q - 1) * (y / scale - x)) for q, x in zip(LEVELS, at, strict=True)])


EXPECTED = {
    "gaussian": lambda o, y, s: scipy_stats.norm(s * o[0], s * softplus(o[1])).logpdf(y),
    "log_normal": lambda o, y, s: scipy_stats.norm(o[0], softplus(o[1])).logpdf(np.log(y / s)) - np.log(y),
    "mixture": mixture_of,
    "quantiles": pinball_of,
    "point": lambda o, y, s: -abs(y / s - o[0]),
}


def test_a_target_that_no_float32_compares_with_its_scale_has_a_density():
    for y, scale in ((2e-38, 1e30), (1e35, 1e-12)):
        value, slopes = VALUE_AND_SLOPES["log_normal"](np.float32([0.4, -0.2]), np.float32(y), np.float32(scale))
        close(value, EXPECTED["log_normal"](np.float32([0.4, -0.2]), y, scale))
        assert np.isfinite(slopes).all()


def test_quantiles_increase_at_all_scales():
    outputs = np.random.default_rng(4).normal(0, 5, (50, len(LEVELS))).astype(np.float32)
    for scale in SCALES:
        assert (jnp.diff(quantiles_of(outputs, jnp.full(50, scale, jnp.float32)), axis=-1) > 0).all()


def test_stirlings_error_is_what_the_formula_lacks(x64):
    x = np.geomspace(1e-6, 1e4, 60)
    expected = special.loggamma(x) - ((x - 0.5) * np.log(x) - x + 0.5 * np.log(2 * np.pi))
    np.testing.assert_allclose(stirling_error(x), expected, rtol=1e-6, atol=1e-10)
    slope = special.digamma(x) - np.log(x) + 0.5 / x
    np.testing.assert_allclose(stirling_error_slope(x), slope, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(stirling_error)))(x), slope, rtol=1e-6, atol=1e-10)


def test_a_logarithm_less_its_tangent_has_its_digits():
    d = np.concatenate([np.geomspace(1e-12, 1e6, 50), -np.geomspace(1e-12, 0.999, 50)]).astype(np.float32)
    d64 = d.astype(np.float64)
    exact = np.where(np.abs(d64) < 1e-3, -(d64**2) / 2 + d64**3 / 3 - d64**4 / 4, np.log1p(d64) - d64)
    np.testing.assert_allclose(log_minus(1 + d64.astype(np.float32), d), exact, rtol=2e-4)
    slope = jax.jit(jax.vmap(jax.grad(log_minus, 1)))(1 + d, d)
    np.testing.assert_allclose(slope, -d64 / (1 + d64), rtol=1e-4)
