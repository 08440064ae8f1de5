"""Sums of the loss and of metrics over labels, of which means are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.config import Loss
from lstmjax.training.losses import LOSSES, loss_of, points
from lstmjax.training.metrics import statistics, summed, values_of
from lstmjax.types import Array

if TYPE_CHECKING:
    from jax.typing import ArrayLike


class Sums(NamedTuple):
    """Running sums over labels; dividing by `weight` gives means."""

    loss: Array
    metric: Array  # the one that every run of this loss has
    weight: Array
    more: dict[str, Array] | None = None  # statistics of the metrics that the configuration names

    @classmethod
    def zero(cls, loss: Loss, metrics: Sequence[str], outputs: int) -> Sums:
        """Return the sums over no labels.

        Args:
            loss: section of the configuration.
            metrics: names of the metrics.
            outputs: O, classes or numbers.
        """
        more = None
        if summed(metrics, loss):
            logits = jnp.zeros((1, outputs))
            y = jnp.zeros((1,), jnp.int32) if loss.kind == "classes" else logits
            more = jax.tree.map(jnp.zeros_like, statistics(metrics, loss, logits, y, jnp.zeros((1,))))
        loss_sum, metric, weight = (jnp.zeros((), jnp.float32) for _ in range(3))  # a buffer each
        return cls(loss_sum, metric, weight, more)

    def means(self, loss: Loss, metrics: Sequence[str]) -> dict[str, float]:
        """Return the mean loss, and the metrics that sums determine, by name."""
        row, weight = LOSSES[loss.name], float(self.weight)
        values = {row.metric: float(self.metric / self.weight)}
        if self.more is not None:
            values |= values_of(metrics, loss, self.more, weight)
        return {"loss": float(self.loss / self.weight)} | {name: values[name] for name in metrics if name in values}


def sums_of(
    logits: Array,
    y: Any,
    weight: ArrayLike | None,
    lengths: Any,
    *,
    loss: Loss,
    metrics: Sequence[str] = (),
    smoothing: float = 0.0,
    target_scale: tuple[float, ...] | None = None,
    class_weights: tuple[float, ...] | None = None,
) -> Sums:
    """Return the sums over the sequences of a batch, or over their valid steps.

    Args:
        logits: `[B, O]` or `[B, T, O]`; of Q quantiles `[..., O·Q]`.
        y: targets in the form that the loss takes; see `lstmjax.data.load`.
        weight: of each sequence, `[B]`; None: 1.
        lengths: valid steps `[B]`; None: all.
        loss: section of the configuration.
        metrics: names of the metrics.
        smoothing: label smoothing.
        target_scale: by what the targets were divided, `[O]`: the metric is in the units of the data. (The offset
            would cancel, as metrics of numbers are of differences, and cost digits.) None: they were not.
        class_weights: factors of the loss by class, `[O]`; None: 1.
    """
    row = loss_of(loss)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))  # a network in float64 has such a loss
    weights = jnp.ones(logits.shape[:1], logits.dtype) if weight is None else jnp.asarray(weight, logits.dtype)
    if logits.ndim == 3:
        steps = jnp.arange(logits.shape[1])[None, :]
        valid = jnp.ones(logits.shape[:2], bool) if lengths is None else steps < lengths[:, None]
        weights = weights[:, None] * valid
    value = row.value(logits, y, smoothing)
    if class_weights is not None:
        value *= jnp.asarray(class_weights, logits.dtype)[y]
    if target_scale is not None:
        scale = jnp.asarray(target_scale, logits.dtype)
        y = jnp.asarray(y, logits.dtype) * jnp.broadcast_to(scale, y.shape)
        logits = logits * jnp.broadcast_to(jnp.repeat(scale, loss.width), logits.shape)
    measure = row.measure(logits, y).astype(logits.dtype)
    more = statistics(metrics, loss, points(logits, loss), y, weights) or None
    return Sums((weights * value).sum(), (weights * measure).sum(), weights.sum(), more)
