"""Write a layer as ONNX nodes: the operator LSTM if it can compute the cell, otherwise a Scan over the step itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
from onnx import helper

from lstmjax import checks
from lstmjax.cell import CellStep
from lstmjax.frameworks.base.layouts import ConvertError
from lstmjax.frameworks.onnx.graph import Graph, Name, Run, Shared, step_numbers, tensor, valid_steps
from lstmjax.frameworks.onnx.lower import batched, lower
from lstmjax.frameworks.onnx.operator import lstm_nodes, unsaid
from lstmjax.layer import NO_EXTRAS, compose
from lstmjax.layered import merged_width
from lstmjax.stack import Layers, check_fits, directions, naming, placed
from lstmjax.types import Bidirectional, LSTMParams
from lstmjax.wrappers import Hold, Look


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


def scan_node(shared: Shared, params: LSTMParams, xs: Name, prefix: str, reverse: bool) -> Run:
    """Add a Scan whose body is the step with its wrappers, as JAX traces it, and return its outputs."""
    graph, body, dtype = shared.graph, Graph(shared.graph), shared.dtype
    sizes = shared.sizes(params)
    shapes = [jax.ShapeDtypeStruct((size,), dtype) for size in (*sizes, params.input_size)]
    flags = [jax.ShapeDtypeStruct((), bool)] if shared.lengths else []
    *state, x = shapes
    wrapped: list[tuple] = [(w, w.draw(None, 1, tuple(state), x)) for w in shared.wrappers]
    wrapped += [(Look("h"), NO_EXTRAS), *[(Hold(None), NO_EXTRAS)] * shared.lengths]
    wrapped_step, fixed, per_step = compose(shared.step, wrapped)
    if jax.tree.leaves(per_step):
        raise ConvertError("a wrapper needs something for each step at evaluation, too, which is not exported")

    def once(state: tuple, x: Any, *valid: Any) -> Any:
        pairs = list(zip(fixed, per_step, strict=True))
        return wrapped_step(params, state, x, ((None, *valid), *pairs[1:]) if valid else tuple(pairs))

    with jax.enable_x64(dtype == np.float64):
        closed, (end, y) = jax.make_jaxpr(once, return_shape=True)(tuple(state), x, *flags)
        names = [body.fresh(word) for word in (*shared.words, "x")]
        if shared.lengths:
            names.append(body.fresh("valid"))
        out = lower(body, closed.jaxpr, closed.consts, list(names))
    structure: Any = jax.tree.structure((end, y))
    if structure != jax.tree.structure((tuple(state), x)) or y.shape != (params.output_size,):
        raise ConvertError("a step of your own is exported if its state is (h, c) and it emits h")
    outputs = []
    for value in out:
        value = value if isinstance(value, str) else batched(body, value, names[0])
        outputs.append(body.add("Identity", value))
    body_inputs = [tensor(name, a.dtype, None) for name, a in zip(names, (*shapes, *flags), strict=True)]
    body_outputs = [tensor(name, dtype, None) for name in outputs]
    sequences = [xs]
    if shared.lengths:
        sequences.append(valid_steps(shared, xs))
    begin = []
    for word, size in zip(shared.words, sizes, strict=True):
        begin.append(prefix + word if shared.state else _zeros(shared, xs, size))
    results = graph.add(
        "Scan", *begin, *sequences, outputs=[graph.fresh(word) for word in (*shared.words, "ys")],
        body=helper.make_graph(body.nodes, f"{prefix}step", body_inputs, body_outputs),
        num_scan_inputs=len(sequences), scan_input_directions=[int(reverse)] * len(sequences),
        scan_output_directions=[int(reverse)],
    )  # fmt: skip
    return Run(results[-1], results[:-1])


def _zeros(shared: Shared, xs: Name, size: int) -> Name:
    """Return zeros `[batch, size]`."""
    graph = shared.graph
    shape = graph.add("Concat", graph.add("Shape", xs, start=1, end=2), graph.ints(size), axis=0)
    return graph.add("Expand", graph.constant(np.zeros((), shared.dtype)), shape)
