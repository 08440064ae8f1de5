"""The kinds of files by the ends of their names: how each is read, and in which forms it can be written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from lstmjax import claims
from lstmjax.convert.run_folder import RUN
from lstmjax.errors import UserError, message_of
from lstmjax.frameworks import FORMS, FRAMEWORKS
from lstmjax.frameworks.base.contents import Contents, Unread
from lstmjax.frameworks.base.framework import Container
from lstmjax.frameworks.base.guard import optional
from lstmjax.frameworks.base.layouts import ConvertError

SAFETENSORS = ("F16", "BF16", "F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL")


PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<end>\.\w+)")
INDEX = 2**26  # bytes; the index of the largest models has a few megabytes


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


def check_whole(path: Path) -> None:
    """Refuse a single file of a model in several files: it could look like a network of fewer layers.

    >>> check_whole(Path("model-00001-of-00001.safetensors"))
    """
    match = PART.fullmatch(path.name)
    if match is not None and int(match["count"]) > 1:
        raise ConvertError(
            f"is part {int(match['number'])} of {int(match['count'])}, and other layers may stand in the other parts; "
            f"read {match['stem']}{match['end']}.index.json, which names them all"
        )


def read_index(read: Callable[[Path], Contents], path: Path) -> Contents:
    """Read the arrays of all files that an index names, in the folder of the index.

    Args:
        read: reads one of the files.
        path: of the index, such as model.safetensors.index.json, as Hugging Face saves large models.

    Raises:
        ConvertError: it is no index, or a file does not hold what the index says.
    """
    if path.stat().st_size > INDEX:
        raise ConvertError(f"has {path.stat().st_size:,} bytes; an index has at most {INDEX:,}")
    index = json.loads(path.read_text(encoding="utf-8"))
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ConvertError("is no index of weights, which has a weight_map: the name of a file for each array")
    arrays: dict[str, Any] = {}
    for name in dict.fromkeys(places.values()):
        if Path(name).name != name or not (path.parent / name).is_file():
            raise ConvertError(f"names the file {name!r}, which does not stand beside it")
        arrays |= read(path.parent / name).arrays
    if missing := sorted(places.keys() - arrays.keys()):
        raise ConvertError(f"says that {missing[0]!r} stands in {places[missing[0]]}, which does not hold it")
    return Contents(arrays)


FILES = (
    *(kind for row in FRAMEWORKS.values() for kind in row.files),
    Container((".safetensors",), "safetensors file", read_safetensors, write_safetensors, FORMS, parts=".safetensors"),
    Container((".npz",), "NPZ file", read_npz, write_npz, FORMS),
)
CONTAINERS = FILES + tuple(
    Container((f"{kind.parts}.index.json",), f"index of {kind.words}s", partial(read_index, kind.read))
    for kind in FILES
    if kind.parts
)
"""All kinds of files; if two ends fit a name, the first counts."""


PICKLE = (
    ". To unpickle is to run code: do it yourself if you trust the file, and pass what it holds to from_torch, "
    "from_linen or another such function"
)
REMEDIES = MappingProxyType(
    {
        ".eqx": ". A file of Equinox does not say what its arrays are: restore the cells by "
        "equinox.tree_deserialise_leaves, and pass them to from_equinox",
        ".pkl": PICKLE,
        ".pickle": PICKLE,
        ".joblib": PICKLE,
    }
)
"""What to do with kinds of files that are not read, by the ends of their names."""


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
    remedy = REMEDIES.get(path.suffix.lower(), "")
    raise ConvertError(
        f"{path}: unknown kind of file; expected a name that ends in {ends}, or the folder of a run{remedy}"
    )


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
