"""Forecasts of many time series by one network, as functions on arrays.

from lstmjax.forecast import Design, backtest, fit_forecaster, from_frame

series = from_frame(frame, target="sales", series="shop", time="month")
forecaster = fit_forecaster(series.cut(12), Design(horizon=12, context=36, season=12, lags=(1, 12)))
print(backtest(forecaster, series).measures())
"""

from lstmjax.forecast.backtest import Rolling, backtest, backtest_members
from lstmjax.forecast.baselines import BASELINES, STATISTICAL, drift, naive, seasonal_naive, statistical
from lstmjax.forecast.calendar import FEATURES, Frequency
from lstmjax.forecast.calibration import Calibration, fit_calibrated, fit_ensemble
from lstmjax.forecast.comparison import Backtest, Summary, compare
from lstmjax.forecast.design import Design
from lstmjax.forecast.ensemble import Ensemble
from lstmjax.forecast.fitting import Training, fit_forecaster, window_loss
from lstmjax.forecast.forecaster import Forecast, Forecaster
from lstmjax.forecast.frame import from_frame, gaps, read_table
from lstmjax.forecast.likelihoods import LIKELIHOODS, Likelihood
from lstmjax.forecast.scaling import SCALINGS, Scaling
from lstmjax.forecast.series import SeriesError, SeriesSet, from_arrays
from lstmjax.forecast.spread import scaled_spread, spread_factor
from lstmjax.forecast.stored import open_series, read_parts, store_series

__all__ = [
    "BASELINES",
    "FEATURES",
    "LIKELIHOODS",
    "SCALINGS",
    "STATISTICAL",
    "Backtest",
    "Calibration",
    "Design",
    "Ensemble",
    "Forecast",
    "Forecaster",
    "Frequency",
    "Likelihood",
    "Rolling",
    "Scaling",
    "SeriesError",
    "SeriesSet",
    "Summary",
    "Training",
    "backtest",
    "backtest_members",
    "compare",
    "drift",
    "fit_calibrated",
    "fit_ensemble",
    "fit_forecaster",
    "from_arrays",
    "from_frame",
    "gaps",
    "naive",
    "open_series",
    "read_parts",
    "read_table",
    "scaled_spread",
    "seasonal_naive",
    "spread_factor",
    "statistical",
    "store_series",
    "window_loss",
]
