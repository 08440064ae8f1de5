"""The files of a forecast: tables of what is to come, of samples and of measures; pictures of series."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.data.form import optional
from lstmjax.forecast.calendar import shown_time
from lstmjax.forecast.comparison import Backtest
from lstmjax.forecast.series import SeriesSet
from lstmjax.writing import draft, write_text

PICTURES = 6
"""Series in the one picture."""

Columns = dict[str, list[Any]]
"""A table: values by the name of their column; None where there is none."""


def ahead_of(samples: np.ndarray, series: SeriesSet, levels: tuple[float, ...], has_mean: bool) -> Columns:
    """Return mean, median and quantiles of samples `[S, samples, H]`, a row for each series and step.

    Without a mean (`Design.has_mean`) that column is empty. Numbers have the digits in which samples differ.
    """
    table = _steps_of(samples, series)
    digits = [digits_of(samples[s, :, k]) for s, k in np.ndindex(samples.shape[0], samples.shape[2])]
    mean = samples.mean(1, dtype=np.float64)
    statistics = {"mean": mean if has_mean else np.full_like(mean, np.nan), "median": np.median(samples, 1)}
    quantiles = np.quantile(samples, levels, axis=1)
    statistics |= {f"q{level:g}": quantiles[k] for k, level in enumerate(levels)}
    for name, values in statistics.items():
        table[name] = [rounded(value, n) for value, n in zip(values.ravel(), digits, strict=True)]
    return table


def samples_of(samples: np.ndarray, series: SeriesSet) -> Columns:
    """Return samples `[S, samples, H]`, a row for each series and step and a column for each sample."""
    table = _steps_of(samples, series)
    for n in range(samples.shape[1]):
        table[f"sample_{n + 1}"] = samples[:, n].ravel().tolist()
    return table


def per_series(result: Backtest, series: SeriesSet) -> Columns:
    """Return each measure, a row for each series and for the network and each baseline, averaged over origins."""
    tables = result.per_series()
    names = tuple(next(iter(tables.values())))
    columns: Columns = {"series": [], "forecast": []} | {name: [] for name in names}
    for s, label in enumerate(series.names):
        for forecast, measures in tables.items():
            columns["series"].append(label)
            columns["forecast"].append(forecast)
            for name in names:
                value = float(measures[name][s]) if name in measures else np.nan
                columns[name].append(rounded(value, 6))
    return columns


def write_table(path: Path, table: Columns, kind: str) -> Path:
    """Write a table as CSV or Parquet, completely or not at all; return its path, with the ending.

    Args:
        path: without an ending.
        table: its columns.
        kind: "csv" or "parquet".
    """
    path = path.with_name(f"{path.name}.{kind}")
    if kind == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(table)
        columns = [[text_of(value) for value in column] for column in table.values()]
        writer.writerows(zip(*columns, strict=True))
        write_text(path, out.getvalue())
        return path
    arrow = optional("pyarrow", str(path))
    from pyarrow import parquet

    with draft(path) as place:
        parquet.write_table(arrow.table(table), place)
    return path


def text_of(value: Any) -> str:
    """Return a value as it stands in a CSV file."""
    if isinstance(value, np.datetime64):
        return shown_time(value)
    if not isinstance(value, float):
        return "" if value is None else str(value)
    short = f"{value:.15g}"
    return short if float(short) == value else repr(value)  # samples are read back as they are


def rounded(value: float, digits: int) -> float | None:
    """Return a number with some significant digits; None for NaN."""
    return None if np.isnan(value) else float(f"{value:.{digits}g}")


def digits_of(samples: np.ndarray) -> int:
    """Return how many digits show what differs between samples: 6, and more where they differ little."""
    size, width = np.abs(samples).max(), np.ptp(samples)
    if not 0 < width < size / 10 or not np.isfinite(size):
        return 6
    return int(np.clip(3 + np.ceil(np.log10(size / width)), 6, 15))


def _steps_of(samples: np.ndarray, series: SeriesSet) -> Columns:
    """Return the columns series, time and step of each row."""
    count, _, horizon = samples.shape
    rows = series.ends[:, None] + np.arange(horizon)
    if series.times is None:
        times = (series.lengths[:, None] + np.arange(horizon)).ravel().tolist()
    else:
        times = list(series.times[rows.ravel()])
    return {
        "series": np.repeat(np.asarray(series.names, object), horizon).tolist(),
        "time": times,
        "step": np.tile(np.arange(1, horizon + 1), count).tolist(),
    }


def draw(samples: np.ndarray, series: SeriesSet, path: Path) -> None:
    """Draw fan charts of the first series into one picture."""
    _draw(samples, series, range(min(len(series), PICTURES)), path)


def draw_each(samples: np.ndarray, series: SeriesSet, folder: Path) -> Path:
    """Draw the fan chart of each series into a picture: NUMBER-NAME.png, the name without what files cannot have."""
    folder.mkdir(exist_ok=True)
    for s, name in enumerate(series.names):
        _draw(samples, series, range(s, s + 1), folder / f"{s + 1}-{re.sub(r'[^0-9A-Za-z._-]+', '_', name)[:80]}.png")
    return folder


def _draw(samples: np.ndarray, series: SeriesSet, which: range, path: Path) -> None:
    from lstmjax.plot.forecasts import fan_charts

    horizon = samples.shape[-1]
    times = None
    if series.times is not None:
        times = [series.times[series.starts[s] : series.ends[s] + horizon] for s in which]
    figure = fan_charts(
        [series.history(s) for s in which],
        samples[which.start : which.stop],
        names=[series.names[s] for s in which],
        times=times,
    )
    with draft(path) as place:
        figure.savefig(place, format="png", dpi=130)
