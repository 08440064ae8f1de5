"""From an ONNX model to layers, or a network, that compute what the model computes; or a refusal that says why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lstmjax.arguments import one_of
from lstmjax.cells import VANILLA, Cell, identity
from lstmjax.convert.architecture import Architecture, same_cell
from lstmjax.convert.layouts import ConvertError, to_jax
from lstmjax.convert.onnx.chain import Chain, chain_of
from lstmjax.convert.onnx.constants import Constants
from lstmjax.convert.onnx.read import OnnxLSTM, flat_model, placed_lstms
from lstmjax.convert.onnx.rules import READOUTS
from lstmjax.convert.onnx.wiring import Wiring
from lstmjax.errors import Message, Option
from lstmjax.networks import Dense, NetworkParams
from lstmjax.published import find_cell
from lstmjax.stack import Layers, directions
from lstmjax.types import Bidirectional

REMEDY = "read_onnx gives each node LSTM for itself"


@dataclass(frozen=True)
class Stack:
    """A model as a stack: its weights, how they are run, and what of the model a stack does not have."""

    params: Layers | NetworkParams
    architecture: Architecture
    residual: bool
    chain: Chain
    complaints: tuple[str, ...]


def read_stack(source: Any, *, dequantize: bool = False) -> Stack:
    """Return a model as a stack; `complaints` are empty if that is all that it computes.

    Raises:
        ConvertError: see `read_onnx`.
    """
    model = flat_model(source)
    placed = placed_lstms(model, None, dequantize)
    within = [one.lstm.name for one in placed if one.place is None]
    nodes = {one.place: one.lstm for one in placed if one.place is not None}
    constants = Constants(model)
    if within:
        inside = f"{', '.join(within)}: within another node, in a branch or a loop"
        layers = tuple(one.lstm.params for one in placed)
        return Stack(layers, Architecture(), False, Chain(), (inside,))
    wiring = Wiring(model, constants, {n: _about(lstm) for n, lstm in nodes.items() if n is not None})
    chain = chain_of(model, wiring)
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
        head: Any = (w, np.zeros(w.shape[1], w.dtype) if b is None else b)
        params = NetworkParams(layers, Dense(*to_jax(head)))
    return Stack(params, architecture, chain.residual, chain, tuple(complaints))


def from_onnx(
    source: Any, *, cell: Cell | str = VANILLA, merge: str = "concat", residual: bool = False, dequantize: bool = False
) -> Layers | NetworkParams:
    """Return the layers of a model, bit by bit, for `stacked`, or with its head for `network`.

    What feeds each node LSTM and what reads it is followed through the graph: operators that move numbers and
    change none, directions side by side or added up, a product with a stored matrix after the last layer (the
    head), and a softmax or sigmoid after that, which stays behind: it is the loss's to say. Anything else is
    refused by the name of its node; so is what layers alone cannot say (a single reverse direction, an initial
    state). `read_onnx` gives each node for itself. Whether the model's output has every step or the last one is
    `return_sequences` of `stacked` and of `network`; initial states and lengths that are inputs of the model are
    their `state` and `lengths`.

    Args:
        source: the path of a file, or an `onnx.ModelProto`.
        cell: the cell that the layers will run with, a row of `CELLS` or its name.
        merge: how the directions of a pair will be joined, as for `stacked`.
        residual: whether what enters a layer will be added to what it gives, as for `stacked`.
        dequantize: see `read_onnx`.

    Raises:
        ConvertError: see `read_onnx`; or the model computes something else, or is of another cell.
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
            Message(
                f"the model is of the cell {file_cell.name!r}, but cell is {row.name!r}. Pass ",
                Option("cell"),
                ", here and to stacked; or use read_onnx, whose nodes carry their cells",
            )
        )
    layers = stack.params.layers if isinstance(stack.params, NetworkParams) else stack.params
    if merge != stack.architecture.merge and any(len(directions(layer)) == 2 for layer in layers):
        raise ConvertError(
            Message(
                f"the model joins directions by {stack.architecture.merge!r}, but merge is {merge!r}. Pass ",
                Option("merge"),
                ", here and to stacked",
            )
        )
    if residual != stack.residual and len(layers) > 1:
        words = "has residual connections around its layers" if stack.residual else "has no residual connections"
        raise ConvertError(f"the model {words}, but residual is {residual}. Say residual=, here and to stacked")
    return stack.params


def _about(lstm: OnnxLSTM) -> tuple[int, int, str, bool]:
    part = directions(lstm.params)[0]
    return part.input_size, part.hidden_size, lstm.direction, lstm.batch_first


def _layer(nodes: list[OnnxLSTM]) -> Any:
    """Return a layer of one node, or of two that are its directions."""
    if len(nodes) == 1:
        return nodes[0].params
    ahead, back = nodes
    return Bidirectional(ahead.params, back.params)
