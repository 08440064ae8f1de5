"""Keras models and layers in memory, and files of them: `from_keras`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.arguments import one_of
from lstmjax.cells import Cell
from lstmjax.errors import Option
from lstmjax.frameworks.base.layouts import ConvertError, has_pairs, without_head
from lstmjax.frameworks.keras.weights import described, from_list, weights_of
from lstmjax.published import find_cell
from lstmjax.stack import Layers


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
        from lstmjax.convert.weights import load_weights  # reads files of all frameworks, by a table that has this one

        return without_head(load_weights(source, form="keras", names=names, extra=extra, cell=cell, merge=merge))
    one_of("extra", extra, ("refuse", "drop"))
    if hasattr(source, "weights"):
        layers = weights_of(source)
        _check_stated(source, layers, find_cell(cell), merge, extra)
        return layers
    return from_list([np.asarray(a) for a in source])


def _check_stated(source: Any, layers: Layers, cell: Cell, merge: str, extra: str) -> None:
    """Refuse a model or a layer that does something else than these layers with this cell and merge."""
    import keras

    if not isinstance(source, keras.layers.Layer):
        return
    description = described(source)
    architecture, where = description.architecture, f"{source.name}: "
    more = [*description.settings, *architecture.beyond_layers()]
    if more and extra == "refuse":
        remedy = "" if description.settings else ", or save it to a .keras file, which load_model runs as it says"
        raise ConvertError(
            f"{where}does more than its LSTM layers: {', '.join(more)}. Pass ",
            Option("extra", "drop"),
            f" to leave it behind{remedy}",
        )
    if len(architecture.directions) not in (0, len(layers)):
        count = len(architecture.directions)
        raise ConvertError(f"{where}has {count} recurrent layers, but its weights are of {len(layers)}")
    fault = architecture.mismatch(cell, merge, has_pairs(layers))
    if fault is not None:
        raise ConvertError(where, fault)
