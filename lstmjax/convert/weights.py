"""Read and write weights in files of other frameworks and in our own: `load_weights`, `save_weights`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import numpy as np

from lstmjax import checks
from lstmjax.cells import Cell
from lstmjax.convert.containers import CONTAINERS, container_of
from lstmjax.convert.find import choice, find
from lstmjax.convert.options import FileOptions, ReadOptions, Selection, selected
from lstmjax.errors import Named, Option
from lstmjax.frameworks import FRAMEWORKS
from lstmjax.frameworks.base.architecture import Architecture
from lstmjax.frameworks.base.contents import Contents
from lstmjax.frameworks.base.framework import Container
from lstmjax.frameworks.base.guard import draft
from lstmjax.frameworks.base.layouts import ConvertError, as_layers
from lstmjax.frameworks.base.model import Model
from lstmjax.keywords import takes
from lstmjax.networks import NetworkParams
from lstmjax.parameters import parameters_of
from lstmjax.stack import Layers

_SAFETENSORS = next(row for row in CONTAINERS if ".safetensors" in row.ends)


@takes(FileOptions, Selection)
def load_weights(
    path: str | Path, *, cell: Cell | str = "vanilla", merge: str = "concat", **options: Unpack[FileOptions]
) -> Layers | NetworkParams:
    """Read the LSTM layers in a file, or the network if there is a Dense head, bit by bit.

    Weights alone do not say how they are run. Those of a file that describes its model (`.keras`, a whole model in
    `.h5`, the folder of a run) are returned only if `stacked` or `network`, called with this cell and this merge, run
    them as the file says; otherwise the error says what to pass. `load_model` returns all that a file says.

    Args:
        path: `.pt`, `.pth`, `.bin`, `.ckpt` or `.tar` (PyTorch), `.safetensors`, `.npz`, `.weights.h5`, `.h5` or
            `.keras` (Keras), `.msgpack` (Flax), `.onnx`, or the folder of a run; of a model in several files its
            index, `.safetensors.index.json` or `.bin.index.json`. Nothing but tensors is unpickled. Weights that
            PyTorch stores in another form (weight_norm, spectral_norm, WeightDrop) are computed as PyTorch does
            outside of training.
        form: whose names the arrays have: "torch", "keras", "linen", "nnx", "haiku" or "lstmjax", our own.
            None: they are recognised.
        prefix: what the names of the LSTM's arrays begin with, if there are several LSTMs.
        names: of the LSTM's layers, from the bottom up, if the file does not store their order; for
            PyTorch those of several `torch.nn.LSTM` on top of each other.
        head: name of the Dense layer that is the head; None: the only Dense layer that fits the outputs of the last
            LSTM layer and that no other Dense layer follows. One that fits before the LSTM as well, and stands before
            it in a file of PyTorch, must be named.
        extra: "refuse" what is neither LSTM nor head, or "drop" it, together with all of the model's description that
            no argument can say. State of optimizers and of random numbers that is recognised by its name is always
            dropped.
        cell: the cell that the layers will run with, a row of `CELLS`, its name, or a `Cell` of your own; refused if
            bare weights are of another one. The vanilla cell, the default, is not compared with them.
        merge: how the directions of a pair will be joined, "concat" or "sum".

    Returns:
        A tuple of layers, for `stacked`, or `NetworkParams`, for `network`. A softmax or sigmoid after the head is
        left to the loss, and the choice between every step and the last one to the caller (`return_sequences`).

    Raises:
        ConvertError: the file does not exist, is damaged, or of an unknown kind; there is no LSTM in it, or something
            in it would be lost; or it describes another network than these weights with this cell and merge.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> arrays = {"rnn.weight_ih_l0": np.ones((8, 3), "f"), "rnn.weight_hh_l0": np.ones((8, 2), "f")}
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/of-torch.npz", **arrays)
        ...     (layer,) = load_weights(f"{folder}/of-torch.npz")
        >>> layer.w_x.shape, layer.b
        ((3, 4, 2), None)
    """
    contents = find(path, selected(options), cell=cell, merge=merge)
    more = "; ".join(contents.architecture.beyond_options())
    if more and options["extra"] == "refuse":
        raise ConvertError(
            f"{path}: {more}: layers alone do not say that. Take load_model(path), which runs it as it is, or pass ",
            Option("extra", "drop"),
            " to take the weights alone",
        )
    return contents.params


@takes(ReadOptions, Selection, find)
def load_model(path: str | Path, **options: Unpack[ReadOptions]) -> Model:
    """Read a model from a file, with all that the file says of how it is run.

    Args:
        path, form, prefix, names, head, extra: as for `load_weights`.
        cell, merge: how to run bare weights, which do not say it; None: by the vanilla cell, and by the merge with
            which the layers fit each other.

    Returns:
        A `Model`: `model(xs)` returns its outputs, `model.params` are the weights, and `model.architecture` says how
        they are run: cell, merge, directions, which steps are returned, the head's activation, and `assumed`, what
        was assumed if the file holds bare weights.

    Raises:
        ConvertError: as for `load_weights`; or the file states another cell or merge than the argument.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> arrays = {"rnn.weight_ih_l0": np.ones((8, 3), "f"), "rnn.weight_hh_l0": np.ones((8, 2), "f")}
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/of-torch.npz", **arrays)
        ...     model = load_model(f"{folder}/of-torch.npz")
        >>> model(np.ones((5, 7, 3), "f")).shape, model.architecture.assumed[1]
        ((5, 7, 2), 'nothing but dropout before, between and after the layers')
    """
    contents = find(path, selected(options), cell=options["cell"], merge=options["merge"])
    return Model(contents.params, contents.architecture)


def save_weights(params: Any, path: str | Path, *, form: str | None = None, sum_biases: bool = False) -> None:
    """Write layers or a network to a file that another framework reads, bit by bit and in one go.

    Args:
        params: `NetworkParams`, a tuple of layers, or one `LSTMParams`.
        path: `.pt`, `.pth`, `.bin`, `.ckpt` or `.tar`: a `state_dict`, of a module with
            `self.lstm = torch.nn.LSTM(…)` and `self.head = torch.nn.Linear(…)`, or without a head of the LSTM
            itself. `.weights.h5`: of a Keras `Sequential` of `LSTM`, `Bidirectional` and `Dense`. `.msgpack`: of a
            `flax.linen.Sequential` or `nnx.Sequential` of `RNN`, `Bidirectional` and `Dense` or `Linear`.
            `.safetensors` and `.npz`: any form. `.onnx`: a graph. An older file is replaced once the new one is
            complete.
        form: whose names to use, if the kind of file leaves it open: "torch", "keras", "linen", "nnx", "haiku"
            or "lstmjax", our own, for any cell and for the leading axes of an ensemble. None: the usual form of the
            kind of file.
        sum_biases: add two biases up if the form has one; without it they are refused.

    Raises:
        ConvertError: the form has no place for something, or such a file is not written in this form.
    """
    container, form = place_for(path, form)
    write_as(container, form, params, Path(path), sum_biases=sum_biases)


def place_for(path: str | Path, form: str | None = None) -> tuple[Container, str]:
    """Return the kind of file that a path names, and the form in which to write it.

    Raises:
        ConvertError: such files are not written, or not in this form.
    """
    path = Path(path)
    container = container_of(path)
    if container.write is None:
        ends = choice(end for row in CONTAINERS if row.write for end in row.ends)
        raise ConvertError(f"{path}: a {container.words} of this name is only read; what is written ends in {ends}")
    if form is not None and form not in container.forms:
        complaint = f" is {form!r}, expected {choice(container.forms)} for this kind of file"
        raise ConvertError(f"{path}: ", Named("target_form", argument="form"), complaint)
    return container, form or container.forms[0]


def to_safetensors(params: Any, path: str | Path) -> None:
    """Write layers or a network, of any cell, to a safetensors file under our own names, bit by bit.

    Args:
        params: `NetworkParams`, a tuple of layers, or one `LSTMParams`.
        path: the file; an older one is replaced once the new one is complete.
    """
    write_as(_SAFETENSORS, "lstmjax", params, Path(path))


def from_safetensors(path: str | Path) -> Layers | NetworkParams:
    """Read what `to_safetensors` wrote: the layers, or the network if there is a head.

    Raises:
        ConvertError: the file does not exist, is damaged, or holds other names.
    """
    return find(path, Selection(form="lstmjax"), container=_SAFETENSORS).params


def write_as(
    container: Container,
    form: str,
    params: Any,
    path: Path,
    *,
    sum_biases: bool = False,
    architecture: Architecture | None = None,
) -> None:
    """Write a file of this kind in this form, with its architecture if such files state it; see `save_weights`."""
    layers, head = parameters_of(params)[:2]
    if form != "lstmjax" and (complaint := checks.ensemble(layers)):
        ours = Option("target_form", "lstmjax", argument="form")
        raise ConvertError(f"{path}: {complaint} Our own names keep all of them: ", ours)
    contents = Contents({}, params=params, architecture=architecture or Architecture())
    names = FRAMEWORKS[form].form
    if names is not None:
        contents = names.write(layers if form == "lstmjax" else as_layers(layers), head, sum_biases)
        contents = contents._replace(arrays={name: np.asarray(a) for name, a in contents.arrays.items()})
    assert container.write is not None
    with draft(path) as place:
        container.write(contents, place)
