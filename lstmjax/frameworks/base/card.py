"""A replica card: what the LSTM of a framework or of a paper is, and how to build it here.

A card refers to rows of our tables (`CELLS`, layouts, `PRESETS`, the rules of the optimizers) and adds what they do
not state. Its statements on a framework are tested against the framework, those on our side against our rows, by
tests/test_cards*.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from lstmjax.draws import Preset, zeros
from lstmjax.frameworks.base.layouts import Layout

ADAM = MappingProxyType(
    {"adam": "lr · m̂ / (√v̂ + ε), ε = 1e-8", "adam_keras": "lr · √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε), ε = 1e-7"}
)
"""Adam's step, and where its ε stands, by `optimizer.name`; m̂ and v̂ are corrected for their bias."""

MASKS = MappingProxyType({"step": "a new mask for every step", "sequence": "one mask for all steps"})


class Drop(NamedTuple):
    """One dropout: the argument that sets it, what it drops, and how long a mask lasts ("step" or "sequence")."""

    by: str
    on: str
    mask: str
    per_gate: bool = False  # a mask for each gate; else one for all four

    def __str__(self) -> str:
        return f"{self.by}: on {self.on}, {MASKS[self.mask]}{', another for each gate' if self.per_gate else ''}"


class Note(NamedTuple):
    """A fact that is easily missed: a name, which its test refers to, and a sentence."""

    name: str
    text: str


@dataclass(frozen=True)
class Card:
    """One row: what a replica has to match. None: the framework or the paper leaves it open.

    `cell` and `adam` name rows of `CELLS` and, for Adam, of the optimizer's rules; `layout` and `preset` are rows of
    `LAYOUTS` and `PRESETS`. `recipe` is code with sizes, xs, the random keys `key` and `noise`, and the framework's
    module. `read` holds statements that no test checks.
    """

    name: str
    title: str
    source: str
    recipe: tuple[str, ...]
    cell: str | None = "vanilla"
    layout: Layout | None = None
    preset: Preset | None = None
    drops: tuple[Drop, ...] | None = None
    adam: str | None = None
    notes: tuple[Note, ...] = ()
    read: tuple[str, ...] = ()

    @property
    def forget_bias(self) -> float | None:
        """Total bias of f in a new layer; None: it is drawn at random, or left open."""
        if self.preset is None:
            return None
        return 0.0 if self.preset.forget_bias is None and self.preset.b is zeros else self.preset.forget_bias

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield the facts of the card, each with its label."""
        yield "source", self.source
        yield "cell", "not in CELLS" if self.cell is None else f'CELLS["{self.cell}"]'
        if self.layout is not None:
            layout = self.layout
            yield "gates", f"{', '.join(layout.order)}, weights {'[4H, N]' if layout.rows else '[N, 4H]'}"
            yield "biases", str(layout.biases)
            yield "state", f"({', '.join(layout.state)})"
        if self.preset is not None:
            yield "forget bias", self._forget()
            yield "initial values", f'PRESETS["{self.preset.name}"]'
            for field in ("w_x", "w_h", "b"):
                yield f"  {field}", (getattr(self.preset, field).__doc__ or "").rstrip(".")
        if self.drops is not None:
            yield "dropout", "; ".join(map(str, self.drops)) or "none"
        if self.adam is not None:
            yield "Adam", f"{ADAM[self.adam]}; optimizer.name: {self.adam}"

    def _forget(self) -> str:
        if self.forget_bias is None:
            return "as drawn"
        added = self.layout is not None and self.layout.added
        return f"{self.forget_bias:g}, {'added at run time and not stored; here it is stored' if added else 'stored'}"

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.title}"]
        lines += [f"  {label:<15} {text}" for label, text in self.facts()]
        lines += ["  here", *(f"    {line}" for line in self.recipe)]
        lines += ["  mind", *(f"    {note.name}: {note.text}" for note in self.notes)] if self.notes else []
        lines += ["  read, not tested", *(f"    {text}" for text in self.read)] if self.read else []
        return "\n".join(lines)
