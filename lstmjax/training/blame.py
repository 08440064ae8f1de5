"""Find the first array that is not finite in a step of training: which layer, which gate, which time step."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.data import Sequences
from lstmjax.inside import trace
from lstmjax.language_model import embedded
from lstmjax.training.forward import logits_of, network_options, with_dropped_weights
from lstmjax.training.losses import loss_of
from lstmjax.training.paths import leaf_names
from lstmjax.training.recipe import NetworkObjective, Recipe, StreamObjective, shifted, train_step_of
from lstmjax.training.step import TrainState
from lstmjax.training.streams import Segment, begun, stream_options
from lstmjax.types import Array, Bidirectional, PyTree, Step

FIELDS = MappingProxyType(
    {
        "z_i": "pre-activation of the input gate", "z_f": "pre-activation of the forget gate",
        "z_g": "pre-activation of the candidate", "z_o": "pre-activation of the output gate",
        "i": "input gate", "f": "forget gate", "g": "candidate", "c": "cell state", "o": "output gate",
        "m": "output before the projection", "h": "output",
    }
)  # fmt: skip
"""The arrays of a step in words, in the order in which they are computed."""


def first_bad(
    state: TrainState, steps: int, draw: Callable[[int], Sequences], key: Array, recipe: Recipe
) -> tuple[int, str, TrainState] | None:
    """Repeat the steps from a good state on, and find the first array that is not finite.

    As batches and keys are functions of the step, this computes what training has computed.

    Args:
        state: a state in which all is finite; its buffers are kept.
        steps: up to which step.
        draw: the batch of a step.
        key: the key of the run.
        recipe: what is trained and how.

    Returns:
        The step, counted from 1; what is not finite, in words; and the state before this step. None: all is finite.
    """
    train_step = train_step_of(recipe)
    for step in range(int(state.step), steps):
        batch = draw(step)
        before = jax.tree.map(jnp.array, state)
        state, info = train_step(jax.tree.map(jnp.array, state), batch, key)
        finite = np.isfinite(float(info.loss)) and not _bad_names(state.params)
        if not finite:
            return step + 1, blame(before, batch, jax.random.fold_in(key, step), recipe), before
    return None


def blame(state: TrainState, batch: Any, key: Array, recipe: Recipe) -> str:
    """Return the first array that is not finite in a step, in words.

    Args:
        state: before the step.
        batch: of the step.
        key: of the step.
        recipe: what is trained and how.
    """
    params = state.params
    if bad := _bad_names(params):
        return f"the parameter {bad[0]}"
    if recipe.stream:
        return _blame_stream(state, batch, key, recipe)
    shifts, draws = jax.random.split(key)
    x = shifted(shifts, jnp.asarray(batch.x), recipe.shift)
    if place := _first(_valid(x, batch.lengths)):
        return f"the input, feature {place[2]} at {_where(place)}"
    dropped, runs = with_dropped_weights(params, recipe.model, draws)
    options = network_options(recipe.model) | {"dropout": recipe.model.dropout, "key": runs, "lengths": batch.lengths}
    for number, layer in enumerate(trace(dropped, x, **options)):
        pair = isinstance(layer, Bidirectional)
        for direction, steps in zip(layer._fields, layer, strict=True) if pair else (("", layer),):
            if words := _in_layer(steps, reverse=direction == "reverse"):
                return f"{words} in {f'the {direction} direction of ' if pair else ''}layer {number}"
    logits = logits_of(params, x, batch.lengths, model=recipe.model, per_step=recipe.per_step, key=draws)
    if _first(logits) is not None:
        return "the logits, behind the Dense head"
    assert batch.y is not None
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    values = loss_of(recipe.loss).value(logits, batch.y, recipe.loss.label_smoothing)
    if _first(values) is not None:
        largest = float(np.abs(np.asarray(logits)).max())
        return f"the loss itself, of logits of size {largest:.3g} at most"
    objective = NetworkObjective(recipe)
    gradient = jax.grad(lambda params: objective(params, None, batch, key)[0])(params)
    if bad := _bad_names(gradient):
        return f"the gradient of {bad[-1]}"  # backwards: from the head down
    return "the update of the parameters"


def _blame_stream(state: TrainState, batch: Segment, key: Array, recipe: Recipe) -> str:
    """Return the first array that is not finite in a step of a language model, in words."""
    if bad := _bad_names(state.rest):
        return f"the carried state, {bad[0]}"
    begin = begun(state.rest, batch.fresh)
    params, runs = with_dropped_weights(state.params, recipe.model, key)
    inner, xs, runs = embedded(params, batch.tokens, dropout=recipe.model.dropout, key=runs)
    options = stream_options(recipe.model) | {"dropout": recipe.model.dropout, "key": runs}
    for number, layer in enumerate(trace(inner, xs, begin, **options)):
        if words := _in_layer(layer, reverse=False):
            return f"{words} in layer {number}"
    objective = StreamObjective(recipe)
    value, gradient = jax.value_and_grad(lambda params: objective(params, state.rest, batch, key)[0])(state.params)
    if not np.isfinite(float(value)):
        return "the loss, behind the head"
    if bad := _bad_names(gradient):
        return f"the gradient of {bad[-1]}"
    return "the update of the parameters"


def _in_layer(steps: Step, *, reverse: bool) -> str:
    """Return the first array of a layer that is not finite: at the first step, and the first that is computed there."""
    places = []
    for order, name in enumerate(FIELDS):
        array = getattr(steps, name)
        if array is None:
            continue
        bad = ~np.isfinite(np.asarray(array, np.float64))
        times = np.flatnonzero(bad.any(axis=(0, 2)))
        if len(times):
            time = int(times[-1] if reverse else times[0])
            sequence, unit = np.argwhere(bad[:, time])[0].tolist()
            places.append((-time if reverse else time, order, name, sequence, unit))
    if not places:
        return ""
    place, _, name, sequence, unit = min(places)
    return f"the {FIELDS[name]} of unit {unit} at {_where((sequence, abs(place)))}"


def _valid(x: Any, lengths: Any) -> np.ndarray:
    """Return x with zeros in the padding."""
    array = np.asarray(x)
    if lengths is None:
        return array
    return np.where((np.arange(array.shape[1]) < np.asarray(lengths)[:, None])[..., None], array, 0)


def _first(array: Any) -> tuple[int, ...] | None:
    bad = np.argwhere(~np.isfinite(np.asarray(array, np.float64)))
    return tuple(bad[0].tolist()) if len(bad) else None


def _where(place: tuple[int, ...]) -> str:
    return f"time step {place[1]} of sequence {place[0]} of the batch"


def _bad_names(tree: PyTree) -> list[str]:
    pairs = zip(leaf_names(tree), jax.tree.leaves(tree), strict=True)
    return [name for name, leaf in pairs if not np.isfinite(np.asarray(leaf)).all()]
