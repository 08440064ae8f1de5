"""What others do differently, as changes of our side: functions of the parameters, of the cell, of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from lstmjax.cell import cell_step, product
from lstmjax.cells import Activation, Cell
from lstmjax.published import CELLS, GateNorm, Normed, NormedCell
from lstmjax.replica.sides import Array, Side, turned
from lstmjax.types import GATES, Bidirectional, LSTMParams

OfParams = Callable[[LSTMParams, Cell], LSTMParams | None]
"""Gives changed parameters; None: that cannot be the case with these."""
OfSide = Callable[[Side], Side | None]
"""Gives a changed side; None: that cannot be the case here."""


def reordered(params: LSTMParams, cell: Cell, order: str) -> LSTMParams | None:
    """Gives the parameters as one reads them who takes the blocks i, f, g, o for those of `order`."""
    if cell.blocks != GATES:
        return None
    at = [order.index(gate) for gate in GATES]
    b, b_h = (None if b is None else b[at] for b in (params.b, params.b_h))
    return params._replace(w_x=params.w_x[:, at], w_h=params.w_h[:, at], b=b, b_h=b_h)


def forget_moved(params: LSTMParams, cell: Cell, by: float) -> LSTMParams | None:
    """Gives the parameters with another bias of the forget gate."""
    if "f" not in cell.blocks:
        return None
    b: Any = np.zeros_like(params.w_x[0]) if params.b is None else np.array(params.b)
    b[cell.blocks.index("f")] += np.asarray(by, b.dtype)
    return params._replace(b=b)


def biased(params: LSTMParams, cell: Cell, first: int, second: int) -> LSTMParams | None:
    """Gives the parameters with multiples of the two biases; one alone counts as the first."""
    if params.b is None or (params.b_h is None and second != first):
        return None
    pairs: Any = (first, params.b), (second, params.b_h)
    b, b_h = (None if b is None else np.asarray(k, b.dtype) * b for k, b in pairs)
    return params._replace(b=b, b_h=b_h)


def transposed(params: LSTMParams, cell: Cell, field: str) -> LSTMParams | None:
    """Gives the parameters with every gate's own matrix transposed, if that fits."""
    w = getattr(params, field)
    return params._replace(**{field: w.swapaxes(0, 2)}) if w.shape[0] == w.shape[2] else None


def exchanged(params: LSTMParams, cell: Cell) -> LSTMParams | None:
    """Gives the parameters with w_x and w_h in each other's place, if that fits."""
    fits = params.w_x.shape == params.w_h.shape
    return params._replace(w_x=params.w_h, w_h=params.w_x) if fits else None


def unseeing(params: LSTMParams, cell: Cell) -> LSTMParams | None:
    """Gives the parameters with peepholes of zeros, if there are any."""
    return None if params.w_c is None else params._replace(w_c=0 * params.w_c)


def activated(
    side: Side, *, sigma: Activation | None = None, g: Activation | None = None, squash: Activation | None = None
) -> Side:
    """Gives the side with other activations in its cell: of i, f and o, of the candidate, of c inside h."""
    cell = side.cell
    i, f, o = (sigma or own for own in (cell.i, cell.f, cell.o))
    return replace(side, cell=replace(cell, i=i, f=f, o=o, g=g or cell.g, squash=squash or cell.squash))


def other_epsilon(side: Side, epsilon: float) -> Side | None:
    """Gives the side with another ε in every layer normalisation, if there are any."""
    cell = side.cell
    if isinstance(cell.normalise, GateNorm):
        return replace(side, cell=replace(cell, normalise=GateNorm(epsilon)))
    if not isinstance(cell.join, Normed):
        return None
    carry, inside = (NormedCell(epsilon) if isinstance(f, NormedCell) else f for f in (cell.carry, cell.inside))
    return replace(side, cell=replace(cell, join=Normed(epsilon), carry=carry, inside=inside))


def other_norm(side: Side) -> Side | None:
    """Gives the side with LN(c) carried on instead of c, or the other way round."""
    others = {"layer_norm": "layer_norm_carried", "layer_norm_carried": "layer_norm"}
    return replace(side, cell=CELLS[others[side.cell.name]]) if side.cell.name in others else None


def directions_swapped(side: Side) -> Side | None:
    """Gives the side with forward and reverse weights in each other's place, if there are pairs."""
    if not any(isinstance(layer, Bidirectional) for layer in side.layers):
        return None
    swapped = (Bidirectional(*layer[::-1]) if isinstance(layer, Bidirectional) else layer for layer in side.layers)
    return replace(side, layers=tuple(swapped))


def fed_backwards(side: Side) -> Side:
    """Gives the side whose xs are in reverse order."""
    return replace(side, xs=turned(side.xs, side.longest))


def backwards(side: Side) -> Side:
    """Gives the side that runs backwards, its outputs beside its inputs."""
    return replace(side, before=turned, after=turned)


def given_backwards(side: Side) -> Side:
    """Gives the side whose outputs are in reverse order: it is fed backwards, and runs backwards."""
    return backwards(fed_backwards(side))


def left_backwards(side: Side) -> Side | None:
    """Gives the side of which each of several layers is fed backwards; for one layer that is `fed_backwards`."""
    return replace(side, before=turned) if len(side.layers) > 1 else None


def reverse_half_turned(side: Side) -> Side | None:
    """Gives the side whose reverse directions give their outputs in the order they ran."""
    if not all(isinstance(layer, Bidirectional) for layer in side.layers):
        return None

    def after(a: Array, lengths: Array) -> Array:
        half = a.shape[-1] // 2
        return np.concatenate([a[..., :half], turned(a[..., half:], lengths)], axis=-1)

    return replace(side, after=after)


def halves_swapped(side: Side) -> Side | None:
    """Gives the side whose pairs give the reverse direction's outputs first."""
    if not all(isinstance(layer, Bidirectional) for layer in side.layers):
        return None
    return replace(side, after=lambda a, lengths: np.roll(a, a.shape[-1] // 2, axis=-1))


def along_the_batch(side: Side) -> Side | None:
    """Gives the side that takes the first axis of xs for time."""
    if len(side.xs) == 1 or side.state is not None:
        return None
    swap = partial(np.swapaxes, axis1=0, axis2=1)
    return replace(side, lengths=None, before=lambda a, _: swap(a), after=lambda a, _: swap(a))


def without_lengths(side: Side) -> Side | None:
    """Gives the side that runs over the padding, too."""
    return None if side.lengths is None else replace(side, lengths=None)


def other_state(side: Side, *, swapped: bool) -> Side | None:
    """Gives the side with h and c of its initial state in each other's place, or without one."""
    if side.state is None:
        return None
    if not swapped:
        return replace(side, state=None)

    def swap(state: Any) -> Any:
        return Bidirectional(*map(swap, state)) if isinstance(state, Bidirectional) else (state[1], state[0])

    fits = all(np.shape(h) == np.shape(c) for h, c in _pairs(side.state))
    return replace(side, state=tuple(map(swap, side.state))) if fits else None


def _pairs(state: Any) -> list[Any]:
    each = (list(one) if isinstance(one, Bidirectional) else [one] for one in state)
    return [pair for several in each for pair in several]


def coarse(side: Side, exponent: int, mantissa: int) -> Side | None:
    """Gives the side whose matrix products see their operands rounded to fewer bits."""
    wide = side.dtype in ("float32", "float64") and side.step is None
    return replace(side, step=Coarse(side.cell, exponent, mantissa)) if wide else None


@dataclass(frozen=True)
class Coarse:
    """The step of a cell with rounded operands in its products."""

    cell: Cell
    exponent: int
    mantissa: int

    def __call__(self, params: LSTMParams, state: tuple, x: Any, *, emit: Any = "h") -> Any:
        def rough(site: str, *terms: Any, bias: tuple = ()) -> Any:
            def fewer(a: Any) -> Any:
                return jax.lax.reduce_precision(a, self.exponent, self.mantissa)

            return product(site, *((fewer(a), fewer(b)) for a, b in terms), bias=bias)

        return cell_step(params, state, x, cell=self.cell, product=rough, emit=emit)


def late_peephole(side: Side) -> Side | None:
    """Gives the side whose output gate sees the c of the step before."""
    fits = "o" in side.cell.peepholes and not side.cell.feeds and side.step is None
    return replace(side, step=OldPeephole(side.cell)) if fits else None


@dataclass(frozen=True)
class OldPeephole:
    """The step of a cell, its output gate with c in the place of c'."""

    cell: Cell

    def __call__(self, params: LSTMParams, state: tuple, x: Any, *, emit: Any = "h") -> Any:
        assert params.w_c is not None
        at, block, old = self.cell.peepholes.index("o"), self.cell.blocks.index("o"), state[1]
        w_c = params.w_c[at].astype(old.dtype)

        def seeing_old(params: LSTMParams, number: int, z: Any) -> Any:
            if number == block:
                z = z + jax.numpy.broadcast_to(w_c, old.shape) * old
            return self.cell.normalise(params, number, z)

        unseeing = params._replace(w_c=params.w_c.at[at].set(0))
        return cell_step(unseeing, state, x, cell=replace(self.cell, normalise=seeing_old), emit=emit)
