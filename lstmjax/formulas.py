"""The formulas of a cell as text, read off its row: what `dimensions.py` writes beside the shapes."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import jax

from lstmjax.cells import Cell, as_it_is, as_seen, identity, summed, uncoupled
from lstmjax.published import (
    Clip,
    ClipCell,
    GateNorm,
    Normed,
    NormedCell,
    forget_from_input,
    hard_sigmoid_fifth,
    hard_sigmoid_sixth,
    input_from_forget,
    unbiased,
)
from lstmjax.types import GATE_WORDS, GATES

FORMS: MappingProxyType[object, str] = MappingProxyType(
    {
        identity: "{z}",
        as_it_is: "{z}",
        jax.lax.logistic: "σ({z})",
        jax.lax.tanh: "tanh({z})",
        hard_sigmoid_fifth: "max(0, min(1, {z}/5 + 1/2))",
        hard_sigmoid_sixth: "max(0, min(1, {z}/6 + 1/2))",
        NormedCell: "LN({z})",
        Clip: "max(−{f.limit}, min({f.limit}, {z}))",
        ClipCell: "max(−{f.limit}, min({f.limit}, {z}))",
        summed: "x · w_x + h · w_h{bias}",
        unbiased: "x · w_x + h · w_h",
        as_seen: "{z}",
        GateNorm: "LN({z}) ⊙ gain{bias}",
        Normed: "LN(x · w_x) + LN(h · w_h){bias}",
    }
)
"""How a function in a row is written, known by itself or by its class; one of your own by its name."""

COUPLED: MappingProxyType[object, dict[str, str]] = MappingProxyType(
    {uncoupled: {}, forget_from_input: {"f": "1 − i"}, input_from_forget: {"i": "1 − f"}}
)


def formulas(cell: Cell, bias: str, projection_bias: str = "") -> dict[str, str]:
    """Return the formula of each array that a step computes, in the order in which they are shown.

    They are z, i, f, g, o, c, m and projected, which is what h is if the parameters have a projection.

    Args:
        cell: the row.
        bias: what is added to the products: "", " + b" or " + b + b_h".
        projection_bias: what is added to a projection: "" or " + b_p".

    >>> from lstmjax import CELLS
    >>> formulas(CELLS["cifg"], " + b")["f"]
    '1 − i, forget gate'
    """
    gates = {name: _gate(cell, name) for name in GATES}
    coupled = COUPLED.get(cell.couple)
    if coupled is None:
        pair = f"{_name(cell.couple)}({gates['i']}, {gates['f']})"
        coupled = {"i": f"{pair}[0]", "f": f"{pair}[1]"}
    said = {name: f"{text}, {GATE_WORDS[name]}" for name, text in (gates | coupled).items() if text != "1"}
    a_sum = ": a sum" if cell.carry is as_it_is else ""
    each = f"; then each gate {_form(cell.normalise, 'z', bias)}" if cell.normalise is not as_seen else ""
    return {
        "z": _form(cell.join, "x, h", bias) + _seen(cell) + each,
        **{name: said.get(name, f"1, there is no {GATE_WORDS[name]}") for name in GATES},
        "c": f"{_form(cell.carry, 'f ⊙ c + i ⊙ g')}, cell state{a_sum}",
        "m": f"o ⊙ {_form(cell.squash, _form(cell.inside, 'c'))}",
        "projected": _form(cell.limit_h, f"m · w_p{projection_bias}"),
    }


def _gate(cell: Cell, name: str) -> str:
    return _form(getattr(cell, name), _form(cell.limit, f"z_{name}")) if name in cell.blocks else "1"


def _seen(cell: Cell) -> str:
    """What the pre-activations of gates are given beside the products; that of the candidate is given no more."""
    fed = f" + [{', '.join(cell.feeds)}] · w_r" if "w_r" in cell.has else ""
    peepholes = " + w_c ⊙ c" if "w_c" in cell.has else ""
    new = " (in o the new c)" if "o" in cell.peepholes else ""
    gates = ", ".join(name for name in cell.blocks if name != "g")
    return f"; in {gates}{fed}{peepholes}{new}" if fed or peepholes else ""


def _form(f: Callable, z: str, bias: str = "") -> str:
    before = getattr(f, "before", None)  # what a limit is put on
    z = z if before is None else _form(before, z, bias)
    form = FORMS.get(f) or FORMS.get(type(f))
    return f"{_name(f)}({z})" if form is None else form.format(f=f, z=z, bias=bias)


def _name(f: Callable) -> str:
    return getattr(f, "__name__", None) or repr(f)
