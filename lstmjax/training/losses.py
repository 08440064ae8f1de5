"""The losses: what the logits mean (softmax, sigmoid or plain numbers) and what is reported."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from lstmjax.types import Array


def _softmax(logits: Array, y: Array, smoothing: float) -> Array:
    target = jax.nn.one_hot(y, logits.shape[-1], dtype=logits.dtype)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(target, smoothing))


def _sigmoid(logits: Array, y: Array, smoothing: float) -> Array:
    target = (1.0 - smoothing) * y.astype(logits.dtype) + 0.5 * smoothing
    return optax.sigmoid_binary_cross_entropy(logits, target).mean(axis=-1)


def _squared(logits: Array, y: Array, smoothing: float = 0.0) -> Array:
    return jnp.square(logits - y.astype(logits.dtype)).mean(axis=-1)


def _is_right(logits: Array, y: Array) -> Array:
    return (logits.argmax(axis=-1) == y).astype(jnp.float32)


def _are_right(logits: Array, y: Array) -> Array:
    return ((logits > 0) == (y > 0.5)).astype(jnp.float32).mean(axis=-1)


class Loss(NamedTuple):
    """A row of `LOSSES`: what is minimised, what is reported, and how logits become predictions."""

    value: Callable[[Array, Array, float], Array]  # logits [..., O], y, label smoothing -> [...]
    metric: str  # name of the reported metric
    measure: Callable[[Array, Array], Array]  # logits [..., O], y -> [...]
    sign: int  # +1 if a higher metric is better
    readout: Callable[[Array], Array]  # logits [..., O] -> probabilities or numbers [..., O]


LOSSES = MappingProxyType(
    {
        "softmax": Loss(_softmax, "accuracy", _is_right, +1, jax.nn.softmax),
        "sigmoid": Loss(_sigmoid, "accuracy", _are_right, +1, jax.nn.sigmoid),
        "linear": Loss(_squared, "mse", _squared, -1, lambda logits: logits),
    }
)
"""All losses by name; the keys are those of `loss.name` in a configuration."""
