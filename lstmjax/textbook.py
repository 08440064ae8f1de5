"""The form of the textbooks, z = W·[x, h] + b, as a view of the same parameters."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arguments import as_array, as_arrays, as_flags, kind
from lstmjax.errors import Message, Option
from lstmjax.types import GATES, Array, LSTMParams

VANILLA_FIELDS = ("w_x", "w_h", "b", "b_h", "w_p")
"""The fields of `LSTMParams` that the textbook form has a place for, or leaves where they are."""


class Concatenated(NamedTuple):
    """The textbook form W·[x, h] + b of the same parameters; see `to_concatenated`."""

    w: Array  # [4H, I + P], rows: all of i, then f, g, o; columns: x, then h
    b: Array | None  # [4H]


def to_concatenated(params: LSTMParams, *, sum_biases: bool = False) -> Concatenated:
    """Return the parameters as the textbooks write them: z = W·[x, h] + b.

    Args:
        params: parameters with one bias, or with two if `sum_biases`.
        sum_biases: write b + b_h as the one bias; without it two biases are refused, since their
            sum cannot be taken apart again.

    Returns:
        `Concatenated`: w `[4H, I + P]`, b `[4H]` or None. Row k·H + j is unit j of gate k. A
        projection is no part of W; hand `params.w_p` to `from_concatenated`.

    Raises:
        ValueError: there are two biases and `sum_biases` is not set, the parameters are of several networks, or they
            have what W·[x, h] + b cannot say: peepholes, gates fed back, layer normalisation, a bias of the
            projection, other gates.

    >>> params = LSTMParams(jnp.ones((5, 4, 10)), jnp.ones((10, 4, 10)), jnp.ones((4, 10)))
    >>> to_concatenated(params).w.shape
    (40, 15)
    """
    if not isinstance(params, LSTMParams):
        raise TypeError(f"params is {kind(params)}, expected LSTMParams, as init_params gives them.")
    params = as_arrays("params", params)
    (sum_biases,) = as_flags(sum_biases=sum_biases)
    if several := checks.ensemble(params):
        raise ValueError(several)
    if params.b_h is not None and not sum_biases:
        raise ValueError(
            Message(
                "params has two biases, b and b_h, but W·[x, h] + b has one. Pass ",
                Option("sum_biases", True),
                " to add them up.",
            )
        )
    for name, value in params._asdict().items():
        if value is not None and name not in VANILLA_FIELDS:
            raise ValueError(
                f"params has {name}, but W·[x, h] + b has no place for it: it is the form of the vanilla cell."
            )
    if params.w_x.shape[1] != len(GATES):
        raise ValueError(f"params has {params.w_x.shape[1]} gate blocks, but W·[x, h] + b is of i, f, g and o.")
    rows = jnp.concatenate([params.w_x, params.w_h])  # [I + P, G, H]
    w = rows.reshape(rows.shape[0], -1).T
    biases = [b for b in (params.b, params.b_h) if b is not None]
    return Concatenated(w, sum(biases[1:], biases[0]).reshape(-1) if biases else None)


def from_concatenated(w: Array, b: Array | None = None, *, w_p: Array | None = None) -> LSTMParams:
    """Return the `LSTMParams` of a textbook W·[x, h] + b; the inverse of `to_concatenated`.

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
    w = as_array("w", w)
    if w.ndim != 2 or w.shape[0] % len(GATES):
        raise ValueError(f"w has shape {w.shape}, expected [4H, I + P]: four gates of H rows each.")
    hidden = w.shape[0] // len(GATES)
    w_p = None if w_p is None else as_array("w_p", w_p)
    b = None if b is None else as_array("b", b)
    width = hidden if w_p is None or w_p.ndim != 2 else w_p.shape[-1]
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
    bias = None if b is None else b.reshape(len(GATES), hidden)
    return LSTMParams(columns[:split], columns[split:], bias, None, w_p)
