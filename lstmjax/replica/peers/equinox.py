"""Equinox: `equinox.nn.LSTMCell` in a scan, over the batch by vmap."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.convert import from_equinox, to_equinox
from lstmjax.replica.peers.outcome import OnJax, Outcome, Part, on_jax
from lstmjax.stack import Layers


def run(layers: Layers, xs: Any, lengths: Any = None, d_ys: Any = None) -> Outcome:
    """Return what `equinox.nn.LSTMCell`s with these layers compute; see `Peer.run`."""
    return build(layers).outcome(xs, d_ys)


def build(layers: Layers) -> OnJax:
    """Build `equinox.nn.LSTMCell`s with these layers."""
    return OnJax(forward, to_equinox(layers), from_equinox)


def parts(source: Any) -> list[Part]:
    """Return the layers of a cell, or of a list of cells; see `Peer.parts`."""

    def part(cell: Any) -> Part:
        return Part(from_equinox(cell)[0], lambda xs, lengths: on_jax(forward, (cell,), xs, None)[0])

    return [part(cell) for cell in (source if isinstance(source, list | tuple) else (source,))]


def forward(cells: Any, xs: Any) -> Any:
    """Return the outputs of a stack of cells, `[B, T, H]`."""
    for cell in cells:
        zeros = jnp.zeros((2, cell.hidden_size), xs.dtype)

        def run_sequence(xs: Any, cell: Any = cell, zeros: Any = zeros) -> Any:
            def step(state: Any, x: Any) -> Any:
                state = cell(x, state)
                return state, state[0]

            return jax.lax.scan(step, tuple(zeros), xs)[1]

        xs = jax.vmap(run_sequence)(xs)
    return xs
