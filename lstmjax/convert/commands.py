"""What `lstmjax convert` does, as a function that gives lines of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import jax

from lstmjax.convert.carry import check_runs, notes
from lstmjax.convert.find import Found, find, has_pairs, listed
from lstmjax.convert.layouts import LAYOUTS, ConvertError, Layout
from lstmjax.convert.own import first_of
from lstmjax.convert.weights import place_for, write_as
from lstmjax.errors import message_of
from lstmjax.networks import NetworkParams
from lstmjax.stack import directions
from lstmjax.types import Bidirectional, LSTMParams, leading_axes

ADDED = "f's bias is rounded: {} adds 1 to it at run time, and does not store that"
WRITTEN: tuple[tuple[Callable[[Layout, LSTMParams], Any], str], ...] = (
    (
        lambda row, part: row.biases == 2 and (part.b is None) != (part.b_h is None),
        "one bias became two, one of them zeros: the same outputs, but in training their sum learns twice as fast",
    ),
    (lambda row, part: row.biases == 1 and part.b is not None and part.b_h is not None, "b and b_h were added up"),
    (lambda row, part: row.always and part.b is None and part.b_h is None, "no bias became one of zeros"),
    (lambda row, part: row.added, ADDED),
)
"""What writing changes: when, and in which words."""
FIELDS = {
    "w_c": "peepholes",
    "w_r": "gates fed back",
    "norm": "layer normalisation",
    "gain": "layer normalisation of each gate",
    "b_p": "bias of the projection",
}
BIASES = ("no bias", "one bias", "two biases")


def convert_file(
    source: str | Path,
    target: str | Path,
    *,
    form: str | None = None,
    target_form: str | None = None,
    prefix: str | None = None,
    names: Sequence[str] | None = None,
    head: str | None = None,
    sum_biases: bool = False,
    extra: str = "refuse",
    cell: str | None = None,
    merge: str | None = None,
) -> Iterator[str]:
    """Yield, line by line, what was carried from one file to another: layers, head, and what is not bit by bit.

    An ONNX file computes what the source describes: its cell, its merge, an output per step or the last one. Other
    files hold weights alone: what their reader must say is a line, and what it cannot say is refused.

    Args:
        source, form, prefix, names, head, extra, cell, merge: as for `load_model`.
        target, target_form, sum_biases: as for `save_weights`.

    Raises:
        ConvertError: what cannot be read, would be lost, or cannot be run where it is written for.
    """
    source, target = Path(source), Path(target)
    container, target_form = place_for(target, target_form)
    if target.exists() and source.exists() and target.samefile(source):
        raise ConvertError(f"{target}: is the file that is read; give another one")
    with jax.enable_x64(True):  # float64 stays what it is
        found = find(source, form=form, prefix=prefix, names=names, head=head, extra=extra, cell=cell, merge=merge)
        pairs, row = has_pairs(found.params), found.architecture
        try:
            check_runs(row, target_form, pairs)
        except ConvertError as error:
            raise ConvertError(message_of(error, f"{target}: ")) from None
        write_as(container, target_form, found.params, target, sum_biases=sum_biases, architecture=row)
    params = found.params
    layers = params.layers if isinstance(params, NetworkParams) else params
    yield f"{source}: {found.form}"
    if axes := leading_axes(layers):
        yield f"an ensemble of {prod(axes)} networks, each:"
    layers, head = jax.tree.map(first_of(layers), (layers, getattr(params, "head", None)))
    for n, layer in enumerate(layers):
        yield f"layer {n}: {describe(layer)}"
    if head is not None:
        yield f"head: {head.w.shape[0]} → {head.w.shape[1]}, {head.w.dtype}"
    yield f"parameters {sum(leaf.size for leaf in jax.tree.leaves(params))}"
    yield f"{target}: {target_form}"
    yield from _changes(found, target_form)
    yield from notes(row, target_form, pairs)


def describe(layer: LSTMParams | Bidirectional) -> str:
    """Gives a layer in a line: sizes, directions, biases, dtype.

    >>> import jax.numpy as jnp
    >>> describe(LSTMParams(jnp.ones((5, 4, 8)), jnp.ones((8, 4, 8)), jnp.ones((4, 8))))
    '5 → 8, one bias, float32'
    """
    parts = directions(layer)
    part = parts[0]
    words = [f"{part.input_size} → {' + '.join(str(each.output_size) for each in parts)}"]
    words += ["both directions"] * (len(parts) == 2)
    words += [f"{part.hidden_size} units"] * (part.w_p is not None)
    words += [BIASES[(part.b is not None) + (part.b_h is not None)]]
    words += [word for name, word in FIELDS.items() if getattr(part, name) is not None]
    return ", ".join([*words, str(part.w_x.dtype)])


def _changes(found: Found, form: str) -> Iterator[str]:
    """Gives what is not the same bit by bit, and what stayed behind."""
    read, written = LAYOUTS.get(found.form), LAYOUTS.get(form)
    layers = found.params.layers if isinstance(found.params, NetworkParams) else found.params
    said = [ADDED.format(read.name)] if read is not None and read.added else []
    said += ["the head had no bias, and has one of zeros"] if found.no_bias else []
    if written is not None:
        parts = [part for layer in layers for part in directions(layer)]
        said += [words.format(written.name) for when, words in WRITTEN if any(when(written, part) for part in parts)]
    yield from (f"not bit by bit: {words}" for words in dict.fromkeys(said))
    yield from (f"computed: {words}" for words in found.folded)
    yield from (f"left behind: {name}" for name in found.left)
    if found.state:
        yield f"left behind, as no weights: {listed(found.state, 20)}"
