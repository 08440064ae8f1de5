"""The configuration of a regional model: the keys of its YAML file. JAX is not imported here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from lstmjax.config.base import Above0, Batch, Below1, Count, Section, Size, Width
from lstmjax.config.reading import explain
from lstmjax.errors import ConfigError
from lstmjax.yaml_file import read_yaml

Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Basins(Section):
    """The basins, and which of their columns are read."""

    source: Literal["bucket", "netcdf", "camels", "caravan"]
    """Where they are: synthetic ones, one NetCDF file, or a folder as CAMELS (US) or Caravan publish it."""
    path: str | None = None
    """The file or the folder; relative to the current folder. None for synthetic basins."""
    basins: tuple[str, ...] | str | None = None
    """Gauges, or a text file with a gauge a line, for CAMELS and Caravan; None: all of a NetCDF file, or synthetic."""
    target: str | None = None
    """Variable with the discharge, mm/day, of NetCDF and Caravan; None: "discharge" and "streamflow"."""
    unit: str | None = None
    """Unit of the discharge of a NetCDF file whose variable has no attribute units: mm/day."""
    forcing: tuple[str, ...] | None = None
    """Meteorological columns; None: five of CAMELS or Caravan. NetCDF needs them."""
    attributes: tuple[str, ...] = ()
    """Static attributes that are numbers."""
    categories: tuple[str, ...] = ()
    """Static attributes that are words: a column of 0 and 1 for each word."""
    product: str = "daymet"
    """Forcing of CAMELS: the name of its folder."""
    basin: str = "basin"
    """Dimension of the basins in a NetCDF file."""
    date: str = "date"
    """Dimension of the days in a NetCDF file."""
    count: Size = 10
    """Synthetic basins."""
    years: Size = 20
    """Years of synthetic basins, from 1990 on."""
    seed: Seed = 0
    """Of synthetic basins."""


class Network(Section):
    """The network; see `lstmjax.hydrology.Design`."""

    cell: Literal["vanilla", "entity_aware", "mass_conserving"] = "entity_aware"
    """What sees the attributes: all gates, the input gate alone, or those of a cell that conserves water."""
    hidden_size: Width = 32
    """H, units."""
    window: Size = 365
    """Days that are read, the last one included."""
    predict: Size = 1
    """Last days of a window that are learnt from; 1 is sequence to one."""
    dropout: Below1 = 0.0
    """Rate of dropout before the head."""
    forget_bias: float = 3.0
    """Initial bias of the forget gate."""
    mass: str = "precipitation"
    """The forcing that the mass-conserving cell conserves, in mm/day."""


class Fit(Section):
    """How the network is fitted; see `lstmjax.hydrology.Training`."""

    steps: Count = 1000
    """Updates of the parameters."""
    batch_size: Batch = 64
    """B, windows in an update."""
    learning_rate: Above0 = 5e-3
    """Of Adam; it decreases to 0 along a cosine."""
    clip_norm: Above0 = 1.0
    """Largest global norm of the gradient."""
    average: Below1 | None = 0.99
    """Decay of the running average of the parameters that is the result; None: the last parameters."""


class HydrologyConfig(Section):
    """The configuration of `lstmjax hydrology`."""

    data: Basins
    training: tuple[str, str]
    """First and last day that are learnt from."""
    test: tuple[str, str]
    """First and last day that are measured; no day of them may lie in the training."""
    network: Network = Network()
    fit: Fit = Fit()
    simulation: Literal["scan", "windows"] = "scan"
    """How the test is simulated: over all days from the first one on, or each day from a window of its own, which may
    have days without a forcing between them."""
    clip: bool = False
    """Set simulated discharges below 0 to 0, as clip_targets_to_zero of neuralhydrology does."""
    output: Literal["csv", "netcdf"] = "csv"
    """Kind of file of the simulation."""
    seed: Seed = 0
    """Of the first network."""
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    """Networks of the ensemble, each with a seed of its own."""


def load_hydrology_config(path: str | Path) -> HydrologyConfig:
    """Read a configuration from a YAML file.

    Raises:
        ConfigError: no such file, not YAML, a configuration of another command, an unknown key, a wrong type or value.
    """
    tree = read_yaml(path)
    for key, command in (("horizon", "forecast"), ("model", "train"), ("epochs", "train"), ("steps", "train")):
        if key in tree and "test" not in tree:
            raise ConfigError(f"{path}: is a configuration of lstmjax {command} (it has the key {key}); run lstmjax "
                              f"{command} {path}")  # fmt: skip
    return parse_hydrology_config(tree, str(path))


def is_hydrology(folder: Path) -> bool:
    """Return whether a folder is that of `lstmjax hydrology`, by its config.yaml."""
    path = folder / "config.yaml"
    return path.is_file() and {"data", "training", "test"} <= read_yaml(path).keys()


def parse_hydrology_config(tree: dict[str, Any], name: str = "config") -> HydrologyConfig:
    """Return the configuration in a tree of plain values; `name` says in messages where it came from.

    Raises:
        ConfigError: an unknown key, a wrong type or value, keys that do not fit each other.
    """
    section = tree.get("data")
    gauges = section.get("basins") if isinstance(section, dict) else None
    for gauge in gauges if isinstance(gauges, list) else [gauges]:
        if isinstance(gauge, int | float):
            raise ConfigError(
                f"{name}: data.basins has {gauge}, a number; expected gauges in quotes, with their leading zeros: "
                "'01013500'"
            )
    try:
        config = HydrologyConfig.model_validate_json(json.dumps(tree, default=str))  # YAML reads 1990-01-01 as a date
    except ValidationError as error:
        raise ConfigError(explain(error, name, HydrologyConfig)) from None
    data = config.data
    if (data.path is None) != (data.source == "bucket"):
        raise ConfigError(f"{name}: data.path is {data.path!r}, expected "
                          f"{'none for synthetic basins' if data.path else f'the path of {data.source}'}")  # fmt: skip
    if data.source in ("camels", "caravan") and not data.basins:
        raise ConfigError(
            f"{name}: data.basins is empty, expected a list of gauges, or a text file with a gauge a line"
        )
    if data.source == "netcdf" and not data.forcing:
        raise ConfigError(f"{name}: data.forcing is empty, expected names of variables of {data.path}")
    if data.source == "netcdf" and data.basins is not None:
        raise ConfigError(f"{name}: data.basins is for camels and caravan; a NetCDF file is read whole")
    if data.unit is not None and data.source != "netcdf":
        raise ConfigError(f"{name}: data.unit is for netcdf; the discharge of {data.source} is known. Leave it out")
    moved = {"path": None if data.path is None else str(Path(data.path).expanduser().absolute())}
    if isinstance(data.basins, str):
        moved["basins"] = str(Path(data.basins).expanduser().absolute())
    return config.model_copy(update={"data": data.model_copy(update=moved)})
