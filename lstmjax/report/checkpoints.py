"""What the map shows at the checkpoints of a run: the gates of the examples, as the network computed them then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from lstmjax.report.collect import Settings, by_direction, compute_steps
from lstmjax.report.details import RunDetails
from lstmjax.report.inputs import ReportInputs
from lstmjax.report.pack import PageArray
from lstmjax.types import PyTree

MAX_NUMBERS = 600_000
"""Numbers of all maps, of 8 bit each: a page stays below 2 MB with them."""
MOST, ENOUGH = 12, 4
"""The most checkpoints that have a map, and how many there are before fields are left out instead."""
FEW = ("f", "c")
"""The fields that remain if there is no room for all of them."""


def checkpoint_maps(
    run: RunDetails, data: ReportInputs, fields: Sequence[str], settings: Settings
) -> list[dict[str, Any]]:
    """Return the gates of the examples at some checkpoints of a run, the first and the last one among them.

    Args:
        run: the run, with its checkpoints.
        data: the sequences.
        fields: the fields of `Step` on the page.
        settings: how the network is run.

    Returns:
        For each checkpoint its step, and for each example and each part of the page the fields `[t, H]`; nothing where
        there is no room for two checkpoints.
    """
    if run.learning is None or len(run.checkpoints) < 2:
        return []
    rows = np.array(data.examples)
    first = _steps(run.checkpoints[0][1], data, rows, settings)
    kept = [name for name in fields if getattr(first[0], name) is not None]
    room = _room(first, kept, data, run)
    if room < min(ENOUGH, len(run.checkpoints)):
        kept = [name for name in kept if name in FEW]
        room = _room(first, kept, data, run)
    if room < 2:
        return []
    maps = []
    for n in np.unique(np.linspace(0, len(run.checkpoints) - 1, room).round().astype(int)).tolist():
        step, params = run.checkpoints[n]
        parts = _steps(params, data, rows, settings)
        examples = [_example(parts, k, int(data.lengths[row]), kept) for k, row in enumerate(rows)]
        maps.append({"step": int(step), "examples": examples})
    return maps


def _room(parts: Sequence[Any], names: Sequence[str], data: ReportInputs, run: RunDetails) -> int:
    """Return how many checkpoints fit with these fields, of the examples of a trace."""
    steps = sum(int(data.lengths[row]) for row in data.examples)
    units = sum(getattr(part, name).shape[-1] for part in parts for name in names)
    return min(MOST, MAX_NUMBERS // max(steps * units, 1), len(run.checkpoints))


def _steps(params: PyTree, data: ReportInputs, rows: np.ndarray, settings: Settings) -> list[Any]:
    """Return the trace of the examples, for each layer and direction."""
    lengths = jnp.asarray(data.lengths[rows], jnp.int32) if data.ragged else None
    return list(by_direction(compute_steps(params, jnp.asarray(data.xs[rows]), lengths, settings=settings)).values())


def _example(parts: Sequence[Any], n: int, length: int, names: Sequence[str]) -> list[dict[str, PageArray]]:
    """Return the fields of an example in each part; those that are not finite, early in training, are left out."""
    entries = []
    for part in parts:
        arrays = {name: np.asarray(getattr(part, name)[n, :length], np.float64) for name in names}
        entries.append({name: PageArray(a, "t") for name, a in arrays.items() if np.isfinite(a).all()})
    return entries
