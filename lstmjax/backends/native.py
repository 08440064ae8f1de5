"""The native kernel on CPUs: the forward pass is one call, the gradient another.

What comes before and after a call is linear, and JAX transposes it. A derivative that is not one gradient of a batch
(jvp, hessian, a gradient of a gradient) is that of the plain scan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.backends import (
    by_scan,
    fused,
    inplace,
    linear,
    native_call,
    native_library,
    native_plain,
    native_sharding,
    scan,
)
from lstmjax.backends.by_scan import same_axis
from lstmjax.backends.linear import SHARED
from lstmjax.backends.native_arrays import Back, Call, Options, absent
from lstmjax.backends.request import Request, step_fields
from lstmjax.backends.segments import in_segments
from lstmjax.cell import CellStep
from lstmjax.cells import VANILLA
from lstmjax.types import GATES, Array, LSTMParams, PyTree, Step
from lstmjax.wrappers import Hold, Reset

FEW = 4
"""Up to how many sequences x·W_x is one product before the call: a step alone reads all weights for so few rows."""
WIDE = 16
"""From how many inputs on it is."""
BRIEF = 32
"""Below how many steps, counted over all sequences, a few of them are left to other backends.

There a gradient took up to 2 times as long as that of fused (1 x 5 steps, 2 x 8; H from 128 to 1,024, two AVX-512
cores), with 4 x 8 steps and 512 units or fewer 0.7 of the time."""

MANY = 2**25
"""From how many emitted numbers on a `Step` with its pre-activations is left to other backends.

Each field is then copied, into fresh memory, out of what the kernel writes: with 64 x 128 steps and 512 units that
takes 1.1 times as long as the scan; the gates, c and h alone are quicker there, too. From `benchmarks/emit.py`, its
point C."""


def refuses(request: Request, instead: str = "backend='fused'") -> str | None:
    """Return the reason why the kernel cannot serve a request, with the remedy, or None; `instead` is what can."""
    return next((reason for wrong, reason in _rules(request, instead) if wrong), None)


def _rules(r: Request, fused: str) -> Iterator[tuple[Any, str]]:
    """Yield each condition that rules out a request, with its reason; a rule may rely on those above it."""
    yield r.platform != "cpu", f"it runs on CPUs, but the platform is {r.platform}. Pass {fused}."
    dtypes = sorted({str(a.dtype) for a in jax.tree.leaves((r.params, r.xs, r.state))} - {"float32"})
    yield dtypes, f"it computes in float32, but there is {', '.join(dtypes)}. Pass dtype=jnp.float32, or {fused}."
    yield not isinstance(r.step, CellStep), f"it computes its own LSTM, but step is a step of yours. Pass {fused}."
    yield r.step != CellStep(VANILLA), f"it knows the vanilla cell only, but the cell is {_name(r)!r}. Pass {fused}."
    yield r.params.w_p is not None, f"it runs without a projection, but the parameters have w_p. Pass {fused}."
    wrappers = ", ".join(type(wrapper).__name__ for wrapper in r.wrappers)
    yield wrappers, f"nothing can stand around its steps, but wrappers has {wrappers}. Pass {fused}."
    emit = getattr(r.emit, "__name__", r.emit)
    fields = r.emit not in ("h", "c") and step_fields(r.emit)
    reason = f"it returns h, c or a Step, but emit is {emit!r}. Pass emit='h', 'c' or 'step', or {fused}."
    yield fields is None, reason
    reason = f"a Step is returned at all steps, but return_sequences is False. Pass return_sequences=True, or {fused}."
    yield fields and not r.return_sequences, reason
    holds = fields and r.valid and r.padding == "hold"
    yield holds, f"a Step is zero at steps that are not valid, but padding is 'hold'. Pass padding='zero', or {fused}."
    yield fields and r.checkpoint, f"a Step is not cut into segments, but checkpoint is {r.checkpoint!r}. Pass {fused}."
    sizes = (*r.xs.shape, r.params.hidden_size)
    symbolic = not all(isinstance(n, int) for n in sizes)
    yield symbolic, f"it is called with sizes that are numbers, but xs has shape {r.xs.shape}. Pass {fused}."
    reason = f"its calls cannot be split over explicit mesh axes. Run it inside jax.shard_map, or pass {fused}."
    yield r.explicit, reason
    unavailable = linear.available()
    yield unavailable, f"{unavailable} Pass {fused}, and tell us."
    missing = native_library.load().reason
    yield missing, f"{missing} Or pass {fused}."


DEBUGGING = "numbers inside its calls cannot be looked at, which jax_debug_nans and jax.disable_jit are for."


def debugging() -> bool:
    """Return whether JAX is told to look at the numbers inside a program."""
    return any(getattr(jax.config, name) for name in ("jax_debug_nans", "jax_debug_infs", "jax_disable_jit"))


def declines(request: Request) -> str | None:
    """Return the reason why "auto" leaves a layer to another backend although the kernel could run it, or None."""
    if debugging():
        return DEBUGGING
    steps, batch = request.xs.shape[0], math.prod(request.xs.shape[1:-1])
    if batch <= FEW and batch * steps < BRIEF:
        return f"{batch} x {steps} steps do not pay for packing the weights, which every call does."
    fields = () if request.emit in ("h", "c") else step_fields(request.emit) or ()
    numbers = len(fields) * steps * batch * request.params.hidden_size
    if _with_sums(fields) and numbers > MANY:
        return f"a Step of {numbers:,} numbers with its pre-activations is copied out of what the kernel writes."
    return None


def _with_sums(fields: Sequence[str]) -> bool:
    """Return whether there are pre-activations among the fields of a `Step`."""
    return any(name.startswith("z_") for name in fields)


def _name(r: Request) -> str:
    return r.step.cell.name  # type: ignore[attr-defined]


def forms(request: Request) -> str:
    """Describe which instructions run."""
    del request
    return f"instructions of {native_library.load().instruction_set}"


class Flags(NamedTuple):
    """What the wrappers of a layer bring: `[T, ...]` or None; and the state that a reset returns to."""

    valid: Array | None
    resets: Array | None
    reset_state: tuple[Array, Array] | None


def _flags(step: Any, fixed: tuple, scanned: tuple) -> Flags:
    """Return the extras of `Hold` and `Reset`, wherever they stand around the step, outermost first."""
    valid = resets = reset_state = None
    for extras in zip(fixed, scanned, strict=True):
        if isinstance(step.wrapper, Hold):
            valid = extras[1]
        elif isinstance(step.wrapper, Reset):
            reset_state, resets = extras
        step = step.step
    return Flags(valid, resets, reset_state)


def run(
    step: Callable[..., tuple[PyTree, PyTree]],
    params: LSTMParams,
    state: tuple[Array, Array],
    xs: Array,
    fixed: tuple,
    scanned: tuple,
    *,
    request: Request,
) -> tuple[tuple[Array, Array], Array | None]:
    """Return what `scan.run` returns, up to rounding."""
    if 0 in (*xs.shape[:-1], params.hidden_size):  # nothing to compute
        return scan.run(step, params, state, xs, fixed, scanned, request=request)
    if request.emit not in ("h", "c"):
        emitting = jax.custom_jvp(partial(_steps, step, request))
        plain = partial(fused.run, step, request=request)
        emitting.defjvp(partial(inplace.derivative, plain), symbolic_zeros=True)
        return emitting(params, state, xs, fixed, scanned)
    saving = jax.custom_jvp(partial(_sequence, step, request, True))
    saving.defjvp(partial(_derivative, saving, True, step, request), symbolic_zeros=True)
    sequence = jax.custom_jvp(partial(_sequence, step, request, False))
    sequence.defjvp(partial(_derivative, saving, False, step, request), symbolic_zeros=True)

    def over(state: PyTree, inputs: tuple[Array, tuple]) -> tuple[PyTree, PyTree]:
        return sequence(params, state, inputs[0], fixed, inputs[1])[0]

    if request.checkpoint is None:
        return over(state, (xs, scanned))
    return in_segments(over, state, xs, scanned, request)


class Saved(NamedTuple):
    """What the forward pass saves, with the batch axes of the layer: time is where `_batch_major` says."""

    h: Array  # [T, ..., H]
    c: Array  # [T, ..., H]
    gates: Array  # [T, ..., 4, H]
    ticket: Array  # [1, 3]  for what the library keeps of many networks, whose c and gates are not in these arrays


def _batch_major(request: Request) -> bool:
    """Return whether series have the batch first: as the caller passes them; without a batch, as vmap will."""
    return request.axis > 0 or len(request.xs.shape) == 2


def _sequence(
    step: Callable, request: Request, saves: bool, params: LSTMParams, state: tuple, xs: Array, fixed: tuple,
    scanned: tuple,
) -> tuple[tuple, Saved | None]:  # fmt: skip
    """Return the final state and the outputs, and what the backward pass needs."""
    flags, batch = _flags(step, fixed, scanned), xs.shape[1:-1]
    returns_c = request.return_sequences and request.emit == "c"
    saves_all = saves or returns_c
    ring = not saves_all and not request.return_sequences
    options = Options(_batch_major(request), request.reverse, ring, saves_all, for_backward=saves and not returns_c)
    call = _with_flags(_before(request, params, state, xs, flags.reset_state), flags)
    results = native_call.forward(options, call)
    h_end, c_end = (a.reshape(*batch, a.shape[-1]) for a in (results.h_end, results.c_end))
    h, c, gates = (
        _unfolded(options, a, batch) if native_plain.exists(a) and not options.ring else None for a in results[:3]
    )
    saved, ys = Saved(h, c, gates, results.ticket), None  # type: ignore[arg-type]
    if request.return_sequences:
        ys = _behind(request, flags.valid, getattr(saved, request.emit), state)
    return ((h_end, c_end), ys), (saved if saves else None)


def _steps(
    step: Callable, request: Request, params: LSTMParams, state: tuple, xs: Array, fixed: tuple, scanned: tuple
) -> tuple[tuple, PyTree]:
    """Return the final state and the fields of the `Step` that are asked for; what was not computed is None."""
    flags, batch, fields = _flags(step, fixed, scanned), xs.shape[1:-1], step_fields(request.emit) or ()
    saves = not {*GATES, "c"}.isdisjoint(fields)
    options = Options(_batch_major(request), request.reverse, saves=saves, sums=_with_sums(fields))
    results = native_call.forward(options, _with_flags(_before(request, params, state, xs, flags.reset_state), flags))
    h_end, c_end = (a.reshape(*batch, a.shape[-1]) for a in (results.h_end, results.c_end))

    def series(a: Array) -> Array:
        return jnp.moveaxis(a, -2, 0) if options.batch_major else a

    h = series(_unfolded(options, results.h, batch))
    values = dict.fromkeys(Step._fields) | {"h": h, "m": h}
    for names, a in ((GATES, results.gates), ([f"z_{gate}" for gate in GATES], results.sums)):
        if native_plain.exists(a):
            a = _unfolded(options, a, batch)
            values |= {name: series(a[..., k, :]) for k, name in enumerate(names)}
    if options.saves:
        values["c"] = series(_unfolded(options, results.c, batch))
    all_steps = Step(**values)  # type: ignore[arg-type]
    return (h_end, c_end), all_steps if request.emit == "step" else request.emit(all_steps)


def _unfolded(options: Options, a: Array, batch: tuple[int, ...]) -> Array:
    """Return a series of one network on the batch axes of a layer."""
    if options.batch_major:
        return a.reshape(*batch, *a.shape[2:])
    return a.reshape(a.shape[1], *batch, *a.shape[3:])


def _folded(batch_major: bool, a: Array, features: int) -> Array:
    """Return a series on the batch axes of a layer as one of one network: `[1, T, B, ...]` or `[1, B, T, ...]`."""
    inner = a.shape[a.ndim - features :]
    if batch_major:
        return a.reshape(1, -1, a.shape[a.ndim - features - 1], *inner)
    return a.reshape(1, a.shape[0], -1, *inner)


def _before(request: Request, params: LSTMParams, state: tuple, xs: Array, reset_state: tuple | None) -> Call:
    """Return the arguments of a call, without flags; all but the product with xs is linear."""
    batch_major = _batch_major(request)
    if batch_major:
        xs = jnp.moveaxis(xs, 0, -2)
    x = _folded(batch_major, xs, 1)
    biases = [b for b in (params.b, params.b_h) if b is not None]
    b = reduce(jnp.add, biases) if biases else jnp.zeros(params.w_x.shape[1:], params.w_x.dtype)
    w_x, z = params.w_x, absent()
    if math.prod(x.shape[1:3]) // request.xs.shape[0] <= FEW and x.shape[-1] >= WIDE:
        z = jax.lax.dot_general(x.reshape(-1, x.shape[-1]), w_x.reshape(x.shape[-1], -1), (((1,), (0,)), ((), ())))
        z = z.reshape(*x.shape[:-1], *w_x.shape[1:])
        x, w_x = x[..., :0], w_x[:0]
    reset = (absent(), absent()) if reset_state is None else reset_state
    h, c, h_reset, c_reset = (
        s if reset_state is None and n > 1 else s.reshape(1, -1, s.shape[-1]) for n, s in enumerate((*state, *reset))
    )
    return Call(x, z, w_x[None], params.w_h[None], b[None], h, c, absent(bool), absent(bool), h_reset, c_reset)


def _with_flags(call: Call, flags: Flags) -> Call:
    valid, resets = (absent(bool) if a is None else a.reshape(1, a.shape[0], -1) for a in (flags.valid, flags.resets))
    return call._replace(valid=valid, resets=resets)


def _behind(request: Request, valid: Array | None, series: Array, state: tuple) -> Array:
    """Return the outputs `[T, ..., H]`, linear in the series of h or c and in the initial state."""
    ys = jnp.moveaxis(series, -2, 0) if _batch_major(request) else series
    if valid is None or request.padding == "zero":
        return ys
    # At a step that is not valid, the output is that of the last valid step before it, or the initial state.
    steps = jnp.arange(ys.shape[0]).reshape(-1, *(1,) * (valid.ndim - 1))
    steps = jnp.where(valid, jnp.broadcast_to(steps, valid.shape), ys.shape[0] if request.reverse else -1)
    last = jax.lax.cummin(steps, 0, reverse=True) if request.reverse else jax.lax.cummax(steps, 0)
    none = (last < 0) | (last >= ys.shape[0])
    held = jnp.take_along_axis(ys, jnp.clip(last, 0, ys.shape[0] - 1)[..., None], 0, mode="promise_in_bounds")
    start = state[("h", "c").index(request.emit)]
    return jnp.where(none[..., None], start[None], held)


def _derivative(
    saving: Callable, returns_saved: bool, step: Callable, request: Request, primals: tuple, tangents: tuple
) -> tuple[tuple, tuple]:
    """Return value and tangent; the tangent is that of the plain scan, its transpose the kernel's backward pass."""
    out, saved = saving(*primals)
    tree: Any = jax.tree.structure(primals)
    params, _, _, fixed, scanned = primals
    before_fixed = len(jax.tree.leaves(primals[:3]))
    of_fixed = range(before_fixed, before_fixed + len(jax.tree.leaves(fixed)))

    def gradients(varying: Sequence[int], inputs: tuple, saved: Saved, cotangents: PyTree) -> list[Array]:
        wants_reset = any(n in of_fixed for n in varying)
        wants_x = before_fixed - 1 in varying
        leaves = tree.flatten_up_to(_gradients(step, request, wants_x, wants_reset, inputs, saved, cotangents))
        return [leaves[n] for n in varying]

    batch = jax.tree.leaves((same_axis(SHARED, params), (0, 0), 1, same_axis(0, fixed), same_axis(1, scanned)))
    of_saved = (*[0 if _batch_major(request) else 1] * 3, SHARED)
    inside = (native_sharding.jaxpr(),) if native_sharding.is_split() else ()
    tangent = by_scan.tangent(
        step, request, primals, tangents, out, saved, gradients, batch, of_saved, networks=True, inside=inside
    )
    zeros = jax.tree.map(jnp.zeros_like, saved) if returns_saved else None
    return (out, saved if returns_saved else None), (tangent, zeros)


def _gradients(
    step: Callable, request: Request, wants_x: bool, wants_reset: bool, primals: tuple, saved: Saved, cotangents: tuple
) -> tuple:
    """Return the cotangents of the primals, through what follows the call, the call, and what precedes it."""
    params, state, xs, fixed, scanned = primals
    flags, batch_major = _flags(step, fixed, scanned), _batch_major(request)
    (d_h, d_c), d_ys = cotangents
    of_series, d_state = {"h": absent(), "c": absent()}, jax.tree.map(jnp.zeros_like, state)
    if d_ys is not None:
        series = getattr(saved, request.emit)
        d_series, d_state = jax.vjp(partial(_behind, request, flags.valid), series, state)[1](d_ys)
        of_series[request.emit] = _folded(batch_major, d_series, 1)
    call, pullback = jax.vjp(partial(_before, request), params, state, xs, flags.reset_state)
    full = _with_flags(call, flags)
    of_before = call.x, call.w_x, call.w_h, call.b, call.h0, call.c0
    of_flags = full.valid, full.resets, call.h_reset, call.c_reset
    h, c, gates = (_folded(batch_major, a, n) for a, n in zip(saved[:3], (1, 1, 2), strict=True))
    of_end = d_h.reshape(call.h0.shape), d_c.reshape(call.c0.shape)
    back = Back(*of_before, *of_flags, h, c, gates, saved.ticket, of_series["h"], of_series["c"], *of_end)
    wants_x = wants_x and call.x.shape[-1] > 0
    options = Options(batch_major, request.reverse, slopes_of_x=wants_x, slopes_of_reset=wants_reset)
    slopes = native_call.backward(options, back)
    d_x = slopes.dx if wants_x else jnp.zeros_like(call.x)
    no_flags = jnp.zeros((0,), jax.dtypes.float0)
    d_z = slopes.dz if native_plain.exists(call.z) else call.z
    of_reset = slopes.dh_reset, slopes.dc_reset
    if not wants_reset:
        of_reset = jnp.zeros_like(call.h_reset), jnp.zeros_like(call.c_reset)
    of_weights = slopes.dw_x, slopes.dw_h, slopes.db
    d_call = Call(d_x, d_z, *of_weights, slopes.dh0, slopes.dc0, no_flags, no_flags, *of_reset)
    d_params, d_start, d_xs, d_reset = pullback(d_call)
    return d_params, jax.tree.map(jnp.add, d_state, d_start), d_xs, _placed(step, fixed, d_reset), scanned


def _placed(step: Any, fixed: tuple, d_reset: Any) -> tuple:
    """Return the cotangents of what is fixed: those of the state that resets return to, where `Reset` stands."""
    placed = []
    for extras in fixed:
        placed.append(d_reset if isinstance(step.wrapper, Reset) else extras)
        step = step.step
    return tuple(placed)
