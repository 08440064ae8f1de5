"""The page of `lstmjax inspect` for a regional model: what happens in its network in the days of the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.claims import counted
from lstmjax.config import ConfigError
from lstmjax.entity import as_vanilla
from lstmjax.forecast.series import SeriesSet
from lstmjax.forecast.unfinished import is_unfinished, remedy
from lstmjax.hydrology.basins import days_of, encoded, until, within
from lstmjax.hydrology.config import load_hydrology_config
from lstmjax.hydrology.network import EntityNetwork, beside, scaled
from lstmjax.hydrology.regional import RegionalModel
from lstmjax.hydrology.run_hydrology import read_basins
from lstmjax.hydrology.storing import load_model
from lstmjax.report.inspect_folder import errors_name, page_file, written
from lstmjax.report.page import report

MAX_BASINS = 64


def inspect_basins(
    run: str | Path, out: str | Path | None = None, examples: int = 4, *, open_page: bool = False
) -> Iterator[str]:
    """Write the page that shows what happens inside the network of a regional model, and yield lines about it.

    The network of the first seed is run over the last window that ends with the test, an entity-aware one as the
    vanilla LSTM that it equals.

    Args:
        run: the folder that `lstmjax hydrology` has written.
        out: the page, .html. None: report.html in that folder.
        examples: the number of basins that are shown day by day.
        open_page: open the page in the browser.

    Raises:
        UserError: the folder lacks a file, the cell is mass-conserving, or the page cannot be written.
    """
    run = Path(run)
    out = page_file(run, out, examples)
    config = load_hydrology_config(run / "config.yaml")
    if not (run / "model.npz").is_file() and is_unfinished(run):
        raise ConfigError(f"{run}: has no model.npz yet, as it was stopped, or is still running; continue it by: "
                          f"{remedy(run, 'hydrology')}")  # fmt: skip
    model = load_model(run / "model.npz").member(0)
    if model.design.cell == "mass_conserving":
        raise ConfigError(f"{run}: its cell is mass_conserving, which has other gates than the page shows; "
                          "model.cell_states(basins) returns what it stores")  # fmt: skip
    basins = read_basins(config)
    xs, lengths, times, names = last_windows(model, basins, config.test)
    count, units = len(names), counted(model.design.hidden_size, "unit")
    params = jax.tree.map(lambda leaf: leaf[0], model.params)
    layers = (as_vanilla(params.layer),) if isinstance(params, EntityNetwork) else params.layers
    with errors_name(run):
        page = report(
            layers, xs, lengths=lengths, examples=tuple(range(min(examples, count))),
            features=[*model.forcing_names, *encoded(basins, model.levels).number_names], names=names, times=times,
            title=run.name, facts=[f"{model.design.cell}, {units}, seed {model.seeds[0]}",
                                   f"looked at: {xs.shape[1]} days up to {config.test[1]}"], path=out,
        )  # fmt: skip
    yield from written(
        page, out, f"{min(examples, count)} of {counted(len(basins), 'basin')} shown", open_page=open_page
    )


def last_windows(
    model: RegionalModel, basins: SeriesSet, test: tuple[str, str]
) -> tuple[np.ndarray, np.ndarray, list[list[str]], tuple[str, ...]]:
    """Return the scaled inputs of the last window in a period, of basins that have a forcing on all its days.

    Returns:
        inputs `[N, window, F + A]`; valid days `[N]`; the date of each day; and the names of the basins.

    Raises:
        ConfigError: no basin has such a window.
    """
    basins = encoded(basins, model.levels)
    days = model.design.window
    rows: list[np.ndarray] = []
    times: list[list[str]] = []
    which: list[int] = []
    inside = within(basins, until(basins, test[1]))
    for s in range(len(basins)):
        at = np.arange(basins.starts[s], basins.starts[s + 1])[inside[basins.starts[s] : basins.starts[s + 1]]][-days:]
        if len(at) == days and not np.isnan(basins.known[at]).any() and len(which) < MAX_BASINS:
            rows.append(at)
            which.append(s)
            times.append([str(day) for day in days_of(basins, s)[at - basins.starts[s]]])
    if not which:
        raise ConfigError(f"no basin has {days} days of forcing up to {test[1]}, which the page would show")
    forcing = jnp.asarray(basins.known[np.stack(rows)], jnp.float32)
    xs = beside(*scaled(model.scales, forcing, jnp.asarray(basins.numbers[which], jnp.float32)))
    return np.asarray(xs), np.full(len(which), days), times, tuple(basins.names[s] for s in which)
