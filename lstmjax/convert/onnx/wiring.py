"""How the nodes of a model are wired: every tensor of the graph as a `Value`, computed node by node.

No operator is executed. What no rule here knows becomes `Opaque`, which names the node; whoever reads it and
needs more refuses by that name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmjax.convert.onnx.constants import Constants
from lstmjax.convert.onnx.rules import RULES
from lstmjax.convert.onnx.shuffles import SHUFFLES, on_sizes
from lstmjax.convert.onnx.values import (
    Atom,
    Axis,
    Filled,
    Mixed,
    Opaque,
    Signal,
    Size,
    Sizes,
    Source,
    Step,
    Stored,
    Value,
    Zeros,
    axis_of,
    beside,
    sources_of,
)

SCALARS = ("Cast", "Dropout", "Identity", "Reshape", "Unsqueeze")
"""Operators on an array without axes."""
QUANTISED = ("Quantize", "Integer", "QLinear", "QGemm", "QAttention", "QLSTM")
"""Parts of the names of operators that compute with quantised numbers."""


class Entry:
    """What enters a node LSTM: the values of its inputs by ONNX' names for them."""

    def __init__(self, step: Step, values: dict[str, Value], widths: tuple[int, int], direction: str) -> None:
        self.step, self.values, self.direction = step, values, direction
        self.inputs, self.hidden = widths


class Wiring:
    """A graph whose tensors are `Value`s by name; what enters each node LSTM is in `entries`, by its number."""

    def __init__(self, model: Any, constants: Constants, lstms: dict[int, tuple[int, int, str, bool]]) -> None:
        """Evaluate the graph.

        Args:
            model: `onnx.ModelProto` without local functions.
            constants: those of its graph.
            lstms: of each node LSTM, by its place among all nodes: I, H, direction and batch_first.
        """
        self.constants = constants
        self.values: dict[str, Value] = {}
        self.entries: dict[int, Entry] = {}
        self.heads: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
        self.time: Axis | None = None
        self.batch: Axis | None = None
        opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=1)
        stored = {tensor.name for tensor in model.graph.initializer}
        for one in model.graph.input:
            if one.name not in stored:
                self.values[one.name] = _input(one, _rank(one, model))
        for n, node in enumerate(model.graph.node):
            step = step_of(node, opset)
            results = self._lstm(step, n, *lstms[n]) if n in lstms else self._results(step, node)
            self.values |= {name: value for name, value in zip(step.outputs, results, strict=False) if name}

    def value(self, name: str) -> Value:
        """Return a tensor, stored ones included."""
        if name not in self.values:
            array = self.constants.get(name) if name else None
            self.values[name] = None if array is None else _stored(array)
        return self.values[name]

    def _results(self, step: Step, node: Any) -> tuple[Value, ...]:
        array = self.constants.get(step.outputs[0]) if len(step.outputs) == 1 else None
        if array is not None:
            return (_stored(array),)
        values = [self.value(name) for name in step.inputs]
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            values += [self.values[name] for name in read_within(node) if name in self.values]
            return (Opaque(sources_of(values), step),) * len(step.outputs)
        results = self._by_rule(step, values)
        if not isinstance(results, tuple):
            results = (results,)
        results += (None,) * (len(step.outputs) - len(results))
        return tuple(self._unknown(step, values) if value is None else value for value in results)

    def _by_rule(self, step: Step, values: list[Value]) -> Value | tuple[Value, ...]:
        """Return what a rule says that comes out; None: none does."""
        if not _is_whole(step):
            return None
        data = values[:1] if step.op != "Concat" else values
        if step.op in ("ConstantOfShape", "Expand", *SHUFFLES) and data and all(isinstance(v, Zeros) for v in data):
            return tuple(Zeros() for _ in step.outputs)
        if step.op in RULES:
            return RULES[step.op](self, step, values)
        numbers = [value for value in values if value is not None]
        if numbers and all(isinstance(value, Sizes | Stored) for value in numbers):
            return on_sizes(step, values)
        if isinstance(values[0], Filled) and step.op in ("Cast", "Identity"):
            return values[0]
        if step.op in SHUFFLES and isinstance(values[0], Signal) and (values[0].axes or step.op in SCALARS):
            return SHUFFLES[step.op](step, values, self.ragged, self.time)
        return None

    @property
    def ragged(self) -> bool:
        """Whether sequences have lengths."""
        return any(entry.values["sequence_lens"] is not None for entry in self.entries.values())

    def _unknown(self, step: Step, values: list[Value]) -> Value:
        """Return what is left to say of an output: the first node that did something else, and what it reads."""
        unclear = [value for value in values if isinstance(value, Opaque | Mixed)]
        before = next((value for value in unclear if value.sources), None)
        if before is None and unclear and not sources_of(values):
            before = unclear[0]
        cause = before.cause if before is not None else step
        only_moved = step.op in SHUFFLES and all(
            isinstance(value, Signal | Mixed | Stored | Sizes | Zeros | None) for value in values
        )
        sources = sources_of(values)
        return Mixed(sources, cause) if only_moved and sources else Opaque(sources, cause)

    def _lstm(self, step: Step, n: int, inputs: int, hidden: int, direction: str, batch_first: bool) -> tuple:
        names = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
        values: dict[str, Value] = dict.fromkeys(names)
        values |= {name: self.value(tensor) for name, tensor in zip(names, step.inputs, strict=False) if tensor}
        entry = Entry(step, values, (inputs, hidden), direction)
        self.entries[n] = entry
        time, batch = (), ()
        signal = values["X"]
        if isinstance(signal, Signal) and len(signal.axes) == 3:
            time, batch = signal.axes[:2]
            if batch_first:
                time, batch = batch, time
            if self.time is None:
                self.time, self.batch = time, batch
        ways = ("forward", "reverse") if direction == "bidirectional" else (direction,)
        results = []
        for kind in ("ys", "h", "c"):
            sources = tuple(Source(kind, hidden, n, way, direction) for way in ways)
            axes = [*((time,) if kind == "ys" else ()), beside(sources), batch]
            if batch_first:
                axes = [batch, *((time,) if kind == "ys" else ()), beside(sources)]
            type_ = signal.type if isinstance(signal, Signal) else 1
            results.append(Signal(sources, (*axes, axis_of(Atom("features", Size(hidden)))), type_))
        return tuple(results)


def step_of(node: Any, opset: int) -> Step:
    """Return a node of a model."""
    from onnx import helper

    op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    said = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return Step(op, node.name, tuple(node.input), tuple(node.output), said, opset)


def read_within(node: Any) -> list[str]:
    """Return the names that the graphs in a node read, of their own and of the graphs around them."""
    names: dict[str, None] = {}
    for attribute in node.attribute:
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            names |= dict.fromkeys(one.name for one in graph.output)
            for inner in graph.node:
                names |= dict.fromkeys([*inner.input, *read_within(inner)])
    return list(names)


def _is_whole(step: Step) -> bool:
    """Return whether a node has the inputs and attributes that its operator needs."""
    from onnx import defs

    if step.op not in RULES and step.op not in SHUFFLES:
        return True
    if not defs.has(step.op):
        return False
    schema = defs.get_schema(step.op, step.opset)
    needed = {name for name, attribute in schema.attributes.items() if attribute.required}
    return schema.min_input <= len(step.inputs) and needed <= step.said.keys()


def words_of(cause: Step) -> str:
    """Return what a node that stands in the way is called, and whether it quantises."""
    quantised = any(part in cause.op for part in QUANTISED)
    return f"{cause}{', which computes with quantised numbers' if quantised else ''}"


def _stored(array: np.ndarray) -> Value:
    return Zeros() if array.dtype.kind == "f" and not array.any() else Stored(array)


def _rank(one: Any, model: Any) -> int | None:
    """Return how many axes an input has: as it says, or as the nodes LSTM that read it need; None: not known."""
    if one.type.tensor_type.HasField("shape"):
        return len(one.type.tensor_type.shape.dim)
    readers = [node for node in model.graph.node if list(node.input[:1]) == [one.name]]
    turned = any(len(a.ints) == 3 for node in readers if node.op_type == "Transpose" for a in node.attribute)
    return 3 if turned or any(node.op_type == "LSTM" for node in readers) else None


def _input(one: Any, rank: int | None) -> Value:
    source = Source("input", name=one.name)
    if rank is None:
        return Mixed((source,), Step("input of unknown shape", one.name, (), (), {}, 0))
    kind = one.type.tensor_type
    sizes = [Size(1, (f"{one.name}.{n}",)) for n in range(rank)]
    for n, dim in enumerate(kind.shape.dim):
        if dim.HasField("dim_value"):
            sizes[n] = Size(dim.dim_value)
        elif dim.dim_param:
            sizes[n] = Size(1, (dim.dim_param,))
    axes = tuple(axis_of(Atom(f"{one.name}.{n}", size)) for n, size in enumerate(sizes))
    return Signal((source,), axes, kind.elem_type)
