"""What `lstmjax forecast` and `lstmjax backtest` do: fit, measure, forecast and draw, into a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from lstmjax.claims import counted
from lstmjax.errors import ConfigError
from lstmjax.forecast.backtest import Rolling, backtest_members
from lstmjax.forecast.baselines import BASELINES, STATISTICAL, Baseline, has_statistical
from lstmjax.forecast.calibration import Calibration, fit_ensemble, fits_of, held_back
from lstmjax.forecast.comparison import Backtest
from lstmjax.forecast.config import ForecastConfig, load_forecast_config
from lstmjax.forecast.design import Design
from lstmjax.forecast.ensemble import Ensemble
from lstmjax.forecast.fitting import Training
from lstmjax.forecast.forecaster import Forecaster
from lstmjax.forecast.frame import from_frame, gaps, read_table, table_files
from lstmjax.forecast.origins import check_origins
from lstmjax.forecast.outputs import ahead_of, draw, draw_each, per_series, samples_of, write_table
from lstmjax.forecast.series import SeriesError, SeriesSet
from lstmjax.forecast.stored import VERSION, open_series, read_parts, store_series
from lstmjax.forecast.storing import (
    SPREAD_FILE,
    load_ensemble,
    load_forecaster,
    network_files,
    save_forecaster,
    save_spread,
)
from lstmjax.forecast.unfinished import is_unfinished, remedy, unfinished
from lstmjax.runs import new_folder
from lstmjax.writing import write_text

SHOWN = ("mase", "smape", "wape", "rmsse", "crps", "coverage_80", "forecasts")
"""Measures in the table on the terminal; all of them are in measures.json."""
GAPS = 5
"""Series with gaps that are named."""
FEW, SHORT = 20, 300
"""Forecasts, and steps of a series, up to which ETS and ARIMA are fitted without being required: ARIMA takes 0.7 s for
120 months, 3 s for 240."""


def run_forecast(
    config: ForecastConfig, run_dir: Path | None = None, *, name: str = "forecast", resume: Path | None = None
) -> Iterator[str]:
    """Fit, backtest, forecast and draw; yield the lines that say what came out.

    Args:
        config: what to do.
        run_dir: a folder that is new or empty; None: a new one under runs/.
        name: beginning of the folder's name under runs/.
        resume: the folder of this configuration that was stopped; networks which are in it are not fitted again.

    Writes:
        config.yaml, forecaster-SEED.npz for each seed, ensemble.json (of several calibrated networks: the spread
        of their samples together), measures.json (each measure of the ensemble, of each network and of each baseline),
        measures.csv (the same for each series), forecast.csv (mean, median and quantiles of what is to come; or
        .parquet), forecast.png and, where they are required, samples.csv and a folder of pictures.
    """
    series = read_series(config)
    design, calibration = design_of(config, series), calibration_of(config)
    rolling = Rolling(config.origins, config.stride)
    origins = rolling.of(series, config.horizon)  # refuses short series before any work is done
    baselines_of(config, series, rolling)  # refuses what is not installed
    known = series.cut(int(series.lengths[0] - origins[0, 0]))
    check_origins(series, design, origins)  # refuses what would end the backtest or the forecast after the fits
    check_origins(series, design, series.lengths[None])
    held_back(known, design, calibration)  # refuses a design or series that cannot be calibrated
    yield described(series)
    folder = resume
    if folder is None:
        folder = new_folder(run_dir, name)
        write_text(folder / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    with unfinished(folder, series, "forecast", resume=resume is not None):
        fitted = network_files(folder)
        if fitted:
            yield f"{counted(len(fitted), 'network')} of {config.seeds} fitted before"
        ensemble = fit_each(config, known, design, folder)
        yield from measured([ensemble], series, rolling, config, folder=folder, out=folder / "measures.csv")
        yield from written(ensemble, series, config, folder)
    yield f"run folder {folder}"


def fit_each(config: ForecastConfig, known: SeriesSet, design: Design, folder: Path | None = None) -> Ensemble:
    """Fit a network for each seed to what is known.

    Args:
        config: of the run.
        known: what is learnt from.
        design: of the networks.
        folder: where they are written; those that are there are read instead. None: nothing is read or written.
    """
    training, calibration = Training(**config.fit.model_dump()), calibration_of(config)
    seeds = range(config.seed, config.seed + config.seeds)
    paths = {} if folder is None else {seed: folder / f"forecaster-{seed}.npz" for seed in seeds}
    fitted = {seed: load_forecaster(path) for seed, path in paths.items() if path.is_file()}
    count = sum(needed.origins + needed.network for needed in fits_of(seeds, calibration, fitted).values())

    def save(seed: int, forecaster: Forecaster) -> None:
        if folder is not None:
            save_forecaster(paths[seed], forecaster)

    with tqdm(total=count * training.steps, unit="step", desc="fit", leave=False) as bar:

        def advance(steps: int, loss: float) -> None:
            bar.update(steps - bar.n)
            bar.set_postfix(loss=f"{loss:.3f}")

        ensemble = fit_ensemble(
            known, design, training, calibration, seeds=seeds, fitted=fitted, on_chunk=advance, on_forecaster=save
        )
    if folder is not None and calibration is not None and len(seeds) > 1:
        save_spread(folder, ensemble)
    return ensemble


def written(ensemble: Ensemble, series: SeriesSet, config: ForecastConfig, folder: Path) -> Iterator[str]:
    """Forecast what is to come by all networks; write and draw it, and yield a line for each file."""
    ahead = ensemble.forecast(series, samples=config.samples).samples
    table = ahead_of(ahead, series, config.levels, ensemble.design.has_mean)
    yield f"forecasts {write_table(folder / 'forecast', table, config.files)}"
    if config.write_samples:
        yield f"samples {write_table(folder / 'samples', samples_of(ahead, series), config.files)}"
    draw(ahead, series, folder / "forecast.png")
    yield f"picture {folder / 'forecast.png'}"
    if config.picture_per_series:
        yield f"pictures {draw_each(ahead, series, folder / 'pictures')}"


def missing_networks(folder: Path, config: ForecastConfig) -> str | None:
    """Return a line that says what is missing in the folder of a forecast, networks or their spread; None: nothing.

    Raises:
        ConfigError: there is none.
    """
    count = len(network_files(folder))
    why = f"its forecast was stopped, or is still running; continue it by: {remedy(folder, 'forecast')}"
    if not count:
        reason = why if is_unfinished(folder) else "lstmjax forecast CONFIG writes one for each seed."
        raise ConfigError(f"{folder}: has no forecaster-SEED.npz; {reason}")
    if count == config.seeds and config.calibration and count > 1 and not (folder / SPREAD_FILE).is_file():
        reason = why if is_unfinished(folder) else "earlier versions wrote none"
        return f"no {SPREAD_FILE}, so that the spread is that of each network alone, and too wide together: {reason}"
    if count >= config.seeds:
        return None  # what is there beside them is refused when they are read
    reason = why if is_unfinished(folder) else "the other files are missing"
    return f"only {count} of {config.seeds} networks: {reason}"


def run_backtest(
    folder: Path, origins: int, stride: int, *, refit: bool = False, out: Path | None = None
) -> Iterator[str]:
    """Measure the forecasters of a folder at other origins; yield the lines of the table.

    Without refitting, the networks may have learnt from targets behind the origins; then the measures would be too
    good, and this is refused.

    Args:
        folder: that `lstmjax forecast` has written.
        origins, stride: of the backtest.
        refit: fit the networks anew at each origin, to what is known there.
        out: CSV file for the measures of each series; None: none.
    """
    if out is not None and (out.suffix.lower() != ".csv" or not out.absolute().parent.is_dir()):
        raise ConfigError(f"--out is {out}, expected a name that ends in .csv, in a folder that is there")
    config = load_forecast_config(folder / "config.yaml", of_run=True)
    series = read_series(config)
    rolling = Rolling(origins, stride)
    if refit:
        at, design = rolling.of(series, config.horizon), design_of(config, series)
        check_origins(series, design, at)
        cuts = [series.cut(int(series.lengths[0] - row[0])) for row in at]
        for known in cuts:
            held_back(known, design, calibration_of(config))
        yield f"{config.seeds} x {origins} fits of {config.fit.steps} steps"
        ensembles = [fit_each(config, known, design) for known in cuts]
        yield from measured(ensembles, series, rolling, config, out=out)
        return
    earlier = (config.origins - 1) * config.stride
    if (origins - 1) * stride > earlier:
        raise ConfigError(
            f"{folder}: its networks have learnt from targets up to {config.horizon + earlier} steps before the end "
            f"of each series, so that an origin {config.horizon + (origins - 1) * stride} steps before it would not be "
            "fair. Take fewer origins or a smaller stride, forecast anew with more origins in the configuration, or "
            "pass --refit, which fits the networks anew at each origin."
        )
    _check_not_shorter(folder, series)
    missing = missing_networks(folder, config)
    if missing is not None:
        yield missing
    yield from measured([load_ensemble(folder)], series, rolling, config, out=out)


def _check_not_shorter(folder: Path, series: SeriesSet) -> None:
    """Refuse a table that was cut off after the forecast: the networks have learnt from the end of what is left."""
    path = folder / "measures.json"
    steps = json.loads(path.read_text()).get("steps", {}) if path.is_file() else {}
    for name, length in zip(series.names, series.lengths, strict=True):
        if length < steps.get(name, 0):
            raise ConfigError(
                f"{folder}: its networks were fitted when series {name!r} had {steps[name]} targets, and the table has "
                f"{length} now, so that they may have learnt from what they would be measured on. Bring the table "
                "back, or pass --refit, which fits the networks anew at each origin."
            )


def read_series(config: ForecastConfig) -> SeriesSet:
    """Read the table of a configuration.

    Raises:
        ConfigError: the table is not a set of time series; the message names the file.
    """
    path = Path(config.data.file).expanduser()
    try:
        return _mapped(path, config) if config.data.memory == "mapped" else _series_of(read_table(path), config)
    except SeriesError as error:
        place = "" if str(error).startswith(str(config.data.file)) else f"{config.data.file}: "
        raise ConfigError(f"{place}{error}") from None


def _mapped(path: Path, config: ForecastConfig) -> SeriesSet:
    """Return the series of a table mapped from a copy beside it, which is written if there is none."""
    if config.data.series is None:
        raise ConfigError(
            "data.memory is 'mapped', but data.series is null: one series is read at once. Remove data.memory."
        )
    about = [str(VERSION), config.data.model_dump_json(), f"{config.horizon} {config.held_out}"]
    for file in table_files(path):
        about.append(f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}")
    key = hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]
    folder = path.absolute().parent / ".lstmjax" / f"{path.stem[:40]}-{key}"
    if folder.is_dir():
        return open_series(folder)
    return store_series(read_parts(path, lambda rows: _series_of(rows, config), config.data.series), folder)


def _series_of(rows: Any, config: ForecastConfig) -> SeriesSet:
    """Return the series of a table, with the rows of the horizon and what the configuration adds to the columns."""
    table = config.data
    series = from_frame(
        rows, target=table.target, series=table.series, time=table.time, past=table.past, known=table.known,
        numbers=table.numbers, categories=table.categories, season=table.season,
    )  # fmt: skip
    if config.held_out:
        if (series.lengths <= config.held_out).any():
            s = int(np.argmin(series.lengths))
            raise SeriesError(
                f"held_out is {config.held_out}, but series {series.names[s]!r} has {series.lengths[s]} targets. "
                "Hold out fewer."
            )
        series = series.cut(config.held_out)
    series = series.extended(config.horizon)
    return series.with_calendar(table.calendar) if table.calendar else series


def design_of(config: ForecastConfig, series: SeriesSet) -> Design:
    """Return the design of the network, with the defaults that depend on the series."""
    network, m = config.network, series.season
    seasonal = (m - 1, m, m + 1, 2 * m) if m > 2 else (m, 2 * m) if m == 2 else (2, 3)
    values = network.model_dump() | {
        "context": network.context or max(2 * config.horizon, 3 * m),
        "lags": network.lags or tuple(sorted({1, 2, *seasonal})),
    }
    try:
        return Design(horizon=config.horizon, season=m, **values)
    except ValueError as error:
        raise ConfigError(f"network: {error}") from None


def calibration_of(config: ForecastConfig) -> Calibration | None:
    """Return how the spread is calibrated."""
    return None if config.calibration is None else Calibration(**config.calibration.model_dump())


def described(series: SeriesSet) -> str:
    """Return what was understood of a table, as a line."""
    lengths, missing = series.lengths, gaps(series)
    many = len(series) > 1
    unit = str(series.frequency) if series.frequency and series.frequency.every == 1 else "step"
    span = f"{lengths.min()} to {counted(lengths.max(), unit)}" if many else counted(lengths[0], unit)
    words = [f"{len(series)} series of {span}"]
    if series.frequency and series.frequency.every > 1:
        words.append(f"a step is {series.frequency}")
    words.append(f"season of {series.season} steps" if series.season > 1 else "no season")
    if missing:
        most = sorted(missing, key=lambda name: -missing[name])[:GAPS]
        names = ", ".join(f"{name} {missing[name]}" for name in most) + (", …" if len(missing) > GAPS else "")
        words.append(
            f"{counted(sum(missing.values()), 'target')} missing in {len(missing)} series"
            + (f" ({names})" if many else "")
        )
    return ", ".join(words)


def measured(
    ensembles: Sequence[Ensemble],
    series: SeriesSet,
    rolling: Rolling,
    config: ForecastConfig,
    *,
    folder: Path | None = None,
    out: Path | None = None,
) -> Iterator[str]:
    """Backtest each network and all of them together; yield the table.

    Args:
        ensembles: the one that forecasts from all origins, or one for each origin.
        series, rolling: where they are measured.
        config: of the run.
        folder: for measures.json; None: none.
        out: CSV file for the measures of each series; None: none.
    """
    baselines = baselines_of(config, series, rolling)
    if config.statistical is None and has_statistical() and "ETS" not in baselines:
        yield (
            f"ETS and ARIMA are left out: there are more than {FEW} forecasts, or series of more than {SHORT} steps; "
            "statistical: true fits them all the same"
        )
    together, members = backtest_members(
        ensembles[0],
        series,
        rolling,
        samples=config.samples,
        refit=_fitted_before(ensembles) if len(ensembles) > 1 else None,
        baselines=baselines,
    )
    single = [member.measures()["network"] for member in members]
    measures = together.measures()
    rows: dict[str, dict[str, float]] = {}
    if len(members) > 1:
        rows[f"ensemble of {len(members)}"] = measures["network"]
        rows["one network (median)"] = {name: float(np.median([m[name] for m in single])) for name in single[0]}
    else:
        rows["network"] = single[0]
    rows |= {name: measures[name] for name in baselines}
    if folder is not None:
        report: dict[str, Any] = {
            "measures": rows,
            "seeds": single,
            "origins": rolling.origins,
            "stride": rolling.stride,
            "pooled": together.pooled(),
            "steps": dict(zip(series.names, series.lengths.tolist(), strict=True)),
        }
        write_text(folder / "measures.json", json.dumps(report, indent=1) + "\n")
    if out is not None:
        write_table(out.with_suffix(""), per_series(together, series), "csv")
    yield from table_of(rows)
    yield from verdict_of(together, rows)


def _fitted_before(ensembles: Sequence[Ensemble]) -> Callable[[SeriesSet], Ensemble]:
    """Return what `backtest_members` fits networks by, if there are some for each origin already."""
    later = iter(ensembles[1:])

    def refit(known: SeriesSet) -> Ensemble:
        del known
        return next(later)

    return refit


def baselines_of(config: ForecastConfig, series: SeriesSet, rolling: Rolling) -> dict[str, Baseline]:
    """Return what the networks are compared with; ETS and ARIMA, where they are installed and do not take long.

    Raises:
        ConfigError: they are required, and not installed.
    """
    if config.statistical and not has_statistical():
        raise ConfigError("statistical is true, but ETS and ARIMA need statsforecast: pip install 'lstmjax[forecast]'")
    quick = len(series) * rolling.origins <= FEW and series.lengths.max() <= SHORT
    wanted = config.statistical or (config.statistical is None and has_statistical() and quick)
    return {**BASELINES, **(STATISTICAL if wanted else {})}


def table_of(rows: dict[str, dict[str, float]]) -> Iterator[str]:
    """Yield measures as the lines of a table."""
    width = max(map(len, rows))
    yield " " * width + "".join(f"{name:>13}" for name in SHOWN)
    for name, measures in rows.items():
        yield f"{name:<{width}}" + "".join(f"{measures[key]:>13.4g}" if key in measures else " " * 13 for key in SHOWN)


def verdict_of(result: Backtest, rows: dict[str, dict[str, float]]) -> Iterator[str]:
    """Yield a line that says whether the network is ahead of the best baseline."""
    ours = next(iter(rows.values()))["mase"]
    best = min(result.baselines, key=lambda name: rows[name]["mase"])
    word = "ahead of" if ours < rows[best]["mase"] else "BEHIND"
    count = result.origins.size if result.left_out is None else int((~result.left_out).sum())
    over = counted(count, "forecast")
    yield f"MASE {ours:.3f}, {word} the best baseline ({best}, {rows[best]['mase']:.3f}), over {over}"
