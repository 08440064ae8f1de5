"""What the network says of an example, and whether that is right, in words and numbers for the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lstmjax.report.collect import Computed, How
from lstmjax.report.given import Given
from lstmjax.report.pack import Kept
from lstmjax.training.losses import LOSSES


class Said(NamedTuple):
    """What is said of one example of t steps, and what is right."""

    outputs: np.ndarray  # [O] or [t, O]: probabilities or numbers
    label: np.ndarray | None  # as the loss has it: [], [t], [O] or [t, O]
    loss: float | None
    names: Sequence[str]  # O of them


def said_of(computed: Computed, data: Given, names: Sequence[str], how: How) -> list[Said]:
    """Gives what a network with a head says of each example."""
    assert computed.logits is not None
    outputs = np.asarray(LOSSES[how.loss].readout(computed.logits))
    labels, losses = data.labels, computed.losses
    found = []
    for n, row in enumerate(data.examples):
        steps = slice(data.lengths[row]) if how.per_step else ...
        label = None if labels is None else labels[row][steps]
        found.append(Said(outputs[n][steps], label, None if losses is None else float(losses[n]), names))
    return found


def _class(said: Said) -> tuple[str, bool | None]:
    best = said.outputs.argmax(axis=-1)
    if said.outputs.ndim == 2:
        if said.label is None:
            return f"{len(set(best.tolist()))} classes over {len(best)} steps", None
        right = int((best == said.label).sum())
        return f"{right} of {len(best)} steps right", True if right == len(best) else None
    chance = f"{said.names[int(best)]} ({100 * said.outputs[best]:.1f}%)"
    if said.label is None or best == said.label:
        return chance, None if said.label is None else True
    return f"{chance}, label {said.names[int(said.label)]}", False


def _switches(said: Said) -> tuple[str, bool | None]:
    on = said.outputs > 0.5
    words = ", ".join(name for name, is_on in zip(said.names, on, strict=True) if is_on) if on.ndim == 1 else ""
    words = words or (f"{100 * on.mean():.0f}% on" if on.ndim == 2 else "none")
    if said.label is None:
        return words, None
    right = on == (said.label > 0.5)
    return f"{words}, {int(right.sum())} of {right.size} right", bool(right.all())


def _numbers(said: Said) -> tuple[str, bool | None]:
    if said.outputs.ndim == 2:
        return "" if said.loss is None else f"squared error {said.loss:.3g}", None
    words = ", ".join(f"{value:.4g}" for value in said.outputs[:3])
    return words if said.label is None else f"{words}, label {', '.join(f'{y:.4g}' for y in said.label[:3])}", None


VERDICTS: MappingProxyType[str, Callable[[Said], tuple[str, bool | None]]] = MappingProxyType(
    {"softmax": _class, "sigmoid": _switches, "linear": _numbers}
)
"""For each loss: what was said, in words, and whether it is right; None: nobody knows, or it is a matter of degree."""


def prediction(said: Said | None, loss: str) -> dict[str, Any]:
    """Gives the part of an example's tree that is about its prediction."""
    if said is None:
        return {"verdict": "", "right": None, "outputs": None, "target": None, "loss": None}
    words, right = VERDICTS[loss](said)
    target = said.label
    return {
        "verdict": words,
        "right": right,
        "outputs": _listed(said.outputs),
        "target": None if target is None else target.tolist() if target.dtype.kind in "iu" else _listed(target),
        "loss": None if said.loss is None else short(said.loss),
    }


def _listed(values: np.ndarray) -> Kept | list[float]:
    return Kept(values) if values.ndim == 2 else [short(value) for value in values]


def short(value: float) -> float:
    """Gives a number with six digits that count."""
    return float(f"{value:.6g}")
