"""Arrays as text: 8 or 16 bit between an array's own ends, in base64; and how much fits a page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lstmjax.types import PyTree

CODES = MappingProxyType({8: np.dtype("u1"), 16: np.dtype("<u2")})


class Kept(NamedTuple):
    """An array of the page, and the field that it is; "" for inputs and outputs."""

    values: np.ndarray
    field: str = ""


class Plan(NamedTuple):
    """One row: how many bits each field gets; a field that is not named is left out."""

    says: str
    bits: Mapping[str, int]


STATE, GATES = ("", "g", "c", "m", "h"), ("i", "f", "o")
PLANS = (
    Plan("every value is kept to 16 bit", dict.fromkeys(STATE + GATES, 16)),
    Plan("to stay small, the gates i, f and o are kept to 8 bit", dict.fromkeys(STATE, 16) | dict.fromkeys(GATES, 8)),
    Plan("to stay small, every value is kept to 8 bit", dict.fromkeys(STATE + GATES, 8)),
    Plan("to stay small, only f and c are here, to 8 bit", {"": 8, "f": 8, "c": 8}),
)
"""From all there is to the least that is of use."""
NOTHING = Plan("without arrays", {})
FRAME = 100  # bytes around each array: its shape, its ends


def pack(values: np.ndarray, bits: int) -> dict[str, Any]:
    """Gives an array as a tree for JSON: its shape, its ends, and the numbers between them as text.

    A number comes back as low + code · (high − low) / (2^bits − 1), within half a step of what it was: 7.6e-6 of the
    range at 16 bit. An array whose numbers are all the same has no text.

    Args:
        values: finite numbers, of any shape.
        bits: 8 or 16.

    >>> packed = pack(np.array([[0.0, 0.25, 1.0]]), 16)
    >>> packed["shape"], packed["low"], packed["high"], packed["data"]
    ([1, 3], 0.0, 1.0, 'AAAAQP//')
    """
    values = np.asarray(values, np.float64)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    tree: dict[str, Any] = {"shape": list(values.shape), "low": low, "high": high, "bits": bits}
    if high > low:
        codes = np.rint((values - low) / (high - low) * (2**bits - 1)).astype(CODES[bits])
        tree["data"] = base64.b64encode(codes.tobytes()).decode()
    return tree


def packed(tree: PyTree, plan: Plan) -> tuple[PyTree, float]:
    """Gives a tree with its arrays as text, those that the plan leaves out left out, and the largest error of a field.

    Args:
        tree: dicts and lists with `Kept` in them, and whatever JSON has.
        plan: a row of `PLANS`.
    """
    worst = 0.0

    def change(node: Any) -> Any:
        nonlocal worst
        if isinstance(node, Kept):
            bits = plan.bits[node.field]
            one = pack(node.values, bits)
            if node.field:
                worst = max(worst, (one["high"] - one["low"]) / (2**bits - 1) / 2)
            return one
        if isinstance(node, dict):
            left_out = {k for k, v in node.items() if isinstance(v, Kept) and v.field not in plan.bits}
            return {k: change(v) for k, v in node.items() if k not in left_out}
        return [change(one) for one in node] if isinstance(node, list) else node

    return change(tree), worst


def weight(tree: PyTree, plan: Plan) -> int:
    """Gives the bytes of text that the arrays in a tree take."""
    if isinstance(tree, Kept):
        whole = tree.values.size * plan.bits.get(tree.field, 0) // 8
        return FRAME + 4 * -(-whole // 3)
    nodes = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return sum(weight(node, plan) for node in nodes)


def choose_plan(tree: PyTree, room: int) -> Plan:
    """Gives the first of `PLANS` whose arrays fit.

    Args:
        tree: as for `packed`.
        room: bytes that there are for them.

    Raises:
        ValueError: even the last one does not fit.
    """
    for plan in PLANS:
        if weight(tree, plan) <= room:
            return plan
    least = weight(tree, PLANS[-1]) / 1e6
    raise ValueError(
        f"max_bytes leaves {max(room, 0) / 1e6:.1f} MB for the arrays, but {PLANS[-1].says.partition(', ')[2]}, they "
        f"take {least:.1f} MB. Show fewer or shorter examples, or pass a larger max_bytes."
    )
