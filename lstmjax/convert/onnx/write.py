"""From a network to an ONNX model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lstmjax.cell import cell_step
from lstmjax.cells import Cell
from lstmjax.convert.guard import draft
from lstmjax.convert.layouts import ConvertError, as_layers
from lstmjax.convert.onnx.graph import Graph, tensor
from lstmjax.convert.onnx.layers import check_layers, last_of, layer_nodes, width_of
from lstmjax.convert.onnx.shared import Shared
from lstmjax.layer import resolve
from lstmjax.networks import NetworkParams
from lstmjax.stack import Layers, directions
from lstmjax.types import Bidirectional, PyTree
from lstmjax.wrappers import Wrapper

OPSET = 18
IR_VERSION = 9
READOUTS = {"softmax": ("Softmax", {"axis": -1}), "sigmoid": ("Sigmoid", {})}


def to_onnx(
    params: Any,
    path: str | Path | None = None,
    *,
    lengths: bool = False,
    state: bool = False,
    return_sequences: bool | None = None,
    time_major: bool = False,
    merge: str = "concat",
    residual: bool = False,
    wrappers: tuple[Wrapper, ...] = (),
    cell: Cell | str | None = None,
    step: Callable[..., tuple[PyTree, PyTree]] = cell_step,
    operator: str = "auto",
    scaling: tuple[Any, Any] | None = None,
    readout: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Any:
    """Gives the ONNX model of layers or of a network, and writes it to a file if there is a path.

    Batch and time are symbolic axes. A layer becomes a node LSTM where this operator can say its cell
    (see `operator`); any other cell, step or wrapper becomes a Scan, whose body is made from the step
    itself, in its behaviour at evaluation.

    Args:
        params: `NetworkParams`, a tuple of layers, or one `LSTMParams`; float32 or float64.
        path: the file; what stood there is replaced once the new one is whole.
        lengths: the model has an input "lengths" `[batch]`, int32: valid steps of each sequence.
        state: the state is an input and an output: "layers.0.h" `[batch, P]` and "layers.0.c" `[batch, H]`,
            in a pair "layers.0.forward.h" and so on, and what they end as, "layers.0.h.last", ….
        return_sequences: the output of all steps, or of the last valid one. None: all of layers, the last
            one of a network, as `stacked` and `network` have it.
        time_major: xs and ys are `[time, batch, ...]`.
        merge, residual, wrappers, cell, step: as for `stacked`.
        operator: "lstm", "scan", or "auto": LSTM if it can say the cell and the parameters are float32.
            ONNX Runtime computes an LSTM in float32 only, and a Scan in float64 as well.
        scaling: (offset `[I]`, scale `[I]`): the model's input is (xs − offset) / scale first.
        readout: "softmax" or "sigmoid": give the output "probabilities" beside "logits"; of a network only.
        metadata: words to be kept in the file.

    Returns:
        `onnx.ModelProto` with the input "xs" `[batch, time, I]` and the output "ys", `[batch, time, P]`
        or `[batch, P]`; of a network "logits" with O for P.

    Raises:
        ValueError: the layers are not of this cell, or do not fit each other.
        ConvertError: half precision; a primitive of a step of your own that ONNX has no operator for;
            `operator="lstm"` and a cell that it cannot say; an option that does not fit; no folder for the file.

    Example:
        >>> from lstmjax import init_params
        >>> model = to_onnx(init_params(jax.random.key(0), 5, 8))
        >>> [node.op_type for node in model.graph.node if node.op_type in ("LSTM", "Scan")]
        ['LSTM']
    """
    import onnx

    network = params if isinstance(params, NetworkParams) else None
    layers = as_layers(network.layers if network else params)
    _one_of("operator", operator, ("auto", "lstm", "scan"))
    _one_of("merge", merge, ("concat", "sum"))
    _one_of("readout", readout, (None, *READOUTS))
    if readout is not None and network is None:
        raise ConvertError(f"readout is {readout!r}, but layers give no logits; pass NetworkParams, which have a head")
    sequences = network is None if return_sequences is None else return_sequences
    pairs = tuple(len(directions(layer)) == 2 for layer in layers)
    shared = Shared(
        Graph(), _dtype(params), resolve(step, cell), tuple(wrappers), operator, merge, lengths, state, pairs
    )
    graph, dtype, axes = shared.graph, shared.dtype, ["time", "batch"] if time_major else ["batch", "time"]
    check_layers(shared, layers)
    width = directions(layers[0])[0].input_size
    inputs = [tensor("xs", dtype, [*axes, width])]
    inputs += [tensor("lengths", np.int32, ["batch"])] if lengths else []
    outputs = []

    xs = "xs" if time_major else graph.add("Transpose", "xs", perm=[1, 0, 2])
    if scaling is not None:
        if any(np.shape(a) != (width,) for a in scaling):
            shapes = " and ".join(str(np.shape(a)) for a in scaling)
            raise ConvertError(f"scaling has shapes {shapes}, expected offset and scale of each feature, ({width},)")
        offset, scale = (graph.constant(np.asarray(a, dtype)) for a in scaling)
        xs = graph.add("Div", graph.add("Sub", xs, offset), scale)
    for n, layer in enumerate(layers):
        below, out = xs, layer_nodes(shared, n, layer, xs)
        xs, last = out.ys, out.last
        if residual and n:
            _check_residual(layers, n, merge, sequences)
            xs, last = graph.add("Add", xs, below), graph.add("Add", last, last_of(shared, below))
        for name, size, final in out.states if state else ():
            inputs.append(tensor(name, dtype, ["batch", size]))
            outputs.append(tensor(graph.add("Identity", final, outputs=f"{name}.last"), dtype, ["batch", size]))
    ys = last
    if sequences:
        ys = xs if time_major else graph.add("Transpose", xs, perm=[1, 0, 2])
    shape = axes if sequences else ["batch"]
    if network is None:
        found = {graph.add("Identity", ys, outputs="ys"): width_of(layers[-1], merge)}
    else:
        w, b = (graph.constant(np.asarray(a), f"head.{name}") for name, a in network.head._asdict().items())
        found = {graph.add("Add", graph.add("MatMul", ys, w), b, outputs="logits"): network.head.w.shape[1]}
    if readout is not None:
        op, attributes = READOUTS[readout]
        found |= {graph.add(op, "logits", outputs="probabilities", **attributes): found["logits"]}
    outputs = [tensor(name, dtype, [*shape, size]) for name, size in found.items()] + outputs
    model = _model(graph, inputs, outputs, dict(metadata or {}))
    if path is not None:
        with draft(Path(path)) as place:
            onnx.save_model(model, str(place))
    return model


def _model(graph: Graph, inputs: list[Any], outputs: list[Any], metadata: dict[str, str]) -> Any:
    import onnx

    from lstmjax import __version__

    whole = onnx.helper.make_graph(graph.nodes, "lstmjax", inputs, outputs, graph.initializers)
    opset = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(whole, opset_imports=opset, ir_version=IR_VERSION)
    model.producer_name, model.producer_version = "lstmjax", __version__
    onnx.helper.set_model_props(model, metadata)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConvertError(
            f"ONNX has no operator for these dtypes, or the model is not valid: {str(error).splitlines()[0]}"
        ) from error
    return model


def _one_of(name: str, value: Any, valid: tuple) -> None:
    if value not in valid:
        raise ConvertError(f"{name} is {value!r}, expected one of {', '.join(map(repr, valid))}")


def _dtype(params: Any) -> Any:
    dtypes = {np.dtype(leaf.dtype) for leaf in jax.tree.leaves(params)}
    if len(dtypes) > 1 or not dtypes <= {np.dtype(np.float32), np.dtype(np.float64)}:
        raise ConvertError(
            f"the parameters are {' and '.join(sorted(d.name for d in dtypes))}, but a model is exported in float32 or "
            "float64. Cast them before: jax.tree.map(lambda a: a.astype(jnp.float32), params)"
        )
    return dtypes.pop()


def _check_residual(layers: Layers, n: int, merge: str, sequences: bool) -> None:
    if width_of(layers[n], merge) != width_of(layers[n - 1], merge):
        raise ConvertError(
            f"residual=True adds what enters layer {n} ({width_of(layers[n - 1], merge)} wide) to what it gives "
            f"({width_of(layers[n], merge)} wide); they must be equally wide"
        )
    if isinstance(layers[n], Bidirectional) and n == len(layers) - 1 and not sequences:
        raise ConvertError(
            "residual=True with return_sequences=False is not defined for a Bidirectional last layer, whose "
            "directions end at different steps"
        )
