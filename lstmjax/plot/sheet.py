"""What all pictures share: the figure, the colours, and the choice of one sequence of a batch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from lstmjax.arguments import kind, one_of
from lstmjax.types import GATE_WORDS, GATES, Bidirectional, Step

LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe & Ito (2008): distinct for the colour-blind, and in print."""

GATE_COLOURS = MappingProxyType({"i": LINES[0], "f": LINES[1], "g": LINES[2], "o": LINES[3], "c": "#000000"})

NAMES = MappingProxyType(
    {
        **{name: f"{words} {name}" for name, words in GATE_WORDS.items()},
        **{f"z_{name}": f"pre-activation z_{name}" for name in GATES},
        "c": "cell state c",
        "m": "o ⊙ tanh(c)",
        "h": "hidden state h",
    }
)
"""The names of the fields of a `Step` on an axis."""

UNIT_INTERVAL = ("i", "f", "o")
"""The fields that lie between 0 and 1; the others have a sign."""


MAPS = ("PuOr", "cividis")
"""Colour maps for the colour-blind: for values with a sign, and for values between 0 and 1."""


class Picture(Figure):
    """A figure that notebooks show; without pyplot, so that it needs no display and leaves no global state."""

    def _repr_png_(self) -> bytes:
        return self.png()

    def png(self, dpi: float = 100) -> bytes:
        """Return the picture as the bytes of a PNG file."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=dpi)
        return buffer.getvalue()


def sheet(width: float, height: float, title: str = "") -> Picture:
    """Return an empty picture.

    Args:
        width, height: in inches.
        title: the title of the figure.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.07)
    figure = Picture(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def check_step(name: str, step: Any) -> Step:
    """Return a step if it is the `Step` of one layer in one direction; refuse anything else."""
    if isinstance(step, Step):
        return step
    if isinstance(step, Bidirectional):
        raise TypeError(
            f"{name} is a Bidirectional pair, expected the Step of one direction. Pass {name}.forward or .reverse."
        )
    if isinstance(step, tuple | list) and step and isinstance(step[0], Step | Bidirectional):
        raise TypeError(f"{name} is a tuple of {len(step)} layers, expected the Step of one. Pass {name}[0].")
    raise TypeError(f"{name} is {kind(step)}, expected a Step of arrays [T, H], as lstmjax.inside.trace gives it.")


def values(name: str, step: Step, field: str) -> np.ndarray:
    """Return a field of a step as a NumPy array, in float64 if it is float64, else in float32."""
    one_of("a field", field, Step._fields)
    value = getattr(step, field)
    if value is None:
        fields = [other for other in Step._fields if getattr(step, other) is not None]
        raise ValueError(
            f"{name}.{field} is None: it was not asked for, or the cell does not have it. "
            f"There is: {', '.join(fields) or 'nothing'}."
        )
    value = np.asarray(value)
    return value if value.dtype == np.float64 else value.astype(np.float32)


def sequence_of(name: str, value: Any, example: int | tuple[int, ...] | None) -> np.ndarray:
    """Return the `[T, H]` of one sequence of an array `[..., T, H]`.

    Args:
        name: the name of the array in messages.
        value: the array.
        example: the index of the sequence, an integer for each batch axis; None without a batch axis.
    """
    value = np.asarray(value)
    if value.ndim < 2:
        raise ValueError(f"{name} has shape {value.shape}, expected [T, H]: time and units.")
    batch = value.shape[:-2]
    index = () if example is None else example if isinstance(example, tuple) else (example,)
    if len(index) != len(batch):
        first = 0 if len(batch) == 1 else (0,) * len(batch)
        raise ValueError(
            f"{name} has {len(batch)} batch axes {batch}, and example={example} chooses along {len(index)}. "
            + (f"Pass example={first} for the first sequence." if batch else "Leave example away.")
        )
    for n, size in zip(index, batch, strict=True):
        if not -size <= n < size:
            raise ValueError(f"example={example} is outside of the batch axes {batch} of {name}.")
    return value[index]


def length_of(lengths: Any, example: int | tuple[int, ...] | None, batch: tuple[int, ...], steps: int) -> int:
    """Return how many steps of one sequence are valid, or of the longest one without an example.

    Args:
        lengths: whole numbers from 0 to T, one for each sequence or one for all; None: all steps are valid.
        example: the index of the sequence, as for `sequence_of`.
        batch: the batch axes of the arrays that are drawn.
        steps: T.
    """
    if lengths is None:
        return steps
    array = np.asarray(lengths)
    if array.shape not in ((), batch) or array.dtype.kind not in "iu":
        raise ValueError(
            f"lengths is {array.dtype} {array.shape}, expected a whole number, or one for each sequence, {batch}."
        )
    if array.size and not (array.min() >= 0 and array.max() <= steps):
        raise ValueError(f"lengths holds {array.min()} to {array.max()}, expected 0 to T = {steps}.")
    length = int((array if array.ndim == 0 or example is None else array[example]).max(initial=0))
    if not length:
        raise ValueError("lengths is 0: there is no valid step to draw.")
    return length


def span_of(span: tuple[int, int] | None, steps: int) -> tuple[int, int]:
    """Return the first step that is shown, and the step after the last one."""
    if span is None:
        return 0, steps
    first, behind = span
    if not 0 <= first < behind <= steps:
        raise ValueError(f"span={span} is not within the {steps} steps: expected 0 <= first < behind <= {steps}.")
    return first, behind


def layers_of(name: str, tree: Any, has: str) -> Iterator[tuple[str, str, Any]]:
    """Yield (layer, direction, entry) for each entry of a tree; "" where there is a single layer, or direction.

    Args:
        name: the name of the tree in messages.
        tree: an entry, a `Bidirectional` pair of entries, or a tuple of either from the bottom up.
        has: an attribute that every entry has.
    """
    single = isinstance(tree, Bidirectional) or hasattr(tree, has)
    for n, layer in enumerate((tree,) if single else tuple(tree), start=1):
        label = "" if single else f"layer {n}"
        pair = layer._asdict() if isinstance(layer, Bidirectional) else {"": layer}
        for direction, part in pair.items():
            if not hasattr(part, has):
                raise TypeError(
                    f"{name} holds {kind(part)}, expected something with .{has} for each layer and direction."
                )
            yield label, direction, part


def limits(field: str, value: np.ndarray, part: float = 1) -> tuple[float, float]:
    """Return the range of the colours of a field: 0 to 1 for gates, else symmetric about 0, ±1 for g, m and h.

    Args:
        field: the name of the field.
        value: its numbers.
        part: the fraction of the numbers that are within the range, for a field without bounds.
    """
    if field in UNIT_INTERVAL:
        return 0.0, 1.0
    finite = value[np.isfinite(value)]
    largest = float(np.abs(finite).max(initial=0.0)) or 1.0
    if field in ("g", "m", "h") and largest <= 1:
        return -1.0, 1.0
    most = float(np.quantile(np.abs(finite), part, method="higher")) if part < 1 and finite.size else largest
    return -(most or largest), most or largest


def whole_ticks(axes: Axes, axis: str = "x") -> None:
    """Put ticks at whole numbers, for steps and units."""
    getattr(axes, f"{axis}axis").set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def plain(axes: Axes) -> None:
    """Remove the frame at the top and on the right, and draw a grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
