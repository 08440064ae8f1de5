"""The spread of forecasts: its factor against loops and known distributions, and networks that have not seen."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr
from test_forecast import HORIZON, design_of, series_of, untrained

from lstmjax.forecast import (
    Calibration,
    Ensemble,
    Rolling,
    Training,
    backtest,
    fit_calibrated,
    fit_ensemble,
    fit_forecaster,
    from_arrays,
    metrics,
    scaled_spread,
    spread_factor,
)
from lstmjax.forecast.calibration import SAMPLES, held_back
from lstmjax.forecast.spread import pooled
from lstmjax.forecast.storing import (
    ForecasterFileError,
    load_ensemble,
    load_forecaster,
    read_arrays,
    save_forecaster,
    save_spread,
    write_arrays,
)

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


def pool_of(spread=None, count=3, **fields):
    """Untrained networks that differ, each with a factor of its own."""
    series = series_of()
    networks = [untrained(design_of(**fields), series, 0.1 + 0.2 * k) for k in range(count)]
    return series, Ensemble(tuple(replaced(f, 0.5 + k) for k, f in enumerate(networks)), spread)


@pytest.mark.parametrize(("scaling", "opened"), [("mean", lambda y: y), ("log1p", np.log1p)])
def test_an_ensemble_scales_its_samples_together(scaling, opened):
    series, ensemble = pool_of(1.6, scaling=scaling)
    together = opened(ensemble.forecast(series, samples=9, seed=5).samples)
    parts = [replaced(f, 1.0).forecast(series, samples=9, seed=5 + k) for k, f in enumerate(ensemble.forecasters)]
    for s in range(len(series)):
        for step in range(HORIZON):
            plain = np.concatenate([opened(part.samples[s, :, step]) for part in parts])
            expected = np.median(plain) + 1.6 * (plain - np.median(plain))
            np.testing.assert_allclose(together[s, :, step], expected, rtol=1e-4, atol=1e-4)


def test_an_ensemble_without_a_factor_keeps_those_of_its_networks():
    series, ensemble = pool_of()
    parts = [f.forecast(series, samples=9, seed=k).samples for k, f in enumerate(ensemble.forecasters)]
    np.testing.assert_array_equal(ensemble.forecast(series, samples=9).samples, np.concatenate(parts, 1))


def test_a_backtest_of_an_ensemble_measures_its_samples():
    series, ensemble = pool_of(0.7)
    result = backtest(ensemble, series, Rolling(2, 3), samples=8, seed=4)
    assert result.samples.shape[2] == 3 * 8
    which = np.tile(np.arange(len(series)), 2)  # as a backtest draws: from all origins together
    drawn = ensemble.forecast(series, which=which, origins=result.origins.ravel(), samples=8, seed=4)
    np.testing.assert_array_equal(result.samples, drawn.samples.reshape(result.samples.shape))


@pytest.mark.usefixtures("promotion")
def test_the_spread_of_an_ensemble_is_that_of_its_pooled_samples():
    """Against a loop over seeds and origins, of networks fitted to cut series by hand."""
    series, design = series_of(covariates=False), design_of(form="handoff", scaling="log1p")
    steps, fitted = [], []
    ensemble = fit_ensemble(
        series, design, SHORT, Calibration(2, LEVEL), seeds=(1, 4),
        on_chunk=lambda done, loss: steps.append(done), on_forecaster=lambda seed, f: fitted.append((seed, f)),
    )  # fmt: skip
    assert steps == [5, 10, 15, 20, 25, 30]
    assert fitted == [(1, ensemble.forecasters[0]), (4, ensemble.forecasters[1])]
    scores = []
    for back in (HORIZON, 2 * HORIZON):
        known = series.cut(back)
        networks = {seed: fit_forecaster(known, design, SHORT, seed=seed) for seed in (1, 4)}
        blind = [network.forecast(known, samples=SAMPLES, seed=seed) for seed, network in networks.items()]
        for s, n in enumerate(series.lengths):
            for step in range(HORIZON):
                at = np.log1p(np.concatenate([forecast.samples[s, :, step] for forecast in blind]))
                y = np.log1p(series.history(s)[n - back + step])
                low, middle, high = np.quantile(at, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
                scores.append((y - middle) / (high - middle) if y > middle else (middle - y) / (middle - low))
    rank = math.ceil((len(scores) + 1) * LEVEL)
    assert ensemble.spread == pytest.approx(sorted(scores)[rank - 1], rel=1e-5)
    for seed, forecaster in fitted:
        assert forecaster.spread == fit_calibrated(series, design, SHORT, Calibration(2, LEVEL), seed=seed).spread


def test_the_pool_of_networks_that_differ_is_not_too_wide():
    """Each network is off by an amount of its own, and each is calibrated: pooled as they are, they cover too much."""
    rng = np.random.default_rng(6)
    target = rng.normal(0.0, 1.0, (400, 4))
    parts = [rng.normal(0.0, 2.0, (400, 1, 4)) + rng.normal(0.0, 1.0, (400, 60, 4)) for _ in range(5)]
    spreads = [spread_factor(part, target) for part in parts]
    design = design_of()

    def coverage(spread):
        samples = pooled(parts, spreads, spread, design)
        return metrics.coverage(target, *np.quantile(samples, [0.1, 0.9], axis=1)).mean()

    assert coverage(None) > 0.95
    assert coverage(spread_factor(np.concatenate(parts, 1), target)) == pytest.approx(0.8, abs=0.01)


def test_the_spread_of_an_ensemble_is_stored_with_its_networks(tmp_path):
    series, ensemble = pool_of(1.25, count=2)
    for seed, forecaster in ((9, ensemble.forecasters[0]), (10, ensemble.forecasters[1])):  # 10 is after 9
        save_forecaster(tmp_path / f"forecaster-{seed}.npz", forecaster)
    assert load_ensemble(tmp_path).spread is None  # a run of before
    save_spread(tmp_path, ensemble)
    read = load_ensemble(tmp_path)
    assert (read.spread, [f.spread for f in read.forecasters]) == (1.25, [0.5, 1.5])
    clean, again = (e.forecast(series, samples=2).samples for e in (ensemble, read))
    np.testing.assert_array_equal(clean, again)
    (tmp_path / "forecaster-9.npz").unlink()
    with pytest.raises(ForecasterFileError, match=r"has the networks forecaster-10.npz, but ensemble.json is of"):
        load_ensemble(tmp_path)
    for words, message in (
        ('{"version": 1, "spread": 0, "networks": []}', "has the spread 0.0"),
        ('{"version": 9, "spread": 1, "networks": []}', "was written in version 9 of the format"),
        ("{}", "is no record of a calib"),
    ):
        (tmp_path / "ensemble.json").write_text(words)
        with pytest.raises(ForecasterFileError, match=message):
            load_ensemble(tmp_path)
    (tmp_path / "forecaster-10.npz").unlink()
    with pytest.raises(ForecasterFileError, match=r"has no forecaster-SEED\.npz"):
        load_ensemble(tmp_path)


def test_ensembles_without_networks_or_of_several_designs_are_refused():
    with pytest.raises(ValueError, match="forecasters is empty"):
        Ensemble(())
    forecasters = [untrained(design_of(hidden_size=n), series_of()) for n in (3, 4)]
    with pytest.raises(ValueError, match=r"networks of different designs: number 1 has Design\(.*number 0"):
        Ensemble(tuple(forecasters))
    with pytest.raises(ValueError, match="seeds is empty"):
        fit_ensemble(series_of(), design_of(), SHORT, seeds=())
