"""The table of cells: what the gates of each are.

A row says which blocks the gate axis of the parameters holds and what each gate is made of; the
equations that put the gates together stand once, in `cell.py`. Functions are named and live in a
module, so that a row is hashable and stable under jit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import jax

from lstmjax.types import GATES, Array

Activation = Callable[[Array], Array]


@dataclass(frozen=True)
class Cell:
    """One row: the gate blocks in the order of the parameters, and the activation of each gate."""

    blocks: tuple[str, ...] = GATES
    i: Activation = jax.lax.logistic
    f: Activation = jax.lax.logistic
    g: Activation = jax.lax.tanh
    o: Activation = jax.lax.logistic
    squash: Activation = jax.lax.tanh  # of c, inside h


VANILLA = Cell()
"""The LSTM of the textbooks and of every framework: a forget gate, no peepholes
(Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000)."""

CELLS = MappingProxyType({"vanilla": VANILLA})
"""All cells by name."""
