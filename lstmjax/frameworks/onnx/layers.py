"""Write a layer as ONNX nodes: the operator LSTM if it can compute the cell, otherwise a Scan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from lstmjax import checks
from lstmjax.cell import CellStep
from lstmjax.frameworks.layouts import ConvertError
from lstmjax.frameworks.onnx.graph import Name
from lstmjax.frameworks.onnx.operator import lstm_nodes, unsaid
from lstmjax.frameworks.onnx.scan import scan_node
from lstmjax.frameworks.onnx.shared import Shared, step_numbers
from lstmjax.layered import merged_width
from lstmjax.stack import Layers, check_fits, directions, naming, placed
from lstmjax.types import Bidirectional


class Layer(NamedTuple):
    """The outputs of a layer: ys `[time, batch, W]`, the last `[batch, W]`, and name, size and end of each state."""

    ys: Name
    last: Name
    states: list[tuple[Name, int, Name]]


def check_layers(shared: Shared, layers: Layers) -> None:
    """Refuse parameters of another cell, and layers that do not fit each other, as `stacked` does."""
    width = directions(layers[0])[0].input_size
    for n, layer in enumerate(layers):
        with naming(n):
            if isinstance(shared.step, CellStep):
                for part in directions(layer):
                    checks.check_params(part, shared.row)
        check_fits(n, layer, jax.ShapeDtypeStruct((width,), shared.dtype), shared.merge)
        width = merged_width(layer, shared.merge)


def layer_nodes(shared: Shared, n: int, layer: Any, xs: Name) -> Layer:
    """Add the nodes of layer n to the graph, and return its outputs on xs `[time, batch, I]`."""
    parts = directions(layer)
    prefixes = [f"layers.{n}."]
    if len(parts) == 2:
        prefixes = [f"layers.{n}.{direction}." for direction in Bidirectional._fields]
    reasons = [reason for part in parts for reason in unsaid(shared, part)]
    if shared.operator == "lstm" and reasons:
        raise ConvertError(f"layer {n}: the operator LSTM has no word for {reasons[0]}; pass operator='scan'")
    if shared.operator == "scan" or reasons or (shared.operator == "auto" and shared.dtype != np.float32):
        runs = [
            scan_node(_placed(shared, n, direction), part, xs, prefix, direction == "reverse")
            for direction, part, prefix in zip(Bidirectional._fields, parts, prefixes, strict=False)
        ]
    else:
        runs = lstm_nodes(shared, parts, xs, prefixes)
    states: list[tuple[Name, int, Name]] = []
    for part, prefix, run in zip(parts, prefixes, runs, strict=True):
        states += zip([prefix + word for word in shared.words], shared.sizes(part), run.ends, strict=True)
    ys = _merged(shared, [run.ys for run in runs])
    last = _merged(shared, [run.ends[0] for run in runs])
    return Layer(ys, last, states)


def _placed(shared: Shared, n: int, direction: str) -> Shared:
    return replace(shared, wrappers=placed(shared.wrappers, n, shared.pairs, direction))


def _merged(shared: Shared, names: list[Name]) -> Name:
    if len(names) == 1:
        return names[0]
    if shared.merge == "concat":
        return shared.graph.add("Concat", *names, axis=-1)
    return shared.graph.add("Add", *names)


def last_of(shared: Shared, xs: Name) -> Name:
    """Return xs `[time, batch, W]` at the last valid step, `[batch, W]`; zeros for a sequence without steps."""
    graph = shared.graph
    if not shared.lengths:
        return graph.add("Gather", xs, graph.constant(np.int64(-1)), axis=0)
    is_last = graph.add("Equal", step_numbers(shared, xs), graph.add("Sub", "lengths", graph.constant(np.int32(1))))
    is_last = graph.add("Unsqueeze", is_last, graph.ints(2))
    last = graph.add("Where", is_last, xs, graph.constant(np.zeros((), shared.dtype)))
    return graph.add("ReduceSum", last, graph.ints(0), keepdims=0)
