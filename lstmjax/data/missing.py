"""Fill missing values in a stated way: by the mean over the training part, by the last value, or with a mask."""

from __future__ import annotations

import numpy as np

from lstmjax.data.form import Form
from lstmjax.data.ragged import Ragged
from lstmjax.data.scaling import blocks, moments
from lstmjax.data.sequences import DataError, Sequences

SUFFIX = " missing"  # of the name of a feature that says where another one is missing


def fitted(form: Form, train: Sequences, learned_from: tuple[Sequences, ...]) -> Form:
    """Return the form with what fills missing values, from the training part, and the features that get a mask.

    Args:
        form: with `missing`.
        train: the training part, with NaN where values are missing.
        learned_from: the training and the validation part: features that are missing in one of them get a mask.

    Raises:
        DataError: a feature has no value in the training part.
    """
    if form.missing == "error":
        return form
    known = moments(train)
    count = _present(train)
    names = train.features or tuple(f"feature {n}" for n in range(len(count)))
    if (count == 0).any():
        raise DataError(
            f"{names[int((count == 0).argmax())]!r} is missing everywhere in the training part, so there is nothing to "
            "learn from it; leave it out by data.columns.ignore"
        )
    masked: tuple[int, ...] = ()
    if form.missing == "mask":
        gaps = np.flatnonzero(np.any([_missing(part) for part in learned_from], axis=0)).tolist()
        masked = tuple(_one_of_each_column(gaps, names, form))
    return form.model_copy(update={"fill": tuple(map(float, known.mean)), "masked": masked})


def filled(data: Sequences, form: Form, name: str) -> Sequences:
    """Return the sequences without missing values, and with the features that say where these were.

    Raises:
        DataError: a value of a feature is missing that never was in training, so that it has no mask.
    """
    if form.missing == "error" or form.fill is None:
        return data
    features = data.features or tuple(f"feature {n}" for n in range(data.x.shape[-1]))
    if form.missing == "mask":
        unmasked = np.flatnonzero(_missing(data))
        unmasked = [n for n in unmasked.tolist() if _column_of(features[n], form) not in _columns_of(form, features)]
        if unmasked:
            raise DataError(
                f"{name}: {features[unmasked[0]]!r} has missing values, but had none in training, so that the network "
                "knows no mask of it; fill them, or train with data.missing: mean or forward"
            )
    fill = np.array(form.fill, np.float32)
    if isinstance(data.x, Ragged):
        x = data.x.map(lambda flat, starts: _filled(flat, starts, fill, form), starts=True)
    else:
        count, steps = data.x.shape[:2]
        valid = data.valid()
        lengths = np.full(count, steps) if data.lengths is None else data.lengths
        starts = np.cumsum(lengths, dtype=np.int64) - lengths
        flat = _filled(data.x[valid], starts, fill, form)
        x = np.zeros((count, steps, flat.shape[-1]), np.float32)
        x[valid] = flat
    masks = tuple(f"{_column_of(features[n], form)}{SUFFIX}" for n in form.masked)
    named = None if data.features is None and not masks else (*features, *masks)
    return data._replace(x=x, features=named)


def _filled(flat: np.ndarray, starts: np.ndarray, fill: np.ndarray, form: Form) -> np.ndarray:
    """Return steps without missing values, `[steps, I + masks]`.

    Args:
        flat: all steps of some sequences, one after the other, `[steps, I]`.
        starts: the place of each sequence's first step.
        fill: what a missing value becomes, `[I]`.
        form: how.
    """
    missing = np.isnan(flat)
    values = flat
    if form.missing == "forward" and len(flat):
        places = np.where(missing, 0, np.arange(len(flat))[:, None])
        places[starts] = starts[:, None]  # the last value of the sequence before does not count
        values = np.take_along_axis(flat, np.maximum.accumulate(places, axis=0), axis=0)
    values = np.where(np.isnan(values), fill, values).astype(np.float32)
    return np.concatenate([values, missing[:, list(form.masked)].astype(np.float32)], axis=1)


def described(data: Sequences, form: Form, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return a line for the log that says what was missing in the training part and what became of it."""
    if form.missing == "error":
        return ()
    share = 1.0 - _present(data) / max(_steps(data), 1)
    names = names or tuple(f"feature {n}" for n in range(len(share)))
    gaps = [f"{names[n]} {100 * share[n]:.2g}%" for n in np.flatnonzero(share)[:12].tolist()]
    if not gaps:
        return ("missing values: none in the training part",)
    ways = {
        "mean": "filled in by the training mean",
        "forward": "filled in by the last value of the sequence, before the first one by the training mean",
        "mask": "filled in by the training mean, with a feature that says where",
    }
    more = f" and {int(np.count_nonzero(share)) - 12} more" if np.count_nonzero(share) > 12 else ""
    return (f"missing values: {', '.join(gaps)}{more}; {ways[form.missing]}",)


def _one_of_each_column(rows: list[int], names: tuple[str, ...], form: Form) -> list[int]:
    """Return the first feature of each column: the categories of one are missing together."""
    first: dict[str, int] = {}
    for n in rows:
        first.setdefault(_column_of(names[n], form), n)
    return list(first.values())


def _column_of(feature: str, form: Form) -> str:
    for column, categories in form.categories:
        if feature.startswith(f"{column}=") and feature[len(column) + 1 :] in categories:
            return column
    return feature


def _columns_of(form: Form, features: tuple[str, ...]) -> set[str]:
    return {_column_of(features[n], form) for n in form.masked}


def _present(data: Sequences) -> np.ndarray:
    """Return how many valid steps have a value of each feature, `[I]`."""
    return np.sum([(~np.isnan(block)).sum(axis=0) for block in blocks(data)], axis=0)


def _missing(data: Sequences) -> np.ndarray:
    """Return which features have missing values, bool `[I]`."""
    return np.any([np.isnan(block).any(axis=0) for block in blocks(data)], axis=0)


def _steps(data: Sequences) -> int:
    count, longest = data.x.shape[:2]
    return count * longest if data.lengths is None else int(data.lengths.sum(dtype=np.int64))
