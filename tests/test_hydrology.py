"""Regional models: only the training period reaches them, windows are cut where they should, runs join exactly."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lstmjax.forecast.metrics import kge, nse
from lstmjax.forecast.series import SeriesError
from lstmjax.forecast.storing import ForecasterFileError
from lstmjax.forecast.windows import table_of
from lstmjax.hydrology import (
    BucketParams,
    Design,
    Training,
    baselines,
    basins_from_arrays,
    bucket,
    by_basin,
    correlation,
    during,
    fit_basins,
    fit_probe,
    init_basins,
    load_model,
    nse_loss,
    save_model,
    score,
    synthetic_basins,
    within,
)
from lstmjax.hydrology.design import CELLS
from lstmjax.hydrology.network import NETWORKS
from lstmjax.hydrology.windows import cut, windows_of

PERIOD, TEST = ("1990-03-01", "1991-06-30"), ("1991-07-01", "1991-12-31")
pytestmark = pytest.mark.usefixtures("promotion")


def design_of(cell, **fields):
    return Design(**({"cell": cell, "hidden_size": 4, "window": 30, "predict": 7} | fields))


@pytest.fixture(scope="module")
def basins():
    """Three basins, one of them with a shorter record, and discharges that were not measured."""
    whole, _ = synthetic_basins(3, years=2, seed=3)
    target = by_basin(whole, whole.target.copy())
    forcing = by_basin(whole, whole.known)
    target[1][200:260] = np.nan
    return basins_from_arrays(
        [target[0], target[1], target[2][:700]], [forcing[0], forcing[1], forcing[2][:700]], whole.numbers,
        start="1990-01-01", names=whole.names, forcing_names=whole.known_names, attribute_names=whole.number_names,
    )  # fmt: skip


@pytest.fixture(scope="module")
def models(basins):
    """One small ensemble of each cell, after a few steps."""
    with jax.numpy_dtype_promotion("standard"):
        training = Training(steps=3, batch_size=5, learning_rate=0.01, average=None)
        return {cell: fit_basins(basins, PERIOD, design_of(cell), training, seeds=(4, 2)) for cell in NETWORKS}


def test_the_bucket_loses_no_water():
    basins, water = synthetic_basins(4, years=3, seed=1)
    p, _, pet = np.moveaxis(basins.known.reshape(4, -1, 3), -1, 0)
    capacity = np.exp(basins.numbers[:, 1])
    storage = water.snow + water.soil
    before = np.concatenate([capacity[:, None] / 2, storage[:, :-1]], 1)
    np.testing.assert_allclose(p, water.evapotranspiration + water.discharge + storage - before, atol=1e-10)
    assert (water.soil >= 0).all()
    assert (water.soil <= capacity[:, None]).all()
    assert (water.evapotranspiration <= pet).all()
    assert water.snow.max() > 20


def test_a_bucket_by_hand():
    """One catchment over three days: snow, its melt into a half-full store, and a store that overflows."""
    params = BucketParams(*(np.array([value]) for value in (3.0, 100.0, 2.0, 10.0)))
    water = bucket([[8.0, 0.0, 120.0]], [[-2.0, 2.0, 5.0]], [[0.0, 1.0, 0.0]], params)
    assert water.snow[0].tolist() == [8.0, 2.0, 0.0]
    soil = 50.0 * 0.9
    np.testing.assert_allclose(water.discharge[0, 0], 5.0)
    quick = 6.0 * (soil / 100) ** 2
    filled = soil + 6.0 - quick
    evaporated = filled / 70.0
    np.testing.assert_allclose(water.evapotranspiration[0, 1], evaporated)
    np.testing.assert_allclose(water.discharge[0, 1], quick + (filled - evaporated) / 10)
    soil = (filled - evaporated) * 0.9
    quick = 122.0 * (soil / 100) ** 2
    np.testing.assert_allclose(water.discharge[0, 2], quick + (soil + 122.0 - quick - 100.0) + 10.0)
    np.testing.assert_allclose(water.soil[0, 2], 90.0)


def test_a_bucket_goes_on_from_its_stores():
    basins, water = synthetic_basins(2, years=1)
    params = BucketParams(*(basins.numbers[:, :4].T * 1.0))
    params = params._replace(capacity=np.exp(params.capacity), residence=np.exp(params.residence))
    forcing = np.moveaxis(basins.known.reshape(2, -1, 3), -1, 0)
    second = bucket(*forcing[..., 90:], params, (water.snow[:, 89], water.soil[:, 89]))
    np.testing.assert_array_equal(second.discharge, water.discharge[:, 90:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": [[1.0, -2.0]]}, "precipitation is -2 in catchment 0 on day 1, expected finite numbers from 0 on"),
        ({"t": [[np.nan, 0.0]]}, "temperature is nan in catchment 0 on day 0, expected finite numbers"),
        ({"pet": [[1.0]]}, r"potential \[1, 1\]; they should have one shape \[S, T\]"),
        ({"k": 0.5}, r"params.residence is \[0.5\], expected a number of at least 1"),
    ],
)
def test_a_bucket_refuses(change, message):
    arguments = {"p": [[1.0, 2.0]], "t": [[3.0, 4.0]], "pet": [[1.0, 1.0]], "k": 5.0} | change
    params = BucketParams(*(np.array([value]) for value in (3.0, 100.0, 2.0, arguments["k"])))
    with pytest.raises(SeriesError, match=message):
        bucket(arguments["p"], arguments["t"], arguments["pet"], params)


def test_windows_are_those_of_a_loop(basins):
    design = design_of("vanilla")
    known = basins.known.copy()
    known[300, 1] = np.nan
    gappy = replace(basins, known=known)
    windows = windows_of(gappy, design, ("1990-01-01", "1991-11-30"))
    expected = []
    for s in range(len(gappy)):
        target, forcing = by_basin(gappy, gappy.target)[s], by_basin(gappy, gappy.known)[s]
        for day in range(design.window - 1, len(target)):
            days = slice(day - design.window + 1, day + 1)
            if day < 699 and not np.isnan(forcing[days]).any() and not np.isnan(target[day - 6 : day + 1]).all():
                expected.append((s, day))
    assert list(zip(windows["basin"].tolist(), windows["day"].tolist(), strict=True)) == expected
    pick = np.array([0, 690, len(expected) - 1])
    window = cut(table_of(gappy), jnp.asarray(windows["basin"][pick]), jnp.asarray(windows["day"][pick]), design)
    for n, at in enumerate(pick):
        s, day = expected[at]
        np.testing.assert_array_equal(
            window.forcing[n], by_basin(gappy, gappy.known)[s][day - 29 : day + 1].astype("f")
        )
        np.testing.assert_array_equal(
            window.discharge[n], by_basin(gappy, gappy.target)[s][day - 6 : day + 1].astype("f")
        )
        np.testing.assert_array_equal(window.attributes[n], gappy.numbers[s].astype("f"))


def test_the_loss_weighs_basins_and_leaves_out_what_is_not_known():
    rng = np.random.default_rng(0)
    simulated, observed = rng.normal(2.0, 1.0, (2, 4, 5)).astype("f")
    observed[1, 2:] = np.nan
    deviation = rng.gamma(2.0, 1.0, (4, 1)).astype("f")
    known = ~np.isnan(observed)
    terms = ((simulated - observed) / (deviation + 0.1)) ** 2
    loss, gradient = jax.value_and_grad(nse_loss)(*map(jnp.asarray, (simulated, observed, deviation)))
    np.testing.assert_allclose(loss, terms[known].mean(), rtol=1e-5)
    expected = np.where(known, 2 * (simulated - observed) / (deviation + 0.1) ** 2 / known.sum(), 0.0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


@pytest.mark.parametrize("cell", NETWORKS)
def test_nothing_outside_of_the_training_period_is_learnt(cell, basins, models):
    outside = ~within(basins, PERIOD)
    later = basins.times.astype("datetime64[D]") > np.datetime64(PERIOD[1])
    poisoned = replace(
        basins, target=np.where(outside, 1e30, basins.target), known=np.where(later[:, None], np.nan, basins.known)
    )
    training = Training(steps=3, batch_size=5, learning_rate=0.01, average=None)
    again = fit_basins(poisoned, PERIOD, design_of(cell), training, seeds=(4, 2))
    jax.tree.map(
        np.testing.assert_array_equal, (again.params, again.scales), (models[cell].params, models[cell].scales)
    )


@pytest.mark.parametrize("cell", NETWORKS)
def test_a_member_is_what_its_seed_alone_gives(cell, basins, models):
    training = Training(steps=3, batch_size=5, learning_rate=0.01, average=None)
    alone = fit_basins(basins, PERIOD, design_of(cell), training, seeds=(2,))
    member = models[cell].member(1)
    assert member.seeds == (2,)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), alone.params, member.params)
    np.testing.assert_allclose(alone.losses, member.losses, rtol=1e-4)


def test_a_training_begins_with_the_parameters_of_a_model(basins, models):
    model = models["vanilla"]
    still = Training(steps=1, batch_size=5, learning_rate=1e-30, average=None)
    again = fit_basins(basins, PERIOD, model.design, still, seeds=model.seeds, start=model)
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)
    with pytest.raises(ValueError, match=r"start has the seeds \(4, 2\) and Design\(.*expected \(1,\)"):
        fit_basins(basins, PERIOD, model.design, still, seeds=(1,), start=model)


@pytest.mark.parametrize("cell", NETWORKS)
def test_a_simulation_in_pieces_is_the_same(cell, basins, models):
    model = models[cell]
    once = model.simulate(basins)
    first = model.simulate(during(basins, ("1990-01-01", "1990-07-07")))
    later = during(basins, ("1990-07-08", "1991-12-31"))
    second = model.simulate(later, state=first.state, batch_size=2)
    joined = np.full_like(once.discharge, np.nan)
    joined[:, within(basins, ("1990-01-01", "1990-07-07"))] = first.discharge
    joined[:, within(basins, ("1990-07-08", "1991-12-31"))] = second.discharge
    np.testing.assert_allclose(joined, once.discharge, rtol=1e-6, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), second.state, once.state)
    assert model.cell_states(basins).shape == (2, len(basins.target), 4)


def ends_of(basins, day):
    return np.flatnonzero(basins.times.astype("datetime64[D]") == day)


@pytest.mark.parametrize("cell", NETWORKS)
def test_a_window_predicts_what_a_simulation_of_its_days_does(cell, basins, models):
    model = models[cell]
    predicted = model.predict(basins, TEST, batch_size=16)
    rows = within(basins, TEST)
    assert np.isnan(predicted[:, ~rows]).all()
    assert np.isfinite(predicted[:, rows]).all()
    ends = np.datetime64(TEST[0]) + np.timedelta64(6, "D")  # of the first window, which predicts the first 7 days
    window = model.simulate(during(basins, (str(ends - np.timedelta64(29, "D")), str(ends))))
    daily = model.predict(basins, TEST, last=1)
    np.testing.assert_allclose(
        daily[:, ends_of(basins, ends)], predicted[:, ends_of(basins, ends)], rtol=1e-5, atol=1e-5
    )
    assert np.isfinite(daily[:, rows]).all()
    ours = during(replace(basins, target=predicted[1]), (TEST[0], str(ends))).target
    np.testing.assert_allclose(ours.reshape(3, 7), window.discharge[1].reshape(3, 30)[:, -7:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", NETWORKS)
def test_a_model_is_read_as_it_was_written(cell, models, tmp_path):
    save_model(tmp_path / "model.npz", models[cell])
    read = load_model(tmp_path / "model.npz")
    jax.tree.map(np.testing.assert_array_equal, (read.params, read.scales), (models[cell].params, models[cell].scales))
    assert replace(read, params=None, scales=None) == replace(models[cell], params=None, scales=None)


def test_a_file_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ForecasterFileError, match="is no file of a regional model: it has no entry 'about'"):
        load_model(tmp_path / "other.npz")
    np.savez(tmp_path / "forecaster.npz", about=np.asarray('{"version": 1}'))
    with pytest.raises(ForecasterFileError, match="it holds a forecaster"):
        load_model(tmp_path / "forecaster.npz")


def test_scores_are_those_of_each_basin_and_of_all(basins):
    rng = np.random.default_rng(2)
    simulated = basins.target + rng.normal(0, 1, basins.target.shape)
    simulated = np.where(np.isnan(simulated), 3.0, simulated)
    free = baselines(basins, PERIOD)
    scores = score(basins, TEST, {"network": simulated} | free)
    rows = by_basin(basins, within(basins, TEST))
    for s in range(len(basins)):
        y, f = by_basin(basins, basins.target)[s][rows[s]], by_basin(basins, simulated)[s][rows[s]]
        np.testing.assert_allclose((scores.nse[0, s], scores.kge[0, s]), (nse(y, f), kge(y, f)))
        past = by_basin(basins, basins.target)[s][by_basin(basins, within(basins, PERIOD))[s]]
        np.testing.assert_allclose(by_basin(basins, free["mean"])[s], np.nanmean(past))
    rows = within(basins, TEST)
    np.testing.assert_allclose(scores.pooled_nse[0], nse(basins.target[rows], simulated[rows]))
    np.testing.assert_allclose(by_basin(basins, free["persistence"])[0][1:], by_basin(basins, basins.target)[0][:-1])
    assert by_basin(basins, free["persistence"])[1][250] == by_basin(basins, basins.target)[1][199]
    assert scores.median()["network"] > scores.median()["mean"]
    assert "persistence" in str(scores)


def test_a_probe_reads_what_lies_in_the_states():
    rng = np.random.default_rng(5)
    states = rng.normal([0.0, 3.0, -1.0], [1.0, 5.0, 0.1], (400, 3))
    quantity = states @ [2.0, 0.0, 30.0] + 7.0
    quantity[::7] = np.nan
    probe = fit_probe(states[:200], quantity[:200], ridge=1e-9)
    np.testing.assert_allclose(probe.weights, [2.0, 0.0, 30.0], atol=1e-5)
    np.testing.assert_allclose(correlation(probe(states[200:]), quantity[200:]), 1.0)
    a, b = rng.normal(size=(2, 4, 9))
    np.testing.assert_allclose(correlation(a, b), [np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)])


def infinite(basins):
    basins_from_arrays([[1.0]], [[[np.inf]]], [[1.0]], start="1990-01-01")


def changed(**fields):
    return lambda basins: fit_basins(replace(basins, **{name: make(basins) for name, make in fields.items()}), PERIOD)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (infinite, "forcing holds infinity; missing values are NaN"),
        (lambda b: basins_from_arrays([[1.0, 2.0]], [[[0.0]]], [[1.0]], start="1990-01-01"), r"\[T, F\] = \[2, 1\]"),
        (lambda b: basins_from_arrays([[1.0]], [[[0.0]]], [1.0], start="1990-01-01"), r"attributes is \[1\], expected"),
        (lambda b: basins_from_arrays([[1.0]], [[[0.0, 1.0]]], [[1.0]], start="1990-01-01", forcing_names=["a", "a"]),
         r"forcing_names is \('a', 'a'\), expected 2 different names"),
        (lambda b: within(b, ("1991-01-01", "1990-01-01")), "begins on 1991-01-01 and ends on 1990-01-01"),
        (lambda b: within(b, ("1980-01-01", "1981-01-01")), "the data go from 1990-01-01 to 1991-12-31"),
        (lambda b: during(b, ("1991-12-10", "1991-12-31")), "basin 'basin-2' has no day between"),
        (lambda b: fit_basins(b, ("1990-01-01", "1990-04-01")), "no window of 365 days without missing forcing"),
        (changed(numbers=lambda b: np.full_like(b.numbers, np.nan)), "basin 'basin-0' has no 'degree_day'"),
        (changed(target=lambda b: np.where(np.arange(len(b.target)) < 730, np.nan, b.target)),
         "basin 'basin-0' has 0 discharges between"),
        (lambda b: score(b, TEST, {"all": np.zeros((2, 3))}), r"the simulation 'all' is \[2, 3\], expected \[2160\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_is_refused(act, message, basins):
    with pytest.raises(SeriesError, match=message):
        act(basins)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cell": "gru"}, "cell is 'gru'"),
        ({"window": 0}, "window is 0, expected a whole number of at least 1"),
        ({"window": 5, "predict": 6}, "predict is 6, more than the 5 days of the window"),
        ({"dropout": 1.0}, "dropout is 1.0, expected a rate from 0 to below 1"),
        ({"cell": "mass_conserving", "hidden_size": 1}, "needs 2 or more"),
    ],
)
def test_a_design_is_checked(fields, message):
    with pytest.raises(ValueError, match=message):
        Design(**fields)


def test_a_training_and_a_period_are_checked(basins):
    with pytest.raises(ValueError, match="batch_size is 0, expected a whole number of at least 1"):
        Training(batch_size=0)
    with pytest.raises(ValueError, match=r"learning_rate is 0.0, expected a finite number above 0"):
        Training(learning_rate=0.0)
    with pytest.raises(SeriesError, match=r"the period is .*, expected two days"):
        within(basins, ("1990-13-01", "1991-01-01"))


def test_a_simulation_needs_its_forcing_its_columns_and_its_state(basins, models):
    model = models["vanilla"]
    known = basins.known.copy()
    known[731, 2] = np.nan
    with pytest.raises(SeriesError, match="basin 'basin-1' has no 'potential_evapotranspiration' on 1990-01-02"):
        model.simulate(replace(basins, known=known))
    with pytest.raises(SeriesError, match="fitted with precipitation, temperature"):
        model.simulate(replace(basins, known_names=("a", "b", "c")))
    with pytest.raises(SeriesError, match=r"state has an array \[2, 3, 4\], expected \[1, 3, H\]"):
        model.member(0).simulate(basins, state=model.simulate(basins).state)
    state = jax.tree.map(lambda leaf: leaf * np.nan, model.simulate(basins).state)
    with pytest.raises(SeriesError, match="state is not finite"):
        model.simulate(basins, state=state)
    dry = basins.known.copy()
    dry[5, 0] = -1.0
    for run in (models["mass_conserving"].simulate, lambda b: models["mass_conserving"].predict(b, TEST)):
        with pytest.raises(SeriesError, match="basin 'basin-0' has -1 of 'precipitation' in row 5; mass is at least 0"):
            run(replace(basins, known=dry))
    with pytest.raises(ValueError, match=r"seeds is \(1, 1\), expected one or more different"):
        fit_basins(basins, PERIOD, seeds=(1, 1))


def test_a_state_goes_on_with_the_next_day_of_the_same_basins(basins, models):
    model = models["entity_aware"]
    first = model.simulate(during(basins, ("1990-01-01", "1990-07-07")))
    later = during(basins, ("1990-07-08", "1991-12-31"))
    ours = model.simulate(later, state=first)
    np.testing.assert_array_equal(ours.discharge, model.simulate(later, state=first.state).discharge)
    assert ours.last_days.astype(str).tolist() == ["1991-12-31", "1991-12-31", "1991-12-01"]
    with pytest.raises(SeriesError, match=r"simulation of other basins.*'basin-0' in the place of 'basin-2'"):
        model.simulate(later.subset([2, 1, 0]), state=first)
    with pytest.raises(SeriesError, match="simulation of other basins, or in another order: another number of them"):
        model.simulate(later.subset([0]), state=first)
    gap = during(basins, ("1990-07-10", "1991-12-31"))
    with pytest.raises(SeriesError, match=r"ends on 1990-07-07 for basin 'basin-0', .* 1990-07-10, expected 1990-"):
        model.cell_states(gap, state=first)


def test_mass_is_in_the_unit_of_the_discharge(basins):
    design = design_of("mass_conserving")
    for unit in ("m", "m d-1", "kg m-2 s-1", "1"):
        with pytest.raises(SeriesError, match=f"mass is 'precipitation', which is in '{unit}', expected mm/day"):
            init_basins(replace(basins, units=(("precipitation", unit),)), PERIOD, design)
    for names, mass in (("rain [mm d-1]", "rain [mm d-1]"), ("prcp(m)", None)):
        named = replace(basins, known_names=(names, *basins.known_names[1:]))
        if mass is not None:
            init_basins(named, PERIOD, replace(design, mass=names))
        else:
            with pytest.raises(SeriesError, match=r"mass is 'prcp\(m\)', which is in 'm', expected mm/day"):
                init_basins(named, PERIOD, replace(design, mass=names))
    for factor in (1e-3, 25.4**-1, 1e2):  # metres, inches, tenths of a millimetre for a wet place
        known = basins.known * np.array([factor, 1.0, 1.0])
        with pytest.raises(SeriesError, match="Both should be in mm/day: no more than falls can run off"):
            init_basins(replace(basins, known=known), PERIOD, design)
    init_basins(replace(basins, units=(("precipitation", "mm d-1"), ("temperature", "K"))), PERIOD, design)


def test_mass_is_conserved(basins, models):
    """Over all days, from a storage, in each basin: 1e-5 of the precipitation; other cells have no balance."""
    model = models["mass_conserving"]
    state = model.simulate(basins).state
    assert np.abs(model.balance(basins)).max() < 1e-5
    assert np.abs(model.balance(basins, state=state, batch_size=2)).max() < 1e-5
    rain = basins.known[:, 0].sum()
    assert (model.simulate(basins).discharge.sum(1) < rain).all()  # what leaves the first unit is no discharge
    with pytest.raises(SeriesError, match="the cell is 'vanilla', which has no balance"):
        models["vanilla"].balance(basins)


def test_mass_is_a_forcing_from_0_on(basins):
    with pytest.raises(SeriesError, match="mass is 'rain', but the forcing is precipitation, temperature"):
        fit_basins(basins, PERIOD, design_of("mass_conserving", mass="rain"))
    with pytest.raises(SeriesError, match=r"basin 'basin-0' has -.* of 'temperature' in row .*; mass is at least 0"):
        fit_basins(basins, PERIOD, design_of("mass_conserving", mass="temperature"))


def test_every_cell_has_a_network():
    assert set(NETWORKS) == set(CELLS)


EXAMPLES = Path(__file__).parent.parent / "examples"
STORED = json.loads((EXAMPLES / "rainfall-runoff.json").read_text())


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLES / "rainfall_runoff.py"))


@pytest.mark.parametrize("cell", STORED)
def test_the_stored_results_are_those_of_the_settings(cell, example):
    stored, (design, training) = STORED[cell], example["SETTINGS"][cell]
    assert (stored["design"], stored["training"]) == (vars(design), vars(training))
    assert stored["simulations"][:5] == [f"seed {seed}" for seed in range(5)]
    for name, row in zip(stored["simulations"], stored["nse"], strict=True):
        assert len(row) == len(stored["basins"]) == 10
        np.testing.assert_allclose(np.median(row), stored["median_nse"][name], atol=1e-4)
    page = (EXAMPLES.parent / "docs" / "hydrology.md").read_text()
    for name in ("median_nse", "median_kge"):
        assert f"{stored[name]['ensemble']:.3f}" in page


def test_the_entity_aware_network_reaches_what_it_must():
    assert min(STORED["entity_aware"]["median_nse"][f"seed {seed}"] for seed in range(5)) >= 0.9


def test_the_mass_conserving_network_closes_its_balance_over_forty_years():
    assert 0 < STORED["mass_conserving"]["balance"] < 1e-5


def test_the_example_runs(example):
    model, basins, _ = example["fitted"]("entity_aware", (3,), steps=2)
    scores = example["measured"](model, basins)
    assert scores.simulations == ("seed 3", "ensemble", "mean", "climatology", "persistence")
    stored = STORED["entity_aware"]
    for name in scores.simulations[2:]:  # those of the baselines are what they were
        at, row = scores.simulations.index(name), stored["simulations"].index(name)
        np.testing.assert_allclose(scores.nse[at], stored["nse"][row], atol=1e-3)
