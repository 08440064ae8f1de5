"""Rules for operators around nodes LSTM: what comes out, where no number changes or a place in a stack is known.

A rule takes the wiring so far, the node and the values of its inputs, and gives that of its output; None where the
node has no such place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import jax
import numpy as np

from lstmjax.cells import Activation
from lstmjax.convert.activations import relu, softplus, softsign
from lstmjax.convert.onnx.shuffles import SHUFFLES, on_sizes, sizes_of, whole_numbers
from lstmjax.convert.onnx.values import (
    Axis,
    Filled,
    Positive,
    Signal,
    Sizes,
    Source,
    Step,
    Stored,
    Value,
    Zeros,
    at_step,
    beside,
    features,
    level_of,
    size_of,
    sources_of,
)

if TYPE_CHECKING:
    from lstmjax.convert.onnx.wiring import Wiring

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
