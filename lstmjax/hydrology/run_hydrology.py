"""What `lstmjax hydrology` does: fit a network to many basins, simulate, measure and draw, into a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from lstmjax.claims import counted
from lstmjax.errors import ConfigError, message_of
from lstmjax.forecast.outputs import Columns, rounded, write_table
from lstmjax.forecast.series import SeriesError, SeriesSet
from lstmjax.forecast.unfinished import unfinished
from lstmjax.hydrology.archives import read_camels, read_caravan
from lstmjax.hydrology.basins import by_basin, during, masked_outside, shorter_records, until, within
from lstmjax.hydrology.bucket import FORCING, synthetic_basins
from lstmjax.hydrology.config import HydrologyConfig
from lstmjax.hydrology.design import Design, Training
from lstmjax.hydrology.evaluation import Scores, baselines, score
from lstmjax.hydrology.files import as_dataset, needed, read_netcdf
from lstmjax.hydrology.fitting import fit_basins, init_basins
from lstmjax.hydrology.regional import RegionalModel
from lstmjax.hydrology.storing import load_model, save_model
from lstmjax.hydrology.windows import windows_of
from lstmjax.runs import new_folder
from lstmjax.training.fit import Hooks
from lstmjax.training.fit import Training as Running
from lstmjax.writing import draft, write_text

PICTURES = 6
"""Basins in the picture."""
DAYS_SHOWN = 730
"""Last days of the test in the picture."""


def run_hydrology(
    config: HydrologyConfig, run_dir: Path | None = None, *, name: str = "hydrology", resume: Path | None = None
) -> Iterator[str]:
    """Fit, simulate, measure and draw; yield the lines that say what came out.

    Args:
        config: what to do.
        run_dir: a folder that is new or empty; None: a new one under runs/.
        name: beginning of the folder's name under runs/.
        resume: the folder of this configuration that was stopped; networks which are in it are not fitted again.

    Writes:
        config.yaml, model.npz, metrics.csv (NSE and KGE of each basin, by the ensemble, each network and each
        baseline), simulation.csv or simulation.nc (the days of the test) and hydrographs.png.

    Raises:
        ConfigError: the data or the periods do not fit the configuration.
    """
    basins = read_basins(config)
    try:
        design, training = Design(**config.network.model_dump()), Training(**config.fit.model_dump())
        learnt, measured = within(basins, config.training), within(basins, config.test)
        free = baselines(basins, config.training)
        init_basins(basins, config.training, design)  # refuses what cannot be fitted, before any work is done
        windows = len(windows_of(masked_outside(basins, config.training), design, config.training)["day"])
    except ValueError as error:
        raise ConfigError(message_of(error)) from None
    if (learnt & measured).any():
        raise ConfigError(f"test is {config.test}, and shares days with the training, {config.training}; a measure on "
                          "days that were learnt from says nothing")  # fmt: skip
    if training.batch_size > windows:
        raise ConfigError(
            f"fit.batch_size is {training.batch_size}, but the training has only {windows} windows; set it to "
            f"{windows} at most"
        )
    if config.output == "netcdf":
        needed("xarray")
    yield described(basins)
    for what, period in (("training", config.training), ("test", config.test)):
        words = shorter_records(basins, period)
        if words is not None:
            yield f"{what} {period[0]} to {period[1]}: {words}"
    folder = resume
    if folder is None:
        folder = new_folder(run_dir, name)
        write_text(folder / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    with unfinished(folder, basins, "hydrology", resume=resume is not None):
        path = folder / "model.npz"
        if path.is_file():
            yield f"{counted(config.seeds, 'network')} fitted before"
        try:
            model = load_model(path) if path.is_file() else fit_all(basins, config, design, training)
            save_model(path, model)
            simulated = simulate(model, basins, config)
        except ValueError as error:
            raise ConfigError(message_of(error)) from None
        yield from written(simulated, basins, config, free, folder)
    yield f"run folder {folder}"


def fit_all(basins: SeriesSet, config: HydrologyConfig, design: Design, training: Training) -> RegionalModel:
    """Return the networks of all seeds, fitted by one program."""
    with tqdm(total=training.steps, unit="step", desc="fit", leave=False) as bar:

        def advance(running: Running) -> None:
            bar.update(running.step - bar.n)

        hooks = [Hooks(on_step=advance)]
        return fit_basins(basins, config.training, design, training, seeds=seeds_of(config), hooks=hooks)


def seeds_of(config: HydrologyConfig) -> tuple[int, ...]:
    """Return the seed of each network."""
    return tuple(range(config.seed, config.seed + config.seeds))


def written(
    simulated: np.ndarray, basins: SeriesSet, config: HydrologyConfig, free: dict[str, np.ndarray], folder: Path
) -> Iterator[str]:
    """Measure simulations `[seeds, N]` beside the baselines `free`, write and draw them, and yield lines about it."""
    seeds, measured = seeds_of(config), within(basins, config.test)
    below = simulated[:, measured] < 0
    if below.any():
        yield (
            f"{below.mean():.2%} of the simulated discharges of the test are below 0, the lowest "
            f"{np.nanmin(simulated[:, measured]):.3g} mm/day; clip: true sets them to 0"
        )
    together = {"network": simulated.mean(0)}
    members = {f"seed {seed}": of_seed for seed, of_seed in zip(seeds, simulated, strict=True)}
    scores = score(basins, config.test, together | (members if len(seeds) > 1 else {}) | free)
    yield from str(scores).splitlines()
    write_table(folder / "metrics", metrics_of(scores), "csv")
    tested = during(basins.subset(np.flatnonzero([part.any() for part in by_basin(basins, measured)])), config.test)
    simulated = simulated[:, measured]
    if config.output == "csv":
        path = write_table(folder / "simulation", days_as_table(tested, simulated, seeds), "csv")
    else:
        path = folder / "simulation.nc"
        with draft(path) as place:
            as_dataset(tested, {"simulated": simulated.mean(0)} | dict(zip(members, simulated, strict=True))).to_netcdf(
                place, engine="h5netcdf"
            )
    draw(tested, simulated, folder / "hydrographs.png")
    yield f"simulation {path}"
    yield f"picture {folder / 'hydrographs.png'}"


def read_basins(config: HydrologyConfig) -> SeriesSet:
    """Read the basins of a configuration.

    Raises:
        ConfigError: a file is missing or has another form; the message names it.
    """
    data = config.data
    if data.source == "bucket":
        names = (data.forcing, FORCING), (data.attributes, ()), (data.categories, ()), (data.basins, None)
        if any(value not in (None, default) for value, default in names):
            raise ConfigError("data.source is bucket, whose forcing and attributes are fixed; leave forcing, "
                              "attributes, categories and basins out")  # fmt: skip
        return synthetic_basins(data.count, years=data.years, seed=data.seed)[0]
    assert data.path is not None
    columns: dict[str, Any] = {"attributes": data.attributes, "categories": data.categories}
    if data.forcing is not None:
        columns["forcing"] = data.forcing
    try:
        if data.source == "netcdf":
            return read_netcdf(
                data.path, target=data.target or "discharge", basin=data.basin, date=data.date, unit=data.unit,
                **columns,
            )  # fmt: skip
        gauges = data.basins if isinstance(data.basins, tuple) else _gauges(Path(str(data.basins)))
        if data.source == "camels":
            return read_camels(data.path, gauges, product=data.product, **columns)
        return read_caravan(data.path, gauges, target=data.target or "streamflow", **columns)
    except SeriesError as error:
        raise ConfigError(f"{data.path}: {error}") from None


def _gauges(path: Path) -> list[str]:
    """Return the gauges of a text file, one a line."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file of gauges (data.basins)")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # some editors write a mark before the first gauge
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not read as a text file of gauges ({error})") from None
    return [line.strip() for line in lines if line.strip()]


def simulate(model: RegionalModel, basins: SeriesSet, config: HydrologyConfig) -> np.ndarray:
    """Return the discharge of each network, `[seeds, N]`; NaN behind the test."""
    discharge = _simulated(model, basins, config)
    return np.maximum(discharge, 0.0) if config.clip else discharge


def _simulated(model: RegionalModel, basins: SeriesSet, config: HydrologyConfig) -> np.ndarray:
    if config.simulation == "windows":
        return model.predict(basins, config.test, last=1)
    period = until(basins, config.test[1])
    rows = within(basins, period)
    inside = np.flatnonzero([part.any() for part in by_basin(basins, rows)])
    discharge = np.full((len(model.seeds), len(rows)), np.nan, np.float32)
    discharge[:, rows] = model.simulate(during(basins.subset(inside), period)).discharge
    return discharge


def described(basins: SeriesSet) -> str:
    """Return what was understood of the basins, as a line."""
    assert basins.times is not None
    days = basins.times.astype("datetime64[D]")
    words = [
        f"{counted(len(basins), 'basin')}, {days.min()} to {days.max()}",
        f"forcing {', '.join(basins.known_names)}",
    ]
    names = [*basins.number_names, *(name for name, _ in basins.levels)]
    words.append(counted(len(names), "attribute"))
    words.append(f"{np.isnan(basins.target).sum()} of {len(days)} discharges missing")
    gaps = int(np.isnan(basins.known).any(1).sum())
    return "; ".join([*words, f"{counted(gaps, 'day')} without a forcing"] if gaps else words)


def metrics_of(scores: Scores) -> Columns:
    """Return NSE and KGE, a row for each basin and simulation; None where not defined."""
    table: Columns = {"basin": [], "simulation": [], "nse": [], "kge": []}
    for s, basin in enumerate(scores.basins):
        for m, name in enumerate(scores.simulations):
            values = (rounded(float(measure[m, s]), 6) for measure in (scores.nse, scores.kge))
            for column, value in zip(table.values(), (basin, name, *values), strict=True):
                column.append(value)
    return table


def days_as_table(basins: SeriesSet, simulated: np.ndarray, seeds: tuple[int, ...]) -> Columns:
    """Return a simulation, a row for each basin and day, mm/day; None where a value is missing."""
    assert basins.times is not None
    columns = {"observed": basins.target, "simulated": simulated.mean(0)}
    columns |= {f"seed_{seed}": of_seed for seed, of_seed in zip(seeds, simulated, strict=True)}
    return {
        "basin": np.repeat(np.asarray(basins.names, object), np.diff(basins.starts)).tolist(),
        "date": list(basins.times.astype("datetime64[D]")),
    } | {name: [rounded(value, 6) for value in values.tolist()] for name, values in columns.items()}


def draw(basins: SeriesSet, simulated: np.ndarray, path: Path) -> None:
    """Draw the last days of the first basins: what was measured, the mean of the networks, and their range."""
    from lstmjax.plot.hydrographs import hydrographs

    count = min(len(basins), PICTURES)
    rows = [slice(max(basins.starts[s], basins.starts[s + 1] - DAYS_SHOWN), basins.starts[s + 1]) for s in range(count)]
    assert basins.times is not None
    figure = hydrographs(
        [basins.target[of] for of in rows], [simulated[:, of] for of in rows],
        [basins.times[of].astype("datetime64[D]") for of in rows], names=basins.names[:count],
    )  # fmt: skip
    with draft(path) as place:
        figure.savefig(place, format="png", dpi=130)
