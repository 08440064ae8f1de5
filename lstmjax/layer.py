"""One layer over time: `lstm` scans a step over a sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax import backends, checks
from lstmjax.arguments import as_array, as_arrays, check_flags, check_key, kind, one_of
from lstmjax.arrays import as_shapes, cast, cast_inputs, checked_steps, floating, input_shape, within
from lstmjax.cell import CellStep, Emit, cell_step, emitted, product
from lstmjax.cells import VANILLA, Cell
from lstmjax.published import find_cell
from lstmjax.types import Array, LSTMParams, PyTree, Step
from lstmjax.wrappers import Hold, Look, Remember, Reset, StepWrapper, Wrapped, Wrapper

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
    """Gives the final state and the outputs of one LSTM layer over a sequence.

    Args:
        params: `LSTMParams`; the same weights at every step, so their number does not depend on T.
        xs: inputs `[..., T, I]`: no batch axis, one, or many. `[T, ..., I]` with `time_major`.
        state: the state to start from, (h, c): h `[..., P]`, c `[..., H]`, or without the batch
            axes for all sequences alike (a learned initial state). None: zeros. The state that comes
            back goes in here to continue: chunks give what one pass gives.
        lengths: valid steps of each sequence, whole numbers `[...]` from 0 to T. Length 0 gives back
            the initial state.
        mask: valid steps, bool `[..., T]` on the axes of xs, holes allowed. With lengths: both.
            A step that is not valid holds the state, and nothing depends on what xs holds there (the
            step runs on x = 0, and what it gives is left out).
        resets: bool `[..., T]`: before a flagged step the state returns to `reset_state`, and no
            gradient crosses (a new episode or packed sequence begins). "Before" is in the order of
            processing, so that with `reverse` the flag stands on the last step of an episode.
            Flags on steps that are not valid do nothing.
        reset_state: the state that a reset returns to, as `state`; None: zeros. It is apart from
            `state`, so that a chunk can continue from a carried state and still reset to the start.
        reverse: run from the last valid step to the first; ys[t] stays beside xs[t].
        time_major: time is the first axis of xs, mask, resets and ys.
        return_sequences: give ys of all steps, or (False) only of the last valid step processed.
        emit: what ys is made of: "h", "c", "step" (a `Step` of everything) or a function of the Step,
            whose arrays begin with the batch axes. Compiled code is kept by it: define the function
            once, since a new lambda at every call compiles at every call.
        padding: ys at steps that are not valid: "zero", or "hold" (the last valid one's; before the
            first valid step, what `emit` makes of the initial state's h and c and of zeros else).
        key: random key for wrappers that draw. None: evaluation, their expected-value behaviour.
        wrappers: what happens around the step, the first one closest to the cell. A pair (wrapper, extras) brings
            with it what the wrapper would draw: `extras` is (fixed, scanned), time on the first axis of scanned.
        cell: another cell than the vanilla one: a name in `CELLS`, or a `Cell` of your own.
        step: the step to scan, `step(params, state, x) -> (state, y)` on leading `...` axes. It is
            also handed those of the keywords `aux`, `product`, `tap` and `emit` that it names. It must be
            hashable (a module-level function, a frozen dataclass): compiled code is kept by it. What
            it emits, if no `Step`, is ys as it stands and begins with the batch axes. With params of
            its own it needs a `state`, whose dtypes are left as they are.
        dtype: dtype of the computation; params, xs (also whole numbers) and h are cast to it. None: that of
            params. c stays in float32 when it is bfloat16 or float16.
        checkpoint: None, "sqrt" or a segment length: save memory in the backward pass by computing
            segments again.
        unroll: steps per iteration of the compiled loop.
        backend: how the scan is run: "auto", or a name in `backends.BACKENDS`, which never falls back on another; see
            `explain_backend`. A function of the `backends.Request` that gives a name is a choice of your own.

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
    check_flags(reverse=reverse, time_major=time_major, return_sequences=return_sequences)
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
    request, backend, inputs, drawn = settle(
        inputs, step, dtype, reverse=reverse, time_major=time_major, return_sequences=return_sequences, emit=emit,
        padding=padding, wrappers=wrappers, checkpoint=checkpoint, unroll=unroll, backend=backend,
    )  # fmt: skip
    return run_layer(inputs._replace(params=params, xs=xs), drawn, request=request, backend=backend)


class Inputs(NamedTuple):
    """The arrays of a layer, or of a stack of them, as the caller has them; each but params and xs may be None."""

    params: PyTree
    xs: Any
    state: PyTree
    reset_state: PyTree
    lengths: Array | None
    mask: Array | None
    resets: Array | None
    key: Array | None


def settle(inputs: Inputs, step: Callable, dtype: Any, *, emit: Emit, padding: str, **options: Any) -> tuple:
    """Return what a layer asks of which backend, its inputs with states as arrays, and what wrappers bring; or refuse.

    Args:
        inputs: of params and xs the shapes and dtypes after the cast to `dtype`.
        step: the step, resolved.
        dtype, emit, padding: as for `lstm`.
        options: reverse, time_major, return_sequences, wrappers, checkpoint, unroll and backend, as for `lstm`.
    """
    checks.check_emit(emit)
    one_of("padding", padding, checks.PADDINGS)
    checkpoint, unroll, resets = options["checkpoint"], options["unroll"], inputs.resets is not None
    wrappers, drawn = checks.check_running(step, options["wrappers"], checkpoint, unroll)
    params, xs, shape = inputs.params, inputs.xs, inputs.xs.shape
    axis = 0 if options["time_major"] else len(shape) - 2
    xs = jax.ShapeDtypeStruct((shape[axis], *shape[:axis], *shape[axis + 1 :]), xs.dtype)  # time first
    state = as_arrays("state", inputs.state)
    reset_state = as_arrays("reset_state", inputs.reset_state) if resets else None
    like = partial(initial_like, params, xs, step=step, force=dtype is not None)
    begin, _ = like("state", state)
    if resets:
        checks.check_alike("reset_state", like("reset_state", reset_state)[0], begin)
    valid = "mask" if inputs.mask is not None else None if inputs.lengths is None else "lengths"
    request = backends.Request(
        step=step, wrappers=wrappers, emit=emit, return_sequences=options["return_sequences"], valid=valid,
        hold=padding == "hold", resets=resets, reverse=options["reverse"], checkpoint=checkpoint, unroll=unroll,
        axis=axis, params=params, xs=xs, state=begin, dtype=dtype,
    )  # fmt: skip
    inputs = inputs._replace(state=state, reset_state=reset_state)
    return request, backends.choose(options["backend"], request), inputs, drawn


@partial(jax.jit, static_argnames=("request", "backend"))
def run_layer(inputs: Inputs, extras: tuple, *, request: backends.Request, backend: str) -> tuple[PyTree, PyTree]:
    """Run a layer on arrays that are checked.

    It composes the step with what stands around it, from the inside out. All that is computed stands in here, so that a
    call that is not compiled itself compiles one program for each new shape, and `jax_debug_nans` sees nothing of what
    padding holds.

    Args:
        inputs: the arrays.
        extras: for each wrapper the pair (fixed, scanned) that it brings with it, or None.
        request: how the layer is run. Compiled code is kept by it.
        backend: which backend runs it.
    """
    params, xs, state, reset_state, lengths, mask, flags, key = inputs
    axis, dtype = request.axis, request.dtype
    valid = within(xs.shape[:-1], axis, lengths, mask)
    if valid is not None:
        xs = jnp.where(valid[..., None], xs, 0)  # before the product: NaN · 0 is NaN in every gradient
    if dtype is not None:
        params, xs = cast(params, dtype), cast_inputs(xs, dtype)
    valid, flags = (None if a is None else jnp.moveaxis(a, axis, 0) for a in (valid, flags))
    xs = jnp.moveaxis(xs, axis, 0)  # inside, time is the first axis
    begin = partial(initial_state, params, xs, step=request.step, force=dtype is not None)
    state = begin("state", state)
    step, wrappers, emit = request.step, request.wrappers, request.emit
    x = jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)
    keys = iter([None] * len(wrappers) if key is None else jax.random.split(key, max(1, extras.count(None))))
    wrapped: list[tuple[StepWrapper, tuple]] = [
        (w, pair or w.draw(next(keys), xs.shape[0], state, x)) for w, pair in zip(wrappers, extras, strict=True)
    ]
    if flags is not None:
        wrapped.append((Reset(), (begin("reset_state", reset_state), flags)))
    state = tie(state, (params, xs, [pair for _, pair in wrapped]))
    output = {"h": 0, "c": 1}.get(emit) if is_ours(step) and isinstance(emit, str) else None  # place in the state
    remember = output is None and (not request.return_sequences or (request.hold and valid is not None))
    if remember:
        state, output = (state, _first_output(compose(step, wrapped), params, state, x, emit)), 1
    wrapped += [(Look(emit), NOTHING), *[(Remember(), NOTHING)] * remember]
    if valid is not None:
        wrapped.append((Hold(output if request.hold else None), (None, valid)))

    wrapped_step, fixed, scanned = compose(step, wrapped)
    state, ys = backends.BACKENDS[backend].run(wrapped_step, params, state, xs, fixed, scanned, request=request)
    ys = jax.tree.map(lambda a: jnp.moveaxis(a, 0, request.axis), ys) if request.return_sequences else state[output]
    return (state[0] if remember else state), ys


NOTHING = (None, None)  # what a wrapper is handed that needs nothing beside x


def compose(step: Callable, wrapped: list[tuple[StepWrapper, tuple]]) -> tuple[Callable, tuple, tuple]:
    """Gives the step with everything around it, and what the wrappers need, outermost first."""
    wrapped_step: Callable = Plain.of(step)
    for wrapper, _ in wrapped:
        wrapped_step = Wrapped(wrapper, wrapped_step)
    extras = [pair for _, pair in reversed(wrapped)]
    return wrapped_step, tuple(fixed for fixed, _ in extras), tuple(scanned for _, scanned in extras)


def _first_output(composed: tuple[Callable, tuple, tuple], params: PyTree, state: PyTree, x: Any, emit: Emit) -> PyTree:
    """Gives what stands for the output before the first valid step: the state's h and c, else zeros."""
    wrapped_step, fixed, scanned = composed

    def once(params: PyTree, state: PyTree, x: Array, scanned: tuple) -> PyTree:
        now = jax.tree.map(lambda a: a[0], scanned)
        return wrapped_step(params, state, x, tuple(zip(fixed, now, strict=True)))[1]

    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), scanned)
    zero = tied_zero(state)
    out = jax.eval_shape(once, params, state, x, one)
    out = jax.tree.map(lambda a: jnp.broadcast_to(zero.astype(a.dtype), a.shape, out_sharding=a.sharding), out)
    if isinstance(out, Step):
        return emitted(emit, out._replace(h=state[0], c=state[1]))
    return emit(out) if callable(emit) else out


@dataclass(frozen=True)
class Plain:
    """A step, called with those of the keywords aux, product, tap and emit that it names."""

    step: Callable[..., tuple[PyTree, PyTree]]
    names: tuple[str, ...]

    @classmethod
    def of(cls, step: Callable[..., tuple[PyTree, PyTree]]) -> Plain:
        return cls(step, backends.hooks(step))

    def __call__(self, params: PyTree, state: PyTree, x: Array, aux: tuple = (), **hooks: Any) -> tuple[PyTree, PyTree]:
        checks.check_tapped("tap" in hooks, self.names, self.step)
        offered = {"aux": aux, "product": product, "emit": "step"} | hooks
        pair = self.step(params, state, x, **{name: offered[name] for name in self.names if name in offered})
        checks.check_stepped(pair, self.step)
        return pair


def resolve(step: Callable, cell: Cell | str | None) -> Callable:
    """Gives the step to scan; ours with its cell as a `CellStep`, which is the same from call to call."""
    keywords = getattr(step, "keywords", {})
    ours = getattr(step, "func", step) is cell_step and not getattr(step, "args", ()) and keywords.keys() <= {"cell"}
    if cell is not None and (not ours or keywords):
        raise ValueError("cell is given, but step is a step of your own, which says itself what it computes. Pass one.")
    return CellStep(find_cell(keywords.get("cell", VANILLA) if cell is None else cell)) if ours else step


def is_ours(step: Callable) -> bool:
    """Tells whether a resolved step is ours, with a state (h, c) and perhaps gates behind it."""
    return isinstance(step, CellStep)


def tied_zero(tree: PyTree) -> Array:
    """Gives a zero made from the arrays of a tree, so that in `shard_map` it varies over the same mesh axes."""
    leaves = jax.tree.leaves(tree)
    leaves = [jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a for a in leaves]
    zeros = (jnp.atleast_1d(jax.lax.stop_gradient(a))[:0].real.astype(jnp.float32).sum() for a in leaves)
    return sum(zeros, jnp.float32(0))


@jax.jit
def zero_of_each(xs: Array) -> Array:
    """Gives a zero for each sequence of xs `[T, ..., I]`: `[..., 1]`, sharded as xs is."""
    return jax.lax.stop_gradient(xs)[:0].astype(jnp.float32).sum((0, -1))[..., None]


def tie(state: PyTree, tree: PyTree) -> PyTree:
    """Gives the state itself; in `shard_map` it varies over the mesh axes of what the scan makes of it, too."""
    zero = tied_zero(tree)
    return jax.tree.map(lambda a: a - zero.astype(a.dtype) if jnp.issubdtype(a.dtype, jnp.number) else a, state)


def initial_like(
    params: PyTree, xs: Any, name: str, state: PyTree | None, *, step: Callable, force: bool
) -> tuple[PyTree, bool]:
    """Return the shapes and dtypes of what `initial_state` gives, and whether it is an (h, c), or refuse the state."""
    if not isinstance(params, LSTMParams):
        if state is None:
            raise ValueError(
                f"{name} is None, but params is {kind(params)} and no LSTMParams, so that the sizes of the "
                "state are not known. Pass the initial state of your step, with the batch axes of xs."
            )
        return as_shapes(state), False
    batch, dtype = xs.shape[1:-1], params.w_x.dtype
    feeds = step.cell.feeds if isinstance(step, CellStep) else ()
    c = jax.ShapeDtypeStruct((*batch, params.hidden_size), checks.cell_dtype(dtype))
    like = jax.ShapeDtypeStruct((*batch, params.output_size), dtype), *[c] * (1 + len(feeds))
    if state is None:
        return like, True
    ours = is_ours(step)
    if not ours and not checks.is_state(state, like, batch):
        return as_shapes(state), False  # wider than (h, c): the step's own affair
    checks.check_state(name, state, like, batch, force or not ours, feeds)
    dtypes = [z.dtype if ours or force else s.dtype for s, z in zip(state, like, strict=True)]
    return tuple(jax.ShapeDtypeStruct(z.shape, t) for z, t in zip(like, dtypes, strict=True)), True


def initial_state(params: PyTree, xs: Array, name: str, state: PyTree | None, *, step: Callable, force: bool) -> PyTree:
    """Gives the state to start from, on the batch axes of xs `[T, ..., I]`; `name` is its word in messages.

    Zeros are made from xs, and a given state is put beside them, so that the state is sharded as xs
    is where the mesh axes are explicit. With `force` a given state is cast to the dtypes that the
    computation asks for.
    """
    like, plain = initial_like(params, xs, name, state, step=step, force=force)
    if not plain:
        return state
    zeros = tuple(jnp.broadcast_to(zero_of_each(xs).astype(z.dtype), z.shape) for z in like)
    if state is None:
        return zeros
    return tuple(jnp.broadcast_to(s, z.shape).astype(z.dtype) - z for s, z in zip(state, zeros, strict=True))
