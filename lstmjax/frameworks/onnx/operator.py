"""Write a layer as a node of ONNX' operator LSTM, for the cells that this operator can compute."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lstmjax.cell import CellStep
from lstmjax.cells import VANILLA, Cell
from lstmjax.frameworks.onnx.activations import written
from lstmjax.frameworks.onnx.graph import Name, Run, Shared
from lstmjax.frameworks.onnx.weights import COUPLED, write_arrays
from lstmjax.published import Clip, forget_from_input
from lstmjax.types import GATES, LSTMParams


def unsaid(shared: Shared, params: LSTMParams) -> Iterator[str]:
    """Yield, in words, what the operator LSTM cannot compute of a layer."""
    if not isinstance(shared.step, CellStep):
        yield "a step of your own"
        return
    row = shared.row
    if shared.wrappers:
        yield "wrappers around the step"
    if params.w_p is not None:
        yield "a projection"
    for field in ("w_r", "norm", "gain"):
        if field in row.has:
            yield f"{field} of the cell {row.name!r}"
    for field in ("join", "normalise", "carry", "inside"):
        if getattr(row, field) != getattr(VANILLA, field):
            yield f"{field} of the cell {row.name!r}"
    if (row.blocks, row.couple) not in ((GATES, VANILLA.couple), (COUPLED, forget_from_input)):
        yield f"the gates of the cell {row.name!r}"
    sigmas = {getattr(row, gate) for gate in row.blocks if gate != "g"}
    if len(sigmas) > 1:
        yield f"gates with activations of their own, as the cell {row.name!r} has them"
    for activation in (*sigmas, row.g, row.squash):
        if written(activation) is None:
            yield f"the activation {getattr(activation, '__name__', activation)} of the cell {row.name!r}"
    if row.limit is not VANILLA.limit and not (isinstance(row.limit, Clip) and row.limit.before is VANILLA.limit):
        yield f"limit of the cell {row.name!r}"


def attributes(row: Cell) -> dict[str, Any]:
    """Return the attributes of a node LSTM for one direction of a cell that it can compute."""
    activations: list[Any] = [written(activation) for activation in (row.i, row.g, row.squash)]
    result: dict[str, Any] = {"activations": [name for name, _ in activations]}
    for n, name in enumerate(("activation_alpha", "activation_beta")):
        values = [constants[n] for _, constants in activations if len(constants) > n]
        if values:
            result[name] = values
    if isinstance(row.limit, Clip):
        result["clip"] = row.limit.limit
    if row.couple is forget_from_input:
        result["input_forget"] = 1
    return result


def lstm_nodes(shared: Shared, parts: tuple[LSTMParams, ...], xs: Name, prefixes: list[str]) -> list[Run]:
    """Add a node LSTM for a layer, or two if its directions differ in size, and return the outputs of each direction.

    Args:
        shared: what all layers share.
        parts: the directions of the layer.
        xs: the inputs, `[time, batch, I]`.
        prefixes: what the names of states begin with, for each direction.
    """
    arrays = [write_arrays(shared.row, part) for part in parts]
    shapes = {tuple((name, a is None or a.shape) for name, a in arrays_of_part.items()) for arrays_of_part in arrays}
    if len(shapes) == 1:
        return _node(shared, parts, arrays, xs, prefixes, "bidirectional" if len(parts) == 2 else "forward")
    runs = []
    for k, direction in enumerate(("forward", "reverse")):
        runs += _node(shared, parts[k : k + 1], arrays[k : k + 1], xs, prefixes[k : k + 1], direction)
    return runs


def _node(
    shared: Shared, parts: tuple[LSTMParams, ...], arrays: list[dict], xs: Name, prefixes: list[str], direction: str
) -> list[Run]:
    graph = shared.graph
    stem = prefixes[0].removesuffix("forward.")
    inputs = {}
    for name in arrays[0]:
        stacked = [arrays_of_part[name] for arrays_of_part in arrays]
        inputs[name] = "" if stacked[0] is None else graph.constant(np.stack(stacked), stem + name)
    begin = ["", ""]
    if shared.state:
        axis = graph.ints(0)
        for n, word in enumerate("hc"):
            states = [graph.add("Unsqueeze", prefix + word, axis) for prefix in prefixes]
            begin[n] = graph.add("Concat", *states, axis=0)
    options = attributes(shared.row)
    for name, value in options.items():
        if isinstance(value, list):  # an entry for each activation, in each direction
            options[name] = value * len(parts)
    names = [xs, inputs["W"], inputs["R"], inputs["B"], "lengths" if shared.lengths else "", *begin, inputs["P"]]
    while not names[-1]:
        names.pop()
    outputs = [graph.fresh(word) for word in ("Y", "Y_h", "Y_c")]
    graph.add("LSTM", *names, outputs=outputs, direction=direction, hidden_size=parts[0].hidden_size, **options)
    any_step = ""
    if shared.lengths and shared.state:  # for length 0 the last state is the initial one; ONNX Runtime returns 0
        any_step = graph.add("Unsqueeze", graph.add("Greater", "lengths", graph.constant(np.int32(0))), graph.ints(1))
    runs = []
    for k, prefix in enumerate(prefixes):
        at = graph.constant(np.int64(k))
        ends = [graph.add("Gather", name, at, axis=0) for name in outputs[1:]]
        if any_step:
            ends = [graph.add("Where", any_step, end, prefix + word) for end, word in zip(ends, "hc", strict=True)]
        runs.append(Run(graph.add("Gather", outputs[0], at, axis=1), ends))
    return runs
