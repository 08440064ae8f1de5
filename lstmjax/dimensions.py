"""The dimensions, explained: every array of a network with its name, formula, shape and size.

`shapes(input=5, hidden=256, output=10)` answers what people get lost in: units against time steps
against output size, and where the number of parameters comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from lstmjax import checks
from lstmjax.networks import NetworkParams
from lstmjax.types import GATES, Bidirectional, LSTMParams

BIASES = {None: 0, "single": 1, "double": 2}
G = len(GATES)


class Row(NamedTuple):
    """One array: what it is called, how it comes about, and its shape in letters and in numbers."""

    name: str
    formula: str
    letters: tuple[str, ...]
    shape: tuple[int | str, ...]  # a letter stands where no number was given
    number: str = ""  # formula of the number of parameters; empty for what is computed

    @property
    def parameters(self) -> int:
        """Number of trained numbers in this array; 0 for what is computed."""
        return prod(int(n) for n in self.shape) if self.number else 0


@dataclass(frozen=True)
class Shapes:
    """The arrays of a network: `rows`, and as text the tables that the command line prints."""

    layers: tuple[tuple[str, str, tuple[Row, ...]], ...]  # (title, formula of the total, arrays)
    head: tuple[Row, ...]
    flow: tuple[Row, ...]
    notes: tuple[str, ...] = field(repr=False)

    @property
    def rows(self) -> tuple[Row, ...]:
        """All arrays, parameters first."""
        return sum((rows for _, _, rows in self.layers), ()) + self.head + self.flow

    @property
    def parameters(self) -> int:
        """Number of parameters of all layers and the head."""
        return sum(row.parameters for row in self.rows)

    def __str__(self) -> str:
        lines: list[str] = []
        for title, total, rows in self.layers:
            lines += ["", title, *_table(_HEAD, [_cells(row) for row in rows])]
            lines += [f"  {total} = {sum(row.parameters for row in rows):,} parameters, whatever T, B and O are"]
        if self.head:
            lines += ["", "Dense head: where H numbers become O", *_table(_HEAD, [_cells(row) for row in self.head])]
            lines += [f"  {sum(row.parameters for row in self.head):,} parameters, whatever T, B and I are"]
        lines += ["", f"All parameters: {' + '.join(_parts(self))} = {self.parameters:,}"]
        of = "" if len(self.layers) == 1 else " (the gates of the first layer)"
        lines += ["", f"What flows through, at every step and from end to end{of}"]
        lines += _table(_HEAD[:4], [_cells(row)[:4] for row in self.flow])
        return "\n".join([*lines[1:], "", *self.notes])


_HEAD = ("name", "formula", "letters", "shape", "parameters", "do not depend on")


def _cells(row: Row) -> tuple[str, ...]:
    free = [letter for letter in "TBIHPO" if letter not in " ".join(row.letters)]
    free = [letter for letter in free if letter != "P" or "P" in row.formula]
    return (
        row.name,
        row.formula,
        f"({', '.join(row.letters)})",
        f"({', '.join(f'{n}' for n in row.shape)}{',' if len(row.shape) == 1 else ''})",
        f"{row.number} = {row.parameters:,}" if row.number else "",
        ", ".join(free) if row.number else "",
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[k]) for row in (head, *rows)) for k in range(len(head))]
    line = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    return [f"  {text.rstrip()}" for text in (line[0], "  ".join("-" * width for width in widths), *line[1:])]


def _parts(table: Shapes) -> list[str]:
    sizes = [sum(row.parameters for row in rows) for _, _, rows in table.layers]
    return [f"{n:,}" for n in (*sizes, *([sum(row.parameters for row in table.head)] if table.head else []))]


class Direction(NamedTuple):
    """The sizes of one layer in one direction."""

    inputs: int
    hidden: int
    width: int | None  # of a projection
    biases: int

    @property
    def out(self) -> int:
        """P, the width of h."""
        return self.hidden if self.width is None else self.width


def shapes(
    params: LSTMParams | Bidirectional | tuple | NetworkParams | None = None,
    *,
    input: int | None = None,
    hidden: int | None = None,
    output: int | None = None,
    time: int | None = None,
    batch: int | None = None,
    layers: int = 1,
    bidirectional: bool = False,
    merge: str = "concat",
    projection: int | None = None,
    bias: str | None = "single",
) -> Shapes:
    """Gives a table of every array of a network, for given sizes or given parameters.

    Args:
        params: `LSTMParams`, a `Bidirectional` pair, a tuple of layers, or `NetworkParams`; their own
            sizes are shown, and of the sizes below only time, batch and merge are read.
        input: I, features of one time step.
        hidden: H, units.
        output: O, classes or targets; None: no Dense head.
        time: T, time steps; None: the letter.
        batch: B, sequences at once; None: the letter.
        layers: L, layers on top of each other.
        bidirectional: every layer runs in both directions.
        merge: the two directions side by side ("concat") or added up ("sum").
        projection: P, the width of h if it is projected.
        bias: "single" (Keras, Flax), "double" (PyTorch, cuDNN) or None.

    Returns:
        `Shapes`; `print` it for the tables, or read its `rows` and `parameters`.

    Raises:
        ValueError: a size is missing or below 1.

    >>> shapes(input=5, hidden=10).parameters, shapes(input=5, hidden=10, bias="double").parameters
    (640, 680)
    >>> shapes(input=5, hidden=10, time=13).parameters == shapes(input=5, hidden=10, time=100).parameters
    True
    >>> shapes(input=5, hidden=256, output=10).parameters == 268_288 + 2_570
    True
    """
    checks.one_of("merge", merge, ("concat", "sum"))
    for name, size in {"time": time, "batch": batch}.items():
        if size is not None:
            checks.check_positive(name, size)
    if params is None:
        stack, output = _planned(input, hidden, output, layers, bidirectional, merge, projection, bias), output
    else:
        stack, output = _read(params)
    return _tabulate(stack, output, time, batch, merge)


def _planned(
    input: Any,
    hidden: Any,
    output: Any,
    layers: int,
    bidirectional: bool,
    merge: str,
    projection: int | None,
    bias: str | None,
) -> list[tuple[Direction, ...]]:
    for name, size in {"input": input, "hidden": hidden}.items():
        if size is None:
            raise ValueError(f"{name} is missing: shapes needs input= and hidden=, or parameters.")
    given = {"input": input, "hidden": hidden, "output": output, "layers": layers, "projection": projection}
    for name, size in given.items():
        if size is not None:
            checks.check_positive(name, size)
    checks.one_of("bias", bias, tuple(BIASES))
    stack: list[tuple[Direction, ...]] = []
    for _ in range(layers):
        one = Direction(input, hidden, projection, BIASES[bias])
        stack.append((one, one) if bidirectional else (one,))
        input = one.out * (2 if bidirectional and merge == "concat" else 1)
    return stack


def _read(params: Any) -> tuple[list[tuple[Direction, ...]], int | None]:
    output = None
    if isinstance(params, NetworkParams):
        output = params.head.w.shape[1]
        params = params.layers
    if isinstance(params, LSTMParams | Bidirectional):
        params = (params,)
    stack = []
    for n, layer in enumerate(params):
        parts = tuple(layer) if isinstance(layer, Bidirectional) else (layer,)
        for part in parts:
            if not isinstance(part, LSTMParams):
                raise TypeError(f"layer {n} holds a {type(part).__name__}, expected LSTMParams or Bidirectional.")
        stack.append(tuple(_direction(part) for part in parts))
    return stack, output


def _direction(part: LSTMParams) -> Direction:
    width = None if part.w_p is None else part.output_size
    return Direction(part.input_size, part.hidden_size, width, sum(b is not None for b in (part.b, part.b_h)))


def _tabulate(
    stack: list[tuple[Direction, ...]], output: int | None, time: int | None, batch: int | None, merge: str
) -> Shapes:
    titled = []
    for n, parts in enumerate(stack):
        for k, part in enumerate(parts):
            direction = f", {Bidirectional._fields[k]}" if len(parts) == 2 else ""
            number = f" {n + 1} of {len(stack)}" if len(stack) > 1 else ""
            title = f"LSTM layer{number}{direction}: {part.inputs} features into {part.hidden} units"
            titled.append((title, _total(part), _arrays(part)))
    first, top = stack[0][0], stack[-1]
    width = sum(part.out for part in top) if merge == "concat" else top[0].out
    letter = ("2" if len(top) == 2 and merge == "concat" else "") + ("H" if top[0].width is None else "P")
    head: tuple[Row, ...] = ()
    if output is not None:
        head = (
            Row("head.w", "h · head.w", (letter, "O"), (width, output), f"{letter}·O"),
            Row("head.b", "+ head.b", ("O",), (output,), "O"),
        )
    b, t = ("B" if batch is None else batch), ("T" if time is None else time)
    return Shapes(tuple(titled), head, _flow(first, letter, width, output, b, t), _notes(first, output, width))


def _total(part: Direction) -> str:
    """The formula of the number of parameters, in its well-known form: 4·(I·H + H·H + H)."""
    out = "H" if part.width is None else "P"
    bias = {0: "", 1: " + H", 2: " + 2·H"}[part.biases]
    return f"4·(I·H + {out}·H{bias})" + ("" if part.width is None else " + H·P")


def _arrays(part: Direction) -> tuple[Row, ...]:
    out = "H" if part.width is None else "P"
    rows = [
        Row("w_x", "x · w_x", ("I", "4", "H"), (part.inputs, G, part.hidden), "4·I·H"),
        Row("w_h", "+ h · w_h", (out, "4", "H"), (part.out, G, part.hidden), f"4·{out}·H"),
        Row("b", "+ b", ("4", "H"), (G, part.hidden), "4·H"),
        Row("b_h", "+ b_h", ("4", "H"), (G, part.hidden), "4·H"),
    ][: 2 + part.biases]
    if part.width is not None:
        rows.append(Row("w_p", "m · w_p", ("H", "P"), (part.hidden, part.width), "H·P"))
    return tuple(rows)


def _flow(first: Direction, letter: str, width: int, output: int | None, b: int | str, t: int | str) -> tuple[Row, ...]:
    hidden, out = first.hidden, "H" if first.width is None else "P"
    gate = (b, hidden)
    bias = ("", " + b", " + b + b_h")[first.biases]
    rows = [
        Row("xs", "the input: (batch, time, features)", ("B", "T", "I"), (b, t, first.inputs)),
        Row("x", "one time step of it", ("B", "I"), (b, first.inputs)),
        Row("z", f"x · w_x + h · w_h{bias}", ("B", "4", "H"), (b, G, hidden)),
        Row("i", "σ(z_i), input gate", ("B", "H"), gate),
        Row("f", "σ(z_f), forget gate", ("B", "H"), gate),
        Row("g", "tanh(z_g), candidate", ("B", "H"), gate),
        Row("o", "σ(z_o), output gate", ("B", "H"), gate),
        Row("c", "f ⊙ c + i ⊙ g, cell state: a sum", ("B", "H"), gate),
        Row("m", "o ⊙ tanh(c)", ("B", "H"), gate),
        Row("h", "m" if first.width is None else "m · w_p", ("B", out), (b, first.out)),
        Row("ys", "h of all steps (return_sequences=True)", ("B", "T", letter), (b, t, width)),
        Row("h_T", "h of the last step (return_sequences=False)", ("B", letter), (b, width)),
    ]
    if output is not None:
        rows.append(Row("logits", "h_T · head.w + head.b, the Dense head", ("B", "O"), (b, output)))
        rows.append(Row("p", "softmax(logits): O numbers that sum to 1", ("B", "O"), (b, output)))
    return tuple(rows)


def _notes(first: Direction, output: int | None, width: int) -> tuple[str, ...]:
    """What the numbers do not depend on, in sentences."""
    inputs, hidden, out = first.inputs, first.hidden, first.out
    one, two = (G * (inputs * hidden + out * hidden + n * hidden) for n in (1, 2))
    one, two = (n + (0 if first.width is None else hidden * out) for n in (one, two))
    notes = [
        "T time steps, B batch, I features, H units (hidden size), P width of h after a projection, O outputs.",
        "The same weights serve every step and every sequence: 13 or 100 steps, 1 or 32 sequences, the number stays.",
        f"{inputs} features into {hidden} units: {one:,} with one bias (Keras, Flax), {two:,} with two (PyTorch).",
        f"Each unit gives one number a step; {hidden} units are one vector of {hidden}.",
    ]
    if output is not None:
        notes.append(f"The {output} outputs come from the Dense head: {width} becomes {output} there, and in no gate.")
    return tuple(notes)
