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
    stepped: tuple,
    *,
    asked: Request,
) -> tuple[PyTree, PyTree]:
    """Gives the final state and (with `asked.keep`) all outputs of a step scanned over the first axis of xs.

    The step is called as `step(params, state, x, aux)`; aux holds a pair for each wrapper, of what
    is fixed for the sequence and of what is scanned beside xs.

    With `asked.checkpoint`, what the backward pass needs of a step is computed again; see `segments.in_segments`.
    """

    def body(state: PyTree, now: tuple[Array, tuple]) -> tuple[PyTree, PyTree]:
        x, own = now
        state, y = step(params, state, x, tuple(zip(fixed, own, strict=True)))
        return state, y if asked.keep else None

    def scan(state: PyTree, inputs: PyTree) -> tuple[PyTree, PyTree]:
        return jax.lax.scan(body, state, inputs, reverse=asked.reverse, unroll=asked.unroll)

    if not xs.shape[0]:
        with jax.disable_jit(False):  # written out step by step, there is no step to tell the outputs' shapes
            return scan(state, (xs, stepped))
    return scan(state, (xs, stepped)) if asked.checkpoint is None else in_segments(scan, state, xs, stepped, asked)
