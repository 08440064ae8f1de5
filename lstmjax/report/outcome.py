"""The results over all sequences: which are wrong, classes that are confused, predictions beside targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lstmjax.data import Ragged
from lstmjax.report.predictions import short
from lstmjax.training.scores import class_scores, confusion

MAX_WRONG = 2000  # entries of a list that a page can hold
MAX_POINTS = 2000  # of a picture
MAX_CLASSES = 40  # of a matrix that can be read


class Outcome(NamedTuple):
    """Predictions and labels of N sequences."""

    outputs: np.ndarray | Ragged  # [N, O] or [N, T, O]: probabilities or numbers
    labels: np.ndarray  # as the loss takes them: [N], [N, T], [N, O] or [N, T, O]
    lengths: np.ndarray | None  # [N]; None: all T
    names: Sequence[str]  # N names
    about: str = ""  # "the test part"
    looked_at: np.ndarray | None = None  # which of the N the sequences of the page are, in their order; None: the first


class Rows(NamedTuple):
    """The results with an entry for each label: those of sequences, or those of all valid steps."""

    outputs: np.ndarray  # [M, O]
    labels: np.ndarray  # [M] or [M, O]
    row: np.ndarray  # [M], the sequence
    step: np.ndarray | None  # [M]; None: a label for the sequence

    def named(self, entry: int, names: Sequence[str], places: Mapping[int, int]) -> dict[str, Any]:
        """Return what the page says of an entry: its name, its step, and its place among the examples."""
        row = int(self.row[entry])
        step = None if self.step is None else int(self.step[entry])
        return {"name": names[row], "step": step, "example": places.get(row)}


def rows_of(outcome: Outcome) -> Rows:
    """Return the entries of an outcome, without padding."""
    outputs, labels = outcome.outputs, outcome.labels
    if isinstance(outputs, np.ndarray) and outputs.ndim == 2:
        return Rows(outputs, labels, np.arange(len(outputs)), None)
    count, steps = outputs.shape[:2]
    valid = np.ones((count, steps), bool)
    if outcome.lengths is not None:
        valid = np.arange(steps) < outcome.lengths[:, None]
    row, step = np.nonzero(valid)
    return Rows(outputs.flat if isinstance(outputs, Ragged) else outputs[valid], labels[valid], row, step)


def _classes(rows: Rows, outcome: Outcome, names: Sequence[str], places: Mapping[int, int]) -> dict[str, Any]:
    """Return the confusion matrix, the scores of each class, and what is wrong from the most confident on."""
    predicted = rows.outputs.argmax(axis=-1)
    matrix = confusion(rows.labels, predicted, len(names))
    chance = rows.outputs.max(axis=-1)
    wrong = np.flatnonzero(predicted != rows.labels)
    wrong = wrong[np.argsort(-chance[wrong], kind="stable")]
    entries = [
        rows.named(n, outcome.names, places)
        | {"label": int(rows.labels[n]), "says": int(predicted[n]), "chance": short(chance[n])}
        for n in wrong[:MAX_WRONG].tolist()
    ]
    scores = class_scores(matrix)
    table = [[_number(value) for value in values] for values in zip(*scores, strict=True)]
    return {
        "right": len(predicted) - len(wrong),
        "scores": table,
        "matrix": matrix.tolist() if len(names) <= MAX_CLASSES else None,
        "wrong": entries,
        "wrongs": len(wrong),
    }


def _switches(rows: Rows, outcome: Outcome, names: Sequence[str], places: Mapping[int, int]) -> dict[str, Any]:
    """Return the scores of each output that is on or off, and what is wrong from the most confident on."""
    on, label = rows.outputs > 0.5, rows.labels > 0.5
    table = []
    for n in range(len(names)):
        scores = class_scores(confusion(label[:, n], on[:, n], 2))
        table.append([_number(values[1]) for values in scores])
    chance = np.where(on == label, 0.0, np.maximum(rows.outputs, 1 - rows.outputs))
    most = chance.max(axis=-1)
    wrong = np.flatnonzero(most > 0)
    wrong = wrong[np.argsort(-most[wrong], kind="stable")]
    entries = []
    for n in wrong[:MAX_WRONG].tolist():
        output = int(chance[n].argmax())
        entries.append(
            rows.named(n, outcome.names, places)
            | {"output": output, "says": "on" if on[n, output] else "off", "chance": short(most[n])}
        )
    return {"right": len(on) - len(wrong), "scores": table, "matrix": None, "wrong": entries, "wrongs": len(wrong)}


def _numbers(rows: Rows, outcome: Outcome, names: Sequence[str], places: Mapping[int, int]) -> dict[str, Any]:
    """Return targets with their predictions, and the errors of each output."""
    error = rows.outputs.astype(np.float64) - rows.labels
    mse = np.square(error).mean(axis=0)
    variance = np.var(rows.labels.astype(np.float64), axis=0)
    table = []
    for n in range(len(names)):
        r2 = None if variance[n] == 0 else short(1 - mse[n] / variance[n])
        table.append([short(np.sqrt(mse[n])), short(np.abs(error[:, n]).mean()), r2])
    count = len(rows.outputs)
    chosen = np.linspace(0, count - 1, min(count, max(1, MAX_POINTS // len(names))), dtype=int)
    sizes = np.sqrt(np.square(error).mean(axis=1))
    worst = np.argsort(-sizes, kind="stable")[:20]
    return {
        "scores": table,
        "target": [[short(value) for value in rows.labels[n]] for n in chosen],
        "prediction": [[short(value) for value in rows.outputs[n]] for n in chosen],
        "points": [rows.named(n, outcome.names, places) for n in chosen.tolist()],
        "worst": [rows.named(n, outcome.names, places) | {"error": short(sizes[n])} for n in worst.tolist()],
    }


OUTCOMES: MappingProxyType[str, Callable[[Rows, Outcome, Sequence[str], Mapping[int, int]], dict[str, Any]]] = (
    MappingProxyType({"softmax": _classes, "sigmoid": _switches, "linear": _numbers})
)
"""For each loss, the function that arranges the results."""


def outcome_tree(
    outcome: Outcome | None, names: Sequence[str], loss: str, examples: Sequence[int]
) -> dict[str, Any] | None:
    """Return the part of the page about the results over all sequences; None: there are no labels or no head.

    Args:
        outcome: predictions and labels.
        names: names of the O outputs.
        loss: a row of `LOSSES`.
        examples: rows of the sequences that are on the page step by step.

    Raises:
        ValueError: a prediction is not finite.
    """
    if outcome is None:
        return None
    rows = rows_of(outcome)
    if not np.isfinite(rows.outputs).all():
        name = outcome.names[rows.row[np.argwhere(~np.isfinite(rows.outputs))[0, 0]]]
        raise ValueError(f"the network gives NaN or infinity for {name}, which no page can show.")
    if outcome.looked_at is not None:
        examples = outcome.looked_at[list(examples)].tolist()
    places = {row: place for place, row in enumerate(examples)}
    tree = OUTCOMES[loss](rows, outcome, names, places)
    return tree | {"count": len(rows.row), "of": "sequences" if rows.step is None else "steps", "about": outcome.about}


def _number(value: float) -> float | None:
    """Return a number for JSON; None for NaN."""
    return None if np.isnan(value) else short(value)
