"""The losses: what the logits mean, what is minimised, and what is reported if nothing else is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lstmjax import config
from lstmjax.types import Array


def _softmax(logits: Array, y: Array, smoothing: float) -> Array:
    target = jax.nn.one_hot(y, logits.shape[-1], dtype=logits.dtype)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(target, smoothing))


def _sigmoid(logits: Array, y: Array, smoothing: float) -> Array:
    target = (1.0 - smoothing) * y.astype(logits.dtype) + 0.5 * smoothing
    return optax.sigmoid_binary_cross_entropy(logits, target).mean(axis=-1)


def _squared(logits: Array, y: Array, smoothing: float = 0.0) -> Array:
    return jnp.square(logits - y.astype(logits.dtype)).mean(axis=-1)


def _absolute(logits: Array, y: Array, smoothing: float = 0.0) -> Array:
    return jnp.abs(logits - y.astype(logits.dtype)).mean(axis=-1)


def _huber(logits: Array, y: Array, smoothing: float = 0.0, *, delta: float = 1.0) -> Array:
    return optax.huber_loss(logits, y.astype(logits.dtype), delta=delta).mean(axis=-1)


def _pinball(logits: Array, y: Array, smoothing: float = 0.0, *, quantiles: tuple[float, ...] = (0.5,)) -> Array:
    r"""Return the mean of max(q·e, (q − 1)·e) over quantiles, e = y − prediction (Koenker & Bassett 1978)."""
    predicted = logits.reshape(*y.shape, len(quantiles))
    error = y.astype(logits.dtype)[..., None] - predicted
    q = jnp.broadcast_to(jnp.asarray(quantiles, logits.dtype), error.shape)
    return jnp.maximum(q * error, (q - 1) * error).mean(axis=(-2, -1))


def _is_right(logits: Array, y: Array) -> Array:
    return (logits.argmax(axis=-1) == y).astype(jnp.float32)


def _are_right(logits: Array, y: Array) -> Array:
    return ((logits > 0) == (y > 0.5)).astype(jnp.float32).mean(axis=-1)


def _same(logits: Array) -> Array:
    return logits


class Loss(NamedTuple):
    """A row of `LOSSES`: what is minimised, what is reported, and how logits become predictions."""

    value: Callable[..., Array]  # logits [..., O], y, label smoothing -> [...]
    metric: str  # name of the metric that is reported if the configuration names none
    measure: Callable[[Array, Array], Array]  # logits [..., O], y -> [...]
    sign: int  # +1 if a higher metric is better
    readout: Callable[[Array], Array]  # logits [..., O] -> probabilities or numbers [..., O]
    kind: str  # what the targets are: "classes", "switches" (labels that may hold together) or "numbers"


LOSSES = MappingProxyType(
    {
        "softmax": Loss(_softmax, "accuracy", _is_right, +1, jax.nn.softmax, "classes"),
        "sigmoid": Loss(_sigmoid, "accuracy", _are_right, +1, jax.nn.sigmoid, "switches"),
        "linear": Loss(_squared, "mse", _squared, -1, _same, "numbers"),
        "absolute": Loss(_absolute, "mae", _absolute, -1, _same, "numbers"),
        "huber": Loss(_huber, "mae", _absolute, -1, _same, "numbers"),
        "quantile": Loss(_pinball, "pinball", _pinball, -1, _same, "numbers"),
    }
)
"""All losses by name; the keys are those of `loss.name` in a configuration."""


def loss_of(section: config.Loss) -> Loss:
    """Return the row of a configured loss, with its δ or its quantiles."""
    row = LOSSES[section.name]
    if section.name == "huber":
        return row._replace(value=partial(_huber, delta=section.delta))
    if section.name == "quantile":
        pinball = partial(_pinball, quantiles=section.quantiles)
        return row._replace(value=pinball, measure=pinball)
    return row


def middle(section: config.Loss) -> int:
    """Return which of the outputs for one number is its prediction: that of the quantile nearest to the median."""
    return int(np.argmin(np.abs(np.array(section.quantiles) - 0.5))) if section.quantiles else 0


def points(outputs: Any, section: config.Loss) -> Any:
    """Return the predicted numbers `[..., O]` in the outputs `[..., O·Q]` of a regression."""
    if len(section.quantiles) < 2:
        return outputs
    return outputs.reshape(*outputs.shape[:-1], -1, len(section.quantiles))[..., middle(section)]
