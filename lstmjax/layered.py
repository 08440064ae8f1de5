"""Several layers on arrays that are checked: each on top of the other, in one direction or in two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from lstmjax.arrays import Sequence, cast, cast_inputs, prepared, within
from lstmjax.backends import Request
from lstmjax.errors import Message, Option
from lstmjax.layer import Inputs, run_layer
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree

if TYPE_CHECKING:
    from jax.typing import ArrayLike

Layers = tuple[LSTMParams | Bidirectional, ...]

compiled_layer = jax.jit(run_layer, static_argnames=("request", "backend"))
"""`run_layer`, traced once for all layers of a stack that are alike."""


@dataclass(frozen=True)
class Stacking:
    """How layers are put on top of each other. Compiled code is kept by it."""

    merge: str
    residual: bool
    dropout: float
    return_sequences: bool
    axis: int  # of time in xs
    dtype: Any  # that layers and xs are cast to, or None


@partial(jax.jit, static_argnames=("stacking", "calls"))
def run_stack(
    inputs: Inputs, extras: tuple, *, stacking: Stacking, calls: tuple[tuple[tuple[Request, str], ...], ...]
) -> tuple[tuple, PyTree]:
    """Run all layers in one program, so that a call that is not compiled itself compiles one for each new shape.

    Args:
        inputs: the arrays.
        extras: for each layer, for each of its directions, the extras that its wrappers bring.
        stacking: how layers are stacked.
        calls: for each layer, for each of its directions, its request and its backend.
    """
    layers, xs, state, reset_state, lengths, mask, resets, key = inputs
    axis, dtype = stacking.axis, stacking.dtype
    sequence = prepared(xs, lengths, mask, resets, axis=axis, dtype=dtype)
    if dtype is not None:
        layers = cast(layers, dtype)
    runs: list[list[RunDirection]] = [
        [
            partial(compiled_layer, extras=pairs, request=request, backend=backend)
            for (request, backend), pairs in zip(calls_of_layer, pairs_of_layer, strict=True)
        ]
        for calls_of_layer, pairs_of_layer in zip(calls, extras, strict=True)
    ]
    # The native kernel writes its outputs in the caller's layout: joined there, they are not transposed.
    native = all(backend == "native" for calls_of_layer in calls for _, backend in calls_of_layer)
    join_axis = axis if native else 0
    states, ys = through(runs, layers, sequence, state, reset_state, key, stacking, axis=0, join_axis=join_axis)
    if stacking.return_sequences:
        ys = jax.tree.map(lambda y: jnp.moveaxis(y, 0, axis), ys)
    return states, ys


RunDirection = Callable[..., tuple[PyTree, PyTree]]
"""Runs one direction of a layer: `run(params, sequence, state, reset_state, key) -> (state, ys)`."""


def through(
    runs: list[list[RunDirection]],
    layers: Layers,
    sequence: Sequence,
    state: tuple | None,
    reset_state: tuple | None,
    key: Array | None,
    stacking: Stacking,
    *,
    axis: int,
    join_axis: int | None = None,
) -> tuple[tuple, PyTree]:
    """Return the states and the last layer's outputs.

    Args:
        runs: for each layer, for each of its directions, what runs it.
        layers, state, reset_state, key: as for `stacked`.
        sequence: the inputs, with time on `axis`.
        stacking: how layers are stacked.
        axis: of time in the sequence and in the outputs.
        join_axis: of time while the outputs of two directions are joined, which changes no number; None: `axis`.
    """
    xs, valid, starts = sequence
    join_axes = (axis, axis if join_axis is None else join_axis)
    last, ends, axes = len(layers) - 1, None, (axis, stacking.axis)
    if starts is not None and any(isinstance(layer, Bidirectional) for layer in layers):
        ends = segment_ends(starts, valid, axis)
    keys = [None] * len(layers) if key is None else jax.random.split(key, len(layers))
    states = []
    for n, (layer, layer_key) in enumerate(zip(layers, keys, strict=True)):
        below, results = xs, []
        wrapper_key, dropout_key = (None, None) if layer_key is None else jax.random.split(layer_key)
        check_fits(n, layer, xs, stacking.merge)
        all_steps = stacking.return_sequences or n < last
        parts = directions(layer)
        direction_keys = [wrapper_key] * len(parts)
        if len(parts) == 2 and wrapper_key is not None:
            direction_keys = [*jax.random.split(wrapper_key)]
        with naming(n):
            for k, part in enumerate(parts):
                inputs = Sequence(xs, valid, ends if k else starts)
                states_of_part = [state_of(tree, layer, n, k) for tree in (state, reset_state)]
                results.append(runs[n][k](part, inputs, *states_of_part, direction_keys[k]))
            if len(parts) == 2:
                check_joinable(results[0][1], xs.ndim - (not all_steps), axes if all_steps else (0, 0))
            join = partial(_joined, merge=stacking.merge, axes=join_axes if all_steps else (0, 0))
            new, xs = results[0] if len(parts) == 1 else join(results)
        states.append(new)
        if stacking.residual and n > 0:
            xs = _add(xs, below, valid, axis, n, all_steps=all_steps)
        if n < last:
            xs = drop(dropout_key, xs, stacking.dropout, axes=axes)
    return tuple(states), xs


def state_of(states: tuple | None, layer: LSTMParams | Bidirectional, n: int, k: int) -> PyTree:
    """Return the state of layer n in its k-th direction, or None."""
    state = None if states is None else states[n]
    return state[k] if state is not None and isinstance(layer, Bidirectional) else state


def _joined(results: list[tuple[PyTree, PyTree]], merge: str, axes: tuple[int, int]) -> tuple[Bidirectional, PyTree]:
    """Return the states and the merged outputs of the two directions of a layer.

    `axes` are that of time in the outputs, and that of time while they are joined.
    """
    (forward_state, forward_ys), (reverse_state, reverse_ys) = results

    def join(a: Array, b: Array) -> Array:
        a, b = (jnp.moveaxis(y, *axes) for y in (a, b))
        both = jnp.concatenate([a, b], axis=-1) if merge == "concat" else jnp.add(a, b)
        return jnp.moveaxis(both, axes[1], axes[0])

    return Bidirectional(forward_state, reverse_state), jax.tree.map(join, forward_ys, reverse_ys)


def check_joinable(ys: PyTree, least: int, axes: tuple[int, int]) -> None:
    """Refuse outputs with fewer axes than `least`: of one number a step. `axes` as in `drop`."""
    for y in jax.tree.leaves(ys):
        if y.ndim < least:
            raise ValueError(
                f"emit gives one number a step, shape {moved(y.shape, axes)}, but a Bidirectional pair joins its "
                "directions on an axis of features. Keep that axis: [..., None], or keepdims=True."
            )


def moved(shape: tuple[int, ...], axes: tuple[int, int]) -> tuple[int, ...]:
    """Return a shape with one axis moved to the place of another: from axes[0] to axes[1]."""
    sizes = [*shape]
    sizes.insert(axes[1], sizes.pop(axes[0]))
    return tuple(sizes)


@partial(jax.jit, static_argnames=("axis", "dtype"))
def cast_valid(xs: Array, lengths: Array | None, mask: Array | None, *, axis: int, dtype: Any) -> Array:
    """Return xs in a dtype, with zeros for what padding holds."""
    valid = within(xs.shape[:-1], axis, lengths, mask)
    return cast_inputs(xs if valid is None else jnp.where(valid[..., None], xs, 0), dtype)


def segment_ends(starts: ArrayLike, valid: Array | None, axis: int) -> Array:
    """Return which steps are the last valid one of an episode that another one follows.

    `starts` flags the first step of each episode; at steps that are not valid it is
    ignored. These are the flags for the reverse direction.
    """
    starts = jnp.asarray(starts)
    valid = jnp.ones_like(starts) if valid is None else valid
    episode = jnp.cumsum(starts & valid, axis=axis)
    none = starts.shape[axis] + 1
    ahead = jax.lax.cummin(jnp.where(valid, episode, none), axis=axis, reverse=True)
    beyond = [(0, int(a == axis)) for a in range(ahead.ndim)]
    after = jax.lax.slice_in_dim(jnp.pad(ahead, beyond, constant_values=none), 1, None, axis=axis)
    return valid & (after != none) & (after != episode)


def drop(key: Array | None, xs: Array, rate: float, *, axes: tuple[int, int] = (0, 0)) -> Array:
    """Return xs with dropout: zeros at `rate`, the others divided by 1 − rate; xs itself without a key.

    `axes` are that of time in xs, and that of time in the caller's arrays, in whose shape the mask is drawn: the same
    key draws the same mask for both.
    """
    if key is None or rate == 0.0:
        return xs
    if rate == 1.0:  # what is divided by 1 − rate has no finite gradient
        return jnp.zeros_like(xs)
    stays = jax.random.bernoulli(key, 1.0 - rate, moved(xs.shape, axes))
    return jnp.where(jnp.moveaxis(stays, axes[1], axes[0]), xs / (1.0 - rate), 0.0)


@contextmanager
def naming(n: int) -> Iterator[None]:
    """Add to an error which layer it is about."""
    try:
        yield
    except (ValueError, TypeError, AssertionError) as error:
        error.add_note(f"This was layer {n}, counted from 0 at the bottom.")
        raise


def _add(ys: Array, below: Array, valid: Array | None, axis: int, n: int, all_steps: bool) -> Array:
    """Return a layer's outputs plus its inputs, for all steps or for the last valid one."""
    check_added(n, ys.shape[-1], below.shape[-1])
    if all_steps:
        return ys + below
    if not below.shape[axis]:
        return ys
    if valid is None:
        return ys + below.take(-1, axis=axis)
    steps = jax.lax.broadcasted_iota(jnp.int32, valid.shape, axis)
    at = jnp.where(valid, steps, -1).max(axis=axis)
    latest = jnp.take_along_axis(below, jnp.expand_dims(jnp.maximum(at, 0), (axis, -1)), axis=axis).squeeze(axis)
    return ys + jnp.where(at[..., None] < 0, 0, latest)


def check_added(n: int, width: int, below: int) -> None:
    """Refuse to add what enters layer n to what it gives if they are not equally wide."""
    if width != below:
        raise ValueError(
            f"residual=True adds what enters layer {n} ({below} wide) to what it gives ({width} wide); they must be "
            "equally wide."
        )


def merged_width(layer: LSTMParams | Bidirectional, merge: str) -> int:
    """Return how wide the outputs of a layer are."""
    widths = [part.output_size for part in directions(layer)]
    return sum(widths) if merge == "concat" else widths[0]


def directions(layer: LSTMParams | Bidirectional) -> tuple[LSTMParams, ...]:
    """Return the one or two directions of a layer."""
    return tuple(layer) if isinstance(layer, Bidirectional) else (layer,)


def check_fits(n: int, layer: LSTMParams | Bidirectional, xs: Any, merge: str) -> None:
    """Refuse layer n if it does not fit its inputs; of xs the dtype and the last axis count."""
    widths = {part.output_size for part in directions(layer)}
    if merge == "sum" and len(widths) > 1:
        raise ValueError(
            Message(
                Option("merge", "sum"),
                f" adds up the directions of layer {n}, which are {min(widths)} and {max(widths)} wide; they must be "
                "equally wide. Pass ",
                Option("merge", "concat"),
                ".",
            )
        )
    for part in directions(layer):
        if part.w_x.dtype != xs.dtype and n:
            raise ValueError(
                f"layer {n} is {part.w_x.dtype}, but layer {n - 1} gives {xs.dtype}; all layers share one dtype. Cast "
                "them, or pass dtype= to compute in one."
            )
        if n and part.input_size != xs.shape[-1]:
            raise ValueError(
                Message(
                    f"layer {n} expects I = {part.input_size} features, but layer {n - 1} gives {xs.shape[-1]}: the "
                    "width of its h, twice that for a Bidirectional pair with ",
                    Option("merge", "concat"),
                    ".",
                )
            )
