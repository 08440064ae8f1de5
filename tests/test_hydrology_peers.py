"""Measures, loss and files beside neuralhydrology's, on the same arrays: pip install '.[peers]' neuralhydrology."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from lstmjax.hydrology import basins_from_arrays, by_basin, nse_loss, read_camels, read_caravan, score

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]  # those of their imports
pytest.importorskip("neuralhydrology", reason="pip install neuralhydrology", exc_type=ImportError)

from test_hydrology_files import GAUGES, write_camels, write_caravan  # noqa: E402

FORCING = ("prcp(mm/day)", "srad(W/m2)", "tmax(C)")


def random_basins():
    rng = np.random.default_rng(1)
    discharge, forcing = rng.gamma(2, 1, (3, 40)), rng.normal(0, 3, (3, 40, 2))
    discharge[1, 7:12] = np.nan
    return basins_from_arrays(
        discharge, forcing, rng.normal(0, 1, (3, 3)), start="2001-02-03",
        names=["camels_1", "camels_2", "lamah_3"], forcing_names=["rain", "heat"],
        attribute_names=["area", "slope", "snow"],
    )  # fmt: skip


def test_nse_and_kge_are_theirs():
    from neuralhydrology.evaluation.metrics import kge, nse
    from xarray import DataArray

    basins = random_basins()
    simulated = np.nan_to_num(basins.target, nan=2.0) + np.random.default_rng(2).normal(0, 0.5, len(basins.target))
    scores = score(basins, ("2001-02-10", "2001-03-10"), {"network": simulated})
    for s, (y, f) in enumerate(zip(by_basin(basins, basins.target), by_basin(basins, simulated), strict=True)):
        observed, simulation = DataArray(y[7:36], dims="date"), DataArray(f[7:36], dims="date")
        np.testing.assert_allclose(scores.nse[0, s], nse(observed, simulation), atol=1e-6)
        np.testing.assert_allclose(scores.kge[0, s], kge(observed, simulation), atol=1e-6)


def test_the_loss_is_theirs():
    torch = pytest.importorskip("torch")
    from neuralhydrology.training.loss import MaskedNSELoss

    rng = np.random.default_rng(3)
    simulated, observed = rng.normal(2, 1, (2, 5, 4)).astype("f")
    observed[2, 1:] = np.nan
    deviation = rng.gamma(2, 1, (5, 1)).astype("f")
    theirs = MaskedNSELoss._get_loss(
        SimpleNamespace(eps=0.1),
        {"y_hat": torch.tensor(simulated)[..., None]},
        {"y": torch.tensor(observed)[..., None]},
        per_basin_target_stds=torch.tensor(deviation)[..., None],
    )
    ours = nse_loss(*map(jnp.asarray, (simulated, observed, deviation)))
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-5)


def test_camels_is_what_they_read(tmp_path):
    from neuralhydrology.datasetzoo.camelsus import (
        load_camels_us_attributes,
        load_camels_us_discharge,
        load_camels_us_forcings,
    )

    write_camels(tmp_path, upper=False)
    ours = read_camels(tmp_path, GAUGES, forcing=FORCING, attributes=["elev_mean"])
    attributes = load_camels_us_attributes(tmp_path, list(GAUGES))
    np.testing.assert_array_equal(ours.numbers[:, 0], attributes["elev_mean"])
    for s, gauge in enumerate(GAUGES):
        table, area = load_camels_us_forcings(tmp_path, gauge, "daymet")
        discharge = load_camels_us_discharge(tmp_path, gauge, area)
        np.testing.assert_array_equal(by_basin(ours, ours.known)[s], table[list(FORCING)])
        np.testing.assert_allclose(by_basin(ours, ours.target)[s], discharge.where(discharge >= 0), rtol=1e-6)


def test_caravan_is_what_they_read(tmp_path):
    from neuralhydrology.datasetzoo.caravan import load_caravan_attributes, load_caravan_timeseries

    basins = random_basins()
    write_caravan(tmp_path, basins, "netcdf")
    ours = read_caravan(tmp_path, basins.names, forcing=["rain", "heat"], attributes=["area", "slope", "snow"])
    attributes = load_caravan_attributes(tmp_path, list(basins.names))
    np.testing.assert_allclose(ours.numbers, attributes[["area", "slope", "snow"]].to_numpy(float))
    for s, name in enumerate(basins.names):
        table = load_caravan_timeseries(tmp_path, name)
        np.testing.assert_array_equal(by_basin(ours, ours.known)[s], table[["rain", "heat"]])
        np.testing.assert_array_equal(by_basin(ours, ours.target)[s], table["streamflow"])
