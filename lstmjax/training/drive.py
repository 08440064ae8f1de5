"""Run the steps of a training, with the evaluations between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.training.finite import Diverged
from lstmjax.training.hooks import Hook, Hooks, Training, Values
from lstmjax.training.shards import on_one_device
from lstmjax.training.step import Info, TrainState, gradient_statistics
from lstmjax.types import Array, PyTree

Request = tuple[TrainState, Any, Array]
"""What a training asks to be done next: a step of this state, with this batch and this key."""
T = TypeVar("T")


def run_loop(
    training: Training,
    train_step: Callable[[TrainState, Any, Array], tuple[TrainState, Info]],
    draw: Callable[[int], Any],
    key: Array,
    *,
    measure: Callable[[PyTree, PyTree], Values] | None,
    due: Callable[[int], bool],
    hooks: Sequence[Hook | Hooks] = (),
) -> None:
    """Train from the step of the state to the last one: the loop of `fit` and of the command line.

    Args:
        training: the state to begin from, and the number of steps.
        train_step: as `make_train_step` returns it.
        draw: the batch of a step.
        key: random key, the same at every step; the step number is folded in.
        measure: numbers of the validation, of parameters and what the model carries; None: none.
        due: whether the model is evaluated after so many steps; it always is after the last one.
        hooks: called in their order.

    Raises:
        Diverged: the loss or the state is not finite.
    """
    drive(loop_steps(training, draw, key, measure=measure, due=due, hooks=hooks), train_step)


def drive(
    requests: Generator[Request, tuple[TrainState, Info], T],
    train_step: Callable[[TrainState, Any, Array], tuple[TrainState, Info]],
) -> T:
    """Do the steps that a training asks for, until it ends, and return its result."""
    try:
        request = next(requests)
        while True:
            try:
                done = train_step(*request)
            except BaseException as error:
                requests.throw(error)  # so that its contexts end as if the step stood in it
                raise
            request = requests.send(done)
    except StopIteration as end:
        result: T = end.value
        return result


def loop_steps(
    training: Training,
    draw: Callable[[int], Any],
    key: Array,
    *,
    measure: Callable[[PyTree, PyTree], Values] | None,
    due: Callable[[int], bool],
    hooks: Sequence[Hook | Hooks] = (),
) -> Generator[Request, tuple[TrainState, Info], None]:
    """Yield the steps of `run_loop` as requests, so that one program can do those of several trainings at once.

    What it is sent is what `make_train_step` returns for the request.
    """
    clock = _Clock(training.step)
    patience = training.state.patience
    if patience is not None and training.rules.patience is not None:
        waited = int(patience.waited)
        if waited >= training.rules.patience:  # a training that had stopped, and is called again
            training.stop(f"no improvement in {waited} evaluations")
    for step in range(training.step, training.steps if training.reason is None else 0):
        batch = draw(step)
        began = time.monotonic()
        training.state, training.info = yield training.state, batch, key
        clock.note(batch, began)
        training.step = done = step + 1
        training.evaluated = training.improved = False
        if due(done) or done == training.steps:
            _evaluate(training, measure, clock)
            training.seconds_left = clock.remaining(done, training.steps)
            for hook in hooks:
                hook.on_evaluate(training)
            clock.start(done)
        for hook in hooks:
            hook.on_step(training)
        if training.reason is not None:
            break
    for hook in hooks:
        hook.on_end(training)


def _evaluate(training: Training, measure: Callable[[PyTree, PyTree], Values] | None, clock: _Clock) -> None:
    """Write the record of an evaluation, and update what follows from it: sums, patience, plateau."""
    training.check()
    state, rules = on_one_device(training.state), training.rules  # the next step splits it again
    record: dict[str, Any] = {"step": training.step, "train": training.means(state.sums)}
    speed = clock.speed(training.step)
    began = time.monotonic()
    if measure is not None:
        record["validation"] = checked("validation", measure(training.params, state.rest), training.step)
        if rules.average is not None:
            record["raw"] = checked("validation", measure(state.params, state.rest), training.step)
    clock.measured(time.monotonic() - began)
    if state.gradients is not None:
        record["gradient"] = gradient_statistics(state.gradients)
        state = state._replace(gradients=jax.tree.map(jnp.zeros_like, state.gradients))
    if state.skipped is not None:
        record["skipped"] = int(state.skipped)
    record["steps_per_second"] = speed
    if measure is not None:
        score = np.float32(rules.score(record["validation"]))
        if state.patience is not None:
            better = bool(score > np.float32(state.patience.best) + np.float32(rules.min_delta))
            waited = 0 if better else int(state.patience.waited) + 1
            best = score if better else np.float32(state.patience.best)
            state = state._replace(patience=type(state.patience)(jnp.asarray(best), jnp.asarray(waited, jnp.int32)))
            training.improved = better
            if rules.patience is not None and waited >= rules.patience:
                training.stop(f"no improvement in {waited} evaluations")
        if state.plateau is not None:
            assert rules.plateau is not None
            _, plateau = rules.plateau.update({}, state.plateau, value=jnp.asarray(-score))
            state = state._replace(plateau=plateau)
            record["learning_rate_scale"] = float(plateau.scale)
    training.state = state._replace(sums=jax.tree.map(jnp.zeros_like, state.sums))
    training.record, training.evaluated = record, True


def checked(part: str, values: Values, step: int) -> Values:
    """Return the numbers of a part of the data if they are finite.

    Raises:
        Diverged: they are not.
    """
    if not all(map(math.isfinite, values.values())):
        raise Diverged(f"the {part} loss is {values.get('loss')} at step {step}", step)
    return values


class _Clock:
    """The speed of training, without the steps that compile a program: the first ones with batches of a shape."""

    def __init__(self, step: int):
        self.shapes: set[Any] = set()
        self.begin, self.evaluations = step, 0
        self.measuring = math.inf  # seconds of an evaluation; the first ones also compile
        self.latest = 0.0  # steps per second
        self.start(step)

    def measured(self, seconds: float) -> None:
        """Note how long an evaluation took."""
        self.measuring = min(self.measuring, seconds)
        self.evaluations += 1

    def remaining(self, step: int, steps: int) -> float:
        """Return the seconds that the steps that are left take, and their evaluations."""
        evaluations = (steps - step) * self.evaluations / (step - self.begin)
        return (steps - step) / max(self.latest, 1e-9) + evaluations * self.measuring

    def start(self, step: int) -> None:
        """Begin to measure after a step."""
        self.since, self.first = time.monotonic(), step
        self.compiling, self.compiled = 0.0, 0

    def note(self, batch: Any, began: float) -> None:
        """Note that a step was dispatched, and when that began."""
        shapes = tuple(np.shape(leaf) for leaf in jax.tree.leaves(batch))
        if shapes not in self.shapes:
            self.shapes.add(shapes)
            self.compiling += time.monotonic() - began
            self.compiled += 1

    def speed(self, step: int) -> float:
        """Return steps per second since the last evaluation."""
        seconds, steps = time.monotonic() - self.since, step - self.first
        if steps > self.compiled:
            seconds, steps = seconds - self.compiling, steps - self.compiled
        self.latest = steps / max(seconds, 1e-9)
        return round(self.latest, 1)
