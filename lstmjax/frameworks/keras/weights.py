"""Keras: the weights of `LSTM`, `Bidirectional` and `StackedRNNCells`, as its layers and its files name them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np

from lstmjax.frameworks.base.contents import Contents, in_order
from lstmjax.frameworks.base.framework import Leaves, Order, Pairs
from lstmjax.frameworks.base.layouts import ConvertError, Fused, Layout, as_layers, numbers, read, to_jax, write
from lstmjax.frameworks.keras.activations import FUNCTIONS, OPERATIONS
from lstmjax.frameworks.keras.config import describe
from lstmjax.frameworks.keras.graph import get, layers_of, name_of
from lstmjax.networks import Dense
from lstmjax.stack import Layers, directions
from lstmjax.types import Bidirectional, LSTMParams

LAYOUT = Layout("keras")
FIELDS = ("kernel", "recurrent_kernel", "bias")
SIDES = ("forward", "backward")
Sides = dict[str, tuple[str, str]]


def weights_of(source: Any) -> Layers:
    """Return the LSTM layers of a Keras model or layer, without a look at how it runs them."""
    directions_by_weight = _directions_of_pairs(source)
    arrays: dict[str, Any] = {}
    sides: Sides = {}
    for w in source.weights:
        path = w.path
        if id(w) in directions_by_weight:
            pair, side = directions_by_weight[id(w)]
            path = f"{pair}/{side}_layer/{path}"  # the layers of a pair may have the same name
            sides[path.rpartition("/")[0]] = (pair, side)
        if path in arrays:
            raise ConvertError(f"several weights are called {path}; give their layers different names")
        arrays[path] = numbers(w.value)
    return to_jax(tuple(cells(arrays, sides).values()))


def _directions_of_pairs(source: Any) -> dict[int, tuple[str, str]]:
    """Return the `Bidirectional` and the direction that the weights of a Keras object belong to, by their ids."""
    if not hasattr(source, "_flatten_layers"):
        return {}
    from keras.layers import Bidirectional as Pair

    return {
        id(w): (layer.path or layer.name, side)
        for layer in source._flatten_layers()
        if isinstance(layer, Pair)
        for side in SIDES
        for w in getattr(layer, f"{side}_layer").weights
    }


def from_list(arrays: list[np.ndarray]) -> Layers:
    """Return the layer of arrays as `get_weights()` lists them: kernel, recurrent kernel, bias of each direction."""
    matrices = [n for n, a in enumerate(arrays) if a.ndim == 2]
    parts = []
    for at in matrices[::2]:
        if at + 1 not in matrices:
            raise ConvertError(f"array {at} is a matrix without recurrent weights after it")
        bias = arrays[at + 2] if at + 2 < len(arrays) and arrays[at + 2].ndim == 1 else None
        parts.append(read_part(arrays[at], arrays[at + 1], bias, f"weights {at} on: "))
    if len(parts) == 2:
        return to_jax((Bidirectional(*parts),))
    if len(parts) != 1:
        raise ConvertError(f"source has {len(arrays)} arrays, expected those of one LSTM, or of one Bidirectional LSTM")
    return to_jax(tuple(parts))


def described(source: Any) -> Contents:
    """Return how a Keras model or layer describes itself, as the contents of a file without arrays."""
    import keras

    tree = keras.saving.serialize_keras_object(source)
    _name_activations(tree, source)
    return describe(tree, keras.__version__, by_name=True)


def _name_activations(tree: Any, layer: Any) -> None:
    """Put into the description of a layer what its activations are: Keras describes a function by its name alone.

    A function of JAX that computes the same as one of Keras, such as `jnp.tanh`, gets Keras' name, and a function of
    the caller's that has a name of Keras gets its module before its name.
    """
    config = get(tree, "config")
    for name in ("activation", "recurrent_activation"):
        function: Any = getattr(layer, name, None)
        stated = config.get(name)
        if isinstance(function, Hashable) and function in list(FUNCTIONS):
            config[name] = FUNCTIONS[function]
        elif isinstance(stated, str) and not _is_of_keras(function, stated):
            config[name] = f"{getattr(function, '__module__', type(function).__module__)}.{stated}"
    inner = [(config.get(name), getattr(layer, name, None)) for name in ("cell", "layer", "backward_layer")]
    inner.append((config.get("layer"), getattr(layer, "forward_layer", None)))
    inner += zip(get(config, "cells", list), getattr(layer, "cells", ()), strict=False)
    layers = {item.name: item for item in getattr(layer, "layers", ())}
    inner += [(item, layers.get(name_of(item))) for item in layers_of(tree) or ()]
    for description, item in inner:
        if item is not None:
            _name_activations(description, item)


def _is_of_keras(function: Any, name: str) -> bool:
    """Return whether a function is the activation of Keras with this name, or an operation that computes the same."""
    import keras

    if name in OPERATIONS and function is getattr(keras.ops, name, None):
        return True
    return function is getattr(keras.activations, name, None)


def to_keras(layers: Any, *, sum_biases: bool = False) -> list[list[np.ndarray]]:
    """Return for each layer the list that `set_weights` of a Keras `LSTM` or `Bidirectional` LSTM takes.

    Args:
        layers: a tuple of layers, as `stacked` takes it, or one `LSTMParams`.
        sum_biases: add two biases up; without it they are refused, since Keras has one.

    Raises:
        ConvertError: Keras' LSTM has no place for something.
    """
    lists = []
    for n, layer in enumerate(as_layers(layers)):
        arrays: list[np.ndarray] = []
        for part in directions(layer):
            fused = write(LAYOUT, part, sum_biases=sum_biases, where=f"layer {n}: ")
            arrays += [a for a in fused if a is not None]
        lists.append(arrays)
    return lists


def cells(weights: Mapping[str, Any], sides: Sides | None = None) -> dict[str, LSTMParams | Bidirectional]:
    """Return the layers of weights by path: kernel, recurrent_kernel and bias in one folder belong together.

    Args:
        weights: arrays by the paths that they have in a model; `named` returns those of a file.
        sides: the layer and the direction of each folder of a `Bidirectional`, where an object or a description says
            it; None: the names say it, as Keras chooses them.

    Returns:
        `LSTMParams`, or pairs of them, of NumPy arrays, in the order of the weights.

    Raises:
        ConvertError: there is no LSTM, or its arrays do not fit.
    """
    folders: dict[str, dict[str, Any]] = {}
    for path, a in weights.items():
        folder, _, name = path.rpartition("/")
        if name in FIELDS:
            folders.setdefault(folder, {})[name] = a
    layers: dict[str, dict[str, list[str]]] = {}  # folders of cells by layer and direction
    for folder, arrays in folders.items():
        if "recurrent_kernel" not in arrays:
            continue
        if "kernel" not in arrays:
            raise ConvertError(f"{folder}/kernel is missing")
        layer, side = (_side_by_name(folder) if sides is None else sides.get(folder)) or (folder, "forward")
        layers.setdefault(layer, {}).setdefault(side, []).append(folder)
    if not layers:
        raise ConvertError("there is no LSTM in it: no weight is called recurrent_kernel")

    def cell(folder: str) -> LSTMParams:
        arrays = {name: np.asarray(a) for name, a in folders[folder].items()}
        return read_part(arrays["kernel"], arrays["recurrent_kernel"], arrays.get("bias"), f"{folder}: ")

    result: dict[str, Any] = {}
    for layer, sides in layers.items():
        forward, backward = sides.get("forward", []), sides.get("backward", [])
        if not backward and (sides is None or layer in forward):
            result |= {folder: cell(folder) for folder in forward}
        elif len(forward) == len(backward) == 1:
            result[layer] = Bidirectional(cell(forward[0]), cell(backward[0]))
        else:
            held = ", ".join(forward + backward)
            raise ConvertError(
                f"{layer or 'the model'} holds {held}; expected one LSTM, or a forward and a backward one"
            )
    return result


def _side_by_name(folder: str) -> tuple[str, str] | None:
    """Return the layer and the direction that a folder of weights has by its name, or None if it is of no pair."""
    pair = re.fullmatch(r"(|.*/)(forward|backward)_[^/]*(/.*)?", folder, re.DOTALL)
    return (pair[1].rstrip("/"), pair[2]) if pair else None


def sides_of(folders: Iterable[str], pairs: Mapping[str, str]) -> Sides:
    """Return the layer and the direction of each folder of weights that is of a pair.

    Args:
        folders: of the weights in a file, such as both/both/forward_lstm/lstm_cell.
        pairs: the names of the `Bidirectional` layers, and of the forward layer in each, as the file describes them.
            A backward layer of its own is called as the user likes.
    """
    sides: Sides = {}
    for folder in folders:
        for pair, name in pairs.items():
            above, within, below = f"/{folder}/".rpartition(f"/{pair}/")
            if within:
                forward = {name, f"forward_{name}"}  # Keras 3 describes the layer as it calls it, Keras 2 as it came
                side = "forward" if below.split("/")[0] in forward else "backward"
                sides[folder] = (f"{above}/{pair}".strip("/"), side)
    return sides


def read_part(kernel: Any, recurrent: Any, bias: np.ndarray | None, where: str) -> LSTMParams:
    """Read one direction of a layer: of `LSTM`, or of the `CuDNNLSTM` of Keras 2, which has two biases."""
    if bias is not None and kernel.ndim == 2 and bias.shape == (2 * kernel.shape[1],):
        return read(LAYOUT, _of_cudnn(kernel, recurrent, bias, where), where)
    return read(LAYOUT, Fused(kernel, recurrent, bias), where)


def _of_cudnn(kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray, where: str) -> Fused:
    """Return the arrays of a `CuDNNLSTM` as those of an `LSTM`, with a second bias.

    Its kernels have the shapes of an `LSTM`'s, but each gate's numbers stand in them as cuDNN wants them: of the
    input kernel those of a matrix `[H, I]`, row by row, written into `[I, H]`; of the recurrent one those of the
    transposed matrix. Source: `_convert_rnn_weights` in tf_keras/src/saving/legacy/hdf5_format.py.
    """
    inputs, wide = kernel.shape
    hidden = wide // 4
    if wide % 4 or recurrent.shape != (hidden, wide):
        raise ConvertError(
            f"{where}a CuDNNLSTM has kernels of shapes (I, 4H) and (H, 4H), but these are {kernel.shape} and "
            f"{recurrent.shape}"
        )
    w_x = [gate.reshape(hidden, inputs).T for gate in np.split(kernel, 4, axis=1)]
    w_h = [gate.T for gate in np.split(recurrent, 4, axis=1)]
    return Fused(np.concatenate(w_x, axis=1), np.concatenate(w_h, axis=1), *np.split(bias, 2))


def named(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of a file, called layers/lstm/cell/vars/0, under the paths that they have in a model."""
    renamed = {}
    for name, a in arrays.items():
        path = name.removeprefix("model_weights/").removesuffix(":0")
        folder, within, number = path.rpartition("/vars/")
        fields = FIELDS if re.search(r"(^|/)(cell|lstm_cell(_\d+)?)$", folder) else ("kernel", "bias")
        if within and number in map(str, range(len(fields))):
            path = f"{folder}/{fields[int(number)]}"
        renamed[path] = a
    return renamed


def read_names(leaves: Leaves, order: Order, pairs: Pairs) -> Layers:
    """Return the layers among the arrays of a file, from the bottom up."""
    folders = [name.rpartition("/")[0] for name in leaves]
    layers = cells(leaves, None if pairs is None else sides_of(folders, pairs))
    return tuple(layers[path] for path in in_order(layers, order))


def write_names(layers: Layers, head: Dense | None, sum_biases: bool) -> Contents:
    """Return the arrays of a `Sequential` with these layers and this head, as Keras' `save_weights` names them."""
    arrays: dict[str, Any] = {}
    order: list[str] = []
    counts: Counter[str] = Counter()
    for layer, weights in zip(layers, to_keras(layers, sum_biases=sum_biases), strict=True):
        pair = isinstance(layer, Bidirectional)
        kind = "bidirectional" if pair else "lstm"
        order.append(f"{kind}_{counts[kind]}" if counts[kind] else kind)
        counts[kind] += 1
        cells = ("forward_layer/cell", "backward_layer/cell") if pair else ("cell",)
        count = len(weights) // len(cells)
        for n, a in enumerate(weights):
            arrays[f"layers/{order[-1]}/{cells[n // count]}/vars/{n % count}"] = a
    if head is not None:
        order.append("dense")
        arrays |= {"layers/dense/vars/0": head.w, "layers/dense/vars/1": head.b}
    return Contents(arrays, tuple(order))
