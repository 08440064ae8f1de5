"""The scan for looking at many values: each output is written at once where it belongs in `[..., T, H]`.

A scan stacks what it emits as `[T, ..., H]`, which is then turned. With eleven arrays to look at, turning takes as long
as the steps themselves (benchmarks/trace.py). Here the outputs are carried along and written in place. What is carried
would be copied by a backward pass, so every derivative is that of the definition.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from lstmjax.backends import cpu, scan
from lstmjax.backends.request import Request
from lstmjax.backends.settled import settled
from lstmjax.types import Array, PyTree


def refuses(request: Request) -> str | None:
    """Gives the reason against segments, which it does not keep."""
    if request.checkpoint is None:
        return None
    return f"it keeps no segments, but checkpoint is {request.checkpoint!r}. Pass backend='scan', or checkpoint=None."


def run(
    step: Callable[..., tuple[PyTree, PyTree]],
    params: PyTree,
    state: PyTree,
    xs: Array,
    fixed: tuple,
    scanned: tuple,
    *,
    request: Request,
) -> tuple[PyTree, PyTree]:
    """Gives what `scan.run` gives; turned back and forth by views that the compiler drops."""
    arrays = params, state, xs, fixed, scanned
    plain: Callable = partial(scan.run, step, request=request)
    if not request.return_sequences or not xs.shape[0]:
        return plain(*arrays)
    written = jax.custom_jvp(partial(write, step, request=request))
    written.defjvp(partial(derivative, plain), symbolic_zeros=True)
    return written(*arrays)


def write(
    step: Callable[..., tuple[PyTree, PyTree]],
    params: PyTree,
    state: PyTree,
    xs: Array,
    fixed: tuple,
    scanned: tuple,
    *,
    request: Request,
) -> tuple[PyTree, PyTree]:
    """Gives the final state and all outputs, time on the first axis."""
    axis = xs.ndim - 2  # of time, behind the batch axes
    multiply = cpu.forwards(params, request)

    def one(state: PyTree, now: tuple[Array, tuple]) -> tuple[PyTree, PyTree]:
        x, scanned = now
        return step(params, state, x, tuple(zip(fixed, scanned, strict=True)), product=multiply)

    def body(carry: tuple[PyTree, PyTree, Array], now: tuple[Array, tuple]) -> tuple[tuple, None]:
        state, ys, t = carry
        state, y = one(state, now)
        ys = jax.tree.map(lambda all, a: jax.lax.dynamic_update_index_in_dim(all, a, t, axis), ys, y)
        return (state, ys, t + (-1 if request.reverse else 1)), None

    def room(a: Array) -> Array:  # made of an output, so that it is sharded as outputs are
        return jnp.broadcast_to(jnp.expand_dims(a, axis), (*a.shape[:axis], xs.shape[0], *a.shape[axis:]))

    first = one(state, jax.tree.map(lambda a: a[0], (xs, scanned)))[1]
    start = jnp.int32(xs.shape[0] - 1 if request.reverse else 0)
    carry = (state, jax.tree.map(room, first), start)
    (state, ys, _), _ = jax.lax.scan(body, carry, (xs, scanned), reverse=request.reverse, unroll=request.unroll)
    return settled((state, jax.tree.map(lambda a: jnp.moveaxis(a, axis, 0), ys)))


def derivative(plain: Callable, primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree]:
    """Gives the value and the tangent of the definition; what does not vary gets no tangent there either."""
    values: list[Array] = jax.tree.leaves(primals)
    tree: Any = jax.tree.structure(primals)
    directions = tree.flatten_up_to(tangents)
    varying = [n for n, direction in enumerate(directions) if not isinstance(direction, SymbolicZero)]

    def of_varying(*moved: Array) -> PyTree:
        now = dict(zip(varying, moved, strict=True))
        return settled(plain(*tree.unflatten([now.get(n, value) for n, value in enumerate(values)])))

    return jax.jvp(of_varying, [values[n] for n in varying], [directions[n] for n in varying])
