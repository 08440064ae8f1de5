"""What hooks see of a training, and how they stop it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import optax

from lstmjax.training.finite import Diverged, bad_leaves
from lstmjax.training.models import Parted
from lstmjax.training.shards import on_one_device
from lstmjax.training.step import Info, TrainState, averaged
from lstmjax.types import PyTree

Values = dict[str, float]


class Hook(Protocol):
    """What is called while `fit` trains; `Hooks` makes one of functions. Each gets the `Training`, and can stop it."""

    def on_evaluate(self, training: Training) -> None:
        """Act after an evaluation, whose numbers are `training.record`."""

    def on_step(self, training: Training) -> None:
        """Act after each step; after the evaluation, if there is one at this step."""

    def on_end(self, training: Training) -> None:
        """Act after the last step, also of a training that was stopped."""


def _nothing(training: Training) -> None:
    pass


@dataclass(frozen=True)
class Hooks:
    """A hook made of functions.

    >>> hook = Hooks(on_evaluate=lambda training: print(training.step, training.record["validation"]))
    """

    on_evaluate: Callable[[Training], None] = _nothing
    on_step: Callable[[Training], None] = _nothing
    on_end: Callable[[Training], None] = _nothing


class Rules(NamedTuple):
    """What happens at an evaluation beside measuring."""

    score: Callable[[Values], float]  # of the numbers of validation; higher is better
    patience: int | None = None  # evaluations without improvement after which training stops; None: never
    min_delta: float = 0.0  # what counts as an improvement of the score
    plateau: optax.GradientTransformationExtraArgs | None = None  # optax.contrib.reduce_on_plateau
    average: float | None = None  # decay of the average of the parameters, which is then evaluated


class Training:
    """What hooks see of a training, and how they stop it.

    Attributes:
        state: the state after the step; its arrays are valid until the next step, which takes their memory over.
        step: number of steps done.
        steps: number of steps in all.
        record: the numbers of the latest evaluation: "step", "train", "validation", "steps_per_second"; None before
            the first one.
        reason: why the training stops; None: it goes on.
    """

    def __init__(self, parts: Parted, state: TrainState, steps: int, rules: Rules, means: Callable[[PyTree], Values]):
        self.state, self.step, self.steps = state, int(state.step), steps
        self.record: dict[str, Any] | None = None
        self.reason: str | None = None
        self.evaluated = False  # whether there was an evaluation at this very step
        self.improved = False  # whether this evaluation was better than all before, by min_delta
        self.seconds_left: float | None = None  # from the latest evaluation on; None: there was none
        self._parts, self.rules, self.means = parts, rules, means
        self.info: Info | None = None  # of the latest step

    def stop(self, reason: str) -> None:
        """End the training after this step."""
        self.reason = self.reason or reason

    @property
    def batch(self) -> Values:
        """The numbers of the latest batch. Asking for them waits for the device."""
        return {} if self.info is None else self.means(self.info.sums)

    @property
    def params(self) -> PyTree:
        """The parameters that are evaluated and delivered: their average, if there is one."""
        if self.rules.average is None:
            return on_one_device(self.state.params)
        return averaged(on_one_device(self.state), self.rules.average)

    @property
    def model(self) -> Any:
        """The model with these parameters, in the form in which it was passed to `fit`."""
        return self._parts.joined(self.params, on_one_device(self.state.rest))

    def check(self) -> None:
        """Refuse a state that is not finite.

        Raises:
            Diverged: the loss of a step since the last evaluation, a parameter or a moment is not finite.
        """
        state = self.state
        first = 0 if state.first_bad is None else int(state.first_bad)
        values = self.means(state.sums)
        if state.skipped is None and not all(map(math.isfinite, values.values())):
            raise Diverged(f"the training loss is {values['loss']} at step {first or self.step}", first or self.step)
        if bad := bad_leaves(on_one_device(state)):
            raise Diverged(f"{bad[0]} holds NaN or infinity after step {self.step}", self.step)
