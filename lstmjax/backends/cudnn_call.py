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
    """What a call takes; the state has an axis of one layer before the batch."""

    x: Array  # [B, T, I]
    h: Array  # [1, B, H]
    c: Array  # [1, B, H]
    weights: Array  # [n]


class Made(NamedTuple):
    """What a call gives."""

    y: Array  # [B, T, H]  zero beyond the lengths
    h: Array  # [1, B, H]  after the last valid step
    c: Array  # [1, B, H]
    reserve: Array  # [m]  what the backward pass needs, in an order that only cuDNN knows


def pieces(parts: Sequence[LSTMParams]) -> list[Any]:
    """Gives the flat weights in cuDNN's order, to be joined to one vector: the only place that knows how to write it.

    All matrices come first, W_x `[4H, I]` and W_h `[4H, H]` of each part, then all biases, b and b_h `[4H]` of each
    part; a bias that does not exist is zero there. The parts are the layers' directions, bottom up, forward first.
    """
    matrices = [w.reshape(w.shape[0], -1).T.ravel() for part in parts for w in (part.w_x, part.w_h)]
    none = [part.w_x[:0].sum(0) for part in parts]
    biases = [(z if b is None else b).ravel() for part, z in zip(parts, none, strict=True) for b in (part.b, part.b_h)]
    return [*matrices, *biases]


def missing() -> str | None:
    """Gives what this JAX lacks for a call, or None."""
    from jax.experimental import rnn

    if getattr(getattr(rnn, "gpu_rnn", None), "_cuda_rnn", None) is None:
        return "JAX has no cuDNN here: its CUDA plugin is not installed (AMD GPUs have none)"
    gone = [name for name in ("lstm_fwd", "lstm_bwd") if not hasattr(rnn, name)]
    return f"jax.experimental.rnn of JAX {jax.__version__} has no {' and no '.join(gone)}" if gone else None


@custom_vmap
def forward(x: Array, h: Array, c: Array, weights: Array, lengths: Array) -> Made:
    """Gives what cuDNN makes of a `Call` and of lengths `[B]`, 1 to T, int32.

    It always saves what a backward pass needs, since JAX has no call without. Under vmap examples become one larger
    batch; networks, each with weights of its own, run one after the other.
    """
    from jax.experimental import rnn

    taken = x, h, c, weights, lengths
    (*ends,), (*_, reserve) = rnn.lstm_fwd(*taken, **_how(x, h))
    return Made(*alike(*taken, *ends, reserve)[len(taken) :])


@forward.def_vmap
def _(size: int, mapped: Sequence[bool], *taken: Array) -> tuple[Made, Any]:
    def run(some: Sequence[Array]) -> Made:
        own = iter(some)
        return forward(*(next(own) if is_mapped else a for a, is_mapped in zip(taken, mapped, strict=True)))

    if mapped[3]:
        found = jax.lax.map(run, [a for a, is_mapped in zip(taken, mapped, strict=True) if is_mapped])
        return found, jax.tree.map(lambda _: True, found)
    x, h, c, _, lengths = (
        a if is_mapped else jnp.broadcast_to(a, (size, *a.shape)) for a, is_mapped in zip(taken, mapped, strict=True)
    )
    one = [a.reshape(1, -1, a.shape[-1]) for a in (h, c)]
    y, h_end, c_end, reserve = forward(x.reshape(-1, *x.shape[2:]), *one, taken[3], lengths.reshape(-1))
    apart = y.reshape(*x.shape[:2], *y.shape[1:]), h_end.reshape(h.shape), c_end.reshape(c.shape)
    everything: Any = True, True, True, False  # one reserve for all
    return Made(*apart, reserve), Made(*everything)


def backward(call: Call, lengths: Array, made: Made, cotangents: Made) -> Call:
    """Gives the cotangents of what a call took, from those of y, h and c that it made."""
    from jax.experimental import rnn

    given = cotangents.y, cotangents.h, cotangents.c
    residuals = *call, lengths, made.y, own(made.reserve, cotangents.y)
    *slopes, _ = rnn.lstm_bwd(**_how(call.x, call.h), residuals=residuals, gradients=given)
    return Call(*alike(*residuals, *given, *slopes)[-len(slopes) :])


def own(reserve: Array, other: Array) -> Array:
    """Gives a copy of the reserve, since cuDNN's backward pass writes into it, which the compiler does not know.

    Without it a pullback that is called twice would be wrong the second time. The compiler drops a plain copy; it
    cannot know that no number of the other array is both infinite and not a number.
    """
    first = other.reshape(-1)[0]
    return jnp.where(jnp.isnan(first) & jnp.isinf(first), jnp.zeros_like(reserve), reserve)


def _how(x: Array, h: Array) -> dict[str, Any]:
    """Gives what a call is told beside the arrays; only at the highest precision products are not rounded to TF32."""
    sizes = {"input_size": x.shape[-1], "hidden_size": h.shape[-1], "num_layers": 1, "bidirectional": False}
    return sizes | {"dropout": 0.0, "precision": jax.lax.Precision.HIGHEST}
