"""One call of the native kernel, forward or backward: one layer in one direction, of one network or of several.

`native_arrays` lists what the calls take and return.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from lstmjax.backends import native_plain, native_sharding
from lstmjax.backends.linear import alike
from lstmjax.backends.native_arrays import SIDES, Back, Call, Options, Results, Slopes, axes_of
from lstmjax.types import Array


def forward(options: Options, call: Call) -> Results:
    """Run the kernel forwards.

    Under vmap examples become one larger batch, and networks with weights of their own more networks of the same call.
    """
    return Results(*_mappable(options, "forward")(*call))


def backward(options: Options, back: Back) -> Slopes:
    """Run the kernel backwards."""
    return Slopes(*_mappable(options, "backward")(*back))


def _forward_shapes(options: Options, call: Call) -> list[tuple[int, ...]]:
    n, *series, _ = call.x.shape
    rows, hidden = call.h0.shape[1:]
    saved = [(n, *series, hidden), (n, *series, 4, hidden)] if options.saves else [(0,), (0,)]
    sums = (n, *series, 4, hidden) if options.sums else (0,)
    h = (n, 2, rows, hidden) if options.ring else (n, *series, hidden)
    return [h, *saved, sums, call.h0.shape, call.c0.shape]


def _backward_shapes(options: Options, back: Back) -> list[tuple[int, ...]]:
    n, hidden, state = back.w_h.shape[0], back.w_h.shape[1], back.h0.shape
    of_reset = [state if options.slopes_of_reset else (0,)] * 2
    of_x = back.x.shape if options.slopes_of_x else (0,)
    return [back.gates.shape, of_x, back.w_x.shape, back.w_h.shape, (n, 4, hidden), state, state, *of_reset]


class Lowered(NamedTuple):
    """How one of the two calls is lowered."""

    shapes: Callable[[Options, Any], list[tuple[int, ...]]]  # of the results
    plain: Callable[[Options, Any], tuple[Array, ...]]  # the same in plain JAX
    aliases: dict[int, int] | None  # arguments in whose memory results are written


LOWERED = {
    "forward": Lowered(_forward_shapes, native_plain.forward, None),
    "backward": Lowered(_backward_shapes, native_plain.backward, {Back._fields.index("gates"): 0}),
}


@cache
def primitive() -> Any:
    """Return the primitive of a call.

    It is lowered to the library's handler on a CPU, and to plain JAX for other platforms and in `jax.export`, whose
    programs run where the kernel may not be.
    """
    from jax.core import ShapedArray
    from jax.extend.core import Primitive
    from jax.interpreters import mlir

    call_p = Primitive("lstmjax_native")
    call_p.multiple_results = True

    def shapes(*avals: Any, options: Options, which: str) -> list[Any]:
        shapes_of = LOWERED[which].shapes
        return [ShapedArray(shape, jnp.float32) for shape in shapes_of(options, SIDES[which].arguments(*avals))]

    def plain(*arrays: Array, options: Options, which: str) -> tuple[Array, ...]:
        return LOWERED[which].plain(options, SIDES[which].arguments(*arrays))

    lower_plain = mlir.lower_fun(plain, multiple_results=True)

    def lower(ctx: Any, *arrays: Any, options: Options, which: str) -> Any:
        if getattr(ctx.module_context.lowering_parameters, "for_export", False):
            return lower_plain(ctx, *arrays, options=options, which=which)
        lower_call = jax.ffi.ffi_lowering(f"lstmjax_{which}", operand_output_aliases=LOWERED[which].aliases)
        return lower_call(ctx, *arrays, **{name: getattr(options, name) for name in SIDES[which].options})

    call_p.def_abstract_eval(shapes)
    call_p.def_impl(lambda *arrays, options, which: run_compiled(options, which, *arrays))
    mlir.register_lowering(call_p, lower_plain)
    mlir.register_lowering(call_p, lower, platform="cpu")
    return call_p


def _run(options: Options, which: str, *arrays: Array) -> tuple[Array, ...]:
    return tuple(primitive().bind(*arrays, options=options, which=which))


run_compiled = jax.jit(_run, static_argnums=(0, 1))
"""A call outside of any transform: (options, "forward" or "backward", *arrays) → results."""


@cache
def _mappable(options: Options, which: str) -> Callable[..., tuple[Array, ...]]:
    """Return a call that vmap can map, as a function of its arrays."""
    axes, result_axes = axes_of(options, which)
    run = partial(_run, options, which)

    @custom_vmap
    def call(*arrays: Array) -> tuple[Array, ...]:
        if jax.local_device_count("cpu") > 1 and not jax.sharding.get_abstract_mesh().manual_axes:
            return native_sharding.split(run, axes, result_axes, arrays)
        outputs = run(*arrays)
        return tuple(alike(*arrays, *outputs)[len(arrays) :])  # in shard_map they vary over the same mesh axes

    @call.def_vmap
    def _(size: int, mapped: Sequence[bool], *arrays: Array) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        # Examples become rows of one batch. Networks become more networks; and so do examples whose gradients of the
        # weights are wanted one by one.
        own_weights = any(is_mapped for is_mapped, letters in zip(mapped, axes, strict=True) if "b" not in letters)
        into = "n" if own_weights or which == "backward" else "b"
        joined = []
        for a, is_mapped, letters in zip(arrays, mapped, axes, strict=True):
            if not is_mapped and (a.ndim == 1 or into not in letters):  # absent, or the same for all
                joined.append(a)
                continue
            a = a if is_mapped else jnp.broadcast_to(a, (size, *a.shape))
            place = letters.index(into)
            a = jnp.moveaxis(a, 0, place)
            joined.append(a.reshape(*a.shape[:place], -1, *a.shape[place + 2 :]))
        outputs = []
        for a, letters in zip(call(*joined), result_axes, strict=True):
            if a.ndim == 1:
                outputs.append(a)
                continue
            place = letters.index(into)
            a = a.reshape(*a.shape[:place], size, a.shape[place] // size, *a.shape[place + 1 :])
            outputs.append(jnp.moveaxis(a, place, 0))
        return tuple(outputs), tuple(native_plain.exists(a) for a in outputs)

    return call
