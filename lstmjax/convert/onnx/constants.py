"""What a model stores: its constants, and what a few harmless operators make of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from lstmjax.convert.layouts import ConvertError

SHUFFLING = frozenset(
    (
        "Cast",
        "Concat",
        "Constant",
        "DequantizeLinear",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    )
)
"""Operators that exporters put between stored weights and a node LSTM; none of them makes much of little.

The numbers of a DequantizeLinear are those that the model computes with."""
LIMIT = 16  # times the size of the model; beyond it a model is built to exhaust memory


class Constants:
    """The stored values of a graph by name, computed where it takes operators that only shuffle.

    A graph within a node (a branch, the body of a loop) sees those of the graphs around it, too.
    """

    def __init__(self, model: Any, inputs: Mapping[str, Any] | None = None) -> None:
        self._opsets = model.opset_import
        self._left = [LIMIT * max(model.ByteSize(), 1 << 16)]  # shared with the graphs within
        self._outer: Constants | None = None
        self._enter(model.graph)
        self._values |= {k: np.asarray(v) for k, v in (inputs or {}).items()}

    def within(self, graph: Any) -> Constants:
        """Return the constants of a graph that stands in a node of this one."""
        inner = object.__new__(Constants)
        inner._opsets, inner._left, inner._outer = self._opsets, self._left, self
        inner._enter(graph)
        return inner

    def _enter(self, graph: Any) -> None:
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._inputs = {one.name for one in graph.input}
        self._values: dict[str, np.ndarray | None] = {}

    def get(self, name: str) -> np.ndarray | None:
        """Gives the value of a name, or None if it depends on the model's inputs or takes more to compute.

        Raises:
            ConvertError: a stored array that is not whole, or values far larger than the model.
        """
        waiting = [name]
        while waiting:  # not by recursion: a model can be deep
            at = waiting[-1]
            if at not in self._values:
                missing = self._before(at)
                if missing:
                    self._values[at] = None  # stands for what leads back to itself
                    waiting += missing
                    continue
            if self._values.get(at) is None:
                self._values[at] = self._compute(at)
            waiting.pop()
        return self._values[name]

    def _before(self, name: str) -> list[str]:
        node = self._maker(name)
        if name in self._stored or node is None:
            return []
        return [one for one in node.input if one and one not in self._values]

    def _maker(self, name: str) -> Any:
        """Return the node that a value is computed by, if it only shuffles."""
        node = self._makers.get(name)
        shuffles = node is not None and node.op_type in SHUFFLING and node.domain in ("", "ai.onnx")
        return node if shuffles else None

    def _compute(self, name: str) -> np.ndarray | None:
        if name in self._stored:
            return self._whole(self._stored[name])
        if name not in self._makers and name not in self._inputs and self._outer is not None:
            return self._outer.get(name)
        node = self._maker(name)
        if node is None:
            return None
        feeds = {one: self._values.get(one) for one in node.input if one}
        if any(value is None for value in feeds.values()):
            return None
        self._left[0] -= sum(value.nbytes for value in feeds.values() if value is not None)
        if self._left[0] < 0:
            raise ConvertError(f"{name} takes far more memory than the model has; it is not computed")
        graph = helper.make_graph(
            [node], "one", [helper.make_empty_tensor_value_info(one) for one in feeds],
            [helper.make_empty_tensor_value_info(name)],
        )  # fmt: skip
        opsets = self._opsets
        if node.op_type == "DequantizeLinear":  # the evaluator has it from 19 on only, which adds dtypes to 13
            opsets = [helper.make_opsetid("", max(19, *(one.version for one in opsets)))]
        made: Any = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run([name], feeds)
        return np.asarray(made[0])

    def _whole(self, tensor: Any) -> np.ndarray:
        try:
            if tensor.data_type == TensorProto.STRING:
                raise ValueError("strings")
            return np.array(numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
            raise ConvertError(
                f"the stored array {tensor.name!r} is not whole ({str(error).splitlines()[0]})"
            ) from None
