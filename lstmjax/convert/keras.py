"""Keras: the weights of `LSTM`, `Bidirectional` and `StackedRNNCells`, as its layers and its files name them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lstmjax.convert.layouts import LAYOUTS, ConvertError, Fused, as_layers, numbers, read, to_jax, write
from lstmjax.stack import Layers, directions
from lstmjax.types import Bidirectional, LSTMParams

LAYOUT = LAYOUTS["keras"]
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
