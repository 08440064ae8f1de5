"""Pictures of several runs: a metric over the steps of each, and a loss over the learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lstmjax.plot.sheet import Picture, plain, sheet, whole_ticks

NAMED = 12  # runs that the legend names; more would cover the curves


def compared(runs: Mapping[str, Sequence[tuple[int, float]]], metric: str) -> Picture:
    """Draw a metric of validation over the steps of several runs, the first one on top.

    Args:
        runs: pairs (step, value) of each run by its name, the best one first.
        metric: name of the metric.

    Returns:
        `Picture`, a `matplotlib.figure.Figure`.

    Raises:
        ValueError: there is no run.
    """
    if not runs:
        raise ValueError("runs is empty, so that there is nothing to draw.")
    from matplotlib import colormaps

    figure = sheet(8.0, 4.5, f"{metric} of validation")
    axes = figure.subplots()
    for n, (name, points) in enumerate(runs.items()):
        steps, values = zip(*points, strict=True)
        colour = colormaps["viridis"](0.95 * n / max(len(runs) - 1, 1))
        marker = "o" if len(steps) < 10 else None
        label = name if n < NAMED else None
        axes.plot(steps, values, color=colour, label=label, marker=marker, markersize=3, zorder=3 + 1 / (1 + n))
    axes.set_xlabel("training step")
    axes.set_ylabel(metric)
    whole_ticks(axes)
    plain(axes)
    more = f"the best {NAMED} of {len(runs)}" if len(runs) > NAMED else None
    axes.legend(frameon=False, fontsize="small", title=more, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def rates(
    learning_rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], chosen: float | None
) -> Picture:
    """Draw the loss over the learning rate, as a learning-rate finder measures it.

    Args:
        learning_rates: of each update, ascending.
        losses: of the batches of each update.
        smoothed: the same, averaged over the updates before.
        chosen: the learning rate to mark; None: none.

    Returns:
        `Picture`, a `matplotlib.figure.Figure`.
    """
    figure = sheet(6.5, 4.0, "loss while the learning rate rises")
    axes = figure.subplots()
    axes.plot(learning_rates, losses, color="tab:gray", alpha=0.5, label="loss of a batch")
    axes.plot(learning_rates, smoothed, color="tab:blue", label="averaged")
    if chosen is not None:
        axes.axvline(chosen, color="tab:red", linestyle="--", label=f"{chosen:.2g}")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    low, high = min(smoothed), max(smoothed[0], min(smoothed))
    margin = max(high - low, 1e-3)
    axes.set_ylim(low - 0.2 * margin, high + margin)  # the divergence at the end would flatten everything else
    plain(axes)
    axes.legend(frameon=False)
    return figure
