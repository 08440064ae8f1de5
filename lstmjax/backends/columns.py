"""The products of a step on a CPU, with the weights on the left.

A step multiplies a few rows, the batch, by a large matrix. XLA's products on CPUs run the faster the more rows the left
side has, and here that is the right one: with 512 units and more, z = (Wᵀ·hᵀ)ᵀ takes 0.3 to 0.9 of the time of h·W
(`benchmarks/columns.py`). The compiler would make h·W of it again; a barrier keeps it.
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

Terms = tuple[tuple[Array, Array], ...]

LARGE = 2**20
"""Numbers in the matrices of a site from which turning them pays: 512 units."""


def pays(rows: int, weights: Sequence[Array]) -> bool:
    """Tells whether the matrices of a site `[N, ...]` are large, and rows few: 64, and an eighth of the units.

    Of symbolic sizes, as in `jax.export`, it is not known.
    """
    sizes = rows, *(n for w in weights for n in w.shape)
    if not all(isinstance(n, int) for n in sizes):
        return False
    few = rows <= 64 and 32 * rows <= math.prod(weights[0].shape[1:])
    return few and sum(math.prod(w.shape) for w in weights) >= LARGE


def on_cpu(asked: Request) -> bool:
    """Tells whether products may be turned: on CPUs, and where no axis is sharded explicitly."""
    return asked.platform == "cpu" and not jax.sharding.get_abstract_mesh().explicit_axes


def by_columns(params: PyTree, asked: Request) -> Product:
    """Gives what multiplies as `product` does, with the leaves of params turned where that pays.

    To be made outside the scan, so that a matrix is turned once.
    """
    matrices = [w for w in jax.tree.leaves(params) if w.ndim > 1]
    if not on_cpu(asked) or not any(pays(0, [w]) for w in matrices):
        return product
    turned = [jax.lax.optimization_barrier(flat(w).T) for w in matrices]  # those that no site uses vanish

    def multiply(site: str, *terms: tuple[Array, Array], bias: tuple[Array | None, ...] = ()) -> Array:
        operands, weights = [a for a, _ in terms], [w for _, w in terms]
        places = [next((k for k, w in enumerate(matrices) if w is mine), None) for mine in weights]
        rows = math.prod(operands[0].shape[:-1])
        if None in places or not pays(rows, weights) or operands[0].shape[:-1] == (1,):
            return product(site, *terms, bias=bias)
        form = one_row if operands[0].ndim == 1 else columns
        z = form(operands, weights, [turned[k] for k in places if k is not None])
        return reduce(jnp.add, (jnp.broadcast_to(b.astype(z.dtype), z.shape) for b in bias if b is not None), z)

    return multiply


def flat(weight: Array) -> Array:
    """Gives a weight `[N, ...]` as a matrix."""
    return weight.reshape(weight.shape[0], -1)


def columns(operands: list[Array], weights: list[Array], turned: list[Array]) -> Array:
    """Gives the sum of the products of operands `[..., N]` with weights `[N, ...]`, or `[..., N]` when turned."""
    dtype = checks.cell_dtype(operands[0].dtype)
    dot = partial(jax.lax.dot_general, preferred_element_type=dtype)
    parts = [dot(w, a, (((1,), (a.ndim - 1,)), ((), ()))) for a, w in zip(operands, turned, strict=True)]
    z = jnp.moveaxis(jax.lax.optimization_barrier(reduce(jnp.add, parts)), 0, -1)
    return z.reshape(*z.shape[:-1], *weights[0].shape[1:])


@jax.custom_jvp
def one_row(operands: list[Array], weights: list[Array], turned: list[Array]) -> Array:
    """Gives what `columns` gives of operands `[N]`: as they stand, or by columns if `jax.vmap` makes them a batch."""
    return _one_row(operands, weights, turned)


@one_row.defjvp
def _moved(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (operands, weights, _), (moved, pushed, _) = primals, tangents
    pairs = [*zip(moved, weights, strict=True), *zip(operands, pushed, strict=True)]
    return one_row(*primals), product("", *pairs)


@jax.custom_batching.custom_vmap
def _one_row(operands: list[Array], weights: list[Array], turned: list[Array]) -> Array:
    return product("", *zip(operands, weights, strict=True))


@_one_row.def_vmap
def _rows(
    size: int, mapped: list, operands: list[Array], weights: list[Array], turned: list[Array]
) -> tuple[Array, bool]:
    if all(mapped[0]) and not any(mapped[1]) and pays(size, weights) and size > 1:
        return columns(operands, weights, turned), True
    axes = jax.tree.map(lambda m: 0 if m else None, mapped[:2])
    return jax.vmap(lambda a, w: product("", *zip(a, w, strict=True)), tuple(axes))(operands, weights), True


def by_columns_backwards(*terms: tuple[Array, Array]) -> Array:
    """Gives the sum of products; the transpose of this linear function multiplies by columns where that pays.

    JAX transposes h·W to dz·Wᵀ, and `columns_back` to (W·dzᵀ)ᵀ.
    """
    operands, weights = [a for a, _ in terms], [w for _, w in terms]
    if not pays(math.prod(operands[0].shape[:-1]), weights):
        return product("", *terms)
    back = _back_of_one if operands[0].ndim == 1 and available() is None else columns_back
    return reduce(jnp.add, map(back, operands, weights))


def columns_back(operand: Array, weight: Array) -> Array:
    """Gives operand · weight, whose transpose by the operand multiplies by columns."""
    dtype = checks.cell_dtype(operand.dtype)
    turned = jax.lax.optimization_barrier(jnp.moveaxis(operand, -1, 0))
    z = jax.lax.dot_general(turned, flat(weight), (((0,), (0,)), ((), ())), preferred_element_type=dtype)
    return z.reshape(*z.shape[:-1], *weight.shape[1:])


def _back_of_one(operand: Array, weight: Array) -> Array:
    """Gives the product of one row; its transpose is that of many if `jax.vmap` makes it many."""
    dtype, own = operand.dtype, weight.ndim - 1

    def there(weights: Sequence[Array], operands: Sequence[Array]) -> list[Array]:
        return [product("", *zip(operands, weights, strict=True))]

    def back(weights: Sequence[Array], cotangents: Sequence[Array]) -> list[Array]:
        batch, matrix = cotangents[0].shape[:-own], flat(weights[0])
        slopes = cotangents[0].reshape(*batch, -1)
        dot = partial(jax.lax.dot_general, preferred_element_type=slopes.dtype)
        along = len(batch)
        if not pays(math.prod(batch), weights):
            return [dot(slopes, matrix, (((along,), (1,)), ((), ()))).astype(dtype)]
        moved = jax.lax.optimization_barrier(dot(matrix, slopes, (((1,), (along,)), ((), ()))))
        return [jnp.moveaxis(moved, 0, -1).astype(dtype)]

    return linear(Way(there, there), Way(back, back), [weight], [operand], Axes((SHARED,), (0,), (0,)))[0]
