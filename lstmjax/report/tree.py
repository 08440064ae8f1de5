"""What is on the page, as a tree for JSON with arrays in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np

from lstmjax.dimensions import Row, shapes
from lstmjax.networks import NetworkParams
from lstmjax.report.collect import How, compute, loss_says, parts_of
from lstmjax.report.given import Given, check_labels, letters_of, names_of_outputs
from lstmjax.report.pack import Kept
from lstmjax.report.predictions import prediction, said_of, short
from lstmjax.stack import Layers
from lstmjax.types import PyTree, Step

Ranking: TypeAlias = Sequence[tuple]
"""Units from the best to the worst: layer, direction, unit, AUC, and what else there is."""

FIELDS = (
    ("i", "input gate", "gate"),
    ("f", "forget gate", "gate"),
    ("g", "candidate", "signed"),
    ("o", "output gate", "gate"),
    ("c", "cell state", "signed"),
    ("h", "output of the unit", "signed"),
    ("m", "output of the unit, before the projection", "signed"),
)
"""Name, what it is, and whether it stands between 0 and 1 or around 0."""


def tree_of(
    params: Layers | NetworkParams,
    data: Given,
    how: How,
    *,
    classes: Sequence[str] | None,
    records: Sequence[Mapping[str, Any]],
    remembers: Sequence[tuple[str, Ranking]],
) -> dict[str, Any]:
    """Gives all that the page shows, but for its title.

    Raises:
        ValueError: what was given does not fit the network, or it computes numbers that are not finite.
    """
    names, labels, rows = None, None, np.array(data.examples)
    if isinstance(params, NetworkParams):
        names = names_of_outputs(classes, params.head.b.shape[0], how.loss)
        check_labels(data, len(names), how.loss, how.per_step)
        labels = None if data.labels is None else jnp.asarray(data.labels[rows])
    lengths = jnp.asarray(data.lengths, jnp.int32) if data.ragged else None
    computed = compute(params, jnp.asarray(data.xs), lengths, rows, labels, how=how)
    said = [None] * len(rows) if names is None else said_of(computed, data, names, how)
    steps, flow = parts_of(computed.steps), parts_of(computed.flow)
    projected = any(step.h.shape[-1] != step.c.shape[-1] for step in steps.values())
    fields = [field for field in FIELDS if field[0] != ("h" if projected else "m")]
    letters = letters_of(data)
    kind = "text" if letters is not None else "signal" if _is_signal(data) else "image"
    model = _model(params, data, how)
    pairs = {layer for layer, direction in steps if direction == "reverse"}
    titles = {part: _label(*part, pair=part[0] in pairs) for part in steps}
    places = {part: n for n, part in enumerate(steps)}
    return {
        "facts": [_size(steps), f"{model['parameters']} parameters"],
        "notes": [],
        "model": model,
        "parts": [{"label": titles[part], "units": step.c.shape[-1]} for part, step in steps.items()],
        "fields": [dict(zip(("name", "label", "kind"), field, strict=True)) for field in fields],
        "outputs": names,
        "loss": how.loss,
        "perStep": how.per_step and names is not None,
        "input": {"kind": kind, "features": data.features},
        "examples": [
            {
                "name": data.names[row],
                "why": data.reasons.get(row, ""),
                "steps": int(data.lengths[row]),
                "input": _input(data, letters, row),
                "parts": [_values(step, fields, n, data.lengths[row], titles[part]) for part, step in steps.items()],
                "flow": [_sizes(part, n, data.lengths[row]) for part in flow.values()],
                **prediction(said[n], how.loss),
            }
            for n, row in enumerate(data.examples)
        ],
        "flow": loss_says(names is not None, labels is not None, how),
        "saturation": _saturation(computed.saturation, data),
        "curves": _curves(records),
        "remembers": [_ranking(question, ranking, places) for question, ranking in remembers],
    }


def _ranking(question: str, ranking: Ranking, places: Mapping[tuple[int, str], int]) -> dict[str, Any]:
    for layer, direction, *_ in ranking:
        if (layer, direction) not in places:
            raise ValueError(
                f"remembers: {question!r} names layer {layer} {direction}, which is not there; layers count from 0, "
                "and a direction is 'forward' or, of a pair, 'reverse'."
            )
    found = [[places[layer, direction], unit, short(auc)] for layer, direction, unit, auc, *_ in ranking]
    return {"question": question, "ranking": found}


def _size(steps: Mapping[tuple[int, str], Step]) -> str:
    """Says how many layers there are, and how many units each has in each direction."""
    layers, units = {layer for layer, _ in steps}, {step.c.shape[-1] for step in steps.values()}
    pair = ", both directions" if len(steps) == 2 * len(layers) else ""
    return f"{len(layers)} LSTM layer{'s' * (len(layers) > 1)}{pair}, {' or '.join(map(str, sorted(units)))} units"


def _label(layer: int, direction: str, *, pair: bool) -> str:
    return f"layer {layer + 1}, {direction}" if pair else f"layer {layer + 1}"


def _is_signal(data: Given) -> bool:
    """Whether the features are few enough to be lines; more are drawn as the rows of an image."""
    return data.shown.shape[-1] <= (3 if data.features is None else 6)


def _input(data: Given, letters: np.ndarray | None, row: int) -> list[int] | Kept:
    length = data.lengths[row]
    return Kept(data.shown[row, :length]) if letters is None else letters[row, :length].tolist()


def _values(step: Step, fields: Sequence[tuple[str, str, str]], n: int, length: int, place: str) -> dict[str, Kept]:
    found = {}
    for name, label, _ in fields:
        values = np.asarray(getattr(step, name)[n, :length], np.float64)
        if not np.isfinite(values).all():
            t, unit = np.argwhere(~np.isfinite(values))[0].tolist()
            raise ValueError(
                f"{name} ({label}) of {place}, unit {unit}, is {values[t, unit]} at step {t} of example {n}: that is "
                "no number. Look at its parameters, or at a checkpoint before it diverged."
            )
        found[name] = Kept(values, name)
    return found


def _sizes(flow: Step, n: int, length: int) -> dict[str, list[float]]:
    """Gives the norms over the units at each step; squared in float64, where small gradients do not vanish."""
    norms = {name: np.linalg.norm(np.asarray(getattr(flow, name)[n, :length], np.float64), axis=-1) for name in "ch"}
    return {name: [short(value) for value in values] for name, values in norms.items()}


def _saturation(statistics: PyTree, data: Given) -> dict[str, Any]:
    found = parts_of(statistics).values()
    steps = int(next(iter(found)).count)
    return {
        "says": f"Over {steps:,} steps of {len(data.xs):,} sequence{'s' * (len(data.xs) > 1)}: how often a gate is "
        "nearly closed, to the right, and nearly open, upwards (Karpathy et al. 2015). Each point is a unit; click "
        "to pin it.",
        "parts": [
            {gate: {"left": _column(one.left, gate), "right": _column(one.right, gate)} for gate in one.left._fields}
            for one in found
        ],
    }


def _column(gates: NamedTuple, gate: str) -> list[float]:
    return [short(value) for value in np.asarray(getattr(gates, gate))]


def _model(params: Layers | NetworkParams, data: Given, how: How) -> dict[str, Any]:
    table = shapes(params, time=data.xs.shape[1], merge=how.merge, cell=how.cell)

    def said(rows: Sequence[Row]) -> list[list[str]]:
        shown = [
            [row.name, row.formula, f"({', '.join(row.letters)})", f"({', '.join(map(str, row.shape))})"]
            for row in rows
        ]
        sizes = [[f"{row.number} = {row.parameters:,}"] if row.number else [] for row in rows]
        return [row + size for row, size in zip(shown, sizes, strict=True)]

    return {
        "layers": [
            {
                "title": title,
                "total": f"{total} = {sum(row.parameters for row in rows):,} parameters, whatever T, B and O are",
                "rows": said(rows),
            }
            for title, total, rows in table.layers
        ],
        "head": said(table.head),
        "flow": said(table.flow),
        "parameters": f"{table.parameters:,}",
        "notes": table.notes,
    }


def _curves(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Gives the lines of metrics.jsonl as columns, a panel for the loss and one for the metric."""
    if not records:
        return None
    return {
        "steps": [record["step"] for record in records],
        "panels": [
            {"name": name, **{part: [record[part][name] for record in records] for part in ("train", "validation")}}
            for name in records[0]["validation"]
        ],
    }
