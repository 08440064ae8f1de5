"""A layer as a node of ONNX' operator LSTM, where that can say the cell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from lstmjax.cell import CellStep
from lstmjax.cells import VANILLA, Cell
from lstmjax.convert.layouts import LAYOUTS, write
from lstmjax.convert.onnx.activations import written
from lstmjax.convert.onnx.graph import Name
from lstmjax.convert.onnx.shared import Run, Shared
from lstmjax.published import Clip, forget_from_input
from lstmjax.types import GATES, LSTMParams

LAYOUT = LAYOUTS["onnx"]
PEEPHOLES = "iof"
COUPLED = ("i", "g", "o")
"""The blocks that are left of GATES where f is 1 − i."""


def unsaid(shared: Shared, params: LSTMParams) -> Iterator[str]:
    """Gives what the operator LSTM has no word for, in words."""
    if not isinstance(shared.step, CellStep):
        yield "a step of your own"
        return
    row = shared.row
    if shared.wrappers:
        yield "wrappers around the step"
    if params.w_p is not None:
        yield "a projection"
    for field in ("w_r", "norm", "gain"):
        if field in row.has:
            yield f"{field} of the cell {row.name!r}"
    for field in ("join", "normalise", "carry", "inside"):
        if getattr(row, field) != getattr(VANILLA, field):
            yield f"{field} of the cell {row.name!r}"
    if (row.blocks, row.couple) not in ((GATES, VANILLA.couple), (COUPLED, forget_from_input)):
        yield f"the gates of the cell {row.name!r}"
    sigmas = {getattr(row, gate) for gate in row.blocks if gate != "g"}
    if len(sigmas) > 1:
        yield f"gates with activations of their own, as the cell {row.name!r} has them"
    for activation in (*sigmas, row.g, row.squash):
        if written(activation) is None:
            yield f"the activation {getattr(activation, '__name__', activation)} of the cell {row.name!r}"
    if row.limit is not VANILLA.limit and not (isinstance(row.limit, Clip) and row.limit.before is VANILLA.limit):
        yield f"limit of the cell {row.name!r}"


def attributes(row: Cell) -> dict[str, Any]:
    """Gives the attributes of a node LSTM, for one direction, of a cell that it can say."""
    said: list[Any] = [written(activation) for activation in (row.i, row.g, row.squash)]
    found: dict[str, Any] = {"activations": [name for name, _ in said]}
    for n, name in enumerate(("activation_alpha", "activation_beta")):
        values = [constants[n] for _, constants in said if len(constants) > n]
        if values:
            found[name] = values
    if isinstance(row.limit, Clip):
        found["clip"] = row.limit.limit
    if row.couple is forget_from_input:
        found["input_forget"] = 1
    return found


def weights(row: Cell, params: LSTMParams) -> dict[str, np.ndarray | None]:
    """Gives W `[4H, I]`, R `[4H, H]`, B `[8H]` and P `[3H]` of one direction; None: not there."""
    peepholes = None
    if params.w_c is not None:
        rows = dict(zip(row.peepholes, np.asarray(params.w_c), strict=True))
        peepholes = np.concatenate([rows.get(gate, np.zeros_like(rows["i"])) for gate in PEEPHOLES])
    four = jax.tree.map(lambda a: _four(row, np.asarray(a)), params._replace(w_c=None))
    fused = write(LAYOUT, four)
    bias = None if fused.b is None else np.concatenate([fused.b, fused.b_h])
    return {"W": fused.w_x, "R": fused.w_h, "B": bias, "P": peepholes}


def _four(row: Cell, a: np.ndarray) -> np.ndarray:
    """Gives an array with a gate axis of four, zeros for a gate that has no block."""
    blocks = [
        a[..., row.blocks.index(gate), :] if gate in row.blocks else np.zeros_like(a[..., 0, :]) for gate in GATES
    ]
    return np.stack(blocks, axis=-2)


def lstm_nodes(shared: Shared, parts: tuple[LSTMParams, ...], xs: Name, ways: list[str]) -> list[Run]:
    """Gives the outputs of a node LSTM; of two, if the directions are of different sizes."""
    row = shared.row
    arrays = [weights(row, part) for part in parts]
    shapes = {tuple((name, a is None or a.shape) for name, a in one.items()) for one in arrays}
    if len(shapes) > 1:
        each = zip(parts, ways, ("forward", "reverse"), strict=True)
        return [_node(shared, (part,), [arrays[k]], xs, [way], at)[0] for k, (part, way, at) in enumerate(each)]
    return _node(shared, parts, arrays, xs, ways, "bidirectional" if len(parts) == 2 else "forward")


def _node(
    shared: Shared, parts: tuple[LSTMParams, ...], arrays: list[dict], xs: Name, ways: list[str], direction: str
) -> list[Run]:
    graph, row = shared.graph, shared.row
    stem = ways[0].removesuffix("forward.")
    inputs = {
        name: "" if arrays[0][name] is None else graph.constant(np.stack([one[name] for one in arrays]), stem + name)
        for name in arrays[0]
    }
    begin = ["", ""]
    if shared.state:
        axis = graph.ints(0)
        begin = [
            graph.add("Concat", *(graph.add("Unsqueeze", way + word, axis) for way in ways), axis=0) for word in "hc"
        ]
    said = {k: v * len(parts) if isinstance(v, list) else v for k, v in attributes(row).items()}
    names = [xs, inputs["W"], inputs["R"], inputs["B"], "lengths" if shared.lengths else "", *begin, inputs["P"]]
    while not names[-1]:
        names.pop()
    outputs = [graph.fresh(word) for word in ("Y", "Y_h", "Y_c")]
    graph.add("LSTM", *names, outputs=outputs, direction=direction, hidden_size=parts[0].hidden_size, **said)
    any_step = ""
    if shared.lengths and shared.state:  # of length 0 the state is the initial one; ONNX Runtime says 0
        any_step = graph.add("Unsqueeze", graph.add("Greater", "lengths", graph.constant(np.int32(0))), graph.ints(1))
    runs = []
    for k, way in enumerate(ways):
        at = graph.constant(np.int64(k))
        ends = [graph.add("Gather", name, at, axis=0) for name in outputs[1:]]
        if any_step:
            ends = [graph.add("Where", any_step, end, way + word) for end, word in zip(ends, "hc", strict=True)]
        runs.append(Run(graph.add("Gather", outputs[0], at, axis=1), ends))
    return runs
