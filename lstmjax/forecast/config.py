"""The configuration of a forecast: the keys of its YAML file."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from lstmjax.config.base import Above0, AtLeast0, Batch, Below1, Count, Depth, Section, Size, Width
from lstmjax.config.reading import explain
from lstmjax.errors import ConfigError
from lstmjax.forecast.calibration import Calibration
from lstmjax.forecast.fitting import LossOn, Training, Weights
from lstmjax.yaml_file import read_yaml


class Table(Section):
    """The long table: a row for each series and time."""

    file: str
    """CSV, Parquet or Arrow file, or a folder of them; relative to the current folder."""
    memory: Literal["table", "mapped"] = "table"
    """What is held in the memory: the whole table; or, for tables that are larger, what a step needs, of a copy that is
    written into the folder .lstmjax beside the table. The rows of a series then stand together."""
    target: str = "target"
    """Column to forecast."""
    series: str | None = "series"
    """Column that says which series a row belongs to; None: the table is one series."""
    time: str = "time"
    """Column of dates, times, or whole numbers that count steps."""
    past: tuple[str, ...] = ()
    """Columns of covariates that are known up to the origin."""
    known: tuple[str, ...] = ()
    """Columns of covariates that are known in the future, too."""
    numbers: tuple[str, ...] = ()
    """Columns of static numbers."""
    categories: tuple[str, ...] = ()
    """Columns of static categories."""
    calendar: tuple[Literal["month", "day_of_year", "day_of_week", "hour"], ...] = ()
    """Calendar features to add to the known covariates."""
    season: Size | None = None
    """m, steps in a season; None: the usual one of the frequency."""


class Network(Section):
    """The network; see `lstmjax.forecast.Design`."""

    form: Literal["autoregressive", "handoff"] = "autoregressive"
    """"autoregressive": its own samples are fed back (DeepAR); "handoff": a second stack makes the whole horizon."""
    context: Size | None = None
    """C, steps before the origin that are read; None: two horizons, or three seasons if that is more."""
    hidden_size: Width = 40
    """Units of each layer."""
    layers: Depth = 1
    """Layers on top of each other."""
    cell: str = "vanilla"
    """A name in `lstmjax.CELLS`."""
    dropout: Below1 = 0.0
    """Rate of dropout between layers and before the head."""
    likelihood: Literal["gaussian", "student_t", "log_normal", "negative_binomial", "mixture", "quantiles", "point"] = (
        "student_t"
    )
    """What the outputs of the head mean."""
    scaling: Literal["mean", "standard", "log", "log1p", "none"] = "mean"
    """How the targets of a window are scaled."""
    lags: tuple[Size, ...] | None = None
    """Steps back of the targets that the network sees; None: 1, and one and two seasons with their neighbours."""
    base: Literal["none", "last", "seasonal", "both"] = "none"
    """What is added to the location: nothing, the last target, the one a season before, or both."""
    seasonal_adjustment: bool = False
    """Subtract the seasonal pattern of the steps before the origin, and add it to the forecasts."""
    volatility: bool = False
    """Show the network how much the targets before the origin change from step to step."""
    embedding: Size = 8
    """Numbers in which each static category is embedded."""


class Fit(Section):
    """How the network is fitted; see `lstmjax.forecast.Training`."""

    steps: Count = Training.steps
    """Updates of the parameters."""
    batch_size: Batch = Training.batch_size
    """B, windows in an update."""
    learning_rate: Above0 = Training.learning_rate
    """Of AdamW; it decreases to 0 along a cosine."""
    weight_decay: AtLeast0 = Training.weight_decay
    """Decoupled decay of all parameters."""
    clip_norm: Above0 = Training.clip_norm
    """Largest global norm of the gradient."""
    average: Below1 = Training.average
    """Decay of the running average of the parameters that forecasts are made with; 0: the last parameters."""
    weights: Weights = Training.weights
    """What is drawn alike: windows, or series of whatever length; or windows by the mean size of their series."""
    unseen: Below1 = Training.unseen
    """Rate at which a category is taken for one that the training lacks, so that new values can be forecast."""
    loss_on: LossOn = Training.loss_on
    """Steps in the loss of the autoregressive form: context and horizon, or the horizon alone."""


class Calibrate(Section):
    """How the spread of forecasts is calibrated; see `lstmjax.forecast.Calibration`."""

    origins: Size = Calibration.origins
    """Origins of the past, a horizon apart; a network is fitted for each, beside the one that forecasts."""
    level: Annotated[float, Field(gt=0.0, lt=1.0)] = Calibration.level
    """Share of the targets that the central interval of this level is to cover there."""


def _increasing(levels: tuple[float, ...]) -> tuple[float, ...]:
    if not levels or any(b <= a for a, b in itertools.pairwise(levels)):
        raise ValueError(f"{list(levels)}, expected at least one level, each above the one before it")
    return levels


class ForecastConfig(Section):
    """The configuration of `lstmjax forecast`."""

    data: Table
    horizon: Size
    """H, steps to forecast."""
    network: Network = Network()
    fit: Fit = Fit()
    calibration: Calibrate | None = None
    """How the spread is calibrated at origins of the past; None: it is what the network has learnt."""
    origins: Size = 1
    """R, origins of the backtest; the last one is a horizon before the end of each series."""
    stride: Size = 1
    """Steps between two origins."""
    statistical: bool | None = None
    """ETS and ARIMA beside the networks, by statsforecast; None: where it is installed, for up to 20
    forecasts of series of up to 300 steps."""
    samples: Annotated[int, Field(ge=10, le=100_000)] = 200
    """Samples of the future."""
    levels: Annotated[tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...], AfterValidator(_increasing)] = (
        0.1,
        0.5,
        0.9,
    )
    """Quantiles to write, in increasing order."""
    files: Literal["csv", "parquet"] = "csv"
    """Kind of the files of forecasts and samples."""
    write_samples: bool = False
    """Write the samples, too: a row for each series and step, a column for each sample."""
    picture_per_series: bool = False
    """Draw each series into a picture, in the folder pictures, beside the first ones in forecast.png."""
    held_out: Annotated[int, Field(ge=0)] = 0
    """Steps at the end of each series that are not read, as if they had not come: for the choice of settings by origins
    before those of the test."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of the first network."""
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    """Networks that are fitted, each with a seed of its own; together they are an ensemble."""


def load_forecast_config(path: str | Path, *, of_run: bool = False) -> ForecastConfig:
    """Read a configuration from a YAML file.

    Args:
        path: the file.
        of_run: it is the config.yaml in the folder of a forecast.

    Raises:
        ConfigError: no such file, not YAML, a configuration of training, an unknown key, a wrong type or value.
    """
    tree = read_yaml(path)
    data = tree.get("data")
    of_training: list[str] = [key for key in ("model", "optimizer", "loss", "epochs", "steps") if key in tree]
    of_training += ["data.source"] if isinstance(data, dict) and "source" in data else []
    if of_training and "horizon" not in tree:
        raise ConfigError(
            f"{Path(path).parent}: is a run of lstmjax train, not the folder of a forecast; it is measured by lstmjax "
            f"evaluate {Path(path).parent}"
            if of_run
            else f"{path}: is a configuration of lstmjax train (it has the key {of_training[0]}, and no horizon), not "
            f"of lstmjax forecast; run lstmjax train {path}"
        )
    return parse_forecast_config(tree, str(path))


def is_forecast(folder: Path) -> bool:
    """Return whether a folder is that of a forecast, by its config.yaml."""
    path = folder / "config.yaml"
    if not path.is_file():
        return False
    tree = read_yaml(path)
    return "horizon" in tree and "model" not in tree


def parse_forecast_config(tree: dict[str, Any], name: str = "config") -> ForecastConfig:
    """Return the configuration in a tree of plain values; `name` says in messages where it came from.

    Raises:
        ConfigError: an unknown key, a wrong type or value.
    """
    try:
        config = ForecastConfig.model_validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        raise ConfigError(explain(error, name, ForecastConfig)) from None
    table = config.data.model_copy(update={"file": str(Path(config.data.file).expanduser().absolute())})
    return config.model_copy(update={"data": table})
