"""Follow the tensors of a model from node to node.

No number of the model is computed, only where numbers go, and lengths of axes. The output of a node without a rule
becomes `Opaque`, which names the node; whoever needs to know more of it refuses the model by that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import defs, helper

from lstmjax.frameworks.base.layouts import ConvertError
from lstmjax.frameworks.onnx.constants import Constants, graphs_within
from lstmjax.frameworks.onnx.read import INPUTS, OnnxLSTM
from lstmjax.frameworks.onnx.rules import RULES
from lstmjax.frameworks.onnx.shuffles import SHUFFLES
from lstmjax.frameworks.onnx.values import (
    Atom,
    Entry,
    Filled,
    Mixed,
    Node,
    Opaque,
    Positive,
    Signal,
    Source,
    Stored,
    Value,
    Wiring,
    Zeros,
    axis_of,
    sources_axis,
    sources_of,
    stored_value,
)
from lstmjax.stack import directions

COMPUTED = ("Cast", "Concat", "Gather", "Identity", "Mul", "Reshape", "Slice", "Squeeze", "Unsqueeze")
"""Operators that are run on lengths of axes: what they compute is a product of lengths and constants."""
LENGTHS = [n for n in range(5, 500) if all(n % factor for factor in range(2, n))]
"""The lengths of axes that a model leaves open, at which it is followed, in turn for the first and the second time.

All are prime, and differ, so that they tell what a length was computed from: two products of lengths and constants
that are the same both times are the same for all lengths.
"""


def wire(model: Any, constants: Constants, lstms: Mapping[int, OnnxLSTM], lengths: Mapping[str, int]) -> Wiring:
    """Return the wiring of a model.

    Args:
        model: `onnx.ModelProto` without local functions.
        constants: those of its graph.
        lstms: the nodes LSTM, by their places among all nodes.
        lengths: those of the axes that the model leaves open; see `lengths_of`.
    """
    wiring = Wiring(constants)
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    stored = {tensor.name for tensor in model.graph.initializer}
    for info in model.graph.input:
        if info.name not in stored:
            wiring.values[info.name] = _input(info, _rank(info, model), lengths)
    for n, proto in enumerate(model.graph.node):
        node = _node(proto, opset)
        results = _lstm(wiring, node, n, lstms[n]) if n in lstms else _results(wiring, node, proto)
        wiring.values |= {name: value for name, value in zip(node.outputs, results, strict=False) if name}
    return wiring


def _node(proto: Any, opset: int) -> Node:
    op = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in proto.attribute}
    return Node(op, proto.name, tuple(proto.input), tuple(proto.output), attributes, opset, proto)


def _results(wiring: Wiring, node: Node, proto: Any) -> tuple[Value, ...]:
    """Return the values of the outputs of a node."""
    array = wiring.constants.get(node.outputs[0]) if len(node.outputs) == 1 else None
    if array is not None:
        return (stored_value(array),)
    values = [wiring.value(name) for name in node.inputs]
    if any(attribute.HasField("g") or attribute.graphs for attribute in proto.attribute):
        values += [wiring.values[name] for name in _names_read_within(proto) if name in wiring.values]
        return (Opaque(sources_of(values), node),) * len(node.outputs)
    results = _by_rule(wiring, node, values)
    if not isinstance(results, tuple):
        results = (results,)
    results += (None,) * (len(node.outputs) - len(results))
    return tuple(_unknown(node, values) if value is None else value for value in results)


def _by_rule(wiring: Wiring, node: Node, values: list[Value]) -> Value | tuple[Value, ...]:
    """Return what the rule of an operator makes of its inputs; None: there is no such rule."""
    if not _is_complete(node):
        return None
    data = values if node.op == "Concat" else values[:1]
    if node.op in ("ConstantOfShape", "Expand", *SHUFFLES) and data and all(isinstance(v, Zeros) for v in data):
        return tuple(Zeros() for _ in node.outputs)
    if node.op in RULES:
        return RULES[node.op](wiring, node, values)
    present = [value for value in values if value is not None]
    if node.op in COMPUTED and present and all(isinstance(value, Stored) for value in present):
        return _computed(wiring, node, values)
    if isinstance(values[0], Filled) and node.op in ("Cast", "Identity"):
        return values[0]
    if isinstance(values[0], Positive) and node.op == "Unsqueeze":
        return values[0]
    if node.op in SHUFFLES and isinstance(values[0], Signal):
        return SHUFFLES[node.op](values[0], node, values, wiring)
    return None


def _computed(wiring: Wiring, node: Node, values: list[Value]) -> Value:
    """Return integers computed from lengths of axes, as exporters compute shapes; None: not by products alone."""
    arrays = [value for value in values if isinstance(value, Stored)]
    if any(value.array.dtype.kind != "i" for value in arrays):
        return None
    if node.op not in ("Concat", "Mul") and any(value.computed for value in arrays[1:]):
        return None
    if node.op == "Cast":  # lengths remain what they are
        return arrays[0]
    feeds = {name: value.array for name, value in zip(node.inputs, values, strict=True) if isinstance(value, Stored)}
    wiring.constants.spend(node.outputs[0], feeds.values())
    try:
        (array,) = wiring.constants.run(node.proto, feeds)
    except Exception:  # whatever NumPy raises of arrays that do not fit the node: ONNX Runtime would not run it
        return None
    return Stored(array, any(value.computed for value in arrays))


def _unknown(node: Node, values: list[Value]) -> Value:
    """Return what can still be said of an output: the sources, and the first node on their way without a rule."""
    unclear = [value for value in values if isinstance(value, Opaque | Mixed)]
    earlier = next((value for value in unclear if value.sources), None)
    if earlier is None and unclear and not sources_of(values):
        earlier = unclear[0]
    cause = node if earlier is None else earlier.cause
    only_shuffled = node.op in SHUFFLES and all(
        isinstance(value, Signal | Mixed | Stored | Zeros | None) for value in values
    )
    sources = sources_of(values)
    return Mixed(sources, cause) if only_shuffled and sources else Opaque(sources, cause)


def _lstm(wiring: Wiring, node: Node, n: int, lstm: OnnxLSTM) -> tuple[Value, ...]:
    """Note what enters a node LSTM, and return the values of its outputs Y, Y_h and Y_c."""
    values: dict[str, Value] = dict.fromkeys(INPUTS)
    values |= {name: wiring.value(tensor) for name, tensor in zip(INPUTS, node.inputs, strict=False) if tensor}
    wiring.entries[n] = Entry(node, values, lstm.direction)
    time, batch = (), ()
    signal = values["X"]
    if isinstance(signal, Signal) and len(signal.axes) == 3:
        time, batch = signal.axes[:2]
        if lstm.batch_first:
            time, batch = batch, time
        if wiring.time is None:
            wiring.time, wiring.batch = time, batch
    hidden = directions(lstm.params)[0].hidden_size
    names = ("forward", "reverse") if lstm.direction == "bidirectional" else (lstm.direction,)
    results = []
    for kind in ("ys", "h", "c"):
        sources = tuple(Source(kind, hidden, n, name, lstm.direction) for name in names)
        axes = [sources_axis(sources), batch]
        if lstm.batch_first:
            axes.reverse()
        if kind == "ys":
            axes.insert(1 if lstm.batch_first else 0, time)
        dtype = signal.type if isinstance(signal, Signal) else 1
        results.append(Signal(sources, (*axes, axis_of(Atom("features", hidden))), dtype))
    return tuple(results)


def _names_read_within(proto: Any) -> list[str]:
    """Return the names that the graphs in a node read, from themselves or from the graphs around them."""
    names: dict[str, None] = {}
    for _, graph in graphs_within(proto):
        names |= dict.fromkeys(output.name for output in graph.output)
        for inner in graph.node:
            names |= dict.fromkeys([*inner.input, *_names_read_within(inner)])
    return list(names)


def _is_complete(node: Node) -> bool:
    """Return whether a node has the inputs and attributes that its operator requires."""
    if node.op not in RULES and node.op not in SHUFFLES:
        return True
    if not defs.has(node.op):
        return False
    schema = defs.get_schema(node.op, node.opset)
    required = {name for name, attribute in schema.attributes.items() if attribute.required}
    return schema.min_input <= len(node.inputs) and required <= node.attributes.keys()


def _rank(info: Any, model: Any) -> int | None:
    """Return how many axes an input has: as stated, or as the nodes LSTM that read it need; None: unknown."""
    if info.type.tensor_type.HasField("shape"):
        return len(info.type.tensor_type.shape.dim)
    readers = [node for node in model.graph.node if list(node.input[:1]) == [info.name]]
    transposed = any(len(a.ints) == 3 for node in readers if node.op_type == "Transpose" for a in node.attribute)
    return 3 if transposed or any(node.op_type == "LSTM" for node in readers) else None


def _axes(info: Any, rank: int) -> list[tuple[int, str]]:
    """Return the length of each axis of an input, 0 if it is open, and the name of its length."""
    dims = list(info.type.tensor_type.shape.dim)
    return [
        (dims[n].dim_value, dims[n].dim_param or f"{info.name}.{n}") if n < len(dims) else (0, f"{info.name}.{n}")
        for n in range(rank)
    ]


def lengths_of(model: Any) -> list[dict[str, int]]:
    """Return the lengths that the open axes of inputs have the first and the second time; once if there is none."""
    names: dict[str, None] = {}
    for info in model.graph.input:
        for size, name in _axes(info, _rank(info, model) or 0):
            names |= {} if size else {name: None}
    if 2 * len(names) > len(LENGTHS):
        raise ConvertError(f"its inputs have {len(names)} axes of open length; the most is {len(LENGTHS) // 2}")
    return [dict(zip(names, LENGTHS[time::2], strict=False)) for time in ((0, 1) if names else (0,))]


def _input(info: Any, rank: int | None, lengths: Mapping[str, int]) -> Value:
    """Return the value of an input of the model."""
    source = Source("input", name=info.name)
    if rank is None:
        return Mixed((source,), Node("input of unknown shape", info.name, (), (), {}, 0))
    axes = [
        axis_of(Atom(f"{info.name}.{n}", size or lengths[name], free=not size))
        for n, (size, name) in enumerate(_axes(info, rank))
    ]
    return Signal((source,), tuple(axes), info.type.tensor_type.elem_type)
