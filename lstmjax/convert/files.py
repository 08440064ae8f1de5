"""safetensors files of our own parameters: names are the path in the tree, such as layers.0.forward.w_x."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from lstmjax.convert.layouts import ConvertError, as_layers, to_jax
from lstmjax.networks import Dense, NetworkParams
from lstmjax.stack import Layers
from lstmjax.types import Bidirectional, LSTMParams, Norms


def to_safetensors(params: Any, path: str | Path) -> None:
    """Writes layers or a whole network to a safetensors file, bit by bit, in one go.

    Args:
        params: `NetworkParams`, a tuple of layers, or one `LSTMParams`.
        path: the file; what stood there is replaced once the new one is whole.
    """
    from safetensors.numpy import save_file

    network = params if isinstance(params, NetworkParams) else None
    layers = as_layers(params.layers if network else params)
    tree = {"layers": layers} | ({"head": network.head} if network else {})
    arrays = {
        jax.tree_util.keystr(at, simple=True, separator="."): np.ascontiguousarray(a)
        for at, a in jax.tree.leaves_with_path(tree)
    }
    draft = Path(path).with_name(Path(path).name + ".new")
    save_file(arrays, draft, metadata={"format": "lstmjax"})
    draft.replace(path)


def from_safetensors(path: str | Path) -> Layers | NetworkParams:
    """Gives what `to_safetensors` wrote: the layers, or the network if there is a head.

    Raises:
        ConvertError: the file is not there, not whole, or holds other names.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
    except FileNotFoundError:
        raise ConvertError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise ConvertError(f"{path}: is no whole safetensors file ({error})") from None
    tree: dict[str, Any] = {}
    for name, a in arrays.items():
        *folders, leaf = name.split(".")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
            if not isinstance(place, dict):
                raise ConvertError(f"{path}: {name!r} stands below an array")
        place[leaf] = a
    numbers = sorted(tree.get("layers", {}), key=lambda n: (len(n), n))
    if numbers != [str(n) for n in range(len(numbers))] or not numbers or tree.keys() - {"layers", "head"}:
        raise ConvertError(f"{path}: holds {', '.join(sorted(arrays)[:6])}, expected layers.0.w_x and so on")
    layers = tuple(_layer(tree["layers"][n], f"{path}: layers.{n}") for n in numbers)
    head = _make(Dense, tree["head"], f"{path}: head") if "head" in tree else None
    return to_jax(layers if head is None else NetworkParams(layers, head))


def _layer(tree: dict[str, Any], where: str) -> LSTMParams | Bidirectional:
    if tree.keys() == {"forward", "reverse"}:
        return Bidirectional(*(_layer(tree[name], f"{where}.{name}") for name in ("forward", "reverse")))
    norm = tree.pop("norm", None)
    return _make(LSTMParams, tree | ({} if norm is None else {"norm": _make(Norms, norm, f"{where}.norm")}), where)


def _make(kind: Any, fields: dict[str, Any], where: str) -> Any:
    unknown, missing = (
        fields.keys() - set(kind._fields),
        [name for name in kind._fields if name not in fields and name not in kind._field_defaults],
    )
    if unknown or missing:
        raise ConvertError(f"{where}: unknown {sorted(unknown)}, missing {missing}; {kind.__name__} has {kind._fields}")
    return kind(**fields)
