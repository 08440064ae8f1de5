"""Operators that move numbers and change none: what they make of the axes of a signal.

A function takes the signal, the node, the values of its inputs, and the wiring. It returns the values of the
outputs, or None if they are no signals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from lstmjax.frameworks.onnx.values import (
    ONE,
    Atom,
    Axis,
    Node,
    Signal,
    Size,
    Sizes,
    Source,
    Stored,
    Value,
    Wiring,
    at_step,
    features,
    size_of,
    sources_axis,
)

BEYOND = 2**31 - 1
"""The end of a slice, from this number on, is the end of the axis."""
LAYERS = "layers"
"""The name of the atom of layers, if the axis of sources is split into layers and directions."""


def integers(node: Node, values: list[Value], name: str, place: int) -> list[int] | None:
    """Return the integers in an attribute, or in newer operator sets in a stored input; None: in neither."""
    if name in node.attributes:
        return [int(n) for n in np.atleast_1d(node.attributes[name])]
    value = values[place] if place < len(values) else None
    if isinstance(value, Stored):
        return [int(n) for n in value.array.reshape(-1)]
    return None


def is_present(node: Node, values: list[Value], name: str, place: int) -> bool:
    """Return whether a node has an attribute, or in newer operator sets an input, constant or not."""
    return name in node.attributes or (place < len(values) and values[place] is not None)


def identity(signal: Signal, node: Node, values: list[Value], wiring: Wiring) -> Value:
    """Return the first input."""
    return signal


def cast(signal: Signal, node: Node, values: list[Value], wiring: Wiring) -> Value:
    """Return the signal, if it keeps its dtype, or if its integers get another width."""
    from onnx import TensorProto

    to = node.attributes["to"]
    same = to == signal.type or {to, signal.type} <= {TensorProto.INT32, TensorProto.INT64}
    return replace(signal, type=to) if same else None


def dropout(signal: Signal, node: Node, values: list[Value], wiring: Wiring) -> Value:
    """Return the input, unless the node also drops out at inference."""
    training = values[2] if len(values) > 2 else None
    off = training is None or (isinstance(training, Stored) and not training.array.any())
    return signal if off else None


def transpose(signal: Signal, node: Node, values: list[Value], wiring: Wiring) -> Value:
    """Return the signal with its axes in another order."""
    order = node.attributes.get("perm", list(reversed(range(len(signal.axes)))))
    if sorted(order) != list(range(len(signal.axes))):
        return None
    return replace(signal, axes=tuple(signal.axes[n] for n in order))


def squeeze(signal: Signal, node: Node, values: list[Value], wiring: Wiring) -> Value:
    """Return the signal without axes of length 1."""
    if not is_present(node, values, "axes", 1):
        return replace(signal, axes=tuple(axis for axis in signal.axes if axis))
    removed = integers(node, values, "axes", 1)
    if removed is None:
        return None
    removed = [n % len(signal.axes) for n in removed]
    if any(signal.axes[n] for n in removed):
        return None
    return replace(signal, axes=tuple(axis for n, axis in enumerate(signal.axes) if n not in removed))


def unsqueeze(signal: Signal, node: Node, values: list[Value], wiring: Wiring) -> Value:
    """Return the signal with more axes of length 1."""
    new = integers(node, values, "axes", 1)
    if new is None:
        return None
    count = len(signal.axes) + len(new)
    axes = list(signal.axes)
    for place in sorted(n % count for n in new):
        axes.insert(place, ())
    return replace(signal, axes=tuple(axes))


def flatten(signal: Signal, node: Node, values: list[Value], wiring: Wiring) -> Value:
    """Return the signal as a matrix."""
    at = node.attributes.get("axis", 1)
    at += len(signal.axes) if at < 0 else 0
    ahead, behind = signal.axes[:at], signal.axes[at:]
    return replace(signal, axes=(sum(ahead, ()), sum(behind, ())))


def reshape(signal: Signal, node: Node, values: list[Value], wiring: Wiring) -> Value:
    """Return the signal with the same atoms in the same order, grouped into other axes."""
    target = sizes_of(values[1]) if len(values) > 1 else None
    if target is None:
        return None
    sizes = list(target.reshape(-1))
    for n, size in enumerate(sizes):
        if size == Size(0):  # the size that the axis has, unless allowzero is set
            if node.attributes.get("allowzero", 0) or n >= len(signal.axes):
                return None
            sizes[n] = size_of(signal.axes[n])
    atoms: Axis = sum(signal.axes, ())
    axes = _grouped(atoms, sizes)
    count = len(signal.sources)
    for layers in range(2, count):  # PyTorch's states of all layers, [L·D, B, H], are often viewed as [L, D, B, H]
        if axes is None and count % layers == 0:
            parts = Atom(LAYERS, Size(layers)), Atom("sources", Size(count // layers))
            split_atoms: Axis = ()
            for atom in atoms:
                split_atoms += parts if (atom,) == sources_axis(signal.sources) else (atom,)
            axes = _grouped(split_atoms, sizes)
    return None if axes is None else replace(signal, axes=axes)


def _grouped(atoms: Axis, sizes: list[Size]) -> tuple[Axis, ...] | None:
    """Return the atoms in axes of these sizes, of which one may be −1; None if an atom would be split."""
    if Size(-1) not in sizes:
        axes, remaining = _first_axes(atoms, sizes)
        return None if axes is None or remaining else axes
    at = sizes.index(Size(-1))
    ahead, remaining = _first_axes(atoms, sizes[:at])
    # The axes after it are taken from the end, of the atoms in reverse order.
    behind, middle = _first_axes(remaining[::-1], sizes[:at:-1])
    if ahead is None or behind is None:
        return None
    return (*ahead, middle[::-1], *(axis[::-1] for axis in behind[::-1]))


def _first_axes(atoms: Axis, sizes: list[Size]) -> tuple[tuple[Axis, ...] | None, Axis]:
    """Return axes of these sizes of the first atoms, or None if there are none, and the remaining atoms."""
    axes: list[Axis] = []
    for size in sizes:
        count = 0
        while size_of(atoms[:count]) != size:
            count += 1
            if count > len(atoms):
                return None, atoms
        axes.append(atoms[:count])
        atoms = atoms[count:]
    return tuple(axes), atoms


def gather(signal: Signal, node: Node, values: list[Value], wiring: Wiring) -> Value:
    """Return the signal at indices of an axis: of directions, of steps, or of length 1."""
    index = values[1]
    if not isinstance(index, Stored) or index.array.ndim > 1:
        return None
    at = node.attributes.get("axis", 0) % len(signal.axes)
    indices = [int(n) for n in index.array.reshape(-1)]
    result = picked(signal, at, indices, wiring)
    if result is None or index.array.ndim:
        return result
    return replace(result, axes=result.axes[:at] + result.axes[at + 1 :])


def picked(signal: Signal, at: int, indices: list[int], wiring: Wiring) -> Signal | None:
    """Return the signal with these entries of an axis, which is kept; None if that is no signal."""
    axis = signal.axes[at]
    ahead, behind = signal.axes[:at], signal.axes[at + 1 :]
    if not axis:
        return signal if indices in ([0], [-1]) else None
    if axis == sources_axis(signal.sources):
        sources = tuple(signal.sources[n] for n in indices if -len(signal.sources) <= n < len(signal.sources))
        if not sources or len(sources) < len(indices):
            return None
        return replace(signal, sources=sources, axes=(*ahead, sources_axis(sources), *behind))
    size = size_of(axis)
    if [atom.name for atom in axis] == [LAYERS] and len(indices) == 1 and -size.count <= indices[0] < size.count:
        width, first = len(signal.sources) // size.count, indices[0] % size.count
        return replace(signal, sources=signal.sources[first * width :][:width], axes=(*ahead, (), *behind))
    if not size.symbols and [n % size.count for n in indices] == list(range(size.count)):
        return signal
    if axis != wiring.time or len(indices) != 1:
        return None
    last = indices[0] == -1 or (not size.symbols and indices[0] == size.count - 1)
    if not last and indices[0] != 0:
        return None
    sources = tuple(at_step(source, "last" if last else "first", wiring.ragged) for source in signal.sources)
    return replace(signal, sources=sources, axes=(*ahead, (), *behind))


def slice_(signal: Signal, node: Node, values: list[Value], wiring: Wiring) -> Value:
    """Return a slice of the signal."""
    starts, ends = integers(node, values, "starts", 1), slice_ends(node, values)
    if starts is None or ends is None:
        return None
    axes, steps = integers(node, values, "axes", 3), integers(node, values, "steps", 4)
    if (axes is None and is_present(node, values, "axes", 3)) or (
        steps is None and is_present(node, values, "steps", 4)
    ):
        return None
    axes = list(range(len(starts))) if axes is None else axes
    result: Signal | None = signal
    for start, end, at, stride in zip(starts, ends, axes, steps or [1] * len(starts), strict=True):
        if result is not None:
            result = _sliced(result, start, end, at % len(result.axes), stride, wiring)
    return result


def slice_ends(node: Node, values: list[Value]) -> list[Size] | None:
    """Return the ends of a slice, which may be symbolic."""
    if "ends" in node.attributes:
        return [Size(int(n)) for n in node.attributes["ends"]]
    array = sizes_of(values[2]) if len(values) > 2 else None
    return None if array is None else list(array.reshape(-1))


def _sliced(signal: Signal, start: int, end: Size, at: int, stride: int, wiring: Wiring) -> Signal | None:
    """Return a slice of the signal along axis `at`; None if that is no signal."""
    axis = signal.axes[at]
    size = size_of(axis)
    to_end = end == size or (not end.symbols and end.count >= BEYOND)
    if stride == 1 and start == 0 and to_end:
        return signal
    if size.symbols:
        first, last = (start, end) == (0, ONE), start == -1 and to_end
        if stride != 1 or not (first or last):
            return None
        return picked(signal, at, [start], wiring)
    if end.symbols:
        return None
    indices = list(range(size.count))[start : end.count : stride]
    if indices == list(range(size.count)):
        return signal
    if axis == features(signal.sources) and len(signal.sources) > 1 and stride == 1 and indices:
        return _part(signal, at, indices[0], indices[-1] + 1)
    return picked(signal, at, indices, wiring)


def _part(signal: Signal, at: int, start: int, end: int) -> Signal | None:
    """Return the sources that have the features from start to end; None if a source would be split."""
    edges = np.cumsum([0] + [source.width for source in signal.sources]).tolist()
    if start not in edges or end not in edges:
        return None
    sources = signal.sources[edges.index(start) : edges.index(end)]
    return replace(signal, sources=sources, axes=(*signal.axes[:at], features(sources), *signal.axes[at + 1 :]))


def split(signal: Signal, node: Node, values: list[Value], wiring: Wiring) -> tuple[Value, ...] | None:
    """Return the parts of a signal along one axis."""
    at = node.attributes.get("axis", 0) % len(signal.axes)
    size = size_of(signal.axes[at])
    parts = integers(node, values, "split", 1)
    if size.symbols or (parts is None and is_present(node, values, "split", 1)):
        return None
    if parts is None:
        longest = -(-size.count // len(node.outputs))
        parts = [min(longest, size.count - longest * n) for n in range(len(node.outputs))]
    edges = np.cumsum([0, *parts]).tolist()
    return tuple(_sliced(signal, a, Size(b), at, 1, wiring) for a, b in pairwise(edges))


def concat(signal: Signal, node: Node, values: list[Value], wiring: Wiring) -> Value:
    """Return signals side by side: along the features, or along an axis of directions."""
    signals = [value for value in values if isinstance(value, Signal)]
    if len(signals) < len(values) or any(source.kind == "input" for signal in signals for source in signal.sources):
        return None
    if len({len(signal.axes) for signal in signals}) > 1 or not signals[0].axes:
        return None
    at = node.attributes["axis"] % len(signals[0].axes)
    sources: tuple[Source, ...] = sum((signal.sources for signal in signals), ())
    others = {signal.axes[:at] + signal.axes[at + 1 :] for signal in signals}
    if len(others) > 1:
        return None
    for axis_of_sources in (features, sources_axis):
        if axis_of_sources is sources_axis and len({source.width for source in sources}) > 1:
            continue
        if all(signal.axes[at] == axis_of_sources(signal.sources) for signal in signals):
            axes = (*signals[0].axes[:at], axis_of_sources(sources), *signals[0].axes[at + 1 :])
            return Signal(sources, axes, signals[0].type)
    return None


def sizes_of(value: Value) -> np.ndarray | None:
    """Return stored integers, or sizes, as an array of `Size`."""
    if isinstance(value, Sizes):
        return value.array
    if isinstance(value, Stored) and value.array.dtype.kind in "iu":
        result = np.empty(value.array.shape, object)
        for place, number in np.ndenumerate(value.array):
            result[place] = Size(int(number))
        return result
    return None


def expand(signal: Signal, node: Node, values: list[Value], wiring: Wiring) -> Value:
    """Return the signal, if it is not repeated."""
    target = sizes_of(values[1])
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
"""The functions by operator."""


def on_sizes(node: Node, values: list[Value]) -> Value:
    """Return what an operator computes from lengths of axes, as exporters compute shapes; None: unknown."""
    arrays = [sizes_of(value) for value in values if value is not None]
    a = arrays[0] if arrays else None
    if a is None:
        return None
    if node.op in ("Cast", "Identity"):
        return Sizes(a)
    if node.op == "Mul" and len(arrays) == 2 and arrays[1] is not None:
        return Sizes(np.asarray(a * arrays[1], object))
    if node.op == "Concat":
        known = [array for array in arrays if array is not None]
        if len(known) == len(arrays):
            return Sizes(np.concatenate(known))
    if node.op == "Gather" and isinstance(values[1], Stored):
        return Sizes(_objects(np.take(a, values[1].array, axis=node.attributes.get("axis", 0))))
    if node.op == "Unsqueeze" and a.ndim == 0:
        return Sizes(a.reshape(1))
    if node.op == "Squeeze" and a.size == 1:
        return Sizes(a.reshape(()))
    starts, ends = integers(node, values, "starts", 1), integers(node, values, "ends", 2)
    if node.op == "Slice" and a.ndim == 1 and starts is not None and ends is not None and len(starts) == 1:
        stride = integers(node, values, "steps", 4) or [1]
        return Sizes(a[starts[0] : ends[0] : stride[0]])
    return None


def _objects(value: object) -> np.ndarray:
    """Return an array of objects; NumPy returns a single object without an array."""
    if isinstance(value, np.ndarray):
        return value
    result = np.empty((), object)
    result[()] = value
    return result
