"""The section `loss` of the configuration."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from lstmjax.config.base import Below1, Section


class Loss(Section):
    """The loss, and with it what the logits mean."""

    name: Literal["softmax", "sigmoid", "linear"] = "softmax"
    """"softmax": one class; "sigmoid": any number of labels at once; "linear": numbers (squared error)."""
    label_smoothing: Below1 = 0.0
    """Fraction of the target that is spread over all classes."""

    @model_validator(mode="after")
    def _numbers_are_not_smoothed(self) -> Self:
        if self.name == "linear" and self.label_smoothing:
            raise ValueError("loss.label_smoothing is for classes; set it to 0 for loss.name: linear")
        return self
