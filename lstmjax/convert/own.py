"""Our own names of arrays: the path in the tree, such as layers.0.forward.w_x; any cell, and the head."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from lstmjax.convert.layouts import ConvertError, as_layers, natural
from lstmjax.convert.names import nested
from lstmjax.networks import Dense, NetworkParams
from lstmjax.stack import Layers
from lstmjax.types import Bidirectional, LSTMParams, Norms

AXES: MappingProxyType[Any, dict[str, str]] = MappingProxyType(
    {
        LSTMParams: {
            "w_x": "IGH", "w_h": "PGH", "b": "GH", "b_h": "GH", "w_p": "HP", "w_c": "KH", "w_r": "RSH",
            "gain": "GH", "b_p": "P",
        },
        Norms: {"x": "GH", "h": "GH", "c": "H", "x_shift": "GH", "h_shift": "GH", "c_shift": "H"},
        Dense: {"w": "PO", "b": "O"},
    }
)  # fmt: skip
"""The axes of each array; a letter is one size, wherever it stands."""


def named(params: Any) -> dict[str, np.ndarray]:
    """Gives the arrays of layers or of a network by their names.

    >>> sorted(named(LSTMParams(np.ones((2, 4, 3)), np.ones((3, 4, 3)))))
    ['layers.0.w_h', 'layers.0.w_x']
    """
    network = params if isinstance(params, NetworkParams) else None
    tree = {"layers": as_layers(params.layers if network else params)} | ({"head": network.head} if network else {})
    return {
        jax.tree_util.keystr(at, simple=True, separator="."): np.ascontiguousarray(a)
        for at, a in jax.tree.leaves_with_path(tree)
    }


def from_names(arrays: Mapping[str, Any]) -> Layers | NetworkParams:
    """Gives what `named` was given, of NumPy arrays; names that begin otherwise are not looked at.

    Raises:
        ConvertError: there are no layers, names are missing or unknown, or sizes do not fit.
    """
    tree = nested({name: a for name, a in arrays.items() if name.startswith(("layers.", "head."))}, ".")
    found = tree.get("layers", {})
    numbers = sorted(found, key=natural)
    if numbers != [str(n) for n in range(len(numbers))] or not numbers:
        raise ConvertError(f"holds {', '.join(sorted(arrays)[:6])}, expected layers.0.w_x and so on")
    layers = tuple(_layer(found[n], f"layers.{n}") for n in numbers)
    return NetworkParams(layers, _make(Dense, tree["head"], "head")) if "head" in tree else layers


def _layer(tree: Any, where: str) -> LSTMParams | Bidirectional:
    if isinstance(tree, Mapping) and tree.keys() == {"forward", "reverse"}:
        return Bidirectional(*(_layer(tree[name], f"{where}.{name}") for name in ("forward", "reverse")))
    sizes: dict[str, int] = {}
    if isinstance(tree, Mapping) and "norm" in tree:
        tree = {**tree, "norm": _make(Norms, tree["norm"], f"{where}.norm", sizes)}
    params = _make(LSTMParams, tree, where, sizes)
    if params.w_p is None and params.output_size != params.hidden_size:
        raise ConvertError(
            f"{where}: w_h has {params.output_size} rows for {params.hidden_size} units, and there is no w_p"
        )
    if params.w_p is None and params.b_p is not None:
        raise ConvertError(f"{where}: there is b_p, but no w_p for it to be the bias of")
    return params


def _make(kind: Any, fields: Any, where: str, sizes: dict[str, int] | None = None) -> Any:
    """Gives the tuple with these fields; `sizes` collects what each letter stands for."""
    names = set(fields) if isinstance(fields, Mapping) else {"an array"}
    missing = [name for name in kind._fields if name not in names and name not in kind._field_defaults]
    if missing or names - set(kind._fields):
        unknown = sorted(names - set(kind._fields))
        raise ConvertError(f"{where}: unknown {unknown}, missing {missing}; {kind.__name__} has {kind._fields}")
    sizes = {} if sizes is None else sizes
    made = {name: a if isinstance(a, Norms) else np.asarray(a) for name, a in fields.items()}
    for name, a in made.items():
        if isinstance(a, Norms):
            continue
        letters = AXES[kind][name]
        known = [sizes.setdefault(letter, size) for letter, size in zip(letters, a.shape, strict=False)]
        if len(letters) != a.ndim or known != list(a.shape) or 0 in a.shape:
            raise ConvertError(f"{where}.{name} has shape {a.shape}, expected [{', '.join(letters)}] with {sizes}")
    return kind(**made)
