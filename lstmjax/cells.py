"""What a cell is: which gate blocks and parameters it has, and how each gate is computed.

A row is hashable: its functions are named and live in a module, or are frozen dataclasses. What a row
does not have costs nothing: a gate without a block is 1, and a parameter that is None does not exist. The
equations that join the gates stand once, in `cell.py`; the published rows stand in `published.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import jax

from lstmjax.types import GATES, LETTERS, Array, LSTMParams

Activation = Callable[[Array], Array]


def identity(z: Array) -> Array:
    """Return z."""
    return z


def uncoupled(i: Array, f: Array) -> tuple[Array, Array]:
    """Return the input and the forget gate unchanged."""
    return i, f


def as_it_is(params: LSTMParams, c: Array) -> Array:
    """Return c."""
    return c


def as_seen(params: LSTMParams, block: int, z: Array) -> Array:
    """Return z."""
    return z


def summed(params: LSTMParams, x: Array, h: Array, product: Any) -> Array:
    """Return x·W_x + h·W_h + b, one site: z `[..., G, H]`."""
    return product("z", (x, params.w_x), (h, params.w_h), bias=(params.b, params.b_h))


@dataclass(frozen=True, repr=False)
class Cell:
    """One row: its gate blocks, its optional parameters, and how each gate is computed.

    `blocks` are the names along the gate axis of the parameters, in the order i, f, g, o. `has` names
    the optional fields of `LSTMParams` that the cell reads beside weights and biases: "w_c", "w_r",
    "norm", "gain". `feeds` names the gates that enter the next step; they follow h and c in the state.
    """

    name: str = "vanilla"
    paper: str = "Hochreiter & Schmidhuber (1997), Gers, Schmidhuber & Cummins (2000)"
    blocks: tuple[str, ...] = GATES
    has: tuple[str, ...] = ()
    feeds: tuple[str, ...] = ()
    i: Activation = jax.lax.logistic
    f: Activation = jax.lax.logistic
    g: Activation = jax.lax.tanh
    o: Activation = jax.lax.logistic
    squash: Activation = jax.lax.tanh  # of c, inside h
    join: Callable[..., Array] = summed  # (params, x, h, product) -> z
    normalise: Callable[[LSTMParams, int, Array], Array] = as_seen  # (params, block, z): z of one block, with peephole
    limit: Activation = identity  # of a pre-activation, before its activation
    couple: Callable[[Array, Array], tuple[Array, Array]] = uncoupled  # of i and f
    carry: Callable[[LSTMParams, Array], Array] = as_it_is  # the c that goes to the next step
    inside: Callable[[LSTMParams, Array], Array] = as_it_is  # the c that m is computed from
    limit_h: Activation = identity  # of a projected h; without a projection there is none

    @property
    def peepholes(self) -> tuple[str, ...]:
        """The gates that see c, in the order of `w_c`."""
        return tuple(name for name in self.blocks if name != "g") if "w_c" in self.has else ()

    @property
    def needs_projection(self) -> bool:
        """Whether the cell limits a projected h, so that its parameters must have a projection w_p."""
        return self.limit_h is not identity

    def __repr__(self) -> str:
        """Show the name, and what differs from the vanilla cell; functions by their names."""
        values = {f.name: getattr(self, f.name) for f in fields(self)[2:] if getattr(self, f.name) != f.default}
        shown = (f"{name}={getattr(value, '__name__', value)}" for name, value in values.items())
        return f"Cell({', '.join([repr(self.name), *shown])})"

    def shapes(self, inputs: int, hidden: int, width: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each array of the parameters, for I, H and P, by its name; a norm's as "norm.x"."""
        gates, peepholes = len(self.blocks), len(self.peepholes)
        sizes = {"I": inputs, "G": gates, "H": hidden, "P": width, "K": peepholes, "R": 3 * hidden, "S": 3}
        return {name: tuple(sizes[letter] for letter in letters) for name, letters in LETTERS.items()}

    def pre_activation(self, params: LSTMParams, name: str, z: Array | None) -> Array | None:
        """Return the pre-activation of a gate from its sum z, peephole included; None: no such block."""
        return None if z is None else self.normalise(params, self.blocks.index(name), z)

    def gate(self, name: str, z: Array | None, absent: Array) -> Array:
        """Return a gate from its pre-activation z, or `absent` if the cell has no such block."""
        return absent if z is None else getattr(self, name)(self.limit(z))


VANILLA = Cell()
"""The LSTM of the textbooks and of every framework: with a forget gate, without peepholes."""
