"""Train any model with any loss and any optimizer: `fit`, and the hooks that watch it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from lstmjax.training.drive import run_loop
from lstmjax.training.finite import Diverged
from lstmjax.training.hooks import Hook, Hooks, Rules, Training, Values
from lstmjax.training.models import Loss, means_of, objective_of, parted
from lstmjax.training.shards import make_mesh, on_one_device
from lstmjax.training.step import TrainState, make_train_step, start_state
from lstmjax.types import PyTree

Source = Callable[[int], Any] | Sequence[Any]
"""The batches: a function of the step, from 0 on, or a sequence that is repeated."""


class Fitted(NamedTuple):
    """How `fit` ended."""

    model: Any  # with the best parameters on validation, or the last ones without one, in the form that was passed
    step: int  # the step of these
    record: Mapping[str, Any] | None  # the numbers of the evaluation at this step; None: there was none
    state: TrainState  # after the last step, from which training can go on
    reason: str | None  # why it was stopped; None: it came to its end


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
        sums = jax.eval_shape(objective, parts.params, parts.carried, draw(0), key)[1][0]
        state = start_state(
            parts.params,
            optimizer,
            jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), sums),
            rest=parts.carried,
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
    measure = None if evaluate is None else lambda params, carried: evaluate(parts.joined(params, carried))
    try:
        run_loop(
            training, train_step, draw, key, measure=measure, due=lambda done: done % every == 0, hooks=(best, *hooks)
        )
    except Diverged as error:
        raise Diverged(f"{error}; lower the learning rate or clip the gradient", error.step) from None
    if best.params is None:
        return Fitted(training.model, training.step, training.record, on_one_device(training.state), training.reason)
    best_model = parts.joined(*jax.tree.map(jnp.asarray, (best.params, best.carried)))
    return Fitted(best_model, best.step, best.record, on_one_device(training.state), training.reason)


class Best:
    """A hook that keeps the best parameters in the memory of the host."""

    def __init__(self, active: bool):
        self.active = active
        self.params: PyTree | None = None
        self.carried: PyTree | None = None
        self.step, self.score = 0, -math.inf
        self.record: Mapping[str, Any] | None = None

    def on_evaluate(self, training: Training) -> None:
        """Copy the parameters if their score is the best one."""
        assert training.record is not None
        if not self.active:
            return
        score = training.rules.score(training.record["validation"])
        if self.params is None or score > self.score:
            self.params, self.carried = jax.tree.map(np.array, (training.params, on_one_device(training.state.rest)))
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
