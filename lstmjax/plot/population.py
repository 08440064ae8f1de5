"""The units of a layer as a population: how often their gates are saturated, and how training changed that."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

import numpy as np

from lstmjax.arguments import one_of
from lstmjax.plot.sheet import LINES, NAMES, UNIT_INTERVAL, Picture, layers_of, plain, sheet

MARKERS = MappingProxyType({"": "o", "forward": "o", "reverse": "^"})
TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)


def saturation(
    statistics: Any, *, gates: Sequence[str] = UNIT_INTERVAL, low: float = 0.1, high: float = 0.9, title: str = ""
) -> Picture:
    """Draw the units of each gate as points: how often it is left-saturated against how often right-saturated.

    After Karpathy, Johnson & Fei-Fei (2015, figure 3). A unit at the origin never saturates; on the
    diagonal it always does, as a switch.

    Args:
        statistics: an object with `left` and `right`, each with a field `[H]` for each gate, as `gate_statistics`
            returns it; or a tuple with one for each layer.
        gates: the gates to draw, of "i", "f", "g" and "o".
        low, high: the limits with which the fractions were counted, for the labels.
        title: the title of the figure.

    Returns:
        `Picture`, a `matplotlib.figure.Figure`: a panel for each gate, a colour for each layer.

    Raises:
        TypeError: statistics holds something else.
        ValueError: a gate is unknown, or an array is not `[H]`.
    """
    for gate in gates:
        one_of("a gate", gate, ("i", "f", "g", "o"))
    parts = list(layers_of("statistics", statistics, "left"))
    figure = sheet(3.1 * len(gates) + 0.3, 3.6, title or "how often the gates of each unit are saturated")
    panels = figure.subplots(1, len(gates), sharex=True, sharey=True, squeeze=False)[0]
    colours = {layer: LINES[n % len(LINES)] for n, (layer, _) in enumerate(groupby(parts, key=lambda part: part[0]))}
    for axes, gate in zip(panels, gates, strict=True):
        axes.plot([0, 1], [1, 0], color="0.6", linewidth=0.8, zorder=0)
        for layer, direction, part in parts:
            axes.scatter(
                _units("left", gate, part.left),
                _units("right", gate, part.right),
                s=26,
                alpha=0.55,
                color=colours[layer],
                marker=MARKERS[direction],
                edgecolors="none",
                label=", ".join(filter(None, (layer, direction))) or "unit",
                clip_on=False,
            )
        axes.set_title(NAMES[gate], fontsize=10)
        axes.set_xlabel(f"left-saturated\n(fraction of steps below {low:g})", fontsize=9)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=TICKS, yticks=TICKS)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        plain(axes)
    panels[0].set_ylabel(f"right-saturated\n(fraction of steps above {high:g})", fontsize=9)
    if len(parts) > 1:
        panels[-1].legend(loc="upper right", frameon=False, fontsize=8)
    return figure


def learning(
    learnt: Any,
    *,
    layer: int | None = None,
    direction: str | None = None,
    gates: Sequence[str] = UNIT_INTERVAL,
    title: str = "",
) -> Picture:
    """Draw how the gates of one layer change over the checkpoints of a run.

    Args:
        learnt: an object with `steps` `[S]` and `statistics`, as `lstmjax.training.learning` returns it. The statistics
            have `mean`, `left` and `right`, each with a field `[S, H]` for each gate, and may be a tuple with an entry
            for each layer.
        layer: the number of the layer, counted from 0; None for a single layer.
        direction: "forward" or "reverse", for a layer with two directions.
        gates: the gates to draw, of "i", "f", "g" and "o".
        title: the title of the figure.

    Returns:
        `Picture`: above, the mean of each unit (the median of the units, the half around it, and the full range);
        below, how often a gate is saturated, on average over the units.

    Raises:
        TypeError: learnt holds something else.
        ValueError: layer or direction is missing or does not exist, or a gate is unknown.
    """
    for gate in gates:
        one_of("a gate", gate, ("i", "f", "g", "o"))
    steps, part = np.asarray(learnt.steps), _select(learnt.statistics, layer, direction)
    figure = sheet(3.1 * len(gates) + 0.3, 5.2, title or "the gates of a layer in the course of training")
    above, below = figure.subplots(2, len(gates), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 2))
    marker = "o" if len(steps) < 20 else None
    for upper, lower, gate in zip(above, below, gates, strict=True):
        means = _units("mean", gate, part.mean, len(steps))
        least, quarter, middle, three, most = np.quantile(means, (0, 0.25, 0.5, 0.75, 1), axis=1)
        upper.fill_between(steps, least, most, color=LINES[0], alpha=0.15, linewidth=0, label="all units")
        upper.fill_between(steps, quarter, three, color=LINES[0], alpha=0.35, linewidth=0, label="half of the units")
        upper.plot(steps, middle, color=LINES[0], marker=marker, markersize=3, label="median unit")
        upper.set_title(NAMES[gate], fontsize=10)
        for side, colour in (("left", LINES[4]), ("right", LINES[3])):
            often = _units(side, gate, getattr(part, side), len(steps)).mean(axis=1)
            lower.plot(steps, often, color=colour, marker=marker, markersize=3, label=f"{side}-saturated")
        lower.set_xlabel("training step")
        plain(upper)
        plain(lower)
    above[0].set_ylim((-0.03, 1.03) if "g" not in gates else (-1.03, 1.03))
    above[0].set_ylabel("mean over steps")
    below[0].set_ylim(-0.03, 1.03)
    below[0].set_ylabel("fraction of steps")
    for row in (above, below):
        row[-1].legend(frameon=False, fontsize=8, loc="best")
    return figure


def _select(statistics: Any, layer: int | None, direction: str | None) -> Any:
    """Return the statistics of one layer in one direction."""
    parts = list(layers_of("statistics", statistics, "left"))
    layers = list(dict.fromkeys(label for label, _, _ in parts))
    if layer is None and len(layers) > 1:
        raise ValueError(f"learnt has {len(layers)} layers, expected one to be chosen. Pass layer=0 for the first.")
    if not 0 <= (layer or 0) < len(layers):
        raise ValueError(f"layer is {layer}, but learnt has layers 0 to {len(layers) - 1}.")
    directions = {name: part for label, name, part in parts if label == layers[layer or 0]}
    if direction is None and len(directions) > 1:
        raise ValueError("the layer has two directions. Pass direction='forward' or direction='reverse'.")
    if direction is not None:
        one_of("direction", direction, tuple(directions))
        return directions[direction]
    return next(iter(directions.values()))


def _units(kind: str, gate: str, gates: Any, *axes: int) -> np.ndarray:
    """Return the statistic of a gate as an array `[*axes, H]`."""
    if getattr(gates, gate) is None:
        raise ValueError(f"statistics.{kind}.{gate} is None: that gate was not looked at. Pass gates without {gate!r}.")
    value = np.asarray(getattr(gates, gate), np.float64)
    if value.ndim != len(axes) + 1 or value.shape[:-1] != axes:
        expected = ", ".join([*map(str, axes), "H"])
        raise ValueError(f"statistics.{kind}.{gate} has shape {value.shape}, expected [{expected}].")
    return value
