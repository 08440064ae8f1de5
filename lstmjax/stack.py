"""Several layers: `stacked` runs one on top of the other, in one direction or in two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arguments import as_array, as_arrays, check_flags, check_function
from lstmjax.backends import Chooser
from lstmjax.cell import CellStep, Emit, cell_step
from lstmjax.cells import Cell
from lstmjax.layer import cast, lstm, resolve, step_flags, valid_steps
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike

Layers = tuple[LSTMParams | Bidirectional, ...]


def stacked(
    layers: Layers,
    xs: ArrayLike,
    state: tuple | None = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: tuple | None = None,
    time_major: bool = False,
    return_sequences: bool = True,
    emit: Emit = "h",
    padding: str = "zero",
    merge: str = "concat",
    residual: bool = False,
    dropout: float = 0.0,
    key: Array | None = None,
    wrappers: tuple[Wrapper, ...] = (),
    cell: Cell | str | None = None,
    step: Callable[..., tuple[PyTree, PyTree]] = cell_step,
    dtype: DTypeLike | None = None,
    checkpoint: int | str | None = None,
    unroll: int = 1,
    backend: Chooser = "auto",
    run: Callable[..., tuple[PyTree, PyTree]] = lstm,
) -> tuple[tuple, PyTree]:
    """Gives the states and the last layer's outputs of a stack of layers over a sequence.

    Args:
        layers: from the bottom up, each `LSTMParams` or a `Bidirectional(forward, reverse)` pair of
            them, of any sizes that fit each other: a layer's I is the width of what is below it.
        xs: inputs `[..., T, I]`, or `[T, ..., I]` with `time_major`.
        state: a tuple with an (h, c) for each layer (a `Bidirectional` of two for a pair), or None.
        lengths, mask, padding: as for `lstm`; every layer sees the same valid steps.
        resets: bool `[..., T]`, True at the first step of each episode; a reverse direction runs each
            episode backwards, so that for it the state returns before the episode's last step.
        reset_state: what a reset returns to, as `state`; None: zeros.
        return_sequences: all steps, or the last one: of a reverse direction the last it processed,
            the first in time.
        emit: what the last layer gives; between layers it is always h.
        merge: a pair's outputs side by side ("concat", width 2P) or added up ("sum").
        residual: add what enters a layer to what it gives, from the second layer on.
        dropout: rate of dropout between layers (not after the last), drawn for every step and
            feature; what stays is divided by 1 − rate. A rate of 1 leaves zeros, as in PyTorch, Keras and Flax.
        key: random key for dropout and wrappers. None: evaluation, no dropout.
        wrappers, cell, step, dtype, checkpoint, unroll, backend: as for `lstm`, for every layer.
        run: what runs each layer in each direction, from the bottom up, forward before reverse; it is called as `lstm`
            is, and may look at what passes, as `trace` does.

    Returns:
        (state, ys): a tuple with each layer's state; ys as `lstm` gives it.

    Raises:
        ValueError: an argument does not fit the others; messages about a layer name its number, or carry
            it as a note.

    Example:
        >>> key = jax.random.key(0)
        >>> from lstmjax import init_params
        >>> up, down, top = (init_params(key, i, h) for i, h in ((5, 8), (5, 8), (16, 3)))
        >>> layers = (Bidirectional(up, down), top)
        >>> state, ys = stacked(layers, jnp.ones((2, 7, 5)))
        >>> ys.shape, state[0].reverse[0].shape
        ((2, 7, 3), (2, 8))
    """
    step = resolve(step, cell)
    layers = as_layers(layers)
    _check_states(layers, state=state, reset_state=reset_state)
    check_function("run", run, "that is called as lstm is")
    checks.one_of("merge", merge, ("concat", "sum"))
    checks.check_rate("dropout", dropout)
    check_flags(time_major=time_major, return_sequences=return_sequences, residual=residual)
    if key is not None:
        checks.check_key("key", key)
    layers, xs = as_arrays("layers", layers), as_array("xs", xs)
    if dtype is not None:
        checks.check_floating("dtype", dtype)
        layers, xs = cast(layers, dtype), cast(xs, dtype)
    if isinstance(step, CellStep):
        for n, layer in enumerate(layers):
            with naming(n):
                for part in directions(layer):
                    checks.check_params(part, step.cell)
    checks.check_sequence(xs, _first(layers), time_major)
    valid = valid_steps(xs, lengths, mask, time_major)
    axis = 0 if time_major else xs.ndim - 2
    resets = step_flags("resets", resets, xs, time_major)
    ends = None if resets is None else segment_ends(resets, valid, axis)
    keys = [None] * len(layers) if key is None else jax.random.split(key, len(layers))
    last = len(layers) - 1
    if residual and last and not return_sequences and isinstance(layers[last], Bidirectional):
        raise ValueError(
            "residual=True with return_sequences=False is not defined for a Bidirectional last layer, whose directions "
            "end at different steps. Pass return_sequences=True and take the steps you mean."
        )

    if residual and (emit != "h" or padding != "zero"):
        raise ValueError(
            "residual=True adds to h at valid steps; it goes with emit='h' and padding='zero' only, not with "
            f"{emit!r} and {padding!r}."
        )

    pairs = tuple(isinstance(layer, Bidirectional) for layer in layers)

    states = []
    for n, (layer, k) in enumerate(zip(layers, keys, strict=True)):
        runs, drops = (None, None) if k is None else jax.random.split(k)
        below = xs
        check_fits(n, layer, xs, merge)
        with naming(n):
            new, xs = _directions(
                run,
                layer,
                xs,
                None if state is None else state[n],
                None if reset_state is None else reset_state[n],
                resets=(resets, ends),
                merge=merge,
                key=runs,
                lengths=lengths,  # not joined with the mask: a backend may know lengths only
                mask=mask,
                time_major=time_major,
                return_sequences=return_sequences or n < last,
                emit=emit if n == last else "h",
                padding=padding if n == last else "zero",
                wrappers=partial(placed, wrappers, n, pairs),
                step=step,
                checkpoint=checkpoint,
                unroll=unroll,
                backend=backend,
            )
        states.append(new)
        if residual and n > 0:
            xs = _add(xs, below, valid, axis, n, whole=return_sequences or n < last)
        if n < last:
            xs = drop(drops, xs, dropout)
    return tuple(states), xs


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


def _directions(
    run: Callable[..., tuple[PyTree, PyTree]],
    layer: LSTMParams | Bidirectional,
    xs: Array,
    state: Any,
    reset_state: Any,
    *,
    resets: tuple,
    merge: str,
    key: Array | None,
    wrappers: Callable[[str], Any],
    **options: Any,
) -> tuple[Any, PyTree]:
    starts, ends = resets
    forwards = options | {"wrappers": wrappers("forward")}
    if not isinstance(layer, Bidirectional):
        return run(layer, xs, state, resets=starts, reset_state=reset_state, key=key, **forwards)
    keys = (None, None) if key is None else jax.random.split(key)
    state, reset_state = state or (None, None), reset_state or (None, None)
    backwards = options | {"wrappers": wrappers("reverse"), "reverse": True}
    forward, ahead = run(
        layer.forward, xs, state[0], resets=starts, reset_state=reset_state[0], key=keys[0], **forwards
    )
    reverse, back = run(layer.reverse, xs, state[1], resets=ends, reset_state=reset_state[1], key=keys[1], **backwards)
    least = xs.ndim - (not options["return_sequences"])
    for y in jax.tree.leaves(ahead):
        if y.ndim < least:
            raise ValueError(
                f"emit gives one number a step, shape {y.shape}, but a Bidirectional pair joins its directions on an "
                "axis of features. Keep that axis: [..., None], or keepdims=True."
            )
    join = (lambda a, b: jnp.concatenate([a, b], axis=-1)) if merge == "concat" else jnp.add
    return Bidirectional(forward, reverse), jax.tree.map(join, ahead, back)


def placed(wrappers: Any, layer: int, pairs: tuple[bool, ...], direction: str) -> Any:
    """Gives the wrappers as they stand in one direction of one layer.

    A wrapper that has a method `at(layer, direction, pairs)` says by it what stands there in its place; `direction` is
    "forward" or "reverse", and `pairs` tells of each layer of the stack whether it has both.
    """

    def one(wrapper: Any) -> Any:
        if isinstance(wrapper, tuple):  # with what it brings
            return (one(wrapper[0]), *wrapper[1:])
        return wrapper.at(layer, direction, pairs) if hasattr(type(wrapper), "at") else wrapper

    return tuple(map(one, wrappers)) if isinstance(wrappers, tuple | list) else wrappers


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
    if ys.shape[-1] != below.shape[-1]:
        raise ValueError(
            f"residual=True adds what enters layer {n} ({below.shape[-1]} wide) to what it gives "
            f"({ys.shape[-1]} wide); they must be equally wide."
        )
    if whole or not below.shape[axis]:
        return ys + below if whole else ys
    if valid is None:
        return ys + below.take(-1, axis=axis)
    steps = jax.lax.broadcasted_iota(jnp.int32, valid.shape, axis)
    at = jnp.where(valid, steps, -1).max(axis=axis)
    latest = jnp.take_along_axis(below, jnp.expand_dims(jnp.maximum(at, 0), (axis, -1)), axis=axis).squeeze(axis)
    return ys + jnp.where(at[..., None] < 0, 0, latest)


def as_layers(layers: Any) -> Layers:
    """Gives the layers as a tuple, each `LSTMParams` or a pair of them, or refuses."""
    several = isinstance(layers, tuple | list) and not isinstance(layers, LSTMParams | Bidirectional)
    if not several or not layers:
        raise TypeError(
            f"layers is {'empty' if several else checks.kind(layers)}, expected a tuple of LSTMParams or Bidirectional "
            "pairs, from the bottom up. For one layer: (params,)."
        )
    for n, layer in enumerate(layers):
        for part in directions(layer):
            if not isinstance(part, LSTMParams):
                raise TypeError(f"layer {n} holds {checks.kind(part)}, expected LSTMParams or Bidirectional.")
    return tuple(layers)


def directions(layer: LSTMParams | Bidirectional) -> tuple[LSTMParams, ...]:
    """Gives the one or two directions of a layer."""
    return tuple(layer) if isinstance(layer, Bidirectional) else (layer,)


def _check_states(layers: Layers, **states: Any) -> None:
    for name, state in states.items():
        if state is None:
            continue
        if not isinstance(state, tuple | list):
            raise TypeError(f"{name} is {checks.kind(state)}, expected a tuple with an (h, c) for each layer.")
        if len(state) != len(layers):
            raise ValueError(
                f"{name} has {len(state)} entries, but there are {len(layers)} layers; expected a tuple with an (h, c) "
                "for each layer."
            )
        for n, (layer, own) in enumerate(zip(layers, state, strict=True)):
            pair = isinstance(layer, Bidirectional)
            if pair and not _is_pair(own):
                raise TypeError(
                    f"{name}[{n}] is {checks.kind(own)}, but layer {n} is a pair; expected "
                    "Bidirectional(forward, reverse) of two (h, c)."
                )
            if not pair and isinstance(own, Bidirectional):
                raise TypeError(f"{name}[{n}] is a Bidirectional, but layer {n} has one direction; expected (h, c).")


def _is_pair(state: Any) -> bool:
    if state is None or isinstance(state, Bidirectional):
        return True
    return isinstance(state, tuple) and len(state) == 2 and all(s is None or isinstance(s, tuple) for s in state)


def _first(layers: Layers) -> LSTMParams:
    return directions(layers[0])[0]


def check_fits(n: int, layer: LSTMParams | Bidirectional, xs: Any, merge: str) -> None:
    """Refuses layer n if it does not fit what enters it; of xs the dtype and the last axis count."""
    widths = {part.output_size for part in directions(layer)}
    if merge == "sum" and len(widths) > 1:
        raise ValueError(
            f"merge='sum' adds up the directions of layer {n}, which are {min(widths)} and {max(widths)} wide; they "
            "must be equally wide. Pass merge='concat'."
        )
    for part in directions(layer):
        if part.w_x.dtype != xs.dtype and n:
            raise ValueError(
                f"layer {n} is {part.w_x.dtype}, but layer {n - 1} gives {xs.dtype}; all layers share one dtype. Cast "
                "them, or pass dtype= to compute in one."
            )
        if n and part.input_size != xs.shape[-1]:
            raise ValueError(
                f"layer {n} expects I = {part.input_size} features, but layer {n - 1} gives {xs.shape[-1]}: "
                "the width of its h, twice that for a Bidirectional pair with merge='concat'."
            )
