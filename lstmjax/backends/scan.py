"""The definition: `jax.lax.scan` of the step. Differentiable to any order, forward and reverse."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lstmjax.backends.request import Request
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

    `asked.checkpoint` is None (save what the backward pass needs at every step), a segment length, or
    "sqrt": only the states between segments are saved and each segment is computed again in the
    backward pass (Chen et al. 2016), memory O(√T) for segments of √T steps.
    """

    def body(state: PyTree, now: tuple[Array, tuple]) -> tuple[PyTree, PyTree]:
        x, own = now
        state, y = step(params, state, x, tuple(zip(fixed, own, strict=True)))
        return state, y if asked.keep else None

    def over(state: PyTree, inputs: PyTree) -> tuple[PyTree, PyTree]:
        return jax.lax.scan(body, state, inputs, reverse=asked.reverse, unroll=asked.unroll)

    return segments(over, state, (xs, stepped), asked=asked)


def segments(
    over: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    state: PyTree,
    inputs: tuple[Array, tuple],
    *,
    asked: Request,
) -> tuple[PyTree, PyTree]:
    """Gives what `over(state, inputs)` gives, run segment by segment if the layer asks for it."""
    steps = inputs[0].shape[0]
    if steps == 0:
        with jax.disable_jit(False):  # written out step by step, there is no step to tell the outputs' shapes
            return over(state, inputs)
    if asked.checkpoint is None:
        return over(state, inputs)
    segment = max(1, math.isqrt(steps)) if asked.checkpoint == "sqrt" else min(int(asked.checkpoint), steps)
    whole = steps // segment * segment
    cut = jax.tree.map(lambda a: a[:whole].reshape(whole // segment, segment, *a.shape[1:]), inputs)
    rest = jax.tree.map(lambda a: a[whole:], inputs)

    remembered = jax.checkpoint(over, prevent_cse=False)

    def whole_segments(state: PyTree) -> tuple[PyTree, PyTree]:
        state, ys = jax.lax.scan(remembered, state, cut, reverse=asked.reverse)
        return state, jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), ys)

    if whole == steps:
        return whole_segments(state)
    if asked.reverse:
        state, late = remembered(state, rest)
        state, early = whole_segments(state)
    else:
        state, early = whole_segments(state)
        state, late = remembered(state, rest)
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), early, late)
