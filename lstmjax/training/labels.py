"""What the labels of the data determine before a run begins: weights of classes, and whether metrics are defined."""

from __future__ import annotations

import logging

import numpy as np

from lstmjax.config import Config, ConfigError
from lstmjax.data import About, Parts, Sequences
from lstmjax.training.metrics import check_defined, metrics_of

log = logging.getLogger("lstmjax")


def warn_of_untrained(parts: Parts, about: About) -> None:
    """Warn of classes that occur in the validation or the test part, but not in the training part."""
    if about.classes is None or about.is_stream or about.text is not None:
        return
    trained = np.unique(_labels_of(parts.train, about))
    for name, part in (("validation", parts.validation), ("test", parts.test)):
        if part is None:
            continue
        labels = _labels_of(part, about)
        absent = labels[~np.isin(labels, trained)]
        if absent.size:
            log.warning(
                "%s: %d of %d labels are of classes that the training part does not have (%s), so that the network "
                "cannot learn them; give training sequences of them, or another data.split",
                name,
                absent.size,
                labels.size,
                ", ".join(about.classes[number] for number in np.unique(absent)[:5]),
            )


def _labels_of(part: Sequences, about: About) -> np.ndarray:
    assert part.y is not None
    return part.y[part.valid()] if about.per_step else part.y


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
        y = _labels_of(part, about)
        for metric in metrics_of(config):
            check_defined(metric, config.loss.kind, about.output_size, y, name, about.classes or about.target_names)
