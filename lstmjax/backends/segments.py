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

from lstmjax.arrays import tied_zero
from lstmjax.backends.request import Request
from lstmjax.types import Array, PyTree


def in_segments(
    scan: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], state: PyTree, xs: Array, scanned: tuple, request: Request
) -> tuple[PyTree, PyTree]:
    """Return what `scan(state, (xs, scanned))` returns, saving only the states between segments.

    Segments are cut out of the array that the caller passed, and their outputs are written into the array that is
    returned, with time on the caller's axis: a copy of either with time first would take more memory than all segments
    together.
    """
    steps, axis = xs.shape[0], request.axis
    length = segment_length(request.checkpoint, steps)
    xs = jnp.moveaxis(xs, 0, axis)  # as the caller passed it: the compiler drops both moves

    def segment(length: int, state: PyTree, start: Array | int) -> tuple[PyTree, PyTree]:
        x = jnp.moveaxis(jax.lax.dynamic_slice_in_dim(xs, start, length, axis), axis, 0)
        parts = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, length), scanned)
        state, ys = scan(state, (x, parts))
        return state, jax.tree.map(lambda y: jnp.moveaxis(y, 0, axis), ys)

    def write(carry: tuple[PyTree, PyTree], start: Array | int, length: int = length) -> tuple[tuple, None]:
        again = jax.checkpoint(partial(segment, length), prevent_cse=False)
        state, ys = again(carry[0], start)  # the write stands outside of the checkpoint: nothing is saved for it
        put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=start, axis=axis)
        return (state, jax.tree.map(put, carry[1], ys)), None

    zero = tied_zero(state)

    def blank(y: jax.ShapeDtypeStruct) -> Array:  # sharded as outputs are; in `shard_map` it varies as the state does
        shape = (*y.shape[:axis], steps, *y.shape[axis + 1 :])
        return jnp.broadcast_to(zero.astype(y.dtype), shape, out_sharding=y.sharding)

    covered = steps // length * length  # steps in segments of full length; one shorter segment has the others
    carry = state, jax.tree.map(blank, jax.eval_shape(partial(segment, length, start=0), state)[1])
    if covered < steps and request.reverse:
        carry, _ = write(carry, covered, steps - covered)
    carry, _ = jax.lax.scan(write, carry, jnp.arange(0, covered, length), reverse=request.reverse)
    if covered < steps and not request.reverse:
        carry, _ = write(carry, covered, steps - covered)
    state, ys = carry
    return state, jax.tree.map(lambda y: jnp.moveaxis(y, axis, 0), ys)


def segment_length(checkpoint: Any, steps: int) -> int:
    """Return the steps of a segment; for "sqrt" a divisor of T between √T / 4 and √T if there is one, else √T.

    Steps beyond the last full segment are compiled separately.

    >>> [segment_length("sqrt", steps) for steps in (1, 10_000, 100_000, 99_991)], segment_length(1000, 64)
    ([1, 100, 250, 316], 64)
    """
    if checkpoint != "sqrt":
        return min(int(checkpoint), steps)
    root = math.isqrt(steps)
    return next((n for n in range(root, max(root // 4, 1), -1) if steps % n == 0), root)
