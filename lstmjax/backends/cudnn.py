"""cuDNN on NVIDIA GPUs: the forward pass is one call, the gradient another.

What lies before and behind a call is linear, and JAX transposes it. A derivative that is not one gradient of a batch
(jvp, hessian, a gradient for each example, networks under vmap) follows the rules of the plain scan.

All of this was tested with plain JAX in the place of cuDNN's two calls, and not yet run on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from lstmjax.backends import cudnn_call, linear, scan
from lstmjax.backends.cudnn_call import Call, Made
from lstmjax.backends.linear import SHARED, Axes, Way
from lstmjax.backends.request import Request
from lstmjax.cell import CellStep
from lstmjax.cells import VANILLA
from lstmjax.types import Array, LSTMParams, PyTree

LARGEST = 2**26
"""The most T·B·H: cuDNN saves at least 6 numbers for each, and JAX counts their bytes in 31 bits."""


def refuses(request: Request) -> str | None:
    """Gives the reason why cuDNN cannot serve a request, with the remedy, or None."""
    return next((reason for wrong, reason in _rules(request) if wrong), None)


def _rules(r: Request) -> Iterator[tuple[Any, str]]:
    """Gives what stands against a request, each with its reason; a rule may lean on those above it."""
    scan = "backend='scan'"
    yield r.platform not in ("gpu", "cuda"), f"it runs on NVIDIA GPUs, but the platform is {r.platform}. Pass {scan}."
    lacking = cudnn_call.missing()
    yield lacking, f"{lacking}. Install jax[cuda12] or jax[cuda13], or pass {scan}."
    lacking = linear.available()
    yield lacking, f"{lacking} Pass {scan}, and tell us."
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
    """Gives the reason why "auto" does not take it yet."""
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
    """Gives what `scan.run` gives, rounded as cuDNN rounds it."""
    plain: Callable = partial(scan.run, step, request=request)
    sequence = jax.custom_jvp(partial(_sequence, request))
    sequence.defjvp(partial(_derivative, sequence, plain, request), symbolic_zeros=True)
    return sequence(params, state, xs, fixed, scanned)[0]


def _sequence(
    request: Request, params: LSTMParams, state: tuple, xs: Array, fixed: tuple, scanned: tuple
) -> tuple[tuple, Made]:
    """Gives the final state and the outputs, and what the call made, on the batch axes of the layer."""
    valid = _valid(request, scanned)
    made = cudnn_call.forward(*_before(request, valid, params, state, xs), _lengths(valid, xs))
    made = _unfolded(made, xs.shape[1:-1])
    return _behind(request, valid, made, state), made


def _derivative(
    sequence: Callable, plain: Callable, request: Request, primals: tuple, tangents: tuple
) -> tuple[tuple, tuple]:
    """Gives value and tangent; the tangent is that of the plain scan, and is transposed by cuDNN's backward pass."""
    out, made = sequence(*primals)
    values: list[Any] = jax.tree.leaves(primals)
    tree: Any = jax.tree.structure(primals)
    out_tree: Any = jax.tree.structure(out)
    directions = tree.flatten_up_to(tangents)
    varying = [n for n, direction in enumerate(directions) if not isinstance(direction, SymbolicZero)]

    def arrays(residuals: Sequence[Array]) -> Any:
        return tree.unflatten(residuals[: len(values)])

    def moved(residuals: Sequence[Array], vector: Sequence[Array]) -> list[Array]:
        now = dict(zip(varying, vector, strict=True))
        return jax.tree.leaves(plain(*arrays([now.get(n, value) for n, value in enumerate(residuals)])))

    def tangent(residuals: Sequence[Array], vector: Sequence[Array]) -> list[Array]:
        return jax.jvp(partial(moved, residuals), ([residuals[n] for n in varying],), (list(vector),))[1]

    def pulled(residuals: Sequence[Array], cotangents: Sequence[Array]) -> list[Array]:
        return jax.vjp(partial(moved, residuals), [residuals[n] for n in varying])[1](list(cotangents))[0]

    def pulled_by_cudnn(residuals: Sequence[Array], cotangents: Sequence[Array]) -> list[Array]:
        slopes = _pulled(request, arrays(residuals), Made(*residuals[len(values) :]), out_tree.unflatten(cotangents))
        of_each = jax.tree.leaves(slopes)  # of params, state and xs, the first of the primals
        return [of_each[n] for n in varying]

    params, _, _, fixed, scanned = primals
    batch = jax.tree.leaves((_all(SHARED, params), (0, 0), 1, _all(SHARED, fixed), _all(1, scanned)))
    outputs = (0, 0, 1) if request.return_sequences else (0, 0)
    axes = Axes((*batch, 0, 0, 0, SHARED), tuple(batch[n] for n in varying), outputs)
    found = linear.linear(
        Way(tangent, tangent), Way(pulled_by_cudnn, pulled), [*values, *made], [directions[n] for n in varying], axes
    )
    return (out, made), (out_tree.unflatten(found), jax.tree.map(jnp.zeros_like, made))


def _all(axis: int, tree: PyTree) -> PyTree:
    return jax.tree.map(lambda _: axis, tree)


def _pulled(request: Request, arrays: tuple, made: Made, cotangents: tuple) -> tuple:
    """Gives the cotangents of params, state and xs: what lies behind the call, the call, and what lies before it."""
    params, state, xs, _, scanned = arrays
    valid = _valid(request, scanned)
    d_made, d_state = jax.vjp(partial(_behind, request, valid), made, state)[1](cotangents)
    call, pull = jax.vjp(partial(_before, request, valid), params, state, xs)
    d_call = cudnn_call.backward(call, _lengths(valid, xs), _folded(made), _folded(d_made))
    d_params, d_start, d_xs = pull(d_call)
    return d_params, jax.tree.map(jnp.add, d_state, d_start), d_xs


def _valid(request: Request, scanned: tuple) -> Array | None:
    """Gives which steps are valid, `[T, ...]`: what is handed to `Hold`, the outermost wrapper."""
    return None if request.valid is None else scanned[0]


def _lengths(valid: Array | None, xs: Array) -> Array:
    """Gives the steps of each sequence, `[B]`; 1 for an empty one, which cuDNN does not take."""
    if valid is None:
        return jnp.full(math.prod(xs.shape[1:-1]), xs.shape[0], jnp.int32)
    return jnp.maximum(valid.sum(0, dtype=jnp.int32), 1).reshape(-1)


def _before(request: Request, valid: Array | None, params: LSTMParams, state: tuple, xs: Array) -> Call:
    """Gives what a call takes. It is linear in params, state and xs."""
    x = jnp.moveaxis(_turned(request, valid, xs), 0, -2).reshape(-1, xs.shape[0], xs.shape[-1])
    h, c = (s.reshape(1, -1, s.shape[-1]) for s in state)
    return Call(x, h, c, jnp.concatenate(cudnn_call.pieces([params])))


def _behind(request: Request, valid: Array | None, made: Made, state: tuple) -> tuple:
    """Gives the final state and the outputs `[T, ..., H]`. It is linear in what the call made and in the state."""
    end, ys = (made.h, made.c), _turned(request, valid, jnp.moveaxis(made.y, -2, 0))
    if valid is not None:
        some = valid.any(0)[..., None]
        end = tuple(jnp.where(some, new, old) for new, old in zip(end, state, strict=True))
        held = (state if request.reverse else end)[0] if request.padding == "hold" else jnp.zeros_like(end[0])
        ys = jnp.where(valid[..., None], ys, held[None])
    return end, (ys if request.return_sequences else None)


def _turned(request: Request, valid: Array | None, xs: Array) -> Array:
    """Gives xs `[T, ..., N]` in the order of processing, and back: its valid steps last to first, if it is reversed."""
    if not request.reverse:
        return xs
    if valid is None:
        return jnp.flip(xs, 0)
    steps = jax.lax.broadcasted_iota(jnp.int32, valid.shape, 0)
    order = jnp.where(valid, valid.sum(0, keepdims=True, dtype=jnp.int32) - 1 - steps, steps)
    return jnp.take_along_axis(xs, order[..., None], 0, mode="promise_in_bounds")


def _unfolded(made: Made, batch: tuple[int, ...]) -> Made:
    """Gives what a call made on the batch axes of the layer: y `[..., T, H]`, h and c `[..., H]`."""
    y, h, c, reserve = made
    return Made(
        y.reshape(*batch, *y.shape[1:]), h.reshape(*batch, h.shape[-1]), c.reshape(*batch, c.shape[-1]), reserve
    )


def _folded(made: Made) -> Made:
    """Gives what a call made as it made it."""
    y, h, c, reserve = made
    return Made(y.reshape(-1, *y.shape[-2:]), h.reshape(1, -1, h.shape[-1]), c.reshape(1, -1, c.shape[-1]), reserve)
