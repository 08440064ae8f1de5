"""A linear map with a transpose of its own: the one file that leans on JAX's primitives and their rules.

`jax.custom_vjp` has no jvp, and forms one weight gradient for each example under vmap. `jax.custom_jvp` has every
transform, but no say in how its tangents are transposed; `jax.custom_derivatives.linear_call` has, and stops at a
gradient of some arguments only, at vmap, and at a second derivative. Here these work too, on a primitive of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.types import Array

SHARED = -1
"""Among the axes: this array is the same for all examples, as weights are."""

Map = Callable[[Sequence[Array], Sequence[Array]], list[Array]]
"""(residuals, vector) → what the linear map makes of the vector. It closes over no arrays."""


class Way(NamedTuple):
    """A linear map in one direction: how it is computed, and the same in plain JAX, which every transform takes."""

    fast: Map
    plain: Map


class Axes(NamedTuple):
    """Where a further batch axis stands, for each array of residuals, vector and outputs, or `SHARED`."""

    residuals: tuple[int, ...]
    vector: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def turned(self) -> Axes:
        """Those of the transpose."""
        return Axes(self.residuals, self.outputs, self.vector)


def linear(
    there: Way, back: Way, residuals: Sequence[Array], vector: Sequence[Array], axes: Axes | None = None
) -> list[Array]:
    """Gives what a linear map makes of a vector; its transpose is `back`.

    Args:
        there: the map, linear in the vector. Derivatives in the vector run it again; those in the residuals are the
            ones of its plain version.
        back: its transpose, (residuals, cotangents of the outputs) → cotangents of the vector. The transpose of that
            is `there`, and its derivatives are taken likewise.
        residuals: what both depend on otherwise; to be differentiated only if the plain versions know how.
        vector: the arrays in which the map is linear.
        axes: where both take further batch axes. Under vmap a mapped axis then becomes one of them, and a gradient of
            something shared is summed within `back`, never formed for each example. Where that cannot be, because
            something shared is mapped or asked for by example, and without `axes`, vmap takes the plain version.

    Raises:
        RuntimeError: this JAX is unknown to us; see `available`.

    Example:
        >>> double = Way(*2 * [lambda residuals, vector: [residuals[0] * vector[0]]])
        >>> thrice = Way(*2 * [lambda residuals, vector: [3 * vector[0]]])  # no transpose of it, to show which one runs
        >>> float(jax.grad(lambda x: linear(double, thrice, [jnp.float32(2)], [x])[0])(jnp.float32(5)))
        3.0
    """
    reason = available()
    if reason is not None:
        raise RuntimeError(f"a linear map with a transpose of its own cannot be made: {reason}")
    arrays = alike(*residuals, *vector)  # so that in shard_map what a device adds to a gradient is summed over devices
    return primitive().bind(*arrays, there=there, back=back, count=len(residuals), axes=axes)


def alike(*arrays: Array) -> list[Array]:
    """Gives the arrays; in `shard_map` each varies over all mesh axes that one of them varies over."""
    own = [jax.typeof(a).manual_axis_type.varying for a in arrays]
    every = sorted(frozenset().union(*own), key=str)
    missing = [tuple(axis for axis in every if axis not in axes) for axes in own]
    return [jax.lax.pcast(a, axes, to="varying") if axes else a for a, axes in zip(arrays, missing, strict=True)]


@cache
def available() -> str | None:
    """Gives the reason why this JAX cannot serve `linear`, or None. The rules are tried out, without compiling."""

    def probe(x: Array) -> Array:
        return primitive().bind(*alike(x, x), there=way, back=way, count=1, axes=Axes((0,), (0,), (0,)))[0].sum()

    way, xs = Way(_multiplied, _multiplied), jax.ShapeDtypeStruct((2, 3), jnp.float32)
    try:
        jax.eval_shape(jax.grad(lambda xs: jax.vmap(probe)(xs).sum()), xs)
        jax.eval_shape(jax.vmap(jax.grad(lambda x: jax.grad(probe)(x).sum())), xs)
    except Exception as error:  # whatever an unknown JAX may raise
        return f"JAX {jax.__version__} does not take our primitive ({type(error).__name__}: {error})."
    return None


def _multiplied(residuals: Sequence[Array], vector: Sequence[Array]) -> list[Array]:
    return [residuals[0] * vector[0]]


@cache
def primitive() -> Any:
    """Gives the primitive, with its rules. It binds (*residuals, *vector), flat, and gives a list."""
    from jax.extend.core import Primitive
    from jax.interpreters import ad, batching, mlir

    linear_p = Primitive("lstmjax_linear")
    linear_p.multiple_results = True

    def run(*arrays: Array, there: Way, back: Way, count: int, axes: Axes | None) -> list[Array]:
        del back, axes
        return there.fast(arrays[:count], arrays[count:])

    def shapes(*avals: Any, **how: Any) -> list[Any]:
        return jax.make_jaxpr(partial(run, **how))(*avals).out_avals  # with their shardings and mesh axes

    def jvp(primals: tuple, tangents: tuple, **how: Any) -> tuple[list[Array], list[Array]]:
        there, count = how["there"], how["count"]
        moved = [n for n, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]
        if moved[0] >= count:
            directions = map(ad.instantiate_zeros, tangents[count:])
            return linear_p.bind(*primals, **how), linear_p.bind(*primals[:count], *directions, **how)

        def of_moved(*values: Array) -> list[Array]:
            now = dict(zip(moved, values, strict=True))
            every = [now.get(n, value) for n, value in enumerate(primals)]
            return there.plain(every[:count], every[count:])

        return jax.jvp(of_moved, [primals[n] for n in moved], [tangents[n] for n in moved])

    def transpose(cotangents: Sequence, *arrays: Any, there: Way, back: Way, count: int, axes: Axes | None) -> list:
        residuals, vector = arrays[:count], arrays[count:]
        asked = tuple(n for n, a in enumerate(vector) if ad.is_undefined_primal(a))
        if len(asked) < len(vector):
            blank = tuple((getattr(a, "aval", a).shape, getattr(a, "aval", a).dtype) for a in vector)
            there = Way(*(partial(_filled, way, asked, blank) for way in there))
            back = Way(*(partial(_chosen, way, asked) for way in back))
            axes = axes and axes._replace(vector=tuple(axes.vector[n] for n in asked))
        given = map(ad.instantiate_zeros, cotangents)
        found = linear_p.bind(*residuals, *given, there=back, back=there, count=count, axes=axes and axes.turned)
        every = dict(zip(asked, found, strict=True))
        return [None] * count + [every.get(n) for n in range(len(vector))]

    def batch(arrays: Sequence[Array], mapped: Sequence[int | None], **how: Any) -> tuple[list[Array], Sequence[int]]:
        there, count, axes = how["there"], how["count"], how["axes"]
        if axes is not None and _folds(axes, mapped[:count], mapped[count:]):
            size = next(a.shape[n] for a, n in zip(arrays, mapped, strict=True) if n is not None)
            placed = map(partial(_placed, size), arrays, mapped, axes.residuals + axes.vector)
            return linear_p.bind(*placed, **how), axes.outputs
        plain = jax.vmap(lambda *arrays: there.plain(arrays[:count], arrays[count:]), in_axes=tuple(mapped))
        found = plain(*arrays)
        return found, [0] * len(found)

    linear_p.def_impl(run)
    linear_p.def_abstract_eval(shapes)
    mlir.register_lowering(linear_p, mlir.lower_fun(run, multiple_results=True))
    ad.primitive_jvps[linear_p] = jvp
    ad.primitive_transposes[linear_p] = transpose
    batching.primitive_batchers[linear_p] = batch
    return linear_p


def _chosen(way: Map, asked: tuple[int, ...], residuals: Sequence[Array], vector: Sequence[Array]) -> list[Array]:
    """A map of which only some outputs are asked for."""
    outputs = way(residuals, vector)
    return [outputs[n] for n in asked]


def _filled(way: Map, asked: tuple[int, ...], blank: tuple, residuals: Sequence, vector: Sequence) -> list[Array]:
    """The transpose of that: a map of which only some inputs are given, and the others are zero."""
    given = dict(zip(asked, vector, strict=True))
    return way(residuals, [given[n] if n in given else jnp.zeros(*shape) for n, shape in enumerate(blank)])


def _folds(axes: Axes, residuals: Sequence[int | None], vector: Sequence[int | None]) -> bool:
    """Tells whether a mapped axis can become a batch axis: nothing that is shared is mapped or comes out.

    Many vectors for one set of residuals are left to vmap, which does not repeat the residuals, unless all are shared.
    """
    places = zip(axes.residuals + axes.vector, (*residuals, *vector), strict=True)
    apart = any(axis == SHARED and n is not None for axis, n in places)
    return (
        not apart
        and SHARED not in axes.outputs
        and (set(axes.residuals) == {SHARED} or any(n is not None for n in residuals))
    )


def _placed(size: int, a: Array, mapped: int | None, axis: int) -> Array:
    """The array with the mapped axis where a batch axis belongs."""
    if axis == SHARED:
        return a
    if mapped is not None:
        return jnp.moveaxis(a, mapped, axis)
    return jnp.broadcast_to(jnp.expand_dims(a, axis), (*a.shape[:axis], size, *a.shape[axis:]))
