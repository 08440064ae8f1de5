"""The folder of a training run as a file of weights: the network of its best checkpoint."""

from __future__ import annotations

from pathlib import Path

from lstmjax.frameworks.base.architecture import Architecture
from lstmjax.frameworks.base.contents import Contents
from lstmjax.frameworks.base.framework import Container
from lstmjax.frameworks.base.layouts import ConvertError
from lstmjax.published import find_cell

ORBAX = ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt")
"""Files in a folder that Orbax wrote."""


def read_run(path: Path) -> Contents:
    """Read the network of the best checkpoint in the folder of a run."""
    from lstmjax.training.reading import load_sequence_run  # the trainer imports optax and orbax

    if not (path / "config.yaml").exists() and any((path / name).exists() for name in ORBAX):
        raise ConvertError(
            "is a checkpoint of Orbax, which does not say what its arrays are. Restore it by "
            "orbax.checkpoint.StandardCheckpointer().restore(path), and pass the tree to from_linen or from_nnx"
        )
    trained = load_sequence_run(path, "exchange its weights")
    model, about = trained.config.model, trained.about
    settings = []
    if model.residual:
        settings.append("model.residual is true")
    if model.zoneout:
        settings.append(f"model.zoneout is {model.zoneout}")
    if any(about.offset) or set(about.scale) != {1.0}:
        settings.append("the scale of its inputs")
    if about.target_scale is not None:
        settings.append("the scale of its targets")
    architecture = Architecture(find_cell(model.cell), model.merge, about.per_step, stated=True)
    return Contents({}, settings=tuple(settings), params=trained.params, architecture=architecture)


RUN = Container((), "run folder", read_run)
