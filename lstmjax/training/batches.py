"""The batches of training: from a generator, from one part of the data, or from buckets of similar lengths."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from lstmjax.config import Config
from lstmjax.data import (
    About,
    Parts,
    Sequences,
    batch,
    bucketed_batch,
    choose_edges,
    make_buckets,
    padding,
    steps_per_epoch,
)


class Batches(NamedTuple):
    """How the batches of a run are drawn, determined by its configuration and data."""

    draw: Callable[..., Sequences]  # (seed=, step=) -> the batch of a step
    epoch: int  # number of steps of an epoch; for generated data, which have no epochs, of a tenth of the run
    largest: tuple[int, int] | None  # B and T of the largest batch; None: they are generated
    mean_weight: float | None  # mean weight of the labels of a batch, where batches differ in it; None: they do not
    description: str  # how much padding there is and why, for the log; "": none


def new_buckets(config: Config, parts: Parts) -> tuple[int, ...] | None:
    """Return the steps to which a new run pads its batches; None: to those of the longest sequence, as there is little.

    Raises:
        DataError: there are fewer sequences than a batch has.
    """
    lengths = parts.train.lengths
    if parts.draw is not None or lengths is None:
        return None
    steps_per_epoch(len(lengths), config.batch_size)
    return choose_edges(lengths, parts.train.x.shape[1], config.batch_size)


def are_buckets(buckets: tuple[int, ...] | None, parts: Parts) -> bool:
    """Return whether these can be the buckets of a training part; None can."""
    if buckets is None:
        return True
    lengths = parts.train.lengths
    ascending = list(buckets) == sorted(set(buckets))
    return (
        lengths is not None
        and len(buckets) > 0
        and ascending
        and lengths.max() <= buckets[-1] <= parts.train.x.shape[1]
    )


def make_batches(config: Config, parts: Parts, about: About) -> Batches:
    """Return the batches of a run, in the buckets that `about` states.

    Raises:
        DataError: there are fewer sequences than a batch has.
    """
    size, train = config.batch_size, parts.train
    if parts.draw is not None:
        return Batches(partial(parts.draw, size), max((config.steps or 0) // 10, 1), None, None, "")
    epoch, steps, lengths = steps_per_epoch(len(train.x), size), train.x.shape[1], train.lengths
    draw = partial(batch, train, size)
    if lengths is None:
        return Batches(draw, epoch, (size, steps), None, "")
    if about.buckets is None:
        fraction = _percent(padding(lengths, len(lengths) * steps))
        text = f"padding: {fraction} of the steps (all batches have {steps:,} steps"
        if choose_edges(lengths, steps, size) is not None:
            text += ", as in the version of lstmjax that began this run"
        return Batches(draw, epoch, (size, steps), None, f"{text})")
    buckets = make_buckets(lengths, about.buckets, size)
    labels = int(lengths.sum()) if about.per_step else len(lengths)
    shapes = [(bucket.rows, bucket.steps) for bucket in buckets.content]
    steps_of = ", ".join(f"{bucket.steps:,}" for bucket in buckets.content)
    return Batches(
        partial(bucketed_batch, train, buckets, per_step=about.per_step),
        buckets.batches,
        max(shapes, key=lambda shape: shape[0] * shape[1]),
        labels / buckets.batches,
        f"padding: {_percent(padding(lengths, buckets.computed))} of the steps (buckets of {steps_of} steps)",
    )


def _percent(fraction: float) -> str:
    """Return a fraction as text: 4.1%, 45%, 0%."""
    return f"{float(f'{100 * fraction:.2g}'):g}%"
