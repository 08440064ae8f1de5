"""The dimensions, explained: every array of a network with its name, formula, shape and size.

`shapes(input=5, hidden=256, output=10)` answers what people get lost in: units against time steps
against output size, and where the number of parameters comes from.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import jax

from lstmjax import checks
from lstmjax.arguments import as_flags, check_positive, one_of
from lstmjax.cells import VANILLA, Cell
from lstmjax.formulas import formulas
from lstmjax.networks import NetworkParams
from lstmjax.parameters import parameters_of
from lstmjax.published import find_cell
from lstmjax.types import Bidirectional, LSTMParams, Norms, leading_axes

BIASES = {None: 0, "single": 1, "double": 2}
NORMS = {
    "x": "gain of LN(x · w_x)",
    "h": "gain of LN(h · w_h)",
    "c": "gain of LN(c)",
    "x_shift": "shift of LN(x · w_x)",
    "h_shift": "shift of LN(h · w_h)",
    "c_shift": "shift of LN(c)",
}
UNSAID = {"z": "pre-activations of the gate blocks", "c": "cell state", "m": "h before a projection"}


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
    ensemble: tuple[int, ...] = ()  # leading axes of all parameters, as jax.vmap makes them; those of `flow` are of one

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
            if self.ensemble:
                total = f"{'·'.join(_letters(self.ensemble))}·({total})"
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


def _letters(ensemble: tuple[int, ...]) -> tuple[str, ...]:
    return ("E",) if len(ensemble) == 1 else tuple(f"E{n}" for n, _ in enumerate(ensemble, start=1))


def _of_ensemble(rows: tuple[Row, ...], ensemble: tuple[int, ...]) -> tuple[Row, ...]:
    """Return the rows of parameters with the leading axes of an ensemble."""
    letters = _letters(ensemble)
    return tuple(
        row._replace(
            letters=(*letters, *row.letters), shape=(*ensemble, *row.shape), number="·".join((*letters, row.number))
        )
        for row in rows
    )


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
    """The sizes of one layer in one direction, and what its cell has beside weights and biases."""

    inputs: int
    hidden: int
    width: int | None  # of a projection
    biases: int
    gates: int  # G, blocks along the gate axis
    peepholes: int  # K
    fed: bool  # whether gates are fed back
    norm: tuple[str, ...]  # gains and shifts, by the names of `Norms`
    gain: bool  # whether each gate has a gain of its own
    projection_bias: bool
    cell: Cell | None  # None: the parameters are not the vanilla cell's, and no other was named

    @classmethod
    def of_cell(
        cls, row: Cell, inputs: int, hidden: int, width: int | None, biases: int, projection_bias: bool
    ) -> Direction:
        """Return the direction that `init_params` creates for a cell."""
        norm = Norms._fields if "norm" in row.has else ()
        gates, peepholes = len(row.blocks), len(row.peepholes)
        fed, gain = "w_r" in row.has, "gain" in row.has
        return cls(inputs, hidden, width, biases, gates, peepholes, fed, norm, gain, projection_bias, row)

    @classmethod
    def of_params(cls, part: LSTMParams, row: Cell | None) -> Direction:
        """Return the direction of parameters; without a row its cell is the vanilla one, if they fit it."""
        if row is None:
            row = VANILLA if _fits(VANILLA, part) else None
        else:
            checks.check_params(part, row)
        width = None if part.w_p is None else part.output_size
        biases = sum(b is not None for b in (part.b, part.b_h))
        peepholes = 0 if part.w_c is None else part.w_c.shape[0]
        norm = () if part.norm is None else tuple(name for name, a in part.norm._asdict().items() if a is not None)
        sizes = (part.input_size, part.hidden_size, width, biases, part.w_x.shape[1])
        return cls(*sizes, peepholes, part.w_r is not None, norm, part.gain is not None, part.b_p is not None, row)

    @property
    def out(self) -> int:
        """P, the width of h."""
        return self.hidden if self.width is None else self.width

    @property
    def vectors(self) -> int:
        """The number of peepholes, gains and shifts, each H numbers."""
        norms = sum(1 if name in ("c", "c_shift") else self.gates for name in self.norm)
        return self.peepholes + norms + (self.gates if self.gain else 0)


def _fits(row: Cell, part: LSTMParams) -> bool:
    has = all((getattr(part, name) is not None) == (name in row.has) for name in checks.BY_CELL)
    return has and part.w_x.shape[1] == len(row.blocks)


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
    cell: Cell | str | None = None,
    projection: int | None = None,
    projection_bias: bool = False,
    bias: str | None = "single",
) -> Shapes:
    """Return a table of every array of a network, for given sizes or given parameters.

    Args:
        params: `LSTMParams`, a `Bidirectional` pair, a tuple of layers, or `NetworkParams`; their own
            sizes are shown, and of what stands below only time, batch, merge and cell are read. Of an ensemble, as
            `jax.vmap` of `init_network` makes it, the leading axes stand before all others, with the letter E.
        input: I, features of one time step.
        hidden: H, units.
        output: O, classes or targets; None: no Dense head.
        time: T, time steps; None: the letter.
        batch: B, sequences at once; None: the letter.
        layers: L, layers on top of each other.
        bidirectional: every layer runs in both directions.
        merge: the two directions side by side ("concat") or added up ("sum").
        cell: a row of `CELLS`, its name, or a `Cell` of your own. None: the vanilla cell; for parameters
            that are not its own, the gates are left out, since only the cell says what they are.
        projection: P, the width of h if it is projected.
        projection_bias: the projection has a bias b_p.
        bias: "single" (Keras, Flax), "double" (PyTorch, cuDNN) or None.

    Returns:
        `Shapes`; `print` it for the tables, or read its `rows` and `parameters`.

    Raises:
        ValueError: a size is missing or below 1, there is no such cell, or the parameters are not its own; a
            bias of a projection that is not there, a cell that needs a projection.

    >>> shapes(input=5, hidden=10).parameters, shapes(input=5, hidden=10, bias="double").parameters
    (640, 680)
    >>> shapes(input=5, hidden=10, time=13).parameters == shapes(input=5, hidden=10, time=100).parameters
    True
    >>> shapes(input=5, hidden=256, output=10).parameters == 268_288 + 2_570
    True
    >>> shapes(input=5, hidden=10, cell="peephole").parameters == 640 + 3 * 10
    True
    """
    one_of("merge", merge, ("concat", "sum"))
    (bidirectional,) = as_flags(bidirectional=bidirectional)
    check_positive("layers", layers)
    if params is not None:
        parameters_of(params)
    for name, size in {"time": time, "batch": batch}.items():
        if size is not None:
            check_positive(name, size)
    if params is None:
        row = VANILLA if cell is None else find_cell(cell)
        stack = _planned(input, hidden, output, layers, bidirectional, merge, projection, projection_bias, bias, row)
        ensemble: tuple[int, ...] = ()
    else:
        ensemble = leading_axes(params)
        if ensemble:
            params = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[len(ensemble) :], a.dtype), params)
        stack, output = _read(params, None if cell is None else find_cell(cell))
    table = _tabulate(stack, output, time, batch, merge)
    if not ensemble:
        return table
    letters, networks = ", ".join(_letters(ensemble)), prod(ensemble)
    return dataclasses.replace(
        table,
        layers=tuple((title, total, _of_ensemble(rows, ensemble)) for title, total, rows in table.layers),
        head=_of_ensemble(table.head, ensemble),
        notes=(
            f"An ensemble of {networks} networks: all parameters have the leading axes {letters} = {ensemble}, as "
            f"jax.vmap makes them. One network has {table.parameters:,} of them; the lines of what flows through and "
            "those below are of one.",
            *table.notes,
        ),
        ensemble=ensemble,
    )


def _planned(
    input: Any,
    hidden: Any,
    output: Any,
    layers: int,
    bidirectional: bool,
    merge: str,
    projection: int | None,
    projection_bias: bool,
    bias: str | None,
    row: Cell,
) -> list[tuple[Direction, ...]]:
    for name, size in {"input": input, "hidden": hidden}.items():
        if size is None:
            raise ValueError(f"{name} is missing: shapes needs input= and hidden=, or parameters.")
    sizes = {"input": input, "hidden": hidden, "output": output, "layers": layers, "projection": projection}
    for name, size in sizes.items():
        if size is not None:
            check_positive(name, size)
    one_of("bias", bias, tuple(BIASES))
    if projection is None and (projection_bias or row.needs_projection):
        reason = "projection_bias is True" if projection_bias else f"the cell {row.name!r} limits a projected h"
        raise ValueError(f"{reason}, but projection is None. Pass projection=P.")
    stack: list[tuple[Direction, ...]] = []
    for _ in range(layers):
        direction = Direction.of_cell(row, input, hidden, projection, BIASES[bias], projection_bias)
        stack.append((direction, direction) if bidirectional else (direction,))
        input = direction.out * (2 if bidirectional and merge == "concat" else 1)
    return stack


def _read(params: Any, row: Cell | None) -> tuple[list[tuple[Direction, ...]], int | None]:
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
        stack.append(tuple(Direction.of_params(part, row) for part in parts))
    return stack, output


def _tabulate(
    stack: list[tuple[Direction, ...]], output: int | None, time: int | None, batch: int | None, merge: str
) -> Shapes:
    titled = []
    for n, parts in enumerate(stack):
        for k, part in enumerate(parts):
            direction = f", {Bidirectional._fields[k]}" if len(parts) == 2 else ""
            number = f" {n + 1} of {len(stack)}" if len(stack) > 1 else ""
            cell = "" if part.cell in (None, VANILLA) else f", cell {part.cell.name}"
            title = f"LSTM layer{number}{direction}{cell}: {part.inputs} features into {part.hidden} units"
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
    more = {
        "H·P": part.width is not None,
        "P": part.projection_bias,
        "9·H·H": part.fed,
        f"{part.vectors}·H": part.vectors > 0,
    }
    return " + ".join([f"{part.gates}·(I·H + {out}·H{bias})", *(term for term, exists in more.items() if exists)])


def _arrays(part: Direction) -> tuple[Row, ...]:
    gates, hidden, out, out_size = part.gates, part.hidden, "H" if part.width is None else "P", part.out
    g = str(gates)
    rows = [
        Row("w_x", "x · w_x", ("I", g, "H"), (part.inputs, gates, hidden), f"{g}·I·H"),
        Row("w_h", "+ h · w_h", (out, g, "H"), (part.out, gates, hidden), f"{g}·{out}·H"),
        Row("b", "+ b", (g, "H"), (gates, hidden), f"{g}·H"),
        Row("b_h", "+ b_h", (g, "H"), (gates, hidden), f"{g}·H"),
    ][: 2 + part.biases]
    if part.width is not None:
        rows.append(Row("w_p", "m · w_p", ("H", "P"), (hidden, part.width), "H·P"))
    if part.projection_bias:
        rows.append(Row("b_p", "+ b_p", ("P",), (out_size,), "P"))
    if part.peepholes:
        k = str(part.peepholes)
        rows.append(Row("w_c", "+ w_c ⊙ c, peepholes", (k, "H"), (part.peepholes, hidden), f"{k}·H"))
    if part.fed:
        formula = "+ [i, f, o] · w_r, the gates of the step before"
        rows.append(Row("w_r", formula, ("3H", "3", "H"), (3 * hidden, 3, hidden), "9·H·H"))
    for name in part.norm:
        letters, shape = ((), ()) if name in ("c", "c_shift") else ((g,), (gates,))
        number = "·".join((*letters, "H"))
        rows.append(Row(f"norm.{name}", NORMS[name], (*letters, "H"), (*shape, hidden), number))
    if part.gain:
        rows.append(Row("gain", "⊙ gain, after LN of each gate", (g, "H"), (gates, hidden), f"{g}·H"))
    return tuple(rows)


def _flow(first: Direction, letter: str, width: int, output: int | None, b: int | str, t: int | str) -> tuple[Row, ...]:
    hidden, out = first.hidden, "H" if first.width is None else "P"
    bias = ("", " + b", " + b + b_h")[first.biases]
    projection_bias = " + b_p" if first.projection_bias else ""
    words = UNSAID | {"projected": f"m · w_p{projection_bias}"}
    if first.cell is not None:
        words = formulas(first.cell, bias, projection_bias)
    rows = [
        Row("xs", "the input: (batch, time, features)", ("B", "T", "I"), (b, t, first.inputs)),
        Row("x", "one time step of it", ("B", "I"), (b, first.inputs)),
        Row("z", words["z"], ("B", str(first.gates), "H"), (b, first.gates, hidden)),
        *(
            Row(name, formula, ("B", "H"), (b, hidden))
            for name, formula in words.items()
            if name not in ("z", "projected")
        ),
        Row("h", "m" if first.width is None else words["projected"], ("B", out), (b, first.out)),
        Row("ys", "h of all steps (return_sequences=True)", ("B", "T", letter), (b, t, width)),
        Row("h_T", "h of the last step (return_sequences=False)", ("B", letter), (b, width)),
    ]
    if output is not None:
        rows.append(Row("logits", "h_T · head.w + head.b, the Dense head", ("B", "O"), (b, output)))
        rows.append(Row("p", "softmax(logits): O numbers that sum to 1", ("B", "O"), (b, output)))
    return tuple(rows)


def _notes(first: Direction, output: int | None, width: int) -> tuple[str, ...]:
    """What the numbers do not depend on, in sentences."""
    inputs, hidden = first.inputs, first.hidden
    single, double = (sum(row.parameters for row in _arrays(first._replace(biases=n))) for n in (1, 2))
    keras, torch = (" (Keras, Flax)", " (PyTorch)") if first.cell == VANILLA else ("", "")
    notes = [
        "T time steps, B batch, I features, H units (hidden size), P width of h after a projection, O outputs.",
        "The same weights serve every step and every sequence: 13 or 100 steps, 1 or 32 sequences, the number stays.",
        f"{inputs} features into {hidden} units: {single:,} with one bias{keras}, {double:,} with two{torch}.",
        f"Each unit gives one number a step; {hidden} units are one vector of {hidden}.",
    ]
    if first.cell is None:
        notes.append(f"The parameters do not say what their {first.gates} gate blocks compute. Pass cell= to see it.")
    if first.gain:
        notes.append(
            "LN: mean 0 and variance 1 over the H numbers of one gate, its peephole included, before its bias."
        )
    if first.norm:
        notes.append("LN: mean 0 and variance 1 over all numbers it is given, all gates together; then gain and shift.")
    if output is not None:
        notes.append(f"The {output} outputs come from the Dense head: {width} becomes {output} there, and in no gate.")
    return tuple(notes)
