"""Rules for the operators that a stack of layers may have around its nodes LSTM: sums, heads, readouts, shapes.

A rule takes the wiring, the node and the values of its inputs, and returns the value of its output; None: the node has
no place in a stack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

import jax
import numpy as np

from lstmjax.cells import Activation
from lstmjax.frameworks.base.activations import relu, softplus, softsign
from lstmjax.frameworks.onnx.shuffles import rearranged
from lstmjax.frameworks.onnx.values import (
    Axis,
    Filled,
    Node,
    Positive,
    Signal,
    Source,
    Stored,
    Value,
    Wiring,
    Zeros,
    at_step,
    features,
    level_of,
    sources_axis,
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
"""Activations that may follow a head, by their operators."""


def _shape(wiring: Wiring, node: Node, values: list[Value]) -> Value:
    """Return the lengths of a signal's axes."""
    if not isinstance(values[0], Signal):
        return None
    return Stored(
        np.array(values[0].shape[node.attributes.get("start", 0) : node.attributes.get("end")], np.int64), True
    )


def _constant_of_shape(wiring: Wiring, node: Node, values: list[Value]) -> Value:
    """Return zeros, of any shape; None: the constant is not 0."""
    from onnx import numpy_helper

    value = numpy_helper.to_array(node.attributes["value"]) if "value" in node.attributes else np.zeros(1)
    return None if value.any() else Zeros()


def _expand(wiring: Wiring, node: Node, values: list[Value]) -> Value | tuple[Value, ...]:
    """Return the length of an axis, repeated, or a signal that Expand does not change."""
    lengths = values[0]
    if isinstance(lengths, Stored) and lengths.array.dtype.kind in "iu" and lengths.array.size == 1:
        return Filled(int(lengths.array.reshape(-1)[0]))
    if node.op != "Expand":
        return None
    if isinstance(values[0], Signal):
        return rearranged(values[0], node, values, wiring)
    return None


def _add(wiring: Wiring, node: Node, values: list[Value]) -> Value:
    """Return the sum of two directions, of a layer and its input, or of a head and its bias."""
    if len(values) != 2:
        return None
    for a, b in (values, values[::-1]):
        if isinstance(a, Signal) and isinstance(b, Stored | Zeros):
            return _with_bias(wiring, node, a, node.inputs[values.index(b)])
        if isinstance(a, Signal) and isinstance(b, Signal):
            result = _directions(a, b) or _residual(wiring, a, b)
            if result is not None:
                return result
    return None


def _directions(a: Signal, b: Signal) -> Value:
    """Return the sum of the two directions of a layer."""
    sources = a.sources + b.sources
    level = level_of(sources)
    if len(sources) != 2 or level is None or not level.pair or a.axes != b.axes:
        return None
    return replace(a, sources=(Source("sum", a.sources[0].width, of=sources),))


def _residual(wiring: Wiring, a: Signal, b: Signal) -> Value:
    """Return the sum of the outputs of a layer, a, and its input, b."""
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
    if b.sources != below or features(a.sources) not in a.axes or features(b.sources) not in b.axes:
        return None
    width = sum(source.width for source in a.sources)
    source = Source("residual", width, of=a.sources, plus=b.sources)
    axis = features((source,))
    axes_a = tuple(axis if other == features(a.sources) else other for other in a.axes)
    axes_b = tuple(axis if other == features(b.sources) else other for other in b.axes)
    if axes_a != axes_b or width != sum(source.width for source in b.sources):
        return None
    return Signal((source,), axes_a, a.type)


def _product(wiring: Wiring, node: Node, signal: Value, w: np.ndarray) -> Value:
    """Return the outputs of a head: the product of all features of a layer with a stored matrix."""
    if not isinstance(signal, Signal) or not signal.axes or w.ndim != 2:
        return None
    width = sum(source.width for source in signal.sources)
    if level_of(signal.sources) is None or signal.axes[-1] != features(signal.sources) or w.shape[0] != width:
        return None
    key = node.outputs[0]
    wiring.heads[key] = (w, None)
    source = Source("head", w.shape[1], name=key, of=signal.sources)
    return Signal((source,), (*signal.axes[:-1], features((source,))), signal.type)


def _with_bias(wiring: Wiring, node: Node, signal: Value, name: str) -> Value:
    """Return the outputs of a head with a bias added; None: the head has a bias, or this is none."""
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
    key = node.outputs[0]
    w = wiring.heads[source.name][0]
    wiring.heads[key] = (w, np.broadcast_to(b.reshape(-1), (source.width,)).astype(w.dtype))
    return replace(signal, sources=(replace(source, name=key),))


def _matmul(wiring: Wiring, node: Node, values: list[Value]) -> Value:
    w = wiring.constants.get(node.inputs[1])
    return None if w is None else _product(wiring, node, values[0], w)


def _gemm(wiring: Wiring, node: Node, values: list[Value]) -> Value:
    signal, w = values[0], wiring.constants.get(node.inputs[1])
    has_bias = len(values) > 2 and values[2] is not None
    if not isinstance(signal, Signal) or w is None or len(signal.axes) != 2 or node.attributes.get("alpha", 1.0) != 1.0:
        return None
    if has_bias and node.attributes.get("beta", 1.0) != 1.0:
        return None
    if node.attributes.get("transA", 0):
        signal = replace(signal, axes=signal.axes[::-1])
    result = _product(wiring, node, signal, w.T if node.attributes.get("transB", 0) else w)
    return _with_bias(wiring, node, result, node.inputs[2]) if has_bias else result


def _readout(wiring: Wiring, node: Node, values: list[Value]) -> Value:
    """Return the outputs of an activation after a head."""
    signal = values[0]
    if not isinstance(signal, Signal) or [source.kind for source in signal.sources] != ["head"]:
        return None
    rank = len(signal.axes)
    axis = node.attributes.get("axis", -1 if node.opset >= 13 else 1)
    if not rank or signal.axes[-1] != features(signal.sources) or ("Softmax" in node.op and axis % rank != rank - 1):
        return None
    head = signal.sources[0]
    return replace(signal, sources=(Source("readout", head.width, name=node.op, of=(head,)),))


def _greater(wiring: Wiring, node: Node, values: list[Value]) -> Value:
    """Return the result of input > 0."""
    a, b = values
    if not isinstance(a, Signal) or [source.kind for source in a.sources] != ["input"]:
        return None
    zero = isinstance(b, Zeros) or (isinstance(b, Stored) and not b.array.any())
    return Positive(a.sources[0].name) if zero else None


def _where(wiring: Wiring, node: Node, values: list[Value]) -> Value:
    """Return a last state that is the initial state for a sequence without steps, as in `stacked`."""
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
    direction = 1 if source.direction == "reverse" and source.name == "bidirectional" else 0
    return end if sources_of([initial])[direction : direction + 1] == begin.sources else None


def _reduce_sum(wiring: Wiring, node: Node, values: list[Value]) -> Value:
    """Return the sum of two directions that are stacked along an axis."""
    signal, axes = values[0], node.attributes.get("axes")
    if axes is None and len(values) > 1 and isinstance(values[1], Stored) and not values[1].computed:
        axes = values[1].array.reshape(-1).tolist()
    if not isinstance(signal, Signal) or not signal.axes or axes is None or len(axes) != 1:
        return None
    at = axes[0] % len(signal.axes)
    level = level_of(signal.sources)
    if level is None or not level.pair or len(signal.sources) != 2 or signal.axes[at] != sources_axis(signal.sources):
        return None
    source = Source("sum", signal.sources[0].width, of=signal.sources)
    middle: tuple[Axis, ...] = ((),) if node.attributes.get("keepdims", 1) else ()
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
        "Where": _where,
        **dict.fromkeys(READOUTS, _readout),
    }
)
"""The rules by operator; those that only move numbers are in `SHUFFLES`."""
