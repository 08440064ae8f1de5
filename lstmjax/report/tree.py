"""The contents of the page, as a tree for JSON with arrays in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypedDict

import jax.numpy as jnp
import numpy as np

from lstmjax.dimensions import Row, shapes
from lstmjax.networks import NetworkParams
from lstmjax.report.checkpoints import checkpoint_maps
from lstmjax.report.collect import (
    MAX_PREFIXES,
    Computed,
    Settings,
    by_direction,
    compute,
    compute_outputs,
    loss_text,
    score_text,
)
from lstmjax.report.details import RunDetails, details_tree
from lstmjax.report.inputs import ReportInputs, check_labels, letters_of, names_of_outputs
from lstmjax.report.outcome import Outcome, outcome_tree
from lstmjax.report.pack import PageArray
from lstmjax.report.predictions import Prediction, prediction_tree, predictions_of, short
from lstmjax.stack import Layers
from lstmjax.training.losses import LOSSES
from lstmjax.types import GATE_WORDS, PyTree, Step

Ranking: TypeAlias = Sequence[tuple]
"""Units from the best to the worst: layer, direction, unit, AUC, and further entries."""

MAX_LINES = 16
"""Features that are drawn as lines, at most: each takes a row of the page."""
MAX_OVER_TIME = 12
"""Outputs that are kept at every step, at most."""
MAX_RATIO = 10
"""Largest range of a feature over that of a usual one, up to which an image shows them all in the same greys."""

FIELDS = (
    ("i", GATE_WORDS["i"], "gate"),
    ("f", GATE_WORDS["f"], "gate"),
    ("g", GATE_WORDS["g"], "signed"),
    ("o", GATE_WORDS["o"], "gate"),
    ("c", "cell state", "signed"),
    ("h", "output of the unit", "signed"),
    ("m", "output of the unit, before the projection", "signed"),
)
"""Name, label, and "gate" for values between 0 and 1, "signed" for values around 0."""


class ContentOptions(TypedDict, total=False):
    """What the page shows of a network beside what it computes."""

    classes: Sequence[str] | None
    """Names of the O outputs."""
    records: Sequence[Mapping[str, Any]]
    """Lines of a run's metrics.jsonl, for the training curves."""
    remembers: Sequence[tuple[str, Ranking]]
    """For each question its name and its units from the best to the worst."""
    outcome: Outcome | None
    """Predictions and labels for the results; None: those of xs, if there are labels and a head."""
    run: RunDetails | None
    """The command and the hyperparameters of the run behind the network."""
    facts: Sequence[str]
    """Lines below the title."""


def tree_of(
    params: Layers | NetworkParams,
    data: ReportInputs,
    settings: Settings,
    *,
    classes: Sequence[str] | None = None,
    records: Sequence[Mapping[str, Any]] = (),
    remembers: Sequence[tuple[str, Ranking]] = (),
    outcome: Outcome | None = None,
    run: RunDetails | None = None,
    facts: Sequence[str] = (),
) -> dict[str, Any]:
    """Return everything that the page shows, except its title; keywords as for `report`.

    Raises:
        ValueError: the inputs do not fit the network, or it computes numbers that are not finite.
    """
    names, labels = None, None
    rows = np.array(data.examples)
    if settings.per_step:
        data = data.with_zeros_at_padding()
    if isinstance(params, NetworkParams):
        names = names_of_outputs(classes, params.head.b.shape[0], settings.loss)
        check_labels(data, len(names), settings.loss, settings.per_step)
        labels = None if data.labels is None else jnp.asarray(data.labels[rows])
        if outcome is None and data.labels is not None:
            outputs = compute_outputs(params, data.xs, data.lengths_of(...), settings)
            outcome = Outcome(outputs, data.labels, data.lengths, data.names)
    lengths = jnp.asarray(data.lengths, jnp.int32) if data.ragged else None
    computed = compute(params, jnp.asarray(data.xs), lengths, rows, labels, settings=settings)
    predictions: list[Prediction | None] = [None] * len(rows)
    if names is not None:
        predictions = [*predictions_of(computed, data, names, settings)]
    steps, flow = by_direction(computed.steps), by_direction(computed.flow)
    projected = any(step.h.shape[-1] != step.c.shape[-1] for step in steps.values())
    fields = [field for field in FIELDS if field[0] != ("h" if projected else "m")]
    letters = letters_of(data)
    kind = "signal" if _is_signal(data) else "image"
    if letters is not None:
        kind = "text"
    model = _model(params, data, settings)
    pairs = {layer for layer, direction in steps if direction == "reverse"}
    maps = [] if run is None else checkpoint_maps(run, data, [name for name, _, _ in fields], settings)
    titles = {part: _label(*part, pair=part[0] in pairs) for part in steps}
    places = {part: n for n, part in enumerate(steps)}
    return {
        "facts": [_size(steps), f"{model['parameters']} parameters", *facts],
        "notes": [*_notes(computed, headed=names is not None), *(() if run is None else run.notes)],
        "model": model,
        "parts": [{"label": titles[part], "units": step.c.shape[-1]} for part, step in steps.items()],
        "fields": [{"name": name, "label": label, "kind": kind} for name, label, kind in fields],
        "outputs": names,
        "loss": settings.loss,
        "perStep": settings.per_step and names is not None,
        "input": {"kind": kind, "features": data.features},
        "examples": [
            {
                "name": data.names[row],
                "why": data.reasons.get(row, ""),
                "steps": int(data.lengths[row]),
                "times": None if data.times is None else data.times[row],
                "input": _input(data, letters, row),
                "parts": [_values(step, fields, n, data.lengths[row], titles[part]) for part, step in steps.items()],
                "overTime": _over_time(computed, data, n, settings),
                "saliency": _saliency(computed, data, n),
                "flow": [_sizes(part, n, data.lengths[row]) for part in flow.values()],
                **prediction_tree(predictions[n], settings.loss),
            }
            for n, row in enumerate(data.examples)
        ],
        "flow": loss_text(names is not None, labels is not None, settings),
        "score": score_text(names is not None, settings),
        "outcome": None if names is None else outcome_tree(outcome, names, settings.loss, data.examples),
        "saturation": _saturation(computed.saturation, data),
        "curves": _curves(records),
        "remembers": [_ranking(question, ranking, places) for question, ranking in remembers],
        **details_tree(run, list(steps), maps),
    }


def other_tree(tree: Mapping[str, Any], title: str) -> dict[str, Any]:
    """Return what the page shows of a second network, from a tree of all of it: without what both have alike."""
    shared = ("model", "input", "outputs", "remembers", "saturation", "score", "flow", "notes", "learning")
    other = {key: value for key, value in tree.items() if key not in shared}
    omitted = ("input", "saliency", "flow")
    other["examples"] = [{k: v for k, v in one.items() if k not in omitted} for one in tree["examples"]]
    if tree["outcome"] is not None:
        omitted = ("wrong", "target", "prediction", "points", "worst", "matrix")
        other["outcome"] = {k: v for k, v in tree["outcome"].items() if k not in omitted}
    return other | {"title": title}


def _ranking(question: str, ranking: Ranking, places: Mapping[tuple[int, str], int]) -> dict[str, Any]:
    """Return a question with its units, by the places of their layers and directions on the page."""
    for layer, direction, *_ in ranking:
        if (layer, direction) not in places:
            raise ValueError(
                f"remembers: {question!r} names layer {layer} {direction}, which is not there; layers count from 0, "
                "and a direction is 'forward' or, of a pair, 'reverse'."
            )
    rows = [[places[layer, direction], unit, short(auc)] for layer, direction, unit, auc, *_ in ranking]
    return {"question": question, "ranking": rows}


def _size(steps: Mapping[tuple[int, str], Step]) -> str:
    """Describe the layers: their number, and the number of units in each direction."""
    layers = {layer for layer, _ in steps}
    units = sorted({step.c.shape[-1] for step in steps.values()})
    noun = "layers" if len(layers) > 1 else "layer"
    pair = ", both directions" if len(steps) == 2 * len(layers) else ""
    return f"{len(layers)} LSTM {noun}{pair}, {' or '.join(map(str, units))} units"


def _label(layer: int, direction: str, *, pair: bool) -> str:
    return f"layer {layer + 1}, {direction}" if pair else f"layer {layer + 1}"


def _is_signal(data: ReportInputs) -> bool:
    """Return True for features that are drawn as lines, each on its own axis; others are the rows of an image.

    Features without names that are more than three are the rows of an image, unless their ranges differ too much for
    one scale of greys.
    """
    values = data.shown[data.valid()].astype(np.float64)
    count = values.shape[-1]
    spreads = np.ptp(values, axis=0)
    means = values.mean(axis=0)
    alike = max(spreads.max(), np.ptp(means)) <= MAX_RATIO * np.median(spreads)
    return count <= 3 or (count <= MAX_LINES and not (data.features is None and alike))


def _input(data: ReportInputs, letters: np.ndarray | None, row: int) -> list[int] | PageArray:
    length = data.lengths[row]
    return PageArray(data.shown[row, :length], "x") if letters is None else letters[row, :length].tolist()


def _notes(computed: Computed, *, headed: bool) -> list[str]:
    """Return what the page leaves out, with the reason."""
    notes = []
    if headed and computed.over_time is None:
        notes.append(
            f"Predictions over time are left out: there are more than {MAX_PREFIXES} steps, and a network with both "
            "directions has to be run on each beginning of a sequence."
        )
    if not np.isfinite(np.asarray(computed.saliency, np.float64)).all():
        notes.append("Saliency is left out: the gradient of the score is NaN or infinite.")
    return notes


def _over_time(computed: Computed, data: ReportInputs, n: int, settings: Settings) -> dict[str, Any] | None:
    """Return the predictions of one example at each step: the outputs that are largest at some step, by number."""
    if computed.over_time is None:
        return None
    logits = computed.over_time[n, : data.lengths[data.examples[n]]]
    outputs = np.asarray(LOSSES[settings.loss].readout(logits))
    # The last prediction is shown whatever comes before it.
    rank = (
        np.maximum(outputs.max(axis=0), 2 * outputs[-1]) if settings.loss != "linear" else -np.arange(outputs.shape[1])
    )
    kept = np.sort(np.argsort(-rank, kind="stable")[:MAX_OVER_TIME])
    return {"outputs": kept.tolist(), "of": outputs.shape[1], "values": PageArray(outputs[:, kept])}


def _saliency(computed: Computed, data: ReportInputs, n: int) -> PageArray | None:
    """Return ∂score/∂x of one example, `[t, I]`; None where it is not finite."""
    values = np.asarray(computed.saliency[n, : data.lengths[data.examples[n]]], np.float64)
    return PageArray(values, "s") if np.isfinite(values).all() else None


def _values(
    step: Step, fields: Sequence[tuple[str, str, str]], n: int, length: int, place: str
) -> dict[str, PageArray]:
    """Return the fields of one example of a layer and direction; refuse numbers that are not finite."""
    arrays = {}
    for name, label, _ in fields:
        values = np.asarray(getattr(step, name)[n, :length], np.float64)
        if not np.isfinite(values).all():
            t, unit = np.argwhere(~np.isfinite(values))[0].tolist()
            raise ValueError(
                f"{name} ({label}) of {place}, unit {unit}, is {values[t, unit]} at step {t} of example {n}: that is "
                "no number. Look at its parameters, or at a checkpoint before it diverged."
            )
        arrays[name] = PageArray(values, name)
    return arrays


def _sizes(flow: Step, n: int, length: int) -> dict[str, list[float]]:
    """Return the norms over the units at each step; in float64, so that squares of small gradients do not vanish."""
    norms = {}
    for name in ("c", "h"):
        values = np.asarray(getattr(flow, name)[n, :length], np.float64)
        norms[name] = [short(norm) for norm in np.linalg.norm(values, axis=-1)]
    return norms


def _saturation(statistics: PyTree, data: ReportInputs) -> dict[str, Any]:
    parts = list(by_direction(statistics).values())
    steps = int(parts[0].count)
    return {
        "says": f"Over {steps:,} steps of {len(data.xs):,} sequence{'s' * (len(data.xs) > 1)}: how often a gate is "
        "nearly closed, to the right, and nearly open, upwards (Karpathy et al. 2015). Each point is a unit; click "
        "to pin it.",
        "parts": [
            {gate: {"left": _column(part.left, gate), "right": _column(part.right, gate)} for gate in part.left._fields}
            for part in parts
        ],
    }


def _column(gates: NamedTuple, gate: str) -> list[float]:
    return [short(value) for value in np.asarray(getattr(gates, gate))]


def _model(params: Layers | NetworkParams, data: ReportInputs, settings: Settings) -> dict[str, Any]:
    table = shapes(params, time=data.xs.shape[1], merge=settings.merge, cell=settings.cell)

    def texts(rows: Sequence[Row]) -> list[list[str]]:
        lines = []
        for row in rows:
            shape = ", ".join(map(str, row.shape))
            line = [row.name, row.formula, f"({', '.join(row.letters)})", f"({shape})"]
            if row.number:
                line.append(f"{row.number} = {row.parameters:,}")
            lines.append(line)
        return lines

    return {
        "layers": [
            {
                "title": title,
                "total": f"{total} = {sum(row.parameters for row in rows):,} parameters, whatever T, B and O are",
                "rows": texts(rows),
            }
            for title, total, rows in table.layers
        ],
        "head": texts(table.head),
        "flow": texts(table.flow),
        "parameters": f"{table.parameters:,}",
        "notes": table.notes,
    }


def _curves(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the lines of metrics.jsonl as columns, with a panel for the loss and one for each metric."""
    if not records:
        return None
    return {
        "steps": [record["step"] for record in records],
        "panels": [
            {
                "name": name,
                "train": [record["train"][name] for record in records],
                "validation": [record["validation"][name] for record in records],
            }
            for name in records[0]["validation"]
            if name in records[0]["train"]  # some metrics need all outputs at once, which training has not
        ],
    }
