"""Find the LSTM layers and the head in a file: whose names the arrays have, and what else the file contains."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lstmjax.arguments import one_of
from lstmjax.cells import VANILLA, Cell
from lstmjax.checks import BY_CELL
from lstmjax.convert.containers import container_of, open_file
from lstmjax.convert.heads import candidates, dense, find_head
from lstmjax.convert.options import Selection
from lstmjax.convert.run_folder import RUN
from lstmjax.errors import Message, Named, Option, message_of
from lstmjax.frameworks import FORMS, FRAMEWORKS
from lstmjax.frameworks.base.architecture import Architecture, assumptions
from lstmjax.frameworks.base.contents import Contents, Leaf, Object
from lstmjax.frameworks.base.framework import Container, Form
from lstmjax.frameworks.base.layouts import ConvertError, has_pairs, to_jax, without_head
from lstmjax.frameworks.ours import first_of, named
from lstmjax.layered import merged_width
from lstmjax.networks import NetworkParams
from lstmjax.published import find_cell
from lstmjax.stack import Layers, directions


class Reading(NamedTuple):
    """The layers or the network in a file, how they are run, and what else the file contains."""

    params: Layers | NetworkParams
    form: str  # whose names the arrays have
    others: tuple[str, ...]  # names of what is neither LSTM nor head
    state: tuple[str, ...] = ()  # names of state of optimizers and of random numbers, and of notes such as the epoch
    heads: tuple[str, ...] = ()  # names of the Dense layers, if it is not sure which of them is the head
    not_finite: tuple[str, ...] = ()  # arrays with NaN or infinity
    no_bias: bool = False  # the head has a bias of zeros, since the file has none
    architecture: Architecture = Architecture()  # how the file says that the weights are run
    folded: tuple[str, ...] = ()  # weights that were computed from other arrays, such as those of weight_norm


ALL = Selection()


def find(
    path: str | Path,
    selection: Selection = ALL,
    *,
    cell: Cell | str | None = None,
    merge: str | None = None,
    container: Container | None = None,
) -> Reading:
    """Read the layers or the network in a file, how they are run, and what else the file contains.

    Args:
        path, selection: as for `load_weights`.
        cell, merge: how to run bare weights, which do not say it; None: by the vanilla cell, and by the merge with
            which the layers fit each other. A file that states otherwise is refused.
        container: the kind of file; None: the kind that its name says.
    """
    path, extra = Path(path), selection.extra
    one_of("extra", extra, ("refuse", "drop"))
    one_of("merge", merge, (None, "concat", "sum"))
    row = None if cell is None else find_cell(cell)
    one_of("form", selection.form, (None, *FORMS))
    container = container or container_of(path)
    contents = open_file(path, container)
    with _naming(path):
        if contents.architecture.stated or contents.params is not None:
            # Before the weights are read, so that a layer that is no LSTM is refused by its name and not its shapes.
            _check_others(contents.settings, (), extra)
        if contents.params is None:
            result = _of_arrays(contents, selection, row, merge)
        else:
            for name, value in selection._asdict().items():
                if name != "extra" and value is not None:
                    complaint = f" is said, but a {container.words} has no named arrays to choose from"
                    raise ConvertError(Named(name), complaint)
            result = _of_network(contents, contents.params, container, row, merge)
        _check_others(result.others, result.heads, extra)
    if result.not_finite:
        warnings.warn(
            f"{path}: NaN or infinity in {listed(result.not_finite)}; is the file damaged, or did training diverge?",
            stacklevel=2,
        )
    return result


def _of_network(
    contents: Contents, params: Layers | NetworkParams, container: Container, cell: Cell | None, merge: str | None
) -> Reading:
    """Return the contents of a file that holds a network instead of named arrays."""
    remedy = Message("In an ONNX model read_onnx gives each of them")
    architecture = _assumed(_architecture(contents, params, remedy, cell, merge), params)
    return Reading(
        params,
        container.forms[0] if container.forms else container.words,
        contents.settings,
        not_finite=() if container is RUN else tuple(_not_finite(named(params))),  # a run warns of it itself
        architecture=architecture,
    )


def _not_finite(arrays: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of arrays with NaN or infinity, and how many of their numbers are not finite."""
    for name, array in arrays.items():
        values = np.asarray(array)
        if values.dtype.itemsize < 4:  # NumPy has no isfinite for bfloat16
            values = values.astype(np.float32)
        count = int((~np.isfinite(values)).sum())
        if count:
            yield f"{name} ({count} of {values.size} numbers)"


def _check_others(others: Sequence[str], heads: Sequence[str], extra: str) -> None:
    """Refuse a file with names that are neither LSTM nor head, unless they may be dropped."""
    if others and extra == "refuse":
        hint = (f"; if one of {listed(heads)} is the head, pass ", Option("head")) if heads else ()
        words = f"holds more than LSTM layers and a head: {listed(others)}. Pass "
        raise ConvertError(words, Option("extra", "drop"), " to leave it behind", *hint)


def _of_arrays(contents: Contents, selection: Selection, cell: Cell | None, merge: str | None) -> Reading:
    """Find the LSTM layers and the head among the named arrays of a file."""
    form, prefix, names, head, _ = selection
    leaves = {name: Leaf(name, value) for name, value in contents.arrays.items()}
    for framework in FRAMEWORKS.values():
        if framework.fold is not None:
            leaves = framework.fold(leaves)
    within = _within(leaves, prefix or "")
    if prefix is not None and not within:
        complaint = f" is {prefix!r}, but no name begins so; there are {listed(leaves)}"
        raise ConvertError(Named("prefix"), complaint)
    row = FRAMEWORKS[_recognised(within) if form is None else form]
    assert row.form is not None
    # An optimizer keeps moments for each weight, under the names of the weights.
    model = {name: leaf for name, leaf in leaves.items() if not re.search(row.form.state, name)}
    within = {name: leaf for name, leaf in within.items() if name in model} or within
    params = _in_stated_order(row.form, within, contents, names)
    remedy = Message("Say by ", Option("prefix"), " which is meant, or the order by ", Option("names"))
    architecture = _architecture(contents, params, remedy, cell, merge)
    heads: Mapping[str, Any] = {}
    chosen, either_side = None, False
    if not isinstance(params, NetworkParams):
        heads = candidates(row, row.form.normal(model))
        if head is not None or contents.head is not None or not architecture.stated:
            name = contents.head if head is None else head
            within = architecture.stated and head is None
            chosen = find_head(heads, params, name, architecture.merge, within=within)
            if name is None and chosen is not None:
                either_side = chosen.outputs == directions(params[0])[0].input_size
                if either_side and row.form.modules and _is_listed_first(chosen.w, leaves, contents.arrays):
                    chosen = None
        if chosen is not None:
            params = NetworkParams(params, dense(row, chosen))
    unused = [name for name, leaf in leaves.items() if not leaf.used]
    state = [name for name in unused if re.search(row.form.state, name) or leaves[name].is_note]
    weights = [name for name in unused if name not in set(state)]
    used = {name: leaf for name, leaf in leaves.items() if leaf.used}
    several = len(names or ()) > 1 and row.form.modules
    either = [f"{chosen.w.name} as the head's, though it fits before the layers, too"] if chosen and either_side else []
    guessed = list(dict.fromkeys(leaf.assumed for leaf in used.values() if leaf.assumed))
    return Reading(
        to_jax(params),
        row.name,
        others=(*(name for weight in weights for name in leaves[weight].names), *contents.settings),
        state=_by_folder(state, leaves),
        heads=() if chosen else tuple(heads),
        not_finite=tuple(_not_finite(used)),
        no_bias=chosen is not None and chosen.b is None,
        architecture=_assumed(architecture, params, row.form.assumed, several, (*either, *guessed)),
        folded=tuple(leaf.words for leaf in used.values() if leaf.words),
    )


def _within(leaves: Mapping[str, Leaf], prefix: str) -> dict[str, Leaf]:
    """Return the arrays whose names begin with a prefix, at the top or else below a single folder."""
    within = {name: leaf for name, leaf in leaves.items() if name.startswith(prefix)}
    if within:
        return within
    below = {name: leaf for name, leaf in leaves.items() if f".{prefix}" in name}
    return below if len({name.partition(f".{prefix}")[0] for name in below}) == 1 else {}


def _in_stated_order(
    form: Form, leaves: Mapping[str, Leaf], contents: Contents, names: Sequence[str] | None
) -> Layers | NetworkParams:
    """Read the layers in the order that the file states, or else in that of `names`."""
    named = form.normal(leaves)
    if not contents.architecture.stated or contents.order is None:
        return form.read(named, names or contents.order, contents.pairs)
    params = form.read(named, contents.order, contents.pairs)
    if names is not None:
        other = form.read(named, names, contents.pairs)
        pairs = zip(jax.tree.leaves(params), jax.tree.leaves(other), strict=True)
        if not all(np.array_equal(a, b) for a, b in pairs):
            raise ConvertError(
                Named("names"),
                f" is {', '.join(names)}, but the file states another order: {', '.join(contents.order)}. Leave ",
                Named("names"),
                " out",
            )
    return params


def _architecture(
    contents: Contents, params: Layers | NetworkParams, remedy: Message, cell: Cell | None, merge: str | None
) -> Architecture:
    """Return how the layers are run: as the file states, or for bare weights as the caller says, or by default."""
    layers = without_head(params)
    stated = contents.architecture
    if stated.stated:
        fault = stated.mismatch(cell, merge, has_pairs(layers))
        if fault is not None:
            raise ConvertError(fault)
        if len(stated.directions) not in (0, len(layers)):
            raise ConvertError(
                f"its description has {len(stated.directions)} recurrent layers, but its weights are of {len(layers)}"
            )
        _check_fit(layers, remedy, (stated.merge,))
        return stated
    _check_cell(layers, cell or VANILLA)
    fits = _check_fit(layers, remedy, ("concat", "sum") if merge is None else (merge,))
    return replace(stated, cell=cell or VANILLA, merge=fits)


def _check_cell(layers: Layers, cell: Cell) -> None:
    """Refuse weights of another cell than this one; the vanilla cell, which is the default, is not looked at."""
    if cell == VANILLA:
        return
    for n, layer in enumerate(layers):
        for part in directions(layer):
            gates, fault = part.w_x.shape[-2], None
            if gates != len(cell.blocks):
                fault = f"has the {len(cell.blocks)} gates {', '.join(cell.blocks)}, but layer {n} has {gates}"
            elif cell.needs_projection and part.w_p is None:
                fault = f"limits a projected h, but layer {n} has no projection w_p"
            for name in BY_CELL:
                present = getattr(part, name) is not None
                if fault is None and present != (name in cell.has):
                    fault = f"has {'no ' if present else ''}{name}, but layer {n} has {'it' if present else 'none'}"
            if fault is not None:
                remedy = ". Pass the cell that the weights were made for, or leave it out"
                raise ConvertError(Named("cell"), f" is {cell.name!r}, which {fault}{remedy}")


def _assumed(
    architecture: Architecture,
    params: Layers | NetworkParams,
    fixed: tuple[str, ...] = (),
    several: bool = False,
    more: Sequence[str] = (),
) -> Architecture:
    """Return the architecture, for bare weights with what was assumed."""
    if architecture.stated:
        return architecture
    headed = isinstance(params, NetworkParams)
    cell, merge = architecture.cell, architecture.merge
    words = assumptions(has_pairs(params), headed, cell, merge, fixed=fixed, several=several)
    return replace(architecture, assumed=(*words, *more))


def _recognised(leaves: Mapping[str, Leaf]) -> str:
    """Return the name of the framework whose names these are, or refuse them."""
    rows = []
    for name in FORMS:
        form = FRAMEWORKS[name].form
        if form is not None and any(re.search(form.mark, array) for array in form.normal(leaves)):
            rows.append(name)
    if not rows:
        raise ConvertError(
            f"there is no LSTM in it by the names of {choice(FORMS)}; it holds {listed(leaves) or 'nothing'}"
            f"{_objects(leaves)}"
        )
    if len(rows) > 1:
        several = f"there are names of {choice(rows)} in it; say which by "
        raise ConvertError(several, Option("form"))
    return rows[0]


def _is_listed_first(leaf: Leaf, leaves: Mapping[str, Leaf], order: Iterable[str]) -> bool:
    """Return whether a file has an array before those of the LSTM, as PyTorch does if its layer was made before.

    False if the names are in alphabetical order, which says nothing of the model.
    """
    order = list(order)
    places = {name: n for n, name in enumerate(order)}

    def place(leaf: Leaf) -> int:
        return min(places[name] for name in leaf.names)

    return order != sorted(order) and place(leaf) < min(place(other) for other in leaves.values() if other.used)


def _by_folder(names: Iterable[str], leaves: Mapping[str, Leaf]) -> tuple[str, ...]:
    """Return names, with a folder in place of all names in it if it contains nothing else."""
    tops = [(name, re.split("[./]", name)[0]) for name in names]
    others = {re.split("[./]", name)[0] for name in leaves.keys() - {name for name, _ in tops}}
    return tuple(dict.fromkeys(name if top in others else top for name, top in tops))


def _objects(leaves: Mapping[str, Leaf]) -> str:
    """Return a sentence that names an object in a file, since the LSTM may be in it, or nothing if there is none."""
    for name, leaf in leaves.items():
        if isinstance(leaf.value, Object):
            return f"; {name} is an object ({leaf.value.kind}), which is not unpickled. {leaf.value.remedy}"
    return ""


def _check_fit(layers: Layers, remedy: Message, merges: Sequence[str]) -> str:
    """Return the first of these merges with which each layer fits the layer below it, or refuse."""
    layers = jax.tree.map(first_of(layers), layers)
    faults = [_misfit(layers, merge) for merge in merges]
    for merge, fault in zip(merges, faults, strict=True):
        if fault is None:
            return merge
    other = "sum" if merges[0] == "concat" else "concat"
    if len(merges) == 1 and has_pairs(layers) and _misfit(layers, other) is None:
        remedy = Message("With ", Option("merge", other), " they do: pass it, here and to stacked or network")
    raise ConvertError(f"{faults[0]}, so they do not stand on top of each other. ", remedy)


def _misfit(layers: Layers, merge: str) -> str | None:
    """Return which layer does not fit the one below it, or None."""
    for n, (below, layer) in enumerate(pairwise(layers), start=1):
        widths = {part.output_size for part in directions(below)}
        if merge == "sum" and len(widths) > 1:
            return (
                f"merge is 'sum', but the directions of layer {n - 1} give {listed(map(str, sorted(widths)))} numbers"
            )
        width = merged_width(below, merge)
        for part in directions(layer):
            if part.input_size != width:
                return f"layer {n} takes {part.input_size} numbers, but layer {n - 1} gives {width}"
    return None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the name of the file to a `ConvertError`."""
    try:
        yield
    except ConvertError as error:
        raise ConvertError(message_of(error, f"{path}: ")) from None


def listed(words: Iterable[str], most: int = 8) -> str:
    """Return the first of these words as a list in a sentence, and how many more there are."""
    words = list(words)
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def choice(words: Iterable[str]) -> str:
    """Return words as a choice: a, b or c."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
