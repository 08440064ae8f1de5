"""What is in a file: which form its arrays have, which of them are LSTM and head, and what is left over."""

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
from lstmjax.convert.architecture import Architecture, assumptions
from lstmjax.convert.containers import RUN, Container, container_of, open_file
from lstmjax.convert.folds import Folded, fold, names_in_file
from lstmjax.convert.forms import FORMS, Form
from lstmjax.convert.heads import candidates, dense, find_head
from lstmjax.convert.layouts import ConvertError, to_jax
from lstmjax.convert.names import Contents, Leaf, Object
from lstmjax.convert.own import first_of, named
from lstmjax.errors import Message, Named, Option, message_of
from lstmjax.networks import NetworkParams
from lstmjax.published import find_cell
from lstmjax.stack import Layers, directions
from lstmjax.types import Bidirectional


class Found(NamedTuple):
    """What was read from a file."""

    params: Layers | NetworkParams
    form: str  # whose names the arrays have
    left: tuple[str, ...]  # what is neither LSTM nor head
    state: tuple[str, ...] = ()  # of optimizers and of random numbers, and notes such as the epoch
    heads: tuple[str, ...] = ()  # Dense layers, where none is the head for sure
    not_finite: tuple[str, ...] = ()  # arrays with NaN or infinity
    no_bias: bool = False  # the head had none, and has one of zeros
    architecture: Architecture = Architecture()  # how the source says that the weights are run
    folded: tuple[str, ...] = ()  # weights that were computed from what the file keeps in their place


def find(
    path: str | Path,
    *,
    container: Container | None = None,
    form: str | None = None,
    prefix: str | None = None,
    names: Sequence[str] | None = None,
    head: str | None = None,
    extra: str = "refuse",
    cell: Cell | str | None = None,
    merge: str | None = None,
) -> Found:
    """Read what `load_weights` gives, what stayed behind, and how the file says that it is run.

    Args:
        container: read it as that kind of file, whatever its name.
        cell, merge: how bare weights are run, which do not say; None: by the vanilla cell, and by the merge with which
            the layers fit each other. A file that states another one is refused.
    """
    path = Path(path)
    one_of("extra", extra, ("refuse", "drop"))
    one_of("merge", merge, (None, "concat", "sum"))
    row = None if cell is None else find_cell(cell)
    one_of("form", form, (None, *FORMS))
    container = container or container_of(path)
    contents = open_file(path, container)
    with _naming(path):
        if contents.architecture.stated or contents.params is not None:
            # Before the weights are read: a layer that is no LSTM is named, and not its shapes.
            _check_left(contents.settings, (), extra)
        if contents.params is None:
            found = _of_arrays(contents, form, prefix, names, head, row, merge)
        else:
            for name, value in {"form": form, "prefix": prefix, "names": names, "head": head}.items():
                if value is not None:
                    beside = f" is said, but a {container.words} has no named arrays to choose from"
                    raise ConvertError(Message(Named(name), beside))
            remedy = Message("In an ONNX model read_onnx gives each of them")
            architecture = _architecture(contents, contents.params, remedy, row, merge)
            architecture = _assumed(architecture, contents.params)
            name = (*container.forms, container.words)[0]
            bad = () if container is RUN else tuple(_not_finite(named(contents.params)))  # a run says it itself
            found = Found(contents.params, name, contents.settings, not_finite=bad, architecture=architecture)
        _check_left(found.left, found.heads, extra)
    if found.not_finite:
        warnings.warn(
            f"{path}: NaN or infinity in {listed(found.not_finite)}; is the file damaged, or did training diverge?",
            stacklevel=2,
        )
    return found


def _not_finite(arrays: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of arrays with NaN or infinity, and how many numbers are."""
    for name, array in arrays.items():
        values = np.asarray(array)
        count = int((~np.isfinite(values.astype(np.float32) if values.dtype.itemsize < 4 else values)).sum())
        if count:
            yield f"{name} ({count} of {values.size} numbers)"


def _check_left(left: Sequence[str], heads: Sequence[str], extra: str) -> None:
    """Refuse what would stay behind."""
    if left and extra == "refuse":
        could = (f"; if one of {listed(heads)} is the head, pass ", Option("head")) if heads else ()
        words = f"holds more than LSTM layers and a head: {listed(left)}. Pass "
        raise ConvertError(Message(words, Option("extra", "drop"), " to leave it behind", *could))


def _of_arrays(
    contents: Contents,
    form: str | None,
    prefix: str | None,
    names: Sequence[str] | None,
    head: str | None,
    cell: Cell | None,
    merge: str | None,
) -> Found:
    leaves = fold({name: Leaf(name, value) for name, value in contents.arrays.items()})
    within = _within(leaves, prefix or "")
    if prefix is not None and not within:
        beside = f" is {prefix!r}, but no name begins so; there are {listed(leaves)}"
        raise ConvertError(Message(Named("prefix"), beside))
    row = _recognised(within) if form is None else FORMS[form]
    params = _in_stated_order(row, within, contents, names)
    remedy = Message("Say by ", Option("prefix"), " which is meant, or the order by ", Option("names"))
    architecture = _architecture(contents, params, remedy, cell, merge)
    others: Mapping[str, Any] = {}
    chosen = None
    if not isinstance(params, NetworkParams):
        others = candidates(row, row.normal(leaves))
        stated = architecture.stated
        if head is not None or contents.head is not None or not stated:
            name = contents.head if head is None else head
            chosen = find_head(others, params, name, architecture.merge, within=stated and head is None)
        params = params if chosen is None else NetworkParams(params, dense(row, chosen))
    rest = [name for name, leaf in leaves.items() if not leaf.used]
    state = tuple(name for name in rest if re.search(row.state, name) or leaves[name].is_note)
    weights = [leaves[name] for name in rest if name not in set(state)]
    state = _by_folder(state, leaves)
    left = *(name for leaf in weights for name in names_in_file(leaf)), *contents.settings
    no_bias = chosen is not None and chosen.b is None
    folded = tuple(leaf.words for leaf in leaves.values() if isinstance(leaf, Folded) and leaf.used)
    heads = () if chosen else tuple(others)
    several = len(names or ()) > 1 and row.name == "torch"
    stated = _assumed(architecture, params, row.name, several)
    bad = tuple(_not_finite({name: leaf for name, leaf in leaves.items() if leaf.used}))
    return Found(to_jax(params), row.name, left, state, heads, bad, no_bias, stated, folded)


def _within(leaves: Mapping[str, Leaf], prefix: str) -> dict[str, Leaf]:
    """Return the arrays whose names begin with a prefix, or else, if they all agree, begin so below one folder."""
    within = {name: leaf for name, leaf in leaves.items() if name.startswith(prefix)}
    if within:
        return within
    below = {name: leaf for name, leaf in leaves.items() if f".{prefix}" in name}
    return below if len({name.partition(f".{prefix}")[0] for name in below}) == 1 else {}


def _in_stated_order(
    row: Form, leaves: Mapping[str, Leaf], contents: Contents, names: Sequence[str] | None
) -> Layers | NetworkParams:
    """Read the layers, in the order that the file states; of one that states none as `names` says."""
    named = row.normal(leaves)
    if not contents.architecture.stated or contents.order is None:
        return row.read(named, names or contents.order)
    params = row.read(named, contents.order)
    if names is not None:
        other = row.read(named, names)
        pairs = zip(jax.tree.leaves(params), jax.tree.leaves(other), strict=True)
        if not all(np.array_equal(a, b) for a, b in pairs):
            raise ConvertError(
                Message(
                    Named("names"),
                    f" is {', '.join(names)}, but the file states another order: {', '.join(contents.order)}. Leave ",
                    Named("names"),
                    " out",
                )
            )
    return params


def _architecture(
    contents: Contents, params: Layers | NetworkParams, remedy: Message, cell: Cell | None, merge: str | None
) -> Architecture:
    """Return how the file says that these layers are run; of bare weights what the caller says, or is assumed."""
    layers = params.layers if isinstance(params, NetworkParams) else params
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
    fits = _check_fit(layers, remedy, ("concat", "sum") if merge is None else (merge,))
    return replace(stated, cell=cell or VANILLA, merge=fits)


def _assumed(
    architecture: Architecture, params: Layers | NetworkParams, form: str = "", several: bool = False
) -> Architecture:
    """Return the architecture of bare weights with what was assumed."""
    if architecture.stated:
        return architecture
    headed = isinstance(params, NetworkParams)
    cell, merge = architecture.cell, architecture.merge
    words = assumptions(has_pairs(params), headed, cell, merge, form=form, several=several)
    return replace(architecture, assumed=words)


def _recognised(leaves: Mapping[str, Leaf]) -> Form:
    """Gives the form whose names these are."""
    rows = [row for row in FORMS.values() if any(re.search(row.mark, name) for name in row.normal(leaves))]
    if not rows:
        raise ConvertError(
            f"there is no LSTM in it by the names of {choice(FORMS)}; it holds {listed(leaves) or 'nothing'}"
            f"{_objects(leaves)}"
        )
    if len(rows) > 1:
        several = f"there are names of {choice([row.name for row in rows])} in it; say which by "
        raise ConvertError(Message(several, Option("form")))
    return rows[0]


def _by_folder(names: Iterable[str], leaves: Mapping[str, Leaf]) -> tuple[str, ...]:
    """Return names, those of one folder at the top as its name alone if nothing else stands in it."""
    tops = [(name, re.split("[./]", name)[0]) for name in names]
    others = {re.split("[./]", name)[0] for name in leaves.keys() - {name for name, _ in tops}}
    return tuple(dict.fromkeys(name if top in others else top for name, top in tops))


def _objects(leaves: Mapping[str, Leaf]) -> str:
    """Name the objects in a file, in one of which the LSTM may be, and say what to do; empty if there are none."""
    for name, leaf in leaves.items():
        if isinstance(leaf.value, Object):
            return f"; {name} is an object ({leaf.value.kind}), which is not unpickled. {leaf.value.remedy}"
    return ""


def _check_fit(layers: Layers, remedy: Message, merges: Sequence[str]) -> str:
    """Return the first of these merges with which the layers can stand on top of each other, or refuse."""
    layers = jax.tree.map(first_of(layers), layers)
    faults = [_misfit(layers, merge) for merge in merges]
    for merge, fault in zip(merges, faults, strict=True):
        if fault is None:
            return merge
    other = "sum" if merges[0] == "concat" else "concat"
    if len(merges) == 1 and has_pairs(layers) and _misfit(layers, other) is None:
        remedy = Message("With ", Option("merge", other), " they do: pass it, here and to stacked or network")
    raise ConvertError(Message(f"{faults[0]}, so they do not stand on top of each other. ", remedy))


def _misfit(layers: Layers, merge: str) -> str | None:
    """Return which layer does not fit the one below it, or None."""
    for n, (below, layer) in enumerate(pairwise(layers), start=1):
        widths = {part.output_size for part in directions(below)}
        if merge == "sum" and len(widths) > 1:
            return (
                f"merge is 'sum', but the directions of layer {n - 1} give {listed(map(str, sorted(widths)))} numbers"
            )
        gives = width_of(below, merge)
        for part in directions(layer):
            if part.input_size != gives:
                return f"layer {n} takes {part.input_size} numbers, but layer {n - 1} gives {gives}"
    return None


def width_of(layer: Any, merge: str) -> int:
    """Return how many numbers a layer gives."""
    widths = [part.output_size for part in directions(layer)]
    return sum(widths) if merge == "concat" else widths[0]


def has_pairs(params: Layers | NetworkParams) -> bool:
    """Return whether there is a layer of two directions."""
    layers = params.layers if isinstance(params, NetworkParams) else params
    return any(isinstance(layer, Bidirectional) for layer in layers)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Puts the file's name before what is wrong with it."""
    try:
        yield
    except ConvertError as error:
        raise ConvertError(message_of(error, f"{path}: ")) from None


def listed(words: Iterable[str], most: int = 8) -> str:
    """Return the first of these words, and how many more there are."""
    words = list(words)
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def choice(words: Iterable[str]) -> str:
    """Gives words as a choice: a, b or c."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
