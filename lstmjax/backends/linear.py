"""A linear map with its own transpose: the one file that relies on JAX's primitives and their rules.

`jax.custom_vjp` has no jvp, and forms one weight gradient for each example under vmap. `jax.custom_jvp` has every
transform, but no control over the transpose of its tangents; `jax.custom_derivatives.linear_call` has that, and fails
for a gradient of some arguments only, for vmap, and for a second derivative. Here these work too, by a new primitive.
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
"""(residuals, vector) → the image of the vector. It closes over no arrays."""


class Way(NamedTuple):
    """A linear map in one direction: how it is computed, and the same in plain JAX, which every transform takes."""

    fast: Map
    plain: Map


class Axes(NamedTuple):
    """Where a further batch axis stands, for each array of residuals, vector and outputs, or `SHARED`.

    `networks`: whether the fast maps go through `jax.vmap`, as those of several networks with weights of their own do.
    """

    residuals: tuple[int, ...]
    vector: tuple[int, ...]
    outputs: tuple[int, ...]
    networks: bool = False

    @property
    def turned(self) -> Axes:
        """The axes of the transpose."""
        return self._replace(vector=self.outputs, outputs=self.vector)

    def behind(self, residuals: Sequence[bool]) -> Axes:
        """The axes behind a new first one, which the vector, the outputs and some of the residuals have."""

        def shifted(axes: Sequence[int], have_it: Sequence[bool]) -> tuple[int, ...]:
            pairs = zip(axes, have_it, strict=True)
            return tuple(axis + 1 if has_it and axis != SHARED else axis for axis, has_it in pairs)

        vector, outputs = (shifted(axes, [True] * len(axes)) for axes in (self.vector, self.outputs))
        return self._replace(residuals=shifted(self.residuals, residuals), vector=vector, outputs=outputs)


def linear(
    forward: Way,
    adjoint: Way,
    residuals: Sequence[Array],
    vector: Sequence[Array],
    axes: Axes | None = None,
    inside: tuple = (),
) -> list[Array]:
    """Apply a linear map whose transpose is `adjoint` to a vector.

    Args:
        forward: the map, linear in the vector. Derivatives in the vector run it again; those in the residuals are the
            ones of its plain version.
        adjoint: its transpose, (residuals, cotangents of the outputs) → cotangents of the vector. The transpose of that
            is `forward`, and its derivatives are taken likewise.
        residuals: the other arguments of both; they can be differentiated if the plain versions can.
        vector: the arrays in which the map is linear.
        axes: where both accept further batch axes. Under vmap a mapped axis then becomes one of them, and the gradient
            of a shared array is summed within `adjoint`, never formed for each example. Where that is impossible,
            because a shared array is mapped or its gradient is wanted for each example, vmap maps the fast version if
            `axes.networks` allows that, to any depth. Otherwise, for several vectors of the same residuals, and without
            `axes`, it maps the plain version.
        inside: jaxprs of primitives that the fast maps bind and that JAX must know of before it lowers the map.

    Raises:
        RuntimeError: this JAX does not accept the primitive; see `available`.

    Example:
        >>> double = Way(*2 * [lambda residuals, vector: [residuals[0] * vector[0]]])
        >>> thrice = Way(*2 * [lambda residuals, vector: [3 * vector[0]]])  # no transpose of it, to show which one runs
        >>> float(jax.grad(lambda x: linear(double, thrice, [jnp.float32(2)], [x])[0])(jnp.float32(5)))
        3.0
    """
    reason = available()
    if reason is not None:
        raise RuntimeError(f"a linear map with a transpose of its own cannot be made: {reason}")
    arrays = alike(*residuals, *vector)  # so that in shard_map a gradient is summed over the devices
    return primitive().bind(*arrays, forward=forward, adjoint=adjoint, count=len(residuals), axes=axes, inside=inside)


def alike(*arrays: Array) -> list[Array]:
    """Return the arrays; in `shard_map` each varies over all mesh axes that any of them varies over."""
    varying = [jax.typeof(a).manual_axis_type.varying for a in arrays]
    every = sorted(frozenset().union(*varying), key=str)
    missing = [tuple(axis for axis in every if axis not in axes) for axes in varying]
    return [jax.lax.pcast(a, axes, to="varying") if axes else a for a, axes in zip(arrays, missing, strict=True)]


@cache
def available() -> str | None:
    """Return the reason why this JAX cannot serve `linear`, or None. The rules are tried, without compiling."""

    def probe(x: Array) -> Array:
        axes = Axes((0,), (0,), (0,))
        return primitive().bind(*alike(x, x), forward=way, adjoint=way, count=1, axes=axes, inside=())[0].sum()

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
    """Return the primitive with its rules. It binds (*residuals, *vector), flat, and returns a list."""
    from jax.extend.core import Primitive
    from jax.interpreters import ad, batching, mlir

    linear_p = Primitive("lstmjax_linear")
    linear_p.multiple_results = True

    def run(*arrays: Array, forward: Way, adjoint: Way, count: int, axes: Axes | None, inside: tuple) -> list[Array]:
        del adjoint, axes, inside
        return forward.fast(arrays[:count], arrays[count:])

    def shapes(*avals: Any, **options: Any) -> list[Any]:
        return jax.make_jaxpr(partial(run, **options))(*avals).out_avals  # with their shardings and mesh axes

    def jvp(primals: tuple, tangents: tuple, **options: Any) -> tuple[list[Array], list[Array]]:
        forward, count = options["forward"], options["count"]
        varying = [n for n, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]
        if varying[0] >= count:
            directions = map(ad.instantiate_zeros, tangents[count:])
            return linear_p.bind(*primals, **options), linear_p.bind(*primals[:count], *directions, **options)

        def of_varying(*values: Array) -> list[Array]:
            changed = dict(zip(varying, values, strict=True))
            arrays = [changed.get(n, value) for n, value in enumerate(primals)]
            return forward.plain(arrays[:count], arrays[count:])

        return jax.jvp(of_varying, [primals[n] for n in varying], [tangents[n] for n in varying])

    def transpose(
        cotangents: Sequence, *arrays: Any, forward: Way, adjoint: Way, count: int, axes: Axes | None, inside: tuple
    ) -> list:
        residuals, vector = arrays[:count], arrays[count:]
        slopes = map(ad.instantiate_zeros, cotangents)
        results = linear_p.bind(
            *residuals, *slopes, forward=adjoint, adjoint=forward, count=count, axes=axes and axes.turned, inside=inside
        )
        transposed = [slope if ad.is_undefined_primal(a) else None for a, slope in zip(vector, results, strict=True)]
        return [None] * count + transposed

    def batch(
        arrays: Sequence[Array], mapped: Sequence[int | None], **options: Any
    ) -> tuple[list[Array], Sequence[int]]:
        forward, count, axes = options["forward"], options["count"], options["axes"]
        residuals, vector = mapped[:count], mapped[count:]
        size = next(a.shape[n] for a, n in zip(arrays, mapped, strict=True) if n is not None)
        if axes is not None and _folds(axes, residuals, vector):
            placed = map(partial(_placed, size), arrays, mapped, axes.residuals + axes.vector)
            return linear_p.bind(*placed, **options), axes.outputs
        if axes is not None and axes.networks and any(n is not None for n in residuals):
            are_mapped = tuple(n is not None for n in residuals)
            places = [0 if is_mapped else SHARED for is_mapped in are_mapped] + [0] * len(vector)
            placed = map(partial(_placed, size), arrays, mapped, places)
            ways = {name: Way(*(partial(_mapped, way, are_mapped) for way in options[name])) for name in SIDES}
            results = linear_p.bind(*placed, **options | ways | {"axes": axes.behind(are_mapped)})
            return results, [0] * len(results)
        plain = jax.vmap(lambda *arrays: forward.plain(arrays[:count], arrays[count:]), in_axes=tuple(mapped))
        results = plain(*arrays)
        return results, [0] * len(results)

    linear_p.def_impl(run)
    linear_p.def_abstract_eval(shapes)
    mlir.register_lowering(linear_p, mlir.lower_fun(run, multiple_results=True))
    ad.primitive_jvps[linear_p] = jvp
    ad.primitive_transposes[linear_p] = transpose
    batching.primitive_batchers[linear_p] = batch
    return linear_p


SIDES = ("forward", "adjoint")


def _mapped(way: Map, are_mapped: Sequence[bool], residuals: Sequence[Array], vector: Sequence[Array]) -> list[Array]:
    """Apply a map to several vectors at once, each with its residuals; what is mapped is so along its first axis."""
    axes = [0 if is_mapped else None for is_mapped in are_mapped]
    return jax.vmap(lambda residuals, vector: way(residuals, vector), (axes, 0))(list(residuals), list(vector))


def _folds(axes: Axes, residuals: Sequence[int | None], vector: Sequence[int | None]) -> bool:
    """Return whether a mapped axis can become a batch axis: no shared array is mapped or is an output.

    Many vectors for one set of residuals are left to the plain version, for which vmap does not repeat the residuals,
    unless all are shared.
    """
    places = zip(axes.residuals + axes.vector, (*residuals, *vector), strict=True)
    shared_is_mapped = any(axis == SHARED and n is not None for axis, n in places)
    return (
        not shared_is_mapped
        and SHARED not in axes.outputs
        and (set(axes.residuals) == {SHARED} or any(n is not None for n in residuals))
    )


def _placed(size: int, a: Array, mapped: int | None, axis: int) -> Array:
    """Return an array with the mapped axis where a batch axis belongs."""
    if axis == SHARED:
        return a
    if mapped is not None:
        return jnp.moveaxis(a, mapped, axis)
    return jnp.broadcast_to(jnp.expand_dims(a, axis), (*a.shape[:axis], size, *a.shape[axis:]))
