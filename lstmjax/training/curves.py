"""Write the curves of a run to a file; only this module of training imports Matplotlib, through `lstmjax.plot`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lstmjax.plot import curves
from lstmjax.writing import draft


def draw_curves(
    records: Sequence[dict[str, Any]],
    metrics: Sequence[str],
    path: str | Path,
    title: str = "",
    train_only: Sequence[str] = (),
) -> None:
    """Write a PNG with the loss and the metrics of training and validation over the steps; see `plot.curves`."""
    with draft(Path(path)) as place:
        curves(records, metrics, title=title, train_only=train_only).savefig(place, dpi=120, format="png")
