"""Flax: `LSTMCell` and `OptimizedLSTMCell` of linen and of NNX, in an `RNN` or a `Bidirectional`; msgpack files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.convert.layouts import LAYOUTS, ConvertError, Fused, Layout, as_layers, natural, read, to_jax, write
from lstmjax.convert.names import Contents, flat, nested
from lstmjax.stack import Layers, directions
from lstmjax.types import GATES, Bidirectional, LSTMParams

DIRECTIONS = ("forward_rnn", "backward_rnn")


def from_linen(variables: Any) -> Layers:
    """Gives the LSTM layers of linen variables, bit by bit.

    Args:
        variables: what `init` of a cell, an `RNN`, a `Bidirectional` or a module with several of them
            gives, or the "params" in it. Several are taken in the order of their names (RNN_2 before
            RNN_10). A cell that a compact method hands to an RNN stands beside it, as LSTMCell_0, and
            nothing tells which two of them are a pair: say so with `Bidirectional(*layers[:2])`.

    Returns:
        A tuple of `LSTMParams` or `Bidirectional` pairs. Flax's carry is (c, h), the state here (h, c).

    Raises:
        ConvertError: there is no LSTM cell, or its arrays do not fit.
    """
    return to_jax(tuple(cells(LAYOUTS["linen"], variables.get("params", variables)).values()))


def from_nnx(source: Any) -> Layers:
    """Gives the LSTM layers of an NNX module or state, bit by bit; see `from_linen`."""
    from flax import nnx

    state = nnx.state(source, nnx.Param) if isinstance(source, nnx.Module) else source
    tree = nnx.to_pure_dict(state) if isinstance(state, nnx.State) else state
    return to_jax(tuple(cells(LAYOUTS["nnx"], tree).values()))


def to_linen(layers: Any, *, sum_biases: bool = False) -> tuple[dict[str, Any], ...]:
    """Gives for each layer the variables of `linen.RNN(linen.LSTMCell(H))`, or of a `linen.Bidirectional` of two.

    `OptimizedLSTMCell` has the same. Flax's LSTM always has biases; without any they are zeros.

    Args:
        layers: a tuple of layers, as `stacked` takes it, or one `LSTMParams`.
        sum_biases: add two biases up; without it they are refused, since Flax keeps one.

    Raises:
        ConvertError: Flax's LSTM has no place for something.
    """
    made = (_to(LAYOUTS["linen"], n, layer, sum_biases, "if", False) for n, layer in enumerate(as_layers(layers)))
    return tuple({"params": to_jax(tree)} for tree in made)


def to_nnx(layers: Any, *, optimized: bool = False, sum_biases: bool = False) -> tuple[dict[str, Any], ...]:
    """Gives for each layer the pure dict of `nnx.RNN(nnx.LSTMCell(I, H))`, or of an `nnx.Bidirectional` of two.

    `nnx.update(module, tree)` puts it in place. See `to_linen`.

    Args:
        optimized: for `nnx.OptimizedLSTMCell`, whose parameters are fused.
    """
    layout = LAYOUTS["nnx"]
    made = (_to(layout, n, layer, sum_biases, "if_", optimized) for n, layer in enumerate(as_layers(layers)))
    return tuple(to_jax(tree) for tree in made)


def cells(layout: Layout, tree: Any) -> dict[str, LSTMParams | Bidirectional]:
    """Gives the layers in a tree by their paths, in the order of their names, as NumPy arrays.

    Raises:
        ConvertError: there is none, or its arrays do not fit.
    """
    layers: dict[str, Any] = {}

    def visit(tree: Any, path: str) -> None:
        if not isinstance(tree, Mapping):
            return
        names = set(map(str, tree))
        if {"hi", "hf", "ii", "io"} <= names or {"dense_h", "dense_i"} <= names:
            layers[path] = _cell(layout, tree, path)
        elif set(DIRECTIONS) <= names:
            before = set(layers)
            for name in DIRECTIONS:
                visit(tree[name], f"{path}{name}/")
            found = [layers.pop(name) for name in list(layers) if name not in before]
            if len(found) != 2:
                raise ConvertError(
                    f"{path}forward_rnn and backward_rnn hold {len(found)} LSTM cells, expected one each"
                )
            layers[path] = Bidirectional(*found)
        else:
            for name in sorted(tree, key=natural):
                visit(tree[name], f"{path}{name}/")

    visit(tree, "")
    if not layers:
        raise ConvertError(f"there is no LSTM cell in it; it holds {', '.join(map(str, tree))}")
    return layers


def _cell(layout: Layout, tree: Any, path: str) -> LSTMParams:
    if "dense_h" in tree:
        bias = _joined(tree, ["dense_h"], "bias", path) if "bias" in _folder(tree["dense_h"]) else None
        x, h = (_joined(tree, [name], "kernel", path) for name in ("dense_i", "dense_h"))
        return read(layout, Fused(x, h, bias), path)
    forget = "if_" if "if_" in tree else "if"
    inputs, hidden = ([forget if k + gate == "if" else k + gate for gate in GATES] for k in "ih")
    missing = [name for name in (*inputs, *hidden) if name not in tree]
    if missing:
        raise ConvertError(f"{path}: {', '.join(missing)} is missing; there are {', '.join(map(str, tree))}")
    bias = _joined(tree, hidden, "bias", path) if "bias" in _folder(tree["hi"]) else None
    return read(layout, Fused(_joined(tree, inputs, "kernel", path), _joined(tree, hidden, "kernel", path), bias), path)


def _joined(tree: Any, names: list[str], leaf: str, path: str) -> np.ndarray:
    """Gives the kernels or biases of these modules side by side."""
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
    def cell(params: LSTMParams) -> dict[str, Any]:
        fused = write(layout, params, sum_biases=sum_biases, where=f"layer {n}: ")
        assert fused.b is not None
        if optimized:
            return {"cell": {"dense_i": {"kernel": fused.w_x}, "dense_h": {"kernel": fused.w_h, "bias": fused.b}}}
        x, h, b = (np.split(a, len(GATES), axis=-1) for a in fused[:3])
        tree: dict[str, Any] = {forget if g == "f" else f"i{g}": {"kernel": a} for g, a in zip(GATES, x, strict=True)}
        tree |= {f"h{g}": {"kernel": a, "bias": c} for g, a, c in zip(GATES, h, b, strict=True)}
        return {"cell": tree}

    parts = [cell(part) for part in directions(layer)]
    return parts[0] if len(parts) == 1 else dict(zip(DIRECTIONS, parts, strict=True))


def read_msgpack(path: Path) -> Contents:
    """Gives the arrays of a file that `flax.serialization.to_bytes` makes, by names such as params/cell/ii/kernel."""
    from flax.serialization import msgpack_restore

    tree = msgpack_restore(path.read_bytes())
    if not isinstance(tree, Mapping):
        raise ConvertError(f"holds a {type(tree).__name__}, expected a tree of arrays")
    return Contents(flat(tree, "/"))


def write_msgpack(contents: Contents, path: Path) -> None:
    """Writes what `flax.serialization.msgpack_restore` gives back as a tree."""
    from flax.serialization import msgpack_serialize

    path.write_bytes(msgpack_serialize(nested(contents.arrays, "/")))
