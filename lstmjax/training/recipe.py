"""The network, the loss and the optimizer of a configuration, in the form that training takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from lstmjax.config import Config, ConfigError, Loss, Model, Optimizer, Plateau
from lstmjax.data import About, Sequences
from lstmjax.errors import message_of
from lstmjax.init_stack import init_network
from lstmjax.language_model import init_language, language, zero_state
from lstmjax.networks import LanguageParams, NetworkParams
from lstmjax.training.forward import logits_of, with_dropped_weights
from lstmjax.training.loss_sums import Sums, sums_of
from lstmjax.training.metrics import metrics_of
from lstmjax.training.optimizers import make_optimizer, make_plateau
from lstmjax.training.paths import check_patterns, leaf_names, matched, with_frozen
from lstmjax.training.shards import on_one_device
from lstmjax.training.step import Info, TrainState, averaged, make_train_step, start_state
from lstmjax.training.streams import Segment, begun, stream_options
from lstmjax.types import Array, PyTree


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
    metrics: tuple[str, ...] = ()
    class_weights: tuple[float, ...] | None = None  # factors of the loss, 1 on average over the training part
    plateau: Plateau = Plateau()
    average: float | None = None  # decay of the average of the parameters; None: no average
    patience: bool = False  # whether training stops early
    gradients: bool = False  # whether the norm and the noise of the gradient are measured
    skip: bool = False  # whether batches that are not finite are left out
    streams: int | None = None  # B of a language model, whose state is carried from step to step; None: no such model

    @property
    def rule(self) -> optax.GradientTransformation:
        """The optimizer."""
        return make_optimizer(self.optimizer, self.steps, self.model.param_dtype)

    @property
    def stream(self) -> bool:
        """Whether a language model is trained."""
        return self.streams is not None


LARGEST = 4.0  # mean batches that a batch may count as: else the gradient of a very long one would be far too large


def init_state(key: Array, recipe: Recipe, about: About) -> TrainState:
    """Return the state before the first step."""
    model, first = recipe.model, jax.random.fold_in(key, 0)
    options: dict[str, Any] = {
        "cell": model.cell, "projection_size": model.projection_size, "bias": model.bias, "init": model.init,
        "forget_bias": model.forget_bias, "input_bias": model.input_bias, "input_bias_step": model.input_bias_step,
        "dtype": jnp.dtype(model.param_dtype),
    }  # fmt: skip
    if recipe.stream:
        options |= {"embedding_size": model.embedding_size, "tie_weights": model.tie_weights}
        return state_of(init_language(first, about.output_size, model.hidden_size, model.layers, **options), recipe)
    params = init_network(
        first,
        about.input_size,
        model.hidden_size,
        about.output_size * recipe.loss.width,
        model.layers,
        bidirectional=model.bidirectional,
        merge=model.merge,
        **options,
    )
    return state_of(params, recipe)


def state_of(params: NetworkParams | LanguageParams, recipe: Recipe) -> TrainState:
    """Return the state before the first step, with these parameters."""
    outputs = params.head.b.shape[-1] // recipe.loss.width
    carried = None
    if recipe.streams is not None:
        assert isinstance(params, LanguageParams)
        carried = zero_state(params, (recipe.streams,), stream_options(recipe.model))
    return start_state(
        params,
        recipe.rule,
        Sums.zero(recipe.loss, recipe.metrics, outputs),
        rest=carried,
        average=recipe.average is not None,
        gradients=recipe.gradients,
        plateau=make_plateau(recipe.plateau),
        patience=recipe.patience,
        skip=recipe.skip,
    )


# It runs once, so that optimising it costs more than it saves: 5.7 s instead of 2.2 s, mostly compilation.
first_state = partial(
    jax.jit, static_argnames=("recipe", "about"), compiler_options={"xla_backend_optimization_level": 0}
)(init_state)


class NetworkObjective(NamedTuple):
    """The loss of a configured network over a batch of `Sequences`, as `lstmjax.data.load` returns them."""

    recipe: Recipe

    def __call__(
        self, params: PyTree, carried: PyTree, batch: Sequences, key: Array
    ) -> tuple[Array, tuple[Sums, None]]:
        """Return the mean loss, and the sums over the batch."""
        total, (sums, _) = self.total(params, carried, batch, key)
        return total / self.divisor(sums), (sums, None)

    def total(self, params: PyTree, carried: PyTree, batch: Sequences, key: Array) -> tuple[Array, tuple[Sums, None]]:
        """Return the sum of the losses of a batch, or of a part of one, and the sums over it."""
        recipe = self.recipe
        params = with_frozen(params, recipe.optimizer.freeze)
        shifts, draws = jax.random.split(key)
        x = shifted(shifts, jnp.asarray(batch.x), recipe.shift)
        logits = logits_of(params, x, batch.lengths, model=recipe.model, per_step=recipe.per_step, key=draws)
        sums = sums_of(
            logits, batch.y, batch.weight, batch.lengths,
            loss=recipe.loss, metrics=recipe.metrics, smoothing=recipe.loss.label_smoothing,
            target_scale=recipe.target_scale, class_weights=recipe.class_weights,
        )  # fmt: skip
        return sums.loss, (sums, None)

    def divisor(self, sums: Sums) -> Array:
        """Return by what the sum of the losses of a batch is divided."""
        if self.recipe.mean_weight is None:
            return sums.weight
        # A mean over each batch would give the labels in small batches, or in batches of short sequences with a label
        # per step, a larger weight than others.
        return jnp.maximum(self.recipe.mean_weight, sums.weight / LARGEST)


class StreamObjective(NamedTuple):
    """The loss of a language model over a `Segment`; `carried` is the state of the layers, which goes on.

    The state enters a step as a constant, so that the gradient is cut between segments: truncated backpropagation, see
    `lstmjax.truncated_gradient`.
    """

    recipe: Recipe

    def __call__(
        self, params: PyTree, carried: PyTree, batch: Segment, key: Array
    ) -> tuple[Array, tuple[Sums, PyTree]]:
        """Return the mean loss, the sums over the segment, and the state after it."""
        total, (sums, state) = self.total(params, carried, batch, key)
        return total / self.divisor(sums), (sums, state)

    def total(self, params: PyTree, carried: PyTree, batch: Segment, key: Array) -> tuple[Array, tuple[Sums, PyTree]]:
        """Return the sum of the losses of some streams, the sums over them, and their state after the segment."""
        recipe, model = self.recipe, self.recipe.model
        params, key_of_run = with_dropped_weights(with_frozen(params, recipe.optimizer.freeze), model, key)
        state, logits = language(
            params, batch.tokens, begun(carried, batch.fresh), dropout=model.dropout, key=key_of_run,
            **stream_options(model),
        )  # fmt: skip
        sums = sums_of(
            logits, jnp.asarray(batch.y), None, None,
            loss=recipe.loss, metrics=recipe.metrics, smoothing=recipe.loss.label_smoothing,
        )  # fmt: skip
        return sums.loss, (sums, state)

    def divisor(self, sums: Sums) -> Array:
        """Return by what the sum of the losses of a batch is divided: the number of its tokens."""
        return sums.weight


def objective_of_recipe(recipe: Recipe) -> NetworkObjective | StreamObjective:
    """Return the loss of a configured training: of sequences, or of a text."""
    return StreamObjective(recipe) if recipe.stream else NetworkObjective(recipe)


@lru_cache(maxsize=64)  # a function that is made anew is compiled anew
def train_step_of(
    recipe: Recipe, mesh: Mesh | None = None
) -> Callable[[TrainState, Sequences, Array], tuple[TrainState, Info]]:
    """Return the compiled step of a configured training, on one device or a mesh."""
    return make_train_step(objective_of_recipe(recipe), recipe.rule, average=recipe.average or 0.0, mesh=mesh)


def run_key(seed: int) -> Array:
    """Return the key of all steps of a run; the initial values are drawn by another one."""
    return jax.random.fold_in(jax.random.key(seed), 1)


def recipe_of(
    config: Config,
    about: About,
    *,
    steps: int = 2**31 - 1,
    mean_weight: float | None = None,
    class_weights: tuple[float, ...] | None = None,
) -> Recipe:
    """Return the recipe of a configuration; the form of a state does not depend on the steps and the weight."""
    return Recipe(
        config.model,
        config.optimizer,
        config.loss,
        config.data.shift,
        about.per_step,
        steps,
        mean_weight,
        about.target_scale,
        metrics=metrics_of(config),
        class_weights=class_weights,
        plateau=config.plateau,
        average=config.average.decay,
        patience=config.stopping.patience is not None,
        gradients=config.gradients,
        skip=config.on_nan == "skip",
        streams=config.batch_size if about.is_stream else None,
    )


def delivered(state: TrainState, recipe: Recipe) -> Any:
    """Return the parameters of a state that are evaluated and used: their average, if there is one."""
    params = state.params if recipe.average is None else averaged(state, recipe.average)
    return jax.tree.map(jnp.asarray, params)


def saved_form(state: TrainState) -> TrainState:
    """Return a state as it is saved: only a state without a bad loss is, so that it need not say so."""
    saved: TrainState = on_one_device(state._replace(first_bad=None))
    return saved


def restored_form(state: TrainState) -> TrainState:
    """Return a saved state as training takes it, on the device."""
    return jax.tree.map(jnp.asarray, state._replace(first_bad=jnp.zeros((), jnp.int32)))


def shifted(key: Array, x: Array, by: int) -> Array:
    """Shift each image, row by row in `[B, T, I]`, by up to `by` pixels in both directions; fill with zeros."""
    if by == 0:
        return x
    padded = jnp.pad(x, ((0, 0), (by, by), (by, by)))
    corners = jax.random.randint(key, (len(x), 2), 0, 2 * by + 1)
    return jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, corner, x.shape[1:]))(padded, corners)


def structure(recipe: Recipe, about: About) -> TrainState:
    """Return the shapes and dtypes of the saved state; refuse an inconsistent model before any work is done."""
    model = recipe.model
    if model.residual and model.bidirectional and model.layers > 1 and not recipe.per_step:
        raise ConfigError(
            "model.residual does not go with model.bidirectional for a label per sequence; set one of the two to "
            "false, or model.layers to 1"
        )
    try:
        like = saved_form(jax.eval_shape(partial(init_state, recipe=recipe, about=about), jax.random.key(0)))
        names = leaf_names(like.params)
        check_patterns(names, recipe.optimizer.freeze, "optimizer.freeze")
        if all(matched(names, recipe.optimizer.freeze)):
            raise ConfigError("optimizer.freeze matches every parameter, so that there is nothing to train")
        if recipe.stream:  # zero_state has run it
            return like
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
        "dropped weights": model.weight_drop,
        "shifts": config.data.shift,
        "label smoothing": config.loss.label_smoothing,
    }
    return [words for words, rate in parts.items() if rate]
