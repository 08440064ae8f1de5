"""Products for all steps at once, `[T, ..., N]` with a weight `[N, ...]`: what a derivative forms outside its scan.

The gradient of the weight is one product over steps and batch. It takes two axes: with three, XLA's CPU compiler copies
both sides turned around. A batch that `jax.vmap` makes cannot be merged with the steps from outside; so for a layer
without batch axes the product is a linear map that takes the mapped axis among its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax

from lstmjax.backends.linear import SHARED, Axes, Way, available, linear
from lstmjax.cell import product
from lstmjax.types import Array


def by_tangent_weight(operands: Array, weight: Array) -> Array:
    """Gives the product, which is to be differentiated by the weight."""
    if _plain(operands):
        return _product(operands, weight)
    shape, dtype = weight.shape, weight.dtype

    def there(operands: Sequence[Array], weights: Sequence[Array]) -> list[Array]:
        return [_product(*operands, *weights)]

    def back(operands: Sequence[Array], cotangents: Sequence[Array]) -> list[Array]:
        rows = operands[0].reshape(-1, shape[0])
        slopes = cotangents[0].reshape(rows.shape[0], math.prod(shape[1:]))
        moved = jax.lax.dot_general(rows, slopes, (((0,), (0,)), ((), ())), preferred_element_type=slopes.dtype)
        return [moved.reshape(shape).astype(dtype)]

    return linear(Way(there, there), Way(back, back), [operands], [weight], Axes((1,), (SHARED,), (1,)))[0]


def of_tangent_input(operands: Array, weight: Array) -> Array:
    """Gives the product, which is to be differentiated by the operands."""
    if _plain(operands):
        return _product(operands, weight)
    dtype, size, own = operands.dtype, weight.shape[0], weight.ndim - 1

    def there(weights: Sequence[Array], operands: Sequence[Array]) -> list[Array]:
        return [_product(*operands, *weights)]

    def back(weights: Sequence[Array], cotangents: Sequence[Array]) -> list[Array]:
        (slopes,), flat = cotangents, weights[0].reshape(size, -1)
        rows = slopes.reshape(-1, flat.shape[1])
        moved = jax.lax.dot_general(rows, flat, (((1,), (1,)), ((), ())), preferred_element_type=rows.dtype)
        return [moved.reshape(*slopes.shape[: slopes.ndim - own], size).astype(dtype)]

    return linear(Way(there, there), Way(back, back), [weight], [operands], Axes((SHARED,), (1,), (1,)))[0]


def _plain(operands: Array) -> bool:
    """Tells whether JAX's own rules do: there is a batch in the layer already, or there is nothing else to go by."""
    return operands.ndim > 2 or available() is not None or apart()


def apart() -> bool:
    """Tells whether axes may be sharded explicitly, which cannot be merged then."""
    return bool(jax.sharding.get_abstract_mesh().explicit_axes)


def _product(operands: Array, weight: Array) -> Array:
    if apart():
        return product("", (operands, weight))
    z = product("", (operands.reshape(-1, operands.shape[-1]), weight))
    return z.reshape(*operands.shape[:-1], *weight.shape[1:])
