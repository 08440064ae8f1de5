"""The native kernel's two calls in plain JAX, for programs that are lowered where the kernel is not.

`jax.export` lowers on a CPU for other platforms, and for processes that may not have the kernel.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.backends.native_arrays import NOT_SAVED, TICKET, Call
from lstmjax.types import Array


def exists(a: Array) -> bool:
    """Return whether an argument exists."""
    return a.ndim != 1


def forward(options: Any, call: Any) -> tuple[Array, ...]:
    """Return the `Results` of a `Call`; a ring, which nobody reads, is zero."""
    call = _with_own_x(call)
    series = jax.tree.map(lambda a: _steps_first(options, a), (call.x, call.z))
    flags = jax.tree.map(_flags_first, (call.valid, call.resets))
    resets = call.h_reset, call.c_reset

    def step(state: tuple[Array, Array], inputs: tuple) -> tuple[tuple[Array, Array], tuple]:
        (x, added), (valid, reset) = inputs
        h, c = before(state, reset, resets)
        z = _product("nbi,nigh->nbgh", x, call.w_x) + _product("nbk,nkgh->nbgh", h, call.w_h) + call.b[:, None]
        z = z if added is None else z + added
        i, f, g, o = (
            jax.nn.sigmoid(z[:, :, 0]),
            jax.nn.sigmoid(z[:, :, 1]),
            jnp.tanh(z[:, :, 2]),
            jax.nn.sigmoid(z[:, :, 3]),
        )
        c = f * c + i * g
        h = o * jnp.tanh(c)
        series = h, c, jnp.stack([i, f, g, o], 2), z
        if valid is None:
            return (h, c), series
        return where(valid, (h, c), state), where(valid, series, jax.tree.map(jnp.zeros_like, series))

    start = call.h0, call.c0
    (h_end, c_end), results = jax.lax.scan(step, start, (series, flags), reverse=options.reverse)
    h, c, gates, sums = (_as_given(options, a) for a in results)
    n, rows, hidden = call.h0.shape
    if options.ring:
        h = jnp.zeros((n, 2, rows, hidden), h.dtype)
    none = jnp.zeros((0,), h.dtype)
    c, gates = (c, gates) if options.saves and not options.keeps else (none, none)
    ticket = jnp.zeros((n, TICKET), h.dtype) if options.keeps else none  # for nothing: all is computed again
    return h, c, gates, sums if options.sums else none, h_end, c_end, ticket


def backward(options: Any, back: Any) -> tuple[Array, ...]:
    """Return the `Slopes` of a `Back`: backpropagation through time, from what the forward call saved."""
    back = _with_own_x(back)
    slopes_of_z = exists(back.gates)
    back = _with_saved(options, back)
    x, h, c, gates = (_moved(options, a) for a in (back.x, back.h, back.c, back.gates))
    dh, dc = _steps_first(options, back.dh), _steps_first(options, back.dc)
    valid, reset = _flags_first(back.valid), _flags_first(back.resets)
    resets = back.h_reset, back.c_reset

    def held(state: tuple, inputs: tuple) -> tuple[tuple, tuple]:
        h, c, valid, reset = inputs
        return (h, c) if valid is None else where(valid, (h, c), state), before(state, reset, resets)

    start = back.h0, back.c0
    _, (h_before, c_before) = jax.lax.scan(held, start, (h, c, valid, reset), reverse=options.reverse)

    def step(carry: tuple, inputs: tuple) -> tuple[tuple, Array]:
        slopes, of_reset = carry
        c, c_before, gates, dh, dc, valid, reset = inputs
        i, f, g, o = (gates[:, :, k] for k in range(4))
        squashed = jnp.tanh(c)
        of_h = slopes[0] if dh is None else slopes[0] + dh
        of_c = slopes[1] + of_h * o * (1 - squashed**2)
        of_c = of_c if dc is None else of_c + dc
        dz = jnp.stack(
            [
                of_c * g * i * (1 - i),
                of_c * c_before * f * (1 - f),
                of_c * i * (1 - g**2),
                of_h * squashed * o * (1 - o),
            ],
            2,
        )
        new = _product("nbgh,nkgh->nbk", dz, back.w_h), of_c * f
        if valid is not None:
            dz = jnp.where(valid[..., None, None], dz, 0)
        if reset is not None:
            here = reset if valid is None else reset & valid
            of_reset = jax.tree.map(lambda total, a: total + jnp.where(here[..., None], a, 0), of_reset, new)
            new = where(reset, jax.tree.map(jnp.zeros_like, new), new)
        return (new if valid is None else where(valid, new, slopes), of_reset), dz

    zeros = jnp.zeros_like(back.d_h), jnp.zeros_like(back.d_c)
    inputs = c, c_before, gates, dh, dc, valid, reset
    (slopes, of_reset), dz = jax.lax.scan(step, ((back.d_h, back.d_c), zeros), inputs, reverse=not options.reverse)
    weights = _product("tnbi,tnbgh->nigh", x, dz), _product("tnbk,tnbgh->nkgh", h_before, dz), dz.sum((0, 2))
    none = jnp.zeros((0,), dz.dtype)
    of_x = _as_given(options, _product("tnbgh,nigh->tnbi", dz, back.w_x)) if options.slopes_of_x else none
    of_z = _as_given(options, dz) if slopes_of_z else none
    return of_z, of_x, *weights, *slopes, *(of_reset if options.slopes_of_reset else (none, none))


def _with_own_x(arguments: Any) -> Any:
    """Return the arguments with an x for each network, where all read the same."""
    networks = arguments.h0.shape[0]
    return arguments._replace(x=jnp.broadcast_to(arguments.x, (networks, *arguments.x.shape[1:])))


def _with_saved(options: Any, back: Any) -> Any:
    """Return the arguments with c and gates computed again, where a forward call did not save them."""

    def again() -> tuple[Array, Array]:
        call = Call(**{name: getattr(back, name, jnp.zeros((0,), back.h.dtype)) for name in Call._fields})
        _, c, gates, *_ = forward(options._replace(saves=True, keeps=False), call)
        return c, gates

    if not exists(back.gates):
        c, gates = again()
    else:
        missing = back.gates[..., :1, :1] == NOT_SAVED
        c, gates = jax.lax.cond(
            missing.any(), lambda: where_missing(missing, again(), (back.c, back.gates)), lambda: (back.c, back.gates)
        )
    return back._replace(c=c, gates=gates)


def where_missing(missing: Array, a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return c and gates of a where those of b are missing `[N, T, B, 1, 1]`, those of b elsewhere."""
    return jnp.where(missing[..., 0], a[0], b[0]), jnp.where(missing, a[1], b[1])


def before(state: tuple, reset: Array | None, resets: tuple) -> tuple:
    """Return the state before a step: the one to reset to where that is flagged."""
    return state if reset is None else where(reset, resets, state)


def where(flags: Array, a: tuple, b: tuple) -> tuple:
    """Return the arrays of a where a row is flagged `[N, B]`, those of b elsewhere."""
    return jax.tree.map(lambda a, b: jnp.where(flags.reshape(*flags.shape, *[1] * (a.ndim - 2)), a, b), a, b)


def _product(axes: str, a: Array, b: Array) -> Array:
    return jnp.einsum(axes, a, b, precision="highest")


def _steps_first(options: Any, a: Array) -> Array | None:
    """Return a series `[T, N, B, ...]`, or None where it does not exist."""
    return _moved(options, a) if exists(a) else None


def _moved(options: Any, a: Array) -> Array:
    return jnp.moveaxis(a, 2 if options.batch_major else 1, 0)


def _flags_first(a: Array) -> Array | None:
    return jnp.moveaxis(a, 1, 0) if exists(a) else None


def _as_given(options: Any, a: Array) -> Array:
    return jnp.moveaxis(a, 0, 2 if options.batch_major else 1)
