"""Forecasts and backtests piece by piece: what is not read, what is not kept, how many networks are fitted."""

import tracemalloc
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from test_forecast import HORIZON, design_of, series_of, untrained
from test_forecast_calibration import SHORT, pool_of

from lstmjax.forecast import (
    Calibration,
    Rolling,
    SeriesError,
    Training,
    backtest,
    backtest_members,
    compare,
    fit_ensemble,
    from_arrays,
    from_frame,
    store_series,
)
from lstmjax.forecast.calibration import fits_of
from lstmjax.forecast.config import Calibrate, Fit, Network
from lstmjax.forecast.design import Design


@pytest.mark.parametrize(("scaling", "mapped"), [("mean", False), ("standard", True), ("log", True)])
def test_what_no_forecast_reads_may_be_anything(scaling, mapped, tmp_path):
    """Behind the origins, before the windows, and in series that are not forecast."""
    series = series_of()
    forecaster = untrained(design_of(scaling=scaling), series, 0.1)
    which, origins = np.asarray([3, 0, 3]), np.asarray([17, 20, 14])
    near = forecaster.design.context + forecaster.design.reach
    read, known = (np.zeros(len(series.target), bool) for _ in range(2))
    for s, origin in zip(which, origins, strict=True):
        begin = series.starts[s] + origin
        read[begin - min(near, origin) : begin] = True
        known[begin - min(near, origin) : begin + HORIZON] = True
    strange = replace(
        series,
        target=np.where(read, series.target, -1e300),
        past=np.where(read[:, None], series.past, 1e-300),
        known=np.where(known[:, None], series.known, 1e300),
    )
    if mapped:
        strange = store_series([strange], tmp_path / "strange.series")
    clean, again = (
        forecaster.forecast(of, which=which, origins=origins, samples=4, batch_size=2).samples
        for of in (series, strange)
    )
    np.testing.assert_array_equal(again, clean)
    with pytest.raises(SeriesError, match=r"the targets have -1e\+300, but float32" if scaling != "log" else "above 0"):
        forecaster.forecast(strange, which=which, origins=origins + 1, samples=4)


def test_what_came_in_a_backtest_is_within_float32():
    series = series_of(covariates=False)
    series.target[series.ends[2] - 1] = 1e300
    with pytest.raises(SeriesError, match=r"the targets have 1e\+300, but float32"):
        backtest(untrained(design_of(), series), series, samples=2)


def gappy():
    """Series of which one has no target in the context of its first origin."""
    series = series_of()
    target = series.target.copy()
    target[series.starts[2] : series.starts[2] + 20] = np.nan
    return replace(series, target=target)


@pytest.mark.filterwarnings("ignore:1 of 15 forecasts of the backtest")
@pytest.mark.parametrize("fields", [{}, {"scaling": "log1p"}, {"scaling": "standard"}])
def test_measures_without_samples_are_those_of_the_samples(fields, monkeypatch):
    series, (_, ensemble) = gappy(), pool_of(0.7, **fields)
    arguments = {"rolling": Rolling(3, 2), "samples": 9, "seed": 4, "batch_size": 4}
    expected = backtest(ensemble, series, **arguments)
    kept = backtest(ensemble, series, **arguments, keep_samples=False)
    monkeypatch.setattr("lstmjax.forecast.comparison.BLOCK", 100)  # one or two series at once
    assert kept.samples.shape == (3, len(series), 0, HORIZON)
    assert expected.left_out.sum() == 1
    assert kept.measures() == expected.measures()
    assert kept.pooled() == expected.pooled()
    for name, measures in expected.per_series().items():
        for measure, values in measures.items():
            np.testing.assert_array_equal(kept.per_series()[name][measure], values)
    other = compare(
        expected.samples[:, :, :3], series, expected.origins, 4, has_mean=expected.has_mean, left_out=expected.left_out
    )
    assert kept._replace(samples=other.samples).measures() == other.measures()  # samples that are there are measured


@pytest.mark.filterwarnings("ignore:1 of 15 forecasts of the backtest")
def test_members_are_measured_by_the_draws_of_their_ensemble():
    series, (_, ensemble) = gappy(), pool_of(0.7, scaling="log1p")
    arguments = {"rolling": Rolling(3, 2), "samples": 9, "batch_size": 4}
    together, members = backtest_members(ensemble, series, **arguments, seed=6)
    assert together.measures() == backtest(ensemble, series, **arguments, seed=6).measures()
    assert len(members) == 3
    for k, member in enumerate(members):
        alone = backtest(ensemble.forecasters[k], series, **arguments, seed=6 + k)
        assert member.measures() == alone.measures()
    assert members[0].measures() != members[1].measures()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda series: pool_of(count=2)[1], "refit returns 2 networks, expected 3, as many as forecaster has"),
        (lambda series: pool_of(hidden_size=5)[1], r"refit returns networks of Design\(.*hidden_size=5.*hidden_size=6"),
        (lambda series: None, "refit returns None, expected a Forecaster or an Ensemble"),
    ],
)
def test_networks_of_another_kind_are_not_compared(returned, message):
    series, ensemble = pool_of()
    with pytest.raises((ValueError, TypeError), match=message):
        backtest(ensemble, series, Rolling(2), samples=2, refit=returned)


def test_origins_that_are_left_out_are_warned_of_where_the_backtest_is():
    forecaster = untrained(design_of(), gappy(), 0.1)
    with pytest.warns(UserWarning, match="have no target in the 8 steps before their origin") as warned:
        backtest(forecaster, gappy(), Rolling(3, 2), samples=2, keep_samples=False)
    assert warned[0].filename == __file__


def test_a_backtest_that_keeps_no_samples_holds_a_batch_of_them():
    series = series_of(covariates=False)
    forecaster = untrained(design_of(), series)
    rolling, size = Rolling(12), 12 * len(series) * 400 * HORIZON * 4
    peaks = []
    for keep in (True, False):
        run = lambda keep=keep: backtest(
            forecaster, series, rolling, samples=400, batch_size=3, keep_samples=keep, baselines={}
        ).measures()
        run()  # compiles
        tracemalloc.start()
        run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] > size > 1.5 * peaks[1]


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize("calibration", [None, Calibration(2)])
@pytest.mark.parametrize(("seeds", "there"), [((3,), ()), ((3,), (3,)), ((5, 3), ()), ((5, 3), (3,)), ((5, 3), (3, 5))])
def test_the_number_of_fits_is_known_before(monkeypatch, calibration, seeds, there):
    series, design = series_of(covariates=False), design_of()
    fits = []

    def fit(known, design, training, *, seed, on_chunk):
        fits.append((seed, int(known.lengths[0])))
        return untrained(design, series, 0.1)

    monkeypatch.setattr("lstmjax.forecast.calibration.fit_forecaster", fit)
    fitted = {seed: untrained(design, series, 0.1) for seed in there}
    fit_ensemble(series, design, SHORT, calibration, seeds=seeds, fitted=fitted)
    needed = fits_of(seeds, calibration, fitted)
    assert len(fits) == sum(n.origins + n.network for n in needed.values())
    length = int(series.lengths[0])
    for seed, (origins, network) in needed.items():
        lengths = [known for of, known in fits if of == seed]
        assert lengths == [length - HORIZON * k for k in range(1, origins + 1)] + [length] * network
    assert any(n.network for n in needed.values()) == (set(there) < set(seeds))


def test_defaults_of_the_configuration_are_those_of_the_functions():
    assert Training(**Fit().model_dump()) == Training()
    assert Calibration(**Calibrate().model_dump()) == Calibration()
    usual = Network().model_dump(exclude={"context", "lags"})  # which depend on the series
    assert Design(horizon=2, context=9, **usual) == Design(horizon=2, context=9)


def test_seeds_of_the_same_random_key_are_refused():
    series = series_of(covariates=False)
    with pytest.raises(ValueError, match="expected different ones"):
        fit_ensemble(series, design_of(), SHORT, seeds=(-1, 2**32 - 1))
    with pytest.raises(ValueError, match="expected a whole number of 32 bits"):
        untrained(design_of(), series).forecast(series, seed=-(2**31) - 1)


def test_the_history_of_a_series_ends_with_it():
    series = from_arrays([[1.0, 2.0], [3.0, 4.0, 5.0]], known={"price": [[0, 0, 0], [0, 0, 0]]})
    np.testing.assert_array_equal(series.history(0, 3), [1.0, 2.0, np.nan])
    for s, before in ((0, 4), (0, -1), (-1, 2), (2, 1)):
        with pytest.raises(ValueError, match="expected 0 to"):
            series.history(s, before)


NAMED = {
    "a tuple": tuple,
    "an array": np.asarray,
    "an iterator": iter,
    "keys": lambda names: dict.fromkeys(names).keys(),
    "an index": lambda names: pytest.importorskip("pandas").Index(names),
}


@pytest.mark.parametrize("kind", NAMED)
def test_names_are_whatever_yields_them(kind):
    pandas, named = pytest.importorskip("pandas"), NAMED[kind]
    table = {"series": [3] * 4, "time": pandas.date_range("2021-03-01", periods=4), "target": [2.0, 7, 1, 8]}
    frame = pandas.DataFrame(table | {"price": [1.0, 4, 1, 5], "rain": [9.0, 2, 6, 5]})
    series = from_frame(frame, past=named(["rain"]), known=named(["price"]))
    assert (series.past_names, series.known_names) == (("rain",), ("price",))
    two = from_frame(frame, known=named(["rain", "price"]))
    assert two.known_names == ("rain", "price")
    assert two.known[2].tolist() == [6.0, 1.0]
    assert series.with_calendar(named(["month"])).known_names == ("price", "month_sin", "month_cos")


def test_series_may_come_one_after_the_other():
    expected = from_arrays([[1.0, 2.0], [5.0]], names=("north", "south"))
    series = from_arrays((np.asarray(part) for part in ([1.0, 2.0], [5.0])), names=iter(("north", "south")))
    assert series.names == expected.names
    np.testing.assert_array_equal(series.target, expected.target)


@pytest.mark.parametrize("array", [np.asarray, jnp.float32])
def test_arrays_that_are_numbers_are_numbers(array):
    """As JAX and NumPy return them."""
    training = Training(learning_rate=array(0.002), weight_decay=array(0.5), average=array(0.75))
    assert float(training.learning_rate) == pytest.approx(0.002)
    assert float(Calibration(level=array(0.6)).level) == pytest.approx(0.6)
    design = replace(design_of(), dropout=array(0.25))
    assert hash(design) == hash(replace(design, dropout=0.25))
    series = series_of()
    forecaster = replace(untrained(design_of(), series), spread=array(1.5))
    expected = replace(forecaster, spread=1.5).forecast(series, samples=3)
    found = forecaster.forecast(series, samples=np.asarray(3), batch_size=np.asarray(256), seed=np.asarray(0))
    np.testing.assert_allclose(found.samples, expected.samples, rtol=1e-6)


def test_the_last_seed_serves_an_ensemble():
    series, (_, ensemble) = series_of(), pool_of(0.7)
    assert len(ensemble.forecasters) > 1
    ensemble.forecast(series, samples=2, seed=2**32 - 1)
