"""The words of the library: what the parameters, a step and a state are called.

Letters, used everywhere: T time steps, B batch, I input features, H hidden units, P width of h
(P = H unless there is a projection), L layers, O outputs, G gate blocks. Leading batch axes are
written `...`; there may be none, one or many.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

Array: TypeAlias = jax.Array
PyTree: TypeAlias = Any

GATES = ("i", "f", "g", "o")
"""The order of the gate blocks: input, forget, candidate, output."""


class GateParams(NamedTuple):
    """One gate's own part of the parameters; see `LSTMParams.gate`."""

    w_x: Array  # [I, H]
    w_h: Array  # [P, H]
    b: Array | None  # [H]
    b_h: Array | None  # [H]


class LSTMParams(NamedTuple):
    """The parameters of one LSTM layer in one direction: a pytree, and nothing else.

    A field that is `None` does not exist: it is no leaf of the tree, gets no gradient and changes
    no equation. The gate axis G is named by `GATES`; H stays the last axis, so that it can be
    sharded. Number of parameters: 4·(I·H + H·H + H) with one bias and no projection.
    """

    w_x: Array  # [I, G, H]  from the input
    w_h: Array  # [P, G, H]  from the previous h
    b: Array | None = None  # [G, H]
    b_h: Array | None = None  # [G, H]  second bias, as PyTorch and cuDNN keep it
    w_p: Array | None = None  # [H, P]  projection h = m · w_p (Sak et al. 2014)

    @property
    def input_size(self) -> int:
        """I, the number of input features of one step."""
        return self.w_x.shape[0]

    @property
    def hidden_size(self) -> int:
        """H, the number of units: the size of every gate, of c and of m."""
        return self.w_x.shape[-1]

    @property
    def output_size(self) -> int:
        """P, the width of h: H, or the width of the projection."""
        return self.w_h.shape[0]

    def gate(self, name: str, blocks: tuple[str, ...] = GATES) -> GateParams:
        """Gives the part of the parameters that belongs to one gate.

        Args:
            name: "i", "f", "g" or "o".
            blocks: the names along the gate axis; a cell with other blocks brings its own.

        Returns:
            `GateParams`: w_x `[I, H]`, w_h `[P, H]`, b and b_h `[H]` or None.

        Raises:
            ValueError: there is no such gate, or the gate axis is not as long as `blocks`.

        >>> params = LSTMParams(jnp.ones((5, 4, 10)), jnp.ones((10, 4, 10)), jnp.ones((4, 10)))
        >>> params.gate("f").w_x.shape
        (5, 10)
        """
        if name not in blocks:
            raise ValueError(f"gate {name!r} is not one of {', '.join(blocks)}.")
        if self.w_x.shape[1] != len(blocks):
            raise ValueError(
                f"w_x has {self.w_x.shape[1]} gate blocks, but {len(blocks)} names were given: {', '.join(blocks)}."
            )
        k = blocks.index(name)
        bias, bias_h = (None if b is None else b[k] for b in (self.b, self.b_h))
        return GateParams(self.w_x[:, k], self.w_h[:, k], bias, bias_h)


class Step(NamedTuple):
    """Everything one step computed, from the one equation in `cell.py`.

    All `[..., H]` but h, which is `[..., P]`. A pre-activation that a cell does not have is None.
    When a wrapper such as zoneout changes h or c after the step, h and c are the changed ones;
    the gates and m stay what the cell computed.
    """

    i: Array  # input gate, 0 to 1
    f: Array  # forget gate, 0 to 1
    g: Array  # candidate, -1 to 1
    o: Array  # output gate, 0 to 1
    z_i: Array | None  # pre-activations
    z_f: Array | None
    z_g: Array | None
    z_o: Array | None
    c: Array  # cell state
    m: Array  # o ⊙ tanh(c), before a projection
    h: Array  # the step's output, [..., P]


class Bidirectional(NamedTuple):
    """A pair for the two directions of one layer: of parameters, or of states."""

    forward: Any
    reverse: Any


class Concatenated(NamedTuple):
    """The textbook form W·[x, h] + b of the same parameters; see `to_concatenated`."""

    w: Array  # [4H, I + P], rows: all of i, then f, g, o; columns: x, then h
    b: Array | None  # [4H]


def to_concatenated(params: LSTMParams, *, sum_biases: bool = False) -> Concatenated:
    """Gives the parameters as the textbooks write them: z = W·[x, h] + b.

    Args:
        params: parameters with one bias, or with two if `sum_biases`.
        sum_biases: write b + b_h as the one bias; without it two biases are refused, since their
            sum cannot be taken apart again.

    Returns:
        `Concatenated`: w `[4H, I + P]`, b `[4H]` or None. Row k·H + j is unit j of gate k. A
        projection is no part of W; hand `params.w_p` to `from_concatenated`.

    Raises:
        ValueError: there are two biases and `sum_biases` is not set.

    >>> params = LSTMParams(jnp.ones((5, 4, 10)), jnp.ones((10, 4, 10)), jnp.ones((4, 10)))
    >>> to_concatenated(params).w.shape
    (40, 15)
    """
    if params.b_h is not None and not sum_biases:
        raise ValueError(
            "params has two biases, b and b_h, but W·[x, h] + b has one. Pass sum_biases=True to add them up."
        )
    rows = jnp.concatenate([params.w_x, params.w_h])  # [I + P, G, H]
    w = rows.reshape(rows.shape[0], -1).T
    biases = [b for b in (params.b, params.b_h) if b is not None]
    return Concatenated(w, sum(biases[1:], biases[0]).reshape(-1) if biases else None)


def from_concatenated(w: Array, b: Array | None = None, *, w_p: Array | None = None) -> LSTMParams:
    """Gives the `LSTMParams` of a textbook W·[x, h] + b; the inverse of `to_concatenated`.

    Args:
        w: `[4H, I + P]`, rows i, f, g, o; columns x, then h. P = H without a projection.
        b: `[4H]` or None.
        w_p: projection `[H, P]`, if there is one.

    Raises:
        ValueError: the sizes of w, b and w_p do not fit each other.

    >>> params = from_concatenated(jnp.ones((40, 15)), jnp.ones(40))
    >>> params.w_x.shape, params.w_h.shape, params.b.shape
    ((5, 4, 10), (10, 4, 10), (4, 10))
    """
    w = jnp.asarray(w)
    if w.ndim != 2 or w.shape[0] % len(GATES):
        raise ValueError(f"w has shape {w.shape}, expected [4H, I + P]: four gates of H rows each.")
    hidden = w.shape[0] // len(GATES)
    w_p = None if w_p is None else jnp.asarray(w_p)
    width = hidden if w_p is None else w_p.shape[-1]
    if w_p is not None and w_p.shape != (hidden, width):
        raise ValueError(
            f"w_p has shape {w_p.shape}, expected [H, P] with H = {hidden} from the {w.shape[0]} rows of w."
        )
    if w.shape[1] <= width:
        raise ValueError(
            f"w has {w.shape[1]} columns, expected I + {width} with I at least 1: the columns of x, then of h."
        )
    if b is not None and jnp.shape(b) != (w.shape[0],):
        raise ValueError(f"b has shape {jnp.shape(b)}, expected [4H] = ({w.shape[0]},), one number for a row of w.")
    columns = w.T.reshape(-1, len(GATES), hidden)  # [I + P, G, H]
    split = columns.shape[0] - width
    bias = None if b is None else jnp.asarray(b).reshape(len(GATES), hidden)
    return LSTMParams(columns[:split], columns[split:], bias, None, w_p)
