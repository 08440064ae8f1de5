"""One layer over time: `lstm` scans a step over a sequence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax import backends, checks
from lstmjax.arguments import as_array, as_arrays, as_flags, check_key, checked_steps, one_of
from lstmjax.arrays import Sequence, as_shapes, cast, floating, input_shape, prepared, tied_zero
from lstmjax.cell import CellStep, Emit, cell_step, emitted
from lstmjax.cells import VANILLA, Cell
from lstmjax.published import find_cell
from lstmjax.states import initial_like, initial_state, tie
from lstmjax.types import Array, LSTMParams, PyTree, Step
from lstmjax.wrappers import NO_EXTRAS, Hold, Look, Remember, Reset, Wrapper, compose, with_extras

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike


def lstm(
    params: LSTMParams,
    xs: ArrayLike,
    state: PyTree | None = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: PyTree | None = None,
    reverse: bool = False,
    time_major: bool = False,
    return_sequences: bool = True,
    emit: Emit = "h",
    padding: str = "zero",
    key: Array | None = None,
    wrappers: tuple[Wrapper | tuple[Wrapper, tuple], ...] = (),
    cell: Cell | str | None = None,
    step: Callable[..., tuple[PyTree, PyTree]] = cell_step,
    dtype: DTypeLike | None = None,
    checkpoint: int | str | None = None,
    unroll: int = 1,
    backend: backends.Chooser = "auto",
) -> tuple[PyTree, PyTree]:
    """Run one LSTM layer over a sequence; return the final state and the outputs.

    Args:
        params: `LSTMParams`; the same weights at every step, so their number does not depend on T.
        xs: inputs `[..., T, I]`: no batch axis, one, or many. `[T, ..., I]` with `time_major`.
        state: the state to start from, (h, c): h `[..., P]`, c `[..., H]`, or without the batch
            axes for all sequences alike (a learned initial state). None: zeros. To continue a
            sequence, pass the state that was returned: chunks give what one pass gives.
        lengths: valid steps of each sequence, whole numbers `[...]` from 0 to T. Length 0 returns the
            initial state.
        mask: valid steps, bool `[..., T]` on the axes of xs, holes allowed. With lengths too, a step is
            valid if both say so. A step that is not valid holds the state, and nothing depends on what xs
            holds there (the step runs on x = 0, and its result is discarded).
        resets: bool `[..., T]`: before a flagged step the state returns to `reset_state`, and no
            gradient crosses (a new episode or packed sequence begins). "Before" is in the order of
            processing, so with `reverse` the flag stands on the last step of an episode. Flags on
            steps that are not valid do nothing.
        reset_state: the state that a reset returns to, as `state`; None: zeros. It differs from `state`
            where a chunk continues from a carried state and still resets to the start.
        reverse: run from the last valid step to the first; ys[t] stays beside xs[t].
        time_major: time is the first axis of xs, mask, resets and ys.
        return_sequences: whether ys has all steps, or (False) only the last valid step processed.
        emit: what ys holds: "h", "c", "step" (a `Step` of everything) or a function of the `Step` that
            returns arrays beginning with the batch axes. Compiled code is cached by it: define the
            function once, since a new lambda at every call compiles at every call.
        padding: ys at steps that are not valid: "zero", or "hold" (as at the last valid step; before the
            first valid step, what `emit` returns for the initial state's h and c and zeros elsewhere).
        key: random key for wrappers that draw. None: evaluation, with the expected values.
        wrappers: what happens around the step, the first one closest to the cell. A pair (wrapper, extras)
            brings what the wrapper would draw: `extras` is (fixed, scanned), time on the first axis of scanned.
        cell: the cell, a name in `CELLS` or a `Cell` of your own. None: the vanilla cell.
        step: the step to scan, `step(params, state, x) -> (state, y)` on leading `...` axes. Those of
            the keywords `aux`, `product`, `tap` and `emit` that it names are passed, too. It must be
            hashable (a module-level function, a frozen dataclass): compiled code is cached by it. If it
            emits no `Step`, ys is what it emits, which begins with the batch axes. If its params are no
            `LSTMParams`, it needs a `state`, whose dtypes are left as they are.
        dtype: dtype of the computation; params, xs (also whole numbers) and h are cast to it. None: that of
            params. c stays in float32 when it is bfloat16 or float16.
        checkpoint: None, "sqrt" or a segment length: save memory by computing segments again in the
            backward pass.
        unroll: steps per iteration of the compiled loop.
        backend: how the scan is run: "auto", or a name in `backends.BACKENDS`, which never falls back on another;
            see `explain_backend`. To choose by a rule of your own, pass a function of the `backends.Request` that
            returns a name.

    Returns:
        (state, ys): the state after the last step, as `state`; ys `[..., T, P]` (`[T, ..., P]` with
        `time_major`), `[..., P]` without `return_sequences`. T = 0 gives the initial state.

    Raises:
        ValueError: an argument does not fit the others; the message says which, and what to do.

    Example:
        >>> params = LSTMParams(jnp.ones((5, 4, 256)), jnp.ones((256, 4, 256)), jnp.ones((4, 256)))
        >>> (h, c), ys = lstm(params, jnp.ones((32, 100, 5)))
        >>> h.shape, c.shape, ys.shape
        ((32, 256), (32, 256), (32, 100, 256))
    """
    step = resolve(step, cell)
    reverse, time_major, return_sequences = as_flags(
        reverse=reverse, time_major=time_major, return_sequences=return_sequences
    )
    if key is not None:
        check_key("key", key)
    if isinstance(step, CellStep):
        checks.check_params_type(params)
    params, dtype = as_arrays("params", params), floating(dtype)
    like = as_shapes(params, dtype)
    if isinstance(step, CellStep):
        checks.check_params(like, step.cell)
    xs = as_array("xs", xs)
    shape = input_shape(xs, dtype)
    checks.check_sequence(shape, like, time_major)
    flags = checked_steps(xs, lengths, mask, resets, time_major)
    inputs = Inputs(like, shape, state, reset_state, *flags, key)
    request, backend, inputs, extras = settle(
        inputs, step, dtype, reverse=reverse, time_major=time_major, return_sequences=return_sequences, emit=emit,
        padding=padding, wrappers=wrappers, checkpoint=checkpoint, unroll=unroll, backend=backend,
        explicit=backends.explicitly_sharded(params, xs),
    )  # fmt: skip
    return run_alone(inputs._replace(params=params, xs=xs), extras, request=request, backend=backend)


class Inputs(NamedTuple):
    """The arrays of a layer, or of a stack of layers, as the caller passed them; all but params and xs may be None."""

    params: PyTree
    xs: Any
    state: PyTree
    reset_state: PyTree
    lengths: Array | None
    mask: Array | None
    resets: Array | None
    key: Array | None


def settle(
    inputs: Inputs, step: Callable, dtype: Any, *, time_major: bool, wrappers: Any, backend: Any, **options: Any
) -> tuple:
    """Return the request of a layer, its backend, its inputs with states as arrays, and the extras of its wrappers.

    Everything is checked by shapes: what does not fit is refused here.

    Args:
        inputs: of params and xs the shapes and dtypes after the cast to `dtype`.
        step: the step, resolved.
        dtype, time_major, wrappers, backend: as for `lstm`.
        options: reverse, return_sequences, emit, padding, checkpoint and unroll, as for `lstm`; explicit, of `Request`.
    """
    checks.check_emit(options["emit"])
    one_of("padding", options["padding"], checks.PADDINGS)
    wrappers, extras = checks.check_running(step, wrappers, options["checkpoint"], options["unroll"])
    params, xs, shape, resets = inputs.params, inputs.xs, inputs.xs.shape, inputs.resets is not None
    axis = 0 if time_major else len(shape) - 2
    xs = jax.ShapeDtypeStruct((shape[axis], *shape[:axis], *shape[axis + 1 :]), xs.dtype)  # time first
    state = as_arrays("state", inputs.state)
    reset_state = as_arrays("reset_state", inputs.reset_state) if resets else None
    like = partial(initial_like, params, xs, step=step, cast=dtype is not None)
    state_like, _ = like("state", state)
    if resets:
        checks.check_alike("reset_state", like("reset_state", reset_state)[0], state_like)
    valid = None if inputs.lengths is None else "lengths"
    if inputs.mask is not None:
        valid = "mask"
    request = backends.Request(
        step=step, wrappers=wrappers, valid=valid, resets=resets, axis=axis, params=params, xs=xs, state=state_like,
        dtype=dtype, **options,
    )  # fmt: skip
    inputs = inputs._replace(state=state, reset_state=reset_state)
    return request, backends.choose(backend, request), inputs, extras


@partial(jax.jit, static_argnames=("request", "backend"))
def run_alone(inputs: Inputs, extras: tuple, *, request: backends.Request, backend: str) -> tuple[PyTree, PyTree]:
    """Run one layer on arrays that are checked, from the inputs as the caller passed them to the outputs.

    The whole computation is in here, so that a call outside `jax.jit` compiles one program for each new shape, and
    `jax_debug_nans` never sees what padding holds. Arguments as for `run_layer`.
    """
    params, xs, state, reset_state, lengths, mask, resets, key = inputs
    axis, dtype = request.axis, request.dtype
    sequence = prepared(xs, lengths, mask, resets, axis=axis, dtype=dtype)
    params = params if dtype is None else cast(params, dtype)
    state, ys = run_layer(params, sequence, state, reset_state, key, extras, request=request, backend=backend)
    if request.return_sequences:
        ys = jax.tree.map(lambda y: jnp.moveaxis(y, 0, axis), ys)
    return state, ys


def run_layer(
    params: PyTree,
    sequence: Sequence,
    state: PyTree | None,
    reset_state: PyTree | None,
    key: Array | None,
    extras: tuple,
    *,
    request: backends.Request,
    backend: str,
) -> tuple[PyTree, PyTree]:
    """Run a layer on a sequence; return the final state and the outputs, time first.

    The step is composed with its wrappers from the inside out.

    Args:
        params, state, reset_state, key: as for `lstm`.
        sequence: the inputs, prepared.
        extras: for each wrapper the pair (fixed, scanned) that it brings with it, or None.
        request: how the layer is run. Compiled code is cached by it.
        backend: which backend runs it.
    """
    xs, valid, resets = sequence
    step, emit = request.step, request.emit
    start = partial(initial_state, params, xs, step=step, cast=request.dtype is not None)
    state = start("state", state)
    wrapped = with_extras(request.wrappers, extras, key, xs, state)
    if resets is not None:
        wrapped.append((Reset(), (start("reset_state", reset_state), resets)))
    state = tie(state, (params, xs, [pair for _, pair in wrapped]))

    place = place_in_state(step, emit)
    remember = place is None and (not request.return_sequences or (request.padding == "hold" and valid is not None))
    if remember:  # the last output is carried beside the state, as (state, y)
        state = state, _first_output(compose(step, wrapped), params, state, xs, emit)
        place = 1
    wrapped.append((Look(emit), NO_EXTRAS))
    if remember:
        wrapped.append((Remember(), NO_EXTRAS))
    if valid is not None:
        wrapped.append((Hold(place if request.padding == "hold" else None), (None, valid)))

    wrapped_step, fixed, scanned = compose(step, wrapped)
    state, ys = backends.BACKENDS[backend].run(wrapped_step, params, state, xs, fixed, scanned, request=request)
    if not request.return_sequences:
        ys = state[place]
    return (state[0] if remember else state), ys


def place_in_state(step: Callable, emit: Emit) -> int | None:
    """Return where in the state (h, c) an output stands that is h or c, or None."""
    if isinstance(step, CellStep) and emit in ("h", "c"):
        return ("h", "c").index(emit)
    return None


def _first_output(composed: tuple, params: PyTree, state: PyTree, xs: Array, emit: Emit) -> PyTree:
    """Return the output that is held before the first valid step: the state's h and c, and zeros elsewhere."""
    wrapped_step, fixed, scanned = composed
    x, scanned = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (xs, scanned))
    zero = tied_zero(state)

    def output(params: PyTree, state: PyTree, x: Array, scanned: tuple) -> PyTree:
        return wrapped_step(params, state, x, tuple(zip(fixed, scanned, strict=True)))[1]

    out = jax.eval_shape(output, params, state, x, scanned)
    out = jax.tree.map(lambda a: jnp.broadcast_to(zero.astype(a.dtype), a.shape, out_sharding=a.sharding), out)
    if isinstance(out, Step):
        return emitted(emit, out._replace(h=state[0], c=state[1]))
    return emit(out) if callable(emit) else out


def resolve(step: Callable, cell: Cell | str | None) -> Callable:
    """Return the step to scan: `cell_step` as a `CellStep` with its cell, which is the same from call to call."""
    keywords = getattr(step, "keywords", {})
    ours = getattr(step, "func", step) is cell_step and not getattr(step, "args", ()) and keywords.keys() <= {"cell"}
    if cell is not None and (not ours or keywords):
        raise ValueError("cell is given, but step is a step of your own, which says itself what it computes. Pass one.")
    if not ours:
        return step
    return CellStep(find_cell(keywords.get("cell", VANILLA) if cell is None else cell))
