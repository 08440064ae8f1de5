"""Read an ONNX model as layers, or a network, that compute the same; or refuse it and say why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lstmjax.arguments import one_of
from lstmjax.cells import VANILLA, Cell, identity
from lstmjax.errors import Option
from lstmjax.frameworks.base.architecture import Architecture, same_cell
from lstmjax.frameworks.base.layouts import ConvertError, has_pairs, to_jax, without_head
from lstmjax.frameworks.onnx.chain import Chain, chain_of
from lstmjax.frameworks.onnx.constants import Constants
from lstmjax.frameworks.onnx.read import OnnxLSTM, flat_model, placed_lstms
from lstmjax.frameworks.onnx.rules import READOUTS
from lstmjax.frameworks.onnx.wire import lengths_of, wire
from lstmjax.networks import Dense, NetworkParams
from lstmjax.published import find_cell
from lstmjax.stack import Layers
from lstmjax.types import Bidirectional

REMEDY = "read_onnx gives each node LSTM for itself"


@dataclass(frozen=True)
class Stack:
    """A model as a stack of layers: its weights, how they are run, and complaints about what a stack does not have."""

    params: Layers | NetworkParams
    architecture: Architecture
    residual: bool
    chain: Chain
    complaints: tuple[str, ...]


def read_stack(source: Any, *, dequantize: bool = False) -> Stack:
    """Read a model as a stack of layers; without `complaints` the stack computes the same as the model.

    Raises:
        ConvertError: see `read_onnx`.
    """
    model = flat_model(source)
    placed = placed_lstms(model, None, dequantize)
    within = [lstm.name for place, lstm in placed if place is None]
    if within:
        complaint = f"{', '.join(within)}: within another node, in a branch or a loop"
        layers = tuple(lstm.params for _, lstm in placed)
        return Stack(layers, Architecture(), False, Chain(), (complaint,))
    nodes = {place: lstm for place, lstm in placed if place is not None}
    constants = Constants(model)
    chains = [chain_of(model, wire(model, constants, nodes, lengths)) for lengths in lengths_of(model)]
    chain = next((other for other in chains if other.complaints), chains[0])
    if any(_facts(other) != _facts(chain) for other in chains) and not chain.complaints:
        chain.complaints.append("how its layers are joined depends on the lengths of axes that the model leaves open")
    complaints = list(chain.complaints)
    layers = tuple(_layer([nodes[n] for n in layer]) for layer in chain.layers)
    cells = {replace(cell, name="", paper=""): cell for lstm in nodes.values() for cell in lstm.cells}
    if len(cells) > 1:
        complaints.append(f"the nodes are of different cells: {', '.join(cell.name for cell in cells.values())}")
    architecture = Architecture(
        cell=next(iter(cells.values())),
        merge=chain.merge,
        return_sequences=chain.return_sequences,
        stated=not complaints,
        directions=chain.directions,
        readout=identity if chain.readout is None else READOUTS[chain.readout],
    )
    params: Layers | NetworkParams = layers
    if chain.head is not None:
        w, b = chain.head
        if b is None:
            b = np.zeros(w.shape[1], w.dtype)
        params = NetworkParams(layers, Dense(*to_jax((w, b))))
    return Stack(params, architecture, chain.residual, chain, tuple(complaints))


def _facts(chain: Chain) -> Chain:
    """Return a chain without its arrays, which can be compared with another one."""
    return replace(chain, head=None)


def from_onnx(
    source: Any, *, cell: Cell | str = VANILLA, merge: str = "concat", residual: bool = False, dequantize: bool = False
) -> Layers | NetworkParams:
    """Read the layers of a model, bit by bit, for `stacked`, or with its head for `network`.

    The inputs and readers of each node LSTM are followed through the graph: operators that move numbers and change
    none, directions side by side or added up, a product with a stored matrix after the last layer (the head), and a
    softmax or sigmoid after that, which is left to the loss. Anything else is refused by the name of its node; so is
    what layers alone cannot say (a single reverse direction, an initial state). `read_onnx` returns each node for
    itself. Whether the model's output has every step or the last one is `return_sequences` of `stacked` and of
    `network`; initial states and lengths that are inputs of the model are their `state` and `lengths`.

    Args:
        source: the path of a file, or an `onnx.ModelProto`.
        cell: the cell that the layers will run with, a row of `CELLS` or its name.
        merge: how the directions of a pair will be joined, as for `stacked`.
        residual: whether the inputs of each layer will be added to its outputs, as for `stacked`.
        dequantize: see `read_onnx`.

    Raises:
        ConvertError: see `read_onnx`; or the model computes something else, or has another cell.
    """
    row = find_cell(cell)
    one_of("merge", merge, ("concat", "sum"))
    stack = read_stack(source, dequantize=dequantize)
    if stack.complaints:
        raise ConvertError(f"{'; '.join(stack.complaints)}. {REMEDY}")
    beyond = "; ".join(stack.architecture.beyond_options())
    if beyond:
        raise ConvertError(f"{beyond}, which parameters do not say. load_model runs the file as it is; {REMEDY}")
    file_cell = stack.architecture.cell
    if not same_cell(file_cell, row):
        raise ConvertError(
            f"the model is of the cell {file_cell.name!r}, but cell is {row.name!r}. Pass ",
            Option("cell"),
            ", here and to stacked; or use read_onnx, whose nodes carry their cells",
        )
    if merge != stack.architecture.merge and has_pairs(stack.params):
        raise ConvertError(
            f"the model joins directions by {stack.architecture.merge!r}, but merge is {merge!r}. Pass ",
            Option("merge"),
            ", here and to stacked",
        )
    if residual != stack.residual and len(without_head(stack.params)) > 1:
        words = "has residual connections around its layers" if stack.residual else "has no residual connections"
        raise ConvertError(f"the model {words}, but residual is {residual}. Say residual=, here and to stacked")
    return stack.params


def _layer(nodes: list[OnnxLSTM]) -> Any:
    """Return the layer of a node, or of two nodes that are its directions."""
    if len(nodes) == 1:
        return nodes[0].params
    forward, backward = nodes
    return Bidirectional(forward.params, backward.params)
