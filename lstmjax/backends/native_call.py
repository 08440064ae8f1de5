"""One call of the native kernel, forward or backward: one layer in one direction, of one network or of several.

`native_arrays` lists what the calls take and return.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from lstmjax.backends import native_plain, native_sharding
from lstmjax.backends.linear import alike
from lstmjax.backends.native_arrays import (
    NOT_SAVED,
    OPTIONS,
    SIDES,
    TICKET,
    Back,
    Call,
    Options,
    Results,
    Slopes,
    absent,
    axes_of,
)
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
    series, (n, rows, hidden) = call.x.shape[1:3], call.h0.shape
    here = options.saves and not options.keeps
    saved = [(n, *series, hidden), (n, *series, 4, hidden)] if here else [(0,), (0,)]
    sums = (n, *series, 4, hidden) if options.sums else (0,)
    h = (n, 2, rows, hidden) if options.ring else (n, *series, hidden)
    return [h, *saved, sums, call.h0.shape, call.c0.shape, (n, TICKET) if options.keeps else (0,)]


def _backward_shapes(options: Options, back: Back) -> list[tuple[int, ...]]:
    n, hidden, state = back.w_h.shape[0], back.w_h.shape[1], back.h0.shape
    of_reset = [state if options.slopes_of_reset else (0,)] * 2
    of_x = (n, *back.x.shape[1:]) if options.slopes_of_x else (0,)
    return [back.gates.shape, of_x, back.w_x.shape, back.w_h.shape, (n, 4, hidden), state, state, *of_reset]


class Lowered(NamedTuple):
    """How one of the two calls is lowered."""

    shapes: Callable[[Options, Any], list[tuple[int, ...]]]  # of the results
    plain: Callable[[Options, Any], tuple[Array, ...]]  # the same in plain JAX
    aliases: dict[int, int]  # arguments in whose memory results are written, where they exist


LOWERED = {
    "forward": Lowered(_forward_shapes, native_plain.forward, {}),
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

    def compiled(*arrays: Array, options: Options, which: str) -> tuple[Array, ...]:
        with jax.disable_jit(False):  # a call cannot be run step by step; run_compiled would come back here without end
            return run_compiled(options, which, *arrays)

    lower_plain = mlir.lower_fun(plain, multiple_results=True)

    def lower(ctx: Any, *arrays: Any, options: Options, which: str) -> Any:
        if getattr(ctx.module_context.lowering_parameters, "for_export", False):
            return lower_plain(ctx, *arrays, options=options, which=which)
        aliases = {n: to for n, to in LOWERED[which].aliases.items() if ctx.avals_in[n].ndim > 1}
        lower_call = jax.ffi.ffi_lowering(f"lstmjax_{which}", operand_output_aliases=aliases)
        return lower_call(ctx, *arrays, **{name: getattr(options, name) for name in OPTIONS})

    call_p.def_abstract_eval(shapes)
    call_p.def_impl(compiled)
    mlir.register_lowering(call_p, lower_plain)
    mlir.register_lowering(call_p, lower, platform="cpu")
    return call_p


def _run(options: Options, which: str, *arrays: Array) -> tuple[Array, ...]:
    return tuple(primitive().bind(*arrays, options=options, which=which))


run_compiled = jax.jit(_run, static_argnums=(0, 1))
"""A call outside of any transform: (options, "forward" or "backward", *arrays) → results."""


LARGE = 2**23
"""From how many bytes on what many networks save stays in the library; smaller results get memory that serves again."""
MOST = 2**28
"""Up to how many it is. The library keeps 2^29 (native/memory.cc), and what two layers save finds room there."""
MANY = 8
"""From how many networks on: then each is run by one thread to its end."""


def keeps(options: Options, size: int, call: Call) -> bool:
    """Return whether what `size` calls with weights of their own save for the backward pass stays in the library.

    Otherwise it is a result of the call, for which the system clears memory in each call: for 64 networks of 32 units
    that was a fifth of the time of a gradient.
    """
    networks = size * call.h0.shape[0]
    if options.keeps or not options.for_backward or native_plain.exists(call.z) or networks < MANY:
        return False
    saved = 20 * networks * math.prod(call.x.shape[1:3]) * call.h0.shape[-1]
    return LARGE <= saved <= MOST and jax.local_device_count("cpu") == 1  # nothing is split over devices


@cache
def _mappable(options: Options, which: str) -> Callable[..., tuple[Array, ...]]:
    """Return a call that vmap can map, as a function of its arrays."""
    axes, result_axes = axes_of(options, which)
    run = partial(_run, options, which)
    h0 = SIDES[which].arguments._fields.index("h0")

    @custom_vmap
    def call(*arrays: Array) -> tuple[Array, ...]:
        is_split = native_sharding.is_split()
        pairs = zip(arrays, axes, strict=True)
        inside = [letters if a.shape[0] == 1 else letters.replace("m", "n") for a, letters in pairs]
        if 0 in arrays[h0].shape[:2]:  # of no networks or no rows, as under vmap over none; sums of nothing are zero
            shapes = LOWERED[which].shapes(options, SIDES[which].arguments(*arrays))
            outputs = tuple(jnp.zeros(shape, jnp.float32) for shape in shapes)
        else:
            outputs = native_sharding.split(run, inside, result_axes, arrays) if is_split else run(*arrays)
        if which == "forward" and options.saves and not options.keeps:  # a ticket for nothing
            outputs = (*outputs[:-1], jnp.zeros((outputs[-2].shape[0], TICKET), jnp.float32))
        if is_split:
            return outputs
        return tuple(alike(*arrays, *outputs)[len(arrays) :])  # in shard_map they vary over the same mesh axes

    @call.def_vmap
    def _(size: int, mapped: Sequence[bool], *arrays: Array) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        # Examples become rows of one batch. Networks become more networks; and so do examples whose gradients of the
        # weights are wanted one by one.
        own_weights = any(is_mapped for is_mapped, letters in zip(mapped, axes, strict=True) if "b" not in letters)
        into = "n" if own_weights or which == "backward" else "b"
        side = SIDES[which]
        one: list[Any] = [
            jax.ShapeDtypeStruct(a.shape[is_mapped:], a.dtype) for a, is_mapped in zip(arrays, mapped, strict=True)
        ]
        inner = call
        if which == "forward":
            keeping = into == "n" and keeps(options, size, Call(*one))
        else:
            # Outputs of their own, but the same gates for all: those that stand for what is kept.
            by_name = dict(zip(side.arguments._fields, mapped, strict=True))
            keeping = by_name["h"] and not by_name["gates"] and not options.keeps
            if keeping:
                arrays = Back(*arrays)._replace(c=absent(), gates=absent())
        if keeping:
            inner = _mappable(options._replace(keeps=True), which)
        networks, rows, _ = one[h0].shape
        joined = [_joined(size, *each, into, networks) for each in zip(arrays, mapped, axes, strict=True)]
        outputs, are_mapped = [], []
        shapes = LOWERED[which].shapes(options, side.arguments(*one))
        for a, letters, shape in zip(inner(*joined), result_axes, shapes, strict=True):
            are_mapped.append(a.ndim > 1 and into in letters)
            if are_mapped[-1]:
                a = _parted((size, networks if into == "n" else rows), a, letters.index(into))
            elif a.ndim == 1 and len(shape) > 1:
                a = jnp.full(shape, NOT_SAVED)
            outputs.append(a)
        return tuple(outputs), tuple(are_mapped)

    return call


def _joined(size: int, a: Array, is_mapped: bool, letters: str, into: str, networks: int) -> Array:
    """Return an array with the mapped axis, the first, as a part of the axis `into`.

    What all networks read stays a single array, unless other networks read another.
    """
    if "m" in letters:
        letters = letters.replace("m", "n")
        is_one = a.shape[is_mapped] == 1
        if into == "n" and is_one and not is_mapped:
            return a
        if into == "n" and is_one and networks > 1:
            a = jnp.broadcast_to(a, (size, networks, *a.shape[2:]))
    if not is_mapped and (a.ndim == 1 or into not in letters):  # absent, or the same for all
        return a
    a = a if is_mapped else jnp.broadcast_to(a, (size, *a.shape))
    place = letters.index(into)
    a = jnp.moveaxis(a, 0, place)
    together = a.shape[place] * a.shape[place + 1]  # -1 is not known where x·W_x is computed before, and I is 0
    return a.reshape(*a.shape[:place], together, *a.shape[place + 2 :])


def _parted(sizes: tuple[int, int], a: Array, place: int) -> Array:
    """Return an array with the mapped axis in front again, the reverse of `_joined`."""
    return jnp.moveaxis(a.reshape(*a.shape[:place], *sizes, *a.shape[place + 1 :]), place, 0)
