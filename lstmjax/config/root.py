"""The configuration with all its sections."""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from lstmjax.config.base import Batch, Count, Section, Size
from lstmjax.config.data import Data
from lstmjax.config.loss import Loss
from lstmjax.config.model import Model
from lstmjax.config.optimizer import Optimizer


class Config(Section):
    """The configuration of a run."""

    model: Model = Model()
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    loss: Loss = Loss()
    batch_size: Batch = 64
    """B, sequences in one training step."""
    epochs: Count | None = None
    """Passes over the training part; give either this or steps. Generated data have no epochs."""
    steps: Count | None = None
    """Training steps; give either this or epochs."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the initial values, the order of the data, dropout and shifts."""
    evaluate_every: Size | None = None
    """Steps between validations; None: once an epoch, or ten times in all without epochs."""
    checkpoint_every: Size | None = None
    """Steps between checkpoints, which are also validated; None: at every validation."""
    keep_every: Size | None = None
    """Steps between checkpoints that are kept beside the last two and the best one; None: no others."""

    @model_validator(mode="after")
    def _epochs_or_steps(self) -> Self:
        if self.epochs is None and self.steps is None:
            raise ValueError("give exactly one of epochs and steps; neither is given")
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give exactly one of epochs and steps; both are given")
        if self.epochs is not None and self.data.endless:
            raise ValueError(
                f"data.source {self.data.source} has no epochs, as every batch is new; give steps, not epochs"
            )
        return self

    @property
    def fingerprint(self) -> str:
        """A hash of everything but the paths of the data, by which checkpoints recognise their configuration.

        Keys that are not in `FIRST` are left out at their defaults, so that older checkpoints still match.
        """
        excluded: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name in FIRST and name in SECTIONS:
                later = [key for key in type(value).model_fields if key not in FIRST[name]]
                excluded[name] = {key for key in later if getattr(value, key) == getattr(field.default, key)}
            elif name not in FIRST and value == field.default:
                excluded[name] = True
        excluded["data"] |= set(PATHS)
        return hashlib.sha256(self.model_dump_json(exclude=excluded).encode()).hexdigest()[:16]


PATHS = ("source", "validation", "test")
"""Keys of `data` that say where the data lie."""
FIRST: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "model": (
            "hidden_size", "layers", "bidirectional", "merge", "dropout", "recurrent_dropout", "zoneout",
            "projection_size", "bias", "init", "forget_bias", "residual", "dtype", "param_dtype",
        ),
        "data": (*PATHS, "validation_fraction", "normalize", "shift"),
        "optimizer": (
            "name", "learning_rate", "schedule", "warmup_steps", "final_fraction", "weight_decay", "momentum",
            "clip_norm",
        ),
        "loss": ("name", "label_smoothing"),
        "batch_size": (), "epochs": (), "steps": (), "seed": (), "evaluate_every": (), "checkpoint_every": (),
    }
)  # fmt: skip
"""The keys of the first version, with those of their sections."""
SECTIONS = tuple(name for name, field in Config.model_fields.items() if field.annotation in Section.__subclasses__())
"""The keys whose values are sections."""
