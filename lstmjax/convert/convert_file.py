"""The command `lstmjax convert`, as a function that yields lines of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any, Unpack

import jax

from lstmjax.cells import VANILLA, identity
from lstmjax.claims import counted
from lstmjax.convert.find import Reading, find, listed
from lstmjax.convert.options import ReadOptions, Selection, selected
from lstmjax.convert.weights import place_for, write_as
from lstmjax.errors import message_of
from lstmjax.frameworks import FRAMEWORKS, LAYOUTS
from lstmjax.frameworks.base.architecture import LOGITS, Architecture, called, same_cell
from lstmjax.frameworks.base.layouts import ConvertError, Layout, has_pairs, without_head
from lstmjax.frameworks.ours import first_of
from lstmjax.keywords import takes
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
"""What writing changes: a condition on the layout and the parameters, and words for it."""
FIELDS = {
    "w_c": "peepholes",
    "w_r": "gates fed back",
    "norm": "layer normalisation",
    "gain": "layer normalisation of each gate",
    "b_p": "bias of the projection",
}
BIASES = ("no bias", "one bias", "two biases")


@takes(ReadOptions, Selection, find)
def convert_file(
    source: str | Path,
    target: str | Path,
    *,
    target_form: str | None = None,
    sum_biases: bool = False,
    **options: Unpack[ReadOptions],
) -> Iterator[str]:
    """Convert a file to another kind, and yield lines on its layers, its head, and what is not bit by bit the same.

    An ONNX file computes what the source describes: its cell, its merge, outputs of every step or of the last one.
    Other files hold weights alone: a line says what their reader must know, and what no reader can say is refused.

    Args:
        source, form, prefix, names, head, extra, cell, merge: as for `load_model`.
        target, target_form, sum_biases: as for `save_weights`.

    Raises:
        ConvertError: the source cannot be read, something would be lost, or the framework of the target cannot run it.
    """
    source, target = Path(source), Path(target)
    container, target_form = place_for(target, target_form)
    if target.exists() and source.exists() and target.samefile(source):
        raise ConvertError(f"{target}: is the file that is read; give another one")
    with jax.enable_x64(True):  # float64 is not rounded
        contents = find(source, selected(options), cell=options["cell"], merge=options["merge"])
        params, architecture = contents.params, contents.architecture
        pairs = has_pairs(params)
        try:
            _check_runs(architecture, target_form, pairs)
        except ConvertError as error:
            raise ConvertError(message_of(error, f"{target}: ")) from None
        write_as(container, target_form, params, target, sum_biases=sum_biases, architecture=architecture)
    layers = without_head(params)
    yield f"{source}: {contents.form}"
    if axes := leading_axes(layers):
        yield f"an ensemble of {prod(axes)} networks, each:"
    layers, head = jax.tree.map(first_of(layers), (layers, getattr(params, "head", None)))
    for n, layer in enumerate(layers):
        yield f"layer {n}: {describe(layer)}"
    if head is not None:
        yield f"head: {head.w.shape[0]} → {head.w.shape[1]}, {head.w.dtype}"
    yield f"parameters {sum(leaf.size for leaf in jax.tree.leaves(params))}"
    yield f"{target}: {target_form}"
    yield from _changes(contents, target_form)
    yield from _notes(architecture, target_form, pairs)


def describe(layer: LSTMParams | Bidirectional) -> str:
    """Return a line on a layer: its sizes, directions, biases and dtype.

    >>> import jax.numpy as jnp
    >>> describe(LSTMParams(jnp.ones((5, 4, 8)), jnp.ones((8, 4, 8)), jnp.ones((4, 8))))
    '5 → 8, one bias, float32'
    """
    parts = directions(layer)
    part = parts[0]
    words = [f"{part.input_size} → {' + '.join(str(each.output_size) for each in parts)}"]
    if len(parts) == 2:
        words.append("both directions")
    if part.w_p is not None:
        words.append(counted(part.hidden_size, "unit"))
    words.append(BIASES[(part.b is not None) + (part.b_h is not None)])
    words += [word for name, word in FIELDS.items() if getattr(part, name) is not None]
    return ", ".join([*words, str(part.w_x.dtype)])


def _changes(contents: Reading, form: str) -> Iterator[str]:
    """Yield lines on what is not bit by bit the same, and on what was left out."""
    read, written = LAYOUTS.get(contents.form), LAYOUTS.get(form)
    changes = []
    if read is not None and read.added:
        changes.append(ADDED.format(read.name))
    if contents.no_bias:
        changes.append("the head had no bias, and has one of zeros")
    if written is not None:
        parts = [part for layer in without_head(contents.params) for part in directions(layer)]
        for applies, words in WRITTEN:
            if any(applies(written, part) for part in parts):
                changes.append(words.format(written.name))
    yield from (f"not bit by bit: {words}" for words in dict.fromkeys(changes))
    yield from (f"computed: {words}" for words in contents.folded)
    yield from (f"left behind: {name}" for name in contents.others)
    if contents.state:
        yield f"left behind, as no weights: {listed(contents.state, 20)}"


def _settings(architecture: Architecture, pairs: bool) -> Iterator[tuple[str, str]]:
    """Yield how a model differs from a plain stack of vanilla layers: one of `SETTINGS`, and words for it."""
    if not same_cell(architecture.cell, VANILLA):
        yield "cell", f"the cell {architecture.cell.name!r}"
    if pairs and architecture.merge != "concat":
        yield "merge", f"the two directions joined by {architecture.merge!r}"
    for n, direction in enumerate(architecture.directions):
        if direction != "forward":
            yield "direction", f"layer {n} running backwards"
    if architecture.mask_value is not None:
        yield "mask", f"steps left out whose features are all {architecture.mask_value}"
    if architecture.readout is not identity:
        yield "readout", f"{called(architecture.readout)} after the head"


def _check_runs(architecture: Architecture, form: str, pairs: bool) -> None:
    """Refuse a model that the framework of a form cannot run, with any options.

    Raises:
        ConvertError: it names what the framework cannot do.
    """
    row = FRAMEWORKS[form]
    for kind, words in _settings(architecture, pairs):
        after_logits = kind == "readout" and architecture.readout in LOGITS  # which the user can apply to the outputs
        if kind not in row.runs and not after_logits:
            title = row.title or f"an LSTM of {form}"
            raise ConvertError(
                f"the model has {words}, and {title} has not. Run it by load_model, or write a form that has: "
                f"{', '.join(name for name, other in FRAMEWORKS.items() if kind in other.runs)}"
            )


def _notes(architecture: Architecture, form: str, pairs: bool) -> Iterator[str]:
    """Yield lines on what the new file does not state: what was assumed, and what its reader must know."""
    if architecture.assumed:
        yield f"assumed, since the file holds weights alone: {', '.join(architecture.assumed)}"
    if FRAMEWORKS[form].form is None:  # such a file holds a model, and states all of it
        return
    words = [words for _, words in _settings(architecture, pairs)]
    if architecture.return_sequences is not None:
        words.append("outputs of every step" if architecture.return_sequences else "outputs of the last step")
    if words:
        yield f"not in the new file, which holds weights alone; say it where they are loaded: {', '.join(words)}"
