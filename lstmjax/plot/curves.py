"""The training curves of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lstmjax.plot.sheet import LINES, Picture, plain, sheet, whole_ticks


def curves(
    records: Sequence[dict[str, Any]], metric: str, *, train_only: Sequence[str] = (), title: str = ""
) -> Picture:
    """Draw the loss and the metric over the steps of a run, of training and of validation.

    Args:
        records: lines of metrics.jsonl, as dicts.
        metric: "accuracy" or "mse", the metric of the run.
        train_only: what affects the numbers of training but not those of validation, such as "dropout", for the label.
        title: the title above both panels.

    Returns:
        `Picture`, a `matplotlib.figure.Figure`.

    Raises:
        ValueError: there is no record, or none with that metric.
    """
    if not records:
        raise ValueError("records is empty: the run was not evaluated yet, so there is nothing to draw.")
    if metric not in records[0]["validation"]:
        metrics = ", ".join(map(repr, records[0]["validation"]))
        raise ValueError(f"metric is {metric!r}, but the records have {metrics}.")
    figure = sheet(9, 3.6, title or f"loss and {metric} of a run")
    steps = [record["step"] for record in records]
    for axes, name in zip(figure.subplots(1, 2), ("loss", metric), strict=True):
        marker = "o" if len(steps) < 10 else None
        for part, colour, label in (
            ("train", "tab:gray", f"train (with {', '.join(train_only)})" if train_only else "train"),
            ("validation", LINES[0], "validation"),
        ):
            values = [record[part][name] for record in records]
            axes.plot(steps, values, color=colour, label=label, marker=marker, markersize=3)
        axes.set_xlabel("training step")
        axes.set_ylabel(name)
        whole_ticks(axes)
        plain(axes)
        axes.legend(frameon=False)
    return figure
