"""One step of training of any model with any loss, and the state that it carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from lstmjax.training.shards import Gradients, by_slices, over
from lstmjax.types import Array, PyTree


class TrainState(NamedTuple):
    """Everything that training carries from step to step; data and random keys are functions of `step`.

    It is one pytree of arrays, so that it can be saved, and mapped over seeds by `jax.vmap`. A field that is None is
    not used, and not in a checkpoint.
    """

    params: PyTree
    moments: PyTree  # state of the optimizer
    step: Array  # number of batches done
    sums: PyTree  # over the batches since the last evaluation
    rest: PyTree | None = None  # what the model carries beside its parameters, such as running means
    average: optax.EmaState | None = None  # of the parameters
    gradients: GradientSums | None = None  # over the batches since the last evaluation
    plateau: PyTree | None = None  # of optax.contrib.reduce_on_plateau, updated at each evaluation
    patience: Patience | None = None  # of early stopping, updated at each evaluation
    skipped: Array | None = None  # number of batches left out because their loss or gradient was not finite
    first_bad: Array | None = None  # first step whose loss was not finite, from 1 on; 0: none. It is never saved


class GradientSums(NamedTuple):
    """Sums over batches, by which the norm and the noise of their gradients are estimated."""

    total: PyTree  # of the gradients
    norm: Array  # of their norms
    square: Array  # of their squared norms
    batches: Array  # their number

    @classmethod
    def zero(cls, params: PyTree) -> GradientSums:
        """Return the sums over no batches."""
        none = (jnp.zeros((), jnp.float32) for _ in range(3))  # a buffer each, as buffers are donated
        return cls(jax.tree.map(jnp.zeros_like, params), *none)


class Patience(NamedTuple):
    """How long the score on validation has not improved."""

    best: Array  # float32, the best score
    waited: Array  # int32, number of evaluations since


class Info(NamedTuple):
    """What a step of training computes beside its state."""

    loss: Array  # of the batch
    sums: PyTree  # of the batch, as the objective returns them


class Objective(Protocol):
    """A loss of any model, in the form that `make_train_step` takes.

    With a method `total` of the same arguments, which returns the loss before it is divided by a sum over the batch,
    and a method `divisor(sums)`, several devices add up their slices at once; the arrays of `carried` then have the
    sequences of the batch on their first axis. Without these JAX splits the step.
    """

    def __call__(self, params: PyTree, carried: PyTree, batch: Any, key: Array) -> tuple[Array, tuple[PyTree, PyTree]]:
        """Return the loss, the sums over the batch that are added up between evaluations, and what is carried."""


def start_state(
    params: PyTree,
    optimizer: optax.GradientTransformation,
    sums: PyTree,
    *,
    rest: PyTree | None = None,
    average: bool = False,
    gradients: bool = False,
    plateau: optax.GradientTransformation | None = None,
    patience: bool = False,
    skip: bool = False,
) -> TrainState:
    """Return the state before the first step.

    Args:
        params: parameters of the model.
        optimizer: any Optax transformation.
        sums: zeros in the form of the sums that the objective returns.
        rest: what the model carries beside its parameters.
        average: whether an average of the parameters is kept.
        gradients: whether the norm and the noise of the gradient are measured.
        plateau: `optax.contrib.reduce_on_plateau`; None: the step size is not reduced.
        patience: whether training stops early.
        skip: whether batches whose loss or gradient is not finite are left out.
    """
    return TrainState(
        params=params,
        moments=optimizer.init(params),
        step=jnp.zeros((), jnp.int32),
        sums=sums,
        rest=rest,
        average=optax.ema(0.0).init(params) if average else None,
        gradients=GradientSums.zero(params) if gradients else None,
        plateau=None if plateau is None else plateau.init(params),
        patience=Patience(jnp.full((), -jnp.inf, jnp.float32), jnp.zeros((), jnp.int32)) if patience else None,
        skipped=jnp.zeros((), jnp.int32) if skip else None,
        first_bad=jnp.zeros((), jnp.int32),
    )


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    average: float = 0.0,
    donate: bool = True,
    mesh: Mesh | None = None,
) -> Callable[[TrainState, Any, Array], tuple[TrainState, Info]]:
    """Return the compiled function `step(state, batch, key) -> (state, info)`.

    Which parts of the state are not None decides what else the step does: average the parameters, sum up gradients,
    leave out batches that are not finite.

    Args:
        objective: the loss; `objective_of` makes one of a function of a model and a batch.
        optimizer: any Optax transformation. Those that ask for it get `value`, `grad` and `value_fn`.
        average: decay of the average of the parameters, for a state that has one.
        donate: give the buffers of the state before the step to the state after it, which saves their memory.
        mesh: devices with the axes data and, optionally, model, see `lstmjax.training.make_mesh`; None: one device. The
            function then takes states and batches from anywhere, and splits them.
    """
    transform = optax.with_extra_args_support(optimizer)
    gradients = by_slices(objective, mesh) if mesh is not None and hasattr(objective, "divisor") else at_once(objective)

    def step(state: TrainState, batch: Any, key: Array) -> tuple[TrainState, Info]:
        draws = jax.random.fold_in(key, state.step)
        gradient, value, sums, carried = gradients(state.params, state.rest, batch, draws)
        updates, moments = transform.update(
            gradient,
            state.moments,
            state.params,
            value=value,
            grad=gradient,
            value_fn=lambda params: objective(params, state.rest, batch, draws)[0],
        )
        if state.plateau is not None:
            updates = optax.tree.scale(state.plateau.scale, updates)
        params = optax.apply_updates(state.params, updates)
        done = state.step + 1
        after = state._replace(
            params=params, moments=moments, sums=jax.tree.map(_added, state.sums, sums), rest=carried, step=done
        )
        if state.average is not None:
            _, averaged = optax.ema(average).update(params, state.average)
            after = after._replace(average=averaged)
        if state.gradients is not None:
            after = after._replace(gradients=_with_gradient(state.gradients, gradient))
        finite = jnp.isfinite(value)
        if state.skipped is not None:
            finite &= jnp.isfinite(optax.tree.norm(gradient))
            after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state)
            after = after._replace(step=done, skipped=state.skipped + ~finite)
        elif state.first_bad is not None:
            after = after._replace(first_bad=jnp.where((state.first_bad == 0) & ~finite, done, state.first_bad))
        return after, Info(value, sums)

    if mesh is not None:
        return over(mesh, step, donate=donate)
    return jax.jit(step, donate_argnums=(0,) if donate else ())


def at_once(objective: Objective) -> Gradients:
    """Return the gradient of an objective over a batch."""

    def gradients(params: PyTree, carried: PyTree, batch: Any, key: Array) -> tuple[PyTree, Array, PyTree, PyTree]:
        def loss_of(params: PyTree) -> tuple[Array, tuple[Array, PyTree, PyTree]]:
            value, (sums, carried_after) = objective(params, carried, batch, key)
            return value, (value, sums, carried_after)

        gradient, (value, sums, carried_after) = jax.grad(loss_of, has_aux=True)(params)
        return gradient, value, sums, carried_after

    return gradients


def _added(total: Array, more: Array) -> Array:
    """Return a sum in the dtype of the total, so that the form of a state does not depend on the model's dtype."""
    return total + more.astype(total.dtype)


def _with_gradient(sums: GradientSums, gradient: PyTree) -> GradientSums:
    norm = optax.tree.norm(gradient).astype(jnp.float32)
    return GradientSums(
        jax.tree.map(jnp.add, sums.total, gradient), sums.norm + norm, sums.square + norm * norm, sums.batches + 1
    )


def gradient_statistics(sums: GradientSums) -> dict[str, float | None]:
    """Return the mean norm of the gradient, and its noise scale in batches.

    The noise scale is tr(Σ) / |G|², with the covariance Σ and the mean G of the gradients of batches (McCandlish et al.
    2018, eq. 2.9): the number of batches whose mean has as much noise as signal. It is estimated from n gradients g
    between two evaluations, without bias in numerator and denominator (appendix A.1); the parameters move meanwhile:

        S = mean |g|²,  L = |mean g|²,  tr(Σ) = (S − L) · n / (n − 1),  |G|² = (n · L − S) / (n − 1)

    It is None where the estimate of |G|² is not positive: noise is all that these batches show, or there is one alone.
    """
    n = float(sums.batches)
    if n == 0:
        return {"norm": None, "noise": None}
    mean = {"norm": float(sums.norm) / n}
    of_one = float(sums.square) / n
    of_mean = float(optax.tree.norm(sums.total)) ** 2 / n**2
    signal = n * of_mean - of_one
    return mean | {"noise": (of_one - of_mean) * n / signal if n > 1 and signal > 0 else None}


def averaged(state: TrainState, decay: float) -> PyTree:
    """Return the average of the parameters over the steps, Σ decay^(n−k)·θ_k, divided by the sum of the weights.

    So it is a mean of parameters from the first step on, without the zeros that `optax.ema` begins with.
    """
    assert state.average is not None
    count = jnp.maximum(state.average.count, 1)
    return optax.tree.bias_correction(state.average.ema, decay, count)
