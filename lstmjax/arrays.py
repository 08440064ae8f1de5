"""Arrays as a caller passes them: cast, described by their shapes, and which of their steps are valid."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.arguments import check_floating, checked_steps
from lstmjax.types import Array, PyTree

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike


def cast(tree: PyTree, dtype: DTypeLike) -> PyTree:
    """Return a tree with its floating-point leaves cast to `dtype`."""
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def as_shapes(tree: PyTree, dtype: Any = None) -> PyTree:
    """Return the shapes and dtypes of a tree of arrays, as after a `cast` to a dtype, if there is one."""
    if dtype is not None:
        return jax.eval_shape(partial(cast, dtype=dtype), tree)
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


def floating(dtype: Any) -> Any:
    """Return the dtype that JAX computes in for a dtype, checked to be floating-point, or None.

    Without 64-bit mode float64 is float32, of which JAX warns.
    """
    if dtype is None:
        return None
    check_floating("dtype", dtype)
    if jnp.dtype(dtype).itemsize > 4:
        return jax.eval_shape(lambda: jnp.zeros((), dtype)).dtype
    return jnp.dtype(dtype)


def cast_inputs(xs: Array, dtype: DTypeLike) -> Array:
    """Return real inputs, whole numbers too, cast to `dtype`; others are left for the checks to refuse."""
    integral = jnp.issubdtype(xs.dtype, jnp.integer) or xs.dtype == jnp.bool_
    return xs.astype(dtype) if integral or jnp.issubdtype(xs.dtype, jnp.floating) else xs


def input_shape(xs: Array, dtype: DTypeLike | None) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of inputs, as after `cast_inputs` to a dtype, if there is one."""
    return as_shapes(xs) if dtype is None else jax.eval_shape(partial(cast_inputs, dtype=dtype), xs)


def tied_zero(tree: PyTree) -> Array:
    """Return a zero computed from the arrays of a tree, so that in `shard_map` it varies over the same mesh axes."""
    leaves = jax.tree.leaves(tree)
    leaves = [jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a for a in leaves]
    zeros = (jnp.atleast_1d(jax.lax.stop_gradient(a))[:0].real.astype(jnp.float32).sum() for a in leaves)
    return sum(zeros, jnp.float32(0))


@partial(jax.jit, static_argnums=(0, 1))
def within(shape: tuple[int, ...], axis: int, lengths: Array | None, mask: Array | None) -> Array | None:
    """Return which steps are valid, bool of a shape with time on an axis, or None for all."""
    if lengths is None:
        return mask
    steps = jax.lax.broadcasted_iota(jnp.int32, shape, axis)
    inside = steps < jnp.expand_dims(lengths.astype(jnp.int32), axis)
    return inside if mask is None else inside & mask


class Sequence(NamedTuple):
    """A sequence as layers run it: time first, zeros where a step is not valid, in the dtype of the computation."""

    xs: Array  # [T, ..., I]
    valid: Array | None  # bool [T, ...]; None: all steps
    resets: Array | None  # bool [T, ...]; None: no resets


def prepared(
    xs: Array, lengths: Array | None, mask: Array | None, resets: Array | None, *, axis: int, dtype: Any
) -> Sequence:
    """Return inputs that are checked, with time on an axis, as a `Sequence`; dtype: None, or what xs are cast to."""
    valid = within(xs.shape[:-1], axis, lengths, mask)
    if valid is not None:
        xs = jnp.where(valid[..., None], xs, 0)  # before the product: NaN · 0 is NaN in every gradient
    if dtype is not None:
        xs = cast_inputs(xs, dtype)
    valid, resets = (None if a is None else jnp.moveaxis(a, axis, 0) for a in (valid, resets))
    return Sequence(jnp.moveaxis(xs, axis, 0), valid, resets)


def valid_steps(xs: Array, lengths: ArrayLike | None, mask: ArrayLike | None, time_major: bool) -> Array | None:
    """Return which steps are valid, bool on the axes of xs without the features, or None for all."""
    lengths, mask, _ = checked_steps(xs, lengths, mask, None, time_major)
    return within(xs.shape[:-1], 0 if time_major else xs.ndim - 2, lengths, mask)
