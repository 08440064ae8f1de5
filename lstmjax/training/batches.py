"""The batches of training: from a generator, from one part of the data, or from buckets of similar lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np

from lstmjax.claims import counted
from lstmjax.config import Config
from lstmjax.data import (
    About,
    Ahead,
    Parts,
    Sequences,
    batch,
    bucketed_batch,
    choose_edges,
    make_buckets,
    padding,
    steps_per_epoch,
)
from lstmjax.training.streams import make_streams


class Batches(NamedTuple):
    """How the batches of a run are drawn, determined by its configuration and data."""

    draw: Callable[..., Any]  # (seed=, step=) -> the batch of a step
    epoch: int  # number of steps of an epoch; for generated data, which have no epochs, of a tenth of the run
    largest: tuple[int, int] | None  # B and T of the largest batch; None: they are generated
    mean_weight: float | None  # mean weight of the labels of a batch, where batches differ in it; None: they do not
    description: str  # how much padding there is and why, for the log; "": none


def size_of(parts: Parts, about: About) -> str:
    """Return how much there is to learn from, in words."""
    if parts.draw:
        return "new sequences"
    if about.is_stream:
        return f"{cast(Any, parts.train).count:,} tokens"
    return counted(len(parts.train.x), "sequence")


def new_buckets(config: Config, parts: Parts) -> tuple[int, ...] | None:
    """Return the steps to which a new run pads its batches; None: to those of the longest sequence, as there is little.

    Raises:
        DataError: there are fewer sequences than a batch has.
    """
    if config.data.is_stream:
        return None
    lengths = parts.train.lengths
    if parts.draw is not None or lengths is None:
        return None
    steps_per_epoch(len(lengths), config.batch_size)
    return choose_edges(lengths, parts.train.x.shape[1], config.batch_size)


def buckets_to_try(
    config: Config, parts: Parts, stored: About | None, *, new: bool
) -> Iterator[tuple[int, ...] | None]:
    """Yield the buckets with which a run may have begun: those that it stored, those of a new run, none.

    Args:
        config: configuration of the run.
        parts: its data.
        stored: what its data.json says; None: that is missing or damaged.
        new: whether the run may be one of this version. Earlier ones had no buckets.
    """
    if stored is not None and stored.buckets is not None and _fit(stored.buckets, parts.train):
        yield stored.buckets
    if stored is not None and stored.buckets is None:
        yield None
    if new:
        yield new_buckets(config, parts)
    yield None


def _fit(buckets: tuple[int, ...], train: Sequences) -> bool:
    """Return whether these can be the buckets of a training part."""
    ascending = len(buckets) > 0 and list(buckets) == sorted(set(buckets))
    return ascending and train.lengths is not None and train.lengths.max() <= buckets[-1] <= train.x.shape[1]


def make_batches(config: Config, parts: Parts, about: About) -> Batches:
    """Return the batches of a run, in the buckets that `about` states; a thread prepares those of the next steps.

    Raises:
        DataError: there are fewer sequences than a batch has.
    """
    batches = _batches(config, parts, about)
    return batches._replace(draw=Ahead(batches.draw))


def _batches(config: Config, parts: Parts, about: About) -> Batches:
    """Return the batches of a run, drawn when they are asked for.

    Raises:
        DataError: there are fewer sequences than a batch has.
    """
    size, train = config.batch_size, parts.train
    if about.is_stream:
        streams = make_streams(cast(Any, train), size, config.data.segment)
        text = f"{counted(size, 'stream')} of {streams.length:,} tokens; the gradient is cut after {streams.steps}"
        return Batches(streams.draw, streams.epoch, (size, streams.steps), None, text)
    if parts.draw is not None:
        return Batches(partial(parts.draw, size), max((config.steps or 0) // 10, 1), None, None, "")
    epoch, steps, lengths = steps_per_epoch(len(train.x), size), train.x.shape[1], train.lengths
    draw = partial(batch, train, size)
    weight = None  # of a batch, on average
    if train.weight is not None:
        of_steps = np.full(len(train.x), steps) if lengths is None else lengths
        weight = float((train.weight * (of_steps if about.per_step else 1)).mean() * size)
    if lengths is None:
        return Batches(draw, epoch, (size, steps), weight, "")
    if about.buckets is None:
        older = choose_edges(lengths, steps, size) is not None
        reason = ", as in the version of lstmjax that began this run" if older else ""
        text = _described(lengths, len(lengths) * steps, [steps], reason)
        return Batches(draw, epoch, (size, steps), weight, text)
    buckets = make_buckets(lengths, about.buckets, size)
    shapes = [(bucket.rows, bucket.steps) for bucket in buckets.content]
    labels = float(lengths.sum()) if about.per_step else float(len(lengths))
    if train.weight is not None:
        labels = float((train.weight * (lengths if about.per_step else 1)).sum())
    return Batches(
        partial(bucketed_batch, train, buckets, per_step=about.per_step),
        buckets.batches,
        max(shapes, key=lambda shape: shape[0] * shape[1]),
        labels / buckets.batches,
        _described(lengths, buckets.computed, [bucket.steps for bucket in buckets.content]),
    )


def _described(lengths: np.ndarray, computed: int, steps: list[int], reason: str = "") -> str:
    """Say how many of the computed steps are padding, and how many steps batches have."""
    percent = float(f"{100 * padding(lengths, computed):.2g}")
    counts = ", ".join(f"{count:,}" for count in steps)
    kind = "buckets of" if len(steps) > 1 else "all batches have"
    return f"padding: {percent:g}% of the steps ({kind} {counts} steps{reason})"
