"""Weights in the files of other frameworks and in our own: `load_weights`, `save_weights`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.cells import Cell
from lstmjax.convert.architecture import Architecture
from lstmjax.convert.containers import CONTAINERS, Container, container_of
from lstmjax.convert.find import choice, find
from lstmjax.convert.forms import FORMS
from lstmjax.convert.guard import draft
from lstmjax.convert.layouts import ConvertError, as_layers
from lstmjax.convert.names import Contents
from lstmjax.networks import NetworkParams
from lstmjax.stack import Layers

_SAFETENSORS = next(row for row in CONTAINERS if ".safetensors" in row.ends)


def load_weights(
    path: str | Path,
    *,
    form: str | None = None,
    prefix: str | None = None,
    names: Sequence[str] | None = None,
    head: str | None = None,
    extra: str = "refuse",
    cell: Cell | str = "vanilla",
    merge: str = "concat",
) -> Layers | NetworkParams:
    """Read the LSTM layers in a file, or the network if there is a Dense head, bit by bit.

    Weights alone do not say how they are run. Those of a file that describes its model (`.keras`, a whole model in
    `.h5`, the folder of a run) are given only if `stacked` or `network`, called with this cell and this merge, run
    them as the file says; else the refusal says what to pass. `load_model` gives all that a file says.

    Args:
        path: `.pt`, `.pth` or `.bin` (PyTorch), `.safetensors`, `.npz`, `.weights.h5`, `.h5` or `.keras` (Keras),
            `.msgpack` (Flax), `.onnx`, or the folder of a run. Nothing in it is unpickled but tensors.
        form: whose names the arrays have: "torch", "keras", "linen", "nnx", "haiku" or "lstmjax", our own.
            None: as they look.
        prefix: what the names of the LSTM's arrays begin with, where there are several LSTMs.
        names: of the LSTM's layers, from the bottom up, where the file does not keep their order; with
            PyTorch those of several `torch.nn.LSTM` on top of each other.
        head: name of the Dense layer that is the head; None: the only one that takes what the last layer gives,
            and that no other Dense layer follows.
        extra: "refuse" what is neither LSTM nor head, or "drop" it, with all of the model's description that no
            argument says. State of optimizers and of random numbers, where it is told by its name, always stays
            behind.
        cell: the cell that the layers will run with, a row of `CELLS`, its name, or a `Cell` of your own.
        merge: how the directions of a pair will be joined, "concat" or "sum".

    Returns:
        A tuple of layers, for `stacked`, or `NetworkParams`, for `network`. A softmax or sigmoid after the head is
        the loss's to say, and whether every step is output or the last one is the caller's (`return_sequences`).

    Raises:
        ConvertError: the file is not there, not whole or of no known kind; there is no LSTM in it, or something
            of it would be lost; or it describes another network than these weights with this cell and merge.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> arrays = {"rnn.weight_ih_l0": np.ones((8, 3), "f"), "rnn.weight_hh_l0": np.ones((8, 2), "f")}
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/of-torch.npz", **arrays)
        ...     (layer,) = load_weights(f"{folder}/of-torch.npz")
        >>> layer.w_x.shape, layer.b
        ((3, 4, 2), None)
    """
    found = find(path, form=form, prefix=prefix, names=names, head=head, extra=extra, cell=cell, merge=merge)
    more = "; ".join(found.architecture.beyond_options())
    if more and extra == "refuse":
        raise ConvertError(
            f"{path}: {more}: layers alone do not say that. Take load_model(path), which runs it as it is, or pass "
            "extra='drop' to take the weights alone"
        )
    return found.params


def save_weights(params: Any, path: str | Path, *, form: str | None = None, sum_biases: bool = False) -> None:
    """Writes layers or a network to a file that another framework reads, bit by bit and in one go.

    Args:
        params: `NetworkParams`, a tuple of layers, or one `LSTMParams`.
        path: `.pt`, `.pth` or `.bin`: a `state_dict`, of a module with `self.lstm = torch.nn.LSTM(…)` and
            `self.head = torch.nn.Linear(…)`, or without a head of the LSTM itself. `.weights.h5`: of a Keras
            `Sequential` of `LSTM`, `Bidirectional` and `Dense`. `.msgpack`: of a `flax.linen.Sequential` or
            `nnx.Sequential` of `RNN`, `Bidirectional` and `Dense` or `Linear`. `.safetensors` and `.npz`: any
            form. `.onnx`: a graph. What stood there is replaced once the new file is whole.
        form: whose names to use, where the kind of file leaves it open: "torch", "keras", "linen", "nnx",
            "haiku" or "lstmjax", our own, which keep any cell. None: the first that the kind of file has.
        sum_biases: add two biases up where the form keeps one; without it they are refused.

    Raises:
        ConvertError: the form has no place for something, or the file cannot be written so.
    """
    container, form = place_for(path, form)
    write_as(container, form, params, Path(path), sum_biases=sum_biases)


def place_for(path: str | Path, form: str | None = None) -> tuple[Container, str]:
    """Gives the kind of file that a path is for, and the form in which it will be written.

    Raises:
        ConvertError: such files are not written, or not in this form.
    """
    path = Path(path)
    container = container_of(path)
    if container.write is None:
        ends = choice(end for row in CONTAINERS if row.write for end in row.ends)
        raise ConvertError(f"{path}: a {container.words} of this name is only read; what is written ends in {ends}")
    if form is not None and form not in container.forms:
        raise ConvertError(f"{path}: form is {form!r}, expected {choice(container.forms)} for this kind of file")
    return container, form or container.forms[0]


def to_safetensors(params: Any, path: str | Path) -> None:
    """Writes layers or a whole network, of any cell, to a safetensors file under our own names, bit by bit.

    Args:
        params: `NetworkParams`, a tuple of layers, or one `LSTMParams`.
        path: the file; what stood there is replaced once the new one is whole.
    """
    write_as(_SAFETENSORS, "lstmjax", params, Path(path))


def from_safetensors(path: str | Path) -> Layers | NetworkParams:
    """Gives what `to_safetensors` wrote: the layers, or the network if there is a head.

    Raises:
        ConvertError: the file is not there, not whole, or holds other names.
    """
    return find(path, container=_SAFETENSORS, form="lstmjax").params


def write_as(
    container: Container,
    form: str,
    params: Any,
    path: Path,
    *,
    sum_biases: bool = False,
    architecture: Architecture | None = None,
) -> None:
    """Write a file of this kind in this form, see `save_weights`; one that can say how it is run does."""
    layers, head = (params.layers, params.head) if isinstance(params, NetworkParams) else (params, None)
    contents = Contents({}, params=params, architecture=architecture or Architecture())
    if form in FORMS:
        contents = FORMS[form].write(as_layers(layers), head, sum_biases)
        contents = contents._replace(arrays={name: np.asarray(a) for name, a in contents.arrays.items()})
    assert container.write is not None
    with draft(path) as place:
        container.write(contents, place)
