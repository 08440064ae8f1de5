"""Several layers: `stacked` runs one on top of the other, in one direction or in two."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax

from lstmjax import checks
from lstmjax.arguments import (
    as_array,
    as_arrays,
    as_flags,
    check_function,
    check_key,
    check_rate,
    checked_steps,
    kind,
    one_of,
)
from lstmjax.arrays import Sequence, as_shapes, cast, floating, input_shape, within
from lstmjax.backends import Chooser, explicitly_sharded
from lstmjax.cell import CellStep, Emit, cell_step
from lstmjax.cells import Cell
from lstmjax.layer import Inputs, lstm, resolve, settle
from lstmjax.layered import Layers as Layers
from lstmjax.layered import RunDirection, Stacking, cast_valid, check_added, merged_width, run_stack, state_of, through
from lstmjax.layered import check_fits as check_fits
from lstmjax.layered import directions as directions
from lstmjax.layered import drop as drop
from lstmjax.layered import naming as naming
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike


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
    """Run a stack of layers over a sequence; return the states and the last layer's outputs.

    Args:
        layers: from the bottom up, each `LSTMParams` or a `Bidirectional(forward, reverse)` pair of
            them, of any sizes that fit each other: a layer's I is the width of what is below it.
        xs: inputs `[..., T, I]`, or `[T, ..., I]` with `time_major`.
        state: a tuple with an (h, c) for each layer (a `Bidirectional` of two for a pair), or None. A single
            layer takes its (h, c) without the tuple around it, too; what comes back has the tuple.
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
        >>> import jax.numpy as jnp
        >>> from lstmjax import init_params
        >>> up, down, top = (init_params(key, i, h) for i, h in ((5, 8), (5, 8), (16, 3)))
        >>> layers = (Bidirectional(up, down), top)
        >>> state, ys = stacked(layers, jnp.ones((2, 7, 5)))
        >>> ys.shape, state[0].reverse[0].shape
        ((2, 7, 3), (2, 8))
    """
    step = resolve(step, cell)
    layers = as_layers(layers)
    state, reset_state = as_states(layers, "state", state), as_states(layers, "reset_state", reset_state)
    check_function("run", run, "that is called as lstm is")
    one_of("merge", merge, ("concat", "sum"))
    check_rate("dropout", dropout)
    time_major, return_sequences, residual = as_flags(
        time_major=time_major, return_sequences=return_sequences, residual=residual
    )
    if key is not None:
        check_key("key", key)
    layers, xs = as_arrays("layers", layers), as_array("xs", xs)
    dtype = floating(dtype)
    like = as_shapes(layers, dtype)
    if isinstance(step, CellStep):
        for n, layer in enumerate(like):
            with naming(n):
                for part in directions(layer):
                    checks.check_params(part, step.cell)
    checks.check_sequence(input_shape(xs, dtype), directions(like[0])[0], time_major)
    lengths, mask, resets = checked_steps(xs, lengths, mask, resets, time_major)
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
    axis = 0 if time_major else xs.ndim - 2
    stacking = Stacking(merge, residual, float(dropout), return_sequences, axis, dtype)
    inputs = Inputs(layers, xs, state, reset_state, lengths, mask, resets, key)
    pairs = tuple(isinstance(layer, Bidirectional) for layer in layers)

    def options(n: int, direction: str) -> dict[str, Any]:
        """Return what one layer is run with in one direction, apart from its arrays."""
        return {
            "reverse": direction == "reverse",
            "time_major": time_major,
            "return_sequences": return_sequences or n < last,
            "emit": emit if n == last else "h",
            "padding": padding if n == last else "zero",
            "wrappers": placed(wrappers, n, pairs, direction),
            "checkpoint": checkpoint,
            "unroll": unroll,
            "backend": backend,
        }

    if run is lstm and isinstance(step, CellStep):
        calls, extras = _settled(like, inputs, step, options, stacking)
        return run_stack(inputs, extras, stacking=stacking, calls=calls)

    def run_direction(
        n: int, direction: str, part: LSTMParams, sequence: Sequence, state: PyTree, reset_state: PyTree, key: Any
    ) -> tuple[PyTree, PyTree]:
        # lengths are not joined with the mask: a backend may know lengths only
        call = options(n, direction) | {"step": step, "lengths": lengths, "mask": mask, "key": key}
        return run(part, sequence.xs, state, resets=sequence.resets, reset_state=reset_state, **call)

    runs: list[list[RunDirection]] = [
        [partial(run_direction, n, d) for d in Bidirectional._fields] for n in range(len(layers))
    ]
    valid = within(xs.shape[:-1], axis, lengths, mask) if residual or (resets is not None and any(pairs)) else None
    if dtype is not None:
        layers, xs = cast(layers, dtype), cast_valid(xs, lengths, mask, axis=axis, dtype=dtype)
    return through(runs, layers, Sequence(xs, valid, resets), state, reset_state, key, stacking, axis=axis)


def _settled(
    like: Layers, inputs: Inputs, step: CellStep, options: Callable[[int, str], dict[str, Any]], stacking: Stacking
) -> tuple[tuple, tuple]:
    """Return for each layer, for each of its directions, the request and its backend, and the extras of its wrappers.

    Everything is checked here, by shapes, before anything is compiled.
    """
    xs, calls, extras = input_shape(inputs.xs, stacking.dtype), [], []
    explicit = explicitly_sharded(inputs.params, inputs.xs)
    for n, layer in enumerate(like):
        check_fits(n, layer, xs, stacking.merge)
        with naming(n):
            settled = []
            for k, part in enumerate(directions(layer)):
                states = {name: state_of(getattr(inputs, name), layer, n, k) for name in ("state", "reset_state")}
                part_inputs = inputs._replace(params=part, xs=xs, **states)
                how = options(n, Bidirectional._fields[k])
                settled.append(settle(part_inputs, step, None, explicit=explicit, **how))
            width = merged_width(layer, stacking.merge)
            if stacking.residual and n:
                check_added(n, width, xs.shape[-1])
        calls.append(tuple((request, backend) for request, backend, _, _ in settled))
        extras.append(tuple(pairs for *_, pairs in settled))
        xs = jax.ShapeDtypeStruct((*xs.shape[:-1], width), directions(layer)[0].w_x.dtype)
    return tuple(calls), tuple(extras)


def placed(wrappers: Any, layer: int, pairs: tuple[bool, ...], direction: str) -> Any:
    """Return the wrappers of one direction of one layer.

    A wrapper with a method `at(layer, direction, pairs)` is replaced by what that returns; `direction` is "forward" or
    "reverse", and `pairs` has for each layer of the stack whether it has both.
    """

    def place(wrapper: Any) -> Any:
        if isinstance(wrapper, tuple):  # (wrapper, extras)
            return (place(wrapper[0]), *wrapper[1:])
        return wrapper.at(layer, direction, pairs) if hasattr(type(wrapper), "at") else wrapper

    if not isinstance(wrappers, tuple | list):
        return wrappers  # refused by `lstm`
    return tuple(place(wrapper) for wrapper in wrappers)


def as_layers(layers: Any) -> Layers:
    """Return the layers as a tuple, each `LSTMParams` or a pair of them, or refuse them."""
    several = isinstance(layers, tuple | list) and not isinstance(layers, LSTMParams | Bidirectional)
    if not several or not layers:
        raise TypeError(
            f"layers is {'empty' if several else kind(layers)}, expected a tuple of LSTMParams or Bidirectional "
            "pairs, from the bottom up. For one layer: (params,)."
        )
    for n, layer in enumerate(layers):
        for part in directions(layer):
            if not isinstance(part, LSTMParams):
                raise TypeError(f"layer {n} holds {kind(part)}, expected LSTMParams or Bidirectional.")
    if several := checks.ensemble(layers):
        raise ValueError(several)
    return tuple(layers)


def as_states(layers: Layers, name: str, state: Any) -> Any:
    """Return a state as a tuple with an entry for each layer, or None; that of a single layer may come without it.

    Raises:
        ValueError, TypeError: it is not built as the layers are; the message begins with `name`.
    """
    if state is None:
        return None
    single, pair = len(layers) == 1, isinstance(layers[0], Bidirectional)
    remedy = " For one layer: (h, c), or ((h, c),)." if single and not pair else ""
    if single and (isinstance(state, Bidirectional) if pair else _is_of_one(state)):
        state = (state,)
    if not isinstance(state, tuple | list):
        raise TypeError(f"{name} is {kind(state)}, expected a tuple with an (h, c) for each layer.{remedy}")
    if len(state) != len(layers):
        are = "is 1 layer" if single else f"are {len(layers)} layers"
        of_pair = " For one pair: Bidirectional((h, c), (h, c)), or that in a tuple." if single and pair else ""
        raise ValueError(
            f"{name} has {len(state)} entries, but there {are}; expected a tuple with an (h, c) for each layer."
            f"{remedy}{of_pair}"
        )
    for n, (layer, entry) in enumerate(zip(layers, state, strict=True)):
        if isinstance(layer, Bidirectional) and not _is_pair(entry):
            raise TypeError(
                f"{name}[{n}] is {kind(entry)}, but layer {n} is a pair; expected "
                "Bidirectional(forward, reverse) of two (h, c)."
            )
        if not isinstance(layer, Bidirectional) and isinstance(entry, Bidirectional):
            raise TypeError(f"{name}[{n}] is a Bidirectional, but layer {n} has one direction; expected (h, c).")
    return state


def _is_of_one(state: Any) -> bool:
    """Return whether a state is the (h, c, ...) of one layer: several arrays, and no tuples."""
    several = isinstance(state, tuple | list) and not isinstance(state, Bidirectional) and len(state) > 1
    return several and all(part is not None and not isinstance(part, tuple | list) for part in state)


def _is_pair(state: Any) -> bool:
    if state is None or isinstance(state, Bidirectional):
        return True
    return isinstance(state, tuple) and len(state) == 2 and all(s is None or isinstance(s, tuple) for s in state)
