"""The dimensions, explained: every array of a network with its name, formula, shape and size.

`shapes(input=5, hidden=256, output=10)` answers what people get lost in: units against time steps
against output size, and where the number of parameters comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from math import prod
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from lstmjax import checks
from lstmjax.arguments import as_flags, check_positive, one_of
from lstmjax.cells import VANILLA, Cell
from lstmjax.formulas import formulas
from lstmjax.init_stack import init_network
from lstmjax.networks import Dense, NetworkParams
from lstmjax.parameters import parameters_of
from lstmjax.published import find_cell
from lstmjax.stack import directions
from lstmjax.types import LETTERS, Bidirectional, LSTMParams, leading_axes

FORMULAS = MappingProxyType(
    {
        "w_x": "x · w_x",
        "w_h": "+ h · w_h",
        "b": "+ b",
        "b_h": "+ b_h",
        "w_p": "m · w_p",
        "b_p": "+ b_p",
        "w_c": "+ w_c ⊙ c, peepholes",
        "w_r": "+ [i, f, o] · w_r, the gates of the step before",
        "norm.x": "gain of LN(x · w_x)",
        "norm.h": "gain of LN(h · w_h)",
        "norm.c": "gain of LN(c)",
        "norm.x_shift": "shift of LN(x · w_x)",
        "norm.h_shift": "shift of LN(h · w_h)",
        "norm.c_shift": "shift of LN(c)",
        "gain": "⊙ gain, after LN of each gate",
    }
)
"""What each array of the parameters does, in the order in which they are shown; their axes are those of `LETTERS`."""
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
    """The parameters of one layer in one direction, of which the shapes count, and their cell."""

    params: LSTMParams
    cell: Cell | None  # None: the parameters are not the vanilla cell's, and no other was named
    ensemble: tuple[int, ...]  # leading axes of all parameters; of `params` they were taken away

    @property
    def gates(self) -> int:
        """G, the number of blocks along the gate axis."""
        return self.params.w_x.shape[1]

    @property
    def biases(self) -> int:
        """The number of biases of the gates."""
        return sum(b is not None for b in (self.params.b, self.params.b_h))

    @property
    def out(self) -> str:
        """The letter of the width of h: H, or P if h is projected."""
        return "H" if self.params.w_p is None else "P"


def _cell_of(params: LSTMParams, row: Cell | None) -> Cell | None:
    """Return the cell of parameters, which must be `row`; without one it is the vanilla cell, if they fit it."""
    if row is not None:
        checks.check_params(params, row)
        return row
    vanilla = params.w_x.shape[1] == len(VANILLA.blocks) and all(
        getattr(params, name) is None for name in checks.BY_CELL
    )
    return VANILLA if vanilla else None


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
    for name, size in {"time": time, "batch": batch}.items():
        if size is not None:
            check_positive(name, size)
    row = None if cell is None else find_cell(cell)
    if params is None:
        row = row or VANILLA
        sizes: Any = {"input": input, "hidden": hidden, "output": output, "layers": layers, "projection": projection}
        _check_sizes(sizes, bias, projection_bias, row)
        options: Any = {"cell": row, "projection_size": projection, "projection_bias": projection_bias, "bias": bias}
        options |= {"layers": layers, "bidirectional": bidirectional, "merge": merge}
        make = partial(init_network, jax.random.key(0), sizes["input"], sizes["hidden"], output or 1, **options)
        params = jax.eval_shape(make)
        if output is None:
            params = params.layers
    parameters_of(params)  # refuses other kinds
    ensemble = leading_axes(params)
    params = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[len(ensemble) :], a.dtype), params)
    read = parameters_of(params)
    stack = [
        tuple(Direction(part, _cell_of(part, row), ensemble) for part in directions(layer)) for layer in read.layers
    ]
    return _tabulate(stack, read.head, time, batch, merge)


def _check_sizes(sizes: dict[str, int | None], bias: str | None, projection_bias: bool, row: Cell) -> None:
    """Refuse sizes of which no network can be planned."""
    for name in ("input", "hidden"):
        if sizes[name] is None:
            raise ValueError(f"{name} is missing: shapes needs input= and hidden=, or parameters.")
    for name, size in sizes.items():
        if size is not None:
            check_positive(name, size)
    one_of("bias", bias, (None, "single", "double"))
    if sizes["projection"] is None and (projection_bias or row.needs_projection):
        reason = "projection_bias is True" if projection_bias else f"the cell {row.name!r} limits a projected h"
        raise ValueError(f"{reason}, but projection is None. Pass projection=P.")


def _tabulate(
    stack: list[tuple[Direction, ...]], dense: Dense | None, time: int | None, batch: int | None, merge: str
) -> Shapes:
    titled = []
    for n, parts in enumerate(stack):
        for k, part in enumerate(parts):
            direction = f", {Bidirectional._fields[k]}" if len(parts) == 2 else ""
            number = f" {n + 1} of {len(stack)}" if len(stack) > 1 else ""
            cell = "" if part.cell in (None, VANILLA) else f", cell {part.cell.name}"
            sizes = f"{part.params.input_size} features into {part.params.hidden_size} units"
            title = f"LSTM layer{number}{direction}{cell}: {sizes}"
            titled.append((title, _total(part), _arrays(part)))
    first, top = stack[0][0], stack[-1]
    joined = len(top) == 2 and merge == "concat"
    width = sum(part.params.output_size for part in (top if joined else top[:1]))
    letter = f"2{top[0].out}" if joined else top[0].out
    head: tuple[Row, ...] = ()
    output = None if dense is None else dense.w.shape[1]
    if output is not None:
        head = (
            _trained(first, "head.w", "h · head.w", (letter, "O"), (width, output), [letter, "O"]),
            _trained(first, "head.b", "+ head.b", ("O",), (output,), ["O"]),
        )
    b, t = ("B" if batch is None else batch), ("T" if time is None else time)
    count = sum(row.parameters for _, _, rows in titled for row in rows) + sum(row.parameters for row in head)
    notes = (*_notes_on_ensemble(first.ensemble, count), *_notes(first, output, width))
    return Shapes(tuple(titled), head, _flow(first, letter, width, output, b, t), notes, first.ensemble)


def _total(part: Direction) -> str:
    """Return the formula of the number of parameters, in its well-known form: 4·(I·H + H·H + H)."""
    rows = {row.name: row for row in _arrays(part._replace(ensemble=()))}
    bias = ("", " + H", " + 2·H")[part.biases]
    terms = [f"{part.gates}·(I·H + {part.out}·H{bias})"]
    terms += [rows.pop(name).number for name in ("w_p", "b_p", "w_r") if name in rows]
    more = sum(row.parameters for name, row in rows.items() if name not in ("w_x", "w_h", "b", "b_h"))
    vectors = more // part.params.hidden_size
    total = " + ".join([*terms, *([f"{vectors}·H"] if vectors else [])])
    return f"{'·'.join(_letters(part.ensemble))}·({total})" if part.ensemble else total


def _letters(ensemble: tuple[int, ...]) -> tuple[str, ...]:
    """Return the letters of the axes of an ensemble: E, or E1, E2 and so on."""
    return ("E",) if len(ensemble) == 1 else tuple(f"E{n}" for n, _ in enumerate(ensemble, start=1))


def _trained(
    part: Direction, name: str, formula: str, letters: tuple[str, ...], shape: tuple[int, ...], terms: list[str]
) -> Row:
    """Return the row of an array of parameters, with the axes of an ensemble before its own."""
    of_ensemble = _letters(part.ensemble)
    number = "·".join((*of_ensemble, *terms))
    return Row(name, formula, (*of_ensemble, *letters), (*part.ensemble, *shape), number)


def _arrays(part: Direction) -> tuple[Row, ...]:
    """Return a row for each array, with its axes in letters: sizes that the cell determines are numbers."""
    written = {"G": str(part.gates), "P": part.out, "R": "3H", "S": "3"}
    fields = part.params._asdict()
    if part.params.norm is not None:
        fields |= {f"norm.{name}": a for name, a in part.params.norm._asdict().items()}
    rows = []
    for name, a in ((name, fields[name]) for name in FORMULAS if fields.get(name) is not None):
        sizes = dict(zip(LETTERS[name], a.shape, strict=True))
        if "K" in sizes:
            written["K"] = str(sizes["K"])
        letters = tuple(written.get(letter, letter) for letter in sizes)
        # Sizes that the cell determines are multiplied: R is 3·H.
        factors = [3 if letter == "R" else size for letter, size in sizes.items() if letter in "GKRS"]
        terms = [str(prod(factors))] if factors else []
        terms += ["H" if letter == "R" else written.get(letter, letter) for letter in sizes if letter not in "GKS"]
        rows.append(_trained(part, name, FORMULAS[name], letters, a.shape, terms))
    return tuple(rows)


def _flow(first: Direction, letter: str, width: int, output: int | None, b: int | str, t: int | str) -> tuple[Row, ...]:
    params = first.params
    inputs, hidden = params.input_size, params.hidden_size
    bias = ("", " + b", " + b + b_h")[first.biases]
    projection_bias = "" if params.b_p is None else " + b_p"
    words = UNSAID | {"projected": f"m · w_p{projection_bias}"}
    if first.cell is not None:
        words = formulas(first.cell, bias, projection_bias)
    rows = [
        Row("xs", "the input: (batch, time, features)", ("B", "T", "I"), (b, t, inputs)),
        Row("x", "one time step of it", ("B", "I"), (b, inputs)),
        Row("z", words["z"], ("B", str(first.gates), "H"), (b, first.gates, hidden)),
        *(
            Row(name, formula, ("B", "H"), (b, hidden))
            for name, formula in words.items()
            if name not in ("z", "projected")
        ),
        Row("h", "m" if params.w_p is None else words["projected"], ("B", first.out), (b, params.output_size)),
        Row("ys", "h of all steps (return_sequences=True)", ("B", "T", letter), (b, t, width)),
        Row("h_T", "h of the last step (return_sequences=False)", ("B", letter), (b, width)),
    ]
    if output is not None:
        rows.append(Row("logits", "h_T · head.w + head.b, the Dense head", ("B", "O"), (b, output)))
        rows.append(Row("p", "softmax(logits): O numbers that sum to 1", ("B", "O"), (b, output)))
    return tuple(rows)


def _notes_on_ensemble(ensemble: tuple[int, ...], count: int) -> tuple[str, ...]:
    """Return what is to be said of an ensemble with this number of parameters; nothing of a single network."""
    if not ensemble:
        return ()
    networks = prod(ensemble)
    return (
        f"An ensemble of {networks} networks: all parameters have the leading axes {', '.join(_letters(ensemble))} = "
        f"{ensemble}, as jax.vmap makes them. One network has {count // networks:,} of them; the lines of what flows "
        "through and those below are of one.",
    )


def _notes(first: Direction, output: int | None, width: int) -> tuple[str, ...]:
    """What the numbers do not depend on, in sentences."""
    params = first.params
    inputs, hidden, bias = params.input_size, params.hidden_size, first.gates * params.hidden_size
    single = sum(row.parameters for row in _arrays(first._replace(ensemble=()))) - (first.biases - 1) * bias
    double = single + bias
    keras, torch = (" (Keras, Flax)", " (PyTorch)") if first.cell == VANILLA else ("", "")
    notes = [
        "T time steps, B batch, I features, H units (hidden size), P width of h after a projection, O outputs.",
        "The same weights serve every step and every sequence: 13 or 100 steps, 1 or 32 sequences, the number stays.",
        f"{inputs} features into {hidden} units: {single:,} with one bias{keras}, {double:,} with two{torch}.",
        f"Each unit gives one number a step; {hidden} units are one vector of {hidden}.",
    ]
    if first.cell is None:
        notes.append(f"The parameters do not say what their {first.gates} gate blocks compute. Pass cell= to see it.")
    if params.gain is not None:
        notes.append(
            "LN: mean 0 and variance 1 over the H numbers of one gate, its peephole included, before its bias."
        )
    if params.norm is not None:
        notes.append("LN: mean 0 and variance 1 over all numbers it is given, all gates together; then gain and shift.")
    if output is not None:
        notes.append(f"The {output} outputs come from the Dense head: {width} becomes {output} there, and in no gate.")
    return tuple(notes)
