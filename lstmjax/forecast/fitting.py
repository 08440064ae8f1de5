"""How a forecaster is fitted: windows are drawn, and the loss of each batch is that of its targets."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lstmjax.arguments import check_above_0, check_counts, check_real, one_of
from lstmjax.forecast.arguments import as_seed, check_called, check_is
from lstmjax.forecast.design import Design
from lstmjax.forecast.forecaster import Forecaster, NotFiniteError, columns_of
from lstmjax.forecast.network import ForecastParams, Normal, init_forecaster, log_prob, normal_of, outputs
from lstmjax.forecast.series import SeriesSet
from lstmjax.forecast.windows import (
    Origins,
    Table,
    check_series,
    check_weights,
    coarse,
    cut,
    draw,
    on_device,
    pieces_of,
    training_origins,
)
from lstmjax.types import Array

CHUNK = 50
"""Steps of training in one compiled call."""
Weights = Literal["windows", "series", "size"]
"""Names in `windows.WEIGHTS`."""
LossOn = Literal["window", "horizon"]
"""Steps in the loss of the autoregressive form."""


@dataclass(frozen=True)
class Training:
    """How a forecaster is fitted; hashable."""

    steps: int = 1000
    """Updates of the parameters."""
    batch_size: int = 64
    """B, windows in an update."""
    learning_rate: float = 3e-3
    """Of AdamW, at the beginning; it decreases to 0 along a cosine."""
    weight_decay: float = 1e-3
    """Decoupled (Loshchilov & Hutter 2019)."""
    clip_norm: float = 1.0
    """Largest global norm of the gradient."""
    average: float = 0.99
    """Decay of the running average of the parameters that forecasts are made with; 0: the last parameters."""
    weights: Weights = "windows"
    """What is drawn alike: "windows", or "series" of whatever length; or windows by the "size" of their series."""
    unseen: float = 0.05
    """Rate at which a category of a window is replaced by the one that stands for all values that the training lacks,
    so that its embedding is learnt, too."""
    loss_on: LossOn = "window"
    """Steps in the loss of the autoregressive form: "window", context and horizon; or "horizon" alone, as in a
    forecast. The scale of a window knows its context, so that a network which learns from the context as well may
    learn that series return to their mean."""

    def __post_init__(self) -> None:
        check_counts(self, "steps", "batch_size")
        check_above_0(self, "learning_rate", "clip_norm")
        check_real("weight_decay", self.weight_decay, lambda w: 0.0 <= w < math.inf, "a finite number of at least 0")
        check_real("average", self.average, lambda decay: 0.0 <= decay < 1.0, "a decay from 0 to below 1")
        check_real("unseen", self.unseen, lambda rate: 0.0 <= rate < 1.0, "a rate from 0 to below 1")
        check_weights(self.weights)
        one_of("loss_on", self.loss_on, get_args(LossOn))

    def optimizer(self) -> optax.GradientTransformation:
        """Return the Optax optimizer."""
        schedule = optax.cosine_decay_schedule(self.learning_rate, self.steps)
        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm), optax.adamw(schedule, weight_decay=self.weight_decay)
        )


def fit_forecaster(
    series: SeriesSet,
    design: Design,
    training: Training | None = None,
    *,
    seed: int = 0,
    on_chunk: Callable[[int, float], None] | None = None,
) -> Forecaster:
    """Fit one network to all series: a global model.

    Args:
        series: the training part; all of its targets may be learnt from. Use `SeriesSet.cut` to hold some back. Of
            series that are mapped from a folder (`open_series`), only the windows of `CHUNK` steps are in the memory.
        design: of the network.
        training: how it is fitted.
        seed: of the initial values, the windows that are drawn, and dropout.
        on_chunk: called with the number of steps done and the mean loss of the last `CHUNK` of them.

    Raises:
        SeriesError: targets outside of what the scaling or the likelihood is defined for.
        NotFiniteError: the loss is not finite.

    Warns:
        UserWarning: the scaling is too coarse for some series, whose intervals would be too wide.
    """
    training = Training() if training is None else training
    check_fit(series, design, training, on_chunk)
    seed = as_seed("seed", seed)
    table = on_device(series, design) if series.folder is None else None
    if table is None:
        check_series(series, design)
    warning = coarse(series, design)
    if warning is not None:
        warnings.warn(warning, stacklevel=2)
    origins = training_origins(series, design, training.weights)
    normal = normal_of(series)
    params_key, steps_key = jax.random.split(jax.random.key(seed))
    params = init_forecaster(params_key, design, series)
    optimizer = training.optimizer()
    carry = (params, optimizer.init(params), jax.tree.map(jnp.copy, params))  # donated: no array twice
    losses: list[float] = []
    done = 0
    while done < training.steps:
        steps = min(CHUNK, training.steps - done)
        first = jnp.asarray(done, jnp.int32)
        chunk_table, batches = table, None
        if chunk_table is None:
            drawn = _draw_steps(steps_key, origins, first, steps=steps, batch_size=training.batch_size)
            chunk_table, batches = _gathered(series, drawn, design)
        carry, loss = _train(
            carry, chunk_table, origins, steps_key, first,
            normal, batches, steps=steps, design=design, training=training,
        )  # fmt: skip
        done += steps
        losses.append(float(loss))
        if not np.isfinite(losses[-1]):
            raise NotFiniteError(
                f"the loss is {losses[-1]} within steps {done - steps + 1} to {done}. Lower learning_rate, or "
                "look for targets of unusual size with another scaling."
            )
        if on_chunk is not None:
            on_chunk(done, losses[-1])
    average = carry[2] if training.average else carry[0]
    return Forecaster(
        jax.tree.map(np.asarray, average), design, normal, series.levels, tuple(losses), columns_of(series)
    )


def check_fit(series: SeriesSet, design: Design, training: Training, on_chunk: Callable | None) -> None:
    """Refuse arguments of a fit that are of another kind."""
    check_is("series", series, SeriesSet, "from_arrays and from_frame make one.")
    check_is("design", design, Design, "Pass Design(horizon=..., context=...).")
    check_is("training", training, Training, "Pass Training(steps=...), or None for the defaults.")
    check_called("on_chunk", on_chunk, "(steps, loss)")


def window_loss(
    params: ForecastParams,
    batch: tuple[Array, Array],
    key: Array | None,
    *,
    table: Table,
    design: Design,
    normal: Normal,
    loss_on: str = "window",
    unseen: float = 0.0,
) -> Array:
    """Return the mean negative log density of the targets of B windows, (series, origin) each `[B]`.

    The other arguments are those of `Training`; nothing random happens without a key.
    """
    window = cut(table, *batch, design)
    if key is not None and unseen and params.embeddings:
        window = window._replace(categories=_forgotten(window.categories, params, jax.random.fold_in(key, 3), unseen))
    out = outputs(params, window, design, normal, key)
    if loss_on == "horizon":
        out = out[:, -design.horizon :]
    density, observed = log_prob(out, window, design)
    # without a target in the context there is no scale, and nothing to forecast from
    scaled = jnp.any(window.observed[:, design.reach : design.reach + design.context], 1, keepdims=True)
    density, observed = jnp.where(scaled, density, 0.0), observed & scaled
    return -jnp.sum(density) / jnp.maximum(jnp.sum(observed), 1)


def _forgotten(categories: Array, params: ForecastParams, key: Array, rate: float) -> Array:
    """Return categories `[B, C]` of which some are the last row of their embeddings, which no value has."""
    unknown = jnp.asarray([len(table) - 1 for table in params.embeddings], categories.dtype)
    return jnp.where(jax.random.bernoulli(key, rate, categories.shape), unknown[None], categories)


def _step_keys(key: Array, number: Array) -> tuple[Array, Array]:
    """Return the keys of a step of training: of the windows that are drawn, and of dropout."""
    draw_key, drop_key = jax.random.split(jax.random.fold_in(key, number))
    return draw_key, drop_key


@partial(jax.jit, static_argnames=("steps", "batch_size"))
def _draw_steps(key: Array, origins: Origins, done: Array, *, steps: int, batch_size: int) -> tuple[Array, Array]:
    """Draw the windows of the next steps of training, each `[steps, B]`, as `_train` draws them."""
    return jax.lax.map(
        lambda number: draw(_step_keys(key, number)[0], origins, batch_size), done + jnp.arange(steps, dtype=jnp.int32)
    )


def _gathered(series: SeriesSet, drawn: tuple[Array, Array], design: Design) -> tuple[Table, tuple[Array, Array]]:
    """Return the rows of windows `[steps, B]` as a table in which each is a series, and the windows in it."""
    shape = drawn[0].shape
    which, at = (np.asarray(numbers).reshape(-1) for numbers in drawn)
    table, at = pieces_of(series, which, at, design)
    numbers = jnp.arange(len(which), dtype=jnp.int32)
    return table, (numbers.reshape(shape), jnp.asarray(at).reshape(shape))


@partial(jax.jit, static_argnames=("steps", "design", "training"), donate_argnums=0)
def _train(
    carry: tuple,
    table: Table,
    origins: Origins,
    key: Array,
    done: Array,
    normal: Normal,
    batches: tuple[Array, Array] | None = None,
    *,
    steps: int,
    design: Design,
    training: Training,
) -> tuple[tuple, Array]:
    optimizer = training.optimizer()
    loss_of = partial(
        window_loss, table=table, design=design, normal=normal, loss_on=training.loss_on, unseen=training.unseen
    )

    def step(carry: tuple, scanned: tuple[Array, tuple[Array, Array] | None]) -> tuple[tuple, Array]:
        params, moments, average = carry
        number, batch = scanned
        draw_key, drop_key = _step_keys(key, number)
        if batch is None:
            batch = draw(draw_key, origins, training.batch_size)
        loss, gradient = jax.value_and_grad(loss_of)(params, batch, drop_key)
        updates, moments = optimizer.update(gradient, moments, params)
        params = optax.apply_updates(params, updates)
        # of the young average the initial values would be most
        age = number.astype(jnp.float32)
        decay = jnp.minimum(training.average, (1.0 + age) / (10.0 + age))
        average = jax.tree.map(lambda mean, new: decay * mean + (1.0 - decay) * new, average, params)
        return (params, moments, average), loss

    carry, losses = jax.lax.scan(step, carry, (done + jnp.arange(steps, dtype=jnp.int32), batches))
    return carry, jnp.mean(losses)
