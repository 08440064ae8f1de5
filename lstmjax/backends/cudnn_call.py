"""One call of cuDNN, forward or backward: one layer in one direction, through `jax.experimental.rnn`.

Sequences come first, `[B, T, I]`, and all weights are one flat vector. Products are in full float32, never TF32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from lstmjax.backends.linear import alike
from lstmjax.types import Array, LSTMParams


class Call(NamedTuple):
    """The arguments of a call; the state has an axis of one layer before the batch."""

    x: Array  # [B, T, I]
    h: Array  # [1, B, H]
    c: Array  # [1, B, H]
    weights: Array  # [n]


class Results(NamedTuple):
    """The results of a call."""

    y: Array  # [B, T, H]  zero beyond the lengths
    h: Array  # [1, B, H]  after the last valid step
    c: Array  # [1, B, H]
    reserve: Array  # [m]  saved for the backward pass, in an order that only cuDNN knows


def pieces(parts: Sequence[LSTMParams]) -> list[Any]:
    """Return the flat weights in cuDNN's order, to be concatenated: the only place that knows how to write it.

    All matrices come first, W_x `[4H, I]` and W_h `[4H, H]` of each part, then all biases, b and b_h `[4H]` of each
    part; a bias that does not exist is zero there. The parts are the layers' directions, bottom up, forward first.
    """
    matrices = [w.reshape(w.shape[0], -1).T.ravel() for part in parts for w in (part.w_x, part.w_h)]
    none = [part.w_x[:0].sum(0) for part in parts]
    biases = [(z if b is None else b).ravel() for part, z in zip(parts, none, strict=True) for b in (part.b, part.b_h)]
    return [*matrices, *biases]


def missing() -> str | None:
    """Return what this JAX lacks for a call, or None."""
    from jax.experimental import rnn

    if getattr(getattr(rnn, "gpu_rnn", None), "_cuda_rnn", None) is None:
        return "JAX has no cuDNN here: its CUDA plugin is not installed (AMD GPUs have none)"
    missing = [name for name in ("lstm_fwd", "lstm_bwd") if not hasattr(rnn, name)]
    return f"jax.experimental.rnn of JAX {jax.__version__} has no {' and no '.join(missing)}" if missing else None


@custom_vmap
def forward(x: Array, h: Array, c: Array, weights: Array, lengths: Array) -> Results:
    """Run cuDNN's forward pass on a `Call` and lengths `[B]`, 1 to T, int32.

    It always saves what a backward pass needs, since JAX has no call that does not. Under vmap examples become one
    larger batch; networks, each with its weights, run one after the other.
    """
    from jax.experimental import rnn

    arguments = x, h, c, weights, lengths
    outputs, (*_, reserve) = rnn.lstm_fwd(*arguments, **_options(x, h))
    return Results(*alike(*arguments, *outputs, reserve)[len(arguments) :])


@forward.def_vmap
def _(size: int, mapped: Sequence[bool], *arguments: Array) -> tuple[Results, Any]:
    def run(mapped_arguments: Sequence[Array]) -> Results:
        remaining = iter(mapped_arguments)
        return forward(*(next(remaining) if is_mapped else a for a, is_mapped in zip(arguments, mapped, strict=True)))

    if mapped[3]:
        results = jax.lax.map(run, [a for a, is_mapped in zip(arguments, mapped, strict=True) if is_mapped])
        return results, jax.tree.map(lambda _: True, results)
    x, h, c, _, lengths = (
        a if is_mapped else jnp.broadcast_to(a, (size, *a.shape))
        for a, is_mapped in zip(arguments, mapped, strict=True)
    )
    state = [a.reshape(1, -1, a.shape[-1]) for a in (h, c)]
    y, h_end, c_end, reserve = forward(x.reshape(-1, *x.shape[2:]), *state, arguments[3], lengths.reshape(-1))
    split = y.reshape(*x.shape[:2], *y.shape[1:]), h_end.reshape(h.shape), c_end.reshape(c.shape)
    results_mapped: Any = True, True, True, False  # one reserve for all
    return Results(*split, reserve), Results(*results_mapped)


def backward(call: Call, lengths: Array, results: Results, cotangents: Results) -> Call:
    """Return the cotangents of the arguments of a call, from those of its results y, h and c."""
    from jax.experimental import rnn

    gradients = cotangents.y, cotangents.h, cotangents.c
    residuals = *call, lengths, results.y, copied(results.reserve, cotangents.y)
    *slopes, _ = rnn.lstm_bwd(**_options(call.x, call.h), residuals=residuals, gradients=gradients)
    return Call(*alike(*residuals, *gradients, *slopes)[-len(slopes) :])


def copied(reserve: Array, other: Array) -> Array:
    """Return a copy of the reserve, since cuDNN's backward pass writes into it, which the compiler does not know.

    Without the copy a pullback that is called twice would be wrong the second time. The compiler drops a plain copy; it
    cannot know that no number of the other array is both infinite and NaN.
    """
    first = other.reshape(-1)[0]
    return jnp.where(jnp.isnan(first) & jnp.isinf(first), jnp.zeros_like(reserve), reserve)


def _options(x: Array, h: Array) -> dict[str, Any]:
    """Return the options of a call; only at the highest precision products are not rounded to TF32."""
    sizes = {"input_size": x.shape[-1], "hidden_size": h.shape[-1], "num_layers": 1, "bidirectional": False}
    return sizes | {"dropout": 0.0, "precision": jax.lax.Precision.HIGHEST}
