"""Flax: `LSTMCell` and `OptimizedLSTMCell` of linen and of NNX, alone, in an `RNN` or a `Bidirectional`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lstmjax.convert.layouts import LAYOUTS, ConvertError, Fused, as_layers, natural, read, to_jax, write
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
    return _from(LAYOUTS["linen"], variables.get("params", variables))


def from_nnx(source: Any) -> Layers:
    """Gives the LSTM layers of an NNX module or state, bit by bit; see `from_linen`."""
    from flax import nnx

    state = nnx.state(source, nnx.Param) if isinstance(source, nnx.Module) else source
    return _from(LAYOUTS["nnx"], nnx.to_pure_dict(state) if isinstance(state, nnx.State) else state)


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


def _from(layout: Any, tree: Any) -> Layers:
    layers: list[Any] = []

    def visit(tree: Any, path: str) -> None:
        if not isinstance(tree, Mapping):
            return
        names = set(map(str, tree))
        if {"hi", "hf", "ii", "io"} <= names or {"dense_h", "dense_i"} <= names:
            layers.append(_cell(layout, tree, path))
        elif set(DIRECTIONS) <= names:
            found: list[Any] = []
            for name in DIRECTIONS:
                before = len(layers)
                visit(tree[name], f"{path}{name}/")
                found += layers[before:]
                del layers[before:]
            if len(found) != 2:
                raise ConvertError(
                    f"{path}forward_rnn and backward_rnn hold {len(found)} LSTM cells, expected one each"
                )
            layers.append(Bidirectional(*found))
        else:
            for name in sorted(tree, key=natural):
                visit(tree[name], f"{path}{name}/")

    visit(tree, "")
    if not layers:
        raise ConvertError(f"there is no LSTM cell in it; it holds {', '.join(map(str, tree))}")
    return to_jax(tuple(layers))


def _cell(layout: Any, tree: Any, path: str) -> LSTMParams:
    if "dense_h" in tree:
        x, h = tree["dense_i"]["kernel"], tree["dense_h"]["kernel"]
        bias = tree["dense_h"].get("bias")
        return read(layout, Fused(np.asarray(x), np.asarray(h), None if bias is None else np.asarray(bias)), path)
    forget = "if_" if "if_" in tree else "if"
    inputs = [forget if gate == "f" else f"i{gate}" for gate in GATES]
    missing = [name for name in (*inputs, *(f"h{gate}" for gate in GATES)) if name not in tree]
    if missing:
        raise ConvertError(f"{path}: {', '.join(missing)} is missing; there are {', '.join(map(str, tree))}")
    x = np.concatenate([np.asarray(tree[name]["kernel"]) for name in inputs], axis=-1)
    h = np.concatenate([np.asarray(tree[f"h{gate}"]["kernel"]) for gate in GATES], axis=-1)
    b = np.concatenate([np.asarray(tree[f"h{gate}"]["bias"]) for gate in GATES]) if "bias" in tree["hi"] else None
    return read(layout, Fused(x, h, b), path)


def _to(layout: Any, n: int, layer: Any, sum_biases: bool, forget: str, optimized: bool) -> dict[str, Any]:
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
