"""Long sequences: only the states between segments are saved, each segment is computed again in the backward pass.

Chen et al. (2016), Gruslys et al. (2016): memory O(√T) for segments of about √T steps, one more forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.backends.request import Request
from lstmjax.types import Array, PyTree


def in_segments(
    scan: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], state: PyTree, xs: Array, scanned: tuple, request: Request
) -> tuple[PyTree, PyTree]:
    """Gives what `scan` gives of (xs, scanned), time first, with the states between segments alone remembered.

    Segments are cut out of the array that the caller passed, and their outputs written into the one that it gets, with
    time where it stands there: a copy of either with time first would take more memory than all segments together.
    """
    steps, axis = xs.shape[0], request.axis
    length = segment_length(request.checkpoint, steps)
    xs = jnp.moveaxis(xs, 0, axis)  # as it came: the compiler drops both moves

    def segment(length: int, state: PyTree, start: Array | int) -> tuple[PyTree, PyTree]:
        x = jnp.moveaxis(jax.lax.dynamic_slice_in_dim(xs, start, length, axis), axis, 0)
        parts = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, length), scanned)
        state, ys = scan(state, (x, parts))
        return state, jax.tree.map(lambda y: jnp.moveaxis(y, 0, axis), ys)

    def write(carry: tuple[PyTree, PyTree], start: Array | int, length: int = length) -> tuple[tuple, None]:
        again = jax.checkpoint(partial(segment, length), prevent_cse=False)
        state, ys = again(carry[0], start)  # what is written stands outside: it need not be remembered
        put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=start, axis=axis)
        return (state, jax.tree.map(put, carry[1], ys)), None

    numbers = [a for a in jax.tree.leaves(state) if jnp.issubdtype(a.dtype, jnp.number)]
    zero = sum((jnp.ravel(jax.lax.stop_gradient(a))[:0].real.sum().astype(jnp.int32) for a in numbers), jnp.int32(0))

    def room(y: jax.ShapeDtypeStruct) -> Array:  # sharded as outputs are; in `shard_map` it varies as the state does
        shape = (*y.shape[:axis], steps, *y.shape[axis + 1 :])
        return jnp.broadcast_to(zero.astype(y.dtype), shape, out_sharding=y.sharding)

    whole = steps // length * length
    carry = state, jax.tree.map(room, jax.eval_shape(partial(segment, length, start=0), state)[1])
    if whole < steps and request.reverse:
        carry, _ = write(carry, whole, steps - whole)
    carry, _ = jax.lax.scan(write, carry, jnp.arange(0, whole, length), reverse=request.reverse)
    if whole < steps and not request.reverse:
        carry, _ = write(carry, whole, steps - whole)
    state, ys = carry
    return state, jax.tree.map(lambda y: jnp.moveaxis(y, axis, 0), ys)


def segment_length(checkpoint: Any, steps: int) -> int:
    """Gives the steps of a segment; for "sqrt" between √T / 4 and √T, so that it divides T if anything there does.

    The steps that are left over are compiled by themselves.

    >>> [segment_length("sqrt", steps) for steps in (1, 10_000, 100_000, 99_991)], segment_length(1000, 64)
    ([1, 100, 250, 316], 64)
    """
    if checkpoint != "sqrt":
        return min(int(checkpoint), steps)
    root = math.isqrt(steps)
    return next((n for n in range(root, max(root // 4, 1), -1) if steps % n == 0), root)
