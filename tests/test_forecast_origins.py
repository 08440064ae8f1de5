"""What is computed for all series and origins at once, against one history after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_forecast import HORIZON, S, design_of, series_of, untrained

from lstmjax.forecast import BASELINES, compare, from_arrays, metrics
from lstmjax.forecast.forecaster import Forecaster
from lstmjax.forecast.network import _first_step, outputs
from lstmjax.forecast.origins import latest_known, references
from lstmjax.forecast.windows import cut, on_device


def gappy(seed, lengths=(31, 9, 23, 17), missing=0.4):
    """Return series of very different sizes with gaps, at the beginning of some of them, too."""
    rng = np.random.default_rng(seed)
    targets = [10.0 ** rng.integers(-3, 9) * rng.gamma(2.0, 3.0, n) for n in lengths]
    for target in targets:
        gaps = rng.random(len(target)) < missing
        gaps[-2] = False  # at least one target
        target[gaps] = np.nan
    return from_arrays(targets)


@pytest.mark.parametrize("season", [1, 4, 12])
@pytest.mark.parametrize("name", [*BASELINES, "a function of the user"])
def test_baselines_of_all_origins_are_those_of_each_history(name, season):
    baselines = {"a function of the user": lambda history, horizon, season: np.full(horizon, len(history) + season)}
    baseline = (BASELINES | baselines)[name]
    series = gappy(5)
    origins = series.lengths - np.asarray([[3], [0]])
    has = np.asarray([[(~np.isnan(series.history(s, at))).any() for s, at in enumerate(row)] for row in origins])
    samples = np.zeros((*origins.shape, 2, HORIZON))
    result = compare(samples, series, origins, season, {name: baseline}, left_out=~has)
    assert has.sum() > 4
    for (row, s), at in np.ndenumerate(origins):
        if has[row, s]:
            expected = baseline(series.history(s, at), HORIZON, season)
            np.testing.assert_allclose(result.baselines[name][row, s], expected, rtol=1e-12)
        assert has[row, s] == np.isfinite(result.baselines[name][row, s]).all()


@pytest.mark.parametrize("season", [1, 4, 12])
def test_scales_and_targets_of_all_origins_are_those_of_each_history(season):
    series = gappy(7, missing=0.2)
    origins = series.lengths - np.asarray([[4], [1], [0]])
    result = compare(np.zeros((*origins.shape, 2, HORIZON)), series, origins, season, {})
    for (row, s), at in np.ndenumerate(origins):
        history = series.history(s, at)
        np.testing.assert_allclose(result.scales[row, s], metrics.naive_error(history, season), rtol=1e-12)
        np.testing.assert_allclose(
            result.squared_scales[row, s], metrics.naive_squared_error(history, season), rtol=1e-12
        )
        coming = series.history(s)[at : at + HORIZON]
        np.testing.assert_array_equal(result.target[row, s, : len(coming)], coming)
        assert np.isnan(result.target[row, s, len(coming) :]).all()


def test_a_history_without_targets_is_refused_in_any_series():
    series = from_arrays([[1.0, 2.0, 3.0], [np.nan, np.nan, 5.0]])
    for name, baseline in BASELINES.items():
        with pytest.raises(ValueError, match=r"history has no targets; a forecast needs at least one\."):
            compare(np.zeros((1, 2, 1, 1)), series, np.asarray([[2, 2]]), 1, {name: baseline})
    with pytest.raises(ValueError, match="season is 0, expected a whole number of at least 1"):
        compare(np.zeros((1, 2, 1, 1)), series, np.asarray([[3, 3]]), 0, {})


@pytest.mark.parametrize("values", [lambda h: h[~np.isnan(h)][-1], lambda h: h[~np.isnan(h)][-1:]])
def test_a_baseline_may_return_one_number_for_the_horizon(values):
    series = gappy(8)
    origins = np.array([[8, 7, 8, 9]])
    samples = np.zeros((1, 4, 5, 4))  # as many series as steps of the horizon
    baselines = {"last": lambda history, horizon, season: values(history)}
    result = compare(samples, series, origins, 4, baselines).baselines["last"]
    for s, origin in enumerate(origins[0]):
        history = series.history(s, origin)
        np.testing.assert_array_equal(result[0, s], np.repeat(history[~np.isnan(history)][-1], 4))


def test_a_baseline_of_another_length_is_refused_by_name():
    series = gappy(8)
    baselines = {"too long": lambda history, horizon, season: np.zeros(2 * horizon)}
    with pytest.raises(ValueError, match=r"baselines\['too long'\] returns \[8\] for series '\S+', expected \[4\]"):
        compare(np.zeros((1, 4, 5, 4)), series, np.array([[8, 7, 8, 9]]), 4, baselines)
    with pytest.raises(ValueError, match="baselines has the name 'network'"):
        compare(np.zeros((1, 4, 5, 4)), series, np.array([[8, 7, 8, 9]]), 4, {"network": BASELINES["naive"]})


def test_a_baseline_may_write_into_its_history():
    def filled(history, horizon, season):
        history[:] = 1e6
        return np.zeros(horizon)

    series = gappy(8)
    before = series.target.copy()
    compare(np.zeros((1, 4, 5, 4)), series, np.array([[8, 7, 8, 9]]), 4, {"filled": filled})
    np.testing.assert_array_equal(series.target, before)


def test_references_are_the_last_targets():
    series = gappy(11)
    which, origins = np.asarray([2, 0, 3, 2]), np.asarray([22, 31, 16, 23])
    expected = [(y := series.history(s, at))[~np.isnan(y)][-1] for s, at in zip(which, origins, strict=True)]
    np.testing.assert_array_equal(references(series, which, origins), expected)
    empty = from_arrays([[1.0, 2.0], [np.nan, 3.0]])
    np.testing.assert_array_equal(latest_known(empty, np.asarray([1, 0]), np.asarray([1, 1])), [-1, 0])


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_the_median_is_that_of_numpy(count):
    samples = np.random.default_rng(13).normal(size=(3, count, 5)).astype(np.float32)
    samples[1, count // 2, 2] = np.nan
    samples[2, 0, 1] = np.inf
    expected = np.median(samples, 1)
    assert np.isnan(expected[1, 2])
    actual = metrics.median(samples, 1)
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == np.float32


@pytest.mark.parametrize("base", ["none", "last", "seasonal", "both"])
def test_the_first_step_is_that_of_the_pass_over_known_targets(base):
    series, design = series_of(), design_of(base=base)
    forecaster: Forecaster = untrained(design, series)
    origins = jnp.asarray(series.lengths - HORIZON, jnp.int32)
    window = cut(on_device(series, design), jnp.arange(S), origins, design)
    _, out = _first_step(forecaster.params, window, design, forecaster.normal)
    expected = outputs(forecaster.params, window, design, forecaster.normal)[:, design.context]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_a_horizon_of_one_step_is_drawn_from_the_first_step():
    series, design = series_of(covariates=False), design_of(horizon=1, likelihood="gaussian")
    forecaster = untrained(design, series, 0.1)
    window = cut(on_device(series.extended(1), design), jnp.arange(S), jnp.asarray(series.lengths, jnp.int32), design)
    _, out = _first_step(forecaster.params, window, design, forecaster.normal)
    drawn = forecaster.forecast(series, samples=4000).samples
    assert drawn.shape == (S, 4000, 1)
    centre = window.location + window.scale * out[:, 0]
    width = np.asarray(window.scale * (jax.nn.softplus(out[:, 1]) + 1e-3))
    np.testing.assert_array_less(np.abs(drawn[:, :, 0].mean(1) - np.asarray(centre)), 0.08 * width)
    np.testing.assert_allclose(drawn[:, :, 0].std(1), width, rtol=0.05)
