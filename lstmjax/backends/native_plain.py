"""What a call of the native kernel computes, in plain JAX, for one network: where the kernel cannot run.

A program that is exported, or lowered for another platform than the one it was traced on, has this in its place. Names
and shapes are those of `native_call`, without the axis of networks.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lstmjax.types import Array


def _time_first(batch_major: bool, *series: Array) -> list[Array]:
    """Return series `[T, B, ...]`; what is absent stays so."""
    return [jnp.swapaxes(a, 0, 1) if batch_major and a.ndim > 1 else a for a in series]


def _flags(valid: Array, resets: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return both flags `[T, B, 1]`; every step is valid, and none a reset, where they are absent."""
    valid = jnp.ones(shape, bool) if valid.ndim == 1 else valid
    resets = jnp.zeros(shape, bool) if resets.ndim == 1 else resets
    return valid[..., None], (resets & valid)[..., None]


def _products(series: Array, weight: Array) -> Array:
    """Return `[T, B, N]` times `[N, G, H]`."""
    return jax.lax.dot_general(series, weight, (((series.ndim - 1,), (0,)), ((), ())))


def forward(
    batch_major: bool, reverse: bool, ring: bool, saves: bool, x: Array, z: Array, w_x: Array, w_h: Array, b: Array,
    h: Array, c: Array, valid: Array, resets: Array, h_reset: Array, c_reset: Array,
) -> tuple[Array, ...]:  # fmt: skip
    """Return the series h, c and gates, and the final state."""
    x, z = _time_first(batch_major, x, z)
    valid, resets = _flags(valid, resets, x.shape[:2])
    start = (h_reset, c_reset) if h_reset.ndim > 1 else (h, c)
    sums = _products(x, w_x)
    sums = sums + jnp.broadcast_to(b, sums.shape) + (z if z.ndim > 1 else jnp.zeros_like(sums))

    def step(state: tuple, inputs: tuple) -> tuple:
        z, valid, reset = inputs
        h, c = (jnp.where(reset, s, a) for s, a in zip(start, state, strict=True))
        z = z + _products(h, w_h)
        i, f, o = (jax.lax.logistic(z[..., k, :]) for k in (0, 1, 3))
        g = jnp.tanh(z[..., 2, :])
        new_c = f * c + i * g
        new = o * jnp.tanh(new_c), new_c
        series = tuple(jnp.where(valid, a, 0) for a in new), jnp.stack([i, f, g, o], -2)
        return tuple(jnp.where(valid, a, s) for a, s in zip(new, state, strict=True)), series

    end, (states, gates) = jax.lax.scan(step, (h, c), (sums, valid, resets), reverse=reverse)
    gates = jnp.where(valid[..., None], gates, 0)
    absent = jnp.zeros((0,), x.dtype)
    h_series, c_series, gates = _time_first(batch_major, *states, gates)
    if ring:
        h_series = jnp.stack([end[0], end[0]])
    return (h_series, *((c_series, gates) if saves else (absent, absent)), *end)


def backward(
    batch_major: bool, reverse: bool, slopes_of_reset: bool, x: Array, w_x: Array, w_h: Array, w_h_t: Array, h0: Array,
    c0: Array, valid: Array, resets: Array, h_reset: Array, c_reset: Array, h: Array, c: Array, gates: Array, dh: Array,
    dc: Array, d_h: Array, d_c: Array,
) -> tuple[Array, ...]:  # fmt: skip
    """Return the cotangents: of the pre-activations, w_x, w_h, b, the initial state and the state of resets."""
    del w_h
    x, h, c, gates, dh, dc = _time_first(batch_major, x, h, c, gates, dh, dc)
    valid, resets = _flags(valid, resets, x.shape[:2])
    start = (h_reset, c_reset) if h_reset.ndim > 1 else (h0, c0)
    dh, dc = (a if a.ndim > 1 else jnp.zeros_like(h) for a in (dh, dc))

    def before(state: tuple, inputs: tuple) -> tuple:
        h, c, valid, reset = inputs
        used = tuple(jnp.where(reset, s, a) for s, a in zip(start, state, strict=True))
        return tuple(jnp.where(valid, a, s) for a, s in zip((h, c), state, strict=True)), used

    _, (h_before, c_before) = jax.lax.scan(before, (h0, c0), (h, c, valid, resets), reverse=reverse)

    def step(carry: tuple, inputs: tuple) -> tuple:
        (d_h, d_c), of_reset = carry
        gates, h, c, dh, dc, valid, reset = inputs
        i, f, g, o = (gates[..., k, :] for k in range(4))
        dh = d_h + dh
        dc = d_c + dc + dh * (o - h * (h / jnp.maximum(o, jnp.finfo(o.dtype).tiny)))
        dz = jnp.stack([dc * g * (i * (1 - i)), dc * c * (f * (1 - f)), dc * i * (1 - g * g), dh * h * (1 - o)], -2)
        dz = jnp.where(valid[..., None], dz, 0)
        slopes = jax.lax.dot_general(dz, w_h_t, (((1, 2), (0, 1)), ((), ()))), dc * f
        of_reset = tuple(s + jnp.where(reset, a, 0) for s, a in zip(of_reset, slopes, strict=True))
        kept = (jnp.where(reset, 0, a) for a in slopes)
        return (tuple(jnp.where(valid, a, s) for a, s in zip(kept, (d_h, d_c), strict=True)), of_reset), dz

    zero = tuple(a * 0 for a in (d_h, d_c))
    inputs = gates, h, c_before, dh, dc, valid, resets
    (of_start, of_reset), dz = jax.lax.scan(step, ((d_h, d_c), zero), inputs, reverse=not reverse)
    dw_x, dw_h = (jax.lax.dot_general(a, dz, (((0, 1), (0, 1)), ((), ()))) for a in (x, h_before))
    db = dz.sum((0, 1))
    absent = jnp.zeros((0,), x.dtype)
    (dz,) = _time_first(batch_major, dz)
    return dz, dw_x, dw_h, db, *of_start, *(of_reset if slopes_of_reset else (absent, absent))
