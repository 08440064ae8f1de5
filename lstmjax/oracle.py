r"""The LSTM once more, to be checked against: NumPy, float64, one sequence, one plain loop.

Written from the papers and not from `cell.py`, with the gradients derived by hand (backpropagation
through time). It is slow, and says twice what is said once elsewhere; that is its purpose. `lstm`
and `stacked` give, as `jax.vjp` does, what they computed and a `pull` from cotangents to gradients.

    z_k = W_xk x + W_hk h + b_k         for k in i, f, g, o
    i, f, o = σ(z_i), σ(z_f), σ(z_o)    g = tanh(z_g)
    c' = f ⊙ c + i ⊙ g                  (Gers, Schmidhuber & Cummins 2000)
    m  = o ⊙ tanh(c')
    h' = m, or W_p m + b_p              (Sak, Senior & Beaufays 2014)

Around a step: h may be dropped out before the product (Gal & Ghahramani 2016), and zoneout may keep
a part of the old h and c (Krueger et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray
GATES = "ifgo"


class Steps(NamedTuple):
    """What one step, `[H]`, or a sequence of them, `[T, H]`, computed; h has P for H.

    As cotangents: None is zero.
    """

    i: Any = None
    f: Any = None
    g: Any = None
    o: Any = None
    z_i: Any = None
    z_f: Any = None
    z_g: Any = None
    z_o: Any = None
    c: Any = None
    m: Any = None
    h: Any = None


ZERO = Steps()


class Gradients(NamedTuple):
    """What a `pull` gives: gradients in the form of everything that went in."""

    params: Any
    xs: Array  # [T, I]
    state: Any
    reset_state: Any


Result = tuple[tuple[Any, Steps], Callable[..., Gradients]]


def sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(−z)), written so that nothing overflows."""
    return 0.5 * (1.0 + np.tanh(0.5 * z))


def step(p: Any, x: Array, h: Array, c: Array) -> Steps:
    """Return everything one step computes, from x `[I]`, h `[P]` and c `[H]`."""
    z = [x @ p.w_x[:, k] + h @ p.w_h[:, k] for k in range(len(GATES))]
    for bias in (p.b, p.b_h):
        z = z if bias is None else [z[k] + bias[k] for k in range(len(GATES))]
    i, f, g, o = sigmoid(z[0]), sigmoid(z[1]), np.tanh(z[2]), sigmoid(z[3])
    c = f * c + i * g
    m = o * np.tanh(c)
    h = m if p.w_p is None else m @ p.w_p
    if p.b_p is not None:
        h = h + p.b_p
    return Steps(i, f, g, o, z[0], z[1], z[2], z[3], c, m, h)


def step_back(p: Any, x: Array, h: Array, c: Array, s: Steps, d: Steps) -> tuple[dict, Array, Array, Array]:
    """Return the gradients of one step (those of the parameters, d_x, d_h, d_c) for cotangents d of it."""
    tanh_c = np.tanh(s.c)
    d_m = d.m + (d.h if p.w_p is None else p.w_p @ d.h)
    d_c = d.c + d_m * s.o * (1 - tanh_c**2)
    d_z = np.stack(
        [
            d.z_i + (d.i + d_c * s.g) * s.i * (1 - s.i),
            d.z_f + (d.f + d_c * c) * s.f * (1 - s.f),
            d.z_g + (d.g + d_c * s.i) * (1 - s.g**2),
            d.z_o + (d.o + d_m * tanh_c) * s.o * (1 - s.o),
        ]
    )  # [G, H]
    d_params = {"w_x": np.multiply.outer(x, d_z), "w_h": np.multiply.outer(h, d_z), "b": d_z, "b_h": d_z}
    d_params["w_p"] = np.multiply.outer(s.m, d.h)
    d_params["b_p"] = d.h
    return d_params, np.tensordot(p.w_x, d_z), np.tensordot(p.w_h, d_z), d_c * s.f


def lstm(
    params: Any,
    xs: Array,
    state: tuple[Array, Array] | None = None,
    *,
    lengths: int | None = None,
    mask: Array | None = None,
    resets: Array | None = None,
    reset_state: tuple[Array, Array] | None = None,
    reverse: bool = False,
    return_sequences: bool = True,
    padding: str = "zero",
    dropout: Array | float = 1.0,
    zoneout: tuple[Any, Any] = (0.0, 0.0),
) -> Result:
    """Return ((state, ys), pull) of one layer in one direction over one sequence.

    Args:
        params: anything with the fields of `LSTMParams`, of JAX or NumPy arrays.
        xs: inputs `[T, I]`.
        state: (h `[P]`, c `[H]`) to start from; None: zeros.
        lengths, mask, resets, reset_state, reverse, return_sequences, padding: as `lstmjax.lstm` has
            them, for one sequence: a number, and bool `[T]`.
        dropout: what h is multiplied with before the recurrent product, `[P]`: 0 or 1 / (1 − rate).
        zoneout: the share of h and of c that stays as it was: a rate (expected value), or what was
            drawn, 0 or 1, `[T, P]` and `[T, H]`.

    Returns:
        state (h, c); ys, the `Steps`; and pull(d_state, d_ys) -> `Gradients`.
    """
    p = params._replace(**{k: None if v is None else _float(v) for k, v in params._asdict().items()})
    xs, count, width, hidden = _float(xs), len(xs), p.w_h.shape[0], p.w_h.shape[-1]
    valid, flags = _valid(count, lengths, mask), np.zeros(count, bool) if resets is None else np.asarray(resets)
    order = range(count)[::-1] if reverse else range(count)
    keep_h, keep_c = (np.broadcast_to(k, (count, n)) for k, n in zip(zoneout, (width, hidden), strict=True))
    nothing = np.zeros(width), np.zeros(hidden)
    (h, c), again = (tuple(map(_float, s)) if s else nothing for s in (state, reset_state))

    # Two rows follow the outputs of the T steps: the state we start from, and zeros.
    start, zeros = count, count + 1
    out = Steps(*(np.zeros((count + 2, width if name == "h" else hidden)) for name in Steps._fields))
    out.h[start], out.c[start] = h, c
    shown, latest, before = np.full(count, zeros), start, {}
    for t in order:
        if valid[t]:
            h, c = again if flags[t] else (h, c)
            s = step(p, xs[t], h * dropout, c)
            before[t] = h, c, s
            h, c = keep_h[t] * h + (1 - keep_h[t]) * s.h, keep_c[t] * c + (1 - keep_c[t]) * s.c
            for row, value in zip(out, s._replace(h=h, c=c), strict=True):
                row[t] = value
            latest = t
        shown[t] = latest if valid[t] or padding == "hold" else zeros
    rows = shown if return_sequences else latest

    def pull(d_state: tuple[Array, Array] | None = None, d_ys: Steps = ZERO) -> Gradients:
        d_out = Steps(*map(np.zeros_like, out))
        for d, cotangent in zip(d_out, d_ys, strict=True):
            np.add.at(d, rows, 0.0 if cotangent is None else _float(cotangent))
        d_params = {name: np.zeros_like(value) for name, value in p._asdict().items() if value is not None}
        d_xs, d_again, (d_h, d_c) = np.zeros_like(xs), nothing, d_state or nothing
        for t in [t for t in order[::-1] if valid[t]]:
            h, c, s = before[t]
            d = Steps(*(row[t] for row in d_out))
            d_h, d_c = d_h + d.h, d_c + d.c
            inner = d._replace(h=(1 - keep_h[t]) * d_h, c=(1 - keep_c[t]) * d_c)
            more, d_xs[t], d_dropped, d_old = step_back(p, xs[t], h * dropout, c, s, inner)
            d_params = {name: total + more[name] for name, total in d_params.items()}
            d_h, d_c = keep_h[t] * d_h + d_dropped * dropout, keep_c[t] * d_c + d_old
            if flags[t]:  # what came before had no part in it
                d_again, (d_h, d_c) = (d_again[0] + d_h, d_again[1] + d_c), nothing
        return Gradients(p._replace(**d_params), d_xs, (d_h + d_out.h[start], d_c + d_out.c[start]), d_again)

    return ((h, c), Steps(*(row[rows] for row in out))), pull


def stacked(
    layers: tuple,
    xs: Array,
    state: tuple | None = None,
    *,
    lengths: int | None = None,
    mask: Array | None = None,
    resets: Array | None = None,
    reset_state: tuple | None = None,
    merge: str = "concat",
    residual: bool = False,
    padding: str = "zero",
) -> Result:
    """Return ((states, ys), pull) of layers on top of each other over one sequence.

    Args:
        layers: each has the fields of `LSTMParams`, or is a pair with `forward` and `reverse`.
        xs: inputs `[T, I]`.
        state, reset_state: a tuple of an (h, c) for each layer, a pair of them for a pair.
        lengths, mask, resets, merge, residual, padding: as `lstmjax.stacked` has them.

    Returns:
        states, one for each layer; ys, the `Steps` of the last layer, with the two directions of a
        pair merged; and pull(d_states, d_ys) -> `Gradients`.
    """
    valid = _valid(len(xs), lengths, mask)
    starts = np.zeros(len(xs), bool) if resets is None else np.asarray(resets)
    ends, following = np.zeros(len(xs), bool), None  # backwards, an episode begins at its last step
    for t in reversed(range(len(xs))):
        if valid[t]:
            ends[t] = following is not None and starts[following]
            following = t

    def part(ys: Steps, direction: int) -> Steps:
        """Return the cotangents of one direction."""
        return ys if merge == "sum" else Steps(*(None if d is None else np.split(d, 2, -1)[direction] for d in ys))

    def join(a: Array, b: Array) -> Array:
        return np.concatenate([a, b], -1) if merge == "concat" else a + b

    def one_layer(n: int, layer: Any, xs: Array) -> Result:
        begin, again = (None if s is None else s[n] for s in (state, reset_state))
        how: dict = {"mask": valid, "padding": padding if n == len(layers) - 1 else "zero"}
        if not hasattr(layer, "forward"):
            return lstm(layer, xs, begin, resets=starts, reset_state=again, **how)
        pair, (begin, again) = type(layer), (s or (None, None) for s in (begin, again))
        (state_f, ahead), pull_f = lstm(layer.forward, xs, begin[0], resets=starts, reset_state=again[0], **how)
        (state_r, back), pull_r = lstm(
            layer.reverse, xs, begin[1], resets=ends, reset_state=again[1], reverse=True, **how
        )

        def pull(d_state: Any, d_ys: Steps) -> Gradients:
            d_state = d_state or (None, None)
            a, b = pull_f(d_state[0], part(d_ys, 0)), pull_r(d_state[1], part(d_ys, 1))
            return Gradients(pair(a[0], b[0]), a.xs + b.xs, pair(a[2], b[2]), pair(a[3], b[3]))

        return (pair(state_f, state_r), Steps(*map(join, ahead, back))), pull

    states, pulls = [], []
    for n, layer in enumerate(layers):
        (new, ys), pull = one_layer(n, layer, xs)
        xs = ys.h + xs if residual and n else ys.h
        states.append(new)
        pulls.append(pull)

    def pull_all(d_states: tuple | None = None, d_ys: Steps = ZERO) -> Gradients:
        below: list[Gradients] = []
        for n in reversed(range(len(layers))):
            grads = pulls[n](d_states and d_states[n], d_ys)
            if residual and n and d_ys.h is not None:
                grads = grads._replace(xs=grads.xs + d_ys.h)
            below.insert(0, grads)
            d_ys = Steps(h=grads.xs)
        return Gradients(
            tuple(g[0] for g in below), below[0].xs, tuple(g[2] for g in below), tuple(g[3] for g in below)
        )

    return (tuple(states), ys._replace(h=xs)), pull_all


def _float(a: Any) -> Array:
    return np.asarray(a, np.float64)


def _valid(count: int, lengths: int | None, mask: Array | None) -> Array:
    """Return which steps are valid: within the length, and where the mask is set."""
    within = np.arange(count) < (count if lengths is None else lengths)
    return within if mask is None else within & np.asarray(mask)
