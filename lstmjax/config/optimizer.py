"""The section `optimizer` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lstmjax.config.base import Above0, AtLeast0, Below1, Section, Steps


class Optimizer(Section):
    """How the parameters are updated."""

    name: Literal["adamw", "adam", "adam_keras", "sgd", "rmsprop", "lion"] = "adamw"
    """Update rule, from Optax; "adam_keras": Adam with the ε of Keras."""
    learning_rate: Above0 = 1e-3
    """Largest step size."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the step size decreases after the warm-up."""
    warmup_steps: Steps = 0
    """Steps over which the step size increases linearly."""
    final_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Step size at the end of the schedule, as a fraction of the learning rate."""
    weight_decay: AtLeast0 = 0.0
    """Decoupled decay of all parameters (Loshchilov & Hutter 2019)."""
    momentum: Below1 = 0.9
    """Momentum of sgd; ignored by the other rules."""
    clip_norm: Above0 | None = None
    """Largest global norm of the gradient; None: no clipping."""

    @model_validator(mode="after")
    def _adam_does_not_decay(self) -> Self:
        if self.name == "adam" and self.weight_decay:
            raise ValueError("adam with weight_decay is adamw; say optimizer.name: adamw")
        return self
