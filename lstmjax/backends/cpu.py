"""The products of a step on a CPU: few rows (the batch) by matrices of weights.

XLA runs two other forms of them quicker, with the same numbers up to rounding:

Columns. In the step backwards the weights stand on the left, dh = (W·dzᵀ)ᵀ, where the matrix is large beside the batch:
that takes 0.3 to 0.9 of the time of dz·Wᵀ (`benchmarks/columns.py`). The compiler would turn it into dz·Wᵀ again; a
barrier prevents that.

Folded. With small matrices a product takes longer to start than to compute. One [x, h]·[W_x; W_h] takes the place of
x·W_x + h·W_h (`benchmarks/folded.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.backends.linear import SHARED, Axes, Way, available, linear
from lstmjax.backends.request import Request
from lstmjax.cell import Product, product
from lstmjax.types import Array, PyTree

NUMBERS_A_ROW = 2**14
"""Weights on the left, backwards: how many numbers the matrices must have for each row of the batch.

That allows 16 rows with 256 units. From `benchmarks/columns.py`, both tables."""
SMALL = 2**15
"""Folding: up to how many numbers in the matrices of a site, those of 64 units and as many inputs.

From `benchmarks/folded.py`."""


def turns_back(rows: int, weights: Sequence[Array]) -> bool:
    """Return whether the matrices of a site `[N, ...]` go to the left in the step backwards.

    Symbolic sizes, as in `jax.export`, are not known: False.
    """
    return _known(rows, weights) and rows <= min(128, _numbers(weights) // NUMBERS_A_ROW)


def folds(weights: Sequence[Array]) -> bool:
    """Return whether a site multiplies by several matrices `[N, ...]` that are small."""
    return len(weights) > 1 and _known(0, weights) and _numbers(weights) <= SMALL


def _known(rows: int, weights: Sequence[Array]) -> bool:
    return all(isinstance(n, int) for n in (rows, *(n for w in weights for n in w.shape)))


def _numbers(weights: Sequence[Array]) -> int:
    return sum(math.prod(w.shape) for w in weights)


def _alike(operands: Sequence[Array], weights: Sequence[Array]) -> bool:
    sides = {(a.shape[:-1], a.dtype) for a in operands}, {(w.shape[1:], w.dtype) for w in weights}
    return all(len(side) == 1 for side in sides)


def on_cpu(request: Request) -> bool:
    """Return whether products may be rearranged: on CPUs, if no axis is sharded explicitly."""
    return request.platform == "cpu" and not request.explicit


def forwards(params: PyTree, request: Request) -> Product:
    """Return a `product` that multiplies by the leaves of params in the quickest form.

    Leaves are recognised by identity: they are the same objects for as long as the step is traced. By an array that is
    not one of them, such as weights computed anew in each step, it multiplies plainly.
    """
    if not on_cpu(request):
        return product
    matrices = [w for w in jax.tree.leaves(params) if w.ndim > 1]

    def multiply(site: str, *terms: tuple[Array, Array], bias: tuple[Array | None, ...] = ()) -> Array:
        operands, weights = [a for a, _ in terms], [w for _, w in terms]
        of_params = all(any(w is weight for w in matrices) for weight in weights)
        if not (of_params and _alike(operands, weights) and folds(weights)):
            return product(site, *terms, bias=bias)
        return product(site, (jnp.concatenate(operands, axis=-1), jnp.concatenate(weights)), bias=bias)

    return multiply


def forms(request: Request) -> str | None:
    """Describe the form of a layer's products, as far as shapes tell; None: the plain form."""
    if not on_cpu(request):
        return None
    batch = math.prod(request.xs.shape[1:-1])
    gates = [w for w in jax.tree.leaves(request.params) if w.ndim > 2]
    recurrent = getattr(request.params, "w_h", None)
    descriptions = []
    if folds(gates):
        descriptions.append("small matrices folded into one product")
    if request.mode == "training" and recurrent is not None and turns_back(batch, [recurrent]):
        descriptions.append("matrices on the left in the derivative")
    return ", ".join(descriptions) or None


def flat(weight: Array) -> Array:
    """Return a weight `[N, ...]` as a matrix."""
    return weight.reshape(weight.shape[0], -1)


def backwards(*terms: tuple[Array, Array]) -> Array:
    """Return the sum of products; the transpose of this linear function multiplies by columns where that is quicker.

    JAX transposes h·W to dz·Wᵀ, and `columns_back` to (W·dzᵀ)ᵀ.
    """
    operands, weights = [a for a, _ in terms], [w for _, w in terms]
    if not _alike(operands, weights) or not turns_back(math.prod(operands[0].shape[:-1]), weights):
        return product("", *terms)
    if operands[0].ndim == 1 and available() is None:
        return single_row(operands, weights)
    return reduce(jnp.add, map(columns_back, operands, weights))


def columns_back(operand: Array, weight: Array) -> Array:
    """Return operand · weight; the transpose of it by the operand multiplies by columns."""
    dtype = checks.cell_dtype(operand.dtype)
    turned = jax.lax.optimization_barrier(jnp.moveaxis(operand, -1, 0))
    z = jax.lax.dot_general(turned, flat(weight), (((0,), (0,)), ((), ())), preferred_element_type=dtype)
    return z.reshape(*z.shape[:-1], *weight.shape[1:])


def single_row(operands: list[Array], weights: list[Array]) -> Array:
    """Return what `backwards` returns, of operands `[N]`: the transpose of it under `jax.vmap` is one of a batch."""
    output_shape, dtypes = weights[0].shape[1:], [a.dtype for a in operands]

    def forward(weights: Sequence[Array], vector: Sequence[Array]) -> list[Array]:
        return [product("", *zip(vector, weights, strict=True))]

    def transpose(weights: Sequence[Array], cotangents: Sequence[Array]) -> list[Array]:
        batch = cotangents[0].shape[: cotangents[0].ndim - len(output_shape)]
        slopes = cotangents[0].reshape(*batch, math.prod(output_shape))
        gradients = [_back(slopes, weight) for weight in weights]
        return [a.astype(dtype) for a, dtype in zip(gradients, dtypes, strict=True)]

    axes = Axes((SHARED,) * len(weights), (0,) * len(weights), (0,))
    return linear(Way(forward, forward), Way(transpose, transpose), weights, operands, axes)[0]


def _back(slopes: Array, weight: Array) -> Array:
    batch, matrix = slopes.shape[:-1], flat(weight)
    dot = partial(jax.lax.dot_general, preferred_element_type=slopes.dtype)
    if not turns_back(math.prod(batch), [weight]):
        return dot(slopes, matrix, (((len(batch),), (1,)), ((), ())))
    return jnp.moveaxis(jax.lax.optimization_barrier(dot(matrix, slopes, (((1,), (len(batch),)), ((), ())))), 0, -1)
