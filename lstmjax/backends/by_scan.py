"""The derivative of a layer that a kernel runs: its tangent is that of the plain scan, its transpose the kernel's.

So a gradient is one call of the kernel, and all other derivatives, of any order, are those of `scan`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero

from lstmjax.backends import linear, scan
from lstmjax.backends.linear import Axes, Way
from lstmjax.backends.request import Request
from lstmjax.types import Array, PyTree

Gradients = Callable[[Sequence[int], Any, Any, PyTree], list[Array]]
"""(varying, primals, saved, cotangents) -> the gradient of each leaf of the primals whose number is in `varying`."""


def tangent(
    step: Callable, request: Request, primals: tuple, tangents: tuple, out: PyTree, saved: Any, gradients: Gradients,
    batch: Sequence[int], of_saved: Sequence[int], *, networks: bool = False, inside: tuple = (),
) -> PyTree:  # fmt: skip
    """Return the tangent of a layer's results, in their structure.

    Args:
        step, request: as a backend gets them.
        primals, tangents: (params, state, xs, fixed, scanned), and their tangents with symbolic zeros.
        out: the results, (state, ys).
        saved: a NamedTuple of what the forward call saved for the kernel's gradient.
        gradients: the kernel's gradient.
        batch: where the batch axis of each leaf of the primals stands, or `linear.SHARED`.
        of_saved: the same for `saved`.
        networks: as for `linear.Axes`.
        inside: as for `linear.linear`.
    """
    values: list[Any] = jax.tree.leaves(primals)
    count, kind = len(values), type(saved)  # no array in what the maps close over
    tree: Any = jax.tree.structure(primals)
    out_tree: Any = jax.tree.structure(out)
    directions = tree.flatten_up_to(tangents)
    varying = [n for n, direction in enumerate(directions) if not isinstance(direction, SymbolicZero)]

    def plain_scan(residuals: Sequence[Array], vector: Sequence[Array]) -> list[Array]:
        changed = dict(zip(varying, vector, strict=True))
        leaves = [changed.get(n, value) for n, value in enumerate(residuals[:count])]
        return jax.tree.leaves(scan.run(step, *tree.unflatten(leaves), request=request))

    def pushforward(residuals: Sequence[Array], vector: Sequence[Array]) -> list[Array]:
        return jax.jvp(partial(plain_scan, residuals), ([residuals[n] for n in varying],), (list(vector),))[1]

    def pullback(residuals: Sequence[Array], cotangents: Sequence[Array]) -> list[Array]:
        return jax.vjp(partial(plain_scan, residuals), [residuals[n] for n in varying])[1](list(cotangents))[0]

    def pullback_by_kernel(residuals: Sequence[Array], cotangents: Sequence[Array]) -> list[Array]:
        inputs = tree.unflatten(residuals[:count])
        return gradients(varying, inputs, kind(*residuals[count:]), out_tree.unflatten(cotangents))

    outputs = (0, 0, 1) if request.return_sequences else (0, 0)
    axes = Axes((*batch, *of_saved), tuple(batch[n] for n in varying), outputs, networks=networks)
    forward, transpose = Way(pushforward, pushforward), Way(pullback_by_kernel, pullback)
    result = linear.linear(forward, transpose, [*values, *saved], [directions[n] for n in varying], axes, inside)
    return out_tree.unflatten(result)


def same_axis(axis: int, tree: PyTree) -> PyTree:
    """Return a tree with one number for each leaf."""
    return jax.tree.map(lambda _: axis, tree)
