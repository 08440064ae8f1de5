"""Arrays as text: 8 or 16 bit between the ends of an array, in base64; and how much fits on a page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lstmjax.types import PyTree

CODES = MappingProxyType({8: np.dtype("u1"), 16: np.dtype("<u2")})
EXACT = 32
"""Bits of float32, as which numbers are stored without a scale."""


class PageArray(NamedTuple):
    """An array of the page, and the field that it holds.

    That is "x" for inputs, "s" for saliency, "t" for gates at a checkpoint, "" for outputs.
    """

    values: np.ndarray
    field: str = ""


class Plan(NamedTuple):
    """The number of bits for each field; a field that is not named is left out."""

    note: str  # for the page
    bits: Mapping[str, int]


STATE, GATES, INPUTS = ("", "s", "g", "c", "m", "h"), ("i", "f", "o"), {"x": EXACT, "t": 8}
PLANS = (
    Plan("every value is kept to 16 bit", INPUTS | dict.fromkeys(STATE + GATES, 16)),
    Plan(
        "to stay small, the gates i, f and o are kept to 8 bit",
        INPUTS | dict.fromkeys(STATE, 16) | dict.fromkeys(GATES, 8),
    ),
    Plan("to stay small, every value is kept to 8 bit", INPUTS | dict.fromkeys(STATE + GATES, 8)),
    Plan("to stay small, only f and c are here, to 8 bit", {"x": 16, "": 8, "f": 8, "c": 8}),
)
"""From the most exact to the smallest page that is of use."""
NOTHING = Plan("without arrays", {})
FRAME = 100  # bytes of JSON around each array: its shape and ends


def pack(values: np.ndarray, bits: int) -> dict[str, Any]:
    """Return an array as a tree for JSON: its shape, its ends, and its numbers between them as text.

    A number is read as low + code · (high − low) / (2^bits − 1), within half a step of its value: 7.6e-6 of the range
    at 16 bit. An array whose numbers are all equal has no text. At 32 bit a number is its float32, exactly.

    Args:
        values: finite numbers, of any shape.
        bits: 8, 16 or 32.

    >>> packed = pack(np.array([[0.0, 0.25, 1.0]]), 16)
    >>> packed["shape"], packed["low"], packed["high"], packed["data"]
    ([1, 3], 0.0, 1.0, 'AAAAQP//')
    """
    values = np.asarray(values, np.float64)
    low = float(values.min()) if values.size else 0.0
    high = float(values.max()) if values.size else 0.0
    tree: dict[str, Any] = {"shape": list(values.shape), "low": low, "high": high, "bits": bits}
    if high > low and bits == EXACT:
        tree["data"] = base64.b64encode(values.astype("<f4").tobytes()).decode()
    elif high > low:
        codes = np.rint((values - low) / (high - low) * (2**bits - 1)).astype(CODES[bits])
        tree["data"] = base64.b64encode(codes.tobytes()).decode()
    return tree


def packed(tree: PyTree, plan: Plan) -> tuple[PyTree, float]:
    """Return a tree with its arrays as text, without those that the plan leaves out, and the largest error of a field.

    Args:
        tree: dicts, lists and other values of JSON, with `PageArray` among them.
        plan: a row of `PLANS`.
    """
    worst = 0.0

    def change(node: Any) -> Any:
        nonlocal worst
        if isinstance(node, PageArray):
            bits = plan.bits[node.field]
            array = pack(node.values, bits)
            if node.field not in ("", "x", "s", "t"):
                worst = max(worst, (array["high"] - array["low"]) / (2**bits - 1) / 2)
            return array
        if isinstance(node, dict):
            omitted = {k for k, v in node.items() if isinstance(v, PageArray) and v.field not in plan.bits}
            return {k: change(v) for k, v in node.items() if k not in omitted}
        return [change(entry) for entry in node] if isinstance(node, list) else node

    return change(tree), worst


def weight(tree: PyTree, plan: Plan) -> int:
    """Return the number of bytes of text that the arrays in a tree take."""
    if isinstance(tree, PageArray):
        count = tree.values.size * plan.bits.get(tree.field, 0) // 8
        return FRAME + 4 * -(-count // 3)  # base64: 4 characters for 3 bytes
    if isinstance(tree, dict):
        return sum(weight(node, plan) for node in tree.values())
    return sum(weight(node, plan) for node in tree) if isinstance(tree, list) else 0


def choose_plan(tree: PyTree, room: int) -> Plan:
    """Return the first of `PLANS` whose arrays fit.

    Args:
        tree: as for `packed`.
        room: the number of bytes for the arrays.

    Raises:
        ValueError: not even the arrays of the last plan fit.
    """
    for plan in PLANS:
        if weight(tree, plan) <= room:
            return plan
    least = weight(tree, PLANS[-1]) / 1e6
    raise ValueError(
        f"max_bytes leaves {max(room, 0) / 1e6:.1f} MB for the arrays, but {PLANS[-1].note.partition(', ')[2]}, they "
        f"take {least:.1f} MB. Show fewer or shorter examples, or pass a larger max_bytes."
    )
