"""One step of training, the state that it carries and the initial state."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from lstmjax.config import Config, ConfigError, Loss, Model, Optimizer
from lstmjax.data import About, Sequences
from lstmjax.errors import message_of
from lstmjax.networks import NetworkParams, init_network
from lstmjax.training.inference import Sums, logits_of, sums_of
from lstmjax.training.optimizers import make_optimizer
from lstmjax.types import Array, PyTree


class TrainState(NamedTuple):
    """Everything that training carries from step to step; data and random keys are functions of `step`."""

    params: NetworkParams
    moments: PyTree  # state of the optimizer
    step: Array  # number of steps done
    sums: Sums  # over the batches since the last validation


class Recipe(NamedTuple):
    """The static arguments of the compiled training step; hashable."""

    model: Model
    optimizer: Optimizer
    loss: Loss
    shift: int
    per_step: bool
    steps: int
    mean_weight: float | None = None  # of the labels of a batch, where batches differ in it; None: they do not
    target_scale: tuple[float, ...] | None = None  # see `About`; the metric is in the units of the data


LARGEST = 4.0  # mean batches that a batch may count as: else the gradient of a very long one would be far too large


def init_state(key: Array, recipe: Recipe, about: About) -> TrainState:
    """Return the state before the first step."""
    model = recipe.model
    params = init_network(
        jax.random.fold_in(key, 0),
        about.input_size,
        model.hidden_size,
        about.output_size,
        model.layers,
        bidirectional=model.bidirectional,
        merge=model.merge,
        cell=model.cell,
        projection_size=model.projection_size,
        bias=model.bias,
        init=model.init,
        forget_bias=model.forget_bias,
        input_bias=model.input_bias,
        input_bias_step=model.input_bias_step,
        dtype=jnp.dtype(model.param_dtype),
    )
    moments = make_optimizer(recipe.optimizer, recipe.steps).init(params)
    return TrainState(params, moments, jnp.zeros((), jnp.int32), Sums.zero())


# It runs once, so that optimising it costs more than it saves: 5.7 s instead of 2.2 s, mostly compilation.
first_state = partial(
    jax.jit, static_argnames=("recipe", "about"), compiler_options={"xla_backend_optimization_level": 0}
)(init_state)


@partial(jax.jit, static_argnames="recipe", donate_argnames=("state", "first_bad"))
def train_step(
    state: TrainState, first_bad: Array, data: Sequences, key: Array, *, recipe: Recipe
) -> tuple[TrainState, Array, Sums]:
    """Return the state after one step, the first step whose loss was not finite, and the sums over the batch.

    Args:
        state: the state before the step; its buffers are donated.
        first_bad: int32, the first step whose loss was not finite, counted from 1, or 0. It stays on the device, so
            that every step is checked without waiting for any. A state with a bad loss is never saved, so this is
            not a part of the state.
        data: a batch, x `[B, T, I]`, y and lengths as `lstmjax.data.load` returns them, and weight.
        key: the run's random key, the same at every step; the step number is folded in.
        recipe: what is trained and how.
    """
    shifts, draws = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 1), state.step))
    x = shifted(shifts, jnp.asarray(data.x), recipe.shift)

    def mean_loss(params: NetworkParams) -> tuple[Array, Sums]:
        logits = logits_of(params, x, data.lengths, model=recipe.model, per_step=recipe.per_step, key=draws)
        smoothing = recipe.loss.label_smoothing
        sums = sums_of(
            logits, data.y, data.weight, data.lengths,
            loss=recipe.loss.name, smoothing=smoothing, target_scale=recipe.target_scale,
        )  # fmt: skip
        if recipe.mean_weight is None:
            return sums.loss / sums.weight, sums
        # A mean over each batch would give the labels in small batches, or in batches of short sequences with a label
        # per step, a larger weight than others.
        return sums.loss / jnp.maximum(recipe.mean_weight, sums.weight / LARGEST), sums

    gradient, sums = jax.grad(mean_loss, has_aux=True)(state.params)
    updates, moments = make_optimizer(recipe.optimizer, recipe.steps).update(gradient, state.moments, state.params)
    total = jax.tree.map(jnp.add, state.sums, sums)
    done = state.step + 1
    first_bad = jnp.where((first_bad == 0) & ~jnp.isfinite(sums.loss), done, first_bad)
    return TrainState(optax.apply_updates(state.params, updates), moments, done, total), first_bad, sums


def shifted(key: Array, x: Array, by: int) -> Array:
    """Shift each image, row by row in `[B, T, I]`, by up to `by` pixels in both directions; fill with zeros."""
    if by == 0:
        return x
    padded = jnp.pad(x, ((0, 0), (by, by), (by, by)))
    corners = jax.random.randint(key, (len(x), 2), 0, 2 * by + 1)
    return jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, corner, x.shape[1:]))(padded, corners)


def structure(recipe: Recipe, about: About) -> TrainState:
    """Return the shapes and dtypes of the state; refuse an inconsistent model before any work is done."""
    model = recipe.model
    if model.residual and model.bidirectional and model.layers > 1 and not recipe.per_step:
        raise ConfigError(
            "model.residual does not go with model.bidirectional for a label per sequence; set one of the two to "
            "false, or model.layers to 1"
        )
    try:
        like = jax.eval_shape(partial(init_state, recipe=recipe, about=about), jax.random.key(0))
        xs = jax.ShapeDtypeStruct((1, 2, about.input_size), jnp.float32)
        jax.eval_shape(partial(logits_of, model=recipe.model, per_step=recipe.per_step), like.params, xs)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(message_of(error, "model: ")) from None
    return like


def train_only(config: Config) -> list[str]:
    """Return what makes the numbers of training differ from those of validation, in words."""
    model = config.model
    parts = {
        "dropout": model.dropout or model.recurrent_dropout,
        "zoneout": model.zoneout,
        "shifts": config.data.shift,
        "label smoothing": config.loss.label_smoothing,
    }
    return [words for words, rate in parts.items() if rate]
