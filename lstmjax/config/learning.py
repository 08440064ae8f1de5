"""The sections `stopping`, `plateau` and `average` of the configuration: what training does beside its steps."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from lstmjax.config.base import Above0, AtLeast0, Section, Size, Steps

Decay = Annotated[float, Field(gt=0.0, lt=1.0)]


class Stopping(Section):
    """Stop early, when validation does not improve any more."""

    patience: Size | None = None
    """Validations in a row without improvement after which training stops; None: never. The best network is kept."""
    min_delta: AtLeast0 = 0.0
    """By how much the metric must improve to count."""

    @model_validator(mode="after")
    def _a_delta_has_a_patience(self) -> Self:
        if self.patience is None and self.min_delta:
            raise ValueError("stopping.min_delta is for stopping.patience; give that too, or remove it")
        return self


class Plateau(Section):
    """Reduce the step size when validation does not improve any more."""

    patience: Size | None = None
    """Validations in a row without improvement after which the step size is reduced; None: never."""
    factor: Decay = 0.5
    """By what the step size is multiplied then."""
    min_delta: Above0 = 1e-4
    """By how much the metric must improve to count."""
    cooldown: Steps = 0
    """Validations after a reduction that do not count."""
    min_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Smallest step size, as a fraction of that of the schedule."""


class Average(Section):
    """Average the parameters over the steps, exponentially weighted."""

    decay: Decay | None = None
    """Decay of the average at each step, such as 0.999; None: no average. With one, it is the averaged network that
    is validated, chosen and used; the metrics of the other one stand beside, as "raw"."""
