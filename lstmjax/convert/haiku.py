"""Haiku and Equinox: `haiku.LSTM` by its parameters, `equinox.nn.LSTMCell` by its fields."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lstmjax.convert.layouts import LAYOUTS, ConvertError, Fused, as_layers, natural, read, to_jax, write
from lstmjax.stack import Layers
from lstmjax.types import Bidirectional, LSTMParams

HAIKU, EQUINOX = LAYOUTS["haiku"], LAYOUTS["equinox"]


def from_haiku(params: Mapping[str, Any]) -> Layers:
    """Return the LSTM layers among Haiku's parameters, in the order of their names.

    Haiku adds 1 to the forget gate at run time; here it is stored in b. Everything else is copied
    bit by bit; the bias of f is rounded to b + 1.

    Args:
        params: what `haiku.transform(...).init` gives: {"lstm/linear": {"w", "b"}, …}.

    Raises:
        ConvertError: there is no LSTM among them, or its arrays do not fit.
    """
    return to_jax(tuple(cells(params).values()))


def cells(params: Mapping[str, Any]) -> dict[str, LSTMParams]:
    """Return the layers among Haiku's parameters by their names and in the order of these, as NumPy arrays.

    Raises:
        ConvertError: there is none, or its arrays do not fit.
    """
    names = [name for name in params if re.search(r"(^|/)lstm(_\d+)?/(~/)?linear$", name)]
    if not names:
        raise ConvertError(f"there is no lstm/linear among {', '.join(map(repr, params))}")
    layers = {}
    for name in sorted(names, key=natural):
        if missing := [leaf for leaf in ("w", "b") if leaf not in params[name]]:
            raise ConvertError(f"{name}: {' and '.join(missing)} is missing")
        w, b = np.asarray(params[name]["w"]), np.asarray(params[name]["b"])
        width = w.shape[-1] // 4 if w.ndim == 2 else 0
        if not 0 < width < w.shape[0]:
            raise ConvertError(f"{name}: w has shape {w.shape}, expected (I + H, 4H)")
        layers[name] = read(HAIKU, Fused(w[:-width], w[-width:], b), f"{name}: ")
    return layers


def to_haiku(layers: Any, *, names: Sequence[str] | None = None, sum_biases: bool = False) -> dict[str, dict[str, Any]]:
    """Return Haiku's parameters of these layers; the forget bias without the 1 that Haiku adds at run time.

    Args:
        layers: a tuple of layers in one direction, or one `LSTMParams`.
        names: of the modules; None: lstm/linear, lstm_1/linear and so on.
        sum_biases: add two biases up; without it they are refused, since Haiku has one.

    Raises:
        ConvertError: Haiku's LSTM has no place for something, such as a second direction.
    """
    layers = as_layers(layers)
    names = names or ["lstm/linear", *(f"lstm_{n}/linear" for n in range(1, len(layers)))]
    if len(names) != len(layers):
        raise ConvertError(f"names has {len(names)} entries, but there are {len(layers)} layers")
    result = {}
    for n, (name, layer) in enumerate(zip(names, layers, strict=True)):
        if isinstance(layer, Bidirectional):
            raise ConvertError(f"layer {n}: haiku.LSTM runs in one direction; convert the two one by one")
        fused = write(HAIKU, layer, sum_biases=sum_biases, where=f"layer {n}: ")
        result[name] = to_jax({"w": np.concatenate([fused.w_x, fused.w_h]), "b": fused.b})
    return result


def from_equinox(cell: Any) -> Layers:
    """Return the layer of an `equinox.nn.LSTMCell`, or the layers of a sequence of them, bit by bit."""
    cells = cell if isinstance(cell, list | tuple) else (cell,)
    layers = []
    for n, item in enumerate(cells):
        if not all(hasattr(item, name) for name in ("weight_ih", "weight_hh", "bias")):
            raise ConvertError(f"cell is a {type(item).__name__}, expected an equinox.nn.LSTMCell")
        bias = None if item.bias is None else np.asarray(item.bias)
        fused = Fused(np.asarray(item.weight_ih), np.asarray(item.weight_hh), bias)
        layers.append(read(EQUINOX, fused, f"cell {n}: "))
    return to_jax(tuple(layers))


def to_equinox(layers: Any, *, sum_biases: bool = False) -> tuple[Any, ...]:
    """Return an `equinox.nn.LSTMCell` for each layer.

    Args:
        layers: a tuple of layers in one direction, or one `LSTMParams`.
        sum_biases: add two biases up; without it they are refused, since Equinox has one.

    Raises:
        ConvertError: Equinox' cell has no place for something.
    """
    import equinox
    import jax

    cells = []
    for n, layer in enumerate(as_layers(layers)):
        if isinstance(layer, Bidirectional):
            raise ConvertError(f"layer {n}: equinox.nn.LSTMCell runs in one direction; convert the two one by one")
        fused = write(EQUINOX, layer, sum_biases=sum_biases, where=f"layer {n}: ")
        sizes = {"input_size": layer.input_size, "hidden_size": layer.hidden_size, "use_bias": fused.b is not None}
        blank = equinox.filter_eval_shape(equinox.nn.LSTMCell, **sizes, key=jax.random.key(0))
        values = to_jax([a for a in fused if a is not None])
        cells.append(equinox.tree_at(_arrays, blank, values))
    return tuple(cells)


def _arrays(cell: Any) -> list[Any]:
    """Return the arrays that a cell has."""
    return [a for a in (cell.weight_ih, cell.weight_hh, cell.bias) if a is not None]
