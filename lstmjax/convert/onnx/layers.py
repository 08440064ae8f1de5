"""One layer as ONNX nodes: the operator LSTM where it can say the cell, else a Scan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from lstmjax import checks
from lstmjax.cell import CellStep
from lstmjax.convert.layouts import ConvertError
from lstmjax.convert.onnx.graph import Name
from lstmjax.convert.onnx.operator import lstm_nodes, unsaid
from lstmjax.convert.onnx.scan import scan_node
from lstmjax.convert.onnx.shared import Shared, step_numbers
from lstmjax.stack import Layers, check_fits, directions, naming, placed
from lstmjax.types import Bidirectional


class Layer(NamedTuple):
    """What a layer gives: ys `[time, batch, W]`, the last `[batch, W]`, and of each state its name, size and end."""

    ys: Name
    last: Name
    states: list[tuple[Name, int, Name]]


def check_layers(shared: Shared, layers: Layers) -> None:
    """Refuses parameters that are not of the cell, and layers that do not fit each other, as `stacked` does."""
    width = directions(layers[0])[0].input_size
    for n, layer in enumerate(layers):
        with naming(n):
            for part in directions(layer) if isinstance(shared.step, CellStep) else ():
                checks.check_params(part, shared.row)
        check_fits(n, layer, jax.ShapeDtypeStruct((width,), shared.dtype), shared.merge)
        width = width_of(layer, shared.merge)


def width_of(layer: Any, merge: str) -> int:
    """Gives W, the width of what a layer gives."""
    widths = [part.output_size for part in directions(layer)]
    return sum(widths) if merge == "concat" else widths[0]


def layer_nodes(shared: Shared, n: int, layer: Any, xs: Name) -> Layer:
    """Gives the outputs of layer n on xs `[time, batch, I]`, whose nodes it adds to the graph."""
    parts = directions(layer)
    ways = [f"layers.{n}.{way}." for way in layer._fields] if len(parts) == 2 else [f"layers.{n}."]
    reasons = [reason for part in parts for reason in unsaid(shared, part)]
    if shared.operator == "lstm" and reasons:
        raise ConvertError(f"layer {n}: the operator LSTM has no word for {reasons[0]}; pass operator='scan'")
    if shared.operator == "scan" or reasons or (shared.operator == "auto" and shared.dtype != np.float32):
        runs = [
            scan_node(_placed(shared, n, direction), part, xs, way, direction == "reverse")
            for direction, part, way in zip(Bidirectional._fields, parts, ways, strict=False)
        ]
    else:
        runs = lstm_nodes(shared, parts, xs, ways)
    states: list[tuple[Name, int, Name]] = []
    for part, way, run in zip(parts, ways, runs, strict=True):
        states += zip([way + word for word in shared.words], shared.sizes(part), run.ends, strict=True)
    ys, last = (_merged(shared, names) for names in ([run.ys for run in runs], [run.ends[0] for run in runs]))
    return Layer(ys, last, states)


def _placed(shared: Shared, n: int, direction: str) -> Shared:
    return replace(shared, wrappers=placed(shared.wrappers, n, shared.pairs, direction))


def _merged(shared: Shared, names: list[Name]) -> Name:
    if len(names) == 1:
        return names[0]
    return shared.graph.add("Concat", *names, axis=-1) if shared.merge == "concat" else shared.graph.add("Add", *names)


def last_of(shared: Shared, xs: Name) -> Name:
    """Gives xs `[time, batch, W]` at the last valid step, zeros where there is none: `[batch, W]`."""
    graph = shared.graph
    if not shared.lengths:
        return graph.add("Gather", xs, graph.constant(np.int64(-1)), axis=0)
    one = graph.add("Equal", step_numbers(shared, xs), graph.add("Sub", "lengths", graph.constant(np.int32(1))))
    picked = graph.add(
        "Where", graph.add("Unsqueeze", one, graph.ints(2)), xs, graph.constant(np.zeros((), shared.dtype))
    )
    return graph.add("ReduceSum", picked, graph.ints(0), keepdims=0)
