"""The state that a layer starts from: its shapes, its zeros, and how it is sharded."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arguments import kind
from lstmjax.arrays import as_shapes, tied_zero
from lstmjax.cell import CellStep
from lstmjax.types import Array, LSTMParams, PyTree


def initial_like(
    params: PyTree, xs: Array | jax.ShapeDtypeStruct, name: str, state: PyTree | None, *, step: Callable, cast: bool
) -> tuple[PyTree, bool]:
    """Return the shapes and dtypes of the state that `initial_state` returns, and whether it is an (h, c).

    Raises:
        ValueError, TypeError: the state does not fit the parameters and xs.
    """
    if not isinstance(params, LSTMParams):
        if state is None:
            raise ValueError(
                f"{name} is None, but params is {kind(params)} and no LSTMParams, so that the sizes of the "
                "state are not known. Pass the initial state of your step, with the batch axes of xs."
            )
        return as_shapes(state), False
    ours = isinstance(step, CellStep)
    feeds = step.cell.feeds if isinstance(step, CellStep) else ()
    like = checks.state_like(params, xs.shape[1:-1], feeds)
    if state is None:
        return like, True
    if not ours and not checks.is_state(state, like):
        return as_shapes(state), False  # more than (h, c): only the step knows what it is
    checks.check_state(name, state, like, feeds, cast=cast or not ours)
    if not ours and not cast:
        like = tuple(jax.ShapeDtypeStruct(z.shape, s.dtype) for z, s in zip(like, state, strict=True))
    return like, True


def initial_state(params: PyTree, xs: Array, name: str, state: PyTree | None, *, step: Callable, cast: bool) -> PyTree:
    """Return the state to start from, on the batch axes of xs `[T, ..., I]`; None stands for zeros.

    Zeros are computed from xs, and a state that is passed is added to them, so that it is sharded as xs is where the
    mesh axes are explicit.

    Args:
        params, xs: as for a scan.
        name: what messages call the state.
        state: as for `lstm`, or None.
        step: the step, resolved.
        cast: whether the state is cast to the dtypes of the computation.
    """
    like, plain = initial_like(params, xs, name, state, step=step, cast=cast)
    if not plain:
        return state
    zeros = tuple(jnp.broadcast_to(zero_of_each(xs).astype(z.dtype), z.shape) for z in like)
    if state is None:
        return zeros
    return tuple(jnp.broadcast_to(s, z.shape).astype(z.dtype) - z for s, z in zip(state, zeros, strict=True))


@jax.jit
def zero_of_each(xs: Array) -> Array:
    """Return a zero for each sequence of xs `[T, ..., I]`: `[..., 1]`, sharded as xs is."""
    return jax.lax.stop_gradient(xs)[:0].astype(jnp.float32).sum((0, -1))[..., None]


def tie(state: PyTree, tree: PyTree) -> PyTree:
    """Return the state; in `shard_map` it varies over the mesh axes of the tree, too, as what a scan carries must."""
    zero = tied_zero(tree)
    return jax.tree.map(lambda a: a - zero.astype(a.dtype) if jnp.issubdtype(a.dtype, jnp.number) else a, state)
