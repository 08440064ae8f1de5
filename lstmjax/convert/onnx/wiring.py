"""How the nodes of a model are wired: every tensor of the graph as a `Value`, computed node by node.

No operator is executed. What no rule here knows becomes `Opaque`, which names the node; whoever reads it and
needs more refuses by that name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from lstmjax.cells import Activation
from lstmjax.convert.activations import relu, softplus, softsign
from lstmjax.convert.onnx.constants import Constants
from lstmjax.convert.onnx.shuffles import SHUFFLES, on_sizes, sizes_of, whole_numbers
from lstmjax.convert.onnx.values import (
    Atom,
    Axis,
    Filled,
    Mixed,
    Opaque,
    Positive,
    Signal,
    Size,
    Sizes,
    Source,
    Step,
    Stored,
    Value,
    Zeros,
    at_step,
    axis_of,
    beside,
    features,
    level_of,
    size_of,
    sources_of,
)

READOUTS: MappingProxyType[str, Activation] = MappingProxyType(
    {
        "LogSoftmax": jax.nn.log_softmax,
        "Relu": relu,
        "Sigmoid": jax.lax.logistic,
        "Softmax": jax.nn.softmax,
        "Softplus": softplus,
        "Softsign": softsign,
        "Tanh": jax.lax.tanh,
    }
)
"""What may follow a head, by its operator."""
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


def _shape(wiring: Wiring, step: Step, values: list[Value]) -> Value:
    """Return the lengths of a signal's axes."""
    if not isinstance(values[0], Signal):
        return None
    axes = values[0].axes[step.said.get("start", 0) : step.said.get("end")]
    result = np.empty(len(axes), object)
    for n, axis in enumerate(axes):
        result[n] = size_of(axis)
    return Sizes(result)


def _constant_of_shape(wiring: Wiring, step: Step, values: list[Value]) -> Value:
    """Return zeros, whatever the shape."""
    from onnx import numpy_helper

    value = numpy_helper.to_array(step.said["value"]) if "value" in step.said else np.zeros(1)
    return None if value.any() else Zeros()


def _expand(wiring: Wiring, step: Step, values: list[Value]) -> Value:
    """Return one length of an axis repeated, or a signal that stays as it is."""
    lengths = sizes_of(values[0])
    if lengths is not None and lengths.size == 1:
        return Filled(lengths.reshape(-1)[0])
    if step.op != "Expand":
        return None
    if isinstance(values[0], Signal):
        return SHUFFLES["Expand"](step, values, wiring.ragged, wiring.time)
    return None


def _add(wiring: Wiring, step: Step, values: list[Value]) -> Value:
    """Return the sum of two directions, of a layer and what entered it, or of a head and its bias."""
    if len(values) != 2:
        return None
    for a, b in (values, values[::-1]):
        if isinstance(a, Signal) and isinstance(b, Stored | Zeros):
            return _with_bias(wiring, step, a, step.inputs[values.index(b)])
        if isinstance(a, Signal) and isinstance(b, Signal):
            result = _directions(a, b) or _residual(wiring, a, b)
            if result is not None:
                return result
    return None


def _directions(a: Signal, b: Signal) -> Value:
    sources = a.sources + b.sources
    level = level_of(sources)
    if len(sources) != 2 or level is None or not level.pair or a.axes != b.axes:
        return None
    return replace(a, sources=(Source("sum", a.sources[0].width, of=sources),))


def _residual(wiring: Wiring, a: Signal, b: Signal) -> Value:
    level = level_of(a.sources)
    if level is None or level.residual:
        return None
    entered = wiring.entries[level.nodes[0]].values["X"]
    if not isinstance(entered, Signal) or level_of(entered.sources) is None:
        return None  # the first layer has no connection around it
    below = entered.sources
    if level.kind == "h":
        if level.pair or wiring.ragged:
            return None  # its directions end at different steps
        below = tuple(at_step(source, "last", False) for source in below)
    axes = [[axis for axis in one.axes if axis != features(one.sources)] for one in (a, b)]
    places = [one.axes.index(features(one.sources)) if features(one.sources) in one.axes else -1 for one in (a, b)]
    widths = [sum(source.width for source in one.sources) for one in (a, b)]
    if b.sources != below or axes[0] != axes[1] or places[0] != places[1] or places[0] < 0 or widths[0] != widths[1]:
        return None
    source = Source("residual", widths[0], of=a.sources, plus=b.sources)
    axis = features((source,))
    return Signal((source,), tuple(axis if n == places[0] else one for n, one in enumerate(a.axes)), a.type)


def _product(wiring: Wiring, step: Step, signal: Value, w: np.ndarray) -> Value:
    """Return what a head gives: a product of the features of a layer, all of them, with a stored matrix."""
    if not isinstance(signal, Signal) or not signal.axes or w.ndim != 2:
        return None
    width = sum(source.width for source in signal.sources)
    if level_of(signal.sources) is None or signal.axes[-1] != features(signal.sources) or w.shape[0] != width:
        return None
    key = step.outputs[0]
    wiring.heads[key] = (w, None)
    source = Source("head", w.shape[1], name=key, of=signal.sources)
    return Signal((source,), (*signal.axes[:-1], features((source,))), signal.type)


def _with_bias(wiring: Wiring, step: Step, signal: Value, name: str) -> Value:
    """Return a head that has no bias yet with this one."""
    b = wiring.constants.get(name)
    if not isinstance(signal, Signal) or len(signal.sources) != 1 or b is None or b.ndim > len(signal.axes):
        return None
    source = signal.sources[0]
    if source.kind != "head" or source.step is not None or wiring.heads[source.name][1] is not None:
        return None
    if signal.axes[-1] != features(signal.sources) or any(size != 1 for size in b.shape[:-1]):
        return None
    if b.size not in (1, source.width):
        return None
    key = step.outputs[0]
    w = wiring.heads[source.name][0]
    wiring.heads[key] = (w, np.broadcast_to(b.reshape(-1), (source.width,)).astype(w.dtype))
    return replace(signal, sources=(replace(source, name=key),))


def _matmul(wiring: Wiring, step: Step, values: list[Value]) -> Value:
    w = wiring.constants.get(step.inputs[1])
    return None if w is None else _product(wiring, step, values[0], w)


def _gemm(wiring: Wiring, step: Step, values: list[Value]) -> Value:
    signal, w = values[0], wiring.constants.get(step.inputs[1])
    has_bias = len(values) > 2 and values[2] is not None
    if not isinstance(signal, Signal) or w is None or len(signal.axes) != 2 or step.said.get("alpha", 1.0) != 1.0:
        return None
    if has_bias and step.said.get("beta", 1.0) != 1.0:
        return None
    if step.said.get("transA", 0):
        signal = replace(signal, axes=signal.axes[::-1])
    result = _product(wiring, step, signal, w.T if step.said.get("transB", 0) else w)
    return _with_bias(wiring, step, result, step.inputs[2]) if has_bias else result


def _readout(wiring: Wiring, step: Step, values: list[Value]) -> Value:
    """Return what an activation makes of a head's outputs."""
    signal = values[0]
    if not isinstance(signal, Signal) or [source.kind for source in signal.sources] != ["head"]:
        return None
    rank = len(signal.axes)
    axis = step.said.get("axis", -1 if step.opset >= 13 else 1)
    if not rank or signal.axes[-1] != features(signal.sources) or ("Softmax" in step.op and axis % rank != rank - 1):
        return None
    head = signal.sources[0]
    return replace(signal, sources=(Source("readout", head.width, name=step.op, of=(head,)),))


def _greater(wiring: Wiring, step: Step, values: list[Value]) -> Value:
    a, b = values
    is_input = isinstance(a, Signal) and [source.kind for source in a.sources] == ["input"]
    zero = isinstance(b, Stored | Zeros) and not np.any(b.array if isinstance(b, Stored) else 0)
    return Positive(a.sources[0].name) if is_input and zero and isinstance(a, Signal) else None


def _where(wiring: Wiring, step: Step, values: list[Value]) -> Value:
    """Return a last state that is the initial one where a sequence has no steps, as `stacked` has it."""
    valid, end, begin = values
    if not isinstance(valid, Positive) or not isinstance(end, Signal) or not isinstance(begin, Signal):
        return None
    if len(end.sources) != 1 or end.sources[0].kind not in ("h", "c"):
        return None
    source = end.sources[0]
    entry = wiring.entries[source.node].values
    lengths, initial = entry["sequence_lens"], entry[f"initial_{source.kind}"]
    if not isinstance(lengths, Signal) or lengths.sources[0].name != valid.name:
        return None
    place = source.direction == "reverse" and source.name == "bidirectional"
    if sources_of([initial])[int(place) : int(place) + 1] != begin.sources:
        return None
    return end


def _unsqueeze(wiring: Wiring, step: Step, values: list[Value]) -> Value:
    if isinstance(values[0], Positive):
        return values[0]
    if isinstance(values[0], Signal):
        return SHUFFLES["Unsqueeze"](step, values, wiring.ragged, wiring.time)
    return on_sizes(step, values) if isinstance(values[0], Sizes | Stored) else None


def _reduce_sum(wiring: Wiring, step: Step, values: list[Value]) -> Value:
    """Return the sum of two directions that stand on an axis of their own."""
    signal, axes = values[0], whole_numbers(step, values, "axes", 1)
    if not isinstance(signal, Signal) or not signal.axes or axes is None or len(axes) != 1:
        return None
    at = axes[0] % len(signal.axes)
    level = level_of(signal.sources)
    if level is None or not level.pair or len(signal.sources) != 2 or signal.axes[at] != beside(signal.sources):
        return None
    source = Source("sum", signal.sources[0].width, of=signal.sources)
    middle: tuple[Axis, ...] = ((),) if step.said.get("keepdims", 1) else ()
    return Signal((source,), (*signal.axes[:at], *middle, *signal.axes[at + 1 :]), signal.type)


RULES: MappingProxyType[str, Callable] = MappingProxyType(
    {
        "Add": _add,
        "Sum": _add,
        "ConstantOfShape": _constant_of_shape,
        "Expand": _expand,
        "Tile": _expand,
        "Gemm": _gemm,
        "Greater": _greater,
        "MatMul": _matmul,
        "ReduceSum": _reduce_sum,
        "Shape": _shape,
        "Unsqueeze": _unsqueeze,
        "Where": _where,
        **dict.fromkeys(READOUTS, _readout),
    }
)
"""Operators that are looked at in ways of their own, by name."""
