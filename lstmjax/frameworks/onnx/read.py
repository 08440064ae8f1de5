"""Read any node LSTM of an ONNX model, with all attributes and inputs that the operator has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lstmjax.cells import VANILLA, Cell
from lstmjax.frameworks.base.layouts import ConvertError, to_jax
from lstmjax.frameworks.onnx.activations import activations
from lstmjax.frameworks.onnx.constants import Constants, graphs_within
from lstmjax.frameworks.onnx.weights import COUPLED, QUANTISED, check_arrays, dequantised, read_arrays
from lstmjax.layer import lstm
from lstmjax.published import clip_inputs, forget_from_input, known_row
from lstmjax.stack import directions
from lstmjax.types import Array, Bidirectional, LSTMParams

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
"""ONNX' names of the inputs of a node LSTM, in order."""


@dataclass(frozen=True)
class OnnxLSTM:
    """A node LSTM of a model, as a function that returns the outputs of the node.

    >>> import jax
    >>> from lstmjax import init_params
    >>> from lstmjax.convert import to_onnx
    >>> (node,) = read_onnx(to_onnx(init_params(jax.random.key(0), 5, 8)))
    >>> ys, h, c = node(jnp.ones((7, 2, 5)))
    >>> ys.shape, h.shape, node.cells[0].name
    ((7, 1, 2, 8), (1, 2, 8), 'vanilla')
    """

    name: str
    """The name of the node in the model."""
    params: LSTMParams | Bidirectional
    """Its weights: both biases as the node has them; w_c are its peepholes."""
    cells: tuple[Cell, ...]
    """The cell of each direction, with its activations, clip and coupled gates."""
    direction: str
    """"forward", "reverse" or "bidirectional"."""
    batch_first: bool
    """Layout 1 of ONNX: the batch is the first axis of all inputs and outputs."""
    state: tuple[Array, Array] | None
    """(initial_h, initial_c) in the file, `[D, B, H]`; None: zeros, or the model computes them."""
    lengths: Array | None
    """Valid steps `[B]` in the file; None: all, or the model computes them."""

    def __call__(
        self, xs: Any, lengths: Any = None, state: tuple[Any, Any] | None = None
    ) -> tuple[Array, Array, Array]:
        """Return (Y, Y_h, Y_c) in the shapes of ONNX.

        Args:
            xs: X, `[T, B, I]`, or `[B, T, I]` with layout 1.
            lengths: valid steps `[B]`; None: those in the file. For length 0 the last state is the initial one,
                while ONNX Runtime returns 0.
            state: (initial_h, initial_c), each `[D, B, H]`, or `[B, D, H]` with layout 1; None: that in the
                file, or else zeros.

        Returns:
            Y `[T, D, B, H]`, Y_h and Y_c `[D, B, H]`; `[B, T, D, H]` and `[B, D, H]` with layout 1.

        Raises:
            ConvertError: the state has other axes.
        """
        xs = jnp.asarray(xs)
        state = self.state if state is None else state
        lengths = self.lengths if lengths is None else lengths
        axis = 1 if self.batch_first else 0  # of directions, in a state
        parts = directions(self.params)
        for a in state or ():
            if np.ndim(a) != 3 or np.shape(a)[axis] != len(parts):
                axes = "[B, D, H]" if self.batch_first else "[D, B, H]"
                raise ConvertError(f"state has shape {np.shape(a)}, expected {axes} with D = {len(parts)}")
        ys, ends = [], []
        for k, part in enumerate(parts):
            begin = None if state is None else tuple(jnp.asarray(a).take(k, axis=axis) for a in state)
            reverse = self.direction == "reverse" or k == 1
            end, y = lstm(
                part, xs, begin, lengths=lengths, time_major=not self.batch_first, reverse=reverse, cell=self.cells[k]
            )
            ys.append(y)
            ends.append(end)
        h, c = (jnp.stack(both, axis=axis) for both in zip(*ends, strict=True))
        return jnp.stack(ys, axis=2 if self.batch_first else 1), h, c


def read_onnx(
    source: Any, inputs: Mapping[str, Any] | None = None, *, dequantize: bool = False
) -> tuple[OnnxLSTM, ...]:
    """Read all nodes LSTM of a model in its order, also those within branches, loops and local functions.

    A node within another is named by its path, such as "rate/then_branch/lstm".

    Args:
        source: the path of a file, or an `onnx.ModelProto`.
        inputs: arrays by name, for a model that takes weights as inputs.
        dequantize: also read nodes `DynamicQuantizeLSTM` of ONNX Runtime, with the numbers that their 8-bit weights
            stand for. Such a node also rounds X and h to 8 bits at each step, which is not done here: the outputs
            are nearer to those of the model before it was quantised, and not those of the file.

    Raises:
        ConvertError: the model is damaged or has no LSTM; its weights are quantised, or computed from its inputs;
            or an activation is not in our table. The message names it.
    """
    return tuple(placed.lstm for placed in placed_lstms(flat_model(source), inputs, dequantize))


class Placed(NamedTuple):
    """A node LSTM, and its place among the nodes of the model; None: it is in a graph within a node."""

    place: int | None
    lstm: OnnxLSTM


def placed_lstms(model: Any, inputs: Mapping[str, Any] | None = None, dequantize: bool = False) -> list[Placed]:
    """Read the nodes LSTM of a model without local functions; see `read_onnx`."""
    nodes: list[tuple[int | None, str, Any, Constants]] = []
    kinds: set[str] = set()
    _walk(model.graph, Constants(model, inputs), "", nodes, kinds)
    if not nodes:
        raise ConvertError(f"there is no node LSTM in the model; it holds {', '.join(sorted(kinds)) or 'nothing'}")
    result = []
    for n, (place, path, node, constants) in enumerate(nodes):
        name = path + (node.name or f"LSTM {n}")
        result.append(Placed(place, _node(node, name, constants, dequantize)))
    return result


def _walk(graph: Any, constants: Constants, path: str, nodes: list, kinds: set[str]) -> None:
    """Note the nodes LSTM of a graph and of the graphs within its nodes, and the kinds of all nodes."""
    for n, node in enumerate(graph.node):
        kinds.add(node.op_type)
        if is_lstm(node):
            nodes.append((None if path else n, path, node, constants))
        for attribute, inner in graphs_within(node):
            folder = f"{path}{node.name or f'{node.op_type} {n}'}/{attribute}/"
            _walk(inner, constants.within(inner), folder, nodes, kinds)


def is_lstm(node: Any) -> bool:
    """Return whether a node is an LSTM, quantised or not."""
    if node.domain == "com.microsoft":
        return node.op_type == QUANTISED
    return node.op_type == "LSTM" and node.domain in ("", "ai.onnx")


def load_model(source: Any) -> Any:
    """Return the model at a path, or a model as it is.

    Raises:
        ConvertError: the file does not exist, or is damaged.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if isinstance(source, onnx.ModelProto):
        return source
    if not isinstance(source, str | Path):
        raise ConvertError(f"source is a {type(source).__name__}, expected a path or an onnx.ModelProto")
    try:
        model = onnx.load(str(source))
    except FileNotFoundError as error:
        raise ConvertError(f"{error.filename or source}: no such file") from None
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ConvertError(f"{source}: is no whole ONNX model ({str(error).splitlines()[0]})") from None
    if not model.graph.node:
        raise ConvertError(f"{source}: is no ONNX model, or an empty one")
    return model


def flat_model(source: Any) -> Any:
    """Return a model with its local functions inlined.

    Raises:
        ConvertError: see `load_model`; or a function cannot be inlined.
    """
    model = load_model(source)
    if not model.functions:
        return model
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except (RuntimeError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise ConvertError(f"the local functions of the model cannot be put where they are called ({why})") from None


def _node(node: Any, name: str, constants: Constants, dequantize: bool) -> OnnxLSTM:
    from onnx import helper

    where = f"{name}: "
    if node.op_type == QUANTISED and not dequantize:
        raise ConvertError(
            f"{where}is a {QUANTISED}: its weights are 8-bit numbers, and it rounds X and h to 8 bits at each step. "
            "Pass dequantize=True to read_onnx or from_onnx for its weights as floating-point numbers, which do not "
            "give the outputs of the file bit by bit; or convert the model as it was before it was quantised"
        )
    attributes = {a.name: _decimal(helper.get_attribute_value(a)) for a in node.attribute}
    names = {key: name for key, name in zip(INPUTS, node.input, strict=False) if name}
    arrays: dict[str, Any] = {}
    for key in ("W", "R", "B", "P"):
        if key in names:
            arrays[key] = constants.get(names[key])
            node_between = None if arrays[key] is not None else constants.in_the_way(names[key])
            if node_between is not None:
                between = f"node {node_between.name!r} ({node_between.op_type})"
                raise ConvertError(
                    f"{where}{key} ({names[key]}) is computed from constants by {between}, an operator that is not "
                    "executed here; simplify the model (onnxsim or onnxruntime fold constants), or give the array by "
                    "inputs="
                )
            if arrays[key] is None:
                raise ConvertError(
                    f"{where}{key} ({names[key]}) comes from the model's inputs and is not stored in it; give it by "
                    "inputs="
                )
    if node.op_type == QUANTISED:
        arrays |= dequantised(node, arrays, constants, where)
    direction = attributes.get("direction", b"forward").decode().lower()
    count = 2 if direction == "bidirectional" else 1
    check_arrays(arrays, count, where)
    coupled, batch_first = bool(attributes.get("input_forget", 0)), bool(attributes.get("layout", 0))
    cells = _cells(attributes, count, coupled, "P" in arrays, where)
    parts = [
        read_arrays({k: a[d] for k, a in arrays.items()}, coupled, f"{where}direction {d}: ") for d in range(count)
    ]
    state: Any = [constants.get(names[key]) if key in names else None for key in ("initial_h", "initial_c")]
    if any(a is not None for a in state):
        known = next(a for a in state if a is not None)
        state = [np.zeros_like(known) if a is None else a for a in state]
    lengths = constants.get(names["sequence_lens"]) if "sequence_lens" in names else None
    params = Bidirectional(*parts) if count == 2 else parts[0]
    state, lengths = to_jax((None if state[0] is None else tuple(state), lengths))
    return OnnxLSTM(name, to_jax(params), cells, direction, batch_first, state, lengths)


def _decimal(value: Any) -> Any:
    """Return the shortest decimal number that a float32 of a file stands for: 0.2, not 0.20000000298."""
    if isinstance(value, list):
        return [_decimal(item) for item in value]
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _cells(attributes: dict[str, Any], count: int, coupled: bool, peepholes: bool, where: str) -> tuple[Cell, ...]:
    """Return the cell of each direction."""
    names = [name.decode() for name in attributes.get("activations", [b"Sigmoid", b"Tanh", b"Tanh"] * count)]
    if len(names) != 3 * count:
        raise ConvertError(f"{where}activations has {len(names)} names, expected {3 * count}")
    alphas, betas = attributes.get("activation_alpha", ()), attributes.get("activation_beta", ())
    functions = activations(names, alphas, betas, where)
    cells = []
    for sigma, g, squash in zip(functions[::3], functions[1::3], functions[2::3], strict=True):
        cell = replace(VANILLA, i=sigma, f=sigma, o=sigma, g=g, squash=squash, has=("w_c",) if peepholes else ())
        if coupled:
            cell = replace(cell, blocks=COUPLED, couple=forget_from_input, f=VANILLA.f)
        cell = known_row(replace(cell, name=f"{where}{', '.join(names)}", paper="ONNX"))
        cells.append(clip_inputs(cell, attributes["clip"]) if attributes.get("clip") else cell)
    return tuple(cells)
