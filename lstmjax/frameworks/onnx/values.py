"""What is known of a tensor of a model without its numbers: which nodes its numbers come from, and on which axes.

A `Signal` is the model's input, or outputs of nodes LSTM, with unchanged numbers: only axes were permuted, split,
joined or removed. What a layer, a head or an output of the model reads is checked against that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Atom:
    """An axis that is not split further; an axis of a tensor can be several of them, joined."""

    name: str
    size: int
    free: bool = False  # the model leaves its length open, and `size` is the one that it is followed at


Axis = tuple[Atom, ...]
"""An axis of a tensor: its atoms, the slowest first; none if its length is 1."""


def axis_of(*atoms: Atom) -> Axis:
    """Return the axis of these atoms; those of length 1 are left out."""
    return tuple(atom for atom in atoms if atom.size != 1)


def size_of(axis: Axis) -> int:
    """Return the length of an axis."""
    return prod(atom.size for atom in axis)


@dataclass(frozen=True)
class Source:
    """Where numbers come from.

    Attributes:
        kind: "input" (of the model), "ys" (all steps of one direction of a node), "h" or "c" (its last state),
            "sum" (of two directions), "residual" (of a layer and its input), "head" (a product with a stored
            matrix), or "readout" (an activation of a head).
        width: how many features it has.
        node: the place of the node LSTM among all nodes.
        direction: "forward" or "reverse".
        name: of the input, the head or the operator; of outputs of a node LSTM the direction of that node.
        step: "first" or "last" if only that step of ys is read.
        of: the sources that a sum, a residual, a head or a readout is computed from.
        plus: the input of the layer, in a residual.
    """

    kind: str
    width: int = 0
    node: int = -1
    direction: str = ""
    name: str = ""
    step: str | None = None
    of: tuple[Source, ...] = ()
    plus: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Signal:
    """Unchanged numbers of one or several sources side by side; `type` is ONNX' number of their dtype.

    Their axis of features consists of the atoms "sources" (which of them) and "features" (of each of them); for sources
    of different widths it is the single atom "both".
    """

    sources: tuple[Source, ...]
    axes: tuple[Axis, ...]
    type: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes."""
        return tuple(map(size_of, self.axes))


@dataclass(frozen=True)
class Mixed:
    """Unchanged numbers of these sources, but selected or arranged by a node as no layer does it."""

    sources: tuple[Source, ...]
    cause: Node


@dataclass(frozen=True)
class Opaque:
    """The output of a node that has no place in a stack of layers; `sources` are those that the node reads."""

    sources: tuple[Source, ...]
    cause: Node


@dataclass(frozen=True)
class Zeros:
    """Zeros, whatever their shape."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A constant of the model, or integers that are computed from lengths of axes, such as a shape."""

    array: np.ndarray
    computed: bool = False


@dataclass(frozen=True)
class Filled:
    """The length of an axis, repeated, which some exporters use for the lengths of sequences without padding."""

    size: int


@dataclass(frozen=True)
class Positive:
    """The result of input > 0, such as for the lengths of sequences."""

    name: str


Value = Signal | Mixed | Opaque | Zeros | Stored | Filled | Positive | None
"""A tensor; None: an optional input that a node does not have."""


@dataclass(frozen=True, eq=False)
class Node:
    """A node of the graph."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int
    proto: Any = None

    def __str__(self) -> str:
        name = self.name or next((output for output in self.outputs if output), "")
        return f"node {name!r} ({self.op})"


def features(sources: Iterable[Source]) -> Axis:
    """Return the axis of features of these sources side by side."""
    widths = [source.width for source in sources]
    if len(set(widths)) > 1:
        return axis_of(Atom("both", sum(widths)))
    return axis_of(Atom("sources", len(widths)), Atom("features", widths[0]))


def sources_axis(sources: tuple[Source, ...]) -> Axis:
    """Return the axis along which these sources, of the same width, are stacked."""
    return axis_of(Atom("sources", len(sources)))


def sources_of(values: Iterable[Value]) -> tuple[Source, ...]:
    """Return all sources of these values."""
    result: dict[Source, None] = {}
    for value in values:
        if isinstance(value, Signal | Mixed | Opaque):
            result |= dict.fromkeys(value.sources)
    return tuple(result)


def at_step(source: Source, step: str, ragged: bool) -> Source:
    """Return a source at the "first" or "last" step in time; where its direction ends, that is its last state.

    With lengths (`ragged`) the last step in time may be padding, and not the end of a sequence.
    """
    if source.kind == "ys":
        end = "last" if source.direction == "forward" else "first"
        return replace(source, kind="h") if step == end and not ragged else replace(source, step=step)
    if not source.of:
        return replace(source, step=step)
    return replace(
        source,
        of=tuple(at_step(other, step, ragged) for other in source.of),
        plus=tuple(at_step(other, step, ragged) for other in source.plus),
    )


@dataclass(frozen=True)
class Level:
    """The outputs of a layer: of a node, or of two nodes that are its directions."""

    nodes: tuple[int, ...]
    pair: bool
    kind: str  # "ys" or "h"
    merge: str = "concat"
    residual: bool = False


def level_of(sources: tuple[Source, ...]) -> Level | None:
    """Return the layer whose outputs these are, or None if they are not the outputs of a layer."""
    if len(sources) == 2:
        return _pair(sources)
    if len(sources) != 1:
        return None
    source = sources[0]
    if source.kind == "sum":
        level = _pair(source.of)
        return None if level is None else replace(level, merge="sum")
    if source.kind == "residual":
        level = level_of(source.of)
        return None if level is None else replace(level, residual=True)
    if source.kind in ("ys", "h") and source.step is None and source.name != "bidirectional":
        return Level((source.node,), False, source.kind)
    return None


def _pair(sources: tuple[Source, ...]) -> Level | None:
    forward, backward = sources
    if forward.kind != backward.kind or forward.kind not in ("ys", "h"):
        return None
    if (forward.direction, backward.direction) != ("forward", "reverse"):
        return None
    if forward.step is not None or backward.step is not None:
        return None
    same_node = forward.node == backward.node
    if any(same_node != (source.name == "bidirectional") for source in sources):
        return None
    nodes = (forward.node,) if same_node else (forward.node, backward.node)
    return Level(nodes, True, forward.kind)


@dataclass(frozen=True)
class Entry:
    """A node LSTM, and the values of its inputs by ONNX' names for them."""

    node: Node
    values: dict[str, Value]
    direction: str


@dataclass
class Wiring:
    """What is known of the tensors of a graph while its nodes are visited in order; see `wire`."""

    constants: Any  # `Constants`
    values: dict[str, Value] = field(default_factory=dict)  # by the names of tensors
    entries: dict[int, Entry] = field(default_factory=dict)  # of each node LSTM, by its place among all nodes
    heads: dict[str, tuple[np.ndarray, np.ndarray | None]] = field(default_factory=dict)  # weights and bias by name
    time: Axis | None = None
    batch: Axis | None = None

    def value(self, name: str) -> Value:
        """Return the value of a tensor, stored ones included."""
        if name not in self.values:
            array = self.constants.get(name) if name else None
            self.values[name] = None if array is None else stored_value(array)
        return self.values[name]

    @property
    def ragged(self) -> bool:
        """Whether sequences have lengths."""
        return any(entry.values["sequence_lens"] is not None for entry in self.entries.values())


def stored_value(array: np.ndarray) -> Value:
    """Return the value of a constant."""
    return Zeros() if array.dtype.kind == "f" and not array.any() else Stored(array)
