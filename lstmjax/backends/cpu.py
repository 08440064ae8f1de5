"""The products of a step on a CPU: few rows (the batch) by matrices of weights.

XLA runs two other forms of them quicker, with the same numbers up to rounding:

Columns. With large matrices the weights stand on the left, since XLA's products on CPUs run the faster the more rows
the left side has. From 512 units on, z = (Wᵀ·hᵀ)ᵀ takes 0.3 to 0.9 of the time of h·W, and dh = (W·dzᵀ)ᵀ pays from 128
units on (`benchmarks/columns.py`). The compiler would turn it into h·W again; a barrier prevents that. On JAX 0.10 some
gradients of weights are computed likewise.

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
from lstmjax.backends import every_step
from lstmjax.backends.linear import SHARED, Axes, Way, available, linear
from lstmjax.backends.request import Request
from lstmjax.cell import Product, product
from lstmjax.types import Array, PyTree

LARGE = 2**20
"""Weights on the left, forwards: from how many numbers in the matrices of a site, those of 512 units.

From `benchmarks/columns.py`, first table."""
WORK = 2**23
"""Weights on the left, forwards: from how many numbers in the matrices times rows of the batch.

That is 8 rows with 512 units, 4 with more. From `benchmarks/columns.py`, first table."""
NUMBERS_A_ROW = 2**14
"""Weights on the left, backwards: how many numbers the matrices must have for each row of the batch.

That allows 16 rows with 256 units. From `benchmarks/columns.py`, both tables."""
SMALL = 2**17
"""Folding, with several rows: up to how many numbers in the matrices of a site, those of 128 units and as many inputs.

From `benchmarks/folded.py`."""
SMALL_FOR_A_ROW = 2**15
"""Folding, with one row (which `jax.vmap` may turn into many): up to how many numbers in the matrices of a site.

From `benchmarks/folded.py`, the lines with one sequence."""
NUMBERS_A_STEP = 2**12
"""Folding: up to how many numbers in the matrices for each step, since they are copied once for a whole sequence.

From `benchmarks/folded.py`, the lines with few steps."""
EARLY = jax.__version_info__ < (0, 11)
"""Gradients of weights: whether XLA is that of JAX 0.10, where the two cases below are quicker by columns.

Measured by whole layers in training on both lines of JAX, as are `BRIEF` and `HUGE`; no script repeats it."""
BRIEF = 512
"""Gradients of weights by columns: up to how many rows, batch times steps."""
HUGE = 2**22
"""Gradients of weights by columns: from how many numbers in the matrix, those of 1,024 units, for any rows."""


def turns(rows: int, weights: Sequence[Array]) -> bool:
    """Return whether the matrices of a site `[N, ...]` are large and the rows few: 4 to 64, to an eighth of the units.

    Symbolic sizes, as in `jax.export`, are not known: False.
    """
    if not _known(rows, weights):
        return False
    few = 4 <= rows <= min(64, math.prod(weights[0].shape[1:]) // 32)
    return few and _numbers(weights) >= max(LARGE, WORK // rows)


def turns_back(rows: int, weights: Sequence[Array]) -> bool:
    """Return whether the matrices of a site `[N, ...]` go to the left in the step backwards."""
    return _known(rows, weights) and rows <= min(128, _numbers(weights) // NUMBERS_A_ROW)


def folds(steps: int, rows: int, weights: Sequence[Array]) -> bool:
    """Return whether a site multiplies by several matrices `[N, ...]`, small beside the number of steps."""
    if len(weights) < 2 or not _known(rows, weights) or not isinstance(steps, int):
        return False
    return _numbers(weights) <= min(SMALL if rows > 1 else SMALL_FOR_A_ROW, NUMBERS_A_STEP * steps)


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

    Call this outside the scan, so that each matrix is transposed once. Leaves are recognised by identity: they are the
    same objects for as long as the step is traced, and an array that is not one of them is multiplied by plainly.
    """
    if not on_cpu(request):
        return product
    matrices = [w for w in jax.tree.leaves(params) if w.ndim > 1]
    large = any(_known(0, [w]) and w.size >= LARGE for w in matrices)
    steps = request.xs.shape[0]
    turned = (
        [jax.lax.optimization_barrier(flat(w).T) for w in matrices] if large else []
    )  # the compiler drops unused ones

    def multiply(site: str, *terms: tuple[Array, Array], bias: tuple[Array | None, ...] = ()) -> Array:
        operands, weights = [a for a, _ in terms], [w for _, w in terms]
        places = [next((k for k, w in enumerate(matrices) if w is weight), None) for weight in weights]
        if None in places or not _alike(operands, weights):  # computed anew in each step, or broadcast, or cast
            return product(site, *terms, bias=bias)
        transposed = [turned[k] for k in places if k is not None] if large else []
        if large and operands[0].ndim == 1 and available() is None:
            z = single_row(steps, operands, weights, transposed)
        else:
            z = rows(steps, operands, weights, transposed)
        return reduce(jnp.add, (jnp.broadcast_to(b.astype(z.dtype), z.shape) for b in bias if b is not None), z)

    return multiply


def forms(request: Request) -> str | None:
    """Describe the form of a layer's products, as far as shapes tell; None: the plain form."""
    if not on_cpu(request):
        return None
    steps, batch = request.xs.shape[0], math.prod(request.xs.shape[1:-1])
    gates = [w for w in jax.tree.leaves(request.params) if w.ndim > 2]
    recurrent = getattr(request.params, "w_h", None)
    descriptions = []
    if any(turns(batch, [w]) for w in gates):
        descriptions.append("matrices on the left, which are large beside the batch")
    elif folds(steps, batch, gates):
        descriptions.append("small matrices folded into one product")
    if request.mode == "training" and recurrent is not None and turns_back(batch, [recurrent]):
        descriptions.append("matrices on the left in the derivative")
    return ", ".join(descriptions) or None


def flat(weight: Array) -> Array:
    """Return a weight `[N, ...]` as a matrix."""
    return weight.reshape(weight.shape[0], -1)


def rows(steps: int, operands: list[Array], weights: list[Array], turned: list[Array]) -> Array:
    """Return the sum of the products of operands `[..., N]` with weights `[N, ...]`, in the quickest form.

    Args:
        steps: how often.
        operands: what is multiplied.
        weights: by what.
        turned: the weights as `[..., N]`; none if they are small.
    """
    batch = operands[0].shape[:-1]
    if turned and turns(math.prod(batch), weights):
        return columns(operands, weights, turned)
    if folds(steps, math.prod(batch), weights):
        operands, weights = [jnp.concatenate(operands, axis=-1)], [jnp.concatenate(weights)]
    return product("", *zip(operands, weights, strict=True))


def columns(operands: list[Array], weights: list[Array], turned: list[Array]) -> Array:
    """Return the sum of the products of operands `[..., N]` with weights `[N, ...]`, by the transposed `[..., N]`."""
    dtype = checks.cell_dtype(operands[0].dtype)
    dot = partial(jax.lax.dot_general, preferred_element_type=dtype)
    parts = [dot(w, a, (((1,), (a.ndim - 1,)), ((), ()))) for a, w in zip(operands, turned, strict=True)]
    z = jnp.moveaxis(jax.lax.optimization_barrier(reduce(jnp.add, parts)), 0, -1)
    return z.reshape(*z.shape[:-1], *weights[0].shape[1:])


def single_row(steps: int, operands: list[Array], weights: list[Array], turned: list[Array]) -> Array:
    """Return what `rows` returns, of operands `[N]`; `jax.vmap` of it or of its transpose runs as a batch of rows."""
    count, output_shape = len(weights), weights[0].shape[1:]
    dtypes = [a.dtype for a in operands]

    def forward(residuals: Sequence[Array], vector: Sequence[Array]) -> list[Array]:
        return [rows(steps, list(vector), list(residuals[:count]), list(residuals[count:]))]

    def plain(residuals: Sequence[Array], vector: Sequence[Array]) -> list[Array]:
        return [product("", *zip(vector, residuals[:count], strict=True))]

    def transpose(residuals: Sequence[Array], cotangents: Sequence[Array]) -> list[Array]:
        batch = cotangents[0].shape[: cotangents[0].ndim - len(output_shape)]
        slopes = cotangents[0].reshape(*batch, math.prod(output_shape))
        gradients = [_back(slopes, weight) for weight in residuals[:count]]
        return [a.astype(dtype) for a, dtype in zip(gradients, dtypes, strict=True)]

    axes = Axes((SHARED,) * (count + len(turned)), (0,) * count, (0,))
    return linear(Way(forward, plain), Way(transpose, transpose), [*weights, *turned], operands, axes)[0]


def _back(slopes: Array, weight: Array) -> Array:
    batch, matrix = slopes.shape[:-1], flat(weight)
    dot = partial(jax.lax.dot_general, preferred_element_type=slopes.dtype)
    if not turns_back(math.prod(batch), [weight]):
        return dot(slopes, matrix, (((len(batch),), (1,)), ((), ())))
    return jnp.moveaxis(jax.lax.optimization_barrier(dot(matrix, slopes, (((1,), (len(batch),)), ((), ())))), 0, -1)


def backwards(*terms: tuple[Array, Array]) -> Array:
    """Return the sum of products; the transpose of this linear function multiplies by columns where that is quicker.

    JAX transposes h·W to dz·Wᵀ, and `columns_back` to (W·dzᵀ)ᵀ.
    """
    operands, weights = [a for a, _ in terms], [w for _, w in terms]
    if not _alike(operands, weights) or not turns_back(math.prod(operands[0].shape[:-1]), weights):
        return product("", *terms)
    if operands[0].ndim == 1 and available() is None:
        return single_row(0, operands, weights, [])
    return reduce(jnp.add, map(columns_back, operands, weights))


def columns_back(operand: Array, weight: Array) -> Array:
    """Return operand · weight; the transpose of it by the operand multiplies by columns."""
    dtype = checks.cell_dtype(operand.dtype)
    turned = jax.lax.optimization_barrier(jnp.moveaxis(operand, -1, 0))
    z = jax.lax.dot_general(turned, flat(weight), (((0,), (0,)), ((), ())), preferred_element_type=dtype)
    return z.reshape(*z.shape[:-1], *weight.shape[1:])


def by_tangent_weight(operands: Array, weight: Array) -> Array:
    """Return the product for all steps at once that is to be differentiated by the weight, in the quickest form."""
    count = math.prod(operands.shape[:-1])
    quicker = EARLY and _known(count, [weight]) and (count <= BRIEF or weight.size >= HUGE)
    if operands.ndim < 3 or not quicker:
        return every_step.by_tangent_weight(operands, weight)
    z = columns_back(operands.reshape(count, operands.shape[-1]), weight)
    return z.reshape(*operands.shape[:-1], *weight.shape[1:])
