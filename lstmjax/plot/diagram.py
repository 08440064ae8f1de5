"""A drawing of the cell, with the shape of every array on its arrow."""

from __future__ import annotations

from types import MappingProxyType

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle, Ellipse, FancyArrowPatch, FancyBboxPatch

from lstmjax.dimensions import Shapes, shapes
from lstmjax.plot.sheet import GATE_COLOURS, Picture, sheet
from lstmjax.types import GATE_WORDS

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
    bottom = -9 if output is None else -17
    figure = sheet((152 + 3) * UNIT, (71 - bottom) * UNIT)
    axes = figure.subplots()
    axes.set(xlim=(-3, 152), ylim=(bottom, 71), aspect="equal")
    axes.set_axis_off()
    axes.add_patch(
        FancyBboxPatch((14, 7), 112, 60, boxstyle="round,pad=0,rounding_size=4", fc=PAPER, ec="0.75", zorder=0)
    )
    _Drawing(axes, table).draw()
    return figure


def _tuple_text(shape: tuple[int | str, ...]) -> str:
    """Return a shape as Python writes it, with letters without quotes: (5,), or (B, 5)."""
    comma = "," if len(shape) == 1 else ""
    return f"({', '.join(map(str, shape))}{comma})"


class _Drawing:
    """The boxes, arrows and labels of the drawing."""

    def __init__(self, axes: Axes, table: Shapes) -> None:
        self.axes, self.table = axes, table
        self.shape = {row.name: _tuple_text(row.shape) for row in table.rows}

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
        self.write(6.3, Z - 1.2, self.shape["h"], ha="center", va="top")
        self.arrow((26, -2), (26, Z - 7.75))
        self.write(27, 2.5, f"$x_t$ {self.shape['x']}", size=12)
        steps = next(row.shape[1] for row in self.table.flow if row.name == "xs")
        source = f"one of {steps} steps of $xs$ {self.shape['xs']}:\n(batch, time, features)"
        self.write(26, -3, source, ha="center", va="top")
        self.line((36, Z), (GATES["o"][0], Z))
        self.write(37, Z - 1.2, f"$z$ {self.shape['z']}: all gates at once", va="top")

    def gates(self) -> None:
        """Draw the gates, and the product of i and g."""
        for gate, (x, function) in GATES.items():
            self.arrow((x, Z), (x, GATE - 4.5))
            self.write(x + 0.8, (Z + GATE - 4) / 2, f"$z_{gate}$ {self.shape[gate]}")
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
            self.write(x + 0.8, y, f"${gate}$ {self.shape[gate]}")
        self.operator(middle, IG, "⊙")
        self.arrow((middle, IG + 1.8), (middle, C - 1.8))
        self.write(middle + 0.8, 53, rf"$i\odot g$ {self.shape['c']}")

    def memory(self) -> None:
        """Draw the line of c: the old c is multiplied by f, and i ⊙ g is added; there is no weight on this line."""
        f, middle = GATES["f"][0], (GATES["i"][0] + GATES["g"][0]) / 2
        self.arrow((-1, C), (f - 1.8, C), width=3, colour=MEMORY)
        self.arrow((f + 1.8, C), (middle - 1.8, C), width=3, colour=MEMORY)
        self.arrow((middle + 1.8, C), (140, C), width=3, colour=MEMORY)
        self.operator(f, C, "⊙")
        self.operator(middle, C, "+")
        self.write(6.3, C + 1.4, "$c_{t-1}$", ha="center", va="bottom", size=13)
        self.write(6.3, C - 1.4, self.shape["c"], ha="center", va="top")
        self.write((f + middle) / 2, C + 1.4, rf"$f\odot c_{{t-1}}$ {self.shape['c']}", ha="center", va="bottom")
        self.write(95, C + 1.4, r"$c_t = f\odot c_{t-1} + i\odot g$: a sum", ha="center", va="bottom", size=11.5)
        self.write(128, C + 1.4, f"$c_t$ {self.shape['c']}", va="bottom", size=12)
        self.write(128, C - 1.4, "to the next step", va="top", size=10)

    def output(self) -> None:
        """Draw the way from c to h, and on to the next step."""
        self.arrow((112, C), (112, TANH + 2.3))
        self.axes.add_patch(Ellipse((112, TANH), 9.5, 4.6, fc="white", ec=INK, lw=1.2, zorder=3))
        self.write(112, TANH, "tanh", ha="center", size=10)
        self.arrow((112, TANH - 2.3), (112, OUT + 1.8))
        self.write(112.8, 45.2, f"$\\tanh(c_t)$\n{self.shape['c']}")
        self.operator(112, OUT, "⊙")
        self.arrow((112, OUT - 1.8), (112, Z), (140, Z))
        self.write(112.8, 30, f"$h_t =$\n$o\\odot\\tanh(c_t)$\n{self.shape['h']}")
        self.write(128, Z + 1.4, f"$h_t$ {self.shape['h']}", va="bottom", size=12)
        self.write(134, Z - 1.4, f"to the next step,\nand into $ys$\n{self.shape['ys']}", va="top", size=10)

    def count(self) -> None:
        """Write the number of parameters."""
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
        self.axes.text(x, y, text, ha=ha, va=va, fontsize=size, color="black", zorder=4, linespacing=1.35)

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
