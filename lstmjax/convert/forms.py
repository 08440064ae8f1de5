"""The names that frameworks give to their arrays: a row for each, which recognises, reads and writes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from lstmjax.convert import flax, haiku, keras, own, torch
from lstmjax.convert.layouts import LAYOUTS, Layout
from lstmjax.convert.names import Contents, Leaf, flat, in_order, nested
from lstmjax.networks import Dense, NetworkParams
from lstmjax.stack import Layers
from lstmjax.types import Bidirectional

Leaves = Mapping[str, Leaf]
Order = Sequence[str] | None
Pairs = Mapping[str, str] | None


def _same(leaves: Leaves) -> Leaves:
    """Return the leaves under the names that they have."""
    return leaves


@dataclass(frozen=True)
class Form:
    """The names of one framework.

    Attributes:
        mark: a pattern of a name that no other form has.
        read: returns the layers, or the network if its head has a reserved name; takes the arrays, the order of the
            layers and the pairs of `Contents`.
        write: takes layers, the head or None, and sum_biases.
        dense: the ends of the names of the weights and the bias of a Dense layer.
        normal: renames arrays if a framework has two kinds of names.
        state: a pattern of names of state of optimizers and of random numbers, which is left out.
    """

    name: str
    mark: str
    read: Callable[[Leaves, Order, Pairs], Layers | NetworkParams]
    write: Callable[[Layers, Dense | None, bool], Contents]
    dense: tuple[str, str] | None = None
    normal: Callable[[Leaves], Leaves] = _same
    state: str = r"(?!)"

    @property
    def layout(self) -> Layout | None:
        """The row of `LAYOUTS` about the arrays themselves; None: they are in our own layout."""
        return LAYOUTS.get(self.name)


def _read_own(leaves: Leaves, order: Order, pairs: Pairs = None) -> Layers | NetworkParams:
    return own.from_names(leaves)


def _read_torch(leaves: Leaves, order: Order, pairs: Pairs = None) -> Layers:
    prefixes = [None] if order is None else [torch.prefix_of(leaves, name) for name in order]
    return tuple(layer for prefix in prefixes for layer in torch.from_torch(leaves, prefix=prefix))


def _read_keras(leaves: Leaves, order: Order, pairs: Pairs = None) -> Layers:
    folders = [name.rpartition("/")[0] for name in leaves]
    layers = keras.cells(leaves, None if pairs is None else keras.sides_of(folders, pairs))
    return tuple(layers[path] for path in in_order(layers, order))


def _read_linen(leaves: Leaves, order: Order, pairs: Pairs = None) -> Layers:
    return _read_tree("linen", leaves, order)


def _read_nnx(leaves: Leaves, order: Order, pairs: Pairs = None) -> Layers:
    return _read_tree("nnx", leaves, order)


def _read_tree(name: str, leaves: Leaves, order: Order) -> Layers:
    tree = nested(leaves, "/.")
    params = tree.get("params")
    cells = flax.cells(LAYOUTS[name], params if isinstance(params, dict) else tree)
    layers = {path.rstrip("/"): layer for path, layer in cells.items()}
    return tuple(layers[path] for path in in_order(layers, order))


def _read_haiku(leaves: Leaves, order: Order, pairs: Pairs = None) -> Layers:
    modules: dict[str, dict[str, Leaf]] = {}
    for name, leaf in leaves.items():
        cut = max(name.rfind("/"), name.rfind("."))
        module = name[: max(cut, 0)]
        modules.setdefault(module, {})[name[cut + 1 :]] = leaf
    layers = haiku.cells(modules)
    return tuple(layers[path] for path in in_order(layers, order))


def _write_own(layers: Layers, head: Dense | None, sum_biases: bool) -> Contents:
    return Contents(own.named(layers if head is None else NetworkParams(layers, head)))


def _write_torch(layers: Layers, head: Dense | None, sum_biases: bool) -> Contents:
    if head is None:
        return Contents(torch.named(layers))
    return Contents(torch.named(layers, "lstm.") | {"head.weight": np.asarray(head.w).T, "head.bias": head.b})


def _write_keras(layers: Layers, head: Dense | None, sum_biases: bool) -> Contents:
    arrays: dict[str, Any] = {}
    order: list[str] = []
    counts: Counter[str] = Counter()
    for layer, weights in zip(layers, keras.to_keras(layers, sum_biases=sum_biases), strict=True):
        pair = isinstance(layer, Bidirectional)
        kind = "bidirectional" if pair else "lstm"
        order.append(f"{kind}_{counts[kind]}" if counts[kind] else kind)
        counts[kind] += 1
        cells = ("forward_layer/cell", "backward_layer/cell") if pair else ("cell",)
        count = len(weights) // len(cells)
        for k, cell in enumerate(cells):
            for n, a in enumerate(weights[k * count : (k + 1) * count]):
                arrays[f"layers/{order[-1]}/{cell}/vars/{n}"] = a
    if head is not None:
        order.append("dense")
        arrays |= {"layers/dense/vars/0": head.w, "layers/dense/vars/1": head.b}
    return Contents(arrays, tuple(order))


def _write_linen(layers: Layers, head: Dense | None, sum_biases: bool) -> Contents:
    trees = [variables["params"] for variables in flax.to_linen(layers, sum_biases=sum_biases)]
    layers_and_head = {f"layers_{n}": tree for n, tree in enumerate(_headed(trees, head))}
    return Contents(flat({"params": layers_and_head}, "/"))


def _write_nnx(layers: Layers, head: Dense | None, sum_biases: bool) -> Contents:
    trees = list(flax.to_nnx(layers, sum_biases=sum_biases))
    return Contents(flat({"layers": dict(enumerate(_headed(trees, head)))}, "/"))


def _headed(trees: list[Any], head: Dense | None) -> list[Any]:
    return trees if head is None else [*trees, {"kernel": head.w, "bias": head.b}]


def _write_haiku(layers: Layers, head: Dense | None, sum_biases: bool) -> Contents:
    tree = haiku.to_haiku(layers, sum_biases=sum_biases)
    if head is not None:
        tree["linear"] = {"w": head.w, "b": head.b}
    return Contents(flat(tree, "/"))


FORMS = MappingProxyType(
    {
        row.name: row
        for row in (
            Form("lstmjax", r"^layers\.0\.(forward\.)?w_x$", _read_own, _write_own),
            Form(
                "torch",
                r"(^|\.)weight_ih(_l0)?$",
                _read_torch,
                _write_torch,
                ("weight", "bias"),
                state=r"(^|\.)param_groups$|(^|\.)state\.\d+\.(step|(max_)?exp_avg(_sq)?|momentum_buffer|square_avg)$"
                r"|(^|\.)n_averaged$",  # of AveragedModel: how many weights were averaged
            ),
            Form(
                "keras",
                r"(^|/)recurrent_kernel$",
                _read_keras,
                _write_keras,
                ("kernel", "bias"),
                keras.named,
                r"^_?optimizer(_weights)?/|(^|/)seed_generator(_\d+)?/",
            ),
            Form("linen", r"(^|[/.])if[/.]kernel$", _read_linen, _write_linen, ("kernel", "bias")),
            Form(
                "nnx",
                r"(^|[/.])(if_|dense_h)[/.]kernel$",
                _read_nnx,
                _write_nnx,
                ("kernel", "bias"),
                state=r"(^|[/.])rngs[/.]",
            ),
            Form("haiku", r"(^|/)lstm(_\d+)?/(~/)?linear[/.]w$", _read_haiku, _write_haiku, ("w", "b")),
        )
    }
)
"""All forms by name; each is recognised in any kind of file."""
