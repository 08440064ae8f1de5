"""Units that remember: ranked by how well their c tells two kinds of sequences apart throughout a span."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import checks
from lstmjax.arguments import as_array, check_lengths, check_positive, kind, one_of
from lstmjax.inside.layered import each_part
from lstmjax.types import Array, Step

if TYPE_CHECKING:
    from jax.typing import ArrayLike

PLACES = 32  # in a span; the AUC is computed at each of them


class Question(NamedTuple):
    """A property of sequences that units may remember."""

    name: str  # "first marker"
    labels: np.ndarray  # bool [N], the answer for each sequence
    spans: np.ndarray  # whole numbers [N, 2]: (start, stop), the steps at which it should be remembered


class Separation(NamedTuple):
    """How well each of H units answers a question."""

    auc: Array  # [H]; 1: every pair is in order throughout the span; 0.5, never less: the unit does not remember
    sign: Array  # [H]; +1: larger where the label is True, -1: smaller
    distance: Array  # [H]; between the means of the two kinds, in standard deviations


class Unit(NamedTuple):
    """A unit, and how well it answers a question."""

    layer: int  # from the bottom up
    direction: str  # "forward" or, in a pair, "reverse"
    unit: int
    auc: float
    sign: int  # +1: larger where the label is True, -1: smaller
    distance: float  # between the means of the two kinds, in standard deviations


def auc(values: Array, labels: Array) -> Array:
    """Return the area under the ROC curve of each column: how often a True sequence has the larger value.

        AUC = (#{a > b} + #{a = b} / 2) / (n_True · n_False)

    over all pairs of a value a of a True sequence and a value b of a False sequence, counted by ranks (Mann & Whitney
    1947). 1: always larger; 0: always smaller; 0.5: no information.

    Args:
        values: `[N, ...]`.
        labels: bool `[N]`, with both True and False among them.

    Returns:
        `[...]`; NaN where a value is NaN.

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
    # Equal values get the mean of their first and last rank.
    first = jax.lax.cummax(jnp.where(jnp.concatenate([edge, same]), 0, places), axis=0)
    last = jax.lax.cummin(jnp.where(jnp.concatenate([same, edge]), count - 1, places), axis=0, reverse=True)
    ranks = (first + last).astype(values.dtype) / 2  # [N, ...], from 0
    true = labels[order]
    positives = labels.sum().astype(values.dtype)  # whole numbers would overflow at some ten thousand sequences
    pairs = positives * (count - positives)
    least = positives * (positives - 1) / 2  # the sum of the ranks of True sequences that are all below the others
    result = (jnp.where(true, ranks, 0).sum(axis=0) - least) / pairs
    return jnp.where(jnp.isnan(values).any(axis=0), jnp.nan, result)


def separation_over(
    values: Any, question: Question, *, places: int = PLACES, lengths: ArrayLike | None = None
) -> Array:
    """Return the AUC of each unit at places of the span, `[places, H]`, from its first step to its last.

    Spans differ in length from sequence to sequence: they are aligned at both ends, with places at even distances
    between them, each at the nearest step.

    Args:
        values: values of the units, such as c, `[N, T, H]`.
        question: labels and spans of the same N sequences.
        places: the number of places.
        lengths: valid steps of each sequence, `[N]`: spans that reach into padding are refused. None: all T.

    Raises:
        ValueError: labels or spans do not fit.
    """
    return auc(_at_places(values, question, places, lengths), jnp.asarray(question.labels))


def separation(
    values: Any, question: Question, *, places: int = PLACES, lengths: ArrayLike | None = None
) -> Separation:
    """Return how well each unit tells the two answers apart throughout the span.

    The AUC is computed at places of the span (`separation_over`), and the smallest counts: a unit that forgets before
    the end does not remember. A unit may be larger or smaller where the label is True (its sign), but must be the same
    throughout. A unit that changes sides tells nothing by itself, and has 0.5 as one that answers by chance.
    Where the AUC is 1, the distance says more: the difference of the two means over the root of the mean of the two
    variances (d′ of signal detection), again the smallest along the span.

    Args:
        values: values of the units, such as c, `[N, T, H]`.
        question: labels and spans of the same N sequences.
        places: the number of places in the span, at least 1.
        lengths: see `separation_over`.

    Returns:
        `Separation`: auc, sign and distance, `[H]` each.

    Raises:
        ValueError: labels or spans do not fit.

    >>> c = jnp.array([[1.0, 1.0], [2.0, 0.0], [5.0, 1.0]])[:, :, None]
    >>> labels = np.array([False, True, True])
    >>> separation(c, Question("kind", labels, np.array([[0, 1]] * 3))).auc
    Array([1.], dtype=float32)
    >>> separation(c, Question("kind", labels, np.array([[0, 2]] * 3))).auc  # lost at the second step
    Array([0.5], dtype=float32)
    """
    values = _at_places(values, question, places, lengths)
    labels = jnp.asarray(question.labels)
    over_span = auc(values, labels)
    up, down = over_span.min(axis=0), 1 - over_span.max(axis=0)
    sign = jnp.where(up >= down, 1, -1)
    true_mean, true_variance = _mean_and_variance(values, labels)
    false_mean, false_variance = _mean_and_variance(values, ~labels)
    difference, spread = true_mean - false_mean, jnp.sqrt((true_variance + false_variance) / 2)
    distance = jnp.where(difference == 0, 0, jnp.where(sign > 0, difference, -difference) / spread)
    kept = jnp.maximum(jnp.maximum(up, down), 0.5)
    return Separation(kept, sign, distance.min(axis=0))


def rank_units(
    traces: Any, question: Question, *, field: str = "c", places: int = PLACES, lengths: ArrayLike | None = None
) -> tuple[Unit, ...]:
    """Return the units of all layers and directions, from the best answer to the question to the worst.

    They are ordered by AUC, and by distance where several units have the same AUC.

    Args:
        traces: what `trace` returns: a `Step` of arrays `[N, T, H]`, or a tuple with one for each layer, a
            `Bidirectional` of two for a pair.
        question: labels and spans of the same N sequences.
        field: the field of `Step` that is examined.
        places: see `separation`.
        lengths: see `separation_over`.

    Raises:
        ValueError: labels or spans do not fit, or the traces do not hold the field.
    """
    one_of("field", field, Step._fields)
    units = []
    for layer, direction, step in each_part(traces):
        values = getattr(step, field, None)
        if values is None:
            raise ValueError(f"traces have no {field} at layer {layer}; trace it with fields=({field!r},)")
        aucs, signs, distances = map(np.asarray, separation(values, question, places=places, lengths=lengths))
        for n in range(len(aucs)):
            units.append(Unit(layer, direction, n, float(aucs[n]), int(signs[n]), float(distances[n])))
    return tuple(sorted(units, key=lambda unit: (np.nan_to_num(unit.auc), np.nan_to_num(unit.distance)), reverse=True))


def _at_places(values: Any, question: Question, places: int, lengths: ArrayLike | None) -> Array:
    """Return the values at places of each sequence's span, `[N, places, H]`."""
    values = _wide(values)
    check_positive("places", places)
    check(question, values.shape, lengths)
    start, stop = np.asarray(question.spans).T[:, :, None]
    fraction = np.linspace(0.0, 1.0, places)
    steps = np.rint(start + fraction * (stop - 1 - start)).astype(np.int32)  # [N, places]
    return jnp.take_along_axis(values, jnp.asarray(steps)[..., None], axis=1)


def _wide(values: Any) -> Array:
    """Return values in at least single precision, in which ranks and their sums are exact enough."""
    values = as_array("values", values)
    floating = jnp.issubdtype(values.dtype, jnp.floating)
    return values.astype(checks.cell_dtype(values.dtype) if floating else jnp.float32)


def _mean_and_variance(values: Array, chosen: Array) -> tuple[Array, Array]:
    """Return the mean and the variance over the chosen ones of N sequences."""
    weight = chosen.reshape(-1, 1, 1).astype(values.dtype) / chosen.sum().astype(values.dtype)
    mean = (weight * values).sum(axis=0)
    return mean, (weight * jnp.square(values - mean[None])).sum(axis=0)


def check(question: Question, shape: tuple[int, ...], lengths: ArrayLike | None = None) -> None:
    """Refuse a question whose labels or spans do not fit values of a shape, or reach into padding.

    Raises:
        ValueError: labels, spans or the shape; the message says which.
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
    if lengths is None:
        return
    valid = np.asarray(as_array("lengths", lengths))
    check_lengths(valid, shape[:1], shape[1])
    if (wrong := np.flatnonzero(stop > valid)).size:
        n = wrong[0]
        raise ValueError(
            f"{name}: span {n} is {start[n]} to {stop[n]}, but lengths gives sequence {n} {valid[n]} valid steps; end "
            "it where they end."
        )
