"""The arrays of the native kernel's two calls: their names, axes and order, which Python and the library must agree on.

Every array has an axis N of networks in front, each with its weights. Series have time or the batch first:
`[N, T, B, …]` or, `batch_major`, `[N, B, T, …]`. An array that does not exist is `[0]`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from lstmjax.types import Array

REVISION = 1
"""Raise it when an array or an option gets another meaning, or a function of native/stream.h other arguments.

The library is built with this number, and one with another number is not used. Names, axes and order are compared
without it. CMakeLists.txt reads this line."""


TICKET = 3
"""Numbers of a ticket, by which the library finds what it keeps of a network; see native/memory.h."""

NOT_SAVED = -1.0
"""As the gates of a network: they and c are not in these arrays."""


class Options(NamedTuple):
    """How a layer is run. Compiled code is cached by it."""

    batch_major: bool = False
    reverse: bool = False
    ring: bool = False  # h has two slots instead of one for each step, for outputs that nobody reads
    saves: bool = False  # c and the gates
    for_backward: bool = False  # they are saved for the backward pass alone
    keeps: bool = False  # they stay in the library, forward, or are taken from there, backward
    sums: bool = False  # the pre-activations
    slopes_of_x: bool = False  # backward: whether the slopes of x are wanted
    slopes_of_reset: bool = False  # backward: whether the slopes of the state that resets return to are wanted


class Call(NamedTuple):
    """The arguments of a forward call, in float32; valid and resets are bool `[N, T, B]`."""

    x: Array  # [N, T, B, I], or [1, T, B, I]: all networks read the same
    z: Array  # [N, T, B, 4, H]  x·W_x + b, computed before; then I is 0
    w_x: Array  # [N, I, 4, H]
    w_h: Array  # [N, H, 4, H]
    b: Array  # [N, 4, H]
    h0: Array  # [N, B, H]  initial state
    c0: Array  # [N, B, H]
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
    ticket: Array  # [N, 3]  of what the library keeps; 0: nothing


class Back(NamedTuple):
    """The arguments of a backward call: those of the forward call and its results, then cotangents."""

    x: Array
    w_x: Array
    w_h: Array
    b: Array
    h0: Array
    c0: Array
    valid: Array
    resets: Array
    h_reset: Array
    c_reset: Array
    h: Array
    c: Array  # absent, or NOT_SAVED in all gates of a network: computed again, or taken from where they are kept
    gates: Array
    ticket: Array
    dh: Array  # [N, T, B, H]  of the series, or absent
    dc: Array
    d_h: Array  # [N, B, H]  of the final state
    d_c: Array


class Slopes(NamedTuple):
    """The results of a backward call: the cotangents of the pre-activations and of the arguments."""

    dz: Array  # [N, T, B, 4, H]
    dx: Array
    dw_x: Array
    dw_h: Array
    db: Array
    dh0: Array
    dc0: Array
    dh_reset: Array
    dc_reset: Array


OPTIONS = "batch_major", "reverse", "ring"
"""The fields of `Options` that the handlers take."""


class Side(NamedTuple):
    """What one of the two calls takes and returns."""

    arguments: type[Call | Back]
    axes: str  # of the arguments
    results: type[Results | Slopes]
    result_axes: str


SIDES = {
    "forward": Side(
        Call, "msi nsgh? nigh nkgh ngh nbh nbh ntb? ntb? nbh? nbh?", Results, "nrh nsh? nsgh? nsgh? nbh nbh nq?"
    ),
    "backward": Side(
        Back,
        "msi nigh nkgh ngh nbh nbh ntb? ntb? nbh? nbh? nsh nsh? nsgh? nq nsh? nsh? nbh nbh",
        Slopes,
        "nsgh? nsi? nigh nkgh ngh nbh nbh nbh? nbh?",
    ),
}
"""Axes: n networks, t steps, b rows (sequences), i inputs, h units, k units of the previous step, g gates.

m stands for n, or 1 where all networks read the same, s for t and b in the order of `batch_major`, r for these or the
slots of a ring and b, q for the numbers of a ticket. "?": an array that may be absent."""


def axes_of(options: Options, which: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the axes of the arguments and of the results of a call, a letter each; r is the slots of a ring."""
    series = "bt" if options.batch_major else "tb"

    def letters(axes: str) -> tuple[str, ...]:
        axes = axes.replace("r", "rb" if options.ring else series)
        return tuple(axes.replace("s", series).replace("?", "").split())

    return letters(SIDES[which].axes), letters(SIDES[which].result_axes)


def interface() -> str:
    """Return the text that a library of these sources has for what its handlers take and return."""
    words = [str(REVISION), *OPTIONS]
    for which, side in SIDES.items():
        words.append(which)
        for names, axes in ((side.arguments._fields, side.axes), (side.results._fields, side.result_axes)):
            words += [f"{name}:{letters}" for name, letters in zip(names, axes.split(), strict=True)]
    return " ".join(words)


def absent(dtype: Any = jnp.float32) -> Array:
    """Return what stands for an array that does not exist."""
    return jnp.zeros((0,), dtype)
