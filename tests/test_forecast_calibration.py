"""The spread of forecasts: its factor against loops and known distributions, and networks that have not seen."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr
from test_forecast import HORIZON, design_of, series_of, untrained

from lstmjax.forecast import (
    Calibration,
    Training,
    fit_calibrated,
    fit_forecaster,
    from_arrays,
    scaled_spread,
    spread_factor,
)
from lstmjax.forecast.calibration import SAMPLES, held_back
from lstmjax.forecast.storing import load_forecaster, read_arrays, save_forecaster, write_arrays

LEVEL = 0.7
SHORT = Training(steps=5, batch_size=8)


def drawn(series=13, samples=41, horizon=4, sigma=2.0):
    rng = np.random.default_rng(3)
    middle = rng.normal(5.0, 3.0, (series, 1, horizon))
    target = middle[:, 0] + rng.gamma(2.0, 1.0, (series, horizon)) - 2.0
    return middle + sigma * rng.normal(size=(series, samples, horizon)), target


def test_the_factor_is_that_of_a_loop():
    samples, target = drawn()
    target[2, 1] = target[5] = np.nan
    scores = []
    for s, k in np.argwhere(~np.isnan(target)):
        at, y = sorted(samples[s, :, k]), target[s, k]
        low, middle, high = (np.percentile(at, 100 * q) for q in ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2))
        scores.append((y - middle) / (high - middle) if y > middle else (middle - y) / (middle - low))
    rank = math.ceil((len(scores) + 1) * LEVEL)
    assert spread_factor(samples, target, LEVEL) == pytest.approx(sorted(scores)[rank - 1], rel=1e-12)


@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_intervals_cover_their_level_afterwards(sigma):
    samples, target = drawn(sigma=sigma)
    after = scaled_spread(samples, spread_factor(samples, target, LEVEL))
    low, high = np.quantile(after, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    covered = np.sum((target >= low - 1e-9) & (target <= high + 1e-9))
    assert covered == math.ceil((target.size + 1) * LEVEL)


def test_a_normal_distribution_that_is_twice_too_wide_is_halved():
    rng = np.random.default_rng(4)
    samples, target = rng.normal(0.0, 2.0, (300, 200, 5)), rng.normal(0.0, 1.0, (300, 5))
    assert spread_factor(samples, target) == pytest.approx(0.5, rel=0.06)


def test_medians_and_the_order_of_paths_stay():
    samples = drawn()[0].astype(np.float32)
    after = scaled_spread(samples, 1.7)
    np.testing.assert_allclose(np.median(after, 1), np.median(samples, 1), rtol=1e-6)
    np.testing.assert_allclose(np.std(after, 1), 1.7 * np.std(samples, 1), rtol=1e-5)
    assert (
        spearmanr(after[3, :, 0], after[3, :, 1]).statistic == spearmanr(samples[3, :, 0], samples[3, :, 1]).statistic
    )


@pytest.mark.parametrize(
    ("likelihood", "scaling", "opened"),
    [
        ("student_t", "mean", lambda y: y),
        ("student_t", "log1p", np.log1p),
        ("gaussian", "log", np.log),
        ("log_normal", "mean", np.log),
    ],
)
def test_a_spread_is_scaled_where_all_numbers_are_targets(likelihood, scaling, opened):
    series = series_of()
    forecaster = untrained(design_of(likelihood=likelihood, scaling=scaling), series, 0.1)
    plain = opened(forecaster.forecast(series, samples=9).samples)
    wide = opened(replaced(forecaster, 1.6).forecast(series, samples=9).samples)
    middle = np.median(plain, 1, keepdims=True)
    np.testing.assert_allclose(wide, middle + 1.6 * (plain - middle), rtol=1e-4, atol=1e-4)


def replaced(forecaster, spread):
    return type(forecaster)(**(vars(forecaster) | {"spread": spread}))


@pytest.mark.usefixtures("promotion")
def test_the_spread_is_that_of_networks_that_have_not_seen_the_targets():
    series, design = series_of(covariates=False), design_of(form="handoff", scaling="log1p")
    steps = []
    calibrated = fit_calibrated(
        series, design, SHORT, Calibration(2, LEVEL), seed=1, on_chunk=lambda done, loss: steps.append(done)
    )
    assert steps == [5, 10, 15]
    scores, targets = [], []
    for back in (HORIZON, 2 * HORIZON):
        blind = fit_forecaster(series.cut(back), design, SHORT, seed=1)
        samples = blind.forecast(series.cut(back), samples=SAMPLES, seed=1).samples
        scores.append(np.log1p(samples))
        targets += [np.log1p(series.history(s)[n - back :][:HORIZON]) for s, n in enumerate(series.lengths)]
    expected = spread_factor(np.concatenate(scores), np.stack(targets), LEVEL)
    assert calibrated.spread == pytest.approx(expected, rel=1e-5)
    plain = fit_calibrated(series, design, SHORT, seed=1)
    assert plain.spread == 1.0
    np.testing.assert_array_equal(plain.params.head.w, calibrated.params.head.w)


@pytest.mark.usefixtures("promotion")
def test_nothing_behind_the_training_part_reaches_the_spread():
    """The future rows of a cut series may hold anything."""
    series, design = series_of(), design_of()
    clean = series.cut(HORIZON)
    target, past = clean.target.copy(), clean.past.copy()
    for end, stop in zip(clean.ends, clean.starts[1:], strict=True):
        target[end:stop], past[end:stop] = 1e30, np.nan
    poisoned = type(series)(**(vars(clean) | {"target": target, "past": past}))
    for (known, came), (also, again) in zip(
        held_back(clean, design, Calibration(2)), held_back(poisoned, design, Calibration(2)), strict=True
    ):
        np.testing.assert_array_equal(known.target, also.target)
        np.testing.assert_array_equal(came, again)


def test_what_came_is_that_of_each_series_and_short_ones_are_left_out():
    targets = [np.arange(30.0), 100.0 + np.arange(17), np.full(40, np.nan), np.arange(5.0)]
    targets[2][:3] = 1.0
    design = design_of(horizon=5)  # a season is 4 steps
    parts = held_back(from_arrays(targets, season=4), design, Calibration(2))
    assert [known.names for known, _ in parts] == [("0", "1"), ("0",)]
    np.testing.assert_array_equal(parts[0][1], [np.arange(25.0, 30), 100.0 + np.arange(12, 17)])
    np.testing.assert_array_equal(parts[1][1], [np.arange(20.0, 25)])
    np.testing.assert_array_equal(parts[1][0].history(0), np.arange(20.0))
    assert np.isnan(parts[1][0].target[20:]).all()


def test_a_spread_is_stored_and_older_files_have_none(tmp_path):
    forecaster = replaced(untrained(design_of(), series_of()), 0.8)
    save_forecaster(tmp_path / "f.npz", forecaster)
    assert load_forecaster(tmp_path / "f.npz").spread == 0.8
    arrays, about = read_arrays(tmp_path / "f.npz", "forecaster", 1)
    del about["spread"]
    write_arrays(tmp_path / "older.npz", arrays, about)
    assert load_forecaster(tmp_path / "older.npz").spread == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Calibration(0), "origins is 0, expected a whole number of at least 1"),
        (lambda: Calibration(level=1.0), "level is 1.0, expected a share above 0 and below 1"),
        (lambda: spread_factor(*drawn(), 80), "level is 80, expected a share above 0 and below 1"),
        (lambda: spread_factor(np.zeros((5, 2, 3)), np.ones((5, 2))), r"samples is \[5, 2, 3\] and target \[5, 2\]"),
        (lambda: spread_factor(np.ones((5, 2, 3)), np.full((5, 3), np.nan)), "target is NaN everywhere"),
        (lambda: spread_factor(np.zeros((5, 2, 3)), np.ones((5, 3))), "the intervals have no width"),
        (lambda: spread_factor(np.zeros((5, 2, 3)), np.zeros((5, 3))), "the medians are the targets"),
        (lambda: scaled_spread(np.zeros((5, 2, 3)), -1.0), "factor is -1.0, expected a finite number above 0"),
        (lambda: calibrated_with(likelihood="point"), "likelihood 'point' has no spread that can be scaled"),
        (lambda: calibrated_with(likelihood="negative_binomial"), "'negative_binomial' has no spread"),
        (lambda: calibrated_with(horizon=25), "no series has more than 8 steps before an origin 25 steps before"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def calibrated_with(**fields):
    series = series_of(counts=True)
    return fit_calibrated(series, design_of(**fields), SHORT, Calibration())
