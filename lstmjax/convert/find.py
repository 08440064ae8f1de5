"""What is in a file: which form its arrays have, which of them are LSTM and head, and what is left over."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lstmjax import checks
from lstmjax.cells import VANILLA, Cell
from lstmjax.convert.architecture import Architecture, assumptions
from lstmjax.convert.containers import Container, container_of, open_file
from lstmjax.convert.forms import FORMS, Form
from lstmjax.convert.heads import candidates, dense, find_head
from lstmjax.convert.layouts import ConvertError, to_jax
from lstmjax.convert.names import Contents, Leaf
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
    no_bias: bool = False  # the head had none, and has one of zeros
    architecture: Architecture = Architecture()  # how the source says that the weights are run


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
    checks.one_of("extra", extra, ("refuse", "drop"))
    checks.one_of("merge", merge, (None, "concat", "sum"))
    row = None if cell is None else find_cell(cell)
    checks.one_of("form", form, (None, *FORMS))
    container = container or container_of(path)
    contents = open_file(path, container)
    with _naming(path):
        described = contents.architecture.stated or contents.params is not None
        if described and contents.settings and extra == "refuse":
            # Before the weights are read: a layer that is no LSTM is named, and not its shapes.
            raise ConvertError(_more(contents.settings))
        if contents.params is None:
            found = _of_arrays(contents, form, prefix, names, head, row, merge)
        else:
            for name, value in {"form": form, "prefix": prefix, "names": names, "head": head}.items():
                if value is not None:
                    raise ConvertError(f"{name} is said, but a {container.words} has no named arrays to choose from")
            remedy = "In an ONNX model read_onnx gives each of them"
            architecture = _architecture(contents, contents.params, remedy, row, merge)
            architecture = _assumed(architecture, contents.params)
            found = Found(
                contents.params, (*container.forms, container.words)[0], contents.settings, architecture=architecture
            )
        if found.left and extra == "refuse":
            raise ConvertError(_more(found.left, found.heads))
    return found


def _more(left: Sequence[str], heads: Sequence[str] = ()) -> str:
    """Return the refusal of what is neither LSTM nor head."""
    could = f"; if one of {listed(heads)} is the head, pass head=" if heads else ""
    return f"holds more than LSTM layers and a head: {listed(left)}. Pass extra='drop' to leave it behind{could}"


def _of_arrays(
    contents: Contents,
    form: str | None,
    prefix: str | None,
    names: Sequence[str] | None,
    head: str | None,
    cell: Cell | None,
    merge: str | None,
) -> Found:
    leaves = {name: Leaf(name, value) for name, value in contents.arrays.items()}
    within = {name: leaf for name, leaf in leaves.items() if name.startswith(prefix or "")}
    if prefix is not None and not within:
        raise ConvertError(f"prefix is {prefix!r}, but no name begins so; there are {listed(leaves)}")
    row = _recognised(within) if form is None else FORMS[form]
    params = _in_stated_order(row, within, contents, names)
    remedy = "Say by prefix= which is meant, or the order by names="
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
    left = *(name for name in rest if name not in set(state)), *contents.settings
    no_bias = chosen is not None and chosen.b is None
    return Found(
        to_jax(params), row.name, left, state, () if chosen else tuple(others), no_bias, _assumed(architecture, params)
    )


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
                f"names is {', '.join(names)}, but the file states another order: {', '.join(contents.order)}. Leave "
                "names out"
            )
    return params


def _architecture(
    contents: Contents, params: Layers | NetworkParams, remedy: str, cell: Cell | None, merge: str | None
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


def _assumed(architecture: Architecture, params: Layers | NetworkParams) -> Architecture:
    """Return the architecture of bare weights with what was assumed."""
    if architecture.stated:
        return architecture
    headed = isinstance(params, NetworkParams)
    words = assumptions(has_pairs(params), headed, architecture.cell, architecture.merge)
    return replace(architecture, assumed=words)


def _recognised(leaves: Mapping[str, Leaf]) -> Form:
    """Gives the form whose names these are."""
    rows = [row for row in FORMS.values() if any(re.search(row.mark, name) for name in row.normal(leaves))]
    if not rows:
        raise ConvertError(
            f"there is no LSTM in it by the names of {choice(FORMS)}; it holds {listed(leaves) or 'nothing'}"
        )
    if len(rows) > 1:
        raise ConvertError(f"there are names of {choice([row.name for row in rows])} in it; say which by form=")
    return rows[0]


def _check_fit(layers: Layers, remedy: str, merges: Sequence[str]) -> str:
    """Return the first of these merges with which the layers can stand on top of each other, or refuse."""
    faults = [_misfit(layers, merge) for merge in merges]
    for merge, fault in zip(merges, faults, strict=True):
        if fault is None:
            return merge
    other = "sum" if merges[0] == "concat" else "concat"
    if len(merges) == 1 and has_pairs(layers) and _misfit(layers, other) is None:
        remedy = f"With merge={other!r} they do: pass it, here and to stacked or network"
    raise ConvertError(f"{faults[0]}, so they do not stand on top of each other. {remedy}")


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
        raise ConvertError(f"{path}: {error}") from None


def listed(words: Iterable[str]) -> str:
    """Gives the first of these words, and how many more there are."""
    words = list(words)
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")


def choice(words: Iterable[str]) -> str:
    """Gives words as a choice: a, b or c."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
