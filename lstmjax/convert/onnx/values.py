"""What a tensor of a model is, as far as its wiring goes: which node's outputs, on which axes; never its numbers.

A `Signal` is the model's input, or outputs of nodes LSTM, whose numbers nothing has changed: only axes were
turned, joined, joined or left out. What a layer,
a head or an output of the model reads is checked against that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Size:
    """The length of an axis: a number, times axes whose length is not fixed, by their names."""

    count: int = 1
    symbols: tuple[str, ...] = ()

    def __mul__(self, other: Size) -> Size:
        return Size(self.count * other.count, tuple(sorted(self.symbols + other.symbols)))


ONE = Size()


@dataclass(frozen=True)
class Atom:
    """An axis that is not split further; several side by side in memory can be one axis of a tensor."""

    name: str
    size: Size


Axis = tuple[Atom, ...]
"""An axis of a tensor: the atoms that it is made of, the slowest first; none if its length is 1."""


def axis_of(*atoms: Atom) -> Axis:
    """Return the axis of these atoms; those of length 1 say nothing and are left out."""
    return tuple(atom for atom in atoms if atom.size != ONE)


def size_of(axis: Axis) -> Size:
    """Return the length of an axis."""
    size = ONE
    for atom in axis:
        size = size * atom.size
    return size


@dataclass(frozen=True)
class Source:
    """Where numbers come from.

    `kind` is "input" (of the model), "ys" (all steps of one direction of a node), "h" or "c" (its last state),
    "sum" (`of` two directions), "residual" (`of` a layer, `plus` what entered it), "head" (a product with a
    stored matrix), or "readout" (`name` of it, `of` a head). `step`: of ys only "first" or "last" in time.
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
    """Numbers of one or several sources side by side, unchanged; `type` is ONNX' number of their dtype.

    The atoms "sources" (which of them) and "features" (of one of them) make up their axis of features; sources of
    different widths have one atom, "both".
    """

    sources: tuple[Source, ...]
    axes: tuple[Axis, ...]
    type: int


@dataclass(frozen=True)
class Mixed:
    """Numbers of these sources, unchanged, but picked or arranged by a node as no layer has them."""

    sources: tuple[Source, ...]
    cause: Step


@dataclass(frozen=True)
class Opaque:
    """What a node computes that has no place in a stack of layers; `sources` are what it reads of them."""

    sources: tuple[Source, ...]
    cause: Step


@dataclass(frozen=True)
class Zeros:
    """Zeros, whatever their shape."""


@dataclass(frozen=True, eq=False)
class Sizes:
    """Whole numbers that are lengths of axes, such as those of a shape: an array of `Size`."""

    array: np.ndarray


@dataclass(frozen=True, eq=False)
class Stored:
    """A constant of the model."""

    array: np.ndarray


@dataclass(frozen=True)
class Filled:
    """One length of an axis, repeated, as some exporters write the lengths of sequences that have all steps."""

    size: Size


@dataclass(frozen=True)
class Positive:
    """Whether each number of an input is above 0, as of the lengths of sequences."""

    name: str


Value = Signal | Mixed | Opaque | Zeros | Sizes | Stored | Filled | Positive | None
"""A tensor; None is an input that a node leaves out."""


@dataclass(frozen=True, eq=False)
class Step:
    """A node of the graph."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    said: Mapping[str, Any]
    opset: int

    def __str__(self) -> str:
        name = self.name or next((output for output in self.outputs if output), "")
        return f"node {name!r} ({self.op})"


def features(sources: Iterable[Source]) -> Axis:
    """Return the axis of features of sources side by side."""
    widths = [source.width for source in sources]
    if len(set(widths)) > 1:
        return axis_of(Atom("both", Size(sum(widths))))
    return axis_of(Atom("sources", Size(len(widths))), Atom("features", Size(widths[0])))


def beside(sources: tuple[Source, ...]) -> Axis:
    """Return the axis along which sources of one width are stacked."""
    return axis_of(Atom("sources", Size(len(sources))))


def sources_of(values: Iterable[Value]) -> tuple[Source, ...]:
    """Return all sources that values come from."""
    result: dict[Source, None] = {}
    for value in values:
        if isinstance(value, Signal | Mixed | Opaque):
            result |= dict.fromkeys(value.sources)
    return tuple(result)


def at_step(source: Source, step: str, ragged: bool) -> Source:
    """Return a source at the first or last step in time; the end of a direction is its last state.

    With lengths (`ragged`) the last step in time is padding, and not where a sequence ends.
    """
    if source.kind == "ys":
        ends = {"forward": "last", "reverse": "first"}[source.direction] == step and not ragged
        return replace(source, kind="h") if ends else replace(source, step=step)
    if not source.of:
        return replace(source, step=step)
    of, plus = (tuple(at_step(each, step, ragged) for each in part) for part in (source.of, source.plus))
    return replace(source, of=of, plus=plus)


@dataclass(frozen=True)
class Level:
    """The outputs of one layer: of one node, or of two that are its directions."""

    nodes: tuple[int, ...]
    pair: bool
    kind: str  # "ys" or "h"
    merge: str = "concat"
    residual: bool = False
    reverse: bool = False  # of a single direction


def level_of(sources: tuple[Source, ...]) -> Level | None:
    """Return the layer whose outputs these are, or None if they are anything else."""
    if len(sources) == 2:
        return _pair(sources)
    (source,) = sources if len(sources) == 1 else (None,)
    if source is None:
        return None
    if source.kind == "sum":
        level = _pair(source.of)
        return level and replace(level, merge="sum")
    if source.kind == "residual":
        level = level_of(source.of)
        return level and replace(level, residual=True)
    single = source.kind in ("ys", "h") and source.step is None and source.name != "bidirectional"
    return Level((source.node,), False, source.kind, reverse=source.direction == "reverse") if single else None


def _pair(sources: tuple[Source, ...]) -> Level | None:
    ahead, back = sources
    alike = ahead.kind == back.kind and ahead.kind in ("ys", "h") and ahead.step is None and back.step is None
    if not alike or (ahead.direction, back.direction) != ("forward", "reverse"):
        return None
    one_node = ahead.node == back.node
    if one_node != (ahead.name == "bidirectional") or one_node != (back.name == "bidirectional"):
        return None
    return Level((ahead.node,) if one_node else (ahead.node, back.node), True, ahead.kind)
