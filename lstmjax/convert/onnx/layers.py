"""One layer as ONNX nodes: the operator LSTM where it can say the cell, else a Scan made from the step itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from onnx import helper

from lstmjax.cell import CellStep
from lstmjax.cells import VANILLA, Cell
from lstmjax.convert.layouts import LAYOUTS, ConvertError, write
from lstmjax.convert.onnx.activations import written
from lstmjax.convert.onnx.graph import Graph, Name, tensor, type_of
from lstmjax.convert.onnx.lower import batched, lower
from lstmjax.layer import NOTHING, compose
from lstmjax.published import Clip, forget_from_input
from lstmjax.stack import directions
from lstmjax.types import GATES, LSTMParams
from lstmjax.wrappers import Hold, Look, Wrapper

LAYOUT = LAYOUTS["onnx"]
PEEPHOLES = "iof"


@dataclass(frozen=True)
class Shared:
    """What all layers of a model share."""

    graph: Graph
    dtype: Any
    step: Callable
    wrappers: tuple[Wrapper, ...]
    operator: str
    merge: str
    lengths: bool
    state: bool

    @property
    def words(self) -> tuple[str, ...]:
        """What the parts of a state are called."""
        return ("h", "c", *self.row.feeds)

    @property
    def row(self) -> Cell:
        """The cell; of a step of your own the vanilla one, whose state it has."""
        return self.step.cell if isinstance(self.step, CellStep) else VANILLA


class Layer(NamedTuple):
    """What a layer gives: ys `[time, batch, W]`, the last `[batch, W]`, and of each state its name, size and end."""

    ys: Name
    last: Name
    states: list[tuple[Name, int, Name]]


class Run(NamedTuple):
    """What one direction gives: ys `[time, batch, P]`, and the parts of its last state, each `[batch, ...]`."""

    ys: Name
    ends: list[Name]


def layer_nodes(shared: Shared, n: int, layer: Any, xs: Name) -> Layer:
    """Gives the outputs of layer n on xs `[time, batch, I]`, whose nodes it adds to the graph."""
    parts = directions(layer)
    ways = [f"layers.{n}.{way}." for way in layer._fields] if len(parts) == 2 else [f"layers.{n}."]
    reasons = [reason for part in parts for reason in unsaid(shared, part)]
    if shared.operator == "lstm" and reasons:
        raise ConvertError(f"layer {n}: the operator LSTM has no word for {reasons[0]}; pass operator='scan'")
    if shared.operator == "scan" or reasons or (shared.operator == "auto" and shared.dtype != np.float32):
        runs = [_scan(shared, part, xs, way, k == 1) for k, (part, way) in enumerate(zip(parts, ways, strict=True))]
    else:
        runs = _lstm(shared, parts, xs, ways)
    states: list[tuple[Name, int, Name]] = []
    for part, way, run in zip(parts, ways, runs, strict=True):
        sizes = (part.output_size, *[part.hidden_size] * (len(shared.words) - 1))
        states += zip([way + word for word in shared.words], sizes, run.ends, strict=True)
    ys, last = (_merged(shared, names) for names in ([run.ys for run in runs], [run.ends[0] for run in runs]))
    return Layer(ys, last, states)


def _merged(shared: Shared, names: list[Name]) -> Name:
    if len(names) == 1:
        return names[0]
    return shared.graph.add("Concat", *names, axis=-1) if shared.merge == "concat" else shared.graph.add("Add", *names)


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
    for field in ("w_r", "norm"):
        if field in row.has:
            yield f"{field} of the cell {row.name!r}"
    for field in ("join", "carry", "inside"):
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
    if row.limit is not VANILLA.limit and not isinstance(row.limit, Clip):
        yield f"limit of the cell {row.name!r}"


COUPLED = ("i", "g", "o")


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


def _lstm(shared: Shared, parts: tuple[LSTMParams, ...], xs: Name, ways: list[str]) -> list[Run]:
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
    runs = []
    for k, way in enumerate(ways):
        at = graph.constant(np.int64(k))
        ends = [graph.add("Gather", name, at, axis=0) for name in outputs[1:]]
        if shared.lengths and shared.state:  # of length 0 the state is the initial one; ONNX Runtime says 0
            any_step = graph.add(
                "Unsqueeze", graph.add("Greater", "lengths", graph.constant(np.int32(0))), graph.ints(1)
            )
            ends = [graph.add("Where", any_step, end, way + word) for end, word in zip(ends, "hc", strict=True)]
        runs.append(Run(graph.add("Gather", outputs[0], at, axis=1), ends))
    return runs


def _scan(shared: Shared, params: LSTMParams, xs: Name, way: str, reverse: bool) -> Run:
    """Gives the outputs of a Scan whose body is the step, with what stands around it, as JAX traces it."""
    graph, body, dtype = shared.graph, Graph(shared.graph), shared.dtype
    sizes = (params.output_size, *[params.hidden_size] * (len(shared.words) - 1))
    shapes = [jax.ShapeDtypeStruct((size,), dtype) for size in (*sizes, params.input_size)]
    flags = [jax.ShapeDtypeStruct((), bool)] * shared.lengths
    *state, x = shapes
    around: list[tuple] = [(w, w.draw(None, 1, tuple(state), x)) for w in shared.wrappers]
    around += [(Look("h"), NOTHING), *[(Hold(None), NOTHING)] * shared.lengths]
    whole, fixed, stepped = compose(shared.step, around)
    if jax.tree.leaves(stepped):
        raise ConvertError("a wrapper needs something for each step at evaluation, too, which is not exported")

    def once(state: tuple, x: Any, *valid: Any) -> Any:
        pairs = list(zip(fixed, stepped, strict=True))
        return whole(params, state, x, ((None, *valid), *pairs[1:]) if valid else tuple(pairs))

    with jax.enable_x64(dtype == np.float64):
        closed, (end, y) = jax.make_jaxpr(once, return_shape=True)(tuple(state), x, *flags)
        names = [body.fresh(word) for word in (*shared.words, "x", *["valid"] * shared.lengths)]
        out = lower(body, closed.jaxpr, closed.consts, list(names))
    found: Any = jax.tree.structure((end, y))
    if found != jax.tree.structure((tuple(state), x)) or y.shape != (params.output_size,):
        raise ConvertError("a step of your own is exported if its state is (h, c) and it emits h")
    outputs = []
    for value in out:
        value = value if isinstance(value, str) else batched(body, value, names[0])
        outputs.append(body.add("Identity", value))
    kinds = [a.dtype for a in (*shapes, *flags)]
    described = [tensor(name, kind, None) for name, kind in zip(names, kinds, strict=True)]
    ends = [tensor(name, dtype, None) for name in outputs]
    scanned = [xs, *([_valid_steps(shared, xs)] if shared.lengths else [])]
    back = int(reverse)
    begin = [
        way + word if shared.state else _zeros(shared, xs, size) for word, size in zip(shared.words, sizes, strict=True)
    ]
    named = graph.add(
        "Scan", *begin, *scanned, outputs=[graph.fresh(word) for word in (*shared.words, "ys")],
        body=helper.make_graph(body.nodes, f"{way}step", described, ends), num_scan_inputs=len(scanned),
        scan_input_directions=[back] * len(scanned), scan_output_directions=[back],
    )  # fmt: skip
    return Run(named[-1], named[:-1])


def _zeros(shared: Shared, xs: Name, size: int) -> Name:
    """Gives zeros `[batch, size]`."""
    graph = shared.graph
    shape = graph.add("Concat", graph.add("Shape", xs, start=1, end=2), graph.ints(size), axis=0)
    return graph.add("Expand", graph.constant(np.zeros((), shared.dtype)), shape)


def _steps(shared: Shared, xs: Name) -> Name:
    """Gives the numbers of the steps, int32 `[time, 1]`."""
    graph = shared.graph
    count = graph.add("Gather", graph.add("Shape", xs), graph.constant(np.int64(0)))
    steps = graph.add("Range", graph.constant(np.int64(0)), count, graph.constant(np.int64(1)))
    return graph.add("Unsqueeze", graph.add("Cast", steps, to=type_of(np.int32)), graph.ints(1))


def _valid_steps(shared: Shared, xs: Name) -> Name:
    """Gives which steps are valid, bool `[time, batch]`."""
    return shared.graph.add("Less", _steps(shared, xs), "lengths")


def last_of(shared: Shared, xs: Name) -> Name:
    """Gives xs `[time, batch, W]` at the last valid step, zeros where there is none: `[batch, W]`."""
    graph = shared.graph
    if not shared.lengths:
        return graph.add("Gather", xs, graph.constant(np.int64(-1)), axis=0)
    one = graph.add("Equal", _steps(shared, xs), graph.add("Sub", "lengths", graph.constant(np.int32(1))))
    picked = graph.add(
        "Where", graph.add("Unsqueeze", one, graph.ints(2)), xs, graph.constant(np.zeros((), shared.dtype))
    )
    return graph.add("ReduceSum", picked, graph.ints(0), keepdims=0)
