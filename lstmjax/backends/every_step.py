"""Products for all steps at once, `[T, ..., N]` with a weight `[N, ...]`, which a derivative forms outside its scan.

The gradient of the weight is one product over steps and batch. Its operands have two axes: with three, XLA's CPU
compiler copies both sides transposed. A batch axis of `jax.vmap` cannot be merged with the steps from outside; so for a
layer without batch axes the product is a linear map that accepts the mapped axis as a batch axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax

from lstmjax.backends.linear import SHARED, Axes, Way, available, linear
from lstmjax.backends.request import explicitly_sharded
from lstmjax.cell import product
from lstmjax.types import Array


def by_tangent_weight(operands: Array, weight: Array) -> Array:
    """Return the product, which is to be differentiated by the weight."""
    if _plain(operands):
        return _product(operands, weight)
    shape, dtype = weight.shape, weight.dtype

    def forward(operands: Sequence[Array], weights: Sequence[Array]) -> list[Array]:
        return [_product(*operands, *weights)]

    def transpose(operands: Sequence[Array], cotangents: Sequence[Array]) -> list[Array]:
        rows = operands[0].reshape(-1, shape[0])
        slopes = cotangents[0].reshape(rows.shape[0], math.prod(shape[1:]))
        gradient = jax.lax.dot_general(rows, slopes, (((0,), (0,)), ((), ())), preferred_element_type=slopes.dtype)
        return [gradient.reshape(shape).astype(dtype)]

    return linear(Way(forward, forward), Way(transpose, transpose), [operands], [weight], Axes((1,), (SHARED,), (1,)))[
        0
    ]


def of_tangent_input(operands: Array, weight: Array) -> Array:
    """Return the product, which is to be differentiated by the operands."""
    if _plain(operands):
        return _product(operands, weight)
    dtype, size, output_axes = operands.dtype, weight.shape[0], weight.ndim - 1

    def forward(weights: Sequence[Array], operands: Sequence[Array]) -> list[Array]:
        return [_product(*operands, *weights)]

    def transpose(weights: Sequence[Array], cotangents: Sequence[Array]) -> list[Array]:
        slopes, flat = cotangents[0], weights[0].reshape(size, -1)
        rows = slopes.reshape(-1, flat.shape[1])
        gradient = jax.lax.dot_general(rows, flat, (((1,), (1,)), ((), ())), preferred_element_type=rows.dtype)
        return [gradient.reshape(*slopes.shape[: slopes.ndim - output_axes], size).astype(dtype)]

    return linear(Way(forward, forward), Way(transpose, transpose), [weight], [operands], Axes((SHARED,), (1,), (1,)))[
        0
    ]


def _plain(operands: Array) -> bool:
    """Return whether JAX's own rules serve: the layer has batch axes already, or `linear` is not available."""
    return operands.ndim > 2 or available() is not None or explicitly_sharded(operands)


def _product(operands: Array, weight: Array) -> Array:
    if explicitly_sharded(operands, weight):
        return product("", (operands, weight))
    z = product("", (operands.reshape(-1, operands.shape[-1]), weight))
    return z.reshape(*operands.shape[:-1], *weight.shape[1:])
