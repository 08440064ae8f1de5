"""HDF5 files of Keras: `.weights.h5`, `.keras`, and whole models in `.h5`; neither Keras nor another file is opened.

The HDF5 library takes memory for what a file claims before it looks whether that is there. Hence nothing is
read whose size it does not say beforehand: no compressed array, no word of variable length.
"""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.convert.guard import archive, check_claim, optional
from lstmjax.convert.keras_config import describe
from lstmjax.convert.layouts import ConvertError
from lstmjax.convert.names import Contents, Unread

ORDER = "layer_names"  # as older files of Keras keep the order of their layers; it passes over ours


def read_hdf5(source: Path | io.BytesIO) -> Contents:
    """Gives the arrays of a file, and their order where it is kept."""
    h5py = optional("h5py")
    stored = source.getbuffer().nbytes if isinstance(source, io.BytesIO) else source.stat().st_size
    with h5py.File(source, "r") as file:
        datasets = _datasets(h5py, file)
        check_claim(sum(map(_claimed, datasets.values())), stored)
        arrays = {name: _array(name, item) for name, item in datasets.items()}
        return Contents(arrays, _order(h5py, file, stored))


def read_keras(path: Path) -> Contents:
    """Gives the arrays of a `.keras` file, and the order and the settings that its config.json says."""
    with archive(path, path.stat().st_size) as parts:
        there = parts.namelist()
        if not {"config.json", "model.weights.h5"} <= set(there):
            raise ConvertError(f"holds {', '.join(there[:6])}, expected config.json and model.weights.h5")
        order, settings = describe(json.loads(parts.read("config.json")))
        weights = io.BytesIO(parts.read("model.weights.h5"))
    return Contents(read_hdf5(weights).arrays, order, settings)


def write_hdf5(contents: Contents, path: Path) -> None:
    """Writes arrays as Keras' `save_weights` does."""
    h5py = optional("h5py")
    image = io.BytesIO()  # on a full disk the HDF5 library ends the process
    with h5py.File(image, "w") as file:
        for name, a in contents.arrays.items():
            made = file.create_dataset(name, data=a)
            if a.dtype.name == "bfloat16":
                made.attrs["dtype"] = "bfloat16"  # HDF5 has no such dtype; Keras looks here
        if contents.order is not None:
            file.attrs[ORDER] = np.array(contents.order, "S")
    path.write_bytes(image.getbuffer())


def _datasets(h5py: Any, file: Any) -> dict[str, Any]:
    """Gives what holds arrays by its path. A group that holds itself is entered once."""
    found: dict[str, Any] = {}
    rest, seen = [("", file)], {file}
    while rest:
        path, group = rest.pop()
        for name in group:
            here = f"{path}{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ConvertError(f"{here} is a link to elsewhere, which is not followed")
            item = group[name]
            if isinstance(item, h5py.Dataset):
                found[here] = item
            elif isinstance(item, h5py.Group) and item not in seen:
                seen.add(item)
                rest.append((f"{here}/", item))
    return found


def _claimed(item: Any) -> int:
    """Gives how many bytes reading an array would take: all of it, or a whole chunk."""
    return item.dtype.itemsize * max(math.prod(item.shape or ()), math.prod(item.chunks or ()))


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
    """Gives the order of the layers, where words of fixed length say it."""
    for group in (file, file.get("model_weights")):
        if not isinstance(group, h5py.Group) or ORDER not in group.attrs:
            continue
        words = group.attrs.get_id(ORDER)
        check_claim(words.get_storage_size(), stored)
        if words.dtype.kind == "S":
            return tuple(word.decode() for word in np.atleast_1d(group.attrs[ORDER]).ravel().tolist())
    return None
