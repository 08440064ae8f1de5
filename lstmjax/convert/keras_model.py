"""Keras models and layers in memory, and files of them: `from_keras`."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.arguments import one_of
from lstmjax.cells import Cell
from lstmjax.convert.activations import FUNCTIONS
from lstmjax.convert.keras import read_part, weights_of
from lstmjax.convert.keras_config import describe
from lstmjax.convert.layouts import ConvertError, has_pairs, to_jax, without_head
from lstmjax.convert.weights import load_weights
from lstmjax.errors import Message, Option
from lstmjax.published import find_cell
from lstmjax.stack import Layers
from lstmjax.types import Bidirectional


def from_keras(
    source: Any,
    *,
    names: Sequence[str] | None = None,
    extra: str = "refuse",
    cell: Cell | str = "vanilla",
    merge: str = "concat",
) -> Layers:
    """Read the LSTM layers of a Keras model, in its order, bit by bit; a Dense head after them is left out.

    Keras stores its forget bias of 1, so nothing is added here. The layers are returned only if `stacked`, called with
    this cell and this merge, runs them as the model does; `load_model` reads all of a model from a file.

    Args:
        source: a model or a layer; the list that `get_weights()` of an LSTM or a Bidirectional LSTM returns;
            or the path of a file, `.weights.h5`, `.h5` or `.keras`.
        names: of a file: the names of its recurrent layers, in the order of the model. Needed if
            layers of several kinds are mixed, since a `.weights.h5` file does not store their order.
        extra: "refuse" a model that does more (other layers, steps run backwards, masks), or "drop" that.
        cell: the cell that the layers will run with, for activations other than tanh and sigmoid.
        merge: how the directions of a pair will be joined, "concat" or "sum".

    Raises:
        ConvertError: there is no LSTM, weights are missing or do not fit, the order is unknown, or the model does
            something that these layers do not.
    """
    if isinstance(source, str | Path):
        return without_head(load_weights(source, form="keras", names=names, extra=extra, cell=cell, merge=merge))
    one_of("extra", extra, ("refuse", "drop"))
    if hasattr(source, "weights"):
        layers = weights_of(source)
        _check_stated(source, layers, find_cell(cell), merge, extra)
        return layers
    return _of_list([np.asarray(a) for a in source])


def _of_list(arrays: list[np.ndarray]) -> Layers:
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


@contextmanager
def _activations_by_name(source: Any) -> Iterator[None]:
    """Replace functions of JAX in a model, such as `jnp.tanh`, by those of Keras that compute the same, for a while.

    Keras describes a function of JAX by its name alone, which another function may have, too.
    """
    import keras

    replaced: list[tuple[Any, str, Any]] = []
    for layer in source._flatten_layers():
        for name in ("activation", "recurrent_activation"):
            function: Any = vars(layer).get(name)
            if isinstance(function, Hashable) and function in list(FUNCTIONS):
                replaced.append((layer, name, function))
    try:
        for layer, name, function in replaced:
            setattr(layer, name, keras.activations.get(FUNCTIONS[function]))
        yield
    finally:
        for layer, name, function in replaced:
            setattr(layer, name, function)


def _check_stated(source: Any, layers: Layers, cell: Cell, merge: str, extra: str) -> None:
    """Refuse a model or a layer that does something else than these layers with this cell and merge."""
    import keras

    if not isinstance(source, keras.layers.Layer):
        return
    with _activations_by_name(source):
        tree = keras.saving.serialize_keras_object(source)
    description = describe(tree, keras.__version__, by_name=True)
    architecture, where = description.architecture, f"{source.name}: "
    more = [*description.settings, *architecture.beyond_layers()]
    if more and extra == "refuse":
        raise ConvertError(
            Message(
                f"{where}does more than its LSTM layers: {', '.join(more)}. Pass ",
                Option("extra", "drop"),
                " to leave it behind, or save it to a .keras file, which load_model runs as it is",
            )
        )
    if len(architecture.directions) not in (0, len(layers)):
        count = len(architecture.directions)
        raise ConvertError(f"{where}has {count} recurrent layers, but its weights are of {len(layers)}")
    fault = architecture.mismatch(cell, merge, has_pairs(layers))
    if fault is not None:
        raise ConvertError(Message(where, fault))
