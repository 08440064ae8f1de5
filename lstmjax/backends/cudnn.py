"""cuDNN on NVIDIA GPUs: the forward pass is one call, the gradient another.

What comes before and after a call is linear, and JAX transposes it. A derivative that is not one gradient of a batch
(jvp, hessian, a gradient for each example, networks under vmap) is that of the plain scan.

All of this was tested with plain JAX in place of cuDNN's two calls, and has not yet run on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.backends import by_scan, cudnn_call, linear
from lstmjax.backends.by_scan import same_axis
from lstmjax.backends.cudnn_call import Call, Results
from lstmjax.backends.linear import SHARED
from lstmjax.backends.request import Request
from lstmjax.cell import CellStep
from lstmjax.cells import VANILLA
from lstmjax.types import Array, LSTMParams, PyTree
from lstmjax.wrappers import Hold

LARGEST = 2**26
"""The most T·B·H: cuDNN saves at least 6 numbers for each, and JAX counts their bytes in 31 bits."""


def refuses(request: Request) -> str | None:
    """Return the reason why cuDNN cannot serve a request, with the remedy, or None."""
    return next((reason for wrong, reason in _rules(request) if wrong), None)


def _rules(r: Request) -> Iterator[tuple[Any, str]]:
    """Yield each condition that rules out a request, with its reason; a rule may rely on those above it."""
    scan = "backend='scan'"
    yield r.platform not in ("gpu", "cuda"), f"it runs on NVIDIA GPUs, but the platform is {r.platform}. Pass {scan}."
    missing = cudnn_call.missing()
    yield missing, f"{missing}. Install jax[cuda12] or jax[cuda13], or pass {scan}."
    unavailable = linear.available()
    yield unavailable, f"{unavailable} Pass {scan}, and tell us."
    mesh = jax.sharding.get_abstract_mesh()
    split = ", ".join(str(name) for name in mesh.axis_names if name not in mesh.manual_axes and mesh.shape[name] > 1)
    reason = f"a call of cuDNN cannot be split over the mesh axes {split}. Run it inside jax.shard_map, or pass {scan}."
    yield split, reason
    yield not isinstance(r.step, CellStep), f"it computes its own LSTM, but step is a step of yours. Pass {scan}."
    yield r.step != CellStep(VANILLA), f"it knows the vanilla cell only, but the cell is {_name(r)!r}. Pass {scan}."
    yield r.params.w_p is not None, f"it runs without a projection here, but the parameters have w_p. Pass {scan}."
    wrappers = ", ".join(type(wrapper).__name__ for wrapper in r.wrappers)
    yield wrappers, f"nothing can stand around its steps, but wrappers has {wrappers}. Pass {scan}."
    emit = getattr(r.emit, "__name__", r.emit)
    yield r.emit != "h", f"it gives h only, but emit is {emit!r}. Pass emit='h', or {scan}."
    yield (
        r.valid == "mask",
        f"a mask may have holes, and it takes lengths only. Pass lengths without a mask, or {scan}.",
    )
    yield r.resets, f"it knows no resets. Pass {scan}, or each episode as a sequence of its own."
    yield (
        r.checkpoint is not None,
        (
            f"it saves all that its backward pass needs, but checkpoint is {r.checkpoint!r}. Pass checkpoint=None, or "
            f"{scan}."
        ),
    )
    dtypes = sorted({str(a.dtype) for a in jax.tree.leaves((r.params, r.xs, r.state))} - {"float32"})
    yield dtypes, f"JAX calls it in float32 only, but there is {', '.join(dtypes)}. Pass dtype=jnp.float32, or {scan}."
    shape = r.xs.shape
    yield 0 in shape, f"it takes nothing empty, but xs has shape {shape}, time first. Pass {scan}."
    size = math.prod(shape[:-1]) * r.params.hidden_size
    yield (
        size > LARGEST,
        (
            f"T·B·H is {size}, beyond {LARGEST}, where what it saves outgrows the numbers that JAX counts it in. Pass "
            f"chunks of time or of the batch, each with the state of the one before, or {scan}."
        ),
    )


def declines(request: Request) -> str:
    """Return the reason why "auto" does not choose it yet."""
    del request
    return "it has been tested without a GPU only, so that auto leaves it alone. Pass backend='cudnn' to run it."


def _name(r: Request) -> str:
    return r.step.cell.name  # type: ignore[attr-defined]


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
    """Return what `scan.run` returns, rounded as cuDNN rounds it."""
    sequence = jax.custom_jvp(partial(_sequence, step, request))
    sequence.defjvp(partial(_derivative, sequence, step, request), symbolic_zeros=True)
    return sequence(params, state, xs, fixed, scanned)[0]


def _sequence(
    step: Callable, request: Request, params: LSTMParams, state: tuple, xs: Array, fixed: tuple, scanned: tuple
) -> tuple[tuple, Results]:
    """Return the final state and the outputs, and the results of the call on the batch axes of the layer."""
    valid = _valid(step, scanned)
    results = cudnn_call.forward(*_before(request, valid, params, state, xs), _lengths(valid, xs))
    results = _unfolded(results, xs.shape[1:-1])
    return _behind(request, valid, results, state), results


def _derivative(
    sequence: Callable, step: Callable, request: Request, primals: tuple, tangents: tuple
) -> tuple[tuple, tuple]:
    """Return value and tangent; the tangent is that of the plain scan, and its transpose is cuDNN's backward pass."""
    out, results = sequence(*primals)

    def gradients(varying: Sequence[int], inputs: tuple, results: Results, cotangents: PyTree) -> list[Array]:
        leaves = jax.tree.leaves(_gradients(step, request, inputs, results, cotangents))
        return [leaves[n] for n in varying]  # of params, state and xs, the first of the primals

    params, _, _, fixed, scanned = primals
    batch = jax.tree.leaves((same_axis(SHARED, params), (0, 0), 1, same_axis(SHARED, fixed), same_axis(1, scanned)))
    tangent = by_scan.tangent(step, request, primals, tangents, out, results, gradients, batch, (0, 0, 0, SHARED))
    return (out, results), (tangent, jax.tree.map(jnp.zeros_like, results))


def _gradients(step: Callable, request: Request, arrays: tuple, results: Results, cotangents: tuple) -> tuple:
    """Return the cotangents of params, state and xs, through what follows the call, the call, and what precedes it."""
    params, state, xs, _, scanned = arrays
    valid = _valid(step, scanned)
    d_results, d_state = jax.vjp(partial(_behind, request, valid), results, state)[1](cotangents)
    call, pullback = jax.vjp(partial(_before, request, valid), params, state, xs)
    d_call = cudnn_call.backward(call, _lengths(valid, xs), _folded(results), _folded(d_results))
    d_params, d_start, d_xs = pullback(d_call)
    return d_params, jax.tree.map(jnp.add, d_state, d_start), d_xs


def _valid(step: Any, scanned: tuple) -> Array | None:
    """Return which steps are valid, `[T, ...]`: the extras of `Hold`, wherever it stands; None for all."""
    for flags in scanned:  # as the wrappers, outermost first
        if isinstance(step.wrapper, Hold):
            return flags
        step = step.step
    return None


def _lengths(valid: Array | None, xs: Array) -> Array:
    """Return the steps of each sequence, `[B]`; 1 for an empty one, which cuDNN does not accept."""
    if valid is None:
        return jnp.full(math.prod(xs.shape[1:-1]), xs.shape[0], jnp.int32)
    return jnp.maximum(valid.sum(0, dtype=jnp.int32), 1).reshape(-1)


def _before(request: Request, valid: Array | None, params: LSTMParams, state: tuple, xs: Array) -> Call:
    """Return the arguments of a call. They are linear in params, state and xs."""
    x = jnp.moveaxis(_turned(request, valid, xs), 0, -2).reshape(-1, xs.shape[0], xs.shape[-1])
    h, c = (s.reshape(1, -1, s.shape[-1]) for s in state)
    return Call(x, h, c, jnp.concatenate(cudnn_call.pieces([params])))


def _behind(request: Request, valid: Array | None, results: Results, state: tuple) -> tuple:
    """Return the final state and the outputs `[T, ..., H]`. They are linear in the results and in the state."""
    end, ys = (results.h, results.c), _turned(request, valid, jnp.moveaxis(results.y, -2, 0))
    if valid is not None:
        not_empty = valid.any(0)[..., None]
        end = tuple(jnp.where(not_empty, new, old) for new, old in zip(end, state, strict=True))
        held = (state if request.reverse else end)[0] if request.padding == "hold" else jnp.zeros_like(end[0])
        ys = jnp.where(valid[..., None], ys, held[None])
    return end, (ys if request.return_sequences else None)


def _turned(request: Request, valid: Array | None, xs: Array) -> Array:
    """Return xs `[T, ..., N]` in the order of processing, or back: if reversed, the valid steps from last to first."""
    if not request.reverse:
        return xs
    if valid is None:
        return jnp.flip(xs, 0)
    steps = jax.lax.broadcasted_iota(jnp.int32, valid.shape, 0)
    order = jnp.where(valid, valid.sum(0, keepdims=True, dtype=jnp.int32) - 1 - steps, steps)
    return jnp.take_along_axis(xs, order[..., None], 0, mode="promise_in_bounds")


def _unfolded(results: Results, batch: tuple[int, ...]) -> Results:
    """Return the results of a call on the batch axes of the layer: y `[..., T, H]`, h and c `[..., H]`."""
    y, h, c, reserve = results
    return Results(
        y.reshape(*batch, *y.shape[1:]), h.reshape(*batch, h.shape[-1]), c.reshape(*batch, c.shape[-1]), reserve
    )


def _folded(results: Results) -> Results:
    """Return results on the batch axes of the layer as the call returned them; the inverse of `_unfolded`."""
    y, h, c, reserve = results
    return Results(y.reshape(-1, *y.shape[-2:]), h.reshape(1, -1, h.shape[-1]), c.reshape(1, -1, c.shape[-1]), reserve)
