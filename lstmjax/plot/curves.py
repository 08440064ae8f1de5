"""The training curves of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lstmjax.plot.sheet import LINES, Picture, plain, sheet, whole_ticks


def curves(
    records: Sequence[dict[str, Any]], metric: str | Sequence[str], *, train_only: Sequence[str] = (), title: str = ""
) -> Picture:
    """Draw the loss and the metrics over the steps of a run, of training and of validation.

    Args:
        records: lines of metrics.jsonl, as dicts.
        metric: name of a metric of the run, such as "accuracy", or several names.
        train_only: what affects the numbers of training but not those of validation, such as "dropout", for the label.
        title: the title above the panels.

    Returns:
        `Picture`, a `matplotlib.figure.Figure`.

    Raises:
        ValueError: there is no record, or none with that metric.
    """
    names = (metric,) if isinstance(metric, str) else tuple(metric)
    if not records:
        raise ValueError("records is empty: the run was not evaluated yet, so there is nothing to draw.")
    for name in names:
        if name not in records[0]["validation"]:
            metrics = ", ".join(map(repr, records[0]["validation"]))
            raise ValueError(f"metric is {name!r}, but the records have {metrics}.")
    rows = -(-(len(names) + 1) // 3)
    columns = min(len(names) + 1, 3)
    figure = sheet(4.5 * columns, 3.6 * rows, title or f"loss and {', '.join(names)} of a run")
    steps = [record["step"] for record in records]
    label = f"train (with {', '.join(train_only)})" if train_only else "train"
    series = (("train", "tab:gray", label), ("validation", LINES[0], "validation"), ("raw", LINES[1], "not averaged"))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, ("loss", *names), strict=False):
        marker = "o" if len(steps) < 10 else None
        for part, colour, text in series:
            if name in records[0].get(part, ()):  # some metrics need all outputs at once, which training has not
                values = [record[part][name] for record in records]
                axes.plot(steps, values, color=colour, label=text, marker=marker, markersize=3)
        axes.set_xlabel("training step")
        axes.set_ylabel(name)
        whole_ticks(axes)
        plain(axes)
        axes.legend(frameon=False)
    for axes in panels[len(names) + 1 :]:
        axes.set_visible(False)
    return figure
