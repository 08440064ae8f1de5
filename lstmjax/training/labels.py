"""What the labels of the data determine before a run begins: weights of classes, and whether metrics are defined."""

from __future__ import annotations

import numpy as np

from lstmjax.config import Config, ConfigError
from lstmjax.data import About, Parts
from lstmjax.training.metrics import check_defined, metrics_of


def class_weights_of(config: Config, parts: Parts, about: About) -> tuple[float, ...] | None:
    """Return factors of the loss by class, whose mean over the labels of the training part is 1; None: no weights.

    Raises:
        ConfigError: a weight is for no class.
    """
    stated = config.loss.class_weights
    if stated is None:
        return None
    assert about.classes is not None
    train = parts.train
    assert train.y is not None
    weights = np.ones(len(train.x)) if train.weight is None else np.asarray(train.weight, np.float64)
    labels = train.y
    if about.per_step:
        valid = train.valid()
        labels, weights = labels[valid], np.broadcast_to(weights[:, None], valid.shape)[valid]
    counts = np.bincount(labels, weights, minlength=len(about.classes))
    if stated == "balanced":
        factors = 1 / np.maximum(counts, np.min(counts[counts > 0]))
    else:
        for name in stated:
            if name not in about.classes:
                raise ConfigError(f"loss.class_weights has {name!r}; the classes are {', '.join(about.classes)}")
        factors = np.array([stated.get(name, 1.0) for name in about.classes])
    factors *= counts.sum() / (counts * factors).sum()
    return tuple(factors.tolist())


def check_metrics(config: Config, parts: Parts, about: About) -> None:
    """Refuse metrics that are not defined on the labels of the validation or the test part, before any work is done."""
    if about.is_stream:
        return
    for name, part in (("validation", parts.validation), ("test", parts.test)):
        if part is None:
            continue
        assert part.y is not None
        y = part.y[part.valid()] if about.per_step else part.y
        for metric in metrics_of(config):
            check_defined(metric, config.loss.kind, about.output_size, y, name, about.target_names)
