"""Hydrographs: the discharge of basins as it was measured, and as networks simulate it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lstmjax.plot.sheet import LINES, Picture, sheet


def hydrographs(
    observed: Sequence[np.ndarray],
    simulated: Sequence[np.ndarray],
    days: Sequence[np.ndarray],
    *,
    names: Sequence[str],
    title: str = "Discharge, mm/day: measured and simulated",
) -> Picture:
    """Draw the discharge of each basin.

    Args:
        observed: of each basin `[T]`, with a T of its own, mm/day; NaN where it was not measured.
        simulated: of each basin `[networks, T]`: their mean is drawn, and their range as a band.
        days: of each basin, datetime64 `[T]`.
        names: of the basins.
        title: of the picture.

    Raises:
        ValueError: the numbers of basins or days differ.
    """
    sizes = [(len(y), f.shape[-1], len(d)) for y, f, d in zip(observed, simulated, days, strict=True)]
    if len(names) != len(sizes) or any(len(set(of_one)) != 1 for of_one in sizes):
        raise ValueError(
            f"observed, simulated and days have {sizes} days, for {len(names)} names; expected as many each."
        )
    figure = sheet(10.0, 1.9 * len(names) + 0.5, title)
    axes = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    for ax, y, f, when, name in zip(axes, observed, simulated, days, names, strict=True):
        ax.plot(when, y, color="black", linewidth=0.8, label="measured")
        ax.plot(when, f.mean(0), color=LINES[0], linewidth=1, label="simulated")
        if len(f) > 1:
            ax.fill_between(when, f.min(0), f.max(0), color=LINES[0], alpha=0.3, linewidth=0, label="networks")
        ax.set_title(name, fontsize=9)
        ax.tick_params(labelsize=8)
    axes[0].legend(fontsize=8, loc="upper left", framealpha=0.8)
    return figure
