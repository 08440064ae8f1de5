"""Which unit remembers it? Units ranked by how well their c tells two kinds of sequences apart, all through a span."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import checks
from lstmjax.arguments import as_array, check_positive, kind, one_of
from lstmjax.inside.layered import each_part
from lstmjax.types import Array, Step

PLACES = 32  # of a span; an AUC is computed at each


class Question(NamedTuple):
    """Something of which a reader wants to know whether a unit remembers it."""

    name: str  # "first marker"
    labels: np.ndarray  # bool [N], one of the two answers in each sequence
    spans: np.ndarray  # whole numbers [N, 2]: from this step up to, not including, that one it should be remembered


class Separation(NamedTuple):
    """How well each of H units answers a question."""

    auc: Array  # [H]; 1: at no place of the span is there a wrong pair; 0.5 or less: the unit does not hold it
    sign: Array  # [H]; +1: larger where the label is True, -1: smaller
    distance: Array  # [H]; between the means of the two kinds, in units of their spread


class Unit(NamedTuple):
    """A unit, and how well it answers a question."""

    layer: int  # from the bottom up
    direction: str  # "forward", or "reverse" for the other one of a pair
    unit: int
    auc: float
    sign: int  # +1: larger where the label is True, -1: smaller
    distance: float  # between the means of the two kinds, in units of their spread


def auc(values: Array, labels: Array) -> Array:
    """Gives the area under the ROC curve of each column: how often a True sequence has the larger value.

        AUC = (#{a > b} + #{a = b} / 2) / (n_True · n_False)

    over all pairs of a True sequence's value a and a False sequence's value b, counted by ranks
    (Mann & Whitney 1947). 1: always larger; 0: always smaller; 0.5: it tells nothing.

    Args:
        values: `[N, ...]`.
        labels: bool `[N]`, with both kinds in it.

    Returns:
        `[...]`; NaN where a value is.

    >>> auc(jnp.array([[1.0], [3.0], [2.0], [3.0]]), jnp.array([False, False, True, True]))
    Array([0.625], dtype=float32)
    """
    values, labels = _wide(values), jnp.asarray(labels)
    order = jnp.argsort(values, axis=0)
    ordered = jnp.take_along_axis(values, order, axis=0)
    count = len(labels)
    places = jnp.arange(count).reshape(-1, *[1] * (values.ndim - 1))
    same = ordered[1:] == ordered[:-1]
    edge = jnp.zeros((1, *values.shape[1:]), bool)
    # Equal values share the mean of their first and last place.
    first = jax.lax.cummax(jnp.where(jnp.concatenate([edge, same]), 0, places), axis=0)
    last = jax.lax.cummin(jnp.where(jnp.concatenate([same, edge]), count - 1, places), axis=0, reverse=True)
    ranks = (first + last).astype(values.dtype) / 2  # [N, ...], from 0
    true = labels[order]
    yes = labels.sum().astype(values.dtype)  # whole numbers would overflow at some ten thousand sequences
    pairs = yes * (count - yes)
    least = yes * (yes - 1) / 2  # the sum of ranks of Trues that are all below
    result = (jnp.where(true, ranks, 0).sum(axis=0) - least) / pairs
    return jnp.where(jnp.isnan(values).any(axis=0), jnp.nan, result)


def separation_over(values: Any, question: Question, *, places: int = PLACES) -> Array:
    """Gives the AUC of each unit at places of the span, `[places, H]`, from its first step to its last.

    Spans differ in length from sequence to sequence: they are aligned at both ends, and between them
    the places lie evenly, at the nearest step.

    Args:
        values: what may remember, c above all, `[N, T, H]`.
        question: labels and spans of the same N sequences.
        places: how many.

    Raises:
        ValueError: labels or spans do not fit.
    """
    return auc(_at_places(values, question, places), jnp.asarray(question.labels))


def separation(values: Any, question: Question, *, places: int = PLACES) -> Separation:
    """Gives how well each unit tells the two answers apart all through the span.

    The AUC is computed at `places` of the span (`separation_over`), and the smallest counts: a unit that
    forgets before the end does not remember. Larger where the label is True is as good as smaller,
    but it must be the same one throughout. Where the AUC is 1, the distance tells more: the difference of
    the two means over the root of the mean of the two variances (d′ of signal detection), again the
    smallest along the span.

    Args:
        values: what may remember, c above all, `[N, T, H]`.
        question: labels and spans of the same N sequences.
        places: at how many places of the span, at least 1.

    Returns:
        `Separation`: auc, sign and distance, `[H]` each.

    Raises:
        ValueError: labels or spans do not fit.

    >>> c = jnp.array([[1.0, 1.0], [2.0, 0.0], [5.0, 1.0]])[:, :, None]
    >>> labels = np.array([False, True, True])
    >>> separation(c, Question("kind", labels, np.array([[0, 1]] * 3))).auc
    Array([1.], dtype=float32)
    >>> separation(c, Question("kind", labels, np.array([[0, 2]] * 3))).auc  # lost at the second step
    Array([0.25], dtype=float32)
    """
    held = _at_places(values, question, places)
    labels = jnp.asarray(question.labels)
    over = auc(held, labels)
    up, down = over.min(axis=0), 1 - over.max(axis=0)
    sign = jnp.where(up >= down, 1, -1)
    true, false = (_mean_and_variance(held, kind) for kind in (labels, ~labels))
    between, spread = true[0] - false[0], jnp.sqrt((true[1] + false[1]) / 2)
    distance = jnp.where(between == 0, 0, jnp.where(sign > 0, between, -between) / spread)
    return Separation(jnp.maximum(up, down), sign, distance.min(axis=0))


def rank_units(traces: Any, question: Question, *, field: str = "c", places: int = PLACES) -> tuple[Unit, ...]:
    """Gives all units of all layers and directions, the one that answers the question best first.

    By AUC; among equals, of which a trained network has several, by distance.

    Args:
        traces: what the steps computed, as `trace` gives it: a `Step` of arrays `[N, T, H]`, or a
            tuple with one for each layer, a `Bidirectional` of two for a pair.
        question: labels and spans of the same N sequences.
        field: which array of `Step` is looked at.
        places: see `separation`.

    Raises:
        ValueError: labels or spans do not fit, or the traces do not hold the field.
    """
    one_of("field", field, Step._fields)
    units = []
    for layer, direction, step in each_part(traces):
        values = getattr(step, field, None)
        if values is None:
            raise ValueError(f"traces have no {field} at layer {layer}; trace it with fields=({field!r},)")
        found = separation(values, question, places=places)
        units += [
            Unit(layer, direction, n, float(a), int(s), float(d))
            for n, (a, s, d) in enumerate(zip(*map(np.asarray, found), strict=True))
        ]
    return tuple(sorted(units, key=lambda unit: (np.nan_to_num(unit.auc), np.nan_to_num(unit.distance)), reverse=True))


def _at_places(values: Any, question: Question, places: int) -> Array:
    """Gives the values at places of each sequence's span, `[N, places, H]`."""
    values = _wide(values)
    check_positive("places", places)
    check(question, values.shape)
    start, stop = np.asarray(question.spans).T[:, :, None]
    part = np.linspace(0.0, 1.0, places)
    steps = np.rint(start + part * (stop - 1 - start)).astype(np.int32)  # [N, places]
    return jnp.take_along_axis(values, jnp.asarray(steps)[..., None], axis=1)


def _wide(values: Any) -> Array:
    """Gives numbers in which ranks and their sums can be told apart: at least single precision."""
    values = as_array("values", values)
    floating = jnp.issubdtype(values.dtype, jnp.floating)
    return values.astype(checks.cell_dtype(values.dtype) if floating else jnp.float32)


def _mean_and_variance(values: Array, chosen: Array) -> tuple[Array, Array]:
    """Gives both over the chosen of N sequences."""
    weight = chosen.reshape(-1, 1, 1).astype(values.dtype) / chosen.sum().astype(values.dtype)
    mean = (weight * values).sum(axis=0)
    return mean, (weight * jnp.square(values - mean[None])).sum(axis=0)


def check(question: Question, shape: tuple[int, ...]) -> None:
    """Refuses a question that cannot be asked of values of a shape.

    Raises:
        ValueError: which part of it does not fit.
    """
    if not isinstance(question, Question):
        raise TypeError(f"question is {kind(question)}, expected a Question(name, labels, spans).")
    name, labels, spans = question.name, np.asarray(question.labels), np.asarray(question.spans)
    if len(shape) != 3:
        raise ValueError(f"values are {shape}, expected [N, T, H]; for one sequence there is nothing to tell apart.")
    if labels.shape != shape[:1] or labels.dtype != bool:
        raise ValueError(
            f"{name}: labels are {labels.dtype} {labels.shape}, expected bool ({shape[0]},), labels == 1, say."
        )
    if labels.all() or not labels.any():
        which = bool(labels.any())
        raise ValueError(f"{name}: all {len(labels)} labels are {which}; give sequences of both kinds.")
    if spans.shape != (shape[0], 2) or not np.issubdtype(spans.dtype, np.integer):
        raise ValueError(f"{name}: spans are {spans.dtype} {spans.shape}, expected whole numbers ({shape[0]}, 2).")
    start, stop = spans.T
    if (wrong := np.flatnonzero((start < 0) | (start >= stop) | (stop > shape[1]))).size:
        n = wrong[0]
        raise ValueError(
            f"{name}: span {n} is {start[n]} to {stop[n]}, expected 0 <= start < stop <= T = {shape[1]}; the stop is "
            "not part of it."
        )
