"""The sequences of a report, with their labels and names, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np

if TYPE_CHECKING:
    from jax.typing import ArrayLike


class ReportInputs(NamedTuple):
    """N sequences with their labels and names."""

    xs: np.ndarray  # [N, T, I] as the network sees them
    shown: np.ndarray  # [N, T, I] in the units of the reader
    lengths: np.ndarray  # [N]
    ragged: bool
    examples: tuple[int, ...]  # rows that are shown
    labels: np.ndarray | None  # [N, ...]
    features: tuple[str, ...] | None  # I names
    names: tuple[str, ...]  # N names
    times: tuple[tuple[str, ...], ...] | None  # of the valid steps of each of N sequences
    reasons: Mapping[int, str]

    def valid(self) -> np.ndarray:
        """Return which steps are valid, bool `[N, T]`."""
        return np.arange(self.xs.shape[1]) < self.lengths[:, None]

    def with_zeros_at_padding(self) -> ReportInputs:
        """Return the same with zeros as the labels of padding, which may hold anything; there is a label at each step.

        A loss that leaves them out still has NaN as its gradient where they are NaN.
        """
        labels = self.labels
        if labels is None or labels.shape[:2] != self.xs.shape[:2]:
            return self
        valid = self.valid().reshape(*self.xs.shape[:2], *[1] * (labels.ndim - 2))
        return self._replace(labels=np.where(valid, labels, np.zeros((), labels.dtype)))

    def lengths_of(self, rows: Any) -> np.ndarray | None:
        """Return the lengths of some sequences; None: all have T steps, which computes less."""
        return self.lengths[rows] if self.ragged else None


class InputOptions(TypedDict, total=False):
    """What `report` is told of the sequences, beside their numbers."""

    lengths: ArrayLike | None
    """Valid steps `[N]`; None: all T."""
    examples: Sequence[int] | None
    """Rows of xs whose steps are on the page; None: the first four."""
    labels: ArrayLike | None
    """The labels for the loss; None: unknown."""
    features: Sequence[str] | None
    """Names of the I features."""
    names: Sequence[str] | None
    """Names of the N sequences."""
    times: Sequence[Sequence[str]] | None
    """Names of the steps of each of the N sequences, such as dates, for its valid steps; None: they are counted."""
    reasons: Mapping[int, str] | None
    """A few words on why an example is shown, by its row."""
    shown: ArrayLike | None
    """The inputs in the units of the reader, in the shape of xs; None: xs."""


def report_inputs(
    xs: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    examples: Sequence[int] | None = None,
    labels: ArrayLike | None = None,
    features: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    times: Sequence[Sequence[str]] | None = None,
    reasons: Mapping[int, str] | None = None,
    shown: ArrayLike | None = None,
) -> ReportInputs:
    """Return the inputs of `report`, checked; arguments as there.

    Raises:
        ValueError: an argument does not fit the others.
    """
    xs = np.asarray(xs)
    single = xs.ndim == 2
    if xs.ndim not in (2, 3) or 0 in xs.shape:
        raise ValueError(f"xs has shape {xs.shape}, expected [N, T, I], or one sequence [T, I], with numbers in it.")
    xs = xs[None] if single else xs
    count, steps, size = xs.shape
    shown = xs if shown is None else np.asarray(shown)
    shown = shown[None] if shown.ndim == 2 else shown
    if shown.shape != xs.shape:
        raise ValueError(f"shown has shape {shown.shape}, but xs {xs.shape}; expected the same inputs in other units.")
    steps_of = np.full(count, steps) if lengths is None else np.atleast_1d(np.asarray(lengths))
    if steps_of.shape != (count,) or steps_of.dtype.kind not in "iu" or steps_of.min() < 1 or steps_of.max() > steps:
        raise ValueError(f"lengths is {lengths!r}, expected {count} whole numbers from 1 to T = {steps}.")
    valid = (np.arange(steps) < steps_of[:, None])[..., None]
    xs, shown = (np.where(valid, a, np.zeros((), a.dtype)) for a in (xs, shown))  # padding may hold anything
    if not np.isfinite(shown.astype(np.float64)).all() or not np.isfinite(xs.astype(np.float64)).all():
        raise ValueError("xs holds numbers that are not finite at valid steps; fill or remove them.")
    rows = tuple(range(min(4, count))) if examples is None else tuple(int(n) for n in examples)
    if not rows or len(set(rows)) < len(rows) or not all(0 <= n < count for n in rows):
        raise ValueError(f"examples is {list(rows)}, expected different rows of xs, 0 to {count - 1}; at least one.")
    _check_names("features", features, size, "features at each step")
    _check_names("names", names, count, "sequences")
    _check_names("times", times, count, "sequences")
    for n, row in enumerate(times or ()):
        if len(row) != steps_of[n]:
            raise ValueError(f"times[{n}] has {len(row)} names, but that sequence has {steps_of[n]} valid steps.")
    if labels is not None:
        labels = np.asarray(labels)[None] if single else np.asarray(labels)
    if labels is not None and labels.shape[:1] != (count,):
        raise ValueError(f"labels has shape {labels.shape}, but xs has {count} sequences; give one label for each.")
    return ReportInputs(
        xs,
        shown,
        steps_of,
        lengths is not None,
        rows,
        labels,
        None if features is None else tuple(map(str, features)),
        tuple(f"sequence {n}" for n in range(count)) if names is None else tuple(map(str, names)),
        None if times is None else tuple(tuple(map(str, row)) for row in times),
        dict(reasons or {}),
    )


def _check_names(name: str, words: Sequence[Any] | None, size: int, of: str) -> None:
    """Refuse names that are not as many as what they name."""
    if words is not None and len(words) != size:
        raise ValueError(f"{name} has {len(words)} names, but xs has {size} {of}; give one for each.")


def check_labels(data: ReportInputs, width: int, loss: str, per_step: bool) -> None:
    """Refuse labels that do not fit the loss.

    Raises:
        ValueError: labels have another shape or kind of number.
    """
    labels, softmax = data.labels, loss == "softmax"
    if labels is None:
        return
    shape: tuple[int, ...] = (len(data.xs),)
    if per_step:
        shape += (data.xs.shape[1],)
    if not softmax:
        shape += (width,)
    if labels.shape != shape or (softmax and labels.dtype.kind not in "iu"):
        kind = f"numbers of classes, 0 to {width - 1}," if softmax else "numbers"
        raise ValueError(
            f"labels is {labels.dtype} {labels.shape}, but the loss {loss} of these sequences expects {kind} {shape}."
        )
    if softmax and not (labels.min() >= 0 and labels.max() < width):
        raise ValueError(f"labels holds {labels.min()} to {labels.max()}, expected classes 0 to {width - 1}.")


def names_of_outputs(classes: Sequence[str] | None, width: int, loss: str) -> tuple[str, ...]:
    """Return the names of the outputs: those of the classes, or numbers.

    Raises:
        ValueError: there are not as many names as outputs.
    """
    if classes is not None and len(classes) != width:
        raise ValueError(f"classes has {len(classes)} names, but the network has {width} outputs; give one for each.")
    if classes is not None:
        return tuple(map(str, classes))
    letter = "" if loss == "softmax" else "y"
    return tuple(f"{letter}{n}" for n in range(width))


def letters_of(data: ReportInputs) -> np.ndarray | None:
    """Return which feature is 1 at each step, int `[N, T]`, -1 where none is; None for inputs that are not one-hot."""
    valid = data.shown[data.valid()]
    if data.features is None or not np.isin(valid, (0, 1)).all() or valid.sum(axis=-1).max() > 1:
        return None
    return np.where(data.shown.max(axis=-1) > 0, data.shown.argmax(axis=-1), -1)
