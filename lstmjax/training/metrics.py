"""The metrics of validation and testing, by name: from sums over batches, or from all outputs at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import config
from lstmjax.data import DataError
from lstmjax.training.losses import LOSSES, loss_of
from lstmjax.training.scores import class_scores
from lstmjax.types import Array


def _confusion(logits: Array, y: Array, weights: Array) -> Array:
    """Return the weighted confusion matrix `[O, O]`: a row for each label, a column for each prediction."""
    width = logits.shape[-1]
    labels = jax.nn.one_hot(y.reshape(-1), width, dtype=weights.dtype) * weights.reshape(-1, 1)
    predicted = jax.nn.one_hot(logits.reshape(-1, width).argmax(axis=-1), width, dtype=weights.dtype)
    return jnp.matmul(labels.T, predicted, precision="highest")


def _counts(logits: Array, y: Array, weights: Array) -> Array:
    """Return for each of O switches the weights of those rightly on, wrongly on and wrongly off, `[3, O]`."""
    on, label = logits > 0, y > 0.5
    pairs = jnp.stack([on & label, on & ~label, ~on & label]).astype(weights.dtype)
    return (pairs * weights[None, ..., None]).sum(axis=tuple(range(1, pairs.ndim - 1)))


def _right(logits: Array, y: Array, weights: Array) -> Array:
    return ((logits.argmax(axis=-1) == y) * weights).sum()


def _switched_right(logits: Array, y: Array, weights: Array) -> Array:
    return (((logits > 0) == (y > 0.5)).astype(weights.dtype).mean(axis=-1) * weights).sum()


def _surprise(logits: Array, y: Array, weights: Array) -> Array:
    """Return the sum of −log p of the labels, without label smoothing."""
    return (LOSSES["softmax"].value(logits, y, 0.0) * weights).sum()


def _absolute(predicted: Array, y: Array, weights: Array) -> Array:
    return (jnp.abs(predicted - y).mean(axis=-1) * weights).sum()


def _squared(predicted: Array, y: Array, weights: Array) -> Array:
    return (jnp.square(predicted - y).mean(axis=-1) * weights).sum()


def _balanced(confusion: np.ndarray, weight: float) -> float:
    return float(np.nanmean(class_scores(confusion).recall))


def _f1_of_classes(confusion: np.ndarray, weight: float) -> float:
    """Return the mean F1 of the classes that are labels or predictions."""
    f1 = class_scores(confusion).f1
    return float(np.nanmean(f1))


def _f1_of_switches(counts: np.ndarray, weight: float) -> float:
    """Return the mean F1 of the switches, 0 for one that is never on."""
    right, wrongly_on, wrongly_off = counts
    either = 2 * right + wrongly_on + wrongly_off
    return float(np.mean(np.where(either > 0, 2 * right / np.where(either > 0, either, 1), 0.0)))


def area(score: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> float:
    """Return the area under the ROC curve: the chance that a positive has the higher score; half of it at equal ones.

    Args:
        score, positive, weight: `[M]` each.

    >>> area(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]), np.ones(4))
    0.75
    """
    order = np.argsort(-score, kind="stable")
    score, positive, weight = score[order], positive[order], weight[order].astype(np.float64)
    last = np.flatnonzero(np.diff(score, append=np.nan) != 0)  # of each run of equal scores
    hits = np.concatenate([[0.0], np.cumsum(weight * positive)[last]])
    alarms = np.concatenate([[0.0], np.cumsum(weight * ~positive)[last]])
    return float(np.sum(np.diff(alarms) * (hits[1:] + hits[:-1])) / (2 * hits[-1] * alarms[-1]))


def _area_of_classes(outputs: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Return the area under the ROC curve of two classes, or the mean over the classes, each against the others."""
    count = outputs.shape[-1]
    classes = [1] if count == 2 else range(count)
    return float(np.mean([area(outputs[:, n], y == n, weight) for n in classes]))


def _area_of_switches(outputs: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    return float(np.mean([area(outputs[:, n], y[:, n] > 0.5, weight) for n in range(outputs.shape[-1])]))


def _r2(outputs: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Return 1 − Σ(y − prediction)² / Σ(y − mean)², averaged over the O numbers."""
    outputs, y = outputs.astype(np.float64), y.astype(np.float64)
    mean = np.average(y, axis=0, weights=weight)
    unexplained, total = (np.average(np.square(y - of), axis=0, weights=weight) for of in (outputs, mean))
    return float(np.mean(1 - unexplained / total))


def _bits(surprise: np.ndarray, weight: float) -> float:
    return float(surprise / weight / np.log(2))


class Metric(NamedTuple):
    """A metric for one kind of targets."""

    sign: int  # +1 if higher is better
    sums: Callable[[Array, Array, Array], Array] | None  # (logits, y, weights) -> a statistic that is added up
    value: Callable[[Any, float], float] | None = None  # (the sum, the sum of the weights) -> the metric
    collected: Callable[[np.ndarray, np.ndarray, np.ndarray], float] | None = None  # (outputs, y, weights) -> it


def _mean(total: np.ndarray, weight: float) -> float:
    return float(total) / weight


METRICS: MappingProxyType[tuple[str, str], Metric] = MappingProxyType(
    {
        ("accuracy", "classes"): Metric(+1, _right, _mean),
        ("accuracy", "switches"): Metric(+1, _switched_right, _mean),
        ("balanced_accuracy", "classes"): Metric(+1, _confusion, _balanced),
        ("macro_f1", "classes"): Metric(+1, _confusion, _f1_of_classes),
        ("macro_f1", "switches"): Metric(+1, _counts, _f1_of_switches),
        ("auc", "classes"): Metric(+1, None, collected=_area_of_classes),
        ("auc", "switches"): Metric(+1, None, collected=_area_of_switches),
        ("perplexity", "classes"): Metric(-1, _surprise, lambda total, weight: float(np.exp(total / weight))),
        ("bits_per_character", "classes"): Metric(-1, _surprise, _bits),
        ("bits_per_byte", "classes"): Metric(-1, _surprise, _bits),
        ("mae", "numbers"): Metric(-1, _absolute, _mean),
        ("mse", "numbers"): Metric(-1, _squared, _mean),
        ("rmse", "numbers"): Metric(-1, _squared, lambda total, weight: float(np.sqrt(total / weight))),
        ("r2", "numbers"): Metric(+1, None, collected=_r2),
    }
)
"""All metrics, by name and kind of targets. In a regression they are in the units of the data; of several quantiles the
one nearest to the median counts."""


def metrics_of(settings: config.Config) -> tuple[str, ...]:
    """Return the names of a run's metrics; the first one chooses the best network."""
    if settings.data.is_stream:
        return settings.metrics or ("perplexity",)
    return settings.metrics or (LOSSES[settings.loss.name].metric,)


def sign_of(settings: config.Config) -> int:
    """Return +1 if a higher value of the first metric is better, -1 otherwise."""
    name, row = metrics_of(settings)[0], LOSSES[settings.loss.name]
    return row.sign if name == row.metric else METRICS[name, row.kind].sign


def summed(names: Sequence[str], section: config.Loss) -> dict[str, Metric]:
    """Return those of the metrics that are computed from sums, except for the one that every run has."""
    row = loss_of(section)
    rows = {name: METRICS[name, row.kind] for name in names if name != row.metric}
    return {name: metric for name, metric in rows.items() if metric.sums is not None}


def statistics(names: Sequence[str], section: config.Loss, logits: Array, y: Array, weights: Array) -> dict[str, Array]:
    """Return the sums of a batch by metric. Equal ones are computed once, as XLA merges them."""
    return {
        name: metric.sums(logits, y, weights).astype(jnp.float32)
        for name, metric in summed(names, section).items()
        if metric.sums is not None
    }


def values_of(names: Sequence[str], section: config.Loss, sums: Mapping[str, Array], weight: float) -> dict[str, float]:
    """Return the metrics that the sums of `statistics` determine."""
    rows = summed(names, section)
    return {
        name: metric.value(np.asarray(sums[name], np.float64), weight)
        for name, metric in rows.items()
        if metric.value is not None
    }


def needs_outputs(names: Sequence[str], section: config.Loss) -> bool:
    """Return whether a metric needs all outputs at once."""
    row = loss_of(section)
    return any(METRICS[name, row.kind].collected is not None for name in names if name != row.metric)


def collected_of(
    names: Sequence[str],
    section: config.Loss,
    outputs: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    part: str,
    targets: tuple[str, ...] = (),
) -> dict[str, float]:
    """Return the metrics of all outputs at once.

    Args:
        names: the metrics.
        section: the loss.
        outputs: probabilities or predicted numbers, `[M, O]`, of all labels.
        y: labels, `[M]` or `[M, O]`, in the units of the data.
        weight: of each, `[M]`.
        part: what they are of, for the message.
        targets: names of the O numbers; (): y_0, y_1, ...

    Raises:
        DataError: the metric is not defined on these labels.
    """
    kind = loss_of(section).kind
    values = {}
    for name in names:
        metric = METRICS.get((name, kind))
        if metric is None or metric.collected is None:
            continue
        check_defined(name, kind, outputs.shape[-1], y, part, targets)
        values[name] = metric.collected(outputs, y, weight)
    return values


def check_defined(name: str, kind: str, width: int, y: np.ndarray, part: str, targets: tuple[str, ...] = ()) -> None:
    """Refuse labels on which a metric is not defined.

    Raises:
        DataError: auc, and a class is missing; or r2, and a target is always the same.
    """
    remedy = f"give other data, or remove {name} from metrics"
    if name == "auc" and kind == "classes":
        present = set(np.unique(y).tolist())
        if len(present) < width:
            missing = min(set(range(width)) - present)
            which = repr(targets[missing]) if targets else f"number {missing}"
            raise DataError(f"{part}: has no label of class {which}, so that auc means nothing; {remedy}")
    elif name in ("auc", "r2"):
        constant = np.flatnonzero(np.ptp(y, axis=0) == 0)
        if len(constant):
            raise DataError(
                f"{part}: {targets[constant[0]]} is always the same, so that {name} means nothing; {remedy}"
            )
