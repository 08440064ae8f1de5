"""ONNX: networks as models that run anywhere, and any node LSTM of a model."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import jax

from lstmjax.cells import VANILLA, Activation, identity
from lstmjax.errors import Either
from lstmjax.frameworks.base.contents import Contents
from lstmjax.frameworks.base.framework import Container, Framework, Peer
from lstmjax.frameworks.base.guard import optional
from lstmjax.frameworks.base.layouts import ConvertError, as_layers, without_head
from lstmjax.frameworks.base.timing import PEER, Stepped, Timed
from lstmjax.frameworks.onnx import run
from lstmjax.frameworks.onnx.weights import LAYOUT
from lstmjax.networks import NetworkParams
from lstmjax.stack import directions
from lstmjax.types import GATES, Bidirectional, LSTMParams

READOUTS: MappingProxyType[Activation, str | None] = MappingProxyType(
    {identity: None, jax.nn.softmax: "softmax", jax.lax.logistic: "sigmoid", jax.nn.sigmoid: "sigmoid"}
)
"""The names under which `to_onnx` takes activations after the head."""


def read_onnx(path: Path) -> Contents:
    """Read the network of an ONNX file."""
    optional("onnx")
    from lstmjax.frameworks.onnx.model import read_stack

    stack = read_stack(path)
    more = ("residual connections around its layers",) if stack.residual else ()
    more += (stack.chain.only_states,) if stack.chain.only_states else ()
    return Contents({}, settings=stack.complaints + more, params=stack.params, architecture=stack.architecture)


def write_onnx(contents: Contents, path: Path) -> None:
    """Write a network to an ONNX file, with its cell, merge and readout, for every step or the last one."""
    optional("onnx")
    from lstmjax.frameworks.onnx.write import to_onnx

    params, architecture = contents.params, contents.architecture
    assert params is not None
    if architecture.cell == VANILLA and not all(map(_is_vanilla, as_layers(without_head(params)))):
        raise ConvertError(
            "the layers are not of the vanilla cell; say which by ", Either("to_onnx(params, path, cell=…)", "--cell")
        )
    to_onnx(
        params,
        path,
        return_sequences=architecture.return_sequences,
        merge=architecture.merge,
        cell=architecture.cell,
        readout=READOUTS[architecture.readout] if isinstance(params, NetworkParams) else None,
    )


def _is_vanilla(layer: LSTMParams | Bidirectional) -> bool:
    """Return whether a layer has no arrays but those of the vanilla cell and of a projection."""
    return all(
        part.w_x.shape[1] == len(GATES) and all(a is None for a in (part.w_c, part.w_r, part.norm, part.gain))
        for part in directions(layer)
    )


GRAPH = "the exported graphs are float32 and float64"
ROW = Framework(
    "onnx",
    LAYOUT,
    files=(Container((".onnx",), "ONNX file", read_onnx, write_onnx, ("onnx",)),),
    runs=("cell", "merge"),
    title="a graph of to_onnx",
    peer=Peer(
        "onnxruntime",
        "onnxruntime",
        "onnxruntime",
        run.run,
        (("bfloat16", GRAPH), ("float16", GRAPH)),
        biases=2,
        load=run.load,
        also=("onnx",),
    ),
    timed=(
        Timed(
            "ONNX Runtime",
            run.build_job,
            ("onnxruntime", "onnx"),
            PEER,
            trains=False,
            dtypes=("float32",),
            platforms=("cpu",),
        ),
    ),
    stepped=(Stepped("ONNX Runtime", run.build_steps, ("onnxruntime", "onnx"), PEER, ("float32",), ("cpu",)),),
)
