"""Our own names of arrays: the path in the tree, such as layers.0.forward.w_x; any cell, and the head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from lstmjax import types
from lstmjax.convert.layouts import ConvertError, as_layers, natural
from lstmjax.convert.names import nested
from lstmjax.networks import Dense, NetworkParams
from lstmjax.stack import Layers
from lstmjax.types import Bidirectional, LSTMParams, Norms, leading_axes

AXES: MappingProxyType[Any, Mapping[str, str]] = MappingProxyType({**types.AXES, Dense: {"w": "PO", "b": "O"}})
"""The axes of each array; a letter is one size, wherever it stands."""


def named(params: Any) -> dict[str, np.ndarray]:
    """Return the arrays of layers or of a network by their names; of an ensemble with its leading axes.

    >>> sorted(named(LSTMParams(np.ones((2, 4, 3)), np.ones((3, 4, 3)))))
    ['layers.0.w_h', 'layers.0.w_x']
    """
    network = params if isinstance(params, NetworkParams) else None
    layers = params.layers if network else params
    as_layers(jax.tree.map(first_of(layers), layers))  # each network of an ensemble is one
    layers = (layers,) if isinstance(layers, LSTMParams | Bidirectional) else tuple(layers)
    tree = {"layers": layers} | ({"head": network.head} if network else {})
    arrays = {
        jax.tree_util.keystr(at, simple=True, separator="."): np.ascontiguousarray(a).reshape(np.shape(a))
        for at, a in jax.tree.leaves_with_path(tree)
    }
    if leading_axes(layers):
        from_names(arrays)  # what could not be read again is not written
    return arrays


def first_of(params: Any) -> Callable[[Any], Any]:
    """Return a function that takes, of an array of these parameters, the shape and dtype of one network of an ensemble.

    >>> params = LSTMParams(np.ones((7, 2, 4, 3)), np.ones((7, 3, 4, 3)))
    >>> jax.tree.map(first_of(params), params).w_h.shape
    (3, 4, 3)
    """
    axes = len(leading_axes(params))
    return lambda a: jax.ShapeDtypeStruct(a.shape[axes:], a.dtype) if axes else a


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
    # The leading axes of an ensemble are those of the first array; a name says how many axes stand behind them.
    first = next((a for name, a in arrays.items() if name.startswith("layers.0.") and name.endswith("w_x")), None)
    lead = () if first is None else tuple(np.shape(np.asarray(first)))[:-3]
    layers = tuple(_layer(found[n], f"layers.{n}", lead) for n in numbers)
    return NetworkParams(layers, _make(Dense, tree["head"], "head", {}, lead)) if "head" in tree else layers


def _layer(tree: Any, where: str, lead: tuple[int, ...]) -> LSTMParams | Bidirectional:
    if isinstance(tree, Mapping) and tree.keys() == {"forward", "reverse"}:
        return Bidirectional(*(_layer(tree[name], f"{where}.{name}", lead) for name in ("forward", "reverse")))
    sizes: dict[str, int] = {}
    if isinstance(tree, Mapping) and "norm" in tree:
        tree = {**tree, "norm": _make(Norms, tree["norm"], f"{where}.norm", sizes, lead)}
    params = _make(LSTMParams, tree, where, sizes, lead)
    if params.w_p is None and sizes["P"] != sizes["H"]:
        raise ConvertError(f"{where}: w_h has {sizes['P']} rows for {sizes['H']} units, and there is no w_p")
    if params.w_p is None and params.b_p is not None:
        raise ConvertError(f"{where}: there is b_p, but no w_p for it to be the bias of")
    return params


def _make(kind: Any, fields: Any, where: str, sizes: dict[str, int], lead: tuple[int, ...]) -> Any:
    """Return the tuple with these fields; `sizes` collects what each letter stands for, `lead` stands before all."""
    names = set(fields) if isinstance(fields, Mapping) else {"an array"}
    missing = [name for name in kind._fields if name not in names and name not in kind._field_defaults]
    if missing or names - set(kind._fields):
        unknown = sorted(names - set(kind._fields))
        raise ConvertError(f"{where}: unknown {unknown}, missing {missing}; {kind.__name__} has {kind._fields}")
    made = {name: a if isinstance(a, Norms) else np.asarray(a) for name, a in fields.items()}
    for name, a in made.items():
        if isinstance(a, Norms):
            continue
        letters = AXES[kind][name]
        shape = a.shape[len(lead) :]
        known = tuple(sizes.setdefault(letter, size) for letter, size in zip(letters, shape, strict=False))
        if a.shape != (*lead, *known) or len(letters) != len(known) or 0 in a.shape:
            axes = ", ".join([*map(str, lead), *letters])
            raise ConvertError(f"{where}.{name} has shape {a.shape}, expected [{axes}] with {sizes}")
    return kind(**made)
