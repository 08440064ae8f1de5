"""Write a network as an ONNX model: `to_onnx`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lstmjax.cell import cell_step
from lstmjax.cells import Cell
from lstmjax.frameworks.base.guard import draft
from lstmjax.frameworks.base.layouts import ConvertError, as_layers, without_head
from lstmjax.frameworks.onnx.graph import Graph, Shared, tensor
from lstmjax.frameworks.onnx.layers import check_layers, last_of, layer_nodes
from lstmjax.layer import resolve
from lstmjax.layered import merged_width
from lstmjax.networks import LanguageParams, NetworkParams, Tied
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
    unscaling: tuple[Any, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Any:
    """Return the ONNX model of layers or of a network, and write it to a file if there is a path.

    Batch and time are symbolic axes. A layer becomes a node LSTM if this operator can compute its cell
    (see `operator`); any other cell, step or wrapper becomes a Scan, whose body is made from the step
    itself, as it is at inference.

    Args:
        params: `NetworkParams`, a tuple of layers, or one `LSTMParams`; `LanguageParams`, whose input is "tokens"
            `[batch, time]`, int64, in place of xs, and whose outputs are those of all steps; float32 or float64.
        path: the file; an older one is replaced once the new one is complete.
        lengths: the model has an input "lengths" `[batch]`, int32: valid steps of each sequence.
        state: the model has initial states as inputs, "layers.0.h" `[batch, P]` and "layers.0.c" `[batch, H]`, for a
            pair "layers.0.forward.h" and so on; and last states as outputs, "layers.0.h.last" and so on.
        return_sequences: the outputs of all steps, or of the last valid one. None: of all steps for layers, of the
            last one for a network, like `stacked`, `network` and `language`.
        time_major: xs and ys are `[time, batch, ...]`.
        merge, residual, wrappers, cell, step: as for `stacked`.
        operator: "lstm", "scan", or "auto": LSTM if it can compute the cell and the parameters are float32.
            ONNX Runtime computes an LSTM in float32 only, and a Scan in float64 as well.
        scaling: (offset `[I]`, scale `[I]`): the model computes (xs − offset) / scale first.
        unscaling: (offset `[O]`, scale `[O]`): "logits" are those of the head times scale, plus offset; for a network
            only.
        readout: "softmax" or "sigmoid": add the output "probabilities" beside "logits"; for a network only.
        metadata: words to store in the file.

    Returns:
        `onnx.ModelProto` with the input "xs" `[batch, time, I]` and the output "ys", `[batch, time, P]`
        or `[batch, P]`; for a network "logits" with O instead of P.

    Raises:
        ValueError: the layers are those of another cell, or do not fit each other.
        ConvertError: the parameters are of half precision; ONNX has no operator for a primitive of a step of your own;
            `operator="lstm"`, and it cannot compute the cell; an option does not fit; the folder does not exist.

    Example:
        >>> from lstmjax import init_params
        >>> model = to_onnx(init_params(jax.random.key(0), 5, 8))
        >>> [node.op_type for node in model.graph.node if node.op_type in ("LSTM", "Scan")]
        ['LSTM']
    """
    import onnx

    words = params if isinstance(params, LanguageParams) else None
    network = params if isinstance(params, NetworkParams | LanguageParams) else None
    layers = as_layers(without_head(params) if words is None else words.layers)
    if words is not None and (scaling is not None or unscaling is not None):
        raise ConvertError("scaling and unscaling are for numbers, but a language model takes tokens; leave them out")
    _one_of("operator", operator, ("auto", "lstm", "scan"))
    _one_of("merge", merge, ("concat", "sum"))
    _one_of("readout", readout, (None, *READOUTS))
    if readout is not None and network is None:
        raise ConvertError(f"readout is {readout!r}, but layers give no logits; pass NetworkParams, which have a head")
    if unscaling is not None and network is None:
        raise ConvertError("unscaling is given, but layers have no outputs O; pass NetworkParams, which have a head")
    sequences = network is None or words is not None if return_sequences is None else return_sequences
    pairs = tuple(len(directions(layer)) == 2 for layer in layers)
    shared = Shared(
        Graph(), _dtype(params), resolve(step, cell), tuple(wrappers), operator, merge, lengths, state, pairs
    )
    graph, dtype = shared.graph, shared.dtype
    axes: list[int | str] = ["time", "batch"] if time_major else ["batch", "time"]
    check_layers(shared, layers)
    width = directions(layers[0])[0].input_size
    inputs = [tensor("xs", dtype, [*axes, width]) if words is None else tensor("tokens", np.int64, axes)]
    if lengths:
        inputs.append(tensor("lengths", np.int32, ["batch"]))
    states = []

    xs = "xs"
    if words is not None:
        xs = graph.add("Gather", graph.constant(np.asarray(words.embedding), "embedding"), "tokens", axis=0)
    xs = xs if time_major else graph.add("Transpose", xs, perm=[1, 0, 2])
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
            states.append(tensor(graph.add("Identity", final, outputs=f"{name}.last"), dtype, ["batch", size]))
    ys = last
    if sequences:
        ys = xs if time_major else graph.add("Transpose", xs, perm=[1, 0, 2])
    shape = axes if sequences else ["batch"]
    if network is None:
        widths = {graph.add("Identity", ys, outputs="ys"): merged_width(layers[-1], merge)}
    else:
        b, width = graph.constant(np.asarray(network.head.b), "head.b"), network.head.b.shape[-1]
        if isinstance(network.head, Tied):
            w = graph.add("Transpose", "embedding", perm=[1, 0])
        else:
            w = graph.constant(np.asarray(network.head.w), "head.w")
        outputs = graph.add("MatMul", ys, w)
        if unscaling is not None:
            if any(np.shape(a) != (width,) for a in unscaling):
                shapes = " and ".join(str(np.shape(a)) for a in unscaling)
                raise ConvertError(
                    f"unscaling has shapes {shapes}, expected offset and scale of each output, ({width},)"
                )
            target_offset, target_scale = (graph.constant(np.asarray(a, dtype)) for a in unscaling)
            outputs, b = graph.add("Mul", graph.add("Add", outputs, b), target_scale), target_offset
        widths = {graph.add("Add", outputs, b, outputs="logits"): width}
    if readout is not None:
        op, attributes = READOUTS[readout]
        widths[graph.add(op, "logits", outputs="probabilities", **attributes)] = widths["logits"]
    outputs = [tensor(name, dtype, [*shape, size]) for name, size in widths.items()]
    model = _model(graph, inputs, outputs + states, dict(metadata or {}))
    if path is not None:
        with draft(Path(path)) as place:
            onnx.save_model(model, str(place))
    return model


def _model(graph: Graph, inputs: list[Any], outputs: list[Any], metadata: dict[str, str]) -> Any:
    import onnx

    from lstmjax import __version__

    onnx_graph = onnx.helper.make_graph(graph.nodes, "lstmjax", inputs, outputs, graph.initializers)
    opset = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(onnx_graph, opset_imports=opset, ir_version=IR_VERSION)
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
    below, width = merged_width(layers[n - 1], merge), merged_width(layers[n], merge)
    if width != below:
        raise ConvertError(
            f"residual=True adds what enters layer {n} ({below} wide) to what it gives ({width} wide); they must be "
            "equally wide"
        )
    if isinstance(layers[n], Bidirectional) and n == len(layers) - 1 and not sequences:
        raise ConvertError(
            "residual=True with return_sequences=False is not defined for a Bidirectional last layer, whose "
            "directions end at different steps"
        )
