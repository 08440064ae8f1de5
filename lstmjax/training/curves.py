"""The curves of a run as a picture; the one file of training that imports matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw_curves(records: Sequence[dict[str, Any]], metric: str, path: str | Path, title: str = "") -> None:
    """Writes a PNG with the loss and the metric over the steps, of training and of validation.

    Args:
        records: lines of metrics.jsonl.
        metric: "accuracy" or "mse".
        path: where to.
        title: above both panels.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)  # no global state, no display
    figure.suptitle(title)
    steps = [record["step"] for record in records]
    for axes, name in zip(figure.subplots(1, 2), ("loss", metric), strict=True):
        marker = "o" if len(steps) < 10 else None
        for part, colour, label in (
            ("train", "tab:gray", "train (with dropout, shifts and smoothing)"),  # not to be compared with validation
            ("validation", "tab:blue", "validation"),
        ):
            values = [record[part][name] for record in records]
            axes.plot(steps, values, color=colour, label=label, marker=marker, markersize=3)
        axes.set_xlabel("step")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
