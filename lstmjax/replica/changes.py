"""What others do differently, as changes of our side: of its parameters, of its cell, or of the way it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from lstmjax.cell import cell_step, product
from lstmjax.cells import Activation, Cell
from lstmjax.frameworks.base.running import turned
from lstmjax.published import CELLS, GateNorm, Normed, NormedCell
from lstmjax.replica.sides import Array, Side
from lstmjax.types import GATES, Bidirectional, LSTMParams

OfParams = Callable[[LSTMParams, Cell], LSTMParams | None]
"""Return changed parameters, or None where the change does not apply to these."""
OfSide = Callable[[Side], Side | None]
"""Return a changed side, or None where the change does not apply to it."""


def gates_reordered(params: LSTMParams, cell: Cell, order: str) -> LSTMParams | None:
    """Return the parameters as a reader has them who takes the blocks i, f, g, o for those of `order`."""
    if cell.blocks != GATES:
        return None
    blocks = [order.index(gate) for gate in GATES]
    b = None if params.b is None else params.b[blocks]
    b_h = None if params.b_h is None else params.b_h[blocks]
    return params._replace(w_x=params.w_x[:, blocks], w_h=params.w_h[:, blocks], b=b, b_h=b_h)


def forget_bias_shifted(params: LSTMParams, cell: Cell, by: float) -> LSTMParams | None:
    """Return the parameters with another bias of the forget gate."""
    if "f" not in cell.blocks:
        return None
    b: Any = np.zeros_like(params.w_x[0]) if params.b is None else np.array(params.b)
    b[cell.blocks.index("f")] += np.asarray(by, b.dtype)
    return params._replace(b=b)


def biases_scaled(params: LSTMParams, cell: Cell, first: int, second: int) -> LSTMParams | None:
    """Return the parameters with multiples of the two biases; a single bias counts as the first."""
    if params.b is None or (params.b_h is None and second != first):
        return None
    b: Any = params.b
    b_h: Any = params.b_h
    b = np.asarray(first, b.dtype) * b
    if b_h is not None:
        b_h = np.asarray(second, b_h.dtype) * b_h
    return params._replace(b=b, b_h=b_h)


def transposed(params: LSTMParams, cell: Cell, field: str) -> LSTMParams | None:
    """Return the parameters with the matrix of every gate transposed, if that fits."""
    w = getattr(params, field)
    return params._replace(**{field: w.swapaxes(0, 2)}) if w.shape[0] == w.shape[2] else None


def weights_exchanged(params: LSTMParams, cell: Cell) -> LSTMParams | None:
    """Return the parameters with w_x and w_h in each other's place, if that fits."""
    fits = params.w_x.shape == params.w_h.shape
    return params._replace(w_x=params.w_h, w_h=params.w_x) if fits else None


def without_peepholes(params: LSTMParams, cell: Cell) -> LSTMParams | None:
    """Return the parameters with peepholes of zeros, if there are any."""
    return None if params.w_c is None else params._replace(w_c=0 * params.w_c)


def activated(
    side: Side, *, sigma: Activation | None = None, g: Activation | None = None, squash: Activation | None = None
) -> Side:
    """Return the side with other activations in its cell: of i, f and o; of the candidate; of c inside h."""
    cell = side.cell
    if sigma is not None:
        cell = replace(cell, i=sigma, f=sigma, o=sigma)
    return replace(side, cell=replace(cell, g=g or cell.g, squash=squash or cell.squash))


def head_activated(side: Side, activation: Activation) -> Side | None:
    """Return the side with an activation of the head's outputs, if there is a head."""
    return None if side.head is None else replace(side, activation=activation)


def other_epsilon(side: Side, epsilon: float) -> Side | None:
    """Return the side with another ε in every layer normalisation, if there are any."""
    cell = side.cell
    if isinstance(cell.normalise, GateNorm):
        return replace(side, cell=replace(cell, normalise=GateNorm(epsilon)))
    if not isinstance(cell.join, Normed):
        return None
    carry, inside = (NormedCell(epsilon) if isinstance(f, NormedCell) else f for f in (cell.carry, cell.inside))
    return replace(side, cell=replace(cell, join=Normed(epsilon), carry=carry, inside=inside))


def other_norm(side: Side) -> Side | None:
    """Return the side that carries LN(c) on instead of c, or the other way round."""
    others = {"layer_norm": "layer_norm_carried", "layer_norm_carried": "layer_norm"}
    return replace(side, cell=CELLS[others[side.cell.name]]) if side.cell.name in others else None


def directions_swapped(side: Side) -> Side | None:
    """Return the side with forward and reverse weights in each other's place, if there are pairs."""
    if not any(isinstance(layer, Bidirectional) for layer in side.layers):
        return None
    layers = tuple(
        Bidirectional(layer.reverse, layer.forward) if isinstance(layer, Bidirectional) else layer
        for layer in side.layers
    )
    return replace(side, layers=layers)


def inputs_reversed(side: Side) -> Side:
    """Return the side whose xs are in reverse order."""
    return replace(side, xs=turned(side.xs, side.longest))


def run_backwards(side: Side) -> Side:
    """Return the side that runs backwards, each output at the step of its input."""
    return replace(side, before=turned, after=turned)


def outputs_reversed(side: Side) -> Side:
    """Return the side whose outputs are in reverse order: it runs backwards over reversed xs."""
    return run_backwards(inputs_reversed(side))


def every_layer_reversed(side: Side) -> Side | None:
    """Return the side in which each of several layers gets its xs in reverse order.

    For a single layer that is `inputs_reversed`.
    """
    return replace(side, before=turned) if len(side.layers) > 1 else None


def reverse_half_turned(side: Side) -> Side | None:
    """Return the side whose reverse directions leave their outputs in the order in which they ran."""
    if not all(isinstance(layer, Bidirectional) for layer in side.layers):
        return None

    def after(a: Array, lengths: Array) -> Array:
        half = a.shape[-1] // 2
        return np.concatenate([a[..., :half], turned(a[..., half:], lengths)], axis=-1)

    return replace(side, after=after)


def halves_swapped(side: Side) -> Side | None:
    """Return the side whose pairs put the outputs of the reverse direction first."""
    if not all(isinstance(layer, Bidirectional) for layer in side.layers):
        return None
    return replace(side, after=lambda a, lengths: np.roll(a, a.shape[-1] // 2, axis=-1))


def along_the_batch(side: Side) -> Side | None:
    """Return the side that takes the first axis of xs for time."""
    if len(side.xs) == 1 or side.state is not None:
        return None

    def swap(a: Array, lengths: Array) -> Array:
        return np.swapaxes(a, 0, 1)

    return replace(side, lengths=None, before=swap, after=swap)


def without_lengths(side: Side) -> Side | None:
    """Return the side that runs over the padding, too."""
    return None if side.lengths is None else replace(side, lengths=None)


def without_state(side: Side) -> Side | None:
    """Return the side that begins with zeros, if it has an initial state."""
    return None if side.state is None else replace(side, state=None)


def state_swapped(side: Side) -> Side | None:
    """Return the side with h and c of its initial state in each other's place, if that fits."""
    if side.state is None:
        return None

    def swap(pair: Any) -> Any:
        h, c = pair
        return c, h

    layers, fits = [], True
    for state in side.state:
        pairs = tuple(state) if isinstance(state, Bidirectional) else (state,)
        fits &= all(np.shape(h) == np.shape(c) for h, c in pairs)
        swapped = [swap(pair) for pair in pairs]
        layers.append(Bidirectional(*swapped) if isinstance(state, Bidirectional) else swapped[0])
    return replace(side, state=tuple(layers)) if fits else None


def products_rounded(side: Side, exponent: int, mantissa: int) -> Side | None:
    """Return the side whose matrix products round their operands to fewer bits."""
    wide = side.dtype in ("float32", "float64") and side.step is None
    return replace(side, step=RoundedProducts(side.cell, exponent, mantissa)) if wide else None


@dataclass(frozen=True)
class RoundedProducts:
    """The step of a cell whose products round their operands."""

    cell: Cell
    exponent: int
    mantissa: int

    def __call__(self, params: LSTMParams, state: tuple, x: Any, *, emit: Any = "h") -> Any:
        def rounded(a: Any) -> Any:
            return jax.lax.reduce_precision(a, self.exponent, self.mantissa)

        def rounded_product(site: str, *terms: Any, bias: tuple = ()) -> Any:
            return product(site, *((rounded(a), rounded(b)) for a, b in terms), bias=bias)

        return cell_step(params, state, x, cell=self.cell, product=rounded_product, emit=emit)


def peephole_on_old_c(side: Side) -> Side | None:
    """Return the side whose output gate sees the c of the step before."""
    fits = "o" in side.cell.peepholes and not side.cell.feeds and side.step is None
    return replace(side, step=PeepholeOnOldC(side.cell)) if fits else None


@dataclass(frozen=True)
class PeepholeOnOldC:
    """The step of a cell whose output gate sees c where it should see the new c."""

    cell: Cell

    def __call__(self, params: LSTMParams, state: tuple, x: Any, *, emit: Any = "h") -> Any:
        assert params.w_c is not None
        row, block, old = self.cell.peepholes.index("o"), self.cell.blocks.index("o"), state[1]
        w_c = params.w_c[row].astype(old.dtype)

        def normalise(params: LSTMParams, number: int, z: Any) -> Any:
            if number == block:
                z = z + jax.numpy.broadcast_to(w_c, old.shape) * old
            return self.cell.normalise(params, number, z)

        blind = params._replace(w_c=params.w_c.at[row].set(0))  # the peephole to the new c is cut
        return cell_step(blind, state, x, cell=replace(self.cell, normalise=normalise), emit=emit)
