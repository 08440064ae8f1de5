"""Weights of ONNX Runtime's quantised LSTM as floating-point numbers.

Source: the operator com.microsoft.DynamicQuantizeLSTM, whose W is `[D, I, 4H]` and R `[D, H, 4H]`, int8 or uint8,
each with a scale and a zero point, `[D]` or `[D, 4H]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lstmjax.convert.layouts import ConvertError
from lstmjax.convert.onnx.constants import Constants

QUANTISED = "DynamicQuantizeLSTM"
PLACES = {"W": (8, 9), "R": (10, 11)}
"""The places of the scale and the zero point of each matrix among the inputs of the node."""


def is_lstm(node: Any) -> bool:
    """Return whether a node is an LSTM, quantised or not."""
    if node.domain == "com.microsoft":
        return node.op_type == QUANTISED
    return node.op_type == "LSTM" and node.domain in ("", "ai.onnx")


def dequantised(node: Any, arrays: Mapping[str, np.ndarray], constants: Constants, where: str) -> dict[str, np.ndarray]:
    """Return W `[D, 4H, I]` and R `[D, 4H, H]` as float32: scale · (number − zero point).

    Raises:
        ConvertError: scales or zero points are not stored in the model, or do not fit.
    """
    result = {}
    for key, places in PLACES.items():
        if key not in arrays:
            continue
        stored = arrays[key]
        scale, zero = (constants.get(node.input[n]) if n < len(node.input) else None for n in places)
        if scale is None or zero is None:
            raise ConvertError(f"{where}the scale or the zero point of {key} is not stored in the model")
        fits = stored.ndim == 3 and scale.shape == zero.shape and scale.shape[:1] == stored.shape[:1]
        if not fits or scale.shape[1:] not in ((), stored.shape[2:]):
            raise ConvertError(
                f"{where}{key} has shape {stored.shape}, its scale {scale.shape} and its zero point {zero.shape}; "
                "expected [D, I or H, 4H], and [D] or [D, 4H]"
            )
        wide = (len(scale), 1, -1)
        numbers = (stored.astype(np.int32) - zero.astype(np.int32).reshape(wide)) * scale.reshape(wide)
        result[key] = np.ascontiguousarray(np.swapaxes(numbers, 1, 2).astype(np.float32))
    return result
