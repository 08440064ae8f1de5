"""The design of a regional model, and how it is fitted."""

from __future__ import annotations

from dataclasses import dataclass

import optax

from lstmjax.arguments import check_above_0, check_counts, one_of

CELLS = ("vanilla", "entity_aware", "mass_conserving")


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is fixed about a regional model; hashable, so that programs are compiled for it.

    "vanilla" sees the attributes beside the forcing at every step. "entity_aware" has an input gate that is a function
    of the attributes only (Kratzert et al. 2019). "mass_conserving" distributes its precipitation over units and lets
    no water vanish (Hoedt et al. 2021).
    """

    cell: str = "entity_aware"
    """"vanilla", "entity_aware" or "mass_conserving"."""
    hidden_size: int = 32
    """H, units."""
    window: int = 365
    """Days that are read, the last one included."""
    predict: int = 1
    """Last days of a window that are predicted. 1 is sequence to one; with more of them, an update learns from as many
    discharges at the cost of one pass, but the first of them have fewer days before them."""
    dropout: float = 0.0
    """Rate of dropout before the head; the mass-conserving cell has no head."""
    forget_bias: float = 3.0
    """Initial bias of the forget gate (Kratzert et al. 2019 take 3 to 5): memories of months need one above 0."""
    mass: str = "precipitation"
    """The forcing that the mass-conserving cell conserves: in the unit of the discharge, and not below 0."""

    def __post_init__(self) -> None:
        one_of("cell", self.cell, CELLS)
        check_counts(self, "hidden_size", "window", "predict")
        if self.predict > self.window:
            raise ValueError(
                f"predict is {self.predict}, more than the {self.window} days of the window; choose at most as many."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected a rate from 0 to below 1.")
        if self.cell == "mass_conserving" and self.hidden_size < 2:
            raise ValueError(
                f"hidden_size is {self.hidden_size}; a mass-conserving cell needs 2 or more, one for what evaporates."
            )


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a regional model is fitted; hashable."""

    steps: int = 1000
    """Updates of the parameters."""
    batch_size: int = 64
    """B, windows in an update."""
    learning_rate: float = 5e-3
    """Of Adam, at the beginning; it decreases to 0 along a cosine."""
    clip_norm: float = 1.0
    """Largest global norm of the gradient."""
    average: float | None = 0.99
    """Decay of the running average of the parameters that is the result; None: the last parameters."""

    def __post_init__(self) -> None:
        check_counts(self, "steps", "batch_size")
        check_above_0(self, "learning_rate", "clip_norm")

    def optimizer(self) -> optax.GradientTransformation:
        """Return the Optax optimizer of one network."""
        schedule = optax.cosine_decay_schedule(self.learning_rate, self.steps)
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), optax.adam(schedule))
