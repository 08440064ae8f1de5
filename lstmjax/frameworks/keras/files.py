"""HDF5 files of Keras: `.weights.h5`, `.keras`, and whole models in `.h5`; they are read without Keras.

The HDF5 library allocates memory for what a file claims before it checks that the file holds it. Hence the library is
only used for what has a known size: no compressed array, no word of variable length. The words with which Keras
describes a model have variable length, and `hdf5_words` reads them from the bytes.
"""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.claims import archive, check_claim
from lstmjax.frameworks.base.contents import Contents, Unread
from lstmjax.frameworks.base.guard import optional
from lstmjax.frameworks.base.layouts import ConvertError
from lstmjax.frameworks.keras.config import describe
from lstmjax.frameworks.keras.words import words_of

CONFIG, VERSION = "model_config", "keras_version"
ORDER = "layer_names"  # older files of Keras state the order of their layers so; newer Keras ignores ours


def read_hdf5(source: Path | io.BytesIO) -> Contents:
    """Read the arrays of a file, and the order of its layers if the file states it."""
    h5py = optional("h5py")
    stored = source.getbuffer().nbytes if isinstance(source, io.BytesIO) else source.stat().st_size
    with h5py.File(source, "r") as file:
        datasets = _datasets(h5py, file)
        claimed = 0
        for item in datasets.values():  # to read a dataset takes all of it, or at least a chunk
            claimed += item.dtype.itemsize * max(math.prod(item.shape or ()), math.prod(item.chunks or ()))
        check_claim(claimed, stored)
        arrays = {name: _array(name, item) for name, item in datasets.items()}
        order = _order(h5py, file, stored)
        described = {name for name in (CONFIG, VERSION) if name in file.attrs}
    if CONFIG not in described or not isinstance(source, Path):
        return Contents(arrays, order)
    return describe(*description(source), by_name=True)._replace(arrays=arrays)


def read_keras(path: Path) -> Contents:
    """Read the arrays of a `.keras` file, and the description of the model in its config.json."""
    with archive(path, path.stat().st_size) as parts:
        present = parts.namelist()
        if not {"config.json", "model.weights.h5"} <= set(present):
            raise ConvertError(f"holds {', '.join(present[:6])}, expected config.json and model.weights.h5")
        weights = io.BytesIO(parts.read("model.weights.h5"))
    return describe(*description(path))._replace(arrays=read_hdf5(weights).arrays)


def description(path: Path) -> tuple[Any, str | None]:
    """Return the description of a model in a `.keras` or `.h5` file, and the version of Keras that wrote it.

    Raises:
        ConvertError: there is no description, or it cannot be read.
    """
    if path.name.lower().endswith(".keras"):
        with archive(path, path.stat().st_size) as parts:
            metadata = json.loads(parts.read("metadata.json")) if "metadata.json" in parts.namelist() else {}
            version = metadata.get("keras_version") if isinstance(metadata, dict) else None
            return json.loads(parts.read("config.json")), _version(version)
    h5py = optional("h5py")
    with h5py.File(path, "r") as file:
        config, version = (_words(file, name, path) for name in (CONFIG, VERSION))
    if config is None:
        raise ConvertError("holds no description of a model")
    return json.loads(config), _version(version)


def _version(words: Any) -> str | None:
    """Return a version if it begins with a number."""
    return words if isinstance(words, str) and words.split(".")[0].isdecimal() and len(words) < 40 else None


def _words(file: Any, name: str, path: Path) -> str | None:
    """Return the words of an attribute of a file, or None if it has none of that name."""
    if name not in file.attrs:
        return None
    words = file.attrs.get_id(name)
    if words.dtype.kind == "S":
        check_claim(words.get_storage_size(), path.stat().st_size)
        return bytes(file.attrs[name]).decode()
    return words_of(path, name)


def write_hdf5(contents: Contents, path: Path) -> None:
    """Write arrays as Keras' `save_weights` does."""
    h5py = optional("h5py")
    image = io.BytesIO()  # on a full disk the HDF5 library ends the process
    with h5py.File(image, "w") as file:
        for name, a in contents.arrays.items():
            dataset = file.create_dataset(name, data=a)
            if a.dtype.name == "bfloat16":
                dataset.attrs["dtype"] = "bfloat16"  # HDF5 has no such dtype; Keras looks here
        if contents.order is not None:
            file.attrs[ORDER] = np.array(contents.order, "S")
    path.write_bytes(image.getbuffer())


def _datasets(h5py: Any, file: Any) -> dict[str, Any]:
    """Return the datasets of a file by their paths. A group that contains itself is entered once."""
    datasets: dict[str, Any] = {}
    groups, seen = [("", file)], {file}
    while groups:
        folder, group = groups.pop()
        for name in group:
            path = f"{folder}{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ConvertError(f"{path} is a link to elsewhere, which is not followed")
            item = group[name]
            if isinstance(item, h5py.Dataset):
                datasets[path] = item
            elif isinstance(item, h5py.Group) and item not in seen:
                seen.add(item)
                groups.append((f"{path}/", item))
    return datasets


def _array(name: str, item: Any) -> Any:
    if item.external or item.is_virtual:
        raise ConvertError(f"{name} points to another file, which is not opened")
    if item.id.get_create_plist().get_nfilters():
        raise ConvertError(f"{name} is compressed, and may grow without end; save it without compression")
    if item.size and not item.id.get_storage_size():
        raise ConvertError(f"{name} has shape {item.shape}, but its numbers were never written")
    if item.dtype.kind in "biuf":
        return np.asarray(item)
    if item.dtype == np.dtype("V2") and "dtype" in item.attrs:
        import ml_dtypes

        return np.asarray(item).view(ml_dtypes.bfloat16)
    return Unread(str(item.dtype))


def _order(h5py: Any, file: Any, stored: int) -> tuple[str, ...] | None:
    """Return the order of the layers, or None if no words of fixed length state it."""
    for group in (file, file.get("model_weights")):
        if not isinstance(group, h5py.Group) or ORDER not in group.attrs:
            continue
        words = group.attrs.get_id(ORDER)
        check_claim(words.get_storage_size(), stored)
        if words.dtype.kind == "S":
            return tuple(word.decode() for word in np.atleast_1d(group.attrs[ORDER]).ravel().tolist())
    return None
