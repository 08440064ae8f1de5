"""How the nodes of a model are wired: its tensors as `Value`s, and what enters each node LSTM."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lstmjax.frameworks.onnx.constants import Constants
from lstmjax.frameworks.onnx.values import Axis, Node, Stored, Value, Zeros


@dataclass(frozen=True)
class Entry:
    """A node LSTM, and the values of its inputs by ONNX' names for them."""

    node: Node
    values: dict[str, Value]
    direction: str


@dataclass
class Wiring:
    """What is known of the tensors of a graph while its nodes are visited in order; see `wire`."""

    constants: Constants
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
