"""The picture of a benchmark: ratios at each point, or time over the size that grows. Matplotlib without pyplot."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmjax.bench.competitors import AUTO, CONTROL, OURS, REFERENCE
from lstmjax.bench.growth import LETTERS, curve
from lstmjax.bench.results import Comparison, Results
from lstmjax.bench.standing import noise, ratio
from lstmjax.plot.sheet import LINES, Picture, plain, sheet

SHOWN = 4  # times that of lstmjax auto: longer bars are cut, their numbers are not


def picture(results: Results) -> Picture:
    """Draw bars of each competitor's time over that of lstmjax auto, or the curves of growth."""
    if results.growth is not None:
        return curves(results)
    shown = {(comparison.point, comparison.mode): comparison for comparison in results.comparisons}
    points = list(dict.fromkeys(point for point, _ in shown))
    modes = list(dict.fromkeys(mode for _, mode in shown))
    bars = max(len(comparison.timed()) for comparison in results.comparisons)
    figure = sheet(6.5 * len(modes), 0.5 + (0.8 + 0.16 * bars) * len(points), _title(results))
    panels = figure.subplots(len(points), len(modes), squeeze=False)
    for axes, key in zip(panels.flat, ((point, mode) for point in points for mode in modes), strict=True):
        if key in shown:
            _bars(axes, shown[key])
    return figure


def _bars(axes: Any, comparison: Comparison) -> None:
    timed = comparison.timed()
    rows = sorted(timed.values(), key=lambda row: np.median(row.seconds))
    base = timed.get(AUTO) or timed.get(REFERENCE)
    axes.set_title(f"{comparison.point.name} ({comparison.point}), {comparison.mode}, {comparison.dtype}", fontsize=9)
    if base is None:
        return
    ratios = [ratio(row, base) for row in rows]
    medians = [r.median for r in ratios]
    spread = [[r.median - r.low for r in ratios], [r.high - r.median for r in ratios]]
    colour_of = {OURS: LINES[0], CONTROL: "0.8"}
    colours = [colour_of.get(row.kind, "0.6") for row in rows]
    axes.barh(range(len(rows)), medians, xerr=spread, color=colours, error_kw={"linewidth": 0.8}, height=0.7)
    width = noise(comparison)
    if np.isfinite(width):  # somebody was timed twice
        axes.axvspan(max(0, 1 - width), 1 + width, color=LINES[1], alpha=0.2, linewidth=0)
    axes.axvline(1, color=LINES[1], linewidth=1)
    for n, value in enumerate(medians):
        axes.annotate(f" {value:.2f}", (min(value, SHOWN), n), va="center", fontsize=7)
    axes.set_xlim(0, min(SHOWN, max(medians)) * 1.15)
    axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel(f"time over that of {base.name}; whiskers: quartiles, band: noise", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    plain(axes)


def curves(results: Results) -> Picture:
    """Draw the time of a call, and that time per step, unit or sequence, over the size that grows."""
    letter = results.growth or ""
    modes = list(dict.fromkeys(comparison.mode for comparison in results.comparisons))
    figure = sheet(10, 3.6 * len(modes), _title(results))
    panels = figure.subplots(len(modes), 2, squeeze=False)
    for row, mode in zip(panels, modes, strict=True):
        for n, (name, (sizes, seconds)) in enumerate(curve(results, mode).items()):
            for axes, values in zip(row, (seconds, seconds / sizes), strict=True):
                axes.loglog(sizes, 1e3 * values, marker="o", markersize=3, label=name, color=LINES[n % len(LINES)])
        field = LETTERS[letter].field
        ticks = sorted({getattr(comparison.point, field) for comparison in results.comparisons})
        for axes, what in zip(row, ("call", f"call over {letter}"), strict=True):
            axes.set_title(f"{mode}, {what}", fontsize=9)
            axes.set_xlabel(f"{letter}, {LETTERS[letter].about}")
            axes.set_ylabel("ms")
            axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=6)
            axes.set_xticks([], minor=True)
            plain(axes)
        row[0].legend(frameon=False, fontsize=8)
    return figure


def _title(results: Results) -> str:
    machine = results.machine
    where = machine.cpu if machine.platform == "cpu" else machine.device
    return f"{where}, {machine.cpus} threads; JAX {machine.versions.get('jax')}, Python {machine.python}"
