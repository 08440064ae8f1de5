"""Attributes that are words, attributes that say nothing, and scores where a measure is not defined."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from lstmjax.forecast.metrics import kge, nse
from lstmjax.forecast.series import SeriesError
from lstmjax.hydrology import (
    Design,
    basins_from_arrays,
    by_basin,
    during,
    fit_basins,
    init_basins,
    load_model,
    save_model,
    score,
    synthetic_basins,
)
from lstmjax.hydrology.network import NETWORKS

pytestmark = pytest.mark.usefixtures("promotion")
PERIOD = ("1990-03-01", "1990-12-31")


def design_of(cell):
    return Design(cell=cell, hidden_size=4, window=30, predict=7)


@pytest.fixture(scope="module")
def basins():
    """Three basins of a year."""
    return synthetic_basins(3, years=1, seed=3)[0]


WORDS = {"cover": ["forest", "crops", "forest"], "rock": ["", "chalk", "granite"]}


@pytest.fixture(scope="module")
def worded(basins):
    """The basins with two attributes that are words."""
    return basins_from_arrays(
        by_basin(basins, basins.target), by_basin(basins, basins.known), basins.numbers, start="1990-01-01",
        names=basins.names, forcing_names=basins.known_names, attribute_names=basins.number_names, categories=WORDS,
    )  # fmt: skip


@pytest.mark.parametrize("cell", NETWORKS)
def test_words_are_columns_of_0_and_1(cell, basins, worded, tmp_path):
    columns = [[1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 1]]
    names = ("cover=crops", "cover=forest", "rock=", "rock=chalk", "rock=granite")
    columns = np.array(columns)[:, [1, 0, 2, 3, 4]]
    wide = replace(
        basins, numbers=np.concatenate([basins.numbers, columns], 1), number_names=basins.number_names + names
    )
    model = init_basins(worded, PERIOD, design_of(cell), seeds=(3,))
    of_numbers = init_basins(wide, PERIOD, design_of(cell), seeds=(3,))
    jax.tree.map(np.testing.assert_array_equal, (model.params, model.scales), (of_numbers.params, of_numbers.scales))
    short = ("1990-01-01", "1990-02-09")
    expected = of_numbers.simulate(during(wide, short)).discharge
    np.testing.assert_array_equal(model.simulate(during(worded, short)).discharge, expected)
    save_model(tmp_path / "model.npz", model)
    read = load_model(tmp_path / "model.npz")
    assert read.levels == model.levels == (("cover", ("crops", "forest")), ("rock", ("", "chalk", "granite")))
    alone = during(worded, short).subset([2, 0])  # another order, and a set of words of its own
    alone = replace(alone, levels=(("cover", ("?", "forest")), ("rock", ("", "-", "granite"))))
    np.testing.assert_array_equal(read.simulate(alone).discharge, expected.reshape(3, 40)[[2, 0]].reshape(1, 80))


def test_words_that_were_not_learnt_are_refused(basins, worded):
    model = init_basins(worded.subset([0, 2]), PERIOD, design_of("vanilla"))
    with pytest.raises(SeriesError, match="basin 'basin-1' has the cover 'crops', which no basin of the training has"):
        model.simulate(worded)
    with pytest.raises(SeriesError, match="have the categories none, but the model was fitted with cover, rock"):
        model.simulate(basins)
    with pytest.raises(ValueError, match=r"start has learnt the categories .*; pass basins with the same words"):
        fit_basins(worded, PERIOD, model.design, start=model)
    with pytest.raises(SeriesError, match="the category 'rock' has 1 values, expected one for each of 2 basins"):
        basins_from_arrays([[1.0]] * 2, [[[0.0]]] * 2, [[1.0]] * 2, start="1990-01-01", categories={"rock": ["chalk"]})


def test_a_constant_attribute_is_not_divided_by_rounding(basins):
    same = replace(basins, numbers=np.concatenate([basins.numbers, np.full((3, 1), 0.1)], 1),
                   number_names=(*basins.number_names, "same"))  # fmt: skip
    scales = init_basins(same, PERIOD, design_of("vanilla")).scales
    assert scales.normal.numbers[1][-1] == 1.0


def with_discharge(*rows):
    """Basins of 6 days with these discharges."""
    return basins_from_arrays(rows, np.zeros((len(rows), 6, 1)), np.zeros((len(rows), 1)), start="1990-01-01")


def test_basins_whose_discharge_does_not_vary_are_left_out_of_medians():
    rng = np.random.default_rng(7)
    y, nothing = rng.gamma(2.0, 1.0, (2, 6)), np.full(6, np.nan)
    basins = with_discharge(y[0], np.full(6, 0.1), y[1], nothing, np.where(np.arange(6) == 2, 1.0, np.nan))
    simulated = rng.gamma(2.0, 1.0, 30)
    gappy = np.where(np.arange(30) == 13, np.nan, simulated)
    scores = score(basins, ("1990-01-01", "1990-01-06"), {"network": simulated, "gappy": gappy})
    for measure, function in (("nse", nse), ("kge", kge)):
        values = getattr(scores, measure)
        assert np.isnan(values[:, [1, 3, 4]]).all()
        expected = [function(y[0], simulated[:6]), function(y[1], simulated[12:18])]
        np.testing.assert_allclose(values[0, [0, 2]], expected)
        np.testing.assert_allclose(scores.median(measure)["network"], np.mean(expected))
        # a simulation without all days of a basin is not measured on the other basins alone
        assert np.isnan(scores.median(measure)["gappy"])
    assert scores.varying.tolist() == [True, False, True, False, False]
    assert str(scores).endswith("left out, as their discharge does not vary in the period: 1, 3, 4")
    alone = score(basins.subset([1]), ("1990-01-01", "1990-01-06"), {"network": simulated[6:12]})
    assert np.isnan(alone.median()["network"])
    assert "nan" in str(alone)


def test_the_mean_has_the_kge_of_the_literature():
    y = np.random.default_rng(8).gamma(2.0, 1.0, 6)
    scores = score(with_discharge(y), ("1990-01-01", "1990-01-06"), {"mean": np.full(6, y.mean()), "0": np.zeros(6)})
    np.testing.assert_allclose(scores.kge[:, 0], [1 - np.sqrt(2), 1 - np.sqrt(3)])
    np.testing.assert_allclose(scores.nse[0, 0], 0.0, atol=1e-12)
