"""lstmjax: our own names of arrays, of any cell and of the head, such as layers.0.forward.w_x; and folders of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from lstmjax import types
from lstmjax.frameworks.base.architecture import SETTINGS, Architecture
from lstmjax.frameworks.base.contents import Contents, nested
from lstmjax.frameworks.base.framework import Container, Form, Framework, Leaves, Order, Pairs
from lstmjax.frameworks.base.layouts import ConvertError, as_layers, natural
from lstmjax.networks import HEAD_AXES, Dense, NetworkParams
from lstmjax.parameters import parameters_of
from lstmjax.published import find_cell
from lstmjax.stack import Layers
from lstmjax.types import Bidirectional, LSTMParams, Norms, leading_axes

AXES: MappingProxyType[Any, Mapping[str, str]] = MappingProxyType({**types.AXES, Dense: HEAD_AXES})
"""The axes of each array; a letter stands for the same size in all arrays of a layer."""


def named(params: Any) -> dict[str, np.ndarray]:
    """Return the arrays of layers or of a network by their names, for an ensemble with its leading axes.

    >>> sorted(named(LSTMParams(np.ones((2, 4, 3)), np.ones((3, 4, 3)))))
    ['layers.0.w_h', 'layers.0.w_x']
    """
    layers, head = parameters_of(params)[:2]
    as_layers(jax.tree.map(first_of(layers), layers))  # checks them: each network of an ensemble has such layers
    tree: dict[str, Any] = {"layers": layers}
    if head is not None:
        tree["head"] = head
    arrays = {}
    for path, a in jax.tree.leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        arrays[name] = np.ascontiguousarray(a).reshape(np.shape(a))  # contiguous, but a scalar stays a scalar
    if leading_axes(layers):
        from_names(arrays)  # refuses to write what could not be read again
    return arrays


def first_of(params: Any) -> Callable[[Any], Any]:
    """Return a function that maps arrays of an ensemble to the shape and dtype that they have in a single network.

    >>> params = LSTMParams(np.ones((7, 2, 4, 3)), np.ones((7, 3, 4, 3)))
    >>> jax.tree.map(first_of(params), params).w_h.shape
    (3, 4, 3)
    """
    axes = len(leading_axes(params))
    if not axes:
        return lambda a: a
    return lambda a: jax.ShapeDtypeStruct(a.shape[axes:], a.dtype)


def from_names(arrays: Mapping[str, Any]) -> Layers | NetworkParams:
    """Return the layers or the network whose arrays these are, of NumPy arrays; the inverse of `named`.

    Names that begin with neither "layers." nor "head." are ignored.

    Raises:
        ConvertError: there are no layers, names are missing or unknown, or sizes do not fit.
    """
    tree = nested({name: a for name, a in arrays.items() if name.startswith(("layers.", "head."))}, ".")
    branches = tree.get("layers", {})
    numbers = sorted(branches, key=natural)
    if numbers != [str(n) for n in range(len(numbers))] or not numbers:
        raise ConvertError(f"holds {', '.join(sorted(arrays)[:6])}, expected layers.0.w_x and so on")
    # The axes of the first w_x before its last three are those of an ensemble, which all other arrays share.
    first = next((a for name, a in arrays.items() if name.startswith("layers.0.") and name.endswith("w_x")), None)
    lead = () if first is None else tuple(np.shape(np.asarray(first)))[:-3]
    layers = tuple(_layer(branches[n], f"layers.{n}", lead) for n in numbers)
    if "head" not in tree:
        return layers
    return NetworkParams(layers, _make(Dense, tree["head"], "head", {}, lead))


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
    """Return the tuple of this kind with these fields.

    Args:
        kind: `LSTMParams`, `Norms` or `Dense`.
        fields: its arrays by name.
        where: what messages begin with.
        sizes: the size that each letter of `AXES` stands for; filled in here.
        lead: the leading axes of an ensemble, which each array must have.
    """
    names = set(fields) if isinstance(fields, Mapping) else {"an array"}
    missing = [name for name in kind._fields if name not in names and name not in kind._field_defaults]
    if missing or names - set(kind._fields):
        unknown = sorted(names - set(kind._fields))
        raise ConvertError(f"{where}: unknown {unknown}, missing {missing}; {kind.__name__} has {kind._fields}")
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Norms):
            values[name] = value
            continue
        a = values[name] = np.asarray(value)
        letters = AXES[kind][name]
        shape = a.shape[len(lead) :]
        known = tuple(sizes.setdefault(letter, size) for letter, size in zip(letters, shape, strict=False))
        if a.shape != (*lead, *known) or len(letters) != len(known) or 0 in a.shape:
            axes = ", ".join([*map(str, lead), *letters])
            raise ConvertError(f"{where}.{name} has shape {a.shape}, expected [{axes}] with {sizes}")
    return kind(**values)


def read_names(leaves: Leaves, order: Order, pairs: Pairs) -> Layers | NetworkParams:
    """Return the layers or the network whose arrays these are; our names say their order."""
    return from_names(leaves)


def write_names(layers: Layers, head: Dense | None, sum_biases: bool) -> Contents:
    """Return the arrays of layers, or of a network, by our names."""
    return Contents(named(layers if head is None else NetworkParams(layers, head)))


ORBAX = ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt")
"""Files in a folder that Orbax wrote."""


def read_run(path: Path) -> Contents:
    """Read the network of the best checkpoint in the folder of a run."""
    from lstmjax.training.reading import load_sequence_run  # the trainer imports optax and orbax

    if not (path / "config.yaml").exists() and any((path / name).exists() for name in ORBAX):
        raise ConvertError(
            "is a checkpoint of Orbax, which does not say what its arrays are. Restore it by "
            "orbax.checkpoint.StandardCheckpointer().restore(path), and pass the tree to from_linen or from_nnx"
        )
    trained = load_sequence_run(path, "exchange its weights")
    model, about = trained.config.model, trained.about
    settings = []
    if model.residual:
        settings.append("model.residual is true")
    if model.zoneout:
        settings.append(f"model.zoneout is {model.zoneout}")
    if any(about.offset) or set(about.scale) != {1.0}:
        settings.append("the scale of its inputs")
    if about.target_scale is not None:
        settings.append("the scale of its targets")
    architecture = Architecture(find_cell(model.cell), model.merge, about.per_step, stated=True)
    return Contents({}, settings=tuple(settings), params=trained.params, architecture=architecture)


RUN = Container((), "run folder", read_run)
ROW = Framework(
    "lstmjax", form=Form(r"^layers\.0\.(forward\.)?w_x$", read_names, write_names), files=(RUN,), runs=SETTINGS
)
