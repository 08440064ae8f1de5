"""Measures of forecasts against independent libraries and the formulas of the papers."""

import numpy as np
import pytest

from lstmjax.forecast import compare, from_arrays, metrics
from lstmjax.forecast.baselines import seasonal_naive

S, H, T, N, SEASON = 7, 5, 23, 31, 4


@pytest.fixture
def arrays():
    rng = np.random.default_rng(3)
    target = rng.gamma(2.0, 3.0, (S, H))
    return target, target + rng.normal(0, 2, (S, H)), rng.gamma(2.0, 3.0, (S, T)), rng.gamma(2.0, 3.0, (S, N, H))


def as_frames(target, forecast, history):
    pandas = pytest.importorskip("pandas")
    ids, test = np.repeat(np.arange(S), H), np.tile(np.arange(T, T + H), S)
    frame = pandas.DataFrame({"unique_id": ids, "ds": test, "y": target.ravel(), "network": forecast.ravel()})
    past = {"unique_id": np.repeat(np.arange(S), T), "ds": np.tile(np.arange(T), S), "y": history.ravel()}
    return frame, pandas.DataFrame(past)


@pytest.mark.parametrize("name", ["mae", "rmse", "smape", "mase", "rmsse"])
def test_point_measures_are_those_of_utilsforecast(arrays, name):
    losses = pytest.importorskip("utilsforecast.losses")
    target, forecast, history, _ = arrays
    frame, past = as_frames(target, forecast, history)
    keywords = {"seasonality": SEASON, "train_df": past} if name in ("mase", "rmsse") else {}
    expected = getattr(losses, name)(frame, models=["network"], **keywords)["network"].to_numpy()
    scales = {
        "mase": lambda: (metrics.naive_error(history, SEASON),),
        "rmsse": lambda: (metrics.naive_squared_error(history, SEASON),),
    }.get(name, tuple)()
    ours = getattr(metrics, name)(target, forecast, *scales)
    np.testing.assert_allclose(ours * (0.5 if name == "smape" else 1.0), expected, rtol=1e-6)  # theirs lacks the 2


def test_crps_is_that_of_scoringrules(arrays):
    scoringrules = pytest.importorskip("scoringrules")
    target, _, _, samples = arrays
    expected = np.asarray(scoringrules.crps_ensemble(target, np.moveaxis(samples, 1, -1), estimator="nrg")).mean(-1)
    np.testing.assert_allclose(metrics.crps(target, samples), expected, rtol=1e-6)


def test_pinball_is_that_of_scoringrules(arrays):
    scoringrules = pytest.importorskip("scoringrules")
    target, forecast, _, _ = arrays
    levels = np.asarray([0.1, 0.5, 0.8])
    quantiles = forecast[..., None] + np.asarray([-2.0, 0.0, 1.0])
    expected = np.stack(
        [np.asarray(scoringrules.quantile_score(target, quantiles[..., k], q)).mean(-1) for k, q in enumerate(levels)],
        -1,
    )
    np.testing.assert_allclose(metrics.pinball(target, quantiles, levels), expected, rtol=1e-6)


def test_wape_and_coverage_by_hand():
    target, forecast = np.asarray([[1.0, 3.0, np.nan]]), np.asarray([[2.0, 1.0, 9.0]])
    np.testing.assert_allclose(metrics.wape(target, forecast), [3 / 4])
    np.testing.assert_allclose(metrics.coverage(target, forecast - 1, forecast), [0.5])


def test_efficiencies_by_their_formulas(arrays):
    y, s, *_ = arrays
    nse = [1 - ((a - b) ** 2).sum() / ((a - a.mean()) ** 2).sum() for a, b in zip(y, s, strict=True)]
    np.testing.assert_allclose(metrics.nse(y, s), nse, rtol=1e-12)
    r = np.asarray([np.corrcoef(a, b)[0, 1] for a, b in zip(y, s, strict=True)])
    alpha, beta = s.std(-1) / y.std(-1), s.mean(-1) / y.mean(-1)
    for version, spread in ((2009, alpha), (2012, alpha / beta)):
        expected = 1 - np.sqrt((r - 1) ** 2 + (beta - 1) ** 2 + (spread - 1) ** 2)
        np.testing.assert_allclose(metrics.kge(y, s, version), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["mae", "rmse", "smape", "wape", "nse", "kge"])
def test_missing_targets_are_left_out(arrays, name):
    target, forecast, *_ = arrays
    missing = np.concatenate([target, np.full((S, 2), np.nan)], 1)
    padded = np.concatenate([forecast, np.full((S, 2), 1e9)], 1)
    measure = getattr(metrics, name)
    np.testing.assert_allclose(measure(missing, padded), measure(target, forecast), rtol=1e-12)
    assert np.isnan(measure(np.full((1, 3), np.nan), np.ones((1, 3)))).all()


def test_a_gap_in_the_history_costs_its_two_differences(arrays):
    history = arrays[2].copy()
    history[0, 6] = np.nan
    differences = np.abs(history[0, SEASON:] - history[0, :-SEASON])
    assert np.isnan(differences).sum() == 2
    np.testing.assert_allclose(metrics.naive_error(history, SEASON)[0], np.nanmean(differences))


def test_a_history_shorter_than_a_season_has_no_scale():
    assert np.isnan(metrics.naive_error(np.ones((2, 4)), 4)).all()


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"target is \[3, 5\] and forecast \[3, 4\].*median first"):
        metrics.mae(np.ones((3, 5)), np.ones((3, 4)))
    with pytest.raises(ValueError, match="version is 2010, expected 2009"):
        metrics.kge(np.ones(3), np.ones(3), 2010)
    with pytest.raises(ValueError, match="season is 0, expected a whole number of at least 1"):
        metrics.naive_error(np.ones(3), 0)


@pytest.mark.parametrize("name", ["mae", "rmse", "smape", "wape", "nse", "kge", "coverage", "crps", "pinball"])
def test_a_missing_forecast_is_not_a_good_one(name):
    target, forecast = np.array([[1.0, 2.0, 3.0, 5.0, np.nan]]), np.array([[np.nan, 2.0, 3.0, 4.0, 1.0]])
    result = {
        "coverage": lambda: metrics.coverage(target, forecast - 1, forecast + 1),
        "crps": lambda: metrics.crps(target, np.stack([forecast, forecast + 1], 1)),
        "pinball": lambda: metrics.pinball(target, forecast[..., None], [0.5])[:, 0],
    }.get(name, lambda: getattr(metrics, name)(target, forecast))()
    np.testing.assert_array_equal(result, [np.nan])


def test_measures_of_each_series_and_pooled_are_those_of_the_arrays(arrays):
    """With a missing target, so that series count differently; pooled ones against plain sums over all targets."""
    target, _, history, samples = arrays
    series = from_arrays([np.concatenate(pair) for pair in zip(history, target, strict=True)])
    series.target[series.ends[2] - 2] = np.nan
    result = compare(samples[None], series, np.full((1, S), T), SEASON)
    y = result.target[0]
    each, pooled = result.per_series(), result.pooled()
    median, mean = np.median(samples, 1), samples.mean(1)
    np.testing.assert_allclose(each["network"]["mae"], metrics.mae(y, median))
    np.testing.assert_allclose(each["naive"]["rmse"], metrics.rmse(y, result.baselines["naive"][0]))
    np.testing.assert_allclose(each["network"]["crps"], metrics.crps(y, samples))
    np.testing.assert_array_equal(each["drift"]["forecasts"], 1)
    known = ~np.isnan(y)
    errors = np.abs(y - median)[known]
    low, high = np.quantile(samples, (0.1, 0.9), 1)
    single = [np.abs(x - t).mean() - np.abs(x[:, None] - x).mean() / 2 for x, t in zip(
        np.moveaxis(samples, 1, 2)[known], y[known], strict=True)]  # fmt: skip
    for name, expected in {
        "mae": errors.mean(),
        "wape": errors.sum() / np.abs(y[known]).sum(),
        "rmse": np.sqrt(((y - mean)[known] ** 2).mean()),
        "nrmse": np.sqrt(((y - mean)[known] ** 2).mean()) / np.abs(y[known]).mean(),
        "coverage_80": ((low <= y) & (y <= high))[known].mean(),
        "crps": np.mean(single),
    }.items():
        assert pooled["network"][name] == pytest.approx(expected, rel=1e-9), name


@pytest.mark.parametrize("name", ["coverage", "wape"])
def test_coverage_and_wape_are_those_of_utilsforecast(arrays, name):
    losses = pytest.importorskip("utilsforecast.losses")
    target, forecast, history, _ = arrays
    frame, _ = as_frames(target, forecast, history)
    if name == "coverage":
        frame["network-lo-80"], frame["network-hi-80"] = (forecast - 1).ravel(), (forecast + 2).ravel()
        expected = losses.coverage(frame, models=["network"], level=80)["network"].to_numpy()
        ours = metrics.coverage(target, forecast - 1, forecast + 2)
    else:
        expected = losses.nd(frame, models=["network"])["network"].to_numpy()
        ours = metrics.wape(target, forecast)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_a_backtest_does_not_leave_out_a_missing_forecast():
    series = from_arrays([np.arange(9.0), np.arange(9.0) ** 2])
    samples = np.ones((1, 2, 3, 2))
    samples[0, 1, 0, 0] = np.nan
    measures = compare(samples, series, np.array([[7, 7]]), 1).measures()
    assert np.isnan([measures["network"][name] for name in ("mase", "wape", "rmse", "crps")]).all()
    assert np.isfinite(list(measures["naive"].values())).all()


@pytest.mark.parametrize(("steps", "season", "horizon"), [(23, 4, 9), (3, 7, 5), (24, 6, 2), (13, 1, 3)])
def test_the_seasonal_naive_forecast_takes_the_latest_target_of_each_phase(steps, season, horizon):
    rng = np.random.default_rng(steps)
    y = rng.gamma(2.0, 3.0, steps)
    y[rng.random(steps) < 0.5] = np.nan
    y[0] = 1.5  # at least one is known
    known = [t for t in range(steps) if not np.isnan(y[t])]
    expected = []
    for ahead in range(horizon):
        of_phase = [t for t in known if steps >= season and (t - steps - ahead) % season == 0]
        expected.append(y[max(of_phase or known)])
    np.testing.assert_array_equal(seasonal_naive(y, horizon, season), expected)
