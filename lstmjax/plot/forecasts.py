"""Forecasts as pictures: the past of a series, its future as bands of quantiles, and what came."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lstmjax.plot.sheet import LINES, Picture, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

BANDS = ((0.05, 0.95), (0.25, 0.75))
"""Quantiles that bound the bands, the wider one first."""


def fan_charts(
    histories: list[np.ndarray],
    samples: ArrayLike,
    *,
    names: list[str] | None = None,
    times: list[np.ndarray] | None = None,
    targets: list[np.ndarray] | None = None,
    shown: int = 60,
    title: str = "Forecasts: median, and bands of 50% and 90%",
) -> Picture:
    """Draw the last steps of each series, and samples of its future as a fan.

    Args:
        histories: the targets before each origin, `[T]` each; NaN where missing.
        samples: `[S, samples, H]`, from one origin of each series.
        names: of the series.
        times: of the histories and the H steps behind, `[T + H]` each; None: steps from the origin.
        targets: what came, `[H]` each, to draw beside the forecast; None: not known.
        shown: how many steps of each history to draw.
        title: of the picture.
    """
    samples = np.asarray(samples)
    if samples.ndim != 3 or len(samples) != len(histories):
        raise ValueError(
            f"samples is {list(samples.shape)}, expected [S, samples, H] with S = {len(histories)}, the number of "
            "histories."
        )
    count = len(histories)
    columns = 1 if count == 1 else 2
    rows = -(-count // columns)
    figure = sheet(5.2 * columns + 0.6, 2.5 * rows + 0.5, title)
    axes = figure.subplots(rows, columns, squeeze=False)
    for k, ax in enumerate(axes.flat):
        if k >= count:
            ax.remove()
            continue
        when = None if times is None else times[k]
        _fan(ax, histories[k], samples[k], when, None if targets is None else targets[k], shown)
        if names is not None:
            ax.set_title(names[k], fontsize=9)
    axes.flat[0].legend(fontsize=8, loc="upper left", framealpha=0.8)
    return figure


def _fan(
    ax: Axes, history: np.ndarray, samples: np.ndarray, times: np.ndarray | None, target: np.ndarray | None, shown: int
) -> None:
    horizon, steps = samples.shape[-1], len(history)
    x = np.arange(-steps, horizon) if times is None else times
    first = max(steps - shown, 0)
    ahead = x[steps : steps + horizon]
    ax.plot(x[first:steps], history[first:], color="black", linewidth=1, label="targets")
    for k, (low, high) in enumerate(BANDS):
        edges = np.quantile(samples, (low, high), axis=0)
        label = f"{round(100 * (high - low))}%"
        ax.fill_between(ahead, *edges, color=LINES[0], alpha=0.2 + 0.15 * k, linewidth=0, label=label)
    ax.plot(ahead, np.median(samples, 0), color=LINES[0], linewidth=1.3, label="median")
    if target is not None:
        ax.plot(ahead, target, color=LINES[1], linewidth=1, linestyle="--", label="what came")
    ax.axvline(ahead[0], color="0.6", linewidth=0.8, linestyle=":")
    ax.set_xlabel("steps from the origin" if times is None else "")
    ax.tick_params(labelsize=8)
    if times is not None:
        for label in ax.get_xticklabels():
            label.set_rotation(20)
