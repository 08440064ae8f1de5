"""What a model computes beside its LSTM layers and its head, which layers alone do not say."""

from __future__ import annotations

from typing import Any

from lstmjax.convert.onnx.constants import SHUFFLING

HEAD = ("head.w", "head.b")
"""What `to_onnx` calls the arrays of a network's head."""

WIRING = SHUFFLING | {
    "ConstantOfShape", "Equal", "Expand", "Greater", "LSTM", "Less", "Range", "Shape", "Sigmoid", "Softmax", "Where",
}  # fmt: skip
"""Operators that change no number on the way, and the readout, which the loss says."""


def has_head(model: Any) -> bool:
    """Gives whether a model is of a network that `to_onnx` wrote."""
    return model.producer_name == "lstmjax" and set(HEAD) <= {tensor.name for tensor in model.graph.initializer}


def rest(model: Any) -> tuple[str, ...]:
    """Gives what else a model computes, such as "Gemm(h, head.weight, head.bias)": other layers, a scale, a sum."""
    known = set(HEAD) if has_head(model) else set()
    return tuple(
        f"{node.op_type}({', '.join(node.input)})"
        for node in model.graph.node
        if node.op_type not in WIRING and known.isdisjoint(node.input)
    )
