"""One call of the native kernel, forward or backward: one layer in one direction, of one network or of several.

Every array has an axis N of networks in front, each with its weights. Series have time or the batch first:
`[N, T, B, …]` or, `batch_major`, `[N, B, T, …]`. An array that does not exist is `[0]`.
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
from lstmjax.types import Array


class Options(NamedTuple):
    """How a layer is run. Compiled code is cached by it."""

    batch_major: bool = False
    reverse: bool = False
    ring: bool = False  # h has two slots instead of one for each step, for outputs that nobody reads
    saves: bool = False  # c and the gates, for the backward pass
    sums: bool = False  # the pre-activations
    slopes_of_x: bool = False  # backward: whether the slopes of x are wanted
    slopes_of_reset: bool = False  # backward: whether the slopes of the state that resets return to are wanted


class Call(NamedTuple):
    """The arguments of a forward call, in float32; valid and resets are bool `[N, T, B]`."""

    x: Array  # [N, T, B, I]
    z: Array  # [N, T, B, 4, H]  x·W_x + b, computed before; then I is 0
    w_x: Array  # [N, I, 4, H]
    w_h: Array  # [N, H, 4, H]
    b: Array  # [N, 4, H]
    h: Array  # [N, B, H]  initial state
    c: Array  # [N, B, H]
    valid: Array
    resets: Array
    h_reset: Array  # [N, B, H]
    c_reset: Array  # [N, B, H]


class Results(NamedTuple):
    """The results of a forward call; at steps that are not valid the series are zero."""

    h: Array  # [N, T, B, H], or [N, 2, B, H] of a ring
    c: Array  # [N, T, B, H]
    gates: Array  # [N, T, B, 4, H]
    sums: Array  # [N, T, B, 4, H]  pre-activations
    h_end: Array  # [N, B, H]
    c_end: Array  # [N, B, H]


class Back(NamedTuple):
    """The arguments of a backward call: those of the forward call and its results, then cotangents."""

    x: Array
    w_x: Array
    w_h: Array
    h0: Array
    c0: Array
    valid: Array
    resets: Array
    h_reset: Array
    c_reset: Array
    h: Array
    c: Array
    gates: Array
    dh: Array  # [N, T, B, H]  of the series, or absent
    dc: Array
    d_h: Array  # [N, B, H]  of the final state
    d_c: Array


class Slopes(NamedTuple):
    """The results of a backward call: the cotangents of the pre-activations and of what its name says."""

    dz: Array  # [N, T, B, 4, H]
    x: Array
    w_x: Array
    w_h: Array
    b: Array
    h: Array  # of the initial state
    c: Array
    h_reset: Array
    c_reset: Array


def axes_of(options: Options, which: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the axes of the arguments and of the results of a call, a letter each.

    n networks, t steps, b rows (sequences), i inputs, h units, k units of the previous step, g gates, r the slots of a
    ring.
    """
    series = "nbt" if options.batch_major else "ntb"
    weights = ("nigh", "nkgh")
    flags = ("ntb", "ntb", "nbh", "nbh")
    h = "nrbh" if options.ring else series + "h"
    if which == "forward":
        call = (series + "i", series + "gh", *weights, "ngh", "nbh", "nbh", *flags)
        return call, (h, series + "h", series + "gh", series + "gh", "nbh", "nbh")
    saved = (series + "h", series + "h", series + "gh")
    back = (series + "i", *weights, "nbh", "nbh", *flags, *saved, series + "h", series + "h", "nbh", "nbh")
    return back, (series + "gh", series + "i", *weights, "ngh", "nbh", "nbh", "nbh", "nbh")


def absent(dtype: Any = jnp.float32) -> Array:
    """Return what stands for an array that does not exist."""
    return jnp.zeros((0,), dtype)


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
    rows, hidden = call.h.shape[1:]
    saved = [(n, *series, hidden), (n, *series, 4, hidden)] if options.saves else [(0,), (0,)]
    sums = (n, *series, 4, hidden) if options.sums else (0,)
    h = (n, 2, rows, hidden) if options.ring else (n, *series, hidden)
    return [h, *saved, sums, call.h.shape, call.c.shape]


def _backward_shapes(options: Options, back: Back) -> list[tuple[int, ...]]:
    n, hidden, state = back.w_h.shape[0], back.w_h.shape[1], back.h0.shape
    of_reset = [state if options.slopes_of_reset else (0,)] * 2
    of_x = back.x.shape if options.slopes_of_x else (0,)
    return [back.gates.shape, of_x, back.w_x.shape, back.w_h.shape, (n, 4, hidden), state, state, *of_reset]


class Side(NamedTuple):
    """One of the two calls."""

    arguments: Callable[..., Any]  # `Call` or `Back`
    shapes: Callable[[Options, Any], list[tuple[int, ...]]]  # of the results
    plain: Callable[[Options, Any], tuple[Array, ...]]  # the same in plain JAX
    attributes: tuple[str, ...]  # fields of `Options` that the handler takes
    aliases: dict[int, int] | None  # arguments in whose memory results are written


SIDES = {
    "forward": Side(Call, _forward_shapes, native_plain.forward, ("batch_major", "reverse", "ring"), None),
    "backward": Side(
        Back, _backward_shapes, native_plain.backward, ("batch_major", "reverse"), {Back._fields.index("gates"): 0}
    ),
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
        side = SIDES[which]
        return [ShapedArray(shape, jnp.float32) for shape in side.shapes(options, side.arguments(*avals))]

    def plain(*arrays: Array, options: Options, which: str) -> tuple[Array, ...]:
        side = SIDES[which]
        return side.plain(options, side.arguments(*arrays))

    lower_plain = mlir.lower_fun(plain, multiple_results=True)

    def lower(ctx: Any, *arrays: Any, options: Options, which: str) -> Any:
        if getattr(ctx.module_context.lowering_parameters, "for_export", False):
            return lower_plain(ctx, *arrays, options=options, which=which)
        side = SIDES[which]
        lower_call = jax.ffi.ffi_lowering(f"lstmjax_{which}", operand_output_aliases=side.aliases)
        return lower_call(ctx, *arrays, **{name: getattr(options, name) for name in side.attributes})

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
