"""Operators that move numbers and change none: what they make of the axes of a signal.

ONNX' own evaluator runs such a node on an array of places: each entry is the number of an entry of the signal. Where
the places go says how the atoms of the axes are arranged behind the node, and which entries of them are left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np

from lstmjax.frameworks.onnx.values import (
    Atom,
    Axis,
    Node,
    Signal,
    Source,
    Stored,
    Value,
    Wiring,
    at_step,
    axis_of,
    features,
    sources_axis,
)

BEYOND = 2**31 - 1
"""The end of a slice, from this number on, is the end of the axis."""
LARGEST = 2**24
"""Entries of the largest signal that is followed."""
LAYERS = "layers"
"""The name of the atom of layers, if the axis of sources is split into layers and directions."""
MOVING = (
    "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""Operators that are run on places."""
LENGTHS = (("Reshape", 1), ("Expand", 1), ("Slice", 2))
"""The inputs, by operator and place, that may be computed from lengths of axes: shapes, and the ends of slices."""


def rearranged(signal: Signal, node: Node, values: list[Value], wiring: Wiring) -> Value | tuple[Value, ...]:
    """Return what a node of `MOVING` makes of a signal; None: it selects or arranges numbers as no layer does it."""
    shape, feeds = signal.shape, {}
    if prod(shape) > LARGEST:
        return None
    for n, value in enumerate(values[1:], start=1):
        if isinstance(value, Stored) and (not value.computed or (node.op, n) in LENGTHS):
            feeds[node.inputs[n]] = value.array
        elif value is not None:
            return None
    feeds[node.inputs[0]] = np.arange(prod(shape)).reshape(shape)
    try:
        if _repeats(node, shape, feeds) or (node.op == "Slice" and _depends_on_lengths(signal, node, values)):
            return None
        outputs = wiring.constants.run(node.proto, feeds)
    except Exception:  # whatever NumPy raises of arrays that do not fit the node: ONNX Runtime would not run it
        return None
    return tuple(_recognised(places, signal, wiring) for places in outputs)


def _repeats(node: Node, shape: tuple[int, ...], feeds: dict[str, np.ndarray]) -> bool:
    """Return whether a node makes an array larger, and so repeats numbers."""
    if node.op == "Expand":
        return bool(np.prod(np.maximum(feeds[node.inputs[1]], 1), dtype=float) > prod(shape))
    if node.op == "Gather":
        axis = shape[node.attributes.get("axis", 0)]
        return feeds[node.inputs[1]].size > axis
    return False


def _depends_on_lengths(signal: Signal, node: Node, values: list[Value]) -> bool:
    """Return whether a slice keeps an axis at the lengths at which it is followed, and could cut it at others.

    Such a bound is beyond the end of an axis of open length, or a length itself, but not that of the axis.
    """
    bounds: dict[str, Any] = {name: node.attributes.get(name) for name in ("starts", "ends", "axes")}
    bounds |= {name: value.array for name, value in zip(bounds, values[1:], strict=False) if isinstance(value, Stored)}
    computed = any(isinstance(value, Stored) and value.computed for value in values)
    axes = range(len(bounds["starts"])) if bounds["axes"] is None else bounds["axes"]
    for start, end, at in zip(bounds["starts"], bounds["ends"], axes, strict=True):
        size = signal.shape[int(at)]
        beyond = any(size < abs(int(n)) < BEYOND for n in (start, end))
        if (computed and size != int(end) < BEYOND) or (beyond and any(atom.free for atom in signal.axes[int(at)])):
            return True
    return False


def _recognised(places: np.ndarray, signal: Signal, wiring: Wiring) -> Value:
    """Return the signal whose entries stand at these places of another signal, or None."""
    atoms = [atom for axis in signal.axes for atom in axis]
    options = [atoms]
    count = len(signal.sources)
    if sources_axis(signal.sources) in signal.axes:
        # PyTorch's states of all layers, [L·D, B, H], are often viewed as [L, D, B, H].
        for layers in range(2, count):
            if count % layers == 0:
                parts = [Atom(LAYERS, layers), *axis_of(Atom("sources", count // layers))]
                options.append([part for atom in atoms for part in (parts if atom.name == "sources" else [atom])])
    for option in options:
        arranged = _arranged(places, option)
        if arranged is not None:
            return _selected(signal, option, *arranged, wiring)
    return None


def _arranged(places: np.ndarray, atoms: list[Atom]) -> tuple[list[list[int]], list[list[int]]] | None:
    """Return the numbers of the atoms that make up each axis, and of each atom the entries that are left, in order.

    None: an atom extends over several axes, or its entries are repeated or in disorder along one.
    """
    axes: list[list[int]] = [[] for _ in places.shape]
    entries: list[list[int]] = []
    if not places.size:
        return None
    lines: list[np.ndarray] = []
    for n, coordinates in enumerate(np.unravel_index(places, [atom.size for atom in atoms]) if atoms else ()):
        along = [k for k in range(places.ndim) if (coordinates != coordinates.take([0], axis=k)).any()]
        if len(along) > 1:
            return None
        line = coordinates.reshape(-1)[:1]
        for k in along:
            axes[k].append(n)
            line = np.moveaxis(coordinates, k, 0).reshape(places.shape[k], -1)[:, 0]
        lines.append(line)
        entries.append(list(dict.fromkeys(line.tolist())))
    for k, members in enumerate(axes):
        members.sort(key=lambda n: np.count_nonzero(np.diff(lines[n])))  # the slowest first
        sizes = [len(entries[n]) for n in members]
        if prod(sizes) != places.shape[k]:
            return None
        if not members:
            continue
        if len(members) > 1 and any(entries[n] != sorted(entries[n]) for n in members):
            return None
        for n, steps in zip(members, np.unravel_index(np.arange(prod(sizes)), sizes), strict=True):
            if not np.array_equal(np.asarray(entries[n])[steps], lines[n]):
                return None
    return axes, entries


def _selected(
    signal: Signal, atoms: list[Atom], axes: list[list[int]], entries: list[list[int]], wiring: Wiring
) -> Signal | None:
    """Return the signal with these entries of its atoms, in these axes; None if no layer selects so."""
    sources = signal.sources
    atoms = list(atoms)
    of_sources = {atom.name: entries[n] for n, atom in enumerate(atoms) if atom.name in (LAYERS, "sources")}
    width = next((atom.size for atom in atoms if atom.name == "sources"), 1)
    for n, atom in enumerate(atoms):
        remaining = entries[n]
        if remaining == list(range(atom.size)):
            continue
        if atom.name in (LAYERS, "sources"):
            atoms[n] = replace(atom, size=len(remaining))
        elif atom.name == "both":
            edges = np.cumsum([0, *(source.width for source in sources)]).tolist()
            start, end = remaining[0], remaining[-1] + 1
            if remaining != list(range(start, end)) or start not in edges or end not in edges:
                return None
            sources = sources[edges.index(start) : edges.index(end)]
        elif (atom,) == wiring.time and len(remaining) == 1 and remaining[0] in (0, atom.size - 1):
            step = "first" if remaining[0] == 0 else "last"
            sources = tuple(at_step(source, step, wiring.ragged) for source in sources)
            atoms[n] = replace(atom, size=1)
        else:
            return None
    if of_sources:
        layers, directions = of_sources.get(LAYERS, [0]), of_sources.get("sources", [0])
        sources = tuple(sources[layer * width + direction] for layer in layers for direction in directions)
    result: list[Axis] = []
    for members in axes:
        axis = axis_of(*(atoms[n] for n in members))
        result.append(features(sources) if [atom.name for atom in axis] == ["both"] else axis)
    return Signal(sources, tuple(result), signal.type)


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


SHUFFLES: MappingProxyType[str, Callable] = MappingProxyType(
    dict.fromkeys(MOVING, rearranged) | {"Cast": cast, "Concat": concat, "Dropout": dropout}
)
"""The functions by operator: they take the signal, the node, the values of its inputs and the wiring."""
