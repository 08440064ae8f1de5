"""Train any model with any loss and any optimizer: `fit`, and the hooks that watch it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from lstmjax.training.finite import Diverged, bad_leaves
from lstmjax.training.models import Loss, Parted, means_of, objective_of, parted
from lstmjax.training.shards import make_mesh, on_one_device
from lstmjax.training.step import Info, TrainState, averaged, gradient_statistics, make_train_step, start_state
from lstmjax.types import Array, PyTree

Values = dict[str, float]
Source = Callable[[int], Any] | Sequence[Any]
"""The batches: a function of the step, from 0 on, or a sequence that is repeated."""


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


class Fitted(NamedTuple):
    """How `fit` ended."""

    model: Any  # with the best parameters on validation, or the last ones without one, in the form that was passed
    step: int  # the step of these
    record: Mapping[str, Any] | None  # the numbers of the evaluation at this step; None: there was none
    state: TrainState  # after the last step, from which training can go on
    reason: str | None  # why it was stopped; None: it came to its end


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
        return self._parts.whole(self.params, on_one_device(self.state.rest))

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


def fit(
    model: Any,
    data: Source,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    seed: int = 0,
    evaluate: Callable[[Any], Values] | None = None,
    evaluate_every: int | None = None,
    score: Callable[[Values], float] = lambda values: -values["loss"],
    patience: int | None = None,
    min_delta: float = 0.0,
    plateau: optax.GradientTransformationExtraArgs | None = None,
    average: float | None = None,
    gradients: bool = False,
    on_nan: str = "stop",
    hooks: Sequence[Hook | Hooks] = (),
    state: TrainState | None = None,
    mesh: str | Mapping[str, int] | Mesh | None = None,
) -> Fitted:
    """Train a model, and return it with its best parameters.

    Everything random is a function of the seed and the step, so that a training that goes on from a saved `state` ends
    in the same parameters, bit by bit.

    Args:
        model: a pytree of parameters, such as `init_network` returns; an `nnx.Module`; or a pair (linen module,
            variables). It is not changed.
        data: `data(step)` is the batch of a step, anything that `loss` takes; or a sequence of batches.
        loss: `loss(model, batch, key)` returns a scalar, or (scalar, dict of scalars to report). The model is a pytree
            of parameters, an `nnx.Module`, or a bound linen module; key is another one at each step.
        optimizer: any Optax transformation; `optax.MultiSteps` accumulates gradients.
        steps: number of steps in all.
        seed: seed of the keys.
        evaluate: `evaluate(model)` returns numbers by name, with "loss" among them unless `score` takes others. The
            model is in the form in which it was passed, for linen its variables.
        evaluate_every: steps between evaluations; None: ten in all. There is always one after the last step.
        score: of these numbers, higher is better; by it the best parameters are chosen.
        patience: stop after so many evaluations in a row without improvement; None: never.
        min_delta: by how much the score must rise to count as an improvement.
        plateau: `optax.contrib.reduce_on_plateau`, which gets minus the score at each evaluation.
        average: decay of an exponential moving average of the parameters, which is evaluated and returned then. The
            parameters themselves are evaluated, too, as "raw" in the record.
        gradients: report the norm and the noise scale of the gradient, see `gradient_statistics`.
        on_nan: "stop": a loss that is not finite raises Diverged at the next evaluation; "skip": leave out batches
            whose loss or gradient is not finite.
        hooks: called after steps and evaluations, in this order; see `Hook`.
        state: the state of an earlier call, `Fitted.state`, to go on from.
        mesh: devices, as `make_mesh` takes them: "auto" for all, {"data": 4, "model": 2} for 4 slices of the batch and
            the hidden units of layers in 2 parts; None: one device. Each array of a batch has the sequences on its
            first axis. The loss is that of all of them, to rounding, and JAX splits its computation.

    Raises:
        ValueError, TypeError: an argument does not fit; the message says which.
        Diverged: the loss, the gradient or the state is NaN or infinite.

    Example:
        >>> import optax
        >>> def squared(params, batch, key):
        ...     return jnp.mean((batch @ params - 3.0) ** 2)
        >>> data = [np.eye(2, dtype=np.float32)]
        >>> fitted = fit(jnp.zeros(2), data, squared, optax.sgd(0.5), steps=20)
        >>> np.asarray(fitted.model).round(3).tolist()
        [3.0, 3.0]
    """
    if on_nan not in ("stop", "skip"):
        raise ValueError(f"on_nan is {on_nan!r}, expected 'stop' or 'skip'.")
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected 1 or more.")
    if evaluate is None and (patience is not None or plateau is not None):
        raise ValueError(
            "patience and plateau act on the score of an evaluation; pass evaluate=, a function of the model."
        )
    if isinstance(optimizer, optax.MultiSteps):
        optimizer = optimizer.gradient_transformation()
    parts = parted(model)
    objective = objective_of(loss, parts)
    draw = source_of(data)
    key = jax.random.key(seed)
    if state is None:
        sums = jax.eval_shape(objective, parts.params, parts.rest, draw(0), key)[1][0]
        state = start_state(
            parts.params,
            optimizer,
            jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), sums),
            rest=parts.rest,
            average=average is not None,
            gradients=gradients,
            plateau=plateau,
            patience=patience is not None,
            skip=on_nan == "skip",
        )
    state = jax.tree.map(jnp.array, state)  # a copy, as the buffers of the state are donated
    every = evaluate_every or max(steps // 10, 1)
    rules = Rules(score, patience, min_delta, plateau, average)
    train_step = make_train_step(objective, optimizer, average=average or 0.0, mesh=make_mesh(mesh))
    training = Training(parts, state, steps, rules, means_of)
    best = Best(evaluate is not None)
    measure = None if evaluate is None else lambda params, rest: evaluate(parts.whole(params, rest))
    try:
        run_loop(
            training, train_step, draw, key, measure=measure, due=lambda done: done % every == 0, hooks=(best, *hooks)
        )
    except Diverged as error:
        raise Diverged(f"{error}; lower the learning rate or clip the gradient", error.step) from None
    if best.params is None:
        return Fitted(training.model, training.step, training.record, on_one_device(training.state), training.reason)
    whole = parts.whole(*jax.tree.map(jnp.asarray, (best.params, best.rest)))
    return Fitted(whole, best.step, best.record, on_one_device(training.state), training.reason)


class Best:
    """A hook that keeps the best parameters in the memory of the host."""

    def __init__(self, active: bool):
        self.active = active
        self.params: PyTree | None = None
        self.rest: PyTree | None = None
        self.step, self.score = 0, -math.inf
        self.record: Mapping[str, Any] | None = None

    def on_evaluate(self, training: Training) -> None:
        """Copy the parameters if their score is the best one."""
        assert training.record is not None
        if not self.active:
            return
        score = training.rules.score(training.record["validation"])
        if self.params is None or score > self.score:
            self.params, self.rest = jax.tree.map(np.array, (training.params, on_one_device(training.state.rest)))
            self.step, self.score, self.record = training.step, score, training.record

    def on_step(self, training: Training) -> None:
        """Do nothing."""

    def on_end(self, training: Training) -> None:
        """Do nothing."""


def source_of(data: Source) -> Callable[[int], Any]:
    """Return batches as a function of the step."""
    if callable(data):
        return data
    if not isinstance(data, Sequence) or not len(data):
        raise TypeError(
            f"data is a {type(data).__name__}, expected a function of the step, such as Shuffled(arrays, batch_size), "
            "or a list of batches."
        )
    return lambda step: data[step % len(data)]


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
        measure: numbers of the validation, of parameters and rest; None: none.
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
            training.seconds_left = clock.left(done, training.steps)
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

    def left(self, step: int, steps: int) -> float:
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
