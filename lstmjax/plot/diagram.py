"""A drawing of the cell, with the shape of every array on its arrow, or with its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle, Ellipse, FancyArrowPatch, FancyBboxPatch

from lstmjax.arguments import kind
from lstmjax.cell import cell_step
from lstmjax.dimensions import Shapes, shapes
from lstmjax.plot.sheet import GATE_COLOURS, Picture, sheet
from lstmjax.types import GATE_WORDS, LSTMParams

if TYPE_CHECKING:
    from jax.typing import ArrayLike

UNIT = 0.09
"""Inches in a unit of the drawing's coordinates."""

INK, MEMORY, PAPER, WEIGHTS = "#333333", "#D55E00", "#F4F4F0", "#FFF3C4"

GATES = MappingProxyType({"f": (50, "σ"), "i": (64, "σ"), "g": (82, "tanh"), "o": (97, "σ")})
"""The horizontal position of each gate, and its function."""

C, IG, TANH, OUT, GATE, Z = 60, 46, 51, 40, 30, 17
"""Vertical positions: the line of c, i ⊙ g, tanh(c), o ⊙ tanh(c), the gates, and the line of z and h."""


def cell_diagram(
    *, input: int = 5, hidden: int = 256, batch: int | None = None, time: int | None = None, output: int | None = None
) -> Picture:
    """Draw one step of the LSTM with the shape of every array on its arrow.

    The shapes are those of `lstmjax.shapes`.

    Args:
        input: I, the features of one time step.
        hidden: H, the units.
        batch: B, the sequences of a batch; None: the letter.
        time: T, the time steps; None: the letter.
        output: O, the classes or targets; None: no Dense head.

    Returns:
        `Picture`, a `matplotlib.figure.Figure`.

    Raises:
        ValueError: a size is below 1.

    >>> texts = [text.get_text() for text in cell_diagram(input=5, hidden=256, batch=32).axes[0].texts]
    >>> "$f$ (32, 256)" in texts
    True
    """
    table = shapes(input=input, hidden=hidden, batch=batch, time=time, output=output)
    figure, axes = _empty(-9 if output is None else -17)
    _Drawing(axes, table).draw()
    return figure


def step_diagram(
    params: LSTMParams, state: tuple[ArrayLike, ArrayLike], x: ArrayLike, *, units: Sequence[int] | None = None
) -> Picture:
    """Draw one step of the vanilla LSTM with its numbers: z, the gates, c and h of up to three units.

    Args:
        params: `LSTMParams` of the vanilla cell, without a projection.
        state: (h, c) `[H]` each, before the step.
        x: the input of the step, `[I]`.
        units: the numbers of the units to write, at most 3; None: all if there are no more, else the first three.

    Returns:
        `Picture`, a `matplotlib.figure.Figure`. Numbers have two decimals; gates read all units, those that are not
        written, too.

    Raises:
        ValueError: there are more than 3 units, one does not exist, the cell is another one, or an array does not fit.

    >>> from lstmjax import init_params
    >>> figure = step_diagram(init_params(jax.random.key(0), 2, 3), (np.zeros(3), np.ones(3)), np.ones(2))
    >>> "$h_{t-1}$" in [text.get_text() for text in figure.axes[0].texts]
    True
    """
    if not isinstance(params, LSTMParams):
        raise TypeError(f"params is {kind(params)}, expected LSTMParams: one layer in one direction.")
    x, h, c = (np.asarray(a, np.float32) for a in (x, *state))
    expected = (params.input_size,), (params.hidden_size,), (params.hidden_size,)
    for name, a, shape in zip(("x", "state[0], h,", "state[1], c,"), (x, h, c), expected, strict=True):
        if a.shape != shape:
            raise ValueError(f"{name} has shape {a.shape}, expected {shape}: one step of one sequence.")
    if params.w_p is not None or params.w_c is not None or params.norm is not None or params.w_x.shape[-2] != 4:
        raise ValueError("params are those of another cell, or have a projection; the drawing is of the vanilla cell.")
    chosen = list(range(params.hidden_size))[:MOST_NUMBERS] if units is None else [int(n) for n in units]
    if not 0 < len(chosen) <= MOST_NUMBERS or not all(0 <= n < params.hidden_size for n in chosen):
        raise ValueError(
            f"units is {chosen}, expected 1 to {MOST_NUMBERS} numbers from 0 to {params.hidden_size - 1}: more would "
            "overlap."
        )
    params = jax.tree.map(lambda a: np.asarray(a, np.float32), params)
    step = jax.tree.map(np.asarray, cell_step(params, (jnp.asarray(h), jnp.asarray(c)), jnp.asarray(x), emit="step")[1])
    values = step._asdict() | {"h_old": h, "c_old": c, "fc": step.f * c, "ig": step.i * step.g, "tanh": np.tanh(step.c)}
    numbers = {name: a[chosen] for name, a in values.items() if a is not None}
    figure, axes = _empty(-9, "one step in numbers")
    table = shapes(input=params.input_size, hidden=params.hidden_size)
    _Drawing(axes, table, numbers | {"x": x[:MOST_NUMBERS]}, chosen, len(x)).draw()
    return figure


MOST_NUMBERS = 3
"""Numbers of a vector that can be written beside an arrow."""


def _empty(bottom: float, title: str = "") -> tuple[Picture, Axes]:
    """Return a figure with the box of the cell in it, and its axes."""
    figure = sheet((152 + 3) * UNIT, (71 - bottom) * UNIT, title)
    axes = figure.subplots()
    axes.set(xlim=(-3, 152), ylim=(bottom, 71), aspect="equal")
    axes.set_axis_off()
    axes.add_patch(
        FancyBboxPatch((14, 7), 112, 60, boxstyle="round,pad=0,rounding_size=4", fc=PAPER, ec="0.75", zorder=0)
    )
    return figure, axes


def _tuple_text(shape: tuple[int | str, ...]) -> str:
    """Return a shape as Python writes it, with letters without quotes: (5,), or (B, 5)."""
    comma = "," if len(shape) == 1 else ""
    return f"({', '.join(map(str, shape))}{comma})"


class _Drawing:
    """The boxes, arrows and labels of the drawing; labels have shapes, or numbers where there are some."""

    def __init__(
        self,
        axes: Axes,
        table: Shapes,
        numbers: Mapping[str, np.ndarray] | None = None,
        units: Sequence[int] = (),
        features: int = 0,
    ) -> None:
        self.axes, self.table, self.numbers, self.units, self.features = axes, table, numbers, units, features
        self.shape = {row.name: _tuple_text(row.shape) for row in table.rows}

    def label(self, letter: str, shape: str, value: str, *, column: bool = False) -> str:
        """Return a letter with a shape, or with numbers below it, side by side or in a column."""
        if self.numbers is None:
            return f"{letter} {self.shape[shape]}"
        return f"{letter}\n{self.numbers_of(value, column=column)}"

    def numbers_of(self, value: str, *, column: bool = False) -> str:
        """Return numbers as text, or the shape of the array of that name."""
        assert self.numbers is not None
        words = [f"{number:.2f}".replace("-", "−") for number in self.numbers[value].tolist()]
        return ("\n" if column else "  ").join(words)

    def draw(self) -> None:
        """Draw everything."""
        self.products()
        self.gates()
        self.memory()
        self.output()
        self.count()
        if self.table.head:
            self.head()

    def products(self) -> None:
        """Draw what leads into z, the pre-activations of all gates."""
        self.box(26, Z, 20, 15.5, WEIGHTS)
        weights = "\n".join(f"${name}$ {self.shape[name]}" for name in ("w_x", "w_h", "b"))
        self.write(26, Z + 4.6, r"$x\cdot w_x + h\cdot w_h + b$", ha="center", size=11.5)
        self.write(26, Z - 2.4, weights, ha="center")
        self.arrow((-1, Z), (16, Z))
        self.write(6.3, Z + 1.2, "$h_{t-1}$", ha="center", size=13, va="bottom")
        old_h = self.shape["h"] if self.numbers is None else self.numbers_of("h_old", column=True)
        self.write(6.3, Z - 1.2, old_h, ha="center", va="top")
        self.arrow((26, -2), (26, Z - 7.75))
        self.line((36, Z), (GATES["o"][0], Z))
        if self.numbers is not None:
            more = "  …" if self.features > len(self.numbers["x"]) else ""
            self.write(27, 2.5, f"$x_t$  {self.numbers_of('x')}{more}", size=12)
            return
        self.write(27, 2.5, f"$x_t$ {self.shape['x']}", size=12)
        steps = next(row.shape[1] for row in self.table.flow if row.name == "xs")
        source = f"one of {steps} steps of $xs$ {self.shape['xs']}:\n(batch, time, features)"
        self.write(26, -3, source, ha="center", va="top")
        self.write(37, Z - 1.2, f"$z$ {self.shape['z']}: all gates at once", va="top")

    def gates(self) -> None:
        """Draw the gates, and the product of i and g."""
        for gate, (x, function) in GATES.items():
            self.arrow((x, Z), (x, GATE - 4.5))
            z = self.label(f"$z_{gate}$", gate, f"z_{gate}", column=True)
            self.write(x + 0.8, (Z + GATE - 4) / 2, z)
            self.box(x, GATE, 11.5, 9, GATE_COLOURS[gate], 0.25)
            self.write(x, GATE + 1.4, function, ha="center", size=14)
            self.write(x, GATE - 2.6, GATE_WORDS[gate], ha="center", size=10)
        f, i, g, o = (GATES[gate][0] for gate in "figo")
        middle, top = (i + g) / 2, GATE + 4.5
        self.arrow((f, top), (f, C - 1.8))
        self.arrow((i, top), (i, IG), (middle - 1.8, IG))
        self.arrow((g, top), (g, IG), (middle + 1.8, IG))
        self.arrow((o, top), (o, OUT), (112 - 1.8, OUT))
        for gate, x, y in (("f", f, IG), ("i", i, 40), ("g", g, 40), ("o", o, 37.3)):
            text = self.label(f"${gate}$", gate, gate, column=gate != "o")
            self.write(x + 0.8, y, " ".join(text.split()) if gate == "o" else text)
        self.operator(middle, IG, "⊙")
        self.arrow((middle, IG + 1.8), (middle, C - 1.8))
        self.write(middle + 0.8, 53, self.label(r"$i\odot g$", "c", "ig", column=True))

    def memory(self) -> None:
        """Draw the line of c: the old c is multiplied by f, and i ⊙ g is added; there is no weight on this line."""
        f, middle = GATES["f"][0], (GATES["i"][0] + GATES["g"][0]) / 2
        self.arrow((-1, C), (f - 1.8, C), width=3, colour=MEMORY)
        self.arrow((f + 1.8, C), (middle - 1.8, C), width=3, colour=MEMORY)
        self.arrow((middle + 1.8, C), (140, C), width=3, colour=MEMORY)
        self.operator(f, C, "⊙")
        self.operator(middle, C, "+")
        self.write(6.3, C + 1.4, "$c_{t-1}$", ha="center", va="bottom", size=13)
        old_c = self.shape["c"] if self.numbers is None else self.numbers_of("c_old", column=True)
        self.write(6.3, C - 1.4, old_c, ha="center", va="top")
        self.write((f + middle) / 2, C + 1.4, self.label(r"$f\odot c_{t-1}$", "c", "fc"), ha="center", va="bottom")
        self.write(95, C + 1.4, r"$c_t = f\odot c_{t-1} + i\odot g$: a sum", ha="center", va="bottom", size=11.5)
        self.write(128, C + 1.4, self.label("$c_t$", "c", "c"), va="bottom", size=12)
        self.write(128, C - 1.4, "to the next step", va="top", size=10)

    def output(self) -> None:
        """Draw the way from c to h, and on to the next step."""
        self.arrow((112, C), (112, TANH + 2.3))
        self.axes.add_patch(Ellipse((112, TANH), 9.5, 4.6, fc="white", ec=INK, lw=1.2, zorder=3))
        self.write(112, TANH, "tanh", ha="center", size=10)
        self.arrow((112, TANH - 2.3), (112, OUT + 1.8))
        shown_c = self.shape["c"] if self.numbers is None else self.numbers_of("tanh", column=True)
        self.write(112.8 if self.numbers is None else 114.2, 45.2, f"$\\tanh(c_t)$\n{shown_c}")
        self.operator(112, OUT, "⊙")
        self.arrow((112, OUT - 1.8), (112, Z), (140, Z))
        new_h = self.shape["h"] if self.numbers is None else self.numbers_of("h", column=True)
        self.write(112.8, 30, f"$h_t =$\n$o\\odot\\tanh(c_t)$\n{new_h}")
        self.write(128, Z + 1.4, self.label("$h_t$", "h", "h"), va="bottom", size=12)
        if self.numbers is not None:
            self.write(128, Z - 1.4, "to the next step", va="top", size=10)
            return
        self.write(134, Z - 1.4, f"to the next step,\nand into $ys$\n{self.shape['ys']}", va="top", size=10)

    def count(self) -> None:
        """Write the number of parameters, or which units are written."""
        if self.numbers is not None:
            units = f"unit {self.units[0]}" if len(self.units) == 1 else f"units {', '.join(map(str, self.units))}"
            self.write(37, 10, f"numbers: {units}, from the top down or from the left")
            return
        _, total, rows = self.table.layers[0]
        parameters = sum(row.parameters for row in rows)
        self.write(37, 10, f"{total} = {parameters:,} parameters, the same at every step")

    def head(self) -> None:
        """Draw the Dense head."""
        self.arrow((130, Z), (130, 1.5))
        self.write(129, 4.2, f"after the last step: $h_T$ {self.shape['h_T']}", ha="right")
        self.box(130, -3, 34, 9, WEIGHTS)
        self.write(130, -1.2, r"$h_T\cdot w + b$, the Dense head", ha="center", size=11.5)
        self.write(130, -5, f"$w$ {self.shape['head.w']}   $b$ {self.shape['head.b']}", ha="center")
        self.arrow((130, -7.5), (130, -13))
        self.write(131, -11, f"logits {self.shape['logits']}", size=12)

    def write(self, x: float, y: float, text: str, *, ha: str = "left", va: str = "center", size: float = 11) -> None:
        size, spacing = (size, 1.35) if self.numbers is None else (min(size, 9.5), 1.15)
        self.axes.text(x, y, text, ha=ha, va=va, fontsize=size, color="black", zorder=4, linespacing=spacing)

    def box(self, x: float, y: float, width: float, height: float, colour: str, alpha: float = 1) -> None:
        corner, style = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=1.2"
        fill = [
            1 - alpha * (1 - part) for part in to_rgb(colour)
        ]  # opaque, mixed with white, so that lines below do not show
        self.axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, fc=fill, ec=INK, lw=1.2, zorder=3))

    def operator(self, x: float, y: float, sign: str) -> None:
        self.axes.add_patch(Circle((x, y), 1.8, fc="white", ec=INK, lw=1.2, zorder=3))
        self.axes.text(x, y, sign, ha="center", va="center_baseline", fontsize=13, zorder=4)

    def line(self, *points: tuple[float, float], width: float = 1.3, colour: str = INK) -> None:
        self.axes.plot(*zip(*points, strict=True), color=colour, lw=width, solid_joinstyle="round", zorder=1)

    def arrow(self, *points: tuple[float, float], width: float = 1.3, colour: str = INK) -> None:
        if len(points) > 2:
            self.line(*points[:-1], width=width, colour=colour)
        style = f"-|>,head_width={0.22 + 0.05 * width},head_length={0.45 + 0.07 * width}"
        self.axes.add_patch(
            FancyArrowPatch(
                *points[-2:],
                arrowstyle=style,
                mutation_scale=10,
                lw=width,
                color=colour,
                shrinkA=0,
                shrinkB=0,
                zorder=1,
            )
        )
