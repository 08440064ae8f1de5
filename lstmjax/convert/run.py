"""The folder of a run of `lstmjax train`, as a kind of file that holds a network."""

from __future__ import annotations

from pathlib import Path

from lstmjax.convert.architecture import Architecture
from lstmjax.convert.names import Contents
from lstmjax.published import find_cell


def read_run(path: Path) -> Contents:
    """Read the network of the best checkpoint in the folder of a run."""
    from lstmjax.training.loop import load_run  # the trainer imports optax and orbax

    trained = load_run(path)
    model, about = trained.config.model, trained.about
    settings = []
    if model.residual:
        settings.append("model.residual is true")
    if model.zoneout:
        settings.append(f"model.zoneout is {model.zoneout}")
    if any(about.offset) or set(about.scale) != {1.0}:
        settings.append("the scale of its inputs")
    architecture = Architecture(find_cell(model.cell), model.merge, about.per_step, stated=True)
    return Contents({}, settings=tuple(settings), params=trained.params, architecture=architecture)
