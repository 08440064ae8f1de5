"""How a model is run, when it is converted: what the new file states, what its reader must know, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

import jax

from lstmjax.cells import VANILLA, identity
from lstmjax.convert.architecture import LOGITS, Architecture, called, same_cell
from lstmjax.convert.layouts import ConvertError

ALL = ("cell", "merge", "direction", "mask", "readout")
CAN = MappingProxyType(
    {
        "torch": (),
        "haiku": (),
        "keras": ALL,
        "linen": ("cell", "merge", "direction"),
        "nnx": ("cell", "merge", "direction"),
        "lstmjax": ALL,
        "onnx": ("cell", "merge"),
    }
)
"""What the LSTM of a framework can do beyond running vanilla layers forward; a form without a row can do nothing."""
TITLES = MappingProxyType({"torch": "PyTorch's LSTM", "haiku": "Haiku's LSTM", "onnx": "a graph of to_onnx"})
READOUTS = MappingProxyType(
    {identity: None, jax.nn.softmax: "softmax", jax.lax.logistic: "sigmoid", jax.nn.sigmoid: "sigmoid"}
)
"""The names under which `to_onnx` takes activations after the head."""


def settings(architecture: Architecture, pairs: bool) -> Iterator[tuple[str, str]]:
    """Yield how a model differs from a plain stack of vanilla layers: a kind of `ALL`, and words for it."""
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


def check_runs(architecture: Architecture, form: str, pairs: bool) -> None:
    """Refuse a model that the framework of a form cannot run, with any options.

    Raises:
        ConvertError: it names what the framework cannot do.
    """
    can = CAN.get(form, ())
    for kind, words in settings(architecture, pairs):
        after_logits = kind == "readout" and architecture.readout in LOGITS  # which the user can apply to the outputs
        if kind not in can and not after_logits:
            title = TITLES.get(form, f"an LSTM of {form}")
            raise ConvertError(
                f"the model has {words}, and {title} has not. Run it by load_model, or write a form that has: "
                f"{', '.join(name for name, known in CAN.items() if kind in known)}"
            )


def notes(architecture: Architecture, form: str, pairs: bool) -> Iterator[str]:
    """Yield lines on what the new file does not state: what was assumed, and what its reader must know."""
    if architecture.assumed:
        yield f"assumed, since the file holds weights alone: {', '.join(architecture.assumed)}"
    if form == "onnx":
        return
    words = [words for _, words in settings(architecture, pairs)]
    if architecture.return_sequences is not None:
        words.append("outputs of every step" if architecture.return_sequences else "outputs of the last step")
    if words:
        yield f"not in the new file, which holds weights alone; say it where they are loaded: {', '.join(words)}"
