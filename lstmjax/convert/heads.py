"""The Dense head among the arrays of a whole model: taken only where it cannot be another layer."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from lstmjax.convert.forms import Form, Leaves
from lstmjax.convert.layouts import ConvertError
from lstmjax.convert.names import Leaf
from lstmjax.networks import Dense
from lstmjax.stack import Layers, directions


class Candidate(NamedTuple):
    """A Dense layer in a file: it takes `inputs` numbers and gives `outputs`."""

    inputs: int
    outputs: int
    w: Leaf
    b: Leaf | None


def candidates(form: Form, leaves: Leaves) -> dict[str, Candidate]:
    """Gives the Dense layers by their names: a matrix that no LSTM has read, and its bias."""
    found: dict[str, Candidate] = {}
    if form.dense is None:
        return found
    for name, w in leaves.items():
        whole = re.fullmatch(rf"(.*[/.]|){form.dense[0]}", name, re.DOTALL)
        if whole is None or w.used or w.shape is None or len(w.shape) != 2:
            continue
        inputs, outputs = reversed(w.shape) if form.layout and form.layout.rows else w.shape
        b = leaves.get(whole[1] + form.dense[1])
        found[whole[1].rstrip("/.")] = Candidate(inputs, outputs, w, b if b and b.shape == (outputs,) else None)
    return found


def find_head(
    found: dict[str, Candidate], layers: Layers, said: str | None, merge: str = "concat", within: bool = False
) -> Candidate | None:
    """Return the Dense layer that is the head, or None if that is not sure.

    Args:
        found: all Dense layers.
        layers: the LSTM's.
        said: the head's name, or the end of it; None: the only one with a bias that takes what the last
            layer gives, and that no other one can follow.
        merge: how the directions of the last layer are joined, which says how many numbers it gives.
        within: `said` is a part of the head's name, or its beginning, as a file that describes its model has it.

    Raises:
        ConvertError: there is no such Dense layer, or it takes something else.
    """
    last, first = directions(layers[-1]), directions(layers[0])[0].input_size
    widths = [part.output_size for part in last]
    width = sum(widths) if merge == "concat" else widths[0]
    if said is None:
        fits = [one for one in found.values() if one.inputs == width and one.b is not None]
        # One that gives what the LSTM takes may stand before it; another one after the first makes that no head.
        behind = [one for one in found.values() if fits and one.inputs == fits[0].outputs and one.outputs != first]
        return fits[0] if len(fits) == 1 and not [one for one in behind if one is not fits[0]] else None
    hits = [one for name, one in found.items() if _is_called(name, said, within)]
    if len(hits) != 1:
        raise ConvertError(f"head is {said!r}, but the Dense layers in it are {', '.join(found) or 'none'}")
    if hits[0].inputs != width:
        other = "sum" if merge == "concat" else "concat"
        remedy = f". With merge={other!r} it fits" if hits[0].inputs in (sum(widths), widths[0]) else ""
        raise ConvertError(f"{said} takes {hits[0].inputs} numbers, but the last layer gives {width}{remedy}")
    return hits[0]


def _is_called(name: str, said: str, within: bool) -> bool:
    """Return whether a Dense layer is the one that is meant."""
    if within:
        return f"/{name}/".startswith(f"/{said}/") if "/" in said else f"/{said}/" in f"/{name}/"
    return f"/{name}".endswith((f"/{said}", f".{said}"))


def dense(form: Form, head: Candidate) -> Dense:
    """Gives the head of NumPy arrays; a bias that is not there becomes one of zeros."""
    w = np.asarray(head.w)
    w = np.ascontiguousarray(w.T) if form.layout and form.layout.rows else w
    return Dense(w, np.zeros(head.outputs, w.dtype) if head.b is None else np.asarray(head.b))  # type: ignore[arg-type]
