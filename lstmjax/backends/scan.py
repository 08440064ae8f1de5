"""The definition: `jax.lax.scan` of the step. Differentiable to any order, forward and reverse."""

from __future__ import annotations

from collections.abc import Callable

import jax

from lstmjax.backends.request import Request
from lstmjax.backends.segments import in_segments
from lstmjax.types import Array, PyTree


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
    """Scan a step over the first axis of xs; return the final state and, if the request has it so, all outputs.

    The step is called as `step(params, state, x, aux)`; aux holds a pair for each wrapper, of what
    is fixed for the sequence and of what is scanned beside xs.

    With `request.checkpoint`, what the backward pass needs of a step is computed again; see `segments.in_segments`.
    """

    def body(state: PyTree, now: tuple[Array, tuple]) -> tuple[PyTree, PyTree]:
        x, scanned = now
        state, y = step(params, state, x, tuple(zip(fixed, scanned, strict=True)))
        return state, y if request.return_sequences else None

    def scan(state: PyTree, inputs: PyTree) -> tuple[PyTree, PyTree]:
        return jax.lax.scan(body, state, inputs, reverse=request.reverse, unroll=request.unroll)

    if not xs.shape[0]:
        with jax.disable_jit(False):  # written out step by step, there is no step to tell the outputs' shapes
            return scan(state, (xs, scanned))
    return scan(state, (xs, scanned)) if request.checkpoint is None else in_segments(scan, state, xs, scanned, request)
