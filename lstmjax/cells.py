"""What a cell is: which gate blocks and parameters it has, and how each gate is made.

A row is hashable: its functions are named and live in a module, or are frozen dataclasses. What a row
does not have costs nothing: a gate without a block is 1, a parameter that is None is not there. The
equations that put the gates together stand once, in `cell.py`; the published rows in `published.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from lstmjax.types import GATES, Array, LSTMParams

Activation = Callable[[Array], Array]


def identity(z: Array) -> Array:
    """Gives z."""
    return z


def uncoupled(i: Array, f: Array) -> tuple[Array, Array]:
    """Gives the input and the forget gate as they are."""
    return i, f


def as_it_is(params: LSTMParams, c: Array) -> Array:
    """Gives c."""
    return c


def as_seen(params: LSTMParams, block: int, z: Array) -> Array:
    """Return z."""
    return z


def summed(params: LSTMParams, x: Array, h: Array, product: Any) -> Array:
    """Gives x·W_x + h·W_h + b, one site: z `[..., G, H]`."""
    return product("z", (x, params.w_x), (h, params.w_h), bias=(params.b, params.b_h))


@dataclass(frozen=True)
class Cell:
    """One row: which gate blocks and optional parameters there are, and how each gate is made.

    `blocks` are the names along the gate axis of the parameters, in the order i, f, g, o. `has` names
    the optional fields of `LSTMParams` that the cell reads beside weights and biases: "w_c", "w_r",
    "norm", "gain". `feeds` are gates that are handed to the next step, in the state behind h and c.
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
    carry: Callable[[LSTMParams, Array], Array] = as_it_is  # c as it is carried on
    inside: Callable[[LSTMParams, Array], Array] = as_it_is  # c as m sees it
    limit_h: Activation = identity  # of a projected h; without a projection there is none

    @property
    def peepholes(self) -> tuple[str, ...]:
        """The gates that see c, in the order of `w_c`."""
        return tuple(name for name in self.blocks if name != "g") if "w_c" in self.has else ()

    @property
    def needs_projection(self) -> bool:
        """Whether the cell does something with a projected h, so that parameters without w_p are not its own."""
        return self.limit_h is not identity

    def pre_activation(self, params: LSTMParams, name: str, z: Array | None) -> Array | None:
        """Return the pre-activation of a gate from its sum z, in which its peephole is; None: no such block."""
        return None if z is None else self.normalise(params, self.blocks.index(name), z)

    def gate(self, name: str, z: Array | None, absent: Array) -> Array:
        """Gives a gate of its pre-activation, or `absent` if the cell has no such block."""
        return absent if z is None else getattr(self, name)(self.limit(z))


VANILLA = Cell()
"""The LSTM of the textbooks and of every framework: a forget gate, no peepholes."""
