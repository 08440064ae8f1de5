"""The constants of a model: those that it stores, and those that a few harmless operators compute from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from lstmjax.frameworks.base.layouts import ConvertError

SHUFFLING = (
    "Cast", "Concat", "Constant", "DequantizeLinear", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze",
)  # fmt: skip
"""Operators that exporters put between stored weights and a node LSTM; none of them can make a small array large.

The numbers of a DequantizeLinear are those that the model computes with."""
LIMIT = 16  # times the size of the model; one that needs more is built to exhaust memory


def graphs_within(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the graphs in the attributes of a node, such as branches, with the names of the attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        for graph in attribute.graphs:
            yield attribute.name, graph


class Constants:
    """The constants of a graph by name, including those that operators of `SHUFFLING` compute.

    A graph within a node (a branch, the body of a loop) can also read those of the graphs around it.
    """

    def __init__(self, model: Any, inputs: Mapping[str, Any] | None = None) -> None:
        self._opsets = model.opset_import
        self._budget = [LIMIT * max(model.ByteSize(), 1 << 16)]  # bytes, in a list that the graphs within share
        self._outer: Constants | None = None
        self._enter(model.graph)
        self._values |= {k: np.asarray(v) for k, v in (inputs or {}).items()}

    def within(self, graph: Any) -> Constants:
        """Return the constants of a graph within a node of this graph."""
        inner = object.__new__(Constants)
        inner._opsets, inner._budget, inner._outer = self._opsets, self._budget, self
        inner._enter(graph)
        return inner

    def _enter(self, graph: Any) -> None:
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._inputs = {info.name for info in graph.input}
        self._values: dict[str, np.ndarray | None] = {}

    def get(self, name: str) -> np.ndarray | None:
        """Return the constant of a name, or None if it depends on the model's inputs or on other operators.

        Raises:
            ConvertError: a stored array is damaged, or the arrays are far larger than the model.
        """
        waiting = [name]
        while waiting:  # not by recursion: a model can be deep
            current = waiting[-1]
            if current not in self._values:
                missing = self._missing_inputs(current)
                if missing:
                    self._values[current] = None  # so that a cycle ends, with no constant
                    waiting += missing
                    continue
            if self._values.get(current) is None:
                self._values[current] = self._compute(current)
            waiting.pop()
        return self._values[name]

    def in_the_way(self, name: str) -> Any:
        """Return the node whose operator is not in `SHUFFLING` and which computes a name from constants, or None.

        None also if any of the numbers come from the model's inputs.
        """
        waiting, seen, way = [name], {name}, None
        while waiting:
            current = waiting.pop()
            node = self._makers.get(current)
            if current in self._stored or self._values.get(current) is not None:
                continue
            if node is None:
                known = current not in self._inputs and self._outer is not None and self._outer.get(current) is not None
                if known:
                    continue
                return None
            if self._maker(current) is None:
                way = node
            names = {other for other in node.input if other} - seen
            seen |= names
            waiting += names
        return way

    def _missing_inputs(self, name: str) -> list[str]:
        """Return the inputs that must be computed before a name."""
        node = self._maker(name)
        if name in self._stored or node is None:
            return []
        return [other for other in node.input if other and other not in self._values]

    def _maker(self, name: str) -> Any:
        """Return the node that computes a name if its operator is in `SHUFFLING`, or None."""
        node = self._makers.get(name)
        shuffles = node is not None and node.op_type in SHUFFLING and node.domain in ("", "ai.onnx")
        return node if shuffles else None

    def _compute(self, name: str) -> np.ndarray | None:
        if name in self._stored:
            return self._array(self._stored[name])
        if name not in self._makers and name not in self._inputs and self._outer is not None:
            return self._outer.get(name)
        node = self._maker(name)
        if node is None:
            return None
        feeds = {other: self._values.get(other) for other in node.input if other}
        if any(value is None for value in feeds.values()):
            return None
        self.spend(name, feeds.values())
        return self.run(node, feeds)[list(node.output).index(name)]

    def spend(self, name: str, arrays: Iterable[Any]) -> None:
        """Refuse to compute a tensor from these arrays if they are far larger than the model."""
        self._budget[0] -= sum(array.nbytes for array in arrays)
        if self._budget[0] < 0:
            raise ConvertError(f"{name} takes far more memory than the model has; it is not computed")

    def run(self, node: Any, feeds: Mapping[str, Any]) -> list[np.ndarray]:
        """Return the outputs of a node for these inputs, as ONNX' own evaluator computes them."""
        graph = helper.make_graph(
            [node], "one", [helper.make_empty_tensor_value_info(name) for name in feeds],
            [helper.make_empty_tensor_value_info(name) for name in node.output],
        )  # fmt: skip
        opsets = self._opsets
        if node.op_type == "DequantizeLinear":  # the evaluator has it from 19 on only, which adds dtypes to 13
            opsets = [helper.make_opsetid("", max(19, *(entry.version for entry in opsets)))]
        outputs: Any = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run(None, dict(feeds))
        return [np.asarray(output) for output in outputs]

    def _array(self, tensor: Any) -> np.ndarray:
        try:
            if tensor.data_type == TensorProto.STRING:
                raise ValueError("strings")
            return np.array(numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
            raise ConvertError(
                f"the stored array {tensor.name!r} is not whole ({str(error).splitlines()[0]})"
            ) from None
