"""Keras 3: `LSTM`, `Bidirectional` and `StackedRNNCells`, from layers, models or `.weights.h5` files."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.arguments import one_of
from lstmjax.cells import Cell
from lstmjax.convert.activations import FUNCTIONS
from lstmjax.convert.keras_config import describe
from lstmjax.convert.layouts import LAYOUTS, ConvertError, Fused, as_layers, numbers, read, to_jax, write
from lstmjax.errors import Message, Option
from lstmjax.networks import NetworkParams
from lstmjax.published import find_cell
from lstmjax.stack import Layers, directions
from lstmjax.types import Bidirectional, LSTMParams

LAYOUT = LAYOUTS["keras"]
FIELDS = ("kernel", "recurrent_kernel", "bias")


def from_keras(
    source: Any,
    *,
    names: Sequence[str] | None = None,
    extra: str = "refuse",
    cell: Cell | str = "vanilla",
    merge: str = "concat",
) -> Layers:
    """Read the LSTM layers of a Keras model, in its order, bit by bit; a Dense head behind them is left out.

    Keras stores its forget bias of 1, so nothing is added here. The layers are given only if `stacked`, called with
    this cell and this merge, runs them as the model does; `load_model` of a saved file gives all of it.

    Args:
        source: a model or a layer; the list that `get_weights()` of an LSTM or a Bidirectional LSTM gives;
            or the path of a file, `.weights.h5`, `.h5` or `.keras`.
        names: of a file: the names of its recurrent layers, in the order of the model. Needed where
            layers of several kinds are mixed, since a `.weights.h5` file does not keep their order.
        extra: "refuse" what else the model does (other layers, steps run backwards, masks), or "drop" it.
        cell: the cell that the layers will run with: another one for other activations than tanh and sigmoid.
        merge: how the directions of a pair will be joined, "concat" or "sum".

    Raises:
        ConvertError: there is no LSTM, weights are missing or do not fit, the order is unknown, or the model does
            what these layers do not.
    """
    if isinstance(source, str | Path):
        from lstmjax.convert.weights import load_weights

        params = load_weights(source, form="keras", names=names, extra=extra, cell=cell, merge=merge)
        return params.layers if isinstance(params, NetworkParams) else params
    one_of("extra", extra, ("refuse", "drop"))
    if hasattr(source, "weights"):
        layers = weights_of(source)
        _check_stated(source, layers, find_cell(cell), merge, extra)
        return layers
    arrays = [np.asarray(a) for a in source]
    parts, matrices = [], [n for n, a in enumerate(arrays) if a.ndim == 2]
    for at in matrices[::2]:
        if at + 1 not in matrices:
            raise ConvertError(f"array {at} is a matrix without recurrent weights after it")
        bias = arrays[at + 2] if at + 2 < len(arrays) and arrays[at + 2].ndim == 1 else None
        parts.append(_part(arrays[at], arrays[at + 1], bias, f"weights {at} on: "))
    if len(parts) == 2:
        return to_jax((Bidirectional(*parts),))
    if len(parts) != 1:
        raise ConvertError(f"source has {len(arrays)} arrays, expected those of one LSTM, or of one Bidirectional LSTM")
    return to_jax(tuple(parts))


def weights_of(source: Any) -> Layers:
    """Return the LSTM layers of a Keras model or layer, whatever else it says."""
    return to_jax(tuple(cells({w.path: numbers(w.value) for w in source.weights}).values()))


@contextmanager
def _activations_by_name(source: Any) -> Iterator[None]:
    """Let cells that hold functions of JAX, such as `jnp.tanh`, hold those of Keras that compute the same meanwhile.

    Keras writes a function of JAX by its name alone, which a function of another kind may have, too.
    """
    import keras

    replaced = []
    for layer in source._flatten_layers():
        for name in ("activation", "recurrent_activation"):
            function = vars(layer).get(name)
            if isinstance(function, Hashable) and function in FUNCTIONS:
                replaced.append((layer, name, function))
    try:
        for layer, name, function in replaced:
            setattr(layer, name, keras.activations.get(FUNCTIONS[function]))
        yield
    finally:
        for layer, name, function in replaced:
            setattr(layer, name, function)


def _check_stated(source: Any, layers: Layers, cell: Cell, merge: str, extra: str) -> None:
    """Refuse a model or a layer of which these layers, run with this cell and merge, are not all."""
    import keras

    if not isinstance(source, keras.layers.Layer):
        return
    with _activations_by_name(source):
        tree = keras.saving.serialize_keras_object(source)
    said = describe(tree, keras.__version__, by_name=True)
    row, where = said.architecture, f"{source.name}: "
    more = [*said.settings, *row.beyond_layers()]
    if more and extra == "refuse":
        raise ConvertError(
            Message(
                f"{where}does more than its LSTM layers: {', '.join(more)}. Pass ",
                Option("extra", "drop"),
                " to leave it behind, or save it to a .keras file, which load_model runs as it is",
            )
        )
    fault = row.mismatch(cell, merge, any(isinstance(layer, Bidirectional) for layer in layers))
    if fault is not None:
        raise ConvertError(Message(where, fault))


def to_keras(layers: Any, *, sum_biases: bool = False) -> list[list[np.ndarray]]:
    """Gives for each layer the list that `set_weights` of a Keras `LSTM` or `Bidirectional` LSTM takes.

    Args:
        layers: a tuple of layers, as `stacked` takes it, or one `LSTMParams`.
        sum_biases: add two biases up; without it they are refused, since Keras keeps one.

    Raises:
        ConvertError: Keras' LSTM has no place for something.
    """
    return [
        [
            a
            for part in directions(layer)
            for a in write(LAYOUT, part, sum_biases=sum_biases, where=f"layer {n}: ")
            if a is not None
        ]
        for n, layer in enumerate(as_layers(layers))
    ]


def cells(weights: Mapping[str, Any]) -> dict[str, LSTMParams | Bidirectional]:
    """Gives the layers of weights by path: those that end in kernel, recurrent_kernel and bias belong together.

    Args:
        weights: arrays by the paths that they have in a model; those of files `named` gives.

    Returns:
        `LSTMParams`, or pairs of them, of NumPy arrays, in the order in which they came.

    Raises:
        ConvertError: there is no LSTM, or its arrays do not fit.
    """
    folders: dict[str, dict[str, Any]] = {}
    for path, a in weights.items():
        folder, _, name = path.rpartition("/")
        if name in FIELDS:
            folders.setdefault(folder, {})[name] = a
    layers: dict[str, dict[str, list[str]]] = {}  # folders of cells by layer and direction
    for folder, found in folders.items():
        if "recurrent_kernel" not in found:
            continue
        if "kernel" not in found:
            raise ConvertError(f"{folder}/kernel is missing")
        pair = re.fullmatch(r"(|.*/)(forward|backward)_[^/]*(/.*)?", folder, re.DOTALL)
        layer, side = (pair[1].rstrip("/"), pair[2]) if pair else (folder, "forward")
        layers.setdefault(layer, {}).setdefault(side, []).append(folder)
    if not layers:
        raise ConvertError("there is no LSTM in it: no weight is called recurrent_kernel")

    def cell(folder: str) -> LSTMParams:
        arrays = (folders[folder].get(name) for name in FIELDS)
        kernel, recurrent, bias = (None if a is None else np.asarray(a) for a in arrays)
        return _part(kernel, recurrent, bias, f"{folder}: ")

    result: dict[str, Any] = {}
    for layer, sides in layers.items():
        forward, backward = sides.get("forward", []), sides.get("backward", [])
        if not backward:
            result |= {folder: cell(folder) for folder in forward}
        elif len(forward) == len(backward) == 1:
            result[layer] = Bidirectional(cell(forward[0]), cell(backward[0]))
        else:
            held = ", ".join(forward + backward)
            raise ConvertError(f"{layer} holds {held}; expected one LSTM, or a forward and a backward one")
    return result


def _part(kernel: Any, recurrent: Any, bias: np.ndarray | None, where: str) -> LSTMParams:
    """Read one direction of a layer: of `LSTM`, or of the `CuDNNLSTM` of Keras 2, which keeps two biases."""
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
    """Gives the arrays of a file, called layers/lstm/cell/vars/0, under the paths that they have in a model."""
    found = {}
    for name, a in arrays.items():
        path = name.removeprefix("model_weights/").removesuffix(":0")
        folder, within, number = path.rpartition("/vars/")
        fields = FIELDS if re.search(r"(^|/)(cell|lstm_cell(_\d+)?)$", folder) else ("kernel", "bias")
        if within and number in map(str, range(len(fields))):
            path = f"{folder}/{fields[int(number)]}"
        found[path] = a
    return found
