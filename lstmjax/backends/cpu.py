"""The products of a step on a CPU: few rows, the batch, by matrices of weights.

Two forms that XLA runs quicker, the same numbers up to rounding:

Columns. With large matrices the weights stand on the left: its products on CPUs run the faster the more rows the left
side has. With 512 units and more, z = (Wᵀ·hᵀ)ᵀ takes 0.3 to 0.9 of the time of h·W, and dh = (W·dzᵀ)ᵀ pays from 128
units on (`benchmarks/columns.py`). The compiler would make h·W of it again; a barrier keeps it. On JAX 0.10 some
gradients of weights are taken likewise.

Folded. With small ones each product costs more to begin than to compute. One [x, h]·[W_x; W_h] takes the place of
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
"""Numbers in the matrices of a site from which turning them pays forwards: 512 units."""
WORK = 2**23
"""The same times the rows: 8 of them with 512 units, 4 with more."""
EACH = 2**14
"""The same backwards for each row: 16 of them with 256 units; up to 128 rows."""
SMALL = 2**17
"""Numbers in the matrices of a site up to which folding them pays: 128 units and as many inputs."""
ONE = 2**15
"""The same for one row, which `jax.vmap` may make many."""
STEP = 2**12
"""The same for each step that there is, since the matrices are copied once."""
EARLY = jax.__version_info__ < (0, 11)
"""Whether XLA is that of JAX 0.10, which makes the gradients of weights of brief runs and of huge ones so."""
BRIEF = 512
"""Rows of all steps together up to which a run is brief."""
HUGE = 2**22
"""Numbers from which a weight is huge: 1,024 units."""


def turns(rows: int, weights: Sequence[Array]) -> bool:
    """Tells whether the matrices of a site `[N, ...]` are large, and rows few: 4 to 64, and an eighth of the units.

    Of symbolic sizes, as in `jax.export`, it is not known.
    """
    if not _known(rows, weights):
        return False
    few = 4 <= rows <= min(64, math.prod(weights[0].shape[1:]) // 32)
    return few and _numbers(weights) >= max(LARGE, WORK // rows)


def turns_back(rows: int, weights: Sequence[Array]) -> bool:
    """Tells whether it pays to turn the matrices of a site `[N, ...]` in the step backwards."""
    return _known(rows, weights) and rows <= min(128, _numbers(weights) // EACH)


def folds(steps: int, rows: int, weights: Sequence[Array]) -> bool:
    """Tells whether a site multiplies several matrices `[N, ...]`, small ones, in so many steps."""
    if len(weights) < 2 or not _known(rows, weights) or not isinstance(steps, int):
        return False
    return _numbers(weights) <= min(SMALL if rows > 1 else ONE, STEP * steps)


def _known(rows: int, weights: Sequence[Array]) -> bool:
    return all(isinstance(n, int) for n in (rows, *(n for w in weights for n in w.shape)))


def _numbers(weights: Sequence[Array]) -> int:
    return sum(math.prod(w.shape) for w in weights)


def _alike(operands: Sequence[Array], weights: Sequence[Array]) -> bool:
    sides = {(a.shape[:-1], a.dtype) for a in operands}, {(w.shape[1:], w.dtype) for w in weights}
    return all(len(side) == 1 for side in sides)


def on_cpu(request: Request) -> bool:
    """Tells whether products may be rearranged: on CPUs, and where no axis is sharded explicitly."""
    return request.platform == "cpu" and not every_step.apart()


def forwards(params: PyTree, request: Request) -> Product:
    """Gives what multiplies as `product` does, with the leaves of params, in the form that pays.

    To be made outside the scan, so that a matrix is turned once.
    """
    if not on_cpu(request):
        return product
    matrices = [w for w in jax.tree.leaves(params) if w.ndim > 1]
    large = any(_known(0, [w]) and w.size >= LARGE for w in matrices)
    steps = request.xs.shape[0]
    turned = [jax.lax.optimization_barrier(flat(w).T) for w in matrices] if large else []  # unused ones vanish

    def multiply(site: str, *terms: tuple[Array, Array], bias: tuple[Array | None, ...] = ()) -> Array:
        operands, weights = [a for a, _ in terms], [w for _, w in terms]
        places = [next((k for k, w in enumerate(matrices) if w is mine), None) for mine in weights]
        if None in places or not _alike(operands, weights):  # made anew in each step, or broadcast, or cast
            return product(site, *terms, bias=bias)
        left = [turned[k] for k in places if k is not None] if large else []
        single = large and operands[0].ndim == 1 and available() is None
        z = (one_row if single else rows)(steps, operands, weights, left)
        return reduce(jnp.add, (jnp.broadcast_to(b.astype(z.dtype), z.shape) for b in bias if b is not None), z)

    return multiply


def forms(request: Request) -> str | None:
    """Says which form a layer's gates take, as far as shapes tell; None: as they stand."""
    if not on_cpu(request):
        return None
    steps, batch = request.xs.shape[0], math.prod(request.xs.shape[1:-1])
    gates = [w for w in jax.tree.leaves(request.params) if w.ndim > 2]
    recurrent = getattr(request.params, "w_h", None)
    found = []
    if any(turns(batch, [w]) for w in gates):
        found.append("matrices on the left, which are large beside the batch")
    elif folds(steps, batch, gates):
        found.append("small matrices folded into one product")
    if request.mode == "training" and recurrent is not None and turns_back(batch, [recurrent]):
        found.append("matrices on the left in the derivative")
    return ", ".join(found) or None


def flat(weight: Array) -> Array:
    """Gives a weight `[N, ...]` as a matrix."""
    return weight.reshape(weight.shape[0], -1)


def rows(steps: int, operands: list[Array], weights: list[Array], turned: list[Array]) -> Array:
    """Gives the sum of the products of operands `[..., N]` with weights `[N, ...]`, in the form that pays.

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
    """Gives the sum of the products of operands `[..., N]` with weights `[N, ...]`, or `[..., N]` when turned."""
    dtype = checks.cell_dtype(operands[0].dtype)
    dot = partial(jax.lax.dot_general, preferred_element_type=dtype)
    parts = [dot(w, a, (((1,), (a.ndim - 1,)), ((), ()))) for a, w in zip(operands, turned, strict=True)]
    z = jnp.moveaxis(jax.lax.optimization_barrier(reduce(jnp.add, parts)), 0, -1)
    return z.reshape(*z.shape[:-1], *weights[0].shape[1:])


def one_row(steps: int, operands: list[Array], weights: list[Array], turned: list[Array]) -> Array:
    """Gives what `rows` gives of operands `[N]`; it and its transpose take what `jax.vmap` makes of them as a batch."""
    count, own = len(weights), weights[0].shape[1:]
    dtypes = [a.dtype for a in operands]

    def there(given: Sequence[Array], vector: Sequence[Array]) -> list[Array]:
        return [rows(steps, list(vector), list(given[:count]), list(given[count:]))]

    def plain(given: Sequence[Array], vector: Sequence[Array]) -> list[Array]:
        return [product("", *zip(vector, given[:count], strict=True))]

    def back(given: Sequence[Array], cotangents: Sequence[Array]) -> list[Array]:
        batch = cotangents[0].shape[: cotangents[0].ndim - len(own)]
        slopes = cotangents[0].reshape(*batch, math.prod(own))
        moved = [_back(slopes, weight) for weight in given[:count]]
        return [a.astype(dtype) for a, dtype in zip(moved, dtypes, strict=True)]

    axes = Axes((SHARED,) * (count + len(turned)), (0,) * count, (0,))
    return linear(Way(there, plain), Way(back, back), [*weights, *turned], operands, axes)[0]


def _back(slopes: Array, weight: Array) -> Array:
    batch, matrix = slopes.shape[:-1], flat(weight)
    dot = partial(jax.lax.dot_general, preferred_element_type=slopes.dtype)
    if not turns_back(math.prod(batch), [weight]):
        return dot(slopes, matrix, (((len(batch),), (1,)), ((), ())))
    return jnp.moveaxis(jax.lax.optimization_barrier(dot(matrix, slopes, (((1,), (len(batch),)), ((), ())))), 0, -1)


def backwards(*terms: tuple[Array, Array]) -> Array:
    """Gives the sum of products; the transpose of this linear function multiplies by columns where that pays.

    JAX transposes h·W to dz·Wᵀ, and `columns_back` to (W·dzᵀ)ᵀ.
    """
    operands, weights = [a for a, _ in terms], [w for _, w in terms]
    if not _alike(operands, weights) or not turns_back(math.prod(operands[0].shape[:-1]), weights):
        return product("", *terms)
    if operands[0].ndim == 1 and available() is None:
        return one_row(0, operands, weights, [])
    return reduce(jnp.add, map(columns_back, operands, weights))


def columns_back(operand: Array, weight: Array) -> Array:
    """Gives operand · weight, whose transpose by the operand multiplies by columns."""
    dtype = checks.cell_dtype(operand.dtype)
    turned = jax.lax.optimization_barrier(jnp.moveaxis(operand, -1, 0))
    z = jax.lax.dot_general(turned, flat(weight), (((0,), (0,)), ((), ())), preferred_element_type=dtype)
    return z.reshape(*z.shape[:-1], *weight.shape[1:])


def by_tangent_weight(operands: Array, weight: Array) -> Array:
    """Gives the product for all steps at once that is to be differentiated by the weight, in the form that pays."""
    count = math.prod(operands.shape[:-1])
    quicker = EARLY and _known(count, [weight]) and (count <= BRIEF or weight.size >= HUGE)
    if operands.ndim < 3 or not quicker:
        return every_step.by_tangent_weight(operands, weight)
    z = columns_back(operands.reshape(count, operands.shape[-1]), weight)
    return z.reshape(*operands.shape[:-1], *weight.shape[1:])
