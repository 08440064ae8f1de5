"""Build an ONNX graph: nodes and constants with unique names, and the options that all layers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from onnx import helper, numpy_helper

from lstmjax.cell import CellStep
from lstmjax.cells import VANILLA, Cell
from lstmjax.types import LSTMParams
from lstmjax.wrappers import Wrapper

Name = str
"""The name of a value in a graph."""


class Graph:
    """Nodes and constants; the body of a loop is a `Graph(outer)`, which adds its constants to the outer graph."""

    def __init__(self, outer: Graph | None = None) -> None:
        self.nodes: list[Any] = []
        self._constants: dict[Any, Any] = {} if outer is None else outer._constants
        self._count: list[int] = [0] if outer is None else outer._count

    def fresh(self, word: str) -> Name:
        """Return an unused name that begins with this word."""
        self._count[0] += 1
        return f"{word}_{self._count[0]}"

    def constant(self, value: Any, name: Name | None = None) -> Name:
        """Add a constant, and return its name; equal constants without a name are added once."""
        value = np.asarray(value)
        key = name or (value.dtype.name, value.shape, value.tobytes())
        if key not in self._constants:
            array = value.copy()  # contiguous, while a scalar stays a scalar
            self._constants[key] = numpy_helper.from_array(array, name or self.fresh("constant"))
        return self._constants[key].name

    def ints(self, *values: int) -> Name:
        """Add a constant of integers, such as a shape or axes, and return its name."""
        return self.constant(np.array(values, np.int64))

    def add(self, op: str, *inputs: Name, outputs: int | Name | list[Name] = 1, **attributes: Any) -> Any:
        """Add a node, and return the name of its output; a list of names for several outputs, or a list of them."""
        names = [self.fresh(op.lower()) for _ in range(outputs)] if isinstance(outputs, int) else outputs
        names = [names] if isinstance(names, str) else names
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0] if outputs == 1 or isinstance(outputs, str) else names

    @property
    def initializers(self) -> list[Any]:
        """All constants, of this graph and of the loops in it."""
        return list(self._constants.values())


def type_of(dtype: Any) -> int:
    """Return ONNX' number of a dtype."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def tensor(name: Name, dtype: Any, shape: list[int | str] | None) -> Any:
    """Return the description of an input or output; a word in its shape is a symbolic dimension."""
    return helper.make_tensor_value_info(name, type_of(dtype), shape)


@dataclass(frozen=True)
class Shared:
    """The graph of a model, and the options that hold for all its layers."""

    graph: Graph
    dtype: Any
    step: Callable
    wrappers: tuple[Wrapper, ...]
    operator: str
    merge: str
    lengths: bool
    state: bool
    pairs: tuple[bool, ...]  # which layers have two directions

    @property
    def words(self) -> tuple[str, ...]:
        """The names of the parts of a state."""
        return ("h", "c", *self.row.feeds)

    @property
    def row(self) -> Cell:
        """The cell; for a step of your own the vanilla cell, whose state it has."""
        return self.step.cell if isinstance(self.step, CellStep) else VANILLA

    def sizes(self, params: LSTMParams) -> tuple[int, ...]:
        """Return the widths of the parts of a state."""
        return (params.output_size, *[params.hidden_size] * (len(self.words) - 1))


class Run(NamedTuple):
    """The outputs of a direction: ys `[time, batch, P]`, and the parts of its last state, each `[batch, ...]`."""

    ys: Name
    ends: list[Name]


def step_numbers(shared: Shared, xs: Name) -> Name:
    """Return the numbers of the steps, int32 `[time, 1]`."""
    graph = shared.graph
    count = graph.add("Gather", graph.add("Shape", xs), graph.constant(np.int64(0)))
    steps = graph.add("Range", graph.constant(np.int64(0)), count, graph.constant(np.int64(1)))
    return graph.add("Unsqueeze", graph.add("Cast", steps, to=type_of(np.int32)), graph.ints(1))


def valid_steps(shared: Shared, xs: Name) -> Name:
    """Return which steps are valid, bool `[time, batch]`."""
    return shared.graph.add("Less", step_numbers(shared, xs), "lengths")
