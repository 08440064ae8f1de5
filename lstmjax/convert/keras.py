"""Keras 3: `LSTM`, `Bidirectional` and `StackedRNNCells`, from layers, models or `.weights.h5` files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.convert.layouts import LAYOUTS, ConvertError, Fused, as_layers, natural, numbers, read, to_jax, write
from lstmjax.stack import Layers, directions
from lstmjax.types import Bidirectional

LAYOUT = LAYOUTS["keras"]
FIELDS = ("kernel", "recurrent_kernel", "bias")


def from_keras(source: Any, *, names: Iterable[str] | None = None) -> Layers:
    """Gives the LSTM layers of a Keras model, in its order, bit by bit.

    Keras stores its forget bias of 1, so nothing is added here.

    Args:
        source: a model or a layer; the list that `get_weights()` of an LSTM or a Bidirectional LSTM gives;
            or the path of a `.weights.h5` file.
        names: of a file: the names of its recurrent layers, in the order of the model. Needed where
            layers of several kinds are mixed, since the file does not keep their order.

    Raises:
        ConvertError: there is no LSTM, weights are missing or do not fit, or the order is unknown.
    """
    if isinstance(source, str | Path):
        return to_jax(_layers(_of_file(Path(source), names)))
    if hasattr(source, "weights"):
        return to_jax(_layers([(w.path, numbers(w.value)) for w in source.weights]))
    arrays = [np.asarray(a) for a in source]
    parts, matrices = [], [n for n, a in enumerate(arrays) if a.ndim == 2]
    for at in matrices[::2]:
        if at + 1 not in matrices:
            raise ConvertError(f"array {at} is a matrix without recurrent weights after it")
        bias = arrays[at + 2] if at + 2 < len(arrays) and arrays[at + 2].ndim == 1 else None
        parts.append(read(LAYOUT, Fused(arrays[at], arrays[at + 1], bias), f"weights {at} on: "))
    if len(parts) == 2:
        return to_jax((Bidirectional(*parts),))
    if len(parts) != 1:
        raise ConvertError(f"source has {len(arrays)} arrays, expected those of one LSTM, or of one Bidirectional LSTM")
    return to_jax(tuple(parts))


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


def _layers(weights: list[tuple[str, np.ndarray]]) -> Layers:
    """Gives the layers of weights by path: those that end in kernel, recurrent_kernel and bias belong together."""
    cells: dict[str, dict[str, np.ndarray]] = {}
    for path, a in weights:
        cell, _, name = path.rpartition("/")
        if name in FIELDS:
            cells.setdefault(cell, {})[name] = a
    recurrent = {path: found for path, found in cells.items() if "recurrent_kernel" in found}
    if not recurrent:
        raise ConvertError("there is no LSTM in it: no weight is called recurrent_kernel")
    parts = {
        path: read(LAYOUT, Fused(*(found.get(name) for name in FIELDS)), f"{path}: ")
        for path, found in recurrent.items()
    }
    layers: list[Any] = []
    for path, part in parts.items():
        if re.search(r"(^|/)backward_[^/]*(/|$)", path):
            if not layers or isinstance(layers[-1], Bidirectional):
                raise ConvertError(f"{path} has no forward layer before it")
            layers[-1] = Bidirectional(layers[-1], part)
        else:
            layers.append(part)
    return tuple(layers)


def _of_file(path: Path, names: Iterable[str] | None) -> list[tuple[str, np.ndarray]]:
    """Gives the weights of a file under the paths that they have in a model."""
    import h5py

    found: dict[str, np.ndarray] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ConvertError(f"{path}: {name} points to another file, which is not opened")
            found[name] = item

    try:
        with h5py.File(path, "r") as file:
            file.visititems(note)
            arrays = {name: np.asarray(item) for name, item in found.items()}
    except FileNotFoundError:
        raise ConvertError(f"{path}: no such file") from None
    except OSError as error:
        raise ConvertError(f"{path}: is no whole HDF5 file ({str(error).splitlines()[0]})") from None
    cells = {name[: -len("/vars/1")] for name in arrays if re.search(r"(^|/)(cell|lstm_cell(_\d+)?)/vars/1$", name)}
    if not cells:
        raise ConvertError(f"{path}: there is no LSTM in it")
    owners = {cell: re.sub(r"^layers/", "", cell).split("/")[0] for cell in cells}
    order = _order(path, set(owners.values()), None if names is None else list(names))
    result = []
    for cell in sorted(cells, key=lambda cell: (order[owners[cell]], "backward_layer" in cell, natural(cell))):
        for n, field in enumerate(FIELDS):
            if f"{cell}/vars/{n}" in arrays:
                result.append((f"{cell}/{field}", arrays[f"{cell}/vars/{n}"]))
    return result


def _order(path: Path, owners: set[str], names: list[str] | None) -> dict[str, int]:
    if names is not None:
        if set(names) != owners:
            raise ConvertError(f"{path}: names is {names}, but the recurrent layers in it are {sorted(owners)}")
        return {name: n for n, name in enumerate(names)}
    kinds = {re.sub(r"_\d+$", "", name) for name in owners}
    if len(kinds) > 1:
        raise ConvertError(
            f"{path}: the file does not keep the order of {', '.join(sorted(owners, key=natural))}; pass names= with "
            "these in the order of the model"
        )
    return {name: n for n, name in enumerate(sorted(owners, key=natural))}
