"""How weights are run, as a file or an object states it: the part of a model that is no array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from lstmjax.cells import VANILLA, Activation, Cell, identity
from lstmjax.errors import Either, Message, Named, Option
from lstmjax.published import CELLS

DIRECTIONS = ("forward", "reverse", "turned")
SETTINGS = ("cell", "merge", "direction", "mask", "readout")
"""How a model can differ from a plain stack of vanilla layers."""
LOGITS = (identity, jax.nn.softmax, jax.lax.logistic, jax.nn.sigmoid)
"""What may follow a head whose outputs are still logits: the loss decides what they mean."""


@dataclass(frozen=True)
class Architecture:
    """How layers are run, as the source of their weights states it. The defaults are those of `stacked`.

    Weights alone do not say it: the same arrays with another activation are another network. The reader of a
    kind of file fills in what the file states, refuses by name what no field can say, and leaves `stated`
    False if the file holds bare weights; `assumed` then lists, in words, what was assumed.
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
    """The direction of each layer, from the bottom up: "forward"; "reverse", from the last valid step to the first,
    with each output at the step of its input; or "turned", the same with the outputs in the order in which they
    were computed, like go_backwards of Keras. A pair is "forward". Empty: all forward, or not stated."""
    readout: Activation = identity
    """What follows the head, such as `jax.nn.softmax`."""
    mask_value: float | None = None
    """All layers skip a step whose features all have this value; None: no step is skipped."""
    padding: str = "zero"
    """The outputs at steps that are skipped, as for `stacked`. With a mask_value and "zero", the output of a model that
    returns its last step only is zeros, too, where that step is skipped."""

    def rounded(self, dtype: str) -> Architecture:
        """Return the same with a `mask_value` that a number of this dtype can have: inputs are compared with it so."""
        if self.mask_value is None:
            return self
        return replace(self, mask_value=float(np.asarray(self.mask_value).astype(dtype)))

    def options(self) -> dict[str, Any]:
        """Return the keywords of `stacked` that differ from their defaults."""
        options: dict[str, Any] = {}
        if self.cell != VANILLA:
            options["cell"] = self.cell
        if self.merge != "concat":
            options["merge"] = self.merge
        return options

    def beyond_layers(self) -> Iterator[str]:
        """Yield, in words, what the layers below a head do that no keyword of `stacked` can say."""
        for n, direction in enumerate(self.directions):
            if direction != "forward":
                order = "in the order of computing" if direction == "turned" else "beside its inputs"
                yield f"layer {n} runs backwards and gives its outputs {order}"
        if self.mask_value is not None:
            yield f"steps whose features are all {self.mask_value} are left out"

    def beyond_options(self) -> Iterator[str]:
        """Yield, in words, what the model does that no keyword of `stacked` or `network` can say."""
        yield from self.beyond_layers()
        if self.readout not in LOGITS:
            yield f"the activation of the head is {called(self.readout)}"

    @property
    def is_plain(self) -> bool:
        """Whether the outputs of `stacked` or `network` with `options` are those of the model."""
        return not any(self.beyond_options()) and self.readout is identity

    def mismatch(self, cell: Cell | None, merge: str | None, pairs: bool) -> Message | None:
        """Return why layers with this cell and merge are not this model, and what to pass instead; None if they are.

        Args:
            cell, merge: the arguments of the caller; None: none.
            pairs: whether any layer has two directions; otherwise merge has no meaning.
        """
        remedy = Either(
            ", here and to stacked or network; or take load_model(path), which runs it as it is",
            ", or leave it out: it is run as the file says",
        )
        if cell is not None and not same_cell(self.cell, cell):
            stated = f"it states the cell {self.cell.name!r}, but "
            option = to_pass(self.cell)
            if isinstance(option, Either):  # on the command line there is nothing to pass
                remedy = Either(remedy.python, ": it is run as the file says")
            return Message(stated, Named("cell"), f" is {cell.name!r}. Pass ", option, remedy)
        if merge is not None and pairs and self.merge != merge:
            stated = f"it states that directions are joined by {self.merge!r}, but "
            return Message(stated, Named("merge"), f" is {merge!r}. Pass ", Option("merge", self.merge), remedy)
        return None


def same_cell(a: Cell, b: Cell) -> bool:
    """Return whether two cells compute the same; their names do not count."""
    return replace(a, name="", paper="") == replace(b, name="", paper="")


def to_pass(cell: Cell) -> Option | Either:
    """Return the argument that names a cell."""
    if cell.name in CELLS and same_cell(CELLS[cell.name], cell):
        return Option("cell", cell.name)
    return Either("cell=load_model(path).architecture.cell", "no --cell")


def called(function: Callable[..., Any]) -> str:
    """Return the name of an activation."""
    name = getattr(function, "__name__", str(function))
    return "sigmoid" if name == "logistic" else name


def assumptions(
    pairs: bool,
    head: bool,
    cell: Cell = VANILLA,
    merge: str = "concat",
    *,
    fixed: tuple[str, ...] = (),
    several: bool = False,
) -> tuple[str, ...]:
    """Return, in words, how bare weights are run, which do not say it.

    Args:
        pairs: whether any layer has two directions.
        head: whether there is a head.
        cell, merge: those with which they are run.
        fixed: what is assumed of a class that has one activation and one way to join directions; see `Form.assumed`.
        several: whether they are those of several LSTMs on top of each other.

    >>> assumptions(pairs=True, head=False)
    ('tanh and sigmoid', 'every layer forward', 'the two directions side by side (concat)')
    """
    words = []
    if not same_cell(cell, VANILLA):
        words.append(f"the cell {cell.name!r}")
    elif not fixed:
        words.append("tanh and sigmoid")
    words += fixed or ["every layer forward"]
    if several:
        words.append("each LSTM on the outputs of the one before")
    if pairs and merge != "concat":
        words.append("the two directions added (sum)")
    elif pairs and not fixed:
        words.append("the two directions side by side (concat)")
    if head:
        words.append("logits as the head's output")
    return tuple(words)
