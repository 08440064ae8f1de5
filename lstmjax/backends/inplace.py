"""The scan for emitting many values: each output is written directly to its place in `[..., T, H]`.

A scan stacks what it emits as `[T, ..., H]`, which is then transposed. With the eleven arrays of a `Step`, transposing
takes as long as the steps themselves (benchmarks/trace.py). Here the outputs are part of the carry and written in
place. A backward pass would copy that carry at every step, so every derivative is that of the plain scan.
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
    """Return why a request cannot be served: with segments, which it does not have; or None."""
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
    """Return what `scan.run` returns; the compiler drops the axis moves in between."""
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
    """Return the final state and all outputs, time on the first axis."""
    axis = xs.ndim - 2  # of time, behind the batch axes
    multiply = cpu.forwards(params, request)

    def run_step(state: PyTree, inputs: tuple[Array, tuple]) -> tuple[PyTree, PyTree]:
        x, scanned = inputs
        return step(params, state, x, tuple(zip(fixed, scanned, strict=True)), product=multiply)

    def body(carry: tuple[PyTree, PyTree, Array], inputs: tuple[Array, tuple]) -> tuple[tuple, None]:
        state, ys, t = carry
        state, y = run_step(state, inputs)
        ys = jax.tree.map(lambda all, a: jax.lax.dynamic_update_index_in_dim(all, a, t, axis), ys, y)
        return (state, ys, t + (-1 if request.reverse else 1)), None

    def blank(a: Array) -> Array:  # broadcast from an output, so that it is sharded as outputs are
        return jnp.broadcast_to(jnp.expand_dims(a, axis), (*a.shape[:axis], xs.shape[0], *a.shape[axis:]))

    first = run_step(state, jax.tree.map(lambda a: a[0], (xs, scanned)))[1]
    start = jnp.int32(xs.shape[0] - 1 if request.reverse else 0)
    carry = (state, jax.tree.map(blank, first), start)
    (state, ys, _), _ = jax.lax.scan(body, carry, (xs, scanned), reverse=request.reverse, unroll=request.unroll)
    return settled((state, jax.tree.map(lambda a: jnp.moveaxis(a, axis, 0), ys)))


def derivative(plain: Callable, primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree]:
    """Return the value and the tangent of the plain scan; inputs without a tangent have none there either."""
    values: list[Array] = jax.tree.leaves(primals)
    tree: Any = jax.tree.structure(primals)
    directions = tree.flatten_up_to(tangents)
    varying = [n for n, direction in enumerate(directions) if not isinstance(direction, SymbolicZero)]

    def of_varying(*arrays: Array) -> PyTree:
        changed = dict(zip(varying, arrays, strict=True))
        return settled(plain(*tree.unflatten([changed.get(n, value) for n, value in enumerate(values)])))

    return jax.jvp(of_varying, [values[n] for n in varying], [directions[n] for n in varying])
