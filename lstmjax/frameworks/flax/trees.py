"""Flax: the weights of `LSTMCell` and `OptimizedLSTMCell` of linen and NNX as trees of arrays, and msgpack files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.arguments import one_of
from lstmjax.errors import Option
from lstmjax.frameworks.base.contents import Contents, Leaf, as_leaves, flat, in_order, nested, unread
from lstmjax.frameworks.base.framework import Leaves, Order, Pairs
from lstmjax.frameworks.base.layouts import ConvertError, Fused, Layout, as_layers, natural, read, to_jax, write
from lstmjax.networks import Dense
from lstmjax.stack import Layers, directions
from lstmjax.types import GATES, Bidirectional, LSTMParams

LINEN, NNX = (Layout(name, always=True, state="ch") for name in ("linen", "nnx"))
DIRECTIONS = ("forward_rnn", "backward_rnn")
RANDOM = r"(^|[/.])rngs[/.]"
"""A pattern of the names of states of random numbers."""


def to_linen(layers: Any, *, sum_biases: bool = False) -> tuple[dict[str, Any], ...]:
    """Return for each layer the variables of `linen.RNN(linen.LSTMCell(H))`, or of a `linen.Bidirectional` of two.

    `OptimizedLSTMCell` has the same variables. Flax's LSTM always has biases; they are zeros for layers without biases.

    Args:
        layers: a tuple of layers, as `stacked` takes it, or one `LSTMParams`.
        sum_biases: add two biases up; without it they are refused, since Flax has one.

    Raises:
        ConvertError: Flax's LSTM has no place for something.
    """
    trees = (_to(LINEN, n, layer, sum_biases, "if", False) for n, layer in enumerate(as_layers(layers)))
    return tuple({"params": to_jax(tree)} for tree in trees)


def to_nnx(layers: Any, *, optimized: bool = False, sum_biases: bool = False) -> tuple[dict[str, Any], ...]:
    """Return for each layer the pure dict of `nnx.RNN(nnx.LSTMCell(I, H))`, or of an `nnx.Bidirectional` of two.

    `nnx.update(module, tree)` sets the parameters of a module. See `to_linen`.

    Args:
        layers, sum_biases: as for `to_linen`.
        optimized: whether the cells are `nnx.OptimizedLSTMCell`, whose parameters are fused.
    """
    trees = (_to(NNX, n, layer, sum_biases, "if_", optimized) for n, layer in enumerate(as_layers(layers)))
    return tuple(to_jax(tree) for tree in trees)


def cells(layout: Layout, tree: Any) -> dict[str, LSTMParams | Bidirectional]:
    """Return the layers in a tree by their paths, in the order of their names, as NumPy arrays.

    Raises:
        ConvertError: there is none, or its arrays do not fit.
    """
    layers: dict[str, Any] = {}

    def visit(tree: Any, path: str) -> None:
        if not isinstance(tree, Mapping):
            return
        names = set(map(str, tree))
        if {"hi", "hf", "ii", "io"} <= names or {"dense_h", "dense_i"} <= names:
            layers[path] = read_cell(layout, tree, path)
        elif set(DIRECTIONS) <= names:
            before = set(layers)
            for name in DIRECTIONS:
                visit(tree[name], f"{path}{name}/")
            parts = [layers.pop(name) for name in list(layers) if name not in before]
            if len(parts) != 2:
                raise ConvertError(
                    f"{path}forward_rnn and backward_rnn hold {len(parts)} LSTM cells, expected one each"
                )
            layers[path] = Bidirectional(*parts)
        else:
            for name in sorted(tree, key=natural):
                visit(tree[name], f"{path}{name}/")

    visit(tree, "")
    if not layers:
        raise ConvertError(f"there is no LSTM cell in it; it holds {', '.join(map(str, tree))}")
    return layers


def weights_alone(layout: Layout, tree: Any, extra: str) -> Layers:
    """Return the layers in variables or in a state; one Dense layer beside them, the head, is left out.

    Raises:
        ConvertError: there is no LSTM, or its arrays do not fit; or there is more, and extra is "refuse".
    """
    one_of("extra", extra, ("refuse", "drop"))
    leaves = as_leaves(tree)
    params = leaves.get("params")
    layers = cells(layout, params if isinstance(params, dict) else leaves)
    others = [leaf for leaf in unread(leaves) if not re.search(RANDOM, leaf.name)]
    within = tuple(f"params/{path}" if isinstance(params, dict) else path for path in layers)
    if extra == "refuse" and others and not _is_head(others, within):
        raise ConvertError(
            f"holds more than LSTM cells and a head: {', '.join([leaf.name for leaf in others][:8])}. Pass ",
            Option("extra", "drop"),
            " to leave it behind",
        )
    return to_jax(tuple(layers.values()))


def _is_head(leaves: list[Leaf], cells: tuple[str, ...]) -> bool:
    """Return whether these are the kernel and the bias of one Dense layer, and not in the folder of a cell."""
    folders, names = zip(*(leaf.name.rpartition("/")[::2] for leaf in leaves), strict=True)
    kernels = [leaf for leaf, name in zip(leaves, names, strict=True) if name == "kernel"]
    one = len(set(folders)) == len(kernels) == 1 and set(names) <= {"kernel", "bias"}
    return one and len(kernels[0].shape or ()) == 2 and not f"{folders[0]}/".startswith(cells)


def read_cell(layout: Layout, tree: Any, path: str) -> LSTMParams:
    """Read a cell: of `OptimizedLSTMCell`, with fused kernels, or of `LSTMCell`, with a module for each gate."""
    if "dense_h" in tree:
        inputs, hidden = ["dense_i"], ["dense_h"]
    else:
        inputs, hidden = [f"i{gate}" for gate in GATES], [f"h{gate}" for gate in GATES]
        if "if_" in tree:  # as NNX calls it, since "if" is a keyword of Python
            inputs[inputs.index("if")] = "if_"
    missing = [name for name in (*inputs, *hidden) if name not in tree]
    if missing:
        raise ConvertError(f"{path}: {', '.join(missing)} is missing; there are {', '.join(map(str, tree))}")
    bias = _joined(tree, hidden, "bias", path) if "bias" in _folder(tree[hidden[0]]) else None
    w_x, w_h = _joined(tree, inputs, "kernel", path), _joined(tree, hidden, "kernel", path)
    return read(layout, Fused(w_x, w_h, bias), path)


def _joined(tree: Any, names: list[str], leaf: str, path: str) -> np.ndarray:
    """Return the kernels or biases of these modules side by side."""
    missing = [f"{name}/{leaf}" for name in names if leaf not in _folder(tree[name])]
    if missing:
        raise ConvertError(f"{path}{', '.join(missing)} is missing")
    arrays = [np.asarray(tree[name][leaf]) for name in names]
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1 or () in shapes:
        raise ConvertError(f"{path}{leaf} of {', '.join(names)} has shapes {sorted(shapes)}, expected one for all")
    return np.concatenate(arrays, axis=-1)


def _folder(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _to(layout: Layout, n: int, layer: Any, sum_biases: bool, forget: str, optimized: bool) -> dict[str, Any]:
    """Return the tree of a layer; `forget` is the name of the module with the input weights of the forget gate."""

    def cell(params: LSTMParams) -> dict[str, Any]:
        fused = write(layout, params, sum_biases=sum_biases, where=f"layer {n}: ")
        assert fused.b is not None
        if optimized:
            return {"cell": {"dense_i": {"kernel": fused.w_x}, "dense_h": {"kernel": fused.w_h, "bias": fused.b}}}
        x, h, b = (np.split(a, len(GATES), axis=-1) for a in fused[:3])
        tree: dict[str, Any] = {}
        for k, gate in enumerate(GATES):
            tree[forget if gate == "f" else f"i{gate}"] = {"kernel": x[k]}
            tree[f"h{gate}"] = {"kernel": h[k], "bias": b[k]}
        return {"cell": tree}

    parts = [cell(part) for part in directions(layer)]
    return parts[0] if len(parts) == 1 else dict(zip(DIRECTIONS, parts, strict=True))


def read_names(layout: Layout, leaves: Leaves, order: Order, pairs: Pairs) -> Layers:
    """Return the layers among the arrays of a file, from the bottom up."""
    tree = nested(leaves, "/.")
    params = tree.get("params")
    layers = cells(layout, params if isinstance(params, dict) else tree)
    paths = {path.rstrip("/"): layer for path, layer in layers.items()}
    return tuple(paths[path] for path in in_order(paths, order))


def write_linen(layers: Layers, head: Dense | None, sum_biases: bool) -> Contents:
    """Return the arrays of a `linen.Sequential` of these layers and this head."""
    trees = [variables["params"] for variables in to_linen(layers, sum_biases=sum_biases)]
    return Contents(flat({"params": {f"layers_{n}": tree for n, tree in enumerate(_with_head(trees, head))}}, "/"))


def write_nnx(layers: Layers, head: Dense | None, sum_biases: bool) -> Contents:
    """Return the arrays of an `nnx.Sequential` of these layers and this head."""
    return Contents(flat({"layers": dict(enumerate(_with_head(to_nnx(layers, sum_biases=sum_biases), head)))}, "/"))


def _with_head(trees: Iterable[Any], head: Dense | None) -> list[Any]:
    return [*trees] if head is None else [*trees, {"kernel": head.w, "bias": head.b}]


def read_msgpack(path: Path) -> Contents:
    """Read a file that `flax.serialization.to_bytes` wrote; its arrays have names such as params/cell/ii/kernel."""
    from flax.serialization import msgpack_restore

    tree = msgpack_restore(path.read_bytes())
    if not isinstance(tree, Mapping):
        raise ConvertError(f"holds a {type(tree).__name__}, expected a tree of arrays")
    return Contents(flat(tree, "/"))


def write_msgpack(contents: Contents, path: Path) -> None:
    """Write a file that `flax.serialization.msgpack_restore` reads as a tree."""
    from flax.serialization import msgpack_serialize

    path.write_bytes(msgpack_serialize(nested(contents.arrays, "/")))
