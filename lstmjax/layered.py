"""Several layers on arrays that are checked: each on top of the other, in one direction or in two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from lstmjax.arrays import cast, cast_inputs, within
from lstmjax.backends import Request
from lstmjax.errors import Message, Option
from lstmjax.layer import Inputs, run_layer
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree

if TYPE_CHECKING:
    from jax.typing import ArrayLike

Layers = tuple[LSTMParams | Bidirectional, ...]


@dataclass(frozen=True)
class Stacking:
    """How layers are put on top of each other. Compiled code is kept by it."""

    merge: str
    residual: bool
    dropout: float
    return_sequences: bool
    axis: int  # of time in xs
    dtype: Any  # that layers and xs are cast to, or None


@partial(jax.jit, static_argnames=("how", "calls"))
def run_stack(
    inputs: Inputs, drawn: tuple, *, how: Stacking, calls: tuple[tuple[tuple[Request, str], ...], ...]
) -> tuple[tuple, PyTree]:
    """Run all layers in one program, so that a call that is not compiled itself compiles one for each new shape.

    Args:
        inputs: the arrays.
        drawn: for each layer, for each of its directions, what wrappers bring with them.
        how: how layers are put on top of each other.
        calls: likewise how each is run, and by which backend.
    """

    def run_one(n: int, direction: str, one: Inputs) -> tuple[PyTree, PyTree]:
        k = int(direction == "reverse")
        request, backend = calls[n][k]
        return run_layer(one, drawn[n][k], request=request, backend=backend)

    return through(run_one, inputs, how)


def through(run_one: Callable[[int, str, Inputs], tuple], inputs: Inputs, how: Stacking) -> tuple[tuple, PyTree]:
    """Return the states and the last layer's outputs; `run_one(n, direction, inputs)` runs one direction of layer n."""
    layers, xs, axis = inputs.params, inputs.xs, how.axis
    shape, last = xs.shape[:-1], len(layers) - 1
    if how.dtype is not None:
        layers, xs = cast(layers, how.dtype), cast_valid(xs, inputs.lengths, inputs.mask, axis=axis, dtype=how.dtype)
    starts, ends = inputs.resets, None
    both = starts is not None and any(isinstance(layer, Bidirectional) for layer in layers)
    valid = within(shape, axis, inputs.lengths, inputs.mask) if both or how.residual else None
    if both and starts is not None:
        ends = segment_ends(starts, valid, axis)
    keys = [None] * len(layers) if inputs.key is None else jax.random.split(inputs.key, len(layers))
    states = []
    for n, (layer, key) in enumerate(zip(layers, keys, strict=True)):
        runs, drops = (None, None) if key is None else jax.random.split(key)
        below = xs
        check_fits(n, layer, xs, how.merge)
        kept = how.return_sequences or n < last
        each = by_direction(layer, inputs._replace(xs=xs), n)
        with naming(n):
            new, xs = _both(partial(run_one, n), each, (starts, ends), runs, kept, how.merge)
        states.append(new)
        if how.residual and n > 0:
            xs = _add(xs, below, valid, axis, n, whole=kept)
        if n < last:
            xs = drop(drops, xs, how.dropout)
    return tuple(states), xs


@partial(jax.jit, static_argnames=("axis", "dtype"))
def cast_valid(xs: Array, lengths: Array | None, mask: Array | None, *, axis: int, dtype: Any) -> Array:
    """Return xs in a dtype, with zeros for what padding holds."""
    valid = within(xs.shape[:-1], axis, lengths, mask)
    return cast_inputs(xs if valid is None else jnp.where(valid[..., None], xs, 0), dtype)


def by_direction(layer: LSTMParams | Bidirectional, inputs: Inputs, n: int) -> list[tuple[str, Inputs]]:
    """Return the inputs of layer n in its one or two directions, with the states that are its."""
    state, reset_state = (s if s is None else s[n] for s in (inputs.state, inputs.reset_state))
    if not isinstance(layer, Bidirectional):
        return [("forward", inputs._replace(params=layer, state=state, reset_state=reset_state))]
    none = None, None
    each = zip(("forward", "reverse"), layer, state or none, reset_state or none, strict=True)
    return [(name, inputs._replace(params=params, state=s, reset_state=r)) for name, params, s, r in each]


def _both(
    run_one: Callable[[str, Inputs], tuple[PyTree, PyTree]],
    each: list[tuple[str, Inputs]],
    flags: tuple[Array | None, Array | None],
    key: Array | None,
    kept: bool,
    merge: str,
) -> tuple[Any, PyTree]:
    """Return the state and the outputs of a layer in its directions, which are merged."""
    keys = [key] if len(each) == 1 else [None, None] if key is None else jax.random.split(key)
    found = [
        run_one(direction, one._replace(resets=resets, key=k))
        for (direction, one), resets, k in zip(each, flags, keys, strict=False)
    ]
    if len(found) == 1:
        return found[0]
    (forward, ahead), (reverse, back) = found
    least = each[0][1].xs.ndim - (not kept)
    for y in jax.tree.leaves(ahead):
        if y.ndim < least:
            raise ValueError(
                f"emit gives one number a step, shape {y.shape}, but a Bidirectional pair joins its directions on an "
                "axis of features. Keep that axis: [..., None], or keepdims=True."
            )
    join = (lambda a, b: jnp.concatenate([a, b], axis=-1)) if merge == "concat" else jnp.add
    return Bidirectional(forward, reverse), jax.tree.map(join, ahead, back)


def segment_ends(starts: ArrayLike, valid: Array | None, axis: int) -> Array:
    """Gives which steps are the last valid one of an episode that another follows.

    `starts` flags the first step of each episode; what it says at steps that are not valid counts
    for nothing. These are the flags for the reverse direction.
    """
    starts = jnp.asarray(starts)
    valid = jnp.ones_like(starts) if valid is None else valid
    episode = jnp.cumsum(starts & valid, axis=axis)
    none = starts.shape[axis] + 1
    ahead = jax.lax.cummin(jnp.where(valid, episode, none), axis=axis, reverse=True)
    beyond = [(0, int(a == axis)) for a in range(ahead.ndim)]
    after = jax.lax.slice_in_dim(jnp.pad(ahead, beyond, constant_values=none), 1, None, axis=axis)
    return valid & (after != none) & (after != episode)


def drop(key: Array | None, xs: Array, rate: float) -> Array:
    """Gives xs with dropout: zeros at `rate`, the rest divided by 1 − rate; xs itself without a key."""
    if key is None or rate == 0.0:
        return xs
    if rate == 1.0:  # what is divided by 1 − rate has no finite gradient
        return jnp.zeros_like(xs)
    return jnp.where(jax.random.bernoulli(key, 1.0 - rate, xs.shape), xs / (1.0 - rate), 0.0)


@contextmanager
def naming(n: int) -> Iterator[None]:
    """Adds to an error which layer it is about."""
    try:
        yield
    except (ValueError, TypeError, AssertionError) as error:
        error.add_note(f"This was layer {n}, counted from 0 at the bottom.")
        raise


def _add(ys: Array, below: Array, valid: Array | None, axis: int, n: int, whole: bool) -> Array:
    """Gives a layer's outputs plus what entered it, for all steps or for the last valid one."""
    check_added(n, ys.shape[-1], below.shape[-1])
    if whole or not below.shape[axis]:
        return ys + below if whole else ys
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
    """Gives the one or two directions of a layer."""
    return tuple(layer) if isinstance(layer, Bidirectional) else (layer,)


def check_fits(n: int, layer: LSTMParams | Bidirectional, xs: Any, merge: str) -> None:
    """Refuses layer n if it does not fit what enters it; of xs the dtype and the last axis count."""
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
