"""What a file or an object says of how its weights are run: the part of a model that is no array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lstmjax.cells import VANILLA, Cell


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

    def options(self) -> dict[str, Any]:
        """Return the keywords of `stacked` that differ from their defaults."""
        options: dict[str, Any] = {}
        if self.cell != VANILLA:
            options["cell"] = self.cell
        if self.merge != "concat":
            options["merge"] = self.merge
        return options
