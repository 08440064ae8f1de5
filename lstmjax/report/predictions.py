"""Predictions for the page: what the network predicts of an example and if that is right, in words and numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lstmjax.claims import counted
from lstmjax.report.collect import Computed, Settings
from lstmjax.report.inputs import ReportInputs
from lstmjax.report.pack import PageArray
from lstmjax.training.losses import LOSSES

MAX_NUMBERS = 4  # more of a regression are drawn, not written


class Prediction(NamedTuple):
    """What a network predicts for one example of t steps, and the label."""

    outputs: np.ndarray  # [O] or [t, O]: probabilities or numbers
    label: np.ndarray | None  # as the loss takes it: [], [t], [O] or [t, O]
    loss: float | None
    names: Sequence[str]  # O of them


def predictions_of(
    computed: Computed, data: ReportInputs, names: Sequence[str], settings: Settings
) -> list[Prediction]:
    """Return the predictions of a network with a head for each example."""
    assert computed.logits is not None
    outputs = np.asarray(LOSSES[settings.loss].readout(computed.logits))
    labels, losses = data.labels, computed.losses
    predictions = []
    for n, row in enumerate(data.examples):
        steps = slice(data.lengths[row]) if settings.per_step else ...
        label = None if labels is None else labels[row][steps]
        loss = None if losses is None else float(losses[n])
        predictions.append(Prediction(outputs[n][steps], label, loss, names))
    return predictions


def _class(prediction: Prediction) -> tuple[str, bool | None]:
    """Describe the most likely class, or the classes of all steps."""
    best = prediction.outputs.argmax(axis=-1)
    if prediction.outputs.ndim == 2:
        if prediction.label is None:
            classes = len(set(best.tolist()))
            return f"{classes} {'class' if classes == 1 else 'classes'} over {counted(len(best), 'step')}", None
        right = int((best == prediction.label).sum())
        return f"{right} of {counted(len(best), 'step')} right", True if right == len(best) else None
    chance = f"{prediction.names[int(best)]} ({100 * prediction.outputs[best]:.1f}%)"
    if prediction.label is None or best == prediction.label:
        return chance, None if prediction.label is None else True
    return f"{chance}, label {prediction.names[int(prediction.label)]}", False


def _switches(prediction: Prediction) -> tuple[str, bool | None]:
    """Describe the outputs that are on."""
    on = prediction.outputs > 0.5
    if on.ndim == 2:
        words = f"{100 * on.mean():.0f}% on"
    else:
        words = ", ".join(name for name, is_on in zip(prediction.names, on, strict=True) if is_on) or "none"
    if prediction.label is None:
        return words, None
    right = on == (prediction.label > 0.5)
    return f"{words}, {int(right.sum())} of {right.size} right", bool(right.all())


def _numbers(prediction: Prediction) -> tuple[str, bool | None]:
    """Describe the numbers, or the error of many numbers or of all steps."""
    if prediction.outputs.ndim == 2:
        return "" if prediction.loss is None else f"squared error {prediction.loss:.3g}", None
    if len(prediction.outputs) > MAX_NUMBERS:
        if prediction.loss is None:
            return counted(len(prediction.outputs), "number"), None
        return f"root mean squared error {np.sqrt(prediction.loss):.3g}", None
    words = ", ".join(f"{value:.3g}" for value in prediction.outputs)
    if prediction.label is not None:
        words += f", label {', '.join(f'{y:.3g}' for y in prediction.label)}"
    return words, None


VERDICTS: MappingProxyType[str, Callable[[Prediction], tuple[str, bool | None]]] = MappingProxyType(
    {"softmax": _class, "sigmoid": _switches, "linear": _numbers}
)
"""For each loss, the function that describes a prediction and says if it is right (None: unknown, or by degree)."""


def prediction_tree(prediction: Prediction | None, loss: str) -> dict[str, Any]:
    """Return the part of an example's tree that is about its prediction."""
    if prediction is None:
        return {"verdict": "", "right": None, "outputs": None, "target": None, "loss": None}
    words, right = VERDICTS[loss](prediction)
    target: Any = prediction.label
    if target is not None:
        target = target.tolist() if target.dtype.kind in "iu" else _listed(target)
    return {
        "verdict": words,
        "right": right,
        "outputs": _listed(prediction.outputs),
        "target": target,
        "loss": None if prediction.loss is None else short(prediction.loss),
    }


def _listed(values: np.ndarray) -> PageArray | list[float]:
    """Return numbers over time as an array of the page, the numbers of one step as a list."""
    return PageArray(values) if values.ndim == 2 else [short(value) for value in values]


def short(value: float) -> float:
    """Return a number with six significant digits."""
    return float(f"{value:.6g}")
