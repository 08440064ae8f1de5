"""The options and the graph that all layers of a model share while it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lstmjax.cell import CellStep
from lstmjax.cells import VANILLA, Cell
from lstmjax.frameworks.onnx.graph import Graph, Name, type_of
from lstmjax.types import LSTMParams
from lstmjax.wrappers import Wrapper


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
