"""The page of `lstmjax inspect` for a forecast: what happens in its network around the last origin, with dates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from lstmjax.forecast.backtest import Rolling
from lstmjax.forecast.calendar import shown_time
from lstmjax.forecast.config import ForecastConfig, load_forecast_config
from lstmjax.forecast.forecaster import Forecaster
from lstmjax.forecast.network import context_inputs, input_names
from lstmjax.forecast.run_forecast import missing_networks, read_series
from lstmjax.forecast.series import SeriesSet
from lstmjax.forecast.storing import load_forecaster, network_files
from lstmjax.forecast.windows import cut, on_device
from lstmjax.report.inspect_folder import errors_name, page_file, written
from lstmjax.report.page import report

MAX_SERIES = 512  # more of them would not change what is seen of the gates


def inspect_forecast(
    run: str | Path, out: str | Path | None = None, examples: int = 4, *, open_page: bool = False
) -> Iterator[str]:
    """Write the page that shows what happens inside the network of a forecast, and yield lines about it.

    The network of the first seed is run over the context of each series and, in the autoregressive form, over the
    horizon behind it, with the targets that came.

    Args:
        run: the folder that `lstmjax forecast` has written.
        out: the page, .html. None: report.html in that folder.
        examples: the number of series that are shown step by step.
        open_page: open the page in the browser.

    Raises:
        UserError: the folder lacks a file, the page cannot be written, or it would be too large.
    """
    run = Path(run)
    out = page_file(run, out, examples)
    config = load_forecast_config(run / "config.yaml", of_run=True)
    series = read_series(config)
    missing = missing_networks(run, config)
    if missing is not None:
        yield missing
    path = network_files(run)[0]
    forecaster = load_forecaster(path)
    count = min(len(series), MAX_SERIES)
    xs, lengths, times = steps_around_origin(forecaster, series, count)
    with errors_name(run):
        page = report(
            forecaster.params.layers,
            xs,
            lengths=lengths,
            examples=tuple(range(min(examples, count))),
            features=input_names(forecaster.design, series),
            names=series.names[:count],
            times=times,
            title=run.name,
            facts=_facts(config, forecaster, path),
            cell=forecaster.design.cell,
            path=out,
        )
    yield from written(page, out, f"{min(examples, count)} of {len(series)} series shown", open_page=open_page)


def steps_around_origin(
    forecaster: Forecaster, series: SeriesSet, count: int
) -> tuple[np.ndarray, np.ndarray, list[list[str]]]:
    """Return the inputs of the layers around the last origin of the first series, a horizon before their end.

    Returns:
        inputs `[N, T, I]`, beginning with the first step that lies in the series; valid steps `[N]`; and the date of
        each step, or its number where there are no dates.
    """
    design = forecaster.design
    series = forecaster.matched(series).subset(range(count))
    origins = Rolling().of(series, design.horizon)[0]
    window = cut(on_device(series, design), jnp.arange(count, dtype=jnp.int32), jnp.asarray(origins, jnp.int32), design)
    xs, inside = map(np.asarray, context_inputs(forecaster.params, window, design, forecaster.normal))
    lengths = inside.sum(1)
    shifted, times = np.zeros_like(xs), []
    for s, length in enumerate(lengths):
        shifted[s, :length] = xs[s, len(inside[s]) - length :]
        # the last step is the end of the horizon, or of the context
        stop = origins[s] + (design.horizon if design.form == "autoregressive" else 0)
        steps = np.arange(stop - length, stop)
        at = steps if series.times is None else series.times[series.starts[s] + steps]
        times.append([shown_time(time) for time in at])
    return shifted, lengths, times


def _facts(config: ForecastConfig, forecaster: Forecaster, path: Path) -> list[str]:
    """Return what is known of the run, for the head of the page."""
    design = forecaster.design
    span = f"{design.context} steps before the last origin"
    if design.form == "autoregressive":
        span += f" and the {design.horizon} behind it, with the targets that came"
    return [f"looked at: {span}", f"{design.form}, {design.likelihood}, target {config.data.target}", path.name]
