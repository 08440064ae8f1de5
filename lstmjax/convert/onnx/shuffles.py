"""Operators that move numbers and change none, on signals: what becomes of each axis.

A function takes the node and the values of its inputs, and gives those of its outputs; None where no signal can
say what comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from lstmjax.convert.onnx.values import (
    ONE,
    Atom,
    Axis,
    Signal,
    Size,
    Sizes,
    Source,
    Step,
    Stored,
    Value,
    at_step,
    beside,
    features,
    size_of,
)

BEYOND = 2**31 - 1
"""An end from here on means to the end of the axis."""
LAYERS = "layers"
"""The atom of layers where the axis of sources is split into layers and directions."""


def whole_numbers(step: Step, values: list[Value], name: str, place: int) -> list[int] | None:
    """Return what an attribute, or in newer operator sets a stored input, lists; None: neither."""
    if name in step.said:
        return [int(n) for n in np.atleast_1d(step.said[name])]
    value = values[place] if place < len(values) else None
    if isinstance(value, Stored):
        return [int(n) for n in value.array.reshape(-1)]
    return None


def is_given(step: Step, values: list[Value], name: str, place: int) -> bool:
    """Return whether the attribute or input is there at all, readable or not."""
    return name in step.said or (place < len(values) and values[place] is not None)


def identity(step: Step, values: list[Value], ragged: bool, time: Axis) -> Value:
    """Return the first input."""
    return values[0]


def cast(step: Step, values: list[Value], ragged: bool, time: Axis) -> Value:
    """Return a signal whose dtype stays, or whose whole numbers get another width."""
    from onnx import TensorProto

    signal = values[0]
    whole = (TensorProto.INT32, TensorProto.INT64)
    if isinstance(signal, Signal) and (step.said["to"] == signal.type or {step.said["to"], signal.type} <= set(whole)):
        return replace(signal, type=step.said["to"])
    return None


def dropout(step: Step, values: list[Value], ragged: bool, time: Axis) -> Value:
    """Return the input, unless the node drops out at evaluation, too."""
    training = values[2] if len(values) > 2 else None
    if training is None or (isinstance(training, Stored) and not training.array.any()):
        return values[0]
    return None


def transpose(step: Step, values: list[Value], ragged: bool, time: Axis) -> Value:
    """Return the signal with its axes in another order."""
    signal = values[0]
    assert isinstance(signal, Signal)
    order = step.said.get("perm", list(reversed(range(len(signal.axes)))))
    if sorted(order) != list(range(len(signal.axes))):
        return None
    return replace(signal, axes=tuple(signal.axes[n] for n in order))


def squeeze(step: Step, values: list[Value], ragged: bool, time: Axis) -> Value:
    """Return the signal without axes of length 1."""
    signal = values[0]
    assert isinstance(signal, Signal)
    if not is_given(step, values, "axes", 1):
        return replace(signal, axes=tuple(axis for axis in signal.axes if axis))
    gone = whole_numbers(step, values, "axes", 1)
    if gone is None:
        return None
    gone = [n % len(signal.axes) for n in gone]
    if any(signal.axes[n] for n in gone):
        return None
    return replace(signal, axes=tuple(axis for n, axis in enumerate(signal.axes) if n not in gone))


def unsqueeze(step: Step, values: list[Value], ragged: bool, time: Axis) -> Value:
    """Return the signal with more axes of length 1."""
    signal, new = values[0], whole_numbers(step, values, "axes", 1)
    assert isinstance(signal, Signal)
    if new is None:
        return None
    count = len(signal.axes) + len(new)
    new = [n % count for n in new]
    axes = iter(signal.axes)
    return replace(signal, axes=tuple(() if n in new else next(axes) for n in range(count)))


def flatten(step: Step, values: list[Value], ragged: bool, time: Axis) -> Value:
    """Return the signal as a matrix."""
    signal = values[0]
    assert isinstance(signal, Signal)
    at = step.said.get("axis", 1)
    at += len(signal.axes) if at < 0 else 0
    ahead, behind = signal.axes[:at], signal.axes[at:]
    return replace(signal, axes=(sum(ahead, ()), sum(behind, ())))


def reshape(step: Step, values: list[Value], ragged: bool, time: Axis) -> Value:
    """Return the signal with its atoms in the same order, side by side in other axes."""
    signal = values[0]
    assert isinstance(signal, Signal)
    target = sizes_of(values[1]) if len(values) > 1 else None
    if target is None:
        return None
    wanted = list(target.reshape(-1))
    for n, size in enumerate(wanted):
        if size == Size(0):
            if step.said.get("allowzero", 0) or n >= len(signal.axes):
                return None
            wanted[n] = size_of(signal.axes[n])
    atoms: Axis = sum(signal.axes, ())
    axes = _regrouped(atoms, wanted)
    count = len(signal.sources)
    for many in range(2, count):  # PyTorch's states of all layers, [L·D, B, H], are often viewed as [L, D, B, H]
        if axes is None and count % many == 0:
            parts = Atom(LAYERS, Size(many)), Atom("sources", Size(count // many))
            axes = _regrouped(sum((parts if (a,) == beside(signal.sources) else (a,) for a in atoms), ()), wanted)
    return None if axes is None else replace(signal, axes=axes)


def _regrouped(atoms: Axis, wanted: list[Size]) -> tuple[Axis, ...] | None:
    """Return the atoms in axes of these lengths, of which one may be −1; None if an atom would be split."""
    if Size(-1) not in wanted:
        axes, left = _taken(atoms, wanted)
        return None if axes is None or left else axes
    at = wanted.index(Size(-1))
    ahead, left = _taken(atoms, wanted[:at])
    behind, middle = _taken(left[::-1], wanted[:at:-1])
    if ahead is None or behind is None:
        return None
    return (*ahead, middle[::-1], *(axis[::-1] for axis in behind[::-1]))


def _taken(atoms: Axis, wanted: list[Size]) -> tuple[tuple[Axis, ...] | None, Axis]:
    """Return the axes of these lengths that the first atoms make, and the atoms behind them."""
    axes: list[Axis] = []
    for size in wanted:
        count = 0
        while size_of(atoms[:count]) != size:
            count += 1
            if count > len(atoms):
                return None, atoms
        axes.append(atoms[:count])
        atoms = atoms[count:]
    return tuple(axes), atoms


def gather(step: Step, values: list[Value], ragged: bool, time: Axis) -> Value:
    """Return the signal at indices of one axis: of directions, of steps, or of an axis of length 1."""
    signal, index = values[0], values[1]
    if not isinstance(signal, Signal) or not isinstance(index, Stored) or index.array.ndim > 1:
        return None
    at = step.said.get("axis", 0) % len(signal.axes)
    indices = [int(n) for n in index.array.reshape(-1)]
    result = picked(signal, at, indices, ragged, time)
    if result is None or index.array.ndim:
        return result
    return replace(result, axes=result.axes[:at] + result.axes[at + 1 :])


def picked(signal: Signal, at: int, indices: list[int], ragged: bool, time: Axis) -> Signal | None:
    """Return the signal with these entries of an axis, which stays; None if no signal can say that."""
    axis = signal.axes[at]
    ahead, behind = signal.axes[:at], signal.axes[at + 1 :]
    if not axis:
        return signal if indices in ([0], [-1]) else None
    if axis == beside(signal.sources):
        sources = tuple(signal.sources[n] for n in indices if -len(signal.sources) <= n < len(signal.sources))
        if not sources or len(sources) < len(indices):
            return None
        return replace(signal, sources=sources, axes=(*ahead, beside(sources), *behind))
    size = size_of(axis)
    if [atom.name for atom in axis] == [LAYERS] and len(indices) == 1 and -size.count <= indices[0] < size.count:
        width, first = len(signal.sources) // size.count, indices[0] % size.count
        return replace(signal, sources=signal.sources[first * width :][:width], axes=(*ahead, (), *behind))
    if not size.symbols and [n % size.count for n in indices] == list(range(size.count)):
        return signal
    if axis != time or len(indices) != 1:
        return None
    word = {0: "first", -1: "last"}.get(indices[0])
    if not size.symbols and indices[0] == size.count - 1:
        word = "last"
    if word is None:
        return None
    sources = tuple(at_step(source, word, ragged) for source in signal.sources)
    return replace(signal, sources=sources, axes=(*ahead, (), *behind))


def slice_(step: Step, values: list[Value], ragged: bool, time: Axis) -> Value:
    """Return the signal within ends of its axes."""
    signal = values[0]
    starts, ends = whole_numbers(step, values, "starts", 1), slice_ends(step, values)
    if not isinstance(signal, Signal) or starts is None or ends is None:
        return None
    axes, steps = whole_numbers(step, values, "axes", 3), whole_numbers(step, values, "steps", 4)
    if (axes is None and is_given(step, values, "axes", 3)) or (steps is None and is_given(step, values, "steps", 4)):
        return None
    axes = list(range(len(starts))) if axes is None else axes
    result: Signal | None = signal
    for start, end, at, stride in zip(starts, ends, axes, steps or [1] * len(starts), strict=True):
        if result is not None:
            result = _sliced(result, start, end, at % len(result.axes), stride, ragged, time)
    return result


def slice_ends(step: Step, values: list[Value]) -> list[Size] | None:
    """Return the ends of a slice, which may be lengths of axes that are not fixed."""
    if "ends" in step.said:
        return [Size(int(n)) for n in step.said["ends"]]
    array = sizes_of(values[2]) if len(values) > 2 else None
    return None if array is None else list(array.reshape(-1))


def _sliced(signal: Signal, start: int, end: Size, at: int, stride: int, ragged: bool, time: Axis) -> Signal | None:
    axis = signal.axes[at]
    size = size_of(axis)
    to_end = end == size or (not end.symbols and end.count >= BEYOND)
    if stride == 1 and start == 0 and to_end:
        return signal
    if size.symbols:
        first, last = (start, end) == (0, ONE), start == -1 and to_end
        if stride != 1 or not (first or last):
            return None
        return picked(signal, at, [start], ragged, time)
    if end.symbols:
        return None
    indices = list(range(size.count))[start : end.count : stride]
    if indices == list(range(size.count)):
        return signal
    if axis == features(signal.sources) and len(signal.sources) > 1 and stride == 1 and indices:
        return _part(signal, at, indices[0], indices[-1] + 1)
    return picked(signal, at, indices, ragged, time)


def _part(signal: Signal, at: int, start: int, end: int) -> Signal | None:
    """Return the sources whose features these are, if no source is cut."""
    edges = np.cumsum([0] + [source.width for source in signal.sources]).tolist()
    if start not in edges or end not in edges:
        return None
    sources = signal.sources[edges.index(start) : edges.index(end)]
    return replace(signal, sources=sources, axes=(*signal.axes[:at], features(sources), *signal.axes[at + 1 :]))


def split(step: Step, values: list[Value], ragged: bool, time: Axis) -> tuple[Value, ...] | None:
    """Return the parts of a signal along one axis."""
    signal = values[0]
    assert isinstance(signal, Signal)
    at = step.said.get("axis", 0) % len(signal.axes)
    size = size_of(signal.axes[at])
    parts = whole_numbers(step, values, "split", 1)
    if size.symbols or (parts is None and is_given(step, values, "split", 1)):
        return None
    if parts is None:
        each = -(-size.count // len(step.outputs))
        parts = [min(each, size.count - each * n) for n in range(len(step.outputs))]
    edges = np.cumsum([0, *parts]).tolist()
    return tuple(_sliced(signal, a, Size(b), at, 1, ragged, time) for a, b in pairwise(edges))


def concat(step: Step, values: list[Value], ragged: bool, time: Axis) -> Value:
    """Return signals side by side: along the features, or along an axis of directions."""
    signals = [value for value in values if isinstance(value, Signal)]
    if len(signals) < len(values) or any(source.kind == "input" for one in signals for source in one.sources):
        return None
    if len({len(one.axes) for one in signals}) > 1 or not signals[0].axes:
        return None
    at = step.said["axis"] % len(signals[0].axes)
    sources: tuple[Source, ...] = sum((one.sources for one in signals), ())
    for axis in (features, beside):
        if axis is beside and len({source.width for source in sources}) > 1:
            continue
        with_axis = axis(sources)
        wide = all(one.axes[at] == axis(one.sources) for one in signals)
        others = {one.axes[:at] + one.axes[at + 1 :] for one in signals}
        if wide and len(others) == 1:
            return Signal(sources, (*signals[0].axes[:at], with_axis, *signals[0].axes[at + 1 :]), signals[0].type)
    return None


def sizes_of(value: Value) -> np.ndarray | None:
    """Return stored whole numbers, or sizes, as an array of sizes."""
    if isinstance(value, Sizes):
        return value.array
    if isinstance(value, Stored) and value.array.dtype.kind in "iu":
        result = np.empty(value.array.shape, object)
        for place, number in np.ndenumerate(value.array):
            result[place] = Size(int(number))
        return result
    return None


def expand(step: Step, values: list[Value], ragged: bool, time: Axis) -> Value:
    """Return the signal, if that is all that comes out."""
    signal, target = values[0], sizes_of(values[1])
    assert isinstance(signal, Signal)
    if target is None or target.size > len(signal.axes):
        return None
    lengths = [size_of(axis) for axis in signal.axes[len(signal.axes) - target.size :]]
    same = all(size in (ONE, length) for size, length in zip(target.reshape(-1), lengths, strict=True))
    return signal if same else None


SHUFFLES: MappingProxyType[str, Callable] = MappingProxyType(
    {
        "Cast": cast,
        "Concat": concat,
        "Dropout": dropout,
        "Expand": expand,
        "Flatten": flatten,
        "Gather": gather,
        "Identity": identity,
        "Reshape": reshape,
        "Slice": slice_,
        "Split": split,
        "Squeeze": squeeze,
        "Transpose": transpose,
        "Unsqueeze": unsqueeze,
    }
)
"""All operators that move numbers, by name."""


def on_sizes(step: Step, values: list[Value]) -> Value:
    """Return what an operator makes of lengths of axes, as exporters compute shapes; None: not known."""
    arrays = [sizes_of(value) for value in values if value is not None]
    a = arrays[0] if arrays else None
    if a is None:
        return None
    if step.op in ("Cast", "Identity"):
        return Sizes(a)
    if step.op == "Mul" and len(arrays) == 2 and arrays[1] is not None:
        return Sizes(np.asarray(a * arrays[1], object))
    if step.op == "Concat" and all(array is not None for array in arrays):
        return Sizes(np.concatenate(arrays))  # type: ignore[arg-type]
    if step.op == "Gather" and isinstance(values[1], Stored):
        return Sizes(_objects(np.take(a, values[1].array, axis=step.said.get("axis", 0))))
    if step.op == "Unsqueeze" and a.ndim == 0:
        return Sizes(a.reshape(1))
    if step.op == "Squeeze" and a.size == 1:
        return Sizes(a.reshape(()))
    starts, ends = whole_numbers(step, values, "starts", 1), whole_numbers(step, values, "ends", 2)
    if step.op == "Slice" and a.ndim == 1 and starts is not None and ends is not None and len(starts) == 1:
        stride = whole_numbers(step, values, "steps", 4) or [1]
        return Sizes(a[starts[0] : ends[0] : stride[0]])
    return None


def _objects(value: object) -> np.ndarray:
    """Return an array of objects, also of one that NumPy has taken out of its array."""
    if isinstance(value, np.ndarray):
        return value
    result = np.empty((), object)
    result[()] = value
    return result
