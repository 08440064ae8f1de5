"""Scores of a classifier by class: the confusion matrix, recall, precision and F1.

Both `lstmjax evaluate` and the report show them, so they are computed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

MAX_COLUMNS = 12  # classes of a matrix that fits on a terminal


class ClassScores(NamedTuple):
    """Scores of each of O classes; NaN where there is nothing to divide by."""

    labels: np.ndarray  # [O], labels of the class
    recall: np.ndarray  # [O], fraction of its labels that are predicted
    precision: np.ndarray  # [O], fraction of its predictions that are right
    f1: np.ndarray  # [O], harmonic mean of the two


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count how often each class is predicted for each label.

    Args:
        labels: numbers of classes, of any shape.
        predicted: numbers of classes in the same shape.
        classes: O.

    Returns:
        `[O, O]`: a row for each label, a column for each prediction.

    >>> confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), 3).tolist()
    [[1, 1, 0], [0, 1, 0], [0, 1, 0]]
    """
    pairs = classes * np.asarray(labels, np.int64).ravel() + np.asarray(predicted, np.int64).ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_scores(matrix: np.ndarray) -> ClassScores:
    """Compute the scores of each class from a confusion matrix `[O, O]`.

    >>> scores = class_scores(np.array([[3, 1], [0, 4]]))
    >>> scores.recall.tolist(), scores.precision.tolist(), scores.f1.round(3).tolist()
    ([0.75, 1.0], [1.0, 0.8], [0.857, 0.889])
    """
    right, labels, predictions = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return ClassScores(labels, right / labels, right / predictions, 2 * right / (labels + predictions))


def score_lines(matrix: np.ndarray, names: Sequence[str], of: str) -> Iterator[str]:
    """Yield a table of the scores, and the confusion matrix, as lines of text.

    Args:
        matrix: as `confusion` returns it.
        names: names of the classes.
        of: what has a label, "sequences" or "steps".
    """
    scores = class_scores(matrix)
    width = max(5, *map(len, names))
    yield f"{'class':{width}}  {of:>9}  recall  precision      F1"
    for name, count, *values in zip(names, *scores, strict=True):
        texts = ["-" if np.isnan(value) else f"{value:.4f}" for value in values]
        yield f"{name:{width}}  {count:9}  {texts[0]:>6}  {texts[1]:>9}  {texts[2]:>6}"
    if len(names) > MAX_COLUMNS:
        return
    yield "confusion, a row for each label, a column for each prediction:"
    cell = max(*map(len, names), len(str(matrix.max())))
    yield " " * width + "".join(f"  {name:>{cell}}" for name in names)
    for name, row in zip(names, matrix, strict=True):
        yield f"{name:{width}}" + "".join(f"  {count:{cell}}" for count in row)
