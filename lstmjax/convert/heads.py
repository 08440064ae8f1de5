"""Find the Dense head among the arrays of a model, if it cannot be another layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lstmjax.errors import Named, Option
from lstmjax.frameworks.base.contents import Leaf
from lstmjax.frameworks.base.framework import Framework, Leaves
from lstmjax.frameworks.base.layouts import ConvertError
from lstmjax.layered import merged_width
from lstmjax.networks import Dense
from lstmjax.stack import Layers, directions


class Candidate(NamedTuple):
    """A Dense layer in a file, from `inputs` to `outputs` features."""

    inputs: int
    outputs: int
    w: Leaf
    b: Leaf | None


def candidates(row: Framework, leaves: Leaves) -> dict[str, Candidate]:
    """Return the Dense layers by their names: each matrix that no LSTM has read, and its bias."""
    heads: dict[str, Candidate] = {}
    if row.form is None or row.form.dense is None:
        return heads
    weight, bias = row.form.dense
    for name, w in leaves.items():
        match = re.fullmatch(rf"(.*[/.]|){weight}", name, re.DOTALL)
        if match is None or w.used or w.shape is None or len(w.shape) != 2:
            continue
        inputs, outputs = reversed(w.shape) if row.layout and row.layout.rows else w.shape
        b = leaves.get(match[1] + bias)
        if b is not None and b.shape != (outputs,):
            b = None
        heads[match[1].rstrip("/.")] = Candidate(inputs, outputs, w, b)
    return heads


def find_head(
    heads: Mapping[str, Candidate], layers: Layers, name: str | None, merge: str = "concat", within: bool = False
) -> Candidate | None:
    """Return the Dense layer that is the head, or None if that is not sure.

    Args:
        heads: all Dense layers by their names.
        layers: those of the LSTM.
        name: the name of the head, or its end; None: the head is the only Dense layer with a bias that fits the
            outputs of the last LSTM layer, and that no other Dense layer can follow.
        merge: how the directions of the last layer are joined, on which the width of its outputs depends.
        within: `name` is the beginning of the head's name, or a part of it, as in a file that describes its model.

    Raises:
        ConvertError: there is no such Dense layer, or it has another number of inputs.
    """
    width = merged_width(layers[-1], merge)
    if name is None:
        return _only_head(heads, width, directions(layers[0])[0].input_size)
    matches = [head for other, head in heads.items() if _is_called(other, name, within)]
    if len(matches) != 1:
        complaint = f" is {name!r}, but the Dense layers in it are {', '.join(heads) or 'none'}"
        raise ConvertError(Named("head"), complaint)
    inputs = matches[0].inputs
    if inputs != width:
        other_merge = "sum" if merge == "concat" else "concat"
        fits = inputs == merged_width(layers[-1], other_merge)
        remedy = (". With ", Option("merge", other_merge), " it fits") if fits else ()
        raise ConvertError(f"{name} takes {inputs} numbers, but the last layer gives {width}", *remedy)
    return matches[0]


def _only_head(heads: Mapping[str, Candidate], width: int, input_size: int) -> Candidate | None:
    """Return the only Dense layer that can be the head of layers with inputs and outputs of these widths, or None."""
    fits = [head for head in heads.values() if head.inputs == width and head.b is not None]
    if len(fits) != 1:
        return None
    head = fits[0]
    for other in heads.values():
        # A layer whose outputs are as wide as the LSTM's inputs may be before the LSTM, and need not follow the head.
        if other is not head and other.inputs == head.outputs and other.outputs != input_size:
            return None
    return head


def _is_called(name: str, label: str, within: bool) -> bool:
    """Return whether a Dense layer has this name."""
    if not within:
        return f"/{name}".endswith((f"/{label}", f".{label}"))
    if "/" in label:
        return f"/{name}/".startswith(f"/{label}/")
    return f"/{label}/" in f"/{name}/"


def dense(row: Framework, head: Candidate) -> Dense:
    """Return the head, of NumPy arrays; without a bias in the file its bias is zeros."""
    w = np.asarray(head.w)
    if row.layout and row.layout.rows:
        w = np.ascontiguousarray(w.T)
    b: Any = np.zeros(head.outputs, w.dtype) if head.b is None else np.asarray(head.b)
    return Dense(w, b)  # type: ignore[arg-type]
