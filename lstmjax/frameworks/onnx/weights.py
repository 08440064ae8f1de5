"""The arrays of a node LSTM: W, R, B and P for each direction, and the 8-bit ones of ONNX Runtime's quantised LSTM.

Source of the latter: the operator com.microsoft.DynamicQuantizeLSTM, whose W is `[D, I, 4H]` and R `[D, H, 4H]`, int8
or uint8, each with a scale and a zero point, `[D]` or `[D, 4H]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from lstmjax.cells import Cell
from lstmjax.frameworks.base.layouts import ConvertError, Fused, Layout, read, write
from lstmjax.types import GATES, LSTMParams

LAYOUT = Layout("onnx", order="iofg", rows=True, biases=2)
PEEPHOLES = "iof"
COUPLED = ("i", "g", "o")
"""The gates that have blocks if f is 1 − i."""
QUANTISED = "DynamicQuantizeLSTM"
PLACES = {"W": (8, 9), "R": (10, 11)}
"""The places of the scale and the zero point of each matrix among the inputs of a quantised node."""


def write_arrays(row: Cell, params: LSTMParams) -> dict[str, np.ndarray | None]:
    """Return W `[4H, I]`, R `[4H, H]`, B `[8H]` and P `[3H]` of one direction; None: there is no such array."""
    peepholes = None
    if params.w_c is not None:
        rows = dict(zip(row.peepholes, np.asarray(params.w_c), strict=True))
        peepholes = np.concatenate([rows.get(gate, np.zeros_like(rows["i"])) for gate in PEEPHOLES])
    all_gates = jax.tree.map(lambda a: _with_all_gates(row, np.asarray(a)), params._replace(w_c=None))
    fused = write(LAYOUT, all_gates)
    bias = None if fused.b is None else np.concatenate([fused.b, fused.b_h])
    return {"W": fused.w_x, "R": fused.w_h, "B": bias, "P": peepholes}


def _with_all_gates(row: Cell, a: np.ndarray) -> np.ndarray:
    """Return an array with blocks for all four gates, zeros for a gate that has none."""
    blocks = {gate: a[..., n, :] for n, gate in enumerate(row.blocks)}
    return np.stack([blocks.get(gate, np.zeros_like(a[..., 0, :])) for gate in GATES], axis=-2)


def check_arrays(arrays: dict[str, np.ndarray], count: int, where: str) -> None:
    """Refuse weights that do not fit each other, for this number of directions."""
    if not {"W", "R"} <= arrays.keys():
        raise ConvertError(f"{where}W and R are needed, but there are {', '.join(arrays) or 'neither'}")
    hidden = arrays["R"].shape[-1] if arrays["R"].ndim else 0
    inputs = arrays["W"].shape[-1] if arrays["W"].ndim else 0
    wide = {"W": (4 * hidden, inputs), "R": (4 * hidden, hidden), "B": (8 * hidden,), "P": (3 * hidden,)}
    for key, a in arrays.items():
        expected = (count, *wide[key])
        if a.shape != expected or not hidden:
            raise ConvertError(
                f"{where}{key} has shape {a.shape}, expected {expected} for {count} direction(s) of H = {hidden}"
            )


def read_arrays(arrays: dict[str, np.ndarray], coupled: bool, where: str) -> LSTMParams:
    """Return the parameters of a direction."""
    b, b_h = np.split(arrays["B"], 2) if "B" in arrays else (None, None)
    params = read(LAYOUT, Fused(arrays["W"], arrays["R"], b, b_h), where)
    if coupled:  # f is 1 − i, and its block is not read
        blocks = [GATES.index(gate) for gate in COUPLED]
        params = jax.tree.map(lambda a: a[..., blocks, :], params)
    if "P" in arrays:
        order = [PEEPHOLES.index(gate) for gate in (COUPLED if coupled else GATES) if gate != "g"]
        rows: Any = arrays["P"].reshape(len(PEEPHOLES), -1)[order]
        params = params._replace(w_c=rows)
    return params


def dequantised(node: Any, arrays: Mapping[str, np.ndarray], constants: Any, where: str) -> dict[str, np.ndarray]:
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
