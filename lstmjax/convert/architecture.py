"""What a file or an object says of how its weights are run: the part of a model that is no array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax

from lstmjax.cells import VANILLA, Activation, Cell, identity
from lstmjax.published import CELLS

DIRECTIONS = ("forward", "reverse", "turned")
LOGITS = (identity, jax.nn.softmax, jax.lax.logistic, jax.nn.sigmoid)
"""What may follow a head without another network: the loss says what logits mean."""


@dataclass(frozen=True)
class Architecture:
    """How layers are run, as the source of their weights states it. The defaults are those of `stacked`.

    Weights alone do not say it: the same arrays with another activation are another network. A reader of a
    kind of file fills in what the file states, refuses by name what no field can say, and leaves `stated`
    False where the file holds bare weights; `assumed` then lists, in words, what was taken for granted.
    """

    cell: Cell = VANILLA
    """The cell of all layers: its activations, couplings and clips. Layers of different cells are refused."""
    merge: str = "concat"
    """How the two directions of a pair are joined: "concat" or "sum"."""
    return_sequences: bool | None = None
    """Whether the model's output has every step, or the last one only; None: not stated."""
    stated: bool = False
    """Whether the source describes its model at all."""
    assumed: tuple[str, ...] = ()
    """What the source does not say and was assumed, such as "tanh and sigmoid"; empty if everything is stated."""
    directions: tuple[str, ...] = ()
    """The way of each layer of one direction, from the bottom up: "forward"; "reverse", from the last valid step
    to the first, with every output beside its input; or "turned", the same with the outputs in the order in which
    they were computed, as Keras has it with go_backwards. A pair is "forward". Empty: all forward, or not stated."""
    readout: Activation = identity
    """What follows the head, such as `jax.nn.softmax`."""
    mask_value: float | None = None
    """A step whose features all have this value is left out, by all layers; None: no step is."""
    padding: str = "zero"
    """What the outputs are at steps that are left out, as for `stacked`."""

    def options(self) -> dict[str, Any]:
        """Return the keywords of `stacked` that differ from their defaults."""
        options: dict[str, Any] = {}
        if self.cell != VANILLA:
            options["cell"] = self.cell
        if self.merge != "concat":
            options["merge"] = self.merge
        return options

    def beyond_layers(self) -> Iterator[str]:
        """Yield, in words, what the layers below a head do that no keyword of `stacked` says."""
        for n, direction in enumerate(self.directions):
            if direction != "forward":
                order = "in the order of computing" if direction == "turned" else "beside its inputs"
                yield f"layer {n} runs backwards and gives its outputs {order}"
        if self.mask_value is not None:
            yield f"steps whose features are all {self.mask_value} are left out"

    def beyond_options(self) -> Iterator[str]:
        """Yield, in words, what the model does that no keyword of `stacked` and `network` says."""
        yield from self.beyond_layers()
        if self.readout not in LOGITS:
            yield f"the activation of the head is {called(self.readout)}"

    @property
    def is_plain(self) -> bool:
        """Whether logits of `stacked` or `network` with `options` are all that the model gives."""
        return not any(self.beyond_options()) and self.readout is identity

    def mismatch(self, cell: Cell | None, merge: str | None, pairs: bool) -> str | None:
        """Return why layers that are run with this cell and merge are not this model, and what to pass, or None.

        Args:
            cell, merge: what the caller says; None: nothing.
            pairs: whether there is a layer of two directions, without which merge means nothing.
        """
        remedy = "here and to stacked or network; or take load_model(path), which runs it as it is"
        if cell is not None and not same_cell(self.cell, cell):
            return f"it states the cell {self.cell.name!r}, but cell is {cell.name!r}. Pass {said(self.cell)}, {remedy}"
        if merge is not None and pairs and self.merge != merge:
            return (
                f"it states that directions are joined by {self.merge!r}, but merge is {merge!r}. Pass "
                f"merge={self.merge!r}, {remedy}"
            )
        return None


def same_cell(a: Cell, b: Cell) -> bool:
    """Return whether two cells compute the same, whatever they are called."""
    return replace(a, name="", paper="") == replace(b, name="", paper="")


def said(cell: Cell) -> str:
    """Return the argument that names a cell."""
    if cell.name in CELLS and same_cell(CELLS[cell.name], cell):
        return f"cell={cell.name!r}"
    return "cell=load_model(path).architecture.cell"


def called(function: Callable[..., Any]) -> str:
    """Return the name of an activation."""
    name = getattr(function, "__name__", str(function))
    return "sigmoid" if name == "logistic" else name


def assumptions(pairs: bool, head: bool, cell: Cell = VANILLA, merge: str = "concat") -> tuple[str, ...]:
    """Return what bare weights leave open, in words: how they are run here.

    >>> assumptions(pairs=True, head=False)
    ('tanh and sigmoid', 'every layer forward', 'the two directions side by side (concat)')
    """
    words = ["tanh and sigmoid" if same_cell(cell, VANILLA) else f"the cell {cell.name!r}"]
    words += ["every layer forward"]
    if pairs:
        words += ["the two directions side by side (concat)" if merge == "concat" else "the two directions added (sum)"]
    return (*words, *["logits as the head's output"] * head)
