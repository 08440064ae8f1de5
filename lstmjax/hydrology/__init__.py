"""Rainfall and runoff: one network for many basins, as functions on arrays.

from lstmjax.hydrology import baselines, fit_basins, score, synthetic_basins

basins, water = synthetic_basins()
model = fit_basins(basins, ("1990-01-01", "2003-12-31"), seeds=range(5))
simulation = model.simulate(basins)
print(score(basins, ("2004-01-01", "2009-12-26"), {"network": simulation.mean}))
"""

from lstmjax.hydrology.archives import read_camels, read_caravan
from lstmjax.hydrology.basins import Period, basins_from_arrays, by_basin, during, encoded, masked_outside, within
from lstmjax.hydrology.bucket import BucketParams, Water, bucket, synthetic_basins
from lstmjax.hydrology.design import Design, Training
from lstmjax.hydrology.evaluation import Scores, baselines, score
from lstmjax.hydrology.files import BasinFileError, as_dataset, from_dataset, read_netcdf
from lstmjax.hydrology.fitting import fit_basins, init_basins, nse_loss
from lstmjax.hydrology.probe import Probe, correlation, fit_probe
from lstmjax.hydrology.regional import RegionalModel, Simulation
from lstmjax.hydrology.storing import load_model, save_model

__all__ = [
    "BasinFileError",
    "BucketParams",
    "Design",
    "Period",
    "Probe",
    "RegionalModel",
    "Scores",
    "Simulation",
    "Training",
    "Water",
    "as_dataset",
    "baselines",
    "basins_from_arrays",
    "bucket",
    "by_basin",
    "correlation",
    "during",
    "encoded",
    "fit_basins",
    "fit_probe",
    "from_dataset",
    "init_basins",
    "load_model",
    "masked_outside",
    "nse_loss",
    "read_camels",
    "read_caravan",
    "read_netcdf",
    "save_model",
    "score",
    "synthetic_basins",
    "within",
]
