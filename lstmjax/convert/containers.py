"""The kinds of files by the ends of their names: how each is read, and in which forms it can be written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax import claims
from lstmjax.cells import VANILLA
from lstmjax.convert.carry import READOUTS
from lstmjax.convert.checkpoints import read_torch
from lstmjax.convert.flax import read_msgpack, write_msgpack
from lstmjax.convert.guard import optional
from lstmjax.convert.hdf5 import read_hdf5, read_keras, write_hdf5
from lstmjax.convert.layouts import ConvertError, as_layers, without_head
from lstmjax.convert.names import Contents, Unread
from lstmjax.convert.run import read_run
from lstmjax.convert.shards import check_whole, read_index
from lstmjax.convert.torch import write_torch
from lstmjax.errors import Either, Message, UserError, message_of
from lstmjax.networks import NetworkParams
from lstmjax.stack import directions
from lstmjax.types import GATES, Bidirectional, LSTMParams

SAFETENSORS = ("F16", "BF16", "F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL")


@dataclass(frozen=True)
class Container:
    """A kind of file. Messages call it by `words`; `forms` are those that it can be written in, the default first."""

    ends: tuple[str, ...]
    words: str
    read: Callable[[Path], Contents]
    write: Callable[[Contents, Path], None] | None = None
    forms: tuple[str, ...] = ()


def read_safetensors(path: Path) -> Contents:
    """Read the arrays of a safetensors file."""
    optional("safetensors")
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        arrays: dict[str, Any] = {}
        for name in file.keys():  # noqa: SIM118 it is no dict
            dtype = file.get_slice(name).get_dtype()
            arrays[name] = file.get_tensor(name) if dtype in SAFETENSORS else Unread(dtype)
        return Contents(arrays)


def write_safetensors(contents: Contents, path: Path) -> None:
    """Write arrays to a safetensors file."""
    optional("safetensors")
    from safetensors.numpy import save_file

    path.touch()
    mode = path.stat().st_mode  # as for any other file; safetensors lets nobody but the owner read its files
    save_file({name: np.ascontiguousarray(a) for name, a in contents.arrays.items()}, path, {"format": "lstmjax"})
    path.chmod(mode)


def read_npz(path: Path) -> Contents:
    """Read the arrays of an NPZ file; entries that could only be unpickled are not read."""
    arrays: dict[str, Any] = {}
    for name, array in claims.read_npz(path).items():
        arrays[name] = Unread(array.kind) if isinstance(array, claims.NotAnArray) else array
    return Contents(arrays)


def write_npz(contents: Contents, path: Path) -> None:
    """Write arrays as `numpy.savez` does."""
    arrays: dict[str, Any] = {name: np.asarray(a) for name, a in contents.arrays.items()}
    for name, a in arrays.items():
        if a.dtype.kind == "V":
            raise ConvertError(f"NPZ has no {a.dtype.name}, which {name} is; write .safetensors, or cast it before")
    with path.open("wb") as file:
        np.savez(file, **arrays)


def read_onnx(path: Path) -> Contents:
    """Read the network of an ONNX file."""
    optional("onnx")
    from lstmjax.convert.onnx.model import read_stack

    stack = read_stack(path)
    more = ("residual connections around its layers",) if stack.residual else ()
    more += (stack.chain.only_states,) if stack.chain.only_states else ()
    return Contents({}, settings=stack.complaints + more, params=stack.params, architecture=stack.architecture)


def write_onnx(contents: Contents, path: Path) -> None:
    """Write a network to an ONNX file, with its cell, merge and readout, for every step or the last one."""
    optional("onnx")
    from lstmjax.convert.onnx import to_onnx

    params, architecture = contents.params, contents.architecture
    assert params is not None
    if architecture.cell == VANILLA and not all(map(_is_vanilla, as_layers(without_head(params)))):
        raise ConvertError(
            Message(
                "the layers are not of the vanilla cell; say which by ",
                Either("to_onnx(params, path, cell=…)", "--cell"),
            )
        )
    to_onnx(
        params,
        path,
        return_sequences=architecture.return_sequences,
        merge=architecture.merge,
        cell=architecture.cell,
        readout=READOUTS[architecture.readout] if isinstance(params, NetworkParams) else None,
    )


def _is_vanilla(layer: LSTMParams | Bidirectional) -> bool:
    """Return whether a layer has no arrays but those of the vanilla cell and of a projection."""
    return all(
        part.w_x.shape[1] == len(GATES) and all(a is None for a in (part.w_c, part.w_r, part.norm, part.gain))
        for part in directions(layer)
    )


def read_safetensors_index(path: Path) -> Contents:
    """Read the arrays of all safetensors files that an index names."""
    return read_index(path, read_safetensors)


def read_torch_index(path: Path) -> Contents:
    """Read the tensors of all files of PyTorch that an index names."""
    return read_index(path, read_torch)


FRAMEWORKS = ("lstmjax", "torch", "keras", "linen", "nnx", "haiku")
CONTAINERS = (
    Container((".pt", ".pth", ".bin", ".ckpt", ".tar"), "PyTorch file", read_torch, write_torch, ("torch",)),
    Container((".safetensors",), "safetensors file", read_safetensors, write_safetensors, FRAMEWORKS),
    Container((".npz",), "NPZ file", read_npz, write_npz, FRAMEWORKS),
    Container((".weights.h5",), "HDF5 file", read_hdf5, write_hdf5, ("keras",)),
    Container((".h5", ".hdf5"), "HDF5 file", read_hdf5),
    Container((".keras",), "Keras file", read_keras),
    Container((".msgpack",), "msgpack file", read_msgpack, write_msgpack, ("linen", "nnx")),
    Container((".onnx",), "ONNX file", read_onnx, write_onnx, ("onnx",)),
    Container((".safetensors.index.json",), "index of safetensors files", read_safetensors_index),
    Container((".bin.index.json",), "index of PyTorch files", read_torch_index),
)
"""All kinds of files; if two ends fit a name, the first counts."""
RUN = Container((), "run folder", read_run)


def container_of(path: Path) -> Container:
    """Return the kind of a file or folder.

    Raises:
        ConvertError: the kind is unknown.
    """
    if path.is_dir():
        return RUN
    for row in CONTAINERS:
        if path.name.lower().endswith(row.ends):
            return row
    ends = ", ".join(end for row in CONTAINERS for end in row.ends)
    raise ConvertError(f"{path}: unknown kind of file; expected a name that ends in {ends}, or the folder of a run")


def open_file(path: Path, container: Container) -> Contents:
    """Read a file.

    Raises:
        ConvertError: it does not exist, is damaged, claims too much memory, or would run code.
    """
    if not path.exists():
        raise ConvertError(f"{path}: no such file")
    if container is not RUN and not path.is_file():
        raise ConvertError(f"{path}: is no file")
    try:
        check_whole(path)
        return container.read(path)
    except UserError as error:
        named = str(error).startswith((str(path), str(path.absolute())))
        raise ConvertError(message_of(error, "" if named else f"{path}: ")) from None
    except MemoryError:
        raise ConvertError(f"{path}: {claims.NO_MEMORY}") from None
    except Exception as error:  # over damaged bytes these libraries raise whatever their layers raise
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ConvertError(f"{path}: is no whole {container.words} ({why})") from None
