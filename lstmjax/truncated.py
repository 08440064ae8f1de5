"""Truncated backpropagation through time: the state is carried over a long sequence, the gradient is cut."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.arguments import as_arrays, check_arrays, check_function, check_positive, kind
from lstmjax.types import Array, PyTree

Loss = Callable[[PyTree, PyTree, PyTree], tuple[Array, PyTree]]


def truncated_gradient(
    loss: Loss,
    params: PyTree,
    state: PyTree | None,
    inputs: PyTree,
    *,
    segment: int | None = None,
    reach: int | None = None,
    axis: int = 1,
) -> tuple[Array, PyTree, PyTree]:
    """Return the loss over a long sequence, its gradient cut between segments, and the final state.

    Truncated BPTT (Williams & Peng 1990, BPTT(h; h') with h = reach and h' = segment; Sutskever 2013, section 2.8.6,
    k1 = segment and k2 = reach): the state goes on from segment to segment; the loss of each segment is differentiated
    once, back to the beginning of that segment or, with `reach` of one before it. What a step needs for the backward
    pass is kept for one segment at a time: memory O(segment), and O(reach) in states, for any T. The gradient is that
    of the whole sequence where the loss of every segment reaches back to the first step.

    To update the parameters after each segment, call it for one segment at a time, and pass on the state it gives.

    Args:
        loss: `loss(params, state, inputs) -> (value, state)`: runs the layers over a segment's inputs from a state,
            and gives a number and the state after it. The numbers of all segments are summed, so let it sum
            over its steps, and divide by T for a mean.
        params: what the gradient is wanted for, any pytree.
        state: the state to start from, as `loss` takes it and gives it back, or without the batch axes. None: zeros.
        inputs: any pytree of arrays with time on the same axis: xs `[B, T, I]`, targets `[B, T]`, a mask `[B, T]`.
        segment: steps of a segment; the last one has what is left over. None: all is one segment.
        reach: how many steps the gradient reaches back from the end of a segment, a multiple of `segment`. None: the
            segment alone. Each further segment costs one more forward and backward pass over it.
        axis: where time stands in every array of inputs: 1 behind one batch axis, 0 for time first or no batch.

    Returns:
        (value, gradient, state): the sum of the losses, `[]`; the gradient as `params`; the state after the last step.

    Raises:
        ValueError: an argument does not fit the others; the message says which, and what to do.
        TypeError: `loss` gives something else than a pair.

    Example:
        >>> from lstmjax import init_network, network
        >>> def loss(params, state, inputs):
        ...     xs, targets = inputs
        ...     state, ys = network(params, xs, state, return_sequences=True)
        ...     return jnp.square(ys - targets).sum(), state
        >>> params = init_network(jax.random.key(0), 5, 16, 3)
        >>> inputs = jnp.ones((2, 1000, 5)), jnp.ones((2, 1000, 3))
        >>> value, gradient, state = truncated_gradient(loss, params, None, inputs, segment=50)
        >>> value.shape, gradient.head.w.shape, state[0][0].shape
        ((), (16, 3), (2, 16))
    """
    check_function("loss", loss, "loss(params, state, inputs) -> (value, state)")
    if isinstance(axis, bool) or not hasattr(axis, "__index__") or jnp.shape(axis):
        raise ValueError(f"axis is {axis!r}, expected a whole number: where time stands in inputs.")
    params, inputs = as_arrays("params", params), as_arrays("inputs", inputs)
    check_arrays("state", state)
    steps = _steps(inputs, axis)
    segment = _whole(segment, "segment", steps)
    further = _further(segment, reach)

    def cut(start: Array | int, length: int) -> PyTree:
        return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, length, axis), inputs)

    value, like = _check_loss(loss, jax.eval_shape(loss, params, state, cut(0, min(segment, steps))))
    state = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like) if state is None else _as(like, state)

    def through(start: Array, params: PyTree, begin: PyTree, slope: PyTree) -> tuple[PyTree, PyTree]:
        """Pull the cotangent of the state after an earlier segment back to params and the state before it."""
        _, pull = jax.vjp(lambda params, begin: loss(params, begin, cut(start, segment))[1], params, begin)
        return pull(slope)

    def none(start: Array, params: PyTree, begin: PyTree, slope: PyTree) -> tuple[PyTree, PyTree]:
        return jax.tree.map(jnp.zeros_like, (params, begin))

    def earlier(carry: tuple[PyTree, PyTree], inputs: tuple[Array, PyTree]) -> tuple[tuple[PyTree, PyTree], None]:
        (gradient, slope), (start, begin) = carry, inputs
        more, slope = jax.lax.cond(start >= 0, through, none, start, params, begin, slope)
        return (_add(gradient, more), slope), None

    def run_segment(carry: tuple, start: Array | int, length: int = segment) -> tuple[tuple, None]:
        value, gradient, state, begins = carry  # begins: the states before each of the `further` segments, latest first
        of = jax.value_and_grad(loss, (0, 1) if further else (0,), has_aux=True)
        (more, end), (slopes, *slope) = of(params, state, cut(start, length))
        if further:
            starts = start - segment * jnp.arange(1, further + 1)
            (slopes, _), _ = jax.lax.scan(earlier, (slopes, *slope), (starts, begins))
            begins = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b[:-1]]), state, begins)
        return (value + more, _add(gradient, slopes), end, begins), None

    begins = jax.tree.map(lambda a: jnp.broadcast_to(a, (further, *a.shape)), state) if further else None
    carry = jnp.zeros((), value.dtype), jax.tree.map(jnp.zeros_like, params), state, begins
    covered = steps // segment * segment  # steps in segments of full length
    if covered:
        carry, _ = jax.lax.scan(run_segment, carry, jnp.arange(0, covered, segment))
    if covered < steps:
        carry, _ = run_segment(carry, covered, steps - covered)
    total, gradient, state, _ = carry
    return total, gradient, state


_add = partial(jax.tree.map, jnp.add)


def _steps(inputs: PyTree, axis: int) -> int:
    """Return T, which must be the same for all arrays."""
    shapes = [a.shape for a in jax.tree.leaves(inputs)]
    sizes = {shape[axis] if 0 <= axis < len(shape) else None for shape in shapes}
    if len(sizes) != 1 or None in sizes:
        raise ValueError(
            f"inputs has arrays of shapes {', '.join(map(str, shapes)) or 'none at all'}, expected the same number of "
            f"steps on axis {axis} of each. Pass axis= as time stands, 0 for time first; what has no time goes through "
            "params or the loss itself."
        )
    return sizes.pop() or 0


def _whole(segment: int | None, name: str, steps: int) -> int:
    if segment is None:
        return max(steps, 1)
    check_positive(name, segment)
    return int(segment)


def _further(segment: int, reach: int | None) -> int:
    """Return how many earlier segments the gradient of a segment's loss reaches."""
    reach = _whole(reach, "reach", segment)
    if reach % segment:
        raise ValueError(
            f"reach is {reach}, expected a multiple of segment = {segment}: the gradient is cut where segments begin. "
            f"Pass reach={max(reach // segment, 1) * segment}, or a segment that divides {reach}."
        )
    return reach // segment - 1


def _check_loss(loss: Loss, returned: Any) -> tuple[Any, PyTree]:
    """Return the shapes of (value, state) that `loss` returned, or refuse them."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(f"loss gives {kind(returned)}, expected a pair (value, state): return value, state.")
    value = returned[0]
    if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
        what = f"an array {value.shape} of {value.dtype}" if hasattr(value, "shape") else kind(value)
        raise ValueError(f"loss gives {what} as its value, expected one floating-point number: sum over its steps.")
    return returned


def _as(like: PyTree, state: PyTree) -> PyTree:
    """Return the state with the shapes and dtypes of the state that the loss returns."""
    structure, expected = str(jax.tree.structure(state)), str(jax.tree.structure(like))
    if structure != expected:
        raise ValueError(
            f"state is {structure}, but loss gives back {expected}; what it takes and "
            "what it gives must be alike. Return (value, state) with the state that the layers gave."
        )

    def alike(a: Array, b: Array) -> Array:  # a random key has a dtype that nothing is cast to
        a = jnp.broadcast_to(a, b.shape)
        return a if a.dtype == b.dtype else a.astype(b.dtype)

    return jax.tree.map(alike, state, like)
