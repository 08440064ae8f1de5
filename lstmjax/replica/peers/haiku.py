"""Haiku: `haiku.LSTM` in a `DeepRNN`, run by `dynamic_unroll`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from lstmjax.convert import to_haiku
from lstmjax.convert.haiku import HAIKU
from lstmjax.convert.layouts import Fused, read
from lstmjax.replica.peers.outcome import OnJax, Outcome, sizes
from lstmjax.stack import Layers


def run(layers: Layers, xs: Any, lengths: Any = None, d_ys: Any = None) -> Outcome:
    """Return what `haiku.LSTM` with these layers computes; see `Peer.run`."""
    return build(layers).outcome(xs, d_ys)


def build(layers: Layers) -> OnJax:
    """Build a `haiku.DeepRNN` of `haiku.LSTM`s with these layers."""
    import haiku

    def net(xs: Any) -> Any:
        core = haiku.DeepRNN([haiku.LSTM(sizes(layer)[1]) for layer in layers])
        # Its zeros are float32, and would make a half-precision network float32.
        state = jax.tree.map(lambda a: a.astype(xs.dtype), core.initial_state(xs.shape[0]))
        return haiku.dynamic_unroll(core, xs, state, time_major=False)[0]

    names = ["lstm/linear", *(f"lstm_{n}/linear" for n in range(1, len(layers)))]
    transformed: Any = haiku.without_apply_rng(haiku.transform(net))
    layout = replace(HAIKU, added=0.0)  # the 1 is added to b, not to its gradient

    def to_ours(gradients: Any) -> Layers:
        arrays = ([np.asarray(gradients[name][field]) for field in "wb"] for name in names)
        return tuple(read(layout, Fused(w[: -len(b) // 4], w[-len(b) // 4 :], b)) for w, b in arrays)

    return OnJax(transformed.apply, to_haiku(layers, names=names), to_ours)
