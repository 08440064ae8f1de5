"""Densities against SciPy and their own integrals; samples against densities; numbers that stay finite."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from scipy import stats as scipy_stats

from lstmjax.forecast.likelihoods import LEVELS, LIKELIHOODS, SMALLEST, quantiles_of

DENSITIES = ["gaussian", "student_t", "log_normal", "mixture"]
SCALE = 3.7


def outputs_of(name, seed=0):
    row = LIKELIHOODS[name]
    return jnp.asarray(row.bias) + 0.5 * jax.random.normal(jax.random.key(seed), (row.width,))


def density_of(row, outputs, ys):
    return jax.vmap(lambda y: row.log_prob(outputs, y, jnp.float32(SCALE)))(jnp.asarray(ys, jnp.float32))


def softplus(x):
    return np.log1p(np.exp(np.float64(x))) + SMALLEST


@pytest.mark.parametrize("name", DENSITIES)
def test_a_density_integrates_to_one(x64, name):
    row, outputs = LIKELIHOODS[name], outputs_of(name).astype(jnp.float64)
    density = jax.jit(lambda y: jnp.exp(row.log_prob(outputs, y, jnp.float64(SCALE))))
    low = 0.0 if row.support == "positive" else -np.inf
    total, _ = integrate.quad(lambda y: float(density(jnp.float64(y))), low, np.inf, limit=300)
    assert total == pytest.approx(1.0, abs=1e-5)


def test_densities_are_those_of_scipy(x64):
    y = 2.3
    for name, frozen in {
        "gaussian": lambda o: scipy_stats.norm(SCALE * o[0], SCALE * softplus(o[1])).logpdf(y),
        "student_t": lambda o: scipy_stats.t(2 + softplus(o[2]), SCALE * o[0], SCALE * softplus(o[1])).logpdf(y),
        "log_normal": lambda o: scipy_stats.lognorm(softplus(o[1]), 0, SCALE * np.exp(o[0])).logpdf(y),
    }.items():
        outputs = outputs_of(name).astype(jnp.float64)
        ours = LIKELIHOODS[name].log_prob(outputs, jnp.float64(y), jnp.float64(SCALE))
        assert float(ours) == pytest.approx(float(frozen(np.asarray(outputs))), rel=1e-9)


@pytest.mark.parametrize("count", [0, 1, 17])
def test_the_negative_binomial_is_that_of_scipy(x64, count):
    outputs = outputs_of("negative_binomial").astype(jnp.float64)
    mean, alpha = SCALE * softplus(outputs[0]), softplus(outputs[1]) / np.sqrt(SCALE)
    expected = scipy_stats.nbinom(1 / alpha, 1 / (1 + mean * alpha)).logpmf(count)
    ours = LIKELIHOODS["negative_binomial"].log_prob(outputs, jnp.float64(count), jnp.float64(SCALE))
    assert float(ours) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.thorough
@pytest.mark.parametrize("name", [*DENSITIES, "negative_binomial"])
def test_samples_follow_the_density(name):
    row, n = LIKELIHOODS[name], 20_000
    outputs = jnp.broadcast_to(outputs_of(name), (n, row.width))
    draws = np.asarray(row.sample(jax.random.key(1), outputs, jnp.float32(SCALE)), np.float64)
    at = np.quantile(draws, [0.1, 0.5, 0.9])
    if row.support == "count":
        counts = np.arange(int(draws.max()) * 3 + 1)
        mass = np.exp(np.asarray(density_of(row, outputs[0], counts)))
        expected = [mass[counts <= y].sum() for y in at]
    else:
        grid = np.linspace(min(0.0, draws.min()) if row.support == "real" else 1e-6, draws.max(), 200_001)
        density = np.exp(np.asarray(density_of(row, outputs[0], grid)))
        mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(grid))])
        expected = np.interp(at, grid, mass)
    empirical = [(draws <= y).mean() for y in at]
    np.testing.assert_allclose(empirical, expected, atol=4 * 0.5 / np.sqrt(n) + 0.004)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["gaussian", "log_normal", "negative_binomial", "mixture"])
def test_the_mean_is_that_of_samples(name):
    row, n = LIKELIHOODS[name], 40_000
    outputs = jnp.broadcast_to(outputs_of(name, 2), (n, row.width))
    draws = np.asarray(row.sample(jax.random.key(3), outputs, jnp.float32(SCALE)), np.float64)
    mean = float(row.mean(outputs[0], jnp.float32(SCALE)))
    assert draws.mean() == pytest.approx(mean, abs=5 * draws.std() / np.sqrt(n))


def test_quantiles_cannot_cross():
    outputs = 5.0 * jax.random.normal(jax.random.key(4), (50, len(LEVELS)))
    assert (jnp.diff(quantiles_of(outputs, jnp.full(50, SCALE)), axis=-1) > 0).all()


def test_samples_of_quantiles_have_them():
    outputs = outputs_of("quantiles")
    draws = LIKELIHOODS["quantiles"].sample(
        jax.random.key(5), jnp.broadcast_to(outputs, (40_000, len(LEVELS))), jnp.float32(SCALE)
    )
    expected = np.asarray(quantiles_of(outputs[None], jnp.asarray([SCALE])))[0]
    np.testing.assert_allclose([(np.asarray(draws) <= q).mean() for q in expected], LEVELS, atol=0.01)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_densities_and_gradients_stay_finite(name):
    row = LIKELIHOODS[name]
    zero = 1.0 if row.support == "positive" else 0.0
    slopes = jax.jit(jax.value_and_grad(row.log_prob))
    for scale, size in itertools.product([1e-12, 1.0, 1e12], [-60.0, 0.0, 60.0]):
        for y in (zero * scale, round(scale)):
            value, gradient = slopes(jnp.full(row.width, size), jnp.float32(y), jnp.float32(scale))
            if row.support == "positive" and y == 0:
                assert value == -jnp.inf  # a density of zero
            else:
                assert jnp.isfinite(value), (scale, size, y)
            assert jnp.isfinite(gradient).all(), (scale, size, y)


def test_counts_beyond_whole_numbers_of_32_bits_are_sampled():
    row, scale = LIKELIHOODS["negative_binomial"], jnp.asarray(4e9)
    outputs = jnp.asarray([0.5, -20.0])
    draws = np.asarray([row.sample(key, outputs, scale) for key in jax.random.split(jax.random.key(0), 50)])
    np.testing.assert_allclose(draws.mean(), row.mean(outputs, scale), rtol=1e-3)
    assert (draws == np.round(draws)).all()
