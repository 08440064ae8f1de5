"""What a report is about, as it was given: the sequences, and what they and their features are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jax.typing import ArrayLike


class Given(NamedTuple):
    """N sequences with all that is known about them."""

    xs: np.ndarray  # [N, T, I] as the network sees them
    shown: np.ndarray  # [N, T, I] as a reader knows them
    lengths: np.ndarray  # [N]
    ragged: bool
    examples: tuple[int, ...]  # rows that are shown
    labels: np.ndarray | None  # [N, ...]
    features: tuple[str, ...] | None  # I names
    names: tuple[str, ...]  # N names
    reasons: Mapping[int, str]

    def valid(self) -> np.ndarray:
        """Gives which steps are there, bool `[N, T]`."""
        return np.arange(self.xs.shape[1]) < self.lengths[:, None]

    def lengths_of(self, rows: Any) -> np.ndarray | None:
        """Gives the valid steps of some sequences; None: all T, which computes less."""
        return self.lengths[rows] if self.ragged else None


def given(
    xs: ArrayLike,
    *,
    lengths: ArrayLike | None,
    examples: Sequence[int] | None,
    labels: ArrayLike | None,
    features: Sequence[str] | None,
    names: Sequence[str] | None,
    reasons: Mapping[int, str] | None,
    shown: ArrayLike | None,
) -> Given:
    """Gives what `report` was handed, if its parts fit each other.

    Raises:
        ValueError: they do not.
    """
    xs = np.asarray(xs)
    one = xs.ndim == 2
    if xs.ndim not in (2, 3) or 0 in xs.shape:
        raise ValueError(f"xs has shape {xs.shape}, expected [N, T, I], or one sequence [T, I], with numbers in it.")
    xs = xs[None] if one else xs
    count, steps, size = xs.shape
    shown = xs if shown is None else np.asarray(shown)
    shown = shown[None] if shown.ndim == 2 else shown
    if shown.shape != xs.shape:
        raise ValueError(f"shown has shape {shown.shape}, but xs {xs.shape}; expected the same inputs in other units.")
    if not np.isfinite(shown.astype(np.float64)).all() or not np.isfinite(xs.astype(np.float64)).all():
        raise ValueError("xs holds numbers that are not finite; fill or remove them, padding too.")
    whole = np.full(count, steps) if lengths is None else np.atleast_1d(np.asarray(lengths))
    if whole.shape != (count,) or whole.dtype.kind not in "iu" or whole.min() < 1 or whole.max() > steps:
        raise ValueError(f"lengths is {lengths!r}, expected {count} whole numbers from 1 to T = {steps}.")
    rows = tuple(range(min(4, count))) if examples is None else tuple(int(n) for n in examples)
    if not rows or len(set(rows)) < len(rows) or not all(0 <= n < count for n in rows):
        raise ValueError(f"examples is {list(rows)}, expected different rows of xs, 0 to {count - 1}; at least one.")
    _check_names("features", features, size, "features at each step")
    _check_names("names", names, count, "sequences")
    labels = None if labels is None else np.asarray(labels)[None] if one else np.asarray(labels)
    if labels is not None and labels.shape[:1] != (count,):
        raise ValueError(f"labels has shape {labels.shape}, but xs has {count} sequences; give one label for each.")
    return Given(
        xs,
        shown,
        whole,
        lengths is not None,
        rows,
        labels,
        None if features is None else tuple(map(str, features)),
        tuple(f"sequence {n}" for n in range(count)) if names is None else tuple(map(str, names)),
        dict(reasons or {}),
    )


def _check_names(name: str, words: Sequence[Any] | None, size: int, of: str) -> None:
    if words is not None and len(words) != size:
        raise ValueError(f"{name} has {len(words)} names, but xs has {size} {of}; give one for each.")


def check_labels(data: Given, width: int, loss: str, per_step: bool) -> None:
    """Refuses labels that the loss cannot read.

    Raises:
        ValueError: another shape or kind of number.
    """
    labels, softmax = data.labels, loss == "softmax"
    if labels is None:
        return
    shape = (len(data.xs), *([data.xs.shape[1]] if per_step else []), *([] if softmax else [width]))
    if labels.shape != shape or (softmax and labels.dtype.kind not in "iu"):
        kind = f"numbers of classes, 0 to {width - 1}," if softmax else "numbers"
        raise ValueError(
            f"labels is {labels.dtype} {labels.shape}, but the loss {loss} of these sequences expects {kind} {shape}."
        )
    if softmax and not (labels.min() >= 0 and labels.max() < width):
        raise ValueError(f"labels holds {labels.min()} to {labels.max()}, expected classes 0 to {width - 1}.")


def names_of_outputs(classes: Sequence[str] | None, width: int, loss: str) -> tuple[str, ...]:
    """Gives the names of the outputs, numbers where there are none.

    Raises:
        ValueError: another number of names.
    """
    if classes is not None and len(classes) != width:
        raise ValueError(f"classes has {len(classes)} names, but the network has {width} outputs; give one for each.")
    letter = "" if loss == "softmax" else "y"
    return tuple(f"{letter}{n}" for n in range(width)) if classes is None else tuple(map(str, classes))


def letters_of(data: Given) -> np.ndarray | None:
    """Gives which feature is 1 at each step, int `[N, T]`, -1 where none is; None if the inputs are no such thing."""
    valid = data.shown[data.valid()]
    if data.features is None or not np.isin(valid, (0, 1)).all() or valid.sum(axis=-1).max() > 1:
        return None
    return np.where(data.shown.max(axis=-1) > 0, data.shown.argmax(axis=-1), -1)
